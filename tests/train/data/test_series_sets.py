"""The published series: their splits, and naive forecasts whose errors are published; a file of one's own."""

import datetime
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.base import BadInput
from train import untrained
from train.data import competitions, csv_series, electricity, ett, m1, m3, tourism
from train.data.task import FinalEvaluation


def batches(task, arrays, indices):
    return jax.device_get(jax.jit(task.sampler.gather)(dict(arrays), jnp.asarray(indices, jnp.int32)))


def measured(task):
    arrays = task.test.open(FinalEvaluation())
    return {name: untrained.measure(task, predict, arrays, 500) for name, predict in task.untrained.items()}


def test_ett_naive_is_that_of_zeng_et_al(shared_data):
    """Their table 2 has "Repeat": MSE 1.295, MAE 0.713 (they drop the windows that fill no batch of 32)."""
    task = ett.load(ett.Config(), shared_data)
    assert task.shapes.inputs == (96, 7)
    assert task.shapes.outputs == 96 * 7
    assert [task.facts[f"{split}_examples"] for split in ("train", "validation", "test")] == [8449, 2785, 2785]
    found = measured(task)["naive"]
    assert found["mse"] == pytest.approx(1.295, abs=2e-3)
    assert found["mae"] == pytest.approx(0.713, abs=1e-3)


