"""Work that threads share: the same bits for any number of them, and nobody waits for a thread that does not come."""

import concurrent.futures
import math
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.layers import convolution, engines, native, threads

pytestmark = pytest.mark.skipif(not native.is_available(), reason="no machine code on this kind of machine")

SHAPES = [((8, 24, 24, 16), (3, 3, 16, 16)), ((5, 40, 40, 16), (5, 5, 16, 16)), ((3, 32, 32, 32), (5, 5, 32, 32))]


@pytest.fixture
def alone():
    """Afterwards no thread helps, as at first."""
    yield
    engines.share(1)


def arrays(shape, kernel_shape):
    keys = jax.random.split(jax.random.key(0), 3)
    g_shape = (*shape[:-1], kernel_shape[-1])
    return [jax.random.normal(key, each) for key, each in zip(keys, (shape, kernel_shape, g_shape), strict=True)]


@jax.jit
def value_and_gradients(x, kernel, g):
    value, gradients = jax.vjp(lambda x, kernel: convolution.convolve(x, kernel, None, "SAME", None), x, kernel)
    return value, *gradients(g)


@jax.jit
def of_xla(x, kernel, g):
    def correlate(x, kernel):
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    value, gradients = jax.vjp(correlate, x, kernel)
    return value, *gradients(g)


@pytest.mark.parametrize(
    ("shape", "kernel_shape"), [SHAPES[0], *[pytest.param(*shapes, marks=pytest.mark.slow) for shapes in SHAPES[1:]]]
)
def test_any_number_of_threads_computes_the_same_bits(shape, kernel_shape, alone):
    given = arrays(shape, kernel_shape)
    work = 2 * math.prod(shape[:-1]) * math.prod(kernel_shape)
    assert native.parts(shape[0], work) == min(shape[0], threads.PARTS)  # else nothing is tested
    engines.share(1)
    first = jax.device_get(value_and_gradients(*given))
    for found, expected in zip(first, of_xla(*given), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * float(jnp.abs(expected).max()))
    for cores in (2, 3, 4, 64):
        engines.share(cores)
        for _ in range(20):
            for found, expected in zip(jax.device_get(value_and_gradients(*given)), first, strict=True):
                np.testing.assert_array_equal(found, expected)


def test_several_calls_share_the_threads(alone):
    given = arrays(*SHAPES[0])
    expected = jax.device_get(value_and_gradients(*given))
    engines.share(4)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(lambda: jax.device_get(value_and_gradients(*given))) for _ in range(64)]
        for call in calls:
            for found, right in zip(call.result(timeout=120), expected, strict=True):
                np.testing.assert_array_equal(found, right)


def test_they_help_only_where_the_interface_is_as_expected(tmp_path, monkeypatch, alone):
    assert threads.are_available()
    header = tmp_path / "xla" / "ffi" / "api" / "c_api.h"
    assert not threads.are_available(str(tmp_path / "none"))
    header.parent.mkdir(parents=True)
    text = (Path(jax.ffi.include_dir()) / "xla/ffi/api/c_api.h").read_text()
    first = "  _XLA_FFI_API_STRUCT_FIELD(XLA_FFI_Stream_Get);\n"
    assert first in text
    header.write_text(text.replace(first, first + first.replace("Stream", "Another")))
    assert not threads.are_available(str(tmp_path))
    monkeypatch.setattr(threads, "are_available", lambda: False)
    engines.share(4)
    assert engines._helpers == 0


def test_short_work_is_not_cut():
    assert native.parts(64, native.LONG - 1) == 1
    assert native.parts(64, native.LONG) == threads.PARTS
    assert native.parts(3, native.LONG) == 3
    assert native.parts(1, 1e12) == 1


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux to give a process one core")
def test_one_core_alone_does_not_wait_for_helpers():
    """XLA's pool has one thread then, which may be the one that asks."""
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from tests.models.test_threads import *\n"
        "given = arrays(*SHAPES[0])\n"
        "engines.share(4)\n"
        "for _ in range(50): jax.block_until_ready(value_and_gradients(*given))\n"
        "print('done')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=True)
    assert done.stdout.split() == ["done"]
