"""Named initialisations: the published variances, jax's own draws, blocks that are matrices by themselves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.base import BadInput
from tests.train.optimizer_cases import assert_same_bits, traced
from train import randomness
from train.config import replace
from train.cost import cost
from train.initialisation import distribution, initialised
from train.sections import Initialisation
from train.step import make_step

KEY = jax.random.key(7)
PARAMS = {
    "conv": {"kernel": jnp.ones((3, 3, 40, 60)), "bias": jnp.ones(60)},
    "dense": {"kernel": jnp.ones((300, 200)), "bias": jnp.ones(200)},
    "norm": {"scale": jnp.ones(200)},
    "tokens": {"embedding": jnp.ones((50, 20))},
}
VARIANCES = {  # of the convolution (fans 360 and 540) and the dense layer (300 and 200)
    "lecun_normal": (1 / 360, 1 / 300),
    "lecun_uniform": (1 / 360, 1 / 300),
    "glorot_normal": (2 / 900, 2 / 500),
    "glorot_uniform": (2 / 900, 2 / 500),
    "he_normal": (2 / 360, 2 / 300),
    "he_uniform": (2 / 360, 2 / 300),
    "normal": (1.0, 1.0),
    "uniform": (1 / 3, 1 / 3),
}


def drawn(params, gain=None, **settings):
    return initialised(params, Initialisation(**settings), gain, KEY)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", VARIANCES)
def test_kernels_have_the_published_variance_and_nothing_else_changes(scheme):
    params = drawn(PARAMS, kernels=scheme)
    for layer, variance in zip(("conv", "dense"), VARIANCES[scheme], strict=True):
        kernel = np.float64(params[layer]["kernel"])
        np.testing.assert_allclose(kernel.var(), variance, rtol=0.03)
        assert abs(kernel.mean()) < 5 * np.sqrt(variance / kernel.size)
        most = np.sqrt(3 * variance) if scheme.endswith("uniform") else 6 * np.sqrt(variance)
        assert 0.8 * np.sqrt(variance) < np.abs(kernel).max() <= most * 1.000001
        assert_same_bits(params[layer]["bias"], PARAMS[layer]["bias"])
    assert_same_bits((params["norm"], params["tokens"]), (PARAMS["norm"], PARAMS["tokens"]))


@pytest.mark.slow
@pytest.mark.parametrize("scheme", [name for name in VARIANCES if "_" in name])
def test_a_kernel_is_the_draw_of_jax_itself(scheme):
    params = drawn(PARAMS, kernels=scheme)
    expected = getattr(jax.nn.initializers, scheme)()(randomness.stream(KEY, "conv/kernel"), (3, 3, 40, 60))
    assert_same_bits(params["conv"]["kernel"], expected)


@pytest.mark.reference
def test_the_fans_are_those_of_pytorch():
    torch = pytest.importorskip("torch")
    for shape, transposed in [((3, 3, 40, 60), (60, 40, 3, 3)), ((300, 200), (200, 300))]:
        fans = torch.nn.init._calculate_fan_in_and_fan_out(torch.empty(transposed))
        for scheme, variance in (("lecun_uniform", 1 / fans[0]), ("glorot_uniform", 2 / sum(fans))):
            kernel = np.float64(distribution(scheme)(KEY, shape))
            np.testing.assert_allclose(kernel.var(), variance, rtol=0.03)


def test_orthogonal_kernels_keep_lengths():
    kernel = np.float64(drawn(PARAMS, gain=jnp.float32(1.5), kernels="orthogonal")["dense"]["kernel"])
    np.testing.assert_allclose(kernel.T @ kernel, 1.5**2 * np.eye(200), atol=1e-5)


def test_gates_and_scanned_blocks_are_matrices_by_themselves():
    params = {
        "layer_0": {"input_kernel": jnp.ones((5, 24)), "recurrent_kernel": jnp.ones((6, 24)), "bias": jnp.ones(24)},
        "blocks": {"dense": {"kernel": jnp.ones((4, 30, 20))}},
    }
    result = drawn(params, kernels="orthogonal")
    gates = [np.float64(part) for part in np.split(result["layer_0"]["recurrent_kernel"], 4, axis=1)]
    for gate in gates:
        np.testing.assert_allclose(gate.T @ gate, np.eye(6), atol=1e-5)
    assert not np.allclose(gates[0], gates[1])
    for gate in np.split(np.float64(result["layer_0"]["input_kernel"]), 4, axis=1):
        np.testing.assert_allclose(gate @ gate.T, np.eye(5), atol=1e-5)
    for block in np.float64(result["blocks"]["dense"]["kernel"]):
        np.testing.assert_allclose(block.T @ block, np.eye(20), atol=1e-5)


def test_the_gain_multiplies_and_zeros_are_zero():
    own = drawn(PARAMS, gain=jnp.float32(0.5), pattern="dense", zeros="conv/kernel|scale")
    np.testing.assert_array_equal(own["dense"]["kernel"], 0.5)
    assert_same_bits(own["dense"]["bias"], PARAMS["dense"]["bias"])
    assert not own["conv"]["kernel"].any()
    assert not own["norm"]["scale"].any()
    assert_same_bits(drawn(PARAMS), PARAMS)


def test_every_kernel_of_a_model_is_drawn_by_the_step(base, images):
    config = replace(base, {"initialisation.kernels": "uniform"})
    batch = images.sampler.gather(jax.tree.map(jnp.asarray, dict(images.train.arrays)), jnp.arange(4))
    one, two = (
        make_step(each, images.shapes, images.objective).init(jnp.uint32(0), traced(each), batch).params
        for each in (base, config)
    )
    assert all(0.8 < np.abs(two[layer]["kernel"]).max() <= 1 for layer in two)
    assert_same_bits([one[layer]["bias"] for layer in one], [two[layer]["bias"] for layer in two])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"initialisation.zeros": "residual_out"}, "initialisation.zeros='residual_out' finds no parameter; there are"),
        ({"initialisation.kernels": "he_normal", "initialisation.pattern": "conv"}, "initialisation.pattern='conv'"),
    ],
)
def test_a_pattern_that_finds_nothing_is_bad_input(changes, message, base, images):
    with pytest.raises(BadInput, match=message):
        cost(replace(base, changes), images)


def test_wrong_values_are_one_line(base):
    with pytest.raises(BadInput, match=r"kernels='xavier' must be one of model, lecun_normal"):
        replace(base, {"initialisation.kernels": "xavier"})
    with pytest.raises(BadInput, match=r"gain=0\.0 must be greater than 0"):
        replace(base, {"initialisation.gain": 0.0})
