"""Augmentation: each mechanism against NumPy or a closed form, and its place in the program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.base import BadInput
from tests.lowering import PLATFORMS, lowered
from train import augmentation, randomness
from train.config import Trial, leaves, replace, traced_paths
from train.data.task import Batch
from train.packing import group, study_traced_paths
from train.population import Population
from train.step import make_step

HEIGHT, WIDTH = 7, 9
ALL_ON = {
    "augmentation.crop_padding": 2,
    "augmentation.flip_probability": 0.5,
    "augmentation.cutout_size": 3,
    "augmentation.mixup_alpha": 0.4,
    "augmentation.cutmix_alpha": 1.0,
}
OFF = {"crop_padding": 0, "flip_probability": 0.0, "cutout_size": 0, "mixup_alpha": 0.0, "cutmix_alpha": 0.0}


@pytest.fixture(scope="module")
def pictures():
    """No two pixels are equal and none is 0, so that every pixel tells where it came from."""
    values = 1 + np.random.default_rng(0).permutation(600 * HEIGHT * WIDTH * 2)
    return jnp.asarray(values.reshape(600, HEIGHT, WIDTH, 2), jnp.float32)


mixed, changed = jax.jit(augmentation.mix), jax.jit(augmentation.augment)


def scalars(**values):
    return {name: jnp.float32(value) for name, value in values.items()}


def keys_at(step=0, seed=0):
    return augmentation.keys(randomness.root(seed), OFF, step)


def moved(image, down, right):
    """``image`` cut out of its zero-padded self, as He et al. describe it."""
    far = max(HEIGHT, WIDTH)
    padded = np.pad(image, ((far, far), (far, far), (0, 0)))
    return padded[far + down : far + down + HEIGHT, far + right : far + right + WIDTH]


@pytest.mark.slow
@pytest.mark.parametrize("padding", [1, 2, 6])
def test_a_crop_is_a_window_of_the_padded_image_at_any_place_alike(pictures, padding):
    found = np.asarray(jax.jit(augmentation.crop)(pictures, jnp.float32(padding), jax.random.key(3)))
    span = range(-padding, padding + 1)
    places = []
    for before, after in zip(np.asarray(pictures), found, strict=True):
        fitting = [(down, right) for down in span for right in span if (moved(before, down, right) == after).all()]
        assert len(fitting) == 1
        places += fitting
    for axis in (0, 1):
        counts = np.bincount(np.array(places)[:, axis] + padding, minlength=len(span))
        # Pearson's chi-square: its mean is the degrees of freedom, its variance twice that.
        expected = len(places) / len(span)
        statistic = np.sum((counts - expected) ** 2 / expected)
        assert statistic < len(span) - 1 + 5 * np.sqrt(2 * (len(span) - 1))
    down, right = np.array(places).T
    assert abs(np.corrcoef(down, right)[0, 1]) < 5 / np.sqrt(len(places))


def test_a_flip_mirrors_left_to_right_with_its_probability(pictures):
    found = np.asarray(augmentation.flip(pictures, jnp.float32(0.3), jax.random.key(1)))
    before = np.asarray(pictures)
    same = (found == before).all((1, 2, 3))
    np.testing.assert_array_equal(found[~same], before[~same, :, ::-1])
    error = np.sqrt(0.3 * 0.7 / len(before))
    assert (~same).mean() == pytest.approx(0.3, abs=4 * error)
    everyone = augmentation.flip(pictures, jnp.float32(1), jax.random.key(1))
    np.testing.assert_array_equal(everyone, before[:, :, ::-1])


@pytest.mark.parametrize("size", [1, 2, 5, 7])
def test_cutout_sets_a_square_around_a_pixel_to_zero(pictures, size):
    found = np.asarray(augmentation.cutout(pictures, jnp.float32(size), jax.random.key(2)))
    cut = found == 0
    np.testing.assert_array_equal(found[~cut], np.asarray(pictures)[~cut])
    possible = {}
    for row in range(HEIGHT):
        for column in range(WIDTH):
            mask = np.zeros((HEIGHT, WIDTH, 2), bool)
            top, left = row - size // 2, column - size // 2
            mask[max(0, top) : top + size, max(0, left) : left + size] = True
            possible[mask.tobytes()] = mask[..., 0].sum()
    areas = [possible[mask.tobytes()] for mask in cut]  # a KeyError: no centre gives this mask
    expected = np.array(list(possible.values()))
    # Where the image is no larger than the square, several centres give one mask; the areas are then not of equal odds.
    if len(possible) == HEIGHT * WIDTH:
        assert np.mean(areas) == pytest.approx(expected.mean(), abs=4 * expected.std() / np.sqrt(len(areas)) + 1e-9)
        assert len(set(areas)) == len(set(expected))


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_the_share_of_mixup_has_the_moments_of_beta(alpha):
    keys = jax.random.split(jax.random.key(5), 4000)
    shares = np.asarray(jax.jit(jax.vmap(lambda key: augmentation.share_of(jnp.float32(alpha), key)))(keys), np.float64)
    variance = 1 / (4 * (2 * alpha + 1))  # of Beta(alpha, alpha)
    assert shares.mean() == pytest.approx(0.5, abs=4 * np.sqrt(variance / 4000))
    # The fourth central moment is 3 variance^2 (2 alpha + 1) / (2 alpha + 3).
    fourth = 3 * variance**2 * (2 * alpha + 1) / (2 * alpha + 3)
    assert shares.var() == pytest.approx(variance, abs=4 * np.sqrt((fourth - variance**2) / 4000))
    assert 0 <= shares.min() <= shares.max() <= 1


def test_mixup_mixes_with_a_partner_of_the_batch(pictures):
    images, partner, share = mixed(pictures, scalars(mixup_alpha=1), keys_at())
    before = np.asarray(pictures, np.float64)
    expected = float(share) * before + (1 - float(share)) * before[np.asarray(partner)]
    np.testing.assert_allclose(images, expected, rtol=1e-5)
    assert sorted(np.asarray(partner).tolist()) == list(range(600))
    assert 0.001 < share < 0.999
    assert not (np.asarray(partner) == np.arange(600)).all()


@pytest.mark.parametrize("step", range(4))
def test_cutmix_pastes_a_box_and_counts_its_area(pictures, step):
    images, partner, share = (np.asarray(part) for part in mixed(pictures, scalars(cutmix_alpha=1), keys_at(step)))
    before = np.asarray(pictures)
    own, others = (images == before).all(-1), (images == before[partner]).all(-1)
    moving = partner != np.arange(600)
    assert (own | others).all()
    box = others[moving].all(0)
    assert (own[moving] == ~box).all()  # one box for the whole batch
    assert share == pytest.approx(1 - box.mean())
    rows, columns = box.any(1), box.any(0)
    assert (box == rows[:, None] & columns[None, :]).all()
    for side in (rows, columns):
        assert np.count_nonzero(np.diff(side.astype(int))) <= 2  # in one piece


def test_the_area_of_cutmix_is_one_minus_lambda_where_no_edge_cuts_it():
    outside = jax.jit(lambda share, key: augmentation._outside_a_box(share, 40, 60, key))
    for share in (0.0, 0.19, 0.75, 1.0):
        side = np.sqrt(1 - share)
        areas = [2400 - np.asarray(outside(jnp.float32(share), jax.random.key(seed))).sum() for seed in range(100)]
        assert max(areas) <= np.floor(40 * side + 1e-4) * np.floor(60 * side + 1e-4)
        if side < 0.6:  # else a box that no edge cuts is rare
            assert max(areas) == np.floor(40 * side) * np.floor(60 * side)


@pytest.mark.slow
def test_a_coin_chooses_between_mixup_and_cutmix(pictures):
    few, counts = pictures[:8], {"mixup_alpha": 0, "cutmix_alpha": 0}
    both, none = scalars(mixup_alpha=0.7, cutmix_alpha=1.3), scalars(mixup_alpha=0, cutmix_alpha=0)
    for step in range(200):
        keys = keys_at(step)
        share = float(mixed(few, both, keys)[2])
        separate = {name: float(mixed(few, none | {name: both[name]}, keys)[2]) for name in counts}
        (chosen,) = [name for name, value in separate.items() if value == share]
        counts[chosen] += 1
    assert abs(counts["mixup_alpha"] - 100) < 4 * np.sqrt(50)


def test_every_value_off_changes_nothing(pictures):
    batch = Batch(pictures, jnp.arange(600), jnp.ones(600))
    same, mixture = changed(batch, scalars(**OFF), keys_at())
    np.testing.assert_array_equal(same.inputs, pictures)
    assert mixture is not None
    assert mixture.share == 1


def test_it_lowers_for_every_platform(pictures):
    arguments = (Batch(pictures, jnp.arange(600), jnp.ones(600)), scalars(**OFF), keys_at())
    assert lowered(jax.jit(augmentation.augment), *arguments).platforms == PLATFORMS


def test_a_mechanism_more_disturbs_no_other(pictures):
    """The crop is the same with and without a flip beside it, and so on: each draws from a stream of its own."""
    batch, keys = Batch(pictures, jnp.arange(600), jnp.ones(600)), keys_at(4)
    assert len({tuple(jax.random.key_data(key).tolist()) for key in keys.values()}) == 5
    mirrored = batch._replace(inputs=pictures[:, :, ::-1])
    alone, _ = changed(mirrored, scalars(crop_padding=2), {"crop": keys["crop"]})
    together, _ = changed(batch, scalars(**OFF | {"crop_padding": 2, "flip_probability": 1}), keys)
    np.testing.assert_array_equal(together.inputs, alone.inputs)
    assert set(augmentation.keys(randomness.root(0), {"crop_padding": 1}, 0)) == {"crop"}
    again = augmentation.keys(randomness.root(0), {"crop_padding": 1}, 4)["crop"]
    assert jax.random.key_data(again).tolist() == jax.random.key_data(keys["crop"]).tolist()


def traced(config):
    values: dict = {}
    for path in traced_paths([config]):
        section, _, name = path.partition(".")
        values.setdefault(section, {})[name] = jnp.float32(dict(leaves(config))[path].value)
    return values


@pytest.mark.slow
def test_the_loss_of_a_mixed_batch_is_mixed(base, images):
    """Against the objective on the mixed images with soft targets: cross-entropy is linear in the targets."""
    config = replace(base, {"augmentation.mixup_alpha": 0.8})
    step, values = make_step(config, images.shapes, images.objective), traced(config)
    batch = images.sampler.gather(jax.tree.map(jnp.asarray, dict(images.train.arrays)), jnp.arange(8))
    state = jax.jit(step.init)(jnp.uint32(0), values, batch)
    keys = augmentation.keys(randomness.root(0), values["augmentation"], 0)
    after = jax.jit(step.train)(state, values, batch, keys, jnp.int32(0))
    inputs, partner, share = mixed(batch.inputs, values["augmentation"], keys)

    measure = jax.jit(make_step(base, images.shapes, images.objective).measure)
    own = np.eye(3)[np.asarray(batch.targets)]
    soft = float(share) * own + (1 - float(share)) * own[np.asarray(partner)]
    losses = []
    for label in range(3):  # the loss if every target were this one, item by item
        for row in range(8):
            targets, weights = jnp.full(8, label, jnp.int32), jnp.arange(8) == row
            one = batch._replace(inputs=inputs, targets=targets, weights=weights.astype(jnp.float32))
            losses.append(float(measure(state, traced(base), one)["loss"]) * soft[row, label])
    assert after.loss_sum == pytest.approx(sum(losses) / 8, rel=1e-5)


def test_an_evaluation_is_not_augmented(base, images):
    config = replace(base, ALL_ON)
    step, plain = (make_step(each, images.shapes, images.objective) for each in (config, base))
    batch = images.sampler.gather(jax.tree.map(jnp.asarray, dict(images.train.arrays)), jnp.arange(8))
    state = jax.jit(plain.init)(jnp.uint32(0), traced(base), batch)
    with_it, without = (jax.jit(each.measure)(state, traced(base), batch) for each in (step, plain))
    jax.tree.map(np.testing.assert_array_equal, with_it, without)


def test_a_program_without_augmentation_is_unchanged(base, images, monkeypatch):
    """No trace of it is left: the same program as where the functions do not exist."""
    trial = Trial(arm="a", seed=0, config=base)

    def lowered():
        population = Population([trial], traced_paths([base]), images)
        states = population.init()
        function = population._over_lanes(population._lane.advance_sequential)
        shared = (population.splits.resident["train"], np.int32(0), np.int32(3))
        return str(jax.make_jaxpr(function)(states, (population.lanes,), shared))

    ordinary = lowered()
    for name in ("augment", "crop", "flip", "cutout", "mix"):
        monkeypatch.delattr(augmentation, name)
    monkeypatch.setattr(augmentation, "keys", lambda *_: {})
    monkeypatch.setattr(augmentation, "loss", lambda loss, outputs, batch, _, **more: loss(outputs, batch, **more))
    assert lowered() == ordinary


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["sequential", "vectorised"])
def test_a_lane_is_a_solo_run_and_resumes_with_augmentation_on(strategy, make_trials, images):
    """One program for lanes of all strengths, off among them; cut anywhere, it gives the same bits."""
    arms = ({}, ALL_ON, {"augmentation.crop_padding": 1, "augmentation.mixup_alpha": 1.0})
    trials = make_trials(*arms, execution__strategy=strategy, execution__spread=False)
    assert len(group(trials)) == 1
    ((_, paths),) = study_traced_paths(trials).items()
    assert set(ALL_ON) <= set(paths)
    population = Population(trials, paths, images)
    whole = jax.device_get(population.advance(population.init(), 0, 12)[0])
    states = population.init()
    for start, stop in ((0, 1), (1, 7), (7, 12)):
        states, _ = population.advance(states, start, stop)
    for one, other in zip(jax.tree.leaves(whole.params), jax.tree.leaves(jax.device_get(states.params)), strict=True):
        assert one.tobytes() == other.tobytes()
    for number in (2,) if strategy == "sequential" else (0, 1, 2):  # alone, what is off is not in the program at all
        trial = trials[number]
        own = Population([trial], traced_paths([trial.config]), images)
        solo = jax.device_get(own.advance(own.init(), 0, 12)[0])
        ours, theirs = (jax.tree.leaves(states.params) for states in (whole, solo))
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(one[number], other[0], rtol=2e-5, atol=2e-6)
    kernels = whole.params["logits"]["kernel"]
    assert not np.allclose(kernels[0], kernels[1])
    assert not np.allclose(kernels[0], kernels[2])


def test_augmentation_of_what_are_no_images_is_bad_input(base, text, sentences, images, make_trials):
    for task in (text, sentences):
        config = replace(base, {"augmentation.flip_probability": 0.5, "data.name": "tinyshakespeare"})
        with pytest.raises(BadInput, match=r"augmentation\.flip_probability=0\.5 acts on images .*leave it 0\.0"):
            make_step(config, task.shapes, task.objective)
    for field, value, most in (("crop_padding", 8, 7), ("cutout_size", 9, 8)):
        config = replace(base, {f"augmentation.{field}": value})
        with pytest.raises(BadInput, match=f"{field}={value} must be at most {most} with images of 8 x 8"):
            make_step(config, images.shapes, images.objective)
    trials = make_trials({}, {"augmentation.cutout_size": 9})
    with pytest.raises(BadInput, match="cutout_size=9"):
        Population(trials, ("augmentation.cutout_size",), images)


@pytest.mark.parametrize(
    "wrong", [{"crop_padding": 1.5}, {"crop_padding": -1}, {"flip_probability": 1.5}, {"mixup_alpha": -0.1}]
)
def test_strengths_out_of_range_are_bad_input(wrong, base):
    with pytest.raises(BadInput, match=next(iter(wrong))):
        replace(base, {f"augmentation.{name}": value for name, value in wrong.items()})
