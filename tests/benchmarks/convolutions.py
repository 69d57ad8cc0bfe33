"""Time of one convolution, layer by layer: Paribus against PyTorch's channels-last form, on one CPU core.

    python -m tests.benchmarks.convolutions
    python -m tests.benchmarks.convolutions --samples=3 --layers=resnet/16,resnet/32

Run it from the root of the repository, on a machine that does nothing else. Linux only. It needs PyTorch
(``pip install -e .[reference]``).

Times are CPU time of the process, pinned to one core, float32. The two sides take turns; the table has
medians. Paribus runs inside a ``lax.fori_loop``, as in training. There its inputs are multiplied by a number that the
loop carries, so that no work can be hoisted out of it; the time of that multiplication alone is measured too, and
subtracted.

What was tried, in milliseconds of batch 128 (jax 0.10.2, a core with AVX2 and half a MiB of second-level cache), for
32x32x16, 16x16x32 and 8x8x64. Winograd's form as machine code is in use: 5.6, 3.9 and 3.2 forward, 4.9, 4.0 and 3.8 for
the kernel's gradient. The direct sum as machine code takes 6.7, 6.3 and 6.4 on the same day, and 6.9, 6.6 and 7.0;
PyTorch 7.1 to 7.9, 6.8 and 6.1, and 9.1. Of the machine code's 1.1 ms at batch 32 and 16 channels the transformations
take 0.26 and the 16 products 0.85; a product with 16 channels is written out whole, for in two rounds of eight it took
half as long again. What did not win, measured earlier (then the direct sum took 7.6, 7.5 and 7.5, Winograd's form as
operations of XLA's 6.2 and 4.8 for the latter two, PyTorch 8.1, 7.9 and 7.7; matrix products of these shapes run at 45
to 70 GFLOP/s in XLA, PyTorch's convolutions at 75 to 85, and so does the direct sum):

* XLA's own convolution: forward 13.5, 9.1 and 8.1, and as fast in a loop. But in a loop its gradient of the inputs
  takes 247, 308 and 38, that of the kernel 1,700 to 2,100 (the operands' layouts fall out of the fast path; outside of
  a loop the latter takes 17 to 53).
* One matrix of all patches: 45, 24 and 16, and 22, 13 and 10 in blocks of the batch. Its automatic gradients: a step
  of ResNet-20 took 2.5 times as long as with the forms in use.
* Rows of patches, and a product for each row of the kernel summed after: 16, 12 and 9, and 12, 6.5 and 4.8 in blocks of
  the batch. These blocks are still used where the features do not fill the vectors.
* Winograd as operations of XLA's with 16 channels: 14 to 18. Its 16 transformations cost 0.85 ns an element, 0.25 with
  32 channels: XLA vectorises an innermost axis of 32, not one of 16. The batch as the last axis but one is no way out,
  as the reshape to a matrix is fused into the transformation. F(4x4, 3x3): 10, 5.6 and 4.2, but 5e-6 of error, and 2e-5
  in the gradient of the kernel, against 3e-7.
* F(2, 3) and F(4, 3) along rows only, the columns as patches, as a product summed after, or by XLA's convolution:
  14 to 17, 6.4 to 9 and 5 to 6.2.
* The transposed form of Winograd's gradient, which shares a transformation with that of the kernel: no faster.
* The gradient of the kernel: nine shifted products 40 and 26; one matrix of all patches 49 and 37; the transpose of
  the patches written before the product, patches gathered from transposed images, the operands exchanged, a product
  for each image: within 5% of the form in use or slower. Winograd's with 32 channels: equal.
* The stacked transformations as one batched product: 5 to 15% slower; it would halve the time to compile.
* The flags for oneDNN: no effect, though it is in jaxlib. Without YNNPACK: no gain.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple


class Layer(NamedTuple):
    """A convolution of images with 3x3 kernels and a pixel of zeros around."""

    batch: int
    size: int
    channels: int
    features: int
    stride: int = 1


LAYERS = {
    "resnet/stem": Layer(128, 32, 3, 16),
    "resnet/16": Layer(128, 32, 16, 16),
    "resnet/16-32": Layer(128, 32, 16, 32, 2),
    "resnet/32": Layer(128, 16, 32, 32),
    "resnet/32-64": Layer(128, 16, 32, 64, 2),
    "resnet/64": Layer(128, 8, 64, 64),
    "cnn/1-8": Layer(64, 28, 1, 8),
    "cnn/8-16": Layer(64, 14, 8, 16),
    "cnn/3-32": Layer(128, 32, 3, 32),
    "cnn/32-64": Layer(128, 16, 32, 64),
    "wide/128": Layer(32, 16, 128, 128),
}

PASSES = ("forward", "input gradient", "kernel gradient")

Runs = dict[str, Callable[[int], object]]
"""By the name of a pass, what runs it so many times."""


def arrays(layer: Layer) -> tuple[Any, Any, Any]:
    """Images, kernel and a gradient of the outputs."""
    import numpy as np

    generator = np.random.default_rng(0)
    size = -(-layer.size // layer.stride)
    shapes = (
        (layer.batch, layer.size, layer.size, layer.channels),
        (3, 3, layer.channels, layer.features),
        (layer.batch, size, size, layer.features),
    )
    x, kernel, g = (generator.normal(size=shape).astype(np.float32) for shape in shapes)
    return x, kernel, g


def paribus(layer: Layer) -> Runs:
    """Our passes, and for each what is not its own work (``overhead of ...``)."""
    import jax
    import jax.numpy as jnp
    from jax import lax

    from models.layers.convolution import convolve

    def value(x: Any, kernel: Any, g: Any) -> Any:
        del g
        return convolve(x, kernel, (layer.stride, layer.stride), ((1, 1), (1, 1)))

    def input_gradient(x: Any, kernel: Any, g: Any) -> Any:
        return jax.vjp(lambda x: value(x, kernel, g), x)[1](g)[0]

    def kernel_gradient(x: Any, kernel: Any, g: Any) -> Any:
        return jax.vjp(lambda kernel: value(x, kernel, g), kernel)[1](g)[0]

    inputs = tuple(map(jnp.asarray, arrays(layer)))

    def repeated(function: Callable[..., Any], factors: tuple[int, ...]) -> Callable[[int], object]:
        @jax.jit
        def run(times: Any, *inputs: Any) -> Any:
            def body(_: Any, carry: Any) -> Any:
                one, _ = carry
                scaled = tuple(array * one if i in factors else array for i, array in enumerate(inputs))
                result = function(*scaled)
                leaves = jax.tree.leaves(result)
                return 1 + 0 * sum(jnp.clip(leaf.reshape(-1)[0], -1, 1) for leaf in leaves), result

            start = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(function, *inputs))
            return lax.fori_loop(0, times, body, (jnp.ones(()), start))

        return lambda times: jax.block_until_ready(run(times, *inputs))

    reads = {"forward": (0,), "input gradient": (2,), "kernel gradient": (0, 2)}
    functions = dict(zip(PASSES, (value, input_gradient, kernel_gradient), strict=True))
    runs = {name: repeated(function, reads[name]) for name, function in functions.items()}
    for name, read in reads.items():
        runs[f"overhead of {name}"] = repeated(lambda *inputs, read=read: [inputs[i] for i in read], read)
    return runs


def pytorch(layer: Layer) -> Runs:
    """PyTorch's passes, on channels-last tensors."""
    import torch

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    x, kernel, g = (torch.from_numpy(array) for array in arrays(layer))
    last = {"memory_format": torch.channels_last}
    x, g = (tensor.permute(0, 3, 1, 2).contiguous(**last) for tensor in (x, g))
    kernel = kernel.permute(3, 2, 0, 1).contiguous(**last)
    stride = [layer.stride] * 2

    def backward(mask: list[bool]) -> object:
        backward = torch.ops.aten.convolution_backward
        return backward(g, x, kernel, None, stride, [1, 1], [1, 1], False, [0, 0], 1, mask)

    functions = {
        "forward": lambda: torch.nn.functional.conv2d(x, kernel, stride=stride, padding=1),
        "input gradient": lambda: backward([True, False, False]),
        "kernel gradient": lambda: backward([False, True, False]),
    }

    def repeated(function: Callable[[], object]) -> Callable[[int], object]:
        return lambda times: [function() for _ in range(times)][:0]

    return {name: repeated(function) for name, function in functions.items()}


