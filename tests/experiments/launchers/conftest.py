"""What the tests of all clusters compare with."""

import pandas as pd
import pytest

from tests.experiments.launchers import commands


@pytest.fixture(scope="session")
def long_run(tmp_path_factory) -> pd.DataFrame:
    """What a local run of the long study comes to."""
    workdir = tmp_path_factory.mktemp("local")
    commands.run(workdir, *commands.LONG)
    return commands.results(workdir)
