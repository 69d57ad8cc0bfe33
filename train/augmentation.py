"""Augmentation of a batch of images inside the compiled program: flip, crop, cutout, mixup, cutmix.

Every strength is an argument of the program, and its value "off" changes nothing: one compilation serves all values.
What is off in all trials of a program is not in it at all. A pixel that has no source (beyond the edge, or cut out)
becomes 0, which is the mean of the training pixels, for inputs are standardised.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, Num

from models.base import BadInput, Shapes
from train import randomness
from train.config import Config
from train.data.task import Batch
from train.sections import Augmentation

STREAMS = {
    "flip": "flip_probability",
    "crop": "crop_padding",
    "cutout": "cutout_size",
    "mixup": "mixup_alpha",
    "cutmix": "cutmix_alpha",
}
"""The random streams by name, each with the field that it serves."""

Images = Float[Array, "batch height width channels"]
Keys = Mapping[str, Key[Array, ""]]
Values = Mapping[str, Any]


class Mixture(NamedTuple):
    """What a mixed batch is to be told apart as: two targets for each image.

    Attributes:
        targets: those of the partners.
        share: lambda, the weight of an image's own target; the partner's has the rest.
    """

    targets: Num[Array, "..."]
    share: Float[Array, ""]


def check(config: Config, shapes: Shapes) -> None:
    """Refuse augmentation where there is nothing that it could act on.

    Raises:
        BadInput: an augmentation is on, and the task has no images of a class each, or they are too small for it.
    """
    section = config.augmentation
    on = [name for name in STREAMS.values() if getattr(section, name)]
    if not on:
        return
    if len(shapes.inputs) != 3 or shapes.vocabulary is not None or shapes.per_position:
        raise BadInput(
            f"augmentation.{on[0]}={getattr(section, on[0])} acts on images of one class each, and those of the task "
            f"{config.data.name!r} are none; leave it {getattr(Augmentation(), on[0])}"
        )
    side = min(shapes.inputs[:2])
    for name, most in (("crop_padding", side - 1), ("cutout_size", side)):
        if getattr(section, name) > most:
            height, width, _ = shapes.inputs
            raise BadInput(
                f"augmentation.{name}={getattr(section, name)} must be at most {most} with images of {height} x {width}"
            )


def keys(root: Key[Array, ""], values: Values, step: Int[Array, ""] | int) -> dict[str, Key[Array, ""]]:
    """The key of each stream that a program with these values needs at this step.

    Args:
        root: of the trial.
        values: the traced values of the section by name; what is absent is off.
        step: the training step.
    """
    return {
        stream: randomness.at(randomness.stream(root, f"augmentation/{stream}"), step)
        for stream, field in STREAMS.items()
        if field in values
    }


def augment(batch: Batch, values: Values, keys: Keys) -> tuple[Batch, Mixture | None]:
    """The batch with its images changed, and how the targets are mixed, where they are.

    Args:
        batch: of images.
        values: the traced values of the section by name; what is absent is off.
        keys: of this step, by stream (see :func:`keys`).
    """
    images = batch.inputs
    if "flip_probability" in values:
        images = flip(images, values["flip_probability"], keys["flip"])
    if "crop_padding" in values:
        images = crop(images, values["crop_padding"], keys["crop"])
    if "cutout_size" in values:
        images = cutout(images, values["cutout_size"], keys["cutout"])
    if "mixup_alpha" not in values and "cutmix_alpha" not in values:
        return batch._replace(inputs=images), None
    images, partner, share = mix(images, values, keys)
    return batch._replace(inputs=images), Mixture(batch.targets[partner], share)


def loss(
    objective_loss: Callable[..., Array], outputs: Any, batch: Batch, mixture: Mixture | None, **arguments: Any
) -> Float[Array, ""]:
    """The loss of a batch; of a mixed one, lambda times that of its own targets and the rest for its partners'."""
    own = objective_loss(outputs, batch, **arguments)
    if mixture is None:
        return own
    partners = objective_loss(outputs, batch._replace(targets=mixture.targets), **arguments)
    return mixture.share * own + (1 - mixture.share) * partners


def crop(images: Images, padding: Num[Array, ""], key: Key[Array, ""]) -> Images:
    """Each image padded with ``padding`` zeros on every side, and cut to its size at a random place.

    Zeros as wide as the image serve every value, for only moves by up to ``padding`` are drawn. A slice of each image
    was the fastest of four ways, and it is fused with what comes before it (tests/benchmarks/augmentation.py).
    """
    count, height, width, channels = images.shape
    most = jnp.asarray(padding).astype(jnp.int32)
    down, right = jax.random.randint(key, (2, count), -most, most + 1)
    padded = jnp.pad(images, ((0, 0), (height, height), (width, width), (0, 0)))

    def window(image: Float[Array, "h w channels"], row: Int[Array, ""], column: Int[Array, ""]) -> Array:
        return jax.lax.dynamic_slice(image, (height + row, width + column, 0), (height, width, channels))

    return jax.vmap(window)(padded, down, right)


