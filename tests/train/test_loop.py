"""The loop: what it records, and that a run which was stopped anywhere ends as if it never had been."""

import dataclasses
import json
import math

import jax
import pytest

from train import loop
from train.checkpoints import Checkpoints
from train.choosing import Choosing
from train.config import digest, from_dict, traced_paths, values
from train.cost import cost
from train.data.task import FinalEvaluation, Test
from train.folder import Files
from train.loop import Watch, run_population
from train.population import Population
from train.rows import crashed_rows
from train.signals import Interrupted

# See test_checkpoints.py: TensorStore's threads outlive the reading of a damaged checkpoint.
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in. None:pytest.PytestUnraisableExceptionWarning")

STEPS = 12
EVALUATED = [0, 5, 10, 12]
PROGRAMS: dict[tuple[str, int], dict] = {}


class Crash(Exception):
    """Stands for whatever ends a process without a warning."""


def populate(trials, task):
    """Two lanes that learn and one that diverges, on two devices; compiled once for all the tests."""
    population = Population(trials, traced_paths([trial.config for trial in trials]), task)
    population._programs = PROGRAMS.setdefault((digest(population.config), len(trials)), {})
    return population


@pytest.fixture
def trials(make_trials):
    arms = ({"optimizer.learning_rate": 0.1}, {"optimizer.learning_rate": 0.1}, {"optimizer.learning_rate": 1e25})
    return make_trials(*arms, model__dropout_rate=0.2, execution__strategy="sequential")


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch):
    """The first dispatch has four steps, every other one; so a test knows where it stops the run."""
    monkeypatch.setattr(loop, "CHUNK_SECONDS", 0.0)


def run(folder, trials, task, *, stop_after=math.inf, crash_after=math.inf):
    """Train; a stop is asked for after so many dispatches, or the process dies after so many trial-steps."""
    asked, done = [], []

    def interrupted():
        asked.append(1)
        return len(asked) >= stop_after

    def progress(steps):
        done.append(steps)
        if sum(done) >= crash_after:
            raise Crash

    folder.mkdir(exist_ok=True)
    files = Files(folder, trials, [task])
    seconds = run_population(populate(trials, task), files, Watch(progress, interrupted))
    return seconds, sum(done)


def outcome(folder, trials, task):
    """All that a run leaves behind, but for times."""
    files, population = Files(folder, trials, [task]), populate(trials, task)
    checkpoints = Checkpoints(files.checkpoints(population))
    restored = checkpoints.restore(population.init())
    checkpoints.close()
    assert restored.step == STEPS
    arrays = [leaf.tobytes() for leaf in jax.tree.leaves(restored.states)]
    curves = [{**row, "seconds": ""} for row in files.curves.rows()]
    finals = [{**row, "train_seconds": ""} for row in files.trials.rows()]
    return arrays, curves, finals


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, make_trials, images):
    folder = tmp_path_factory.mktemp("uninterrupted")
    arms = ({"optimizer.learning_rate": 0.1}, {"optimizer.learning_rate": 0.1}, {"optimizer.learning_rate": 1e25})
    trials = make_trials(*arms, model__dropout_rate=0.2, execution__strategy="sequential")
    seconds, done = run(folder, trials, images)
    assert seconds.pop("input") == 0  # the data lie on the devices
    assert set(seconds) == {"compile", "step", "evaluate", "checkpoint", "ideal"}
    assert 0 < seconds["ideal"] <= 1.001 * seconds["step"]
    assert all(value > 0 for value in seconds.values())
    assert done == STEPS * len(trials)
    return folder


def test_a_row_for_every_trial_and_evaluation(uninterrupted, trials, images):
    rows = Files(uninterrupted, trials, [images]).curves.rows()
    for trial in trials[:2]:
        mine = [row for row in rows if row["trial"] == trial.id]
        assert [int(row["step"]) for row in mine] == EVALUATED
        assert [row["train_loss"] == "" for row in mine] == [True, False, False, False]
        times = [float(row["seconds"]) for row in mine]
        assert times == sorted(times)
        assert {(row["arm"], row["seed"]) for row in mine} == {(trial.arm, str(trial.seed))}
    assert [int(row["step"]) for row in rows if row["trial"] == trials[2].id] == [0]  # diverged before step 5


def test_losses_and_metrics_are_those_of_the_states(uninterrupted, trials, images):
    population = populate(trials, images)
    rows = Files(uninterrupted, trials, [images]).curves.rows()
    mine = [row for row in rows if row["trial"] == trials[0].id]
    states, arrays = population.init(), images.validation.arrays
    batch = images.sampler.evaluation_batch(arrays, jax.numpy.arange(11))
    for row, start, stop in zip(mine, [0, *EVALUATED], EVALUATED, strict=False):
        states, _ = population.advance(states, start, stop)
        state = jax.tree.map(lambda leaf: leaf[0], jax.device_get(states))
        sums = jax.device_get(jax.jit(population.step.measure)(state, {}, batch))
        for name, value in population.task.objective.finish(sums).items():
            assert float(row[f"validation_{name}"]) == pytest.approx(value, rel=1e-5)
        if stop:
            assert float(row["train_loss"]) == pytest.approx(state.loss_sum / (stop - start), rel=1e-6)


