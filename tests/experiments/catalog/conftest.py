"""What the tests of single studies share."""

import pytest

from experiments import plan
from train import data
from train.config import Config
from train.cost import parameter_count


@pytest.fixture(scope="session")
def parameters():
    """The number of parameters of each arm of a study whose data need no download."""
    tasks = {}

    def task(config: Config):
        if config.data not in tasks:
            tasks[config.data] = data.load(config.data, None)
        return tasks[config.data]

    def of(name: str, preset: str) -> dict[str, int]:
        configs = plan.resolve(plan.load(name, preset)).configs
        return {arm: parameter_count(config, task(config)) for arm, config in configs.items()}

    return of
