"""False positives on real training: an arm against itself under other seeds.

    python -m tests.benchmarks.same_again
    python -m tests.benchmarks.same_again --comparisons=100 --pairs=8 --steps=60

Run it from the root of the repository. One study, as the product runs it: the MLP of ``architectures`` on the embedded
digits at two learning rates, with so many seeds that each arm can be cut into disjoint groups. Each group is then
compared with the next of the same arm by ``experiments.comparisons.compare``, as if they were two arms of a study.
Nothing differs but the seeds, so every arm called better or worse is a false positive; chance allows at most 5%.
"""

import argparse
import contextlib
import io
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from experiments import plan, runner
from experiments.comparisons import Comparison, compare
from experiments.study import Study
from train.config import replace

RATES = (5e-3, 1e-2)


def declare(seeds: int, steps: int) -> Study:
    """Two arms that share one compiled program."""
    given = plan.load("architectures", "cpu")
    changes = {
        "training.steps": steps,
        "training.evaluate_every": steps,
        "schedule.warmup_steps": steps // 10,
        "optimizer.learning_rate": RATES[0],
    }
    return Study(
        name="same_again",
        preset="cpu",
        about=given.about,
        baseline_name=f"rate_{RATES[0]}",
        baseline=replace(given.baseline, changes),
        arms={f"rate_{rate}": {"optimizer.learning_rate": rate} for rate in RATES[1:]},
        seeds=seeds,
        metric=given.metric,
        claims=(),
    )


def train(study: Study, workdir: Path) -> pd.DataFrame:
    """Run the study and read its trials."""
    runner.load = lambda *_: study
    with contextlib.redirect_stdout(io.StringIO()):
        return runner.run(study.name, workdir=workdir).trials


def against_itself(study: Study, trials: pd.DataFrame, pairs: int) -> list[Comparison]:
    """Every group of seeds against the next one of the same arm."""
    pair = Study(
        name=study.name,
        preset=study.preset,
        about=study.about,
        baseline_name="once",
        baseline=study.baseline,
        arms={"again": {"optimizer.learning_rate": RATES[0]}},
        seeds=pairs,
        metric=study.metric,
        claims=(),
    )
    found = []
    for _, rows in trials.groupby("arm", sort=False):
        rows = rows.sort_values("seed").reset_index(drop=True)
        for start in range(0, len(rows) - 2 * pairs + 1, 2 * pairs):
            groups = rows.iloc[start : start + 2 * pairs].copy()
            groups["arm"] = ["once"] * pairs + ["again"] * pairs
            groups["seed"] = [*range(pairs)] * 2
            found.append(compare(pair, groups).between("again", "once"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comparisons", type=int, default=60)
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--steps", type=int, default=100)
    options = parser.parse_args()
    seeds = -(-options.comparisons // len(RATES)) * 2 * options.pairs
    study = declare(seeds, options.steps)
    with tempfile.TemporaryDirectory(prefix="paribus-same-again-") as place:
        trials = train(study, Path(place))
    for arm, rows in trials.groupby("arm", sort=False):
        accuracy = 100 * rows[study.metric.column]
        print(f"{arm}: {len(rows)} trials, {study.metric.label} {accuracy.mean():.2f} ± {accuracy.std():.2f}%")
    found = against_itself(study, trials, options.pairs)
    false = sum(item.better or item.worse for item in found)
    covered = np.mean([item.difference.interval.low <= 0 <= item.difference.interval.high for item in found])
    halves = np.mean([item.superiority.interval.low <= 0.5 <= item.superiority.interval.high for item in found])
    print(f"{len(found)} comparisons of an arm with itself, {options.pairs} pairs each: {false} called better or worse")
    print(f"chance of so many or more at 5%: {stats.binom.sf(false - 1, len(found), 0.05):.3f}")
    print(f"the interval of the difference holds zero in {100 * covered:.1f}%, that of P(better) one half in", end=" ")
    print(f"{100 * halves:.1f}%; smallest p-value {min(item.p_value for item in found):.3f}")


if __name__ == "__main__":
    main()