def milliseconds(run: Callable[[int], object], times: int) -> float:
    """CPU time of one pass."""
    start = time.process_time()
    run(times)
    return 1e3 * (time.process_time() - start) / times


def compare(layer: Layer, samples: int, seconds: float) -> dict[str, tuple[float, float]]:
    """Milliseconds of each pass, of PyTorch and of Paribus."""
    sides = {"torch": pytorch(layer), "paribus": paribus(layer)}
    runs = {(side, name): run for side, passes in sides.items() for name, run in passes.items()}
    times = {}
    for key, run in runs.items():
        run(1)  # compiles
        times[key] = max(2, round(1e3 * seconds / max(milliseconds(run, 2), 1e-3)))
    taken: dict[tuple[str, str], list[float]] = {key: [] for key in runs}
    for _ in range(samples):
        for key, run in runs.items():
            taken[key].append(milliseconds(run, times[key]))
    median = {key: statistics.median(values) for key, values in taken.items()}
    return {
        name: (median["torch", name], median["paribus", name] - median["paribus", f"overhead of {name}"])
        for name in PASSES
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=7, help="turns; the table has their medians")
    parser.add_argument("--seconds", type=float, default=0.2, help="what a sample of one pass should last")
    parser.add_argument("--layers", default=",".join(LAYERS), help="comma-separated names")
    options = parser.parse_args()
    names = options.layers.split(",")
    if strangers := set(names) - set(LAYERS):
        raise SystemExit(f"no such layers: {', '.join(sorted(strangers))}; there are {', '.join(LAYERS)}")
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    from train import devices

    devices.prepare()
    print("| layer | batch | size | channels | stride | " + " | ".join(PASSES) + " | all |")
    print("|---|---:|---:|---|---:|" + "---|" * 4)
    for name in names:
        layer = LAYERS[name]
        result = compare(layer, options.samples, options.seconds)
        result["all"] = tuple(map(sum, zip(*result.values(), strict=True)))
        cells = [f"{there:.2f} / {here:.2f} = {there / here:.2f}" for there, here in result.values()]
        channels = f"{layer.channels} -> {layer.features}"
        head = f"| {name} | {layer.batch} | {layer.size} | {channels} | {layer.stride} |"
        print(f"{head} {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
