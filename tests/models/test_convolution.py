"""Convolution: the CPU form against XLA's own and against PyTorch."""

import functools

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from models.layers.convolution import Conv, convolve

# (height, width), (kernel height, kernel width), strides
GEOMETRIES = [
    ((6, 6), (3, 3), (1, 1)),
    ((7, 5), (3, 3), (1, 1)),
    ((7, 8), (3, 2), (2, 1)),
    ((9, 6), (5, 4), (2, 3)),
    ((5, 5), (1, 1), (1, 1)),
    ((6, 7), (1, 1), (2, 2)),
    ((4, 4), (4, 4), (1, 1)),
]


def draw(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def primitive(x, kernel, strides, padding):
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


@functools.partial(jax.jit, static_argnums=(0, 3, 4))
def value_and_gradients(form, x, kernel, strides, padding):
    y, backward = jax.vjp(lambda x, kernel: form(x, kernel, strides, padding), x, kernel)
    return (y, *backward(jnp.cos(y)))


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(("size", "kernel_size", "strides"), GEOMETRIES)
def test_value_and_gradients_match_xla(size, kernel_size, strides, padding):
    with jax.enable_x64(True):
        x, kernel = draw(0, 2, *size, 3), draw(1, *kernel_size, 3, 4)
        ours = value_and_gradients(convolve, x, kernel, strides, padding)
        theirs = value_and_gradients(primitive, x, kernel, strides, padding)
        for mine, expected in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(mine, expected, rtol=1e-11, atol=1e-12)


def test_one_channel_and_one_feature():
    with jax.enable_x64(True):
        x, kernel = draw(0, 2, 6, 7, 1), draw(1, 3, 3, 1, 1)
        ours = value_and_gradients(convolve, x, kernel, (1, 1), "SAME")
        theirs = value_and_gradients(primitive, x, kernel, (1, 1), "SAME")
        for mine, expected in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(mine, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("axes", [(0, 0), (None, 0), (0, None)])
def test_vmap_is_a_loop(axes):
    x = draw(0, 3, 2, 5, 6, 2) if axes[0] == 0 else draw(0, 2, 5, 6, 2)
    kernel = draw(1, 3, 3, 3, 2, 4) if axes[1] == 0 else draw(1, 3, 3, 2, 4)
    together = jax.jit(
        jax.vmap(lambda x, kernel: value_and_gradients(convolve, x, kernel, (1, 1), "SAME"), in_axes=axes)
    )(x, kernel)
    for lane in range(3):
        lane_x, lane_kernel = (a if axis is None else a[lane] for a, axis in zip((x, kernel), axes, strict=True))
        alone = value_and_gradients(primitive, lane_x, lane_kernel, (1, 1), "SAME")
        for mine, expected in zip(together, alone, strict=True):
            np.testing.assert_allclose(mine[lane], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("platform", "convolutions"), [("cpu", 0), ("cuda", 3), ("tpu", 3)])
def test_each_backend_gets_its_own_form(platform, convolutions):
    arguments = draw(0, 2, 6, 6, 3), draw(1, 3, 3, 3, 4)
    function = jax.jit(lambda x, kernel: value_and_gradients(convolve, x, kernel, (1, 1), "SAME"))
    program = jax.export.export(function, platforms=[platform])(*arguments).mlir_module()
    # Value, gradient of the images, gradient of the kernel; the two gradients also trace a value that XLA drops.
    assert program.count("stablehlo.convolution") >= convolutions
    assert ("stablehlo.convolution" in program) == (convolutions > 0)


def test_unused_gradient_of_images_is_not_computed():
    x, kernel = draw(0, 2, 16, 16, 8), draw(1, 3, 3, 8, 8)

    def flops(argnums):
        gradient = jax.jit(jax.grad(lambda x, kernel: convolve(x, kernel).sum() ** 2, argnums=argnums))
        return gradient.lower(x, kernel).compile().cost_analysis()["flops"]

    # One product of this size is 2 * 2 * 16 * 16 * 72 * 8 operations.
    assert flops((0, 1)) - flops(1) > 0.9 * 2 * 2 * 16 * 16 * 72 * 8


def test_module_parameters_and_shapes():
    x = draw(0, 2, 7, 8, 3)
    module = Conv(5, (3, 2), strides=(2, 1), padding="VALID")
    variables = jax.jit(module.init)(jax.random.key(0), x)
    assert jax.tree.map(jnp.shape, variables["params"]) == {"kernel": (3, 2, 3, 5), "bias": (5,)}
    assert jax.eval_shape(module.apply, variables, x).shape == (2, 3, 7, 5)
    without = jax.eval_shape(Conv(5, (3, 3), use_bias=False).init, jax.random.key(0), x)
    assert set(without["params"]) == {"kernel"}


def test_initial_kernel_has_he_variance():
    kernel = jax.jit(Conv(64, (3, 3)).init)(jax.random.key(0), jnp.zeros((1, 4, 4, 32)))["params"]["kernel"]
    np.testing.assert_allclose(kernel.var(), 2 / (9 * 32), rtol=0.05)


@pytest.mark.reference
@pytest.mark.parametrize(("size", "stride", "padding"), [((7, 6), 1, 1), ((7, 9), 2, 0), ((8, 5), 1, 0)])
def test_module_matches_torch(size, stride, padding):
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    with jax.enable_x64(True):
        x = draw(0, 2, *size, 3)
        module = Conv(
            4,
            (3, 3),
            strides=(stride, stride),
            padding="SAME" if padding else "VALID",
            bias_init=jax.nn.initializers.normal(1.0),
        )
        variables = jax.jit(module.init)(jax.random.key(0), x)
        y, backward = jax.vjp(jax.jit(module.apply), variables, x)
        g = draw(1, *y.shape)
        gradient, x_gradient = backward(g)
    kernel, bias = (np.asarray(variables["params"][name]) for name in ("kernel", "bias"))
    tensors = [
        torch.tensor(np.ascontiguousarray(array), requires_grad=True)
        for array in (np.asarray(x).transpose(0, 3, 1, 2), kernel.transpose(3, 2, 0, 1), bias)
    ]
    reference = torch.nn.functional.conv2d(*tensors, stride=stride, padding=padding)
    reference.backward(torch.tensor(np.asarray(g).transpose(0, 3, 1, 2).copy()))
    pairs = [
        (np.asarray(y).transpose(0, 3, 1, 2), reference.detach()),
        (np.asarray(x_gradient).transpose(0, 3, 1, 2), tensors[0].grad),
        (np.asarray(gradient["params"]["kernel"]).transpose(3, 2, 0, 1), tensors[1].grad),
        (gradient["params"]["bias"], tensors[2].grad),
    ]
    for mine, tensor in pairs:
        np.testing.assert_allclose(mine, tensor.numpy(), rtol=1e-10, atol=1e-12)
