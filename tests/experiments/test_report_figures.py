"""The figures of a report: fronts, sensitivity, heat maps, curves."""

import itertools

import numpy as np
import pytest

from experiments.report import drawing, figures, optima, sensitivity, summarise
from experiments.report.fronts import fronts
from experiments.statistics.pareto import front
from experiments.study import Metric, SteadierOptimum


def dominated(costs, values, place):
    """Brute force: another arm is as cheap and as good, and better in one of the two."""
    others = [index for index in range(len(costs)) if index != place and np.isfinite(costs[index])]
    return any(
        costs[other] <= costs[place]
        and values[other] >= values[place]
        and (costs[other] < costs[place] or values[other] > values[place])
        for other in others
    )


@pytest.mark.parametrize("seed", range(20))
def test_the_front_is_that_of_brute_force(seed):
    generator = np.random.default_rng(seed)
    costs = generator.integers(1, 6, 8).astype(float)
    values = generator.integers(1, 6, 8).astype(float)
    costs[seed % 8] = np.nan
    expected = {place for place in range(8) if np.isfinite(costs[place]) and not dominated(costs, values, place)}
    assert set(front(costs, values, higher_is_better=True)) == expected
    assert set(front(costs, -values, higher_is_better=False)) == expected


def test_fronts_have_a_panel_for_each_cost(summary_of):
    with drawing.style():
        panels = fronts(summary_of()).axes
    assert [panel.get_xlabel() for panel in panels] == ["parameters", "FLOPs per step", "training (s)"]


@pytest.fixture
def grid(summary_of):
    settings = {
        f"lr {rate} width {width}": (rate, width) for rate, width in itertools.product((1e-4, 1e-2, 1.0), (8, 16))
    }
    settings["base"] = settings.pop("lr 0.01 width 8")

    def columns(trials):
        return {
            "optimizer.learning_rate": trials["arm"].map(lambda arm: settings[arm][0]),
            "model.width": trials["arm"].map(lambda arm: settings[arm][1]),
        }

    arms = {arm: {} for arm in settings if arm != "base"}
    effects = {arm: 0.5 + 0.01 * place for place, arm in enumerate(settings)}
    factors = ("optimizer.learning_rate", "model.width")
    return summary_of(arms=arms, baseline_name="base", claims=(), factors=factors, effects=effects, columns=columns)


def test_sensitivity_has_a_line_for_each_level_of_the_other_factor(grid):
    with drawing.style():
        panels = sensitivity.sensitivity(grid).axes
    assert [(panel.get_xlabel(), panel.get_xscale()) for panel in panels] == [
        ("optimizer.learning_rate", "log"),
        ("model.width", "linear"),
    ]
    lines = {line.get_label(): line for line in panels[0].lines if not line.get_label().startswith("_")}
    assert list(lines) == ["width 8", "width 16"]
    means = {row.arm: row.metric.mean for row in grid.rows}
    np.testing.assert_allclose(lines["width 8"].get_xdata(), [1e-4, 1e-2, 1.0])
    np.testing.assert_allclose(
        lines["width 8"].get_ydata(), [means["lr 0.0001 width 8"], means["base"], means["lr 1.0 width 8"]]
    )


@pytest.mark.parametrize(
    ("least", "percent", "scale"), [(1.0, False, "log"), (60.0, False, "linear"), (1.0, True, "linear")]
)
def test_a_metric_that_spans_decades_stands_on_a_logarithmic_axis(summary_of, least, percent, scale):
    sizes = {"base": 1, "s2": 10, "s3": 100}
    steps = Metric(column="steps", label="steps", curve="steps", higher_is_better=False, percent=percent)
    found = summary_of(
        arms={"s2": {}, "s3": {}},
        baseline_name="base",
        claims=(),
        metric=steps,
        factors=("training.batch_size",),
        columns=lambda trials: {
            "training.batch_size": trials["arm"].map(sizes),
            "steps": trials["arm"].map({"base": 500.0, "s2": 300.0, "s3": least}),
        },
    )
    with drawing.style():
        (panel,) = sensitivity.sensitivity(found).axes
    assert (panel.get_xscale(), panel.get_yscale()) == ("log", scale)


