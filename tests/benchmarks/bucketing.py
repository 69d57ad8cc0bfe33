"""Batches of similar length against batches padded to one length: milliseconds a step, and seconds to compile.

    python -m tests.benchmarks.bucketing
    python -m tests.benchmarks.bucketing --cases=number_words:seq2seq --buckets=1,2,3,5 --steps=12
    python -m tests.benchmarks.bucketing --data_dir=DIR --cases=sst2:text_cnn,multi30k:encoder_decoder

Run it from the root of the repository. The same trial with other values of ``data.buckets``, one lane on one
device; the program with k buckets holds k branches of the train step. Steps are timed from the start of an
epoch, where the order of the widths is random, after one call that is not counted. The programs take turns; the
numbers are medians over the turns, ratios those of the same turn.
"""

import argparse
import statistics
import time
from pathlib import Path

import jax

from models.base import plugin
from train import data, devices
from train.config import Config, Training, Trial, replace, traced_paths
from train.population import Population


def population(name: str, model: str, buckets: int, data_dir: Path | None) -> Population:
    config = Config(
        data=plugin("train.data", name, kind="data set").Config(buckets=buckets),
        model=plugin("models", model, kind="model").Config(),
        optimizer=plugin("train.optimizers", "adam", kind="optimizer").Config(),
        schedule=plugin("train.schedules", "constant", kind="schedule").Config(),
        training=Training(steps=100_000, evaluate_every=100_000),
    )
    config = replace(config, {"execution.spread": False})
    trial = Trial(arm="benchmark", seed=0, config=config)
    return Population([trial], traced_paths([config]), data.load(config.data, data_dir))


def measure(name: str, model: str, widths: list[int], steps: int, samples: int, data_dir: Path | None) -> None:
    programs = {each: population(name, model, each, data_dir) for each in widths}
    states = {}
    for each, program in programs.items():
        program.compile()
        states[each], marker = program.advance(program.init(), 0, 2)
        jax.block_until_ready(marker)
    turns: dict[int, list[float]] = {each: [] for each in widths}
    for turn in range(samples):
        for each in sorted(widths, key=lambda width: (width * 7 + turn) % len(widths)):
            start = time.perf_counter()
            states[each], marker = programs[each].advance(states[each], turn * steps, (turn + 1) * steps)
            jax.block_until_ready(marker)
            turns[each].append((time.perf_counter() - start) * 1e3 / steps)
    print(f"\n{name}, {model}")
    for each, program in programs.items():
        ratio = statistics.median(one / other for one, other in zip(turns[widths[0]], turns[each], strict=True))
        print(
            f"  buckets={each}  widths {program.task.facts['widths']:<32}"
            f"  {statistics.median(turns[each]):8.1f} ms a step"
            f"  {ratio:5.2f} times as fast as buckets={widths[0]}  compiled in {program.compile_seconds:.1f} s"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default="number_words:seq2seq,number_words:encoder_decoder")
    parser.add_argument("--buckets", default="1,2,3,5")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--data_dir", type=Path)
    arguments = parser.parse_args()
    devices.prepare()
    widths = [int(each) for each in arguments.buckets.split(",")]
    for case in arguments.cases.split(","):
        name, _, model = case.partition(":")
        measure(name, model, widths, arguments.steps, arguments.samples, arguments.data_dir)


if __name__ == "__main__":
    main()
