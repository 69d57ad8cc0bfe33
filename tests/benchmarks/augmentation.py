"""What augmentation costs in a step, and the ways to move images that were tried for it.

    python -m tests.benchmarks.augmentation

Each function runs in a loop of the compiled program on a batch, as it does in training, and the loop without it is
taken off. The least of many short rounds, in turns, is what counts on a machine that does other things as well.
"""

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from train import augmentation, randomness
from train.data.task import Batch

SHAPES = ((64, 28, 28, 1), (128, 32, 32, 3))
ROUNDS, STEPS = 40, 10
FIELDS = tuple(augmentation.STREAMS.values())
STRENGTHS = dict(zip(FIELDS, (0.5, 4.0, 8.0, 0.2, 1.0), strict=True))


def by_slices_of_a_line(images, most, key):
    """Cuts one slice an image out of the batch laid end to end, and sets what came from beyond its edges to 0."""
    count, height, width, channels = images.shape
    down, right = jax.random.randint(key, (2, count), -most, most + 1)
    size = height * width * channels
    line = jnp.pad(images.reshape(-1), size)
    starts = (1 + jnp.arange(count)) * size + (down * width + right) * channels
    moved = jax.vmap(lambda start: jax.lax.dynamic_slice(line, (start,), (size,)))(starts).reshape(images.shape)
    return jnp.where(inside(down, height, right, width), moved, 0)


def inside(down, height, right, width):
    """Where the source of a moved pixel lies in the image, [batch, height, width, 1]."""
    rows, columns = jnp.arange(height)[None] + down[:, None], jnp.arange(width)[None] + right[:, None]
    rows, columns = (rows >= 0) & (rows < height), (columns >= 0) & (columns < width)
    return (rows[:, :, None] & columns[:, None, :])[..., None]


def by_pixels(images, most, key):
    """Gathers every pixel from its place."""
    count, height, width, channels = images.shape
    down, right = jax.random.randint(key, (2, count), -most, most + 1)
    rows, columns = jnp.arange(height)[None] + down[:, None], jnp.arange(width)[None] + right[:, None]
    there = inside(down, height, right, width)
    rows, columns = jnp.clip(rows, 0, height - 1), jnp.clip(columns, 0, width - 1)
    places = (jnp.arange(count)[:, None, None] * height + rows[:, :, None]) * width + columns[:, None, :]
    moved = jnp.take(images.reshape(-1, channels), places.reshape(-1), axis=0, mode="clip")
    return jnp.where(there, moved.reshape(images.shape), 0)


def by_matrices(images, most, key):
    """Multiplies by a matrix of one 1 a row, from the left for rows and from the right for columns."""
    count, height, width, _ = images.shape
    down, right = jax.random.randint(key, (2, count), -most, most + 1)
    rows, columns = (
        (jnp.arange(size)[None, None, :] == jnp.arange(size)[None, :, None] + by[:, None, None]).astype(images.dtype)
        for size, by in ((height, down), (width, right))
    )
    images = jnp.einsum("bij,bjk->bik", rows, images.reshape(count, height, -1)).reshape(images.shape)
    return jnp.einsum("bkj,bijc->bikc", columns, images)


def moved(how: Callable) -> Callable:
    return lambda batch, step: how(batch.inputs, jnp.int32(4), randomness.at(jax.random.key(1), step))


def augmented(*fields: str) -> Callable:
    values = {field: jnp.float32(STRENGTHS[field]) for field in fields}

    def function(batch, step):
        changed, mixture = augmentation.augment(batch, values, augmentation.keys(jax.random.key(0), values, step))
        return changed.inputs + (0 if mixture is None else mixture.share + mixture.targets[:, None, None, None])

    return function


def loop(function: Callable, shape: tuple[int, ...]) -> Callable[[], float]:
    """Seconds a step of one round of ``function``."""
    images = jax.random.normal(jax.random.key(2), shape)
    batch = Batch(images, jnp.arange(shape[0]), jnp.ones(shape[0]))

    @jax.jit
    def run(batch, steps):
        # The sum is carried on, so that no step can be left out or done before its turn.
        def body(step, total):
            return 0.5 * total + function(batch._replace(inputs=batch.inputs + 1e-6 * total), step)

        return jax.lax.fori_loop(0, steps, body, jnp.zeros(shape))

    run(batch, STEPS).block_until_ready()

    def measure() -> float:
        start = time.perf_counter()
        run(batch, STEPS).block_until_ready()
        return (time.perf_counter() - start) / STEPS

    return measure


def main() -> None:
    functions = {"nothing": lambda batch, _: batch.inputs}
    functions |= {
        f"move {how.__name__}": moved(how) for how in (augmentation.crop, by_slices_of_a_line, by_pixels, by_matrices)
    }
    functions |= {field: augmented(field) for field in FIELDS}
    functions |= {"crop and flip": augmented(*FIELDS[:2]), "all": augmented(*FIELDS)}
    for shape in SHAPES:
        measures = {name: loop(function, shape) for name, function in functions.items()}
        best = dict.fromkeys(measures, float("inf"))
        for _ in range(ROUNDS):
            for name, measure in measures.items():
                best[name] = min(best[name], measure())
        print(f"batch of {shape}: microseconds a step beside the loop itself ({best['nothing'] * 1e6:.0f})")
        for name, seconds in best.items():
            if name != "nothing":
                print(f"  {name:32} {(seconds - best['nothing']) * 1e6:8.0f}")


if __name__ == "__main__":
    main()
