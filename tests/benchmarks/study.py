"""A whole ablation, from launch to results: Paribus against a plain PyTorch script that is launched once a trial.

    python -m tests.benchmarks.study
    python -m tests.benchmarks.study --models=cnn --steps=600 --turns=3

Run it from the root of the repository, on a machine that does nothing else. It needs PyTorch (``pip install -e
.[reference]``).

32 trials, 4 learning rates x 8 seeds, 300 steps each, of each model of the study ``architectures``, on its embedded
digits, with its batches, optimizer and schedule. One side is one process of Paribus, with everything it does: records,
checkpoints, the statistics, table, figure and page. The other is ``tests/benchmarks/plain_torch.py``, 32 times, one
thread each, with as many at once as there are cores; it keeps a line a trial. Both evaluate on the validation split ten
times and on the test split in the end. They take turns. Paribus is measured with an empty cache of compiled programs
(cold) and with that of an earlier run (warm). The mean test accuracy of the best rate is shown, so that one sees that
both train.
"""

import argparse
import concurrent.futures
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

MODELS = ("mlp", "cnn", "lstm", "transformer")
RATES = (2e-3, 5e-3, 1e-2, 2e-2)
SEEDS = 8
ROOT = Path(__file__).parents[2]


def paribus(name: str, steps: int, workdir: str) -> None:
    """The ablation in this process."""
    from experiments import plan, runner
    from experiments.study import Study
    from train.config import replace

    def study(*_: str) -> Study:
        given = plan.load("architectures", "cpu")
        arm = {} if name == given.baseline_name else {**given.arms[name]}
        changes = {**arm, "training.steps": steps, "training.evaluate_every": max(1, steps // 10)}
        changes |= {"schedule.warmup_steps": steps // 10, "optimizer.learning_rate": RATES[0]}
        return Study(
            name="rates",
            preset="cpu",
            about=given.about,
            baseline_name=f"rate_{RATES[0]}",
            baseline=replace(given.baseline, changes),
            arms={f"rate_{rate}": {"optimizer.learning_rate": rate} for rate in RATES[1:]},
            seeds=SEEDS,
            metric=given.metric,
            claims=(),
        )

    runner.load = study
    runner.run("rates", workdir=workdir)


def of_paribus(name: str, steps: int, folder: Path, cache: Path) -> tuple[float, float, int]:
    """Seconds, the best rate's mean test accuracy in percent, and the number of parameters."""
    command = [sys.executable, "-m", "tests.benchmarks.study", f"--worker={name}", f"--steps={steps}"]
    environment = os.environ | {"XDG_CACHE_HOME": str(cache), "PYTHONWARNINGS": "ignore"}
    begin = time.perf_counter()
    subprocess.run([*command, f"--workdir={folder}"], check=True, cwd=ROOT, env=environment, capture_output=True)
    seconds = time.perf_counter() - begin
    trials = pd.read_csv(folder / "rates" / "trials.csv")
    assert len(trials) == len(RATES) * SEEDS
    assert set(trials["status"]) == {"ok"}
    return seconds, 100 * trials.groupby("arm")["test_accuracy"].mean().max(), int(trials["parameters"][0])


def of_torch(name: str, steps: int, folder: Path, data: Path) -> tuple[float, float, int]:
    """The same of the plain scripts."""
    folder.mkdir()
    script, begin = ROOT / "tests" / "benchmarks" / "plain_torch.py", time.perf_counter()

    def launch(rate: float, seed: int) -> None:
        words = [name, rate, seed, steps, data, folder / f"{rate}.jsonl"]
        subprocess.run([sys.executable, str(script), *map(str, words)], check=True)

    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for launched in [pool.submit(launch, rate, seed) for rate in RATES for seed in range(SEEDS)]:
            launched.result()
    seconds = time.perf_counter() - begin
    lines = {rate: [json.loads(line) for line in (folder / f"{rate}.jsonl").open()] for rate in RATES}
    assert all(len(found) == SEEDS for found in lines.values())
    best = max(statistics.mean(line["test"] for line in found) for found in lines.values())
    return seconds, 100 * best, lines[RATES[0]][0]["parameters"]


def write_data(path: Path) -> None:
    """The digits of the study as bytes, in the order of its splits."""
    from experiments import plan
    from train import data
    from train.data.task import FinalEvaluation

    task = data.load(plan.load("architectures", "cpu").baseline.data, None)
    splits = {
        "train": task.train.arrays,
        "validation": task.validation.arrays,
        "test": task.test.open(FinalEvaluation()),
    }
    arrays = {f"{split}_{name}": np.asarray(array) for split, part in splits.items() for name, array in part.items()}
    np.savez(path, **arrays)


def compare(name: str, options: argparse.Namespace, folder: Path) -> str:
    """One row of the table."""
    seconds: dict[str, list[float]] = {"torch": [], "cold": [], "warm": []}
    accuracies, counts = {}, {}
    for turn in range(options.turns):
        cache = folder / f"cache-{name}-{turn}"
        sides = {
            "torch": lambda: of_torch(name, options.steps, folder / f"torch-{name}-{turn}", folder / "data.npz"),  # noqa: B023
            "cold": lambda: of_paribus(name, options.steps, folder / f"cold-{name}-{turn}", cache),  # noqa: B023
            "warm": lambda: of_paribus(name, options.steps, folder / f"warm-{name}-{turn}", cache),  # noqa: B023
        }
        for side, measure in sides.items():
            spent, accuracies[side], counts[side] = measure()
            seconds[side].append(spent)
    assert len(set(counts.values())) == 1, counts
    torch, cold, warm = (statistics.median(seconds[side]) for side in ("torch", "cold", "warm"))
    return (
        f"| {name} | {counts['torch']:,} | {torch:.1f} | {cold:.1f} | {warm:.1f} | {cold / torch:.2f} | "
        f"{warm / torch:.2f} | {accuracies['torch']:.1f} | {accuracies['warm']:.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--workdir", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        paribus(options.worker, options.steps, options.workdir)
        return
    with tempfile.TemporaryDirectory(prefix="paribus-study-") as place:
        write_data(Path(place) / "data.npz")
        print(
            "| model | parameters | PyTorch, s | Paribus, s (cold) | (warm) | cold / PyTorch | warm / PyTorch ", end=""
        )
        print("| accuracy, % | accuracy, % |")
        print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
        for name in options.models.split(","):
            print(compare(name, options, Path(place)), flush=True)


if __name__ == "__main__":
    main()
