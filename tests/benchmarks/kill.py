"""Kill a study at random moments, go on with it, and compare with one that ran through.

    python tests/benchmarks/kill.py --times 20

Trains the fully connected and the convolutional network of the study ``architectures`` on real
digits. At each moment a process is killed (SIGKILL) and the same command is run again. What must
be the same, bit for bit, as without the kill: every array of the last checkpoints, curves.csv and
trials.csv but for their seconds, and the report's table but for the training times. The moments
are spread over the whole run, start-up and report included; every fourth process has no compiled
programs in its cache, so that some die while compiling. Exit status 1 on any difference.
"""

import argparse
import csv
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp

ROOT = Path(__file__).parents[2]
COMMAND = (
    *("-m", "experiments", "--experiment=architectures", "--preset=smoke", "--arms=cnn"),
    *("--config.training.steps=240", "--config.training.evaluate_every=40"),
    "--config.execution.checkpoint_seconds=0.5",
)
TIMES = ("seconds", "train_seconds")


def start(workdir: Path, cache: Path) -> subprocess.Popen:
    """A process that runs the study."""
    environment = os.environ | {"XDG_CACHE_HOME": str(cache), "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *COMMAND, f"--workdir={workdir}"]
    log = (workdir.parent / f"{workdir.name}.log").open("a")
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)


def run(workdir: Path, cache: Path) -> float:
    """Run the study to its end; return the seconds that it took."""
    begin = time.perf_counter()
    status = start(workdir, cache).wait()
    if status:
        raise SystemExit(f"exit status {status}; the output is in {workdir}.log")
    return time.perf_counter() - begin


def kill_after(seconds: float, workdir: Path, cache: Path) -> bool:
    """Run the study and kill it after some time; false if it had ended by then."""
    process = start(workdir, cache)
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True
    return False


def rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table without what depends on the clock."""
    with path.open(encoding="utf-8", newline="") as file:
        return [{key: value for key, value in row.items() if not measured(key)} for row in csv.DictReader(file)]


def measured(column: str) -> bool:
    """Whether a column holds a duration, which no two runs share."""
    return column in TIMES or "seconds" in column or "time" in column.split()


def arrays(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of the last checkpoint of every population."""
    result = {}
    for population in sorted((folder / "checkpoints").iterdir()):
        with ocp.CheckpointManager(population.resolve()) as manager:
            step = manager.latest_step()
            content = manager.restore(step, args=ocp.args.Composite(states=ocp.args.StandardRestore()))
        result |= {f"{population.name}/{step}/{name}": np.asarray(x) for name, x in content["states"].items()}
    return result


def unequal(ours: list[dict[str, str]], theirs: list[dict[str, str]]) -> list[str]:
    """Where two tables differ: in their length, or the first row that does and its columns."""
    if len(ours) != len(theirs):
        return [f"{len(ours)} rows for {len(theirs)}"]
    for index, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        columns = [key for key in {**mine, **other} if mine.get(key) != other.get(key)]
        if columns or list(mine) != list(other):
            return [
                f"row {index} {column}: {mine.get(column)} for {other.get(column)}" for column in columns or ["order"]
            ]
    return []


def differences(folder: Path, reference: Path) -> list[str]:
    """What is not the same in two folders of a study."""
    result = []
    for name in ("trials.csv", "curves.csv", "report/table.csv"):
        result += [f"{name} {what}" for what in unequal(rows(folder / name), rows(reference / name))]
    ours, theirs = arrays(folder), arrays(reference)
    if set(ours) != set(theirs):
        return [*result, f"checkpoints {sorted(set(ours) ^ set(theirs))}"]
    for name, array in ours.items():
        other = theirs[name]
        if (array.shape, array.dtype, array.tobytes()) != (other.shape, other.dtype, other.tobytes()):
            result.append(name)
    return result


def state(folder: Path) -> str:
    """How far a run had come, from what it left."""
    if not (folder / "study.json").exists():
        return "starting up"
    if (folder / "report").exists():
        return "writing the report"
    curves = rows(folder / "curves.csv") if (folder / "curves.csv").exists() else []
    done = len(rows(folder / "trials.csv")) if (folder / "trials.csv").exists() else 0
    saved = sorted(path.parent.name.split("-")[0] + " " + path.name for path in folder.glob("checkpoints/*/*"))
    last = f"{curves[-1]['arm']} evaluated at {curves[-1]['step']}" if curves else "nothing evaluated"
    return f"{done} trials done, {last}, checkpoints: {', '.join(saved) or 'none'}"


def main() -> int:
    """Kill, go on, compare; once for each moment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=20, help="number of kills")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    options = parser.parse_args()
    moments = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="paribus-kill-") as place:
        folder = Path(place)
        cache = folder / "cache"
        cold = run(folder / "cold", cache)
        warm = run(folder / "reference", cache)
        reference = folder / "reference" / "architectures"
        print(f"uninterrupted: {cold:.1f} s compiling, {warm:.1f} s with compiled programs", flush=True)
        wrong = differences(folder / "cold" / "architectures", reference)
        print(f"two uninterrupted runs: {'DIFFERENT: ' + ', '.join(wrong) if wrong else 'identical'}", flush=True)
        failures = int(bool(wrong))
        for index in range(options.times):
            is_cold = index % 4 == 3
            own_cache = folder / f"cache-{index}" if is_cold else cache
            # One in each part of the run. A run may be quicker than the reference was: then try again, earlier.
            moment = (index + moments.random()) / options.times * (cold if is_cold else warm)
            workdir = folder / f"killed-{index}"
            attempt = 0
            while not kill_after(moment, workdir, own_cache):
                attempt += 1
                moment *= 0.9
                workdir = folder / f"killed-{index}-{attempt}"
                own_cache = folder / f"cache-{index}-{attempt}" if is_cold else cache
            come = state(workdir / "architectures")
            run(workdir, own_cache)
            wrong = differences(workdir / "architectures", reference)
            failures += bool(wrong)
            verdict = f"DIFFERENT: {', '.join(wrong)}" if wrong else "identical"
            kind = "compiling" if is_cold else "compiled"
            print(f"{index + 1:3} killed after {moment:5.2f} s ({kind}; {come}): {verdict}", flush=True)
    print(f"{failures} different" if failures else f"all {options.times} identical", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