def test_a_row_for_every_trial(uninterrupted, trials, images):
    files = Files(uninterrupted, trials, [images])
    rows = files.trials.rows()
    assert [row["trial"] for row in rows] == [trial.id for trial in trials]
    assert files.finished() == {(trial.id, digest(trial.config)) for trial in trials}
    spent = cost(trials[0].config, images)
    for row, trial in zip(rows, trials, strict=True):
        assert from_dict(json.loads(row["config"])) == trial.config
        assert row["config_hash"] == digest(trial.config)
        assert {path: row[path] for path in values(trial.config)} == {
            path: "" if value is None else str(value) for path, value in values(trial.config).items()
        }
        assert (int(row["parameters"]), float(row["flops_per_step"])) == (spent.parameters, spent.flops_per_step)
        assert int(row["steps"]) == STEPS
        assert float(row["train_seconds"]) > 0
        assert (row["strategy"], row["data_train_size"], row["error"]) == ("sequential x 2 devices", "23", "")
        assert row["jax"] == jax.__version__
    for row in rows[:2]:
        assert (row["status"], row["diverged_step"]) == ("ok", "")
        assert 0 <= float(row["test_accuracy"]) <= 1
        assert float(row["test_loss"]) > 0
    curves = {row["trial"]: row for row in files.curves.rows()}  # the last of each
    assert float(curves[trials[0].id]["validation_loss"]) == float(rows[0]["validation_loss"])
    assert [rows[0][name] for name in ("test_loss", "test_accuracy")] == [
        rows[1][name] for name in ("test_loss", "test_accuracy")
    ]  # the same arm under two names


@pytest.mark.slow
def test_the_final_weights_are_not_evaluated_twice(tmp_path, trials, images, monkeypatch):
    """What resumes after the last step evaluates anew, and finds the same."""
    evaluated, real = [], Population.evaluate

    def evaluate(self, states, split, *args, **options):
        evaluated.append(split)
        return real(self, states, split, *args, **options)

    monkeypatch.setattr(Population, "evaluate", evaluate)
    run(tmp_path, trials[:2], images)
    assert evaluated == [*["validation"] * len(EVALUATED), "test"]
    first = outcome(tmp_path, trials[:2], images)
    Files(tmp_path, trials[:2], [images]).trials.keep(lambda row: False)
    run(tmp_path, trials[:2], images)
    assert evaluated[len(EVALUATED) + 1 :] == ["validation", "test"]
    assert outcome(tmp_path, trials[:2], images) == first


def test_a_diverged_trial_stays_in_the_table_without_metrics(uninterrupted, trials, images):
    row = Files(uninterrupted, trials, [images]).trials.rows()[2]
    assert row["status"] == "diverged"
    assert 0 < int(row["diverged_step"]) < 5
    assert [row[f"{split}_{name}"] for split in ("validation", "test") for name in ("loss", "accuracy")] == [""] * 4


@pytest.mark.parametrize("stop_after", [1, 2, 3, 6, 9])
def test_an_interrupted_run_goes_on_as_if_it_never_stopped(stop_after, uninterrupted, tmp_path, trials, images):
    """Dispatches end at steps 4, 5 (an evaluation), 6, 7, ... 12 (the end)."""
    closed = dataclasses.replace(images, test=Test(images.test.open(FinalEvaluation())))
    closed.test.open = None  # nothing but the final evaluation reads it
    with pytest.raises(Interrupted):
        run(tmp_path, trials, closed, stop_after=stop_after)
    step = stop_after + 3
    files = Files(tmp_path, trials, [images])
    assert [path.name for path in files.checkpoints(populate(trials, images)).glob("[0-9]*")] == [str(step)]
    assert files.finished() == set()
    recorded = {int(row["step"]) for row in files.curves.rows()}
    assert recorded == {evaluated for evaluated in EVALUATED if evaluated <= step}
    _, done = run(tmp_path, trials, images)
    assert done == STEPS * len(trials)  # what was done before counts as done
    assert outcome(tmp_path, trials, images) == outcome(uninterrupted, trials, images)


def test_stopping_again_and_again_changes_nothing(uninterrupted, tmp_path, trials, images):
    for _ in range(2):
        with pytest.raises(Interrupted):
            run(tmp_path, trials, images, stop_after=1)
    run(tmp_path, trials, images)
    assert outcome(tmp_path, trials, images) == outcome(uninterrupted, trials, images)


