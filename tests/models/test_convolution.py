"""Convolution: the CPU form against XLA's own and against PyTorch."""

import functools

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from models.layers.convolution import Conv, convolve

# size, kernel size, strides, dilation; None is the default
GEOMETRIES = [
    ((6, 6), (3, 3), None, None),
    ((7, 5), (3, 3), (1, 1), (1, 1)),
    ((7, 8), (3, 2), (2, 1), None),
    ((9, 6), (5, 4), (2, 3), None),
    ((9, 10), (3, 3), (2, 2), None),
    ((9, 7), (3, 2), None, (2, 3)),
    ((11, 9), (3, 3), (3, 2), (2, 1)),
    ((5, 5), (1, 1), None, None),
    ((6, 7), (1, 1), (2, 2), None),
    ((4, 4), (4, 4), None, None),
    ((7,), (3,), None, None),
    ((12,), (4,), (3,), (2,)),
    ((9,), (1,), (4,), None),
]
PADDINGS = ["SAME", "VALID", ((2, 0), (0, 1))]


def draw(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def primitive(x, kernel, strides=None, padding="SAME", dilation=None):
    axes = "HW"[: x.ndim - 2]
    ones = (1,) * len(axes)
    return lax.conv_general_dilated(
        x,
        kernel,
        strides or ones,
        padding,
        rhs_dilation=dilation or ones,
        dimension_numbers=(f"N{axes}C", f"{axes}IO", f"N{axes}C"),
    )


@functools.partial(jax.jit, static_argnums=(0, 3, 4, 5))
def value_and_gradients(form, x, kernel, strides=None, padding="SAME", dilation=None):
    y, backward = jax.vjp(lambda x, kernel: form(x, kernel, strides, padding, dilation), x, kernel)
    return (y, *backward(y))


def assert_close(ours, theirs, tolerance):
    """Each array within ``tolerance`` of the other, relative to its largest element."""
    for mine, expected in zip(ours, theirs, strict=True):
        expected = np.asarray(expected)
        np.testing.assert_allclose(mine, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize(("size", "kernel_size", "strides", "dilation"), GEOMETRIES)
def test_value_and_gradients_match_xla(size, kernel_size, strides, dilation, padding):
    padding = padding if isinstance(padding, str) else padding[: len(size)]
    arguments = strides, padding, dilation
    with jax.enable_x64(True):
        x, kernel = draw(0, 2, *size, 3), draw(1, *kernel_size, 3, 4)
        ours = value_and_gradients(convolve, x, kernel, *arguments)
        theirs = value_and_gradients(primitive, x, kernel, *arguments)
        assert_close(ours, theirs, 1e-11)


@pytest.mark.slow
@pytest.mark.parametrize(("dilation", "strides"), [(None, None), ((3,), None), ((2,), (2,))])
def test_causal_padding_is_zeros_before_the_sequence(dilation, strides):
    span = 2 * (dilation or (1,))[0]
    with jax.enable_x64(True):
        x, kernel = draw(0, 2, 9, 3), draw(1, 3, 3, 4)
        ours = value_and_gradients(convolve, x, kernel, strides, "CAUSAL", dilation)
        theirs = value_and_gradients(primitive, x, kernel, strides, ((span, 0),), dilation)
        assert_close(ours, theirs, 1e-11)
        # Row t of the Jacobian is zero after t.
        jacobian = jax.jacobian(lambda x: convolve(x, kernel, None, "CAUSAL", dilation)[0].sum(-1))(x[:1])
        reach = np.abs(jacobian[:, 0]).max(-1) > 0
    assert not np.triu(reach, 1).any()
    assert reach.diagonal().all()


def test_one_channel_and_one_feature():
    with jax.enable_x64(True):
        x, kernel = draw(0, 2, 6, 7, 1), draw(1, 3, 3, 1, 1)
        assert_close(value_and_gradients(convolve, x, kernel), value_and_gradients(primitive, x, kernel), 1e-11)


def test_float32_and_bfloat16_keep_their_type_and_their_precision():
    x, kernel = draw(0, 2, 9, 8, 16).astype(jnp.float32), draw(1, 3, 3, 16, 8).astype(jnp.float32)
    with jax.enable_x64(True):
        exact = value_and_gradients(primitive, x.astype(jnp.float64), kernel.astype(jnp.float64))
    for dtype, tolerance in ((jnp.float32, 1e-5), (jnp.bfloat16, 3e-2)):
        ours = value_and_gradients(convolve, x.astype(dtype), kernel.astype(dtype))
        assert {array.dtype for array in ours} == {jnp.dtype(dtype)}
        assert_close([array.astype(jnp.float32) for array in ours], exact, tolerance)


@pytest.mark.parametrize("axes", [(0, 0), (None, 0), (0, None)])
def test_vmap_is_a_loop(axes):
    x = draw(0, 3, 2, 5, 6, 2) if axes[0] == 0 else draw(0, 2, 5, 6, 2)
    kernel = draw(1, 3, 3, 3, 2, 4) if axes[1] == 0 else draw(1, 3, 3, 2, 4)
    together = jax.jit(jax.vmap(lambda x, kernel: value_and_gradients(convolve, x, kernel), in_axes=axes))(x, kernel)
    for lane in range(3):
        lane_x, lane_kernel = (a if axis is None else a[lane] for a, axis in zip((x, kernel), axes, strict=True))
        alone = value_and_gradients(primitive, lane_x, lane_kernel)
        for mine, expected in zip(together, alone, strict=True):
            np.testing.assert_allclose(mine[lane], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(6,), (6, 6)])
@pytest.mark.parametrize(("platform", "convolutions"), [("cpu", 0), ("cuda", 3), ("tpu", 3)])
def test_each_backend_gets_its_own_form(platform, convolutions, size):
    arguments = draw(0, 2, *size, 3), draw(1, *(3 for _ in size), 3, 4)
    function = jax.jit(lambda x, kernel: value_and_gradients(convolve, x, kernel))
    program = jax.export.export(function, platforms=[platform])(*arguments).mlir_module()
    # Value, gradient of the inputs, gradient of the kernel; the two gradients also trace a value that XLA drops.
    assert program.count("stablehlo.convolution") >= convolutions
    assert ("stablehlo.convolution" in program) == (convolutions > 0)


def test_kernel_of_one_element_is_a_product_everywhere():
    function = jax.jit(lambda x, kernel: value_and_gradients(convolve, x, kernel, (2, 2)))
    for platform in ("cpu", "cuda", "tpu"):
        exported = jax.export.export(function, platforms=[platform])(draw(0, 2, 6, 6, 3), draw(1, 1, 1, 3, 4))
        assert "stablehlo.convolution" not in exported.mlir_module()


@pytest.mark.parametrize(("channels", "calls"), [(8, 1), (7, 0)])
def test_unused_gradient_of_images_is_not_computed(channels, calls):
    x, kernel = draw(0, 2, 16, 16, channels), draw(1, 3, 3, channels, channels)

    def compiled(argnums):
        gradient = jax.jit(jax.grad(lambda x, kernel: convolve(x, kernel).sum() ** 2, argnums=argnums))
        return gradient.lower(x, kernel).compile()

    both, one = compiled((0, 1)), compiled(1)
    assert (
        both.as_text().count('custom_call_target="paribus')
        == one.as_text().count('custom_call_target="paribus') + calls
    )
    if not calls:
        product = 2 * 2 * 16 * 16 * 9 * channels**2
        assert both.cost_analysis()["flops"] - one.cost_analysis()["flops"] > 0.9 * product


@pytest.mark.parametrize(
    ("size", "kernel_size", "arguments", "words"),
    [
        ((6, 6), (3,), {}, "2 axes"),
        ((6,), (3,), {"strides": (1, 1)}, "1 axes"),
        ((6,), (3,), {"padding": ((1, 1), (1, 1))}, "1 axes"),
        ((6, 6), (3, 3), {"padding": "CAUSAL"}, "sequences"),
        ((6, 2), (3, 3), {"padding": "VALID"}, "does not fit"),
        ((6,), (3,), {"padding": "VALID", "dilation": (3,)}, "does not fit"),
    ],
)
def test_what_does_not_fit_is_refused(size, kernel_size, arguments, words):
    with pytest.raises(ValueError, match=words):
        convolve(jnp.zeros((2, *size, 3)), jnp.zeros((*kernel_size, 3, 4)), **arguments)


def test_module_parameters_and_shapes():
    x = draw(0, 2, 7, 8, 3)
    module = Conv(5, (3, 2), strides=(2, 1), padding="VALID")
    variables = jax.jit(module.init)(jax.random.key(0), x)
    assert jax.tree.map(jnp.shape, variables["params"]) == {"kernel": (3, 2, 3, 5), "bias": (5,)}
    assert jax.eval_shape(module.apply, variables, x).shape == (2, 3, 7, 5)
    without = jax.eval_shape(Conv(5, (3, 3), use_bias=False).init, jax.random.key(0), x)
    assert set(without["params"]) == {"kernel"}
    sequences = jax.eval_shape(Conv(5, (4,), padding="CAUSAL", dilation=(2,)).init, jax.random.key(0), draw(0, 2, 9, 3))
    assert jax.tree.map(jnp.shape, sequences["params"]) == {"kernel": (4, 3, 5), "bias": (5,)}


def test_initial_kernel_has_he_variance():
    kernel = jax.jit(Conv(64, (3, 3)).init)(jax.random.key(0), jnp.zeros((1, 4, 4, 32)))["params"]["kernel"]
    np.testing.assert_allclose(kernel.var(), 2 / (9 * 32), rtol=0.05)


@pytest.mark.reference
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-10)])
@pytest.mark.parametrize(
    ("size", "kernel_size", "stride", "padding", "dilation"),
    [
        ((7, 6), 3, 1, 1, 1),
        ((7, 9), 3, 2, 0, 1),
        ((7, 9), 3, 2, 1, 1),
        ((9, 8), 3, 1, 2, 2),
        ((8, 5), 1, 2, 0, 1),
        ((9,), 3, 1, 1, 1),
        ((13,), 4, 3, 2, 2),
    ],
)
def test_module_matches_torch(size, kernel_size, stride, padding, dilation, dtype, tolerance):
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    axes = len(size)
    with jax.enable_x64(dtype == "float64"):
        x = draw(0, 2, *size, 3).astype(dtype)
        module = Conv(
            4,
            (kernel_size,) * axes,
            strides=(stride,) * axes,
            padding=((padding, padding),) * axes,
            dilation=(dilation,) * axes,
            bias_init=jax.nn.initializers.normal(1.0),
        )
        variables = jax.jit(module.init)(jax.random.key(0), x)
        y, backward = jax.vjp(jax.jit(module.apply), variables, x)
        g = draw(1, *y.shape).astype(dtype)
        gradient, x_gradient = backward(g)
    kernel, bias = (np.asarray(variables["params"][name]) for name in ("kernel", "bias"))
    tensors = [
        torch.tensor(np.ascontiguousarray(array), requires_grad=True)
        for array in (np.moveaxis(np.asarray(x), -1, 1), kernel.transpose(-1, -2, *range(axes)), bias)
    ]
    form = {1: torch.nn.functional.conv1d, 2: torch.nn.functional.conv2d}[axes]
    reference = form(*tensors, stride=stride, padding=padding, dilation=dilation)
    reference.backward(torch.tensor(np.moveaxis(np.asarray(g), -1, 1).copy()))
    ours = [
        np.moveaxis(np.asarray(y), -1, 1),
        np.moveaxis(np.asarray(x_gradient), -1, 1),
        np.asarray(gradient["params"]["kernel"]).transpose(-1, -2, *range(axes)),
        gradient["params"]["bias"],
    ]
    assert {str(array.dtype) for array in ours} == {dtype}
    assert_close(ours, [reference.detach().numpy(), *(tensor.grad.numpy() for tensor in tensors)], tolerance)
