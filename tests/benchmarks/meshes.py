"""What GPT-2 1.5B and ResNet-50 take of each device of a mesh, and what the devices send: compiled, never allocated.

    python -m tests.benchmarks.meshes
    python -m tests.benchmarks.meshes --networks=gpt2_xl --mesh=fsdp:64 --mesh=data:8
    python -m tests.benchmarks.meshes --networks=small,gpt2_xl,resnet50 --keep=tests/train/mesh_figures.json

Run it from the root of the repository; it takes about two minutes on two cores and little memory. One process with
256 virtual CPU devices compiles the real program of a training step for each mesh, from the shapes of its arguments:

    gpt2_xl   Radford et al. 2019, table 2: 48 blocks, width 1600, 25 heads; blocks scanned over and rematerialised
              (scan_layers, remat), without dropout; AdamW; 512 sequences of 1024 tokens a step
    resnet50  He et al. 2016, table 1; stochastic gradient descent with momentum; 4096 images of 224 x 224 a step, which
              are streamed: a chunk is one batch
    small     a Transformer of 2 blocks of width 64 that compiles in seconds, on 8 devices; for the tests

All in 32 bits. Parameters, optimizer state and data are exact, by shapes and where each array lies. Activations (with
gradients and everything else that the program holds) are XLA's account of its program for CPUs; one for GPUs keeps
other things. Sent is what each device sends in one step, each collective round a ring (train/communication.py). XLA
makes no reduce-scatter for CPUs: where each device needs a part of a gradient alone it sums the whole, which sends
twice as much. The gradient of GPT-2's table is summed twice, once of its use as the output layer.

Where tensor parallelism helps: 25 heads divide by 5, so that with tensor:5 attention is cut; with tensor:4 each device
computes all of attention, and the perceptrons alone are cut, which sends less and computes more. The vocabulary, 50,257
= 29 x 1733, divides by no size of interest, so that logits are computed whole; those who train at this scale round it
up. Fully sharded storage of GPT-2's matrices of 1600 rows ends at fsdp:64; larger meshes repeat it over data.
"""

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from models import transformer
from models.base import Shapes
from models.published import PUBLISHED
from train import mesh_account, objectives
from train.config import Config, Training, Trial, replace, traced_paths
from train.data import digits
from train.data.sampling import ShuffledExamples, Windows
from train.data.task import Task, Test, Train, Validation
from train.mesh_account import Account
from train.optimizers import adamw, momentum
from train.population import COMPILER_OPTIONS
from train.schedules import constant

DEVICES = 256
COLUMNS = (
    *("network", "mesh", "devices", "parameters", "optimizer", "data", "activations", "in all", "sent"),
    *("by kind", "compiled"),
)
MESHES = {
    "small": ("data:8", "fsdp:8", "data:2,tensor:4", "data:2,fsdp:2,tensor:2"),
    "gpt2_xl": ("data:8", "fsdp:64", "fsdp:32,tensor:5", "data:4,fsdp:64", "fsdp:64,tensor:4"),
    "resnet50": ("data:8", "fsdp:64", "data:256"),
}


def language(shapes: Shapes, tokens: int) -> Task:
    """A task whose tokens are all 0 and take no memory."""

    def split(count: int) -> dict[str, np.ndarray]:
        return {"tokens": np.broadcast_to(np.int32(0), (count,))}

    return Task(
        name="tokens",
        shapes=shapes,
        objective=objectives.language_modelling("token"),
        sampler=Windows(shapes.inputs[0]),
        train=Train(split(tokens)),
        validation=Validation(split(tokens)),
        test=Test(split(tokens)),
        facts={},
    )


def images(shapes: Shapes) -> Task:
    """A task of black images, which are never touched and so take no memory; more than are kept on a device."""

    def split() -> dict[str, np.ndarray]:
        return {"inputs": np.zeros((8192, *shapes.inputs), np.float32), "targets": np.zeros(8192, np.int32)}

    return Task(
        name="images",
        shapes=shapes,
        objective=objectives.classification(),
        sampler=ShuffledExamples(),
        train=Train(split()),
        validation=Validation(split()),
        test=Test(split()),
        facts={},
    )


def network(name: str) -> tuple[Config, Task]:
    """The configuration and the data."""
    if name == "resnet50":
        published = PUBLISHED[name]
        return _config(published.config, momentum.Config(learning_rate=0.1), 4096), images(published.shapes)
    if name == "gpt2_xl":
        published = PUBLISHED[name]
        model: Any = dataclasses.replace(published.config, scan_layers=True, remat=True, dropout_rate=0.0)
        return _config(model, adamw.Config(), 512), language(published.shapes, 10_000_000)
    shapes = Shapes(inputs=(32,), vocabulary=128, outputs=128, per_position=True, causal=True)
    model = transformer.Config(width=64, depth=2, heads=4, feedforward=256, scan_layers=True, remat=True)
    return _config(model, adamw.Config(), 16), language(shapes, 10_000)


def _config(model: Any, optimizer: Any, batch_size: int) -> Config:
    training = Training(steps=1000, batch_size=batch_size, evaluation_batch_size=batch_size)
    return Config(data=digits.Config(), model=model, optimizer=optimizer, schedule=constant.Config(), training=training)


def measure(name: str, mesh: str) -> Account:
    """The account of one trial."""
    config, task = network(name)
    config = replace(config, {"execution.mesh": mesh})
    return mesh_account.of_trials([Trial(arm=name, seed=0, config=config)], traced_paths([config]), task)


def figures(account: Account) -> dict[str, Any]:
    """What is kept of an account: all but the time."""
    traffic = {kind: {"count": amount.count, "sent": round(amount.sent)} for kind, amount in account.traffic.items()}
    sizes = {name: getattr(account, name) for name in ("parameters", "optimizer", "other", "data", "temporaries")}
    return {"devices": account.devices, **sizes, "traffic": traffic}


def row(name: str, account: Account) -> str:
    """A row of the Markdown table, in GB."""
    sizes = (account.parameters, account.optimizer, account.data, account.temporaries, account.memory, account.sent)
    kinds = ", ".join(f"{kind} {amount.sent / 1e9:.3g}" for kind, amount in account.traffic.items())
    cells = (name, account.mesh, account.devices, *(f"{size / 1e9:.3g}" for size in sizes), kinds)
    return f"| {' | '.join(map(str, cells))} | {account.compile_seconds:.0f} |"


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default="gpt2_xl,resnet50", help="comma-separated: small, gpt2_xl, resnet50")
    parser.add_argument("--mesh", action="append", help="one mesh, such as fsdp:64; may be given again")
    parser.add_argument("--keep", type=Path, help="write the figures to this file, too")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    jax.config.update("jax_num_cpu_devices", DEVICES)
    jax.config.update("jax_enable_compilation_cache", False)
    # What costs time is LLVM; memory and collectives are settled before it.
    COMPILER_OPTIONS["xla_backend_optimization_level"] = 0
    print(f"| {' | '.join(COLUMNS)} |")
    print("|---|---|" + "---:|" * 7 + "---|---:|")
    start, found = time.perf_counter(), dict[str, Mapping[str, Any]]()
    for name in options.networks.split(","):
        for mesh in options.mesh or MESHES[name]:
            account = measure(name, mesh)
            print(row(name, account), flush=True)
            found[f"{name} {mesh}"] = figures(account)
    print(f"GB on each device; s to compile; {time.perf_counter() - start:.0f} s in all", file=sys.stderr)
    if options.keep:
        options.keep.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
