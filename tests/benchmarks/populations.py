"""Cost of 8 trials at once against 8 one after another, for each family of the ``architectures`` study, on CPU.

    python -m tests.benchmarks.populations
    python -m tests.benchmarks.populations --samples=3 --models=mlp,cnn --lanes=8

Run it from the root of the repository, on a machine that does nothing else. One process, set up as the product does
it (``train.devices.prepare``): one device a core. The ways to train the same 8 trials for the same steps:

    one by one              8 populations of one lane, each allowed all cores; the program compiles once
    spread, vectorised      a population of 8 lanes over all devices; those of a device batched by vmap
    spread, sequential      the same; those of a device one after another inside the program
    one device, vectorised  the same 8 lanes on one device, which may use all cores for one operation
    one device, sequential  the same

The same everywhere: configuration, seeds, data, steps, and the program of a step. Compilation and initialisation are
not timed. The ways take turns; the numbers are medians over the turns, ratios those of the same turn. The way
that ``train.population`` chooses by itself is marked; the fastest is named, and that is what its choice rests on.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Sequence

import jax

from experiments import plan
from train import data, devices, strategies
from train.config import Config, Trial, replace, traced_paths
from train.population import Population

STUDY = "architectures"

WAYS = {
    "one by one": {"execution.spread": False},
    "spread, vectorised": {"execution.spread": True, "execution.strategy": "vectorised"},
    "spread, sequential": {"execution.spread": True, "execution.strategy": "sequential"},
    "one device, vectorised": {"execution.spread": False, "execution.strategy": "vectorised"},
    "one device, sequential": {"execution.spread": False, "execution.strategy": "sequential"},
}
ONE_BY_ONE = next(iter(WAYS))


class Family:
    """The lanes of one architecture, in every way to run them."""

    def __init__(self, config: Config, lanes: int, seconds: float) -> None:
        traced = traced_paths([config])
        task = data.load(config.data, None)
        self.lanes = lanes
        self.populations = {}
        for way, changes in WAYS.items():
            changed = replace(config, changes)
            count = 1 if way == ONE_BY_ONE else lanes
            trials = [Trial(arm="benchmark", seed=seed, config=changed) for seed in range(count)]
            self.populations[way] = Population(trials, traced, task)
        # Made one lane after another: XLA on CPU can wait for ever in the batched QR of orthogonal kernels.
        self.initial = {
            way: jax.device_get(self.populations[way.replace("vectorised", "sequential")].init()) for way in WAYS
        }
        # About this many seconds for all trials one by one, at most what the study trains.
        self.steps = 10
        self.sample(ONE_BY_ONE)
        per_step = self.sample(ONE_BY_ONE) / 1e3
        self.steps = max(1, min(config.training.steps - 1, round(seconds / lanes / per_step)))

    def sample(self, way: str) -> float:
        """Milliseconds a step of one trial: the time of all, divided by trials and steps."""
        population = self.populations[way]
        rounds = self.lanes // len(population.trials)
        seconds = 0.0
        for _ in range(rounds):
            states, _ = jax.block_until_ready(population.advance(population.place(self.initial[way]), 0, 1))
            start = time.perf_counter()
            jax.block_until_ready(population.advance(states, 1, 1 + self.steps))
            seconds += time.perf_counter() - start
        return 1e3 * seconds / (self.lanes * self.steps)


def measure(config: Config, options: argparse.Namespace) -> dict[str, list[float]]:
    """Samples of each way, taken in turns."""
    family = Family(config, options.lanes, options.seconds)
    samples: dict[str, list[float]] = {way: [] for way in WAYS}
    for way in WAYS:
        family.sample(way)  # compiles
    for _ in range(options.samples):
        for way in WAYS:
            samples[way].append(family.sample(way))
    return samples


def row(name: str, config: Config, samples: dict[str, list[float]]) -> str:
    """A row of the Markdown table."""
    chosen = f"spread, {strategies.wanted(config, jax.default_backend())}"
    medians = {way: statistics.median(values) for way, values in samples.items()}
    cells = [f"{medians[way]:.3f}{' (chosen)' if way == chosen else ''}" for way in WAYS]
    gain = ratio(samples[ONE_BY_ONE], samples[chosen])
    fastest = min(medians, key=medians.__getitem__)
    return f"| {name} | {' | '.join(cells)} | {gain} | {fastest} |"


def ratio(before: Sequence[float], after: Sequence[float]) -> str:
    """The median of the ratios of the same turn, with the least and the most."""
    ratios = [there / here for there, here in zip(before, after, strict=True)]
    return f"{statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=7, help="turns; the table has their medians")
    parser.add_argument("--seconds", type=float, default=2.0, help="what all trials one by one should last")
    parser.add_argument("--lanes", type=int, default=8, help="trials")
    parser.add_argument("--models", help="comma-separated arms of the study; all of them otherwise")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    devices.prepare()
    configs = plan.resolve(plan.load(STUDY, "cpu")).configs
    models = options.models.split(",") if options.models else list(configs)
    if strangers := set(models) - set(configs):
        raise SystemExit(f"no such models: {', '.join(sorted(strangers))}; there are {', '.join(configs)}")
    print(
        f"{options.lanes} trials, {jax.local_device_count()} devices; milliseconds a step of one trial", file=sys.stderr
    )
    print(f"| model | {' | '.join(WAYS)} | one by one / chosen [least, most] | fastest |")
    print(f"|---|{'---:|' * (len(WAYS) + 1)}---|")
    for name in models:
        print(row(name, configs[name], measure(configs[name], options)), flush=True)


if __name__ == "__main__":
    main()
