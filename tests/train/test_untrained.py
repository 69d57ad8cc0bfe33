"""Predictions without training: measured with the models, recorded once, and only when training has ended."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest

from train import untrained
from train.config import digest, traced_paths
from train.folder import Files
from train.loop import Watch, run_population
from train.population import Population
from train.signals import Interrupted

CLASSES = 3


def most_frequent(arrays, positions):
    """Logits of the class that is most frequent in the split."""
    counts = jnp.bincount(arrays["targets"], length=CLASSES)
    return jnp.broadcast_to(jnp.log(counts / counts.sum()), (positions.shape[0], CLASSES))


@pytest.fixture
def task(images):
    return dataclasses.replace(images, untrained={"majority": most_frequent})


def run(folder, trials, task, *, interrupted=lambda: False):
    files = Files(folder, trials, [task])
    population = Population(trials, traced_paths([trial.config for trial in trials]), task)
    run_population(population, files, Watch(lambda _: None, interrupted))
    return files


def test_measured_on_every_item_once(task):
    for batch_size in (1, 4, 11, 50):
        found = untrained.measure(task, most_frequent, task.validation.arrays, batch_size)
        shares = np.bincount(task.validation.arrays["targets"], minlength=CLASSES) / 11
        assert found["accuracy"] == pytest.approx(shares.max())
        assert found["loss"] == pytest.approx(-np.sum(shares * np.log(shares)), rel=1e-6)


@pytest.mark.slow
def test_recorded_beside_the_trials_and_not_before_their_end(tmp_path, task, make_trials):
    trials = make_trials({}, {"optimizer.learning_rate": 0.2}, execution__strategy="sequential")
    with pytest.raises(Interrupted):
        run(tmp_path, trials, task, interrupted=lambda: True)
    assert not (tmp_path / "untrained.csv").exists()
    files = run(tmp_path, trials, task)
    (row,) = files.untrained.rows()
    assert row["name"] == "majority"
    assert row["data_hash"] == untrained.data_digest(trials[0].config)
    assert json.loads(row["data"])["name"] == "digits"
    for split in ("validation", "test"):
        assert 0 < float(row[f"{split}_accuracy"]) < 1
    assert {row["config_hash"] for row in files.trials.rows()} == {digest(trial.config) for trial in trials}
    run(tmp_path, make_trials({"optimizer.learning_rate": 0.3}, execution__strategy="sequential"), task)
    assert len(files.untrained.rows()) == 1  # the same data: the row takes the place of the old one


def test_no_file_where_there_is_nothing_to_say(tmp_path, images, make_trials):
    files = run(tmp_path, make_trials({}, execution__strategy="sequential"), images)
    assert not files.untrained.path.exists()


def test_the_digest_is_of_the_data_alone(make_trials):
    one, other = make_trials({"optimizer.learning_rate": 0.1}, {"data.train_examples": 100})
    (same,) = make_trials({"model.width": 9})
    assert (
        untrained.data_digest(one.config) == untrained.data_digest(same.config) != untrained.data_digest(other.config)
    )
