"""Models: pure functions of parameters and inputs. This room knows no data, no optimizer, no flag.

Each file of this folder that defines a ``Config`` is a family: ``models/cnn.py`` is ``cnn``. The
file also defines ``build(config, shapes) -> flax.linen.Module``.
"""

from collections.abc import Mapping
from typing import Any

from models.base import BadInput, Configuration, Model, Shapes, plugin, plugin_names

__all__ = ["BadInput", "Configuration", "Model", "Shapes", "build", "names"]


def names() -> tuple[str, ...]:
    """The families that there are, by name."""
    return plugin_names("models")


def build(config: Configuration, shapes: Shapes) -> Model:
    """The two pure functions of the model that ``config`` describes, for a task of these shapes.

    Args:
        config: the ``Config`` of a family.
        shapes: what the task declares of its inputs and outputs.

    Raises:
        BadInput: the family cannot treat such inputs, or sizes do not fit each other.
    """
    module = plugin("models", config.name, kind="model").build(config, shapes)

    def init(key: Any, inputs: Any) -> Mapping[str, Any]:
        return module.init({"params": key}, inputs, train=False, hyperparameters={})

    def apply(
        variables: Mapping[str, Any],
        inputs: Any,
        *,
        train: bool,
        rngs: Mapping[str, Any],
        hyperparameters: Mapping[str, Any],
    ) -> tuple[Any, Mapping[str, Any]]:
        outputs, changed = module.apply(
            variables, inputs, train=train, hyperparameters=hyperparameters, rngs=rngs, mutable=["batch_stats"]
        )
        return outputs, changed.get("batch_stats", {})

    return Model(init, apply)
