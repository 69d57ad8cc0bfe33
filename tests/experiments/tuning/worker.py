"""One worker of a shared search, whose trials take no time: python worker.py FOLDER URL TRIALS [OPTION...].

What is left out is the training alone. Options:

    start=FILE   wait for this file before the search, so that several begin at the same moment
    hang=N       the N-th population ends when there is a file "go on", which may be never
    batch=N, lost=SECONDS    in place of what the code has
"""

import csv
import importlib.util
import math
import sys
import time
from pathlib import Path

from experiments import plan as planning
from experiments.feasibility import load_tasks
from experiments.spaces import Uniform
from experiments.study import Tuning
from experiments.tuning import adaptive, declaration, run, storages
from models.base import BadInput
from train.records import Table

COLUMNS = ("trial", "arm", "number", "seed", "status", "steps", "value", "worker")


def _tiny():
    spec = importlib.util.spec_from_file_location("tiny", Path(__file__).with_name("conftest.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.tiny


def main(folder: Path, url: str, trials: int, options: dict[str, str]) -> None:
    """Search, and write ``tuning.json``."""
    adaptive.BATCH = int(options.get("batch", adaptive.BATCH))
    adaptive.LOST_SECONDS = float(options.get("lost", adaptive.LOST_SECONDS))
    adaptive.BEAT_SECONDS = adaptive.LOST_SECONDS / 8
    run.POLL_SECONDS = 0.1
    folder.mkdir(exist_ok=True)
    space = {"optimizer.learning_rate": Uniform(1e-3, 10.0, log=True)}
    plan = planning.resolve(_tiny()(Tuning(space=space, search="tpe", trials=trials), arms={}))
    prepared = declaration.prepare(plan, load_tasks(plan, None))
    storages.check(url, prepared)
    populations = 0

    def execute(wanted):
        nonlocal populations
        table = Table(folder / "tuning.csv", COLUMNS)
        have = {row["trial"] for row in table.rows()}
        new = [trial for trial in wanted if trial.id not in have]
        populations += bool(new)
        for trial in new:
            with (folder / "trained.txt").open("a") as file:
                file.write(f"{trial.number}\n")
        if new and populations == int(options.get("hang", 0)):
            (folder / "hangs").touch()
            while not (folder / "go on").exists():
                time.sleep(0.01)
        table.append(
            [
                {
                    "trial": trial.id,
                    "arm": trial.arm,
                    "number": trial.number,
                    "seed": trial.seed,
                    "status": "ok",
                    "steps": 12,
                    "value": -abs(math.log(trial.config.optimizer.learning_rate)),
                    "worker": folder.name,
                }
                for trial in new
            ]
        )
        return table

    (folder / "ready").touch()
    while "start" in options and not Path(options["start"]).exists():
        time.sleep(0.001)
    begun = time.perf_counter()
    run.tune(prepared, folder, execute, url, lambda: None)
    with (folder / "tuning.csv").open(newline="") as file:
        own = sum(row["worker"] == folder.name for row in csv.DictReader(file))
    sys.stdout.write(f"{own} trials of {trials} here, {time.perf_counter() - begun:.2f} s\n")


if __name__ == "__main__":
    arguments = dict(text.split("=", 1) for text in sys.argv[4:])
    try:
        main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), arguments)
    except BadInput as error:
        sys.exit(f"error: {error}")