def test_a_full_grid_of_two_factors_has_a_heat_map(grid, summary_of):
    table = sensitivity.grid(grid)
    assert table.shape == (3, 2)
    assert table.loc[1e-2, 8] == pytest.approx(grid.rows[0].metric.mean)
    with drawing.style():
        texts = [text.get_text() for text in sensitivity.heat_map(grid).axes[0].texts]
    assert texts[0] == f"{table.iloc[0, 0] * 100:.2f}"
    assert len(texts) == 6
    assert sensitivity.grid(summary_of()) is None


def test_a_baseline_beside_the_grid_is_left_out(summary_of):
    settings = {f"{width} {name}": (width, name) for width in (8, 16) for name in ("adam", "sgd")}

    def columns(trials):
        places = {**settings, "base": (8, "adamw")}
        return {
            "model.width": trials["arm"].map(lambda arm: places[arm][0]),
            "optimizer.name": trials["arm"].map(lambda arm: places[arm][1]),
        }

    effects = {arm: 0.5 + 0.01 * place for place, arm in enumerate(["base", *settings])}
    options = {"baseline_name": "base", "claims": (), "factors": ("model.width", "optimizer.name")}
    found = summary_of(arms={arm: {} for arm in settings}, effects=effects, columns=columns, **options)
    table = sensitivity.grid(found)
    assert list(table.columns) == ["adam", "sgd"]
    assert table.shape == (2, 2)
    with drawing.style():
        labels = sensitivity.sensitivity(found).axes[0].get_legend_handles_labels()[1]
    assert labels == ["optimizer adam", "optimizer sgd"]


def moving_claim():
    """Arms and the claim; on logarithmic axes each condition is a parabola, whose highest point is known."""
    peaks = {"steady, 16": 1.0, "steady, 32": 1.1, "moving, 16": 1.0, "moving, 32": 1.5}
    levels = {name: tuple((f"{name}, {10**place}", 10.0**place) for place in range(3)) for name in peaks}
    effects = {
        arm: 0.9 - 0.1 * (np.log10(level) - peaks[name]) ** 2 for name, arms in levels.items() for arm, level in arms
    }
    steady, moving = (tuple(levels[f"{family}, {width}"] for width in (16, 32)) for family in ("steady", "moving"))
    claim = SteadierOptimum(statement="It moves less.", source="nobody", steady=steady, moving=moving)
    return peaks, effects, claim


def test_a_moving_optimum_has_a_panel_for_each_family_and_a_dotted_line_where_it_is_best(summary_of):
    peaks, effects, claim = moving_claim()
    first, *arms = effects
    summary = summary_of(
        arms={arm: {} for arm in arms}, baseline_name=first, claims=(claim,), effects=effects, noise=0.0
    )
    with drawing.style():
        panels = optima.best_levels(summary).axes
    assert [panel.get_xscale() for panel in panels] == ["log", "log"]
    for panel, family in zip(panels, ("steady", "moving"), strict=True):
        names = [line.get_label() for line in panel.lines if not line.get_label().startswith("_")]
        assert names == [f"{family}, 16", f"{family}, 32"]
        dotted = [line for line in panel.lines if line.get_linestyle() == ":" and len(set(line.get_xdata())) == 1]
        best = [np.log10(line.get_xdata()[0]) for line in dotted]
        np.testing.assert_allclose(best, [peaks[name] for name in names], atol=1e-9)


def test_a_moving_optimum_without_a_finished_seed_says_so(summary_of):
    _, effects, claim = moving_claim()
    first, *arms = effects
    lost = [("steady, 16, 1", seed, "diverged") for seed in range(8)]
    summary = summary_of(
        arms={arm: {} for arm in arms}, baseline_name=first, claims=(claim,), effects=effects, lost=lost
    )
    with drawing.style():
        panels = optima.best_levels(summary).axes
    assert [panel.texts[0].get_text() for panel in panels] == ["no seed finished in all arms"] * 2


def test_bands_of_accuracies_end_where_accuracies_do(make_study, make_records):
    study = make_study(claims=())
    trials, curves = make_records(study, effects=dict.fromkeys(("mlp", *study.arms), 0.999), noise=0.2)
    curves["validation_accuracy"] = curves["validation_accuracy"].clip(0, 1)
    with drawing.style():
        axes = figures.learning_curves(summarise(study, trials, command="", curves=curves), curves).axes[0]
    heights = np.concatenate([path.vertices[:, 1] for band in axes.collections for path in band.get_paths()])
    assert heights.min() >= 0
    assert heights.max() == 1