def _outer(rows: Bool[Array, "batch height"], columns: Bool[Array, "batch width"]) -> Bool[Array, "batch h w 1"]:
    return (rows[:, :, None] & columns[:, None, :])[..., None]


def flip(images: Images, probability: Num[Array, ""], key: Key[Array, ""]) -> Images:
    """Each image mirrored left to right with this probability."""
    mirrored = jax.random.uniform(key, images.shape[:1]) < probability
    return jnp.where(mirrored[:, None, None, None], images[:, :, ::-1], images)


def cutout(images: Images, size: Num[Array, ""], key: Key[Array, ""]) -> Images:
    """A square of ``size`` pixels set to 0 in each image; its centre is drawn uniformly from the pixels.

    The square begins ``size // 2`` before its centre, and the part of it that lies beyond the edge is lost.
    """
    count, height, width, _ = images.shape
    rows, columns = (
        _band(jax.random.randint(each, (count,), 0, extent), extent, jnp.asarray(size).astype(jnp.int32))
        for each, extent in zip(jax.random.split(key), (height, width), strict=True)
    )
    return jnp.where(_outer(rows, columns), 0, images)


def _band(centre: Int[Array, "*batch"], extent: int, size: Int[Array, ""]) -> Bool[Array, "*batch extent"]:
    """The places of ``size`` pixels around a centre."""
    start = (centre - size // 2)[..., None]
    places = jnp.arange(extent).reshape((1,) * (start.ndim - 1) + (extent,))
    return (places >= start) & (places < start + size)


def mix(images: Images, values: Values, keys: Keys) -> tuple[Images, Int[Array, " batch"], Float[Array, ""]]:
    """Mixup or cutmix: ``keep x + (1 - keep) x[partner]``.

    Returns:
        the mixed images, the partner of each (one permutation of the batch), and the weight of an image's own target.
    """
    count, height, width, _ = images.shape
    names = [name for name in ("mixup", "cutmix") if STREAMS[name] in values]
    alphas = jnp.stack([jnp.asarray(values[STREAMS[name]], jnp.float32) for name in names])
    parts = jnp.stack([jax.random.split(keys[name], 4) for name in names])
    # Side by side, for drawing from Beta is long to compile.
    shares = jax.vmap(share_of)(alphas, parts[:, 0])
    partners = jax.vmap(lambda key: jax.random.permutation(key, count))(parts[:, 1])
    options = []
    for name, share, partner, part in zip(names, shares, partners, parts, strict=True):
        keep = jnp.full((height, width), share)
        if name == "cutmix":
            keep = _outside_a_box(share, height, width, part[2])
            share = jnp.mean(keep)
        options.append((keep, partner, share))
    if len(options) == 2:
        cutmix = jnp.where((alphas > 0).all(), jax.random.bernoulli(parts[1, 3]), alphas[1] > 0)
        options = [jax.tree.map(lambda one, two: jnp.where(cutmix, two, one), *options)]
    ((keep, partner, share),) = options
    weights = keep[None, :, :, None]
    return weights * images + (1 - weights) * images[partner], partner, share


def share_of(alpha: Float[Array, ""], key: Key[Array, ""]) -> Float[Array, ""]:
    """Lambda ~ Beta(alpha, alpha), as G1 / (G1 + G2) of two Gamma(alpha) variables; 1 where alpha is 0."""
    one, two = jax.random.loggamma(key, jnp.where(alpha > 0, alpha, 1), (2,))
    return jnp.where(alpha > 0, jax.nn.sigmoid(one - two), 1)


def _outside_a_box(
    share: Float[Array, ""], height: int, width: int, key: Key[Array, ""]
) -> Float[Array, "height width"]:
    """1 outside and 0 inside a box of sides ``sqrt(1 - share)`` of the image's, its centre drawn from the pixels."""
    bands = []
    for each, extent in zip(jax.random.split(key), (height, width), strict=True):
        size = jnp.floor(extent * jnp.sqrt(1 - share)).astype(jnp.int32)
        bands.append(_band(jax.random.randint(each, (), 0, extent), extent, size))
    rows, columns = bands
    return 1.0 - (rows[:, None] & columns[None, :])