def test_ett_is_standardised_by_its_first_12_months(shared_data):
    task = ett.load(ett.Config(), shared_data)
    table = np.genfromtxt(shared_data / "ett/ETTh1.csv", delimiter=",", skip_header=1)[:, 1:]
    train = table[: 12 * 30 * 24]
    np.testing.assert_allclose(task.train.arrays["location"][0], train.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(task.train.arrays["scale"][0], train.std(axis=0), rtol=1e-6)
    first = batches(task, task.test.open(FinalEvaluation()), [0])
    start = 16 * 30 * 24
    expected = (table[start - 96 : start] - train.mean(axis=0)) / train.std(axis=0)
    np.testing.assert_allclose(first.inputs[0], expected, atol=1e-5)


def test_other_ett_files_are_placed_by_hand_and_checked(tmp_path, shared_data):
    with pytest.raises(BadInput, match=r"ETTm2\.csv is not there: get it from https://.*ETTm2\.csv, place it in"):
        ett.load(ett.Config(series="ETTm2"), tmp_path)
    (tmp_path / "ett").mkdir()
    content = (shared_data / "ett/ETTh1.csv").read_bytes()
    (tmp_path / "ett/ETTh2.csv").write_bytes(content)  # of the right form
    assert ett.load(ett.Config(series="ETTh2"), tmp_path).facts["series_name"] == "ETTh2"
    (tmp_path / "ett/ETTh2.csv").write_bytes(b"\n".join(content.splitlines()[:100]))
    with pytest.raises(BadInput, match=r"expected 17,420 rows of HUFL, .* found 99"):
        ett.load(ett.Config(series="ETTh2"), tmp_path)


@pytest.mark.slow
def test_ett_by_quarters_of_an_hour_is_split_at_the_same_months(tmp_path):
    """The form of ETTm1 and ETTm2: 69,680 rows, of which 20 months of 30 days are used; the same splits in time."""
    (tmp_path / "ett").mkdir()
    start, quarter = datetime.datetime(2016, 7, 1), datetime.timedelta(minutes=15)
    lines = [f"{start + row * quarter},{row},{row % 96},2,{-row},4,{row % 7},6\n" for row in range(69_680)]
    for series, rows in (("ETTm1", lines), ("ETTm2", lines[:-1])):
        (tmp_path / f"ett/{series}.csv").write_text("date,HUFL,HULL,MUFL,MULL,LUFL,LULL,OT\n" + "".join(rows))
    task = ett.load(ett.Config(series="ETTm1"), tmp_path)
    month = 30 * 96
    assert [task.facts[f"{split}_rows"] for split in ("train", "validation", "test")] == [
        12 * month,
        4 * month,
        4 * month,
    ]
    assert task.facts["season"] == 96
    assert task.train.arrays["location"][0, 0] == pytest.approx((12 * month - 1) / 2)
    assert [task.facts[f"{split}_examples"] for split in ("validation", "test")] == [4 * month - 95] * 2
    first = batches(task, task.test.open(FinalEvaluation()), [0]).targets
    assert first.values[0, 0] * first.scale[0, 0] + first.location[0, 0] == pytest.approx(16 * month, abs=0.1)
    with pytest.raises(BadInput, match=r"ETTm2\.csv is not the published file: expected 69,680 rows .* found 69,679"):
        ett.load(ett.Config(series="ETTm2"), tmp_path)


def test_the_naive_forecast_of_m3_is_the_published_one():
    """Makridakis and Hibon 2000: sMAPE 17.88 over the horizons 1 to 6 of the yearly series."""
    assert measured(m3.load(m3.Config(period="yearly"), None))["naive"]["smape"] == pytest.approx(17.88, abs=5e-3)


@pytest.mark.parametrize(
    ("period", "name", "published"),
    [("yearly", "naive", 23.61), ("quarterly", "seasonal naive", 16.46), ("monthly", "seasonal naive", 22.56)],
)
def test_naive_forecasts_of_tourism_are_the_published_ones(period, name, published):
    """Athanasopoulos et al. 2011: the mean absolute percentage error, in the series' own units."""
    task = tourism.load(tourism.Config(period=period), None)
    arrays = dict(task.test.open(FinalEvaluation()))
    positions = jnp.arange(task.facts["series"], dtype=jnp.int32)
    targets = batches(task, arrays, positions).targets
    forecasts = np.asarray(task.untrained[name](arrays, positions))
    errors = np.abs(forecasts - targets.values) * targets.scale
    actual = targets.values.astype(np.float64) * targets.scale + targets.location
    assert 100 * np.mean(errors / np.abs(actual)) == pytest.approx(published, abs=5e-3)


@pytest.mark.slow
@pytest.mark.parametrize("module", [m1, m3, tourism])
def test_competitions_have_their_published_horizons(module):
    horizons = {m1: [6, 8, 18], m3: [6, 8, 18, 8], tourism: [4, 8, 24]}[module]
    assert [period.horizon for period in module.PERIODS.values()] == horizons
    for name, period in module.PERIODS.items():
        task = module.load(module.Config(period=name), None)
        assert task.facts["series"] == task.facts["test_examples"] == period.series
        assert task.shapes.inputs == (2 * period.horizon, 1)


def test_electricity_repeats_itself_weekly():
    task = electricity.load(electricity.Config(), None)
    found = measured(task)
    assert found["seasonal naive"]["smape"] < 2 < 15 < found["naive"]["smape"]
    assert task.facts["train_examples"] == 8 * 336 - 336 - 48 + 1


def test_a_broken_package_is_one_line(tmp_path, monkeypatch):
    package = tmp_path / "broken_competitions"
    (package / "data").mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    entry = {"sn": ["N1"], "x": [1.0, 2.0, 4.0] * 9, "xx": [1.0] * 6, "period": ["YEARLY"]}
    period = competitions.Period("YEARLY", 2, 6, 1)
    file = competitions.packaged("c.json", urls=("https://example.org",), sha256="00", size=1)
    file = type(file)(**{**vars(file), "package": "broken_competitions"})
    for content, words in [
        ("{", "cannot be understood"),
        ("[1]", "cannot be understood"),
        (json.dumps({"1": {**entry, "x": "ten"}}), "cannot be understood"),
        (json.dumps({"1": entry}), "expected 2 series of period YEARLY with 6 values to forecast, found 1"),
        (json.dumps({"1": entry, "2": {**entry, "xx": [1.0]}}), "found 2, of which 1 have others"),
    ]:
        (package / "data/c.json").write_text(content)
        with pytest.raises(BadInput, match=words) as error:
            competitions.competition("made", file, m3.Config(), period)
        assert "\n" not in str(error.value)


# Files of one's own --------------------------------------------------------------------------------------------


def hours(count):
    return np.datetime64("2020-01-01T00:00") + np.arange(count) * np.timedelta64(1, "h")


def write_csv(path, rows=200, dates=None):
    dates = hours(rows) if dates is None else dates
    lines = [f"{str(date).replace('T', ' ')},{i % 24},{0.5 * i}" for i, date in enumerate(dates)]
    path.write_text("\n".join(["date,load,price", *lines]) + "\n")
    return path


def test_a_file_of_ones_own(tmp_path):
    write_csv(tmp_path / "own.csv")
    task = csv_series.load(csv_series.Config(path="own.csv", horizon=5, context=24), tmp_path)
    assert (task.facts["season"], task.facts["step"], task.facts["columns"]) == (24, "1 hour", "load, price")
    assert [task.facts[f"{split}_rows"] for split in ("train", "validation", "test")] == [140, 20, 40]
    table = np.stack([np.arange(200) % 24, 0.5 * np.arange(200)], axis=1)
    batch = batches(task, task.test.open(FinalEvaluation()), [0])
    values = batch.targets.values[0] * batch.targets.scale[0] + batch.targets.location[0]
    np.testing.assert_allclose(values.reshape(5, 2), table[160:165], rtol=1e-5, atol=1e-4)
    one = csv_series.load(csv_series.Config(path=str(tmp_path / "own.csv"), columns=("price",), horizon=5), None)
    assert one.shapes.inputs == (10, 1)
    assert measured(task)["seasonal naive"]["mse"] < measured(task)["naive"]["mse"]
    with pytest.raises(BadInput, match=r"give --config\.data\.path"):
        csv_series.load(csv_series.Config(), tmp_path)
    with pytest.raises(BadInput, match="their sum must be less than 1"):
        csv_series.Config(validation_share=0.5, test_share=0.5)