@pytest.mark.parametrize("crash_after", [3, 15, 24, 33])
def test_a_run_that_died_goes_on_from_its_last_checkpoint(crash_after, uninterrupted, tmp_path, trials, images):
    """Checkpoints after every dispatch; the rows beyond the newest whole one are made again."""
    eager = [_with(trial, "checkpoint_seconds", 0.0) for trial in trials]
    with pytest.raises(Crash):
        run(tmp_path, eager, images, crash_after=crash_after)
    files = Files(tmp_path, eager, [images])
    with files.curves.path.open("a") as file:
        file.write("arm0-s0,arm0,0,9")  # torn
    steps = sorted(files.checkpoints(populate(eager, images)).glob("[0-9]*"), key=lambda path: int(path.name))
    for path in [path for path in steps[-1].rglob("*") if path.is_file()] if len(steps) > 1 else []:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    run(tmp_path, eager, images)
    expected = outcome(uninterrupted, trials, images)
    arrays, curves, finals = outcome(tmp_path, eager, images)
    assert arrays == expected[0]
    for ours, theirs in [(curves, expected[1]), (finals, expected[2])]:
        given = ("config", "execution.checkpoint_seconds")
        assert [_without(row, given) for row in ours] == [_without(row, given) for row in theirs]


def _with(trial, name, value):
    execution = dataclasses.replace(trial.config.execution, **{name: value})
    return dataclasses.replace(trial, config=dataclasses.replace(trial.config, execution=execution))


def _without(row, names):
    return {name: value for name, value in row.items() if name not in names}


def test_a_finished_run_is_not_trained_again(uninterrupted, tmp_path, trials, images):
    """Death between the last checkpoint and the rows of the trials: only the final evaluation is made."""
    run(tmp_path, trials, images)
    Files(tmp_path, trials, [images]).trials.path.unlink()
    seconds, done = run(tmp_path, trials, images)
    assert (seconds["step"], done) == (0.0, STEPS * len(trials))
    assert outcome(tmp_path, trials, images) == outcome(uninterrupted, trials, images)


def test_tuning_trials_keep_no_last_checkpoint(tmp_path, make_trials, images):
    """Nobody wants their weights; those that count are kept at the last step."""
    (trial,) = make_trials({}, execution__checkpoint_seconds=1e6)
    steps = {}
    for tuning in (False, True):
        mine = [dataclasses.replace(trial, number=0 if tuning else None)]
        files = Files(tmp_path, mine, [images], tuning=tuning)
        population = populate(mine, images)
        judged = Choosing("validation_accuracy") if tuning else None
        run_population(population, files, Watch(lambda steps: None, lambda: False), choosing=judged)
        assert len(list(files.trials.rows())) == 1
        steps[tuning] = Checkpoints(files.checkpoints(population)).steps()
    assert steps == {False: [STEPS], True: []}


def test_other_populations_keep_their_rows(tmp_path, trials, images):
    files = Files(tmp_path, trials, [images])
    other = {"trial": "other-s0", "arm": "other", "seed": 0, "step": 11}
    files.curves.append([other])
    files.trials.put([{"trial": "other-s0", "status": "ok"}], key="trial")
    run(tmp_path, trials, images)
    assert files.curves.rows()[0]["trial"] == "other-s0"
    assert [row["trial"] for row in files.trials.rows()] == ["other-s0", *(trial.id for trial in trials)]


def test_parameters_that_break_in_the_last_step_are_diverged_too(tmp_path, make_trials, images):
    """The loss of the last step is finite, but what it leaves behind is not: the metrics show it."""
    trials = make_trials({"optimizer.learning_rate": 1e38, "optimizer.weight_decay": 1e3}, training__steps=1)
    run(tmp_path, trials, images)
    (row,) = Files(tmp_path, trials, [images]).trials.rows()
    assert (row["status"], row["diverged_step"], row["test_loss"]) == ("diverged", "1", "")


def test_crashed_trials_stay_in_the_table_and_are_run_again(tmp_path, trials, images):
    files = Files(tmp_path, trials, [images])
    files.trials.put(crashed_rows(trials, MemoryError("out of\nmemory  here")), key="trial")
    rows = files.trials.rows()
    assert [(row["trial"], row["status"], row["error"]) for row in rows] == [
        (trial.id, "crashed", "out of memory here") for trial in trials
    ]
    assert all(row["test_loss"] == row["diverged_step"] == "" for row in rows)
    assert files.finished() == set()
    assert crashed_rows(trials, ValueError())[0]["error"] == "ValueError"
    assert len(crashed_rows(trials, ValueError("x" * 9999))[0]["error"]) == 500
    run(tmp_path, trials, images)
    assert [row["status"] for row in files.trials.rows()] == ["ok", "ok", "diverged"]


def test_the_first_row_of_a_table_has_every_column_of_the_study(tmp_path, trials, images, text):
    columns = Files(tmp_path, trials, [images, text]).trials.columns
    assert columns[:4] == ("trial", "arm", "seed", "status")
    assert {"test_accuracy", "test_bits_per_character", "data_source", "data_train_size", "xla_flags"} <= set(columns)
    assert len(set(columns)) == len(columns)
    assert all(columns)
