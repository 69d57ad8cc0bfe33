"""The test configuration itself: were it switched off, the other tests would pass with less meaning."""

import os
import sys
import tempfile
import textwrap
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jaxtyping import TypeCheckError, install_import_hook

from models import base


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """A module with a Linen module and a configuration, imported as the three rooms are."""
    folder = tmp_path_factory.mktemp("checked")
    (folder / "checked_sample.py").write_text(
        textwrap.dedent(
            '''
            """A sample."""
            from collections.abc import Mapping
            from dataclasses import dataclass
            from typing import Annotated

            import jax
            from flax import linen as nn
            from jaxtyping import Array, Float

            from models.base import Configuration, Static, Traced


            @dataclass(frozen=True, kw_only=True)
            class Config(Configuration):
                width: Annotated[int, Static(ge=1)] = 2
                betas: Annotated[tuple[float, ...], Traced(ge=0, lt=1)] = (0.9,)


            @dataclass(frozen=True, kw_only=True)
            class Outer(Configuration):
                inner: Config = Config()


            @jax.custom_vjp
            def double(x: Float[Array, "batch features"]) -> Float[Array, "batch features"]:
                return 2 * x


            def double_forward(x):
                return double(x), None


            def double_backward(_, gradient: Float[Array, "batch features"]):
                return (2 * gradient,)


            double.defvjp(double_forward, double_backward)


            def wrong_result(x: Float[Array, "batch features"]) -> Float[Array, "features batch"]:
                return x


            class Layer(nn.Module):
                features: int
                widths: tuple[int, ...] = ()

                @nn.compact
                def __call__(self, x: Float[Array, "batch inputs"], *, train: bool) -> Float[Array, "batch outputs"]:
                    kernel = self.param("kernel", nn.initializers.ones, (x.shape[-1], self.features))
                    return double(x @ kernel)


            class Network(nn.Module):
                widths: tuple[int, ...]

                def setup(self) -> None:
                    self.layers = [Layer(features=width, widths=self.widths) for width in self.widths]

                def __call__(
                    self, x: Float[Array, "batch inputs"], *, train: bool, hyperparameters: Mapping[str, object]
                ) -> Float[Array, "batch outputs"]:
                    for layer in self.layers:
                        x = layer(x, train=train)
                    return x
            '''
        )
    )
    sys.path.insert(0, str(folder))
    checker = next(name for name, module in sys.modules.items() if getattr(module, "check_types", None))
    hook = install_import_hook(["checked_sample"], f"sys.modules[{checker!r}].check_types")
    try:
        import checked_sample
    finally:
        hook.uninstall()
        sys.path.remove(str(folder))
    return checked_sample


def test_the_rooms_are_checked():
    with pytest.raises(TypeCheckError):
        base.unknown(3, "a", ["b"])


def test_a_linen_module_works_under_the_checks(sample):
    network = sample.Network((3, 2))
    x = jnp.ones((4, 5))
    variables = network.init(jax.random.key(0), x, train=False, hyperparameters={})
    apply = lambda x: network.apply(variables, x, train=True, hyperparameters={})  # noqa: E731
    assert apply(x).tolist() == [[2 * 3 * 2 * 5.0] * 2] * 4
    assert jax.jit(jax.grad(lambda x: apply(x).sum()))(x).tolist() == [[4 * 3 * 2.0] * 5] * 4
    assert jax.vmap(apply)(jnp.ones((2, 4, 5))).shape == (2, 4, 2)


def test_wrong_shapes_are_found(sample):
    with pytest.raises(TypeCheckError, match="x"):
        sample.Network((3,)).init(jax.random.key(0), jnp.ones((4, 5, 6)), train=False, hyperparameters={})
    with pytest.raises(TypeCheckError, match="return"):
        sample.wrong_result(jnp.ones((2, 3)))
    with pytest.raises(TypeCheckError, match="widths"):
        sample.Network([3])


def test_a_configuration_checks_itself(sample):
    assert sample.Config(betas=[0, 0.5]).betas == (0.0, 0.5)
    with pytest.raises(base.BadInput, match="width='a' must be an integer"):
        sample.Config(width="a")
    with pytest.raises(base.BadInput):
        sample.Outer(inner=3)


def test_two_cpu_devices():
    assert len(jax.devices("cpu")) == 2


def test_rank_promotion_raises():
    with pytest.raises(ValueError, match="rank"):
        jnp.ones((2, 3)) + jnp.ones(3)


def test_warnings_are_errors():
    with pytest.raises(UserWarning, match="a warning"):
        warnings.warn("a warning", stacklevel=1)


def test_the_cache_is_private():
    assert Path(os.environ["XDG_CACHE_HOME"]).is_relative_to(tempfile.gettempdir())
