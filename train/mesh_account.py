"""What a population takes of each device of a mesh: memory, and what the devices send one another in a step.

Nothing is allocated: the program is compiled for the shapes of its arguments.
"""

import dataclasses
import time
from collections.abc import Sequence

from train import communication
from train.config import Trial
from train.data.task import Task
from train.meshes import bytes_per_device, shapes_only
from train.population import Population


@dataclasses.dataclass(frozen=True, kw_only=True)
class Account:
    """Bytes on each device, those of all its lanes, and what a device sends in a training step.

    Attributes:
        mesh: as the command line has it.
        devices: of the mesh.
        parameters: by their shapes and where each lies.
        optimizer: what the optimizer keeps; in the same way.
        other: the rest of the states (running statistics, averages, counters); in the same way.
        data: the arrays of the training split or, where that is streamed, one chunk of it; in the same way.
        temporaries: activations, gradients and whatever else the training program holds while it runs, beyond what it
            is given and returns: XLA's own account of the compiled program. It is the backend's: a GPU's differs.
        traffic: of a step, read from the compiled program; see :mod:`train.communication`.
        compile_seconds: what it took to compile the training program; 0 where it was compiled before.
    """

    mesh: str
    devices: int
    parameters: int
    optimizer: int
    other: int
    data: int
    temporaries: int
    traffic: communication.Traffic
    compile_seconds: float

    @property
    def memory(self) -> int:
        """Bytes on each device in all."""
        return self.parameters + self.optimizer + self.other + self.data + self.temporaries

    @property
    def sent(self) -> float:
        """Bytes that a device sends in a step in all."""
        return communication.total(self.traffic)


def of_trials(trials: Sequence[Trial], traced: Sequence[str], task: Task) -> Account:
    """The account of a population that is not made: no array is brought to a device.

    Args:
        trials: of the population.
        traced: paths of the fields that its program takes as arguments.
        task: the data; of large arrays nothing but the shapes is looked at.

    Raises:
        BadInput: the mesh does not fit the model, the batch or the devices.
    """
    with shapes_only():
        population = Population(trials, traced, task)
        try:
            return of_population(population)
        finally:
            population.splits.close()


def of_population(population: Population) -> Account:
    """The account of a population; compiles its training program unless that is done."""
    start = time.perf_counter()
    program, states = population.training_program()
    seconds = time.perf_counter() - start
    parameters, optimizer = bytes_per_device(states.params), bytes_per_device(states.optimizer)
    return Account(
        mesh=population.layout.text,
        devices=population.layout.mesh.size,
        parameters=parameters,
        optimizer=optimizer,
        other=bytes_per_device(states) - parameters - optimizer,
        data=bytes_per_device(population.splits.training_shape()),
        temporaries=program.memory_analysis().temp_size_in_bytes,
        traffic=communication.of_step(program.as_text()),
        compile_seconds=seconds,
    )
