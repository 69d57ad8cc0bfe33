"""The studies of convolutional networks for images: what their heads say and needs no training."""

import jax
import jax.numpy as jnp
import pytest

from experiments import plan
from models import Shapes, build
from train.data import mnist1d

CIFAR_CROPPED = Shapes(inputs=(28, 28, 3), vocabulary=None, outputs=10, per_position=False)


def count(config, shapes=CIFAR_CROPPED):
    inputs = jax.ShapeDtypeStruct((1, *shapes.inputs), jnp.float32)
    params = jax.eval_shape(build(config, shapes).init, jax.random.key(0), inputs)["params"]
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def test_the_networks_of_mnist1d_have_the_published_sizes(parameters):
    published = {"mlp": 15_210, "linear": 410, "cnn": 5_210, "gru": 5_134}
    sizes = parameters("mnist1d", "cpu")
    assert sizes == published | {f"{name} shuffled": size for name, size in published.items()}


@pytest.mark.parametrize("name", ["architectures", "random_labels"])
def test_the_networks_on_cifar10_have_the_published_sizes(name):
    configs = plan.resolve(plan.load(name, "full")).configs
    published = {"mlp": 1_735_178, "mlp 1x512": 1_209_866, "cnn": 1_387_786}
    sizes = {arm: count(config.model) for arm, config in configs.items() if arm in published}
    assert sizes == {arm: published[arm] for arm in sizes}
    assert {"mlp", "cnn"} <= set(sizes)


@pytest.mark.slow
def test_networks_that_learn_random_labels_have_more_parameters_than_examples(parameters):
    data = plan.load("random_labels", "cpu").baseline.data
    assert isinstance(data, mnist1d.Config)
    assert min(parameters("random_labels", "cpu").values()) > 10 * (data.train_examples or 0)
