"""What a process sets up: devices and a cache of programs that nobody else can write to."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from models.base import BadInput
from train import devices

ROOT = Path(__file__).parents[2]


def run(code, cache, **environment):
    """The JSON that a fresh process prints."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "PYTHONPATH": str(ROOT), **environment}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_a_process_uses_every_core_and_keeps_its_programs(tmp_path):
    code = """
import json, jax
from train import devices
devices.prepare()
devices.prepare()
count = len(jax.devices("cpu"))
jax.jit(lambda x: x * 2 + 1)(jax.numpy.arange(4.0)).block_until_ready()
devices.prepare()
print(json.dumps([count, len(jax.devices("cpu")), jax.config.jax_compilation_cache_dir]))
"""
    before, after, folder = run(code, tmp_path)
    assert before == after == len(os.sched_getaffinity(0))
    assert Path(folder) == tmp_path / "paribus" / "programs"
    assert any(Path(folder).iterdir())
    for private in (tmp_path / "paribus", Path(folder)):
        assert stat.S_IMODE(private.stat().st_mode) == 0o700


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache folder of this test; jax's own settings are put back."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    names = (
        "jax_compilation_cache_dir",
        "jax_persistent_cache_min_compile_time_secs",
        "jax_persistent_cache_min_entry_size_bytes",
    )
    old = {name: getattr(jax.config, name) for name in names}
    jax.config.update("jax_compilation_cache_dir", None)
    yield tmp_path / "paribus"
    for name, value in old.items():
        jax.config.update(name, value)


def test_once_jax_runs_its_devices_stay(cache):
    count = len(jax.devices())
    devices.prepare()
    devices.prepare()
    assert len(jax.devices()) == count
    assert jax.config.jax_compilation_cache_dir == str(cache / "programs")


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777])
def test_a_folder_that_others_can_write_to_is_refused(mode, cache):
    (cache / "programs").mkdir(parents=True)
    (cache / "programs").chmod(mode)
    with pytest.raises(BadInput, match=r"^.*programs can be written by others.*chmod go-w") as caught:
        devices.prepare()
    assert len(str(caught.value).splitlines()) == 1
    assert jax.config.jax_compilation_cache_dir is None


def test_a_folder_of_somebody_else_is_refused(cache, monkeypatch):
    uid = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: uid + 1)
    with pytest.raises(BadInput, match="can be written by others"):
        devices.prepare()


def test_without_a_place_for_it_there_is_no_cache(cache, caplog):
    cache.write_text("a file where the folder should be")
    devices.prepare()
    assert "no compilation cache" in caplog.text
    assert jax.config.jax_compilation_cache_dir is None


def test_a_cache_that_the_user_chose_is_kept(cache, tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "mine"))
    devices.prepare()
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "mine")
    assert not cache.exists()


DETERMINISTIC = """
import json, logging, os, jax
from train import devices, provenance
heard = []
logger = logging.getLogger("paribus")
logger.setLevel(logging.INFO)
logger.addFilter(lambda record: heard.append(record.getMessage()))
devices.prepare(deterministic=True)
devices.prepare(deterministic=True)
jax.jit(lambda x: x * 2)(jax.numpy.arange(4.0)).block_until_ready()
print(json.dumps([os.environ["XLA_FLAGS"], provenance.collect()["xla_flags"], heard]))
"""


@pytest.mark.parametrize(
    "given",
    [
        "--xla_cpu_enable_fast_min_max=false",
        pytest.param("", marks=pytest.mark.slow),
        pytest.param("--xla_gpu_deterministic_ops=true", marks=pytest.mark.slow),
    ],
)
def test_deterministic_adds_its_flag_to_those_of_the_user(given, tmp_path):
    """jaxlib ends a process whose flags it does not know; so that it computes shows, too, that it knows them."""
    flags, recorded, heard = run(DETERMINISTIC, tmp_path, XLA_FLAGS=given)
    own = "--xla_gpu_deterministic_ops=true"
    assert flags == (given if own in given else f"{given} {own}".strip())
    assert recorded == flags
    assert heard
    assert all("nothing is needed on a CPU" in line for line in heard)


@pytest.mark.parametrize(
    ("given", "runs", "answer"),
    [
        ("--xla_gpu_deterministic_ops=false", False, "contradicts XLA_FLAGS=--xla_gpu_deterministic_ops=false"),
        ("flags.txt", False, "XLA_FLAGS='flags.txt' is a file"),
        ("", True, "too late: jax runs already"),
    ],
)
def test_deterministic_is_refused_where_it_would_do_nothing(given, runs, answer, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", given)
    with pytest.raises(BadInput, match=answer):
        devices._be_deterministic(runs)
    assert os.environ["XLA_FLAGS"] == given


def test_the_flag_is_an_option_of_the_compiler():
    lowered = jax.jit(lambda x: x + 1).lower(1.0)
    name = devices.DETERMINISTIC.removeprefix("--").partition("=")[0]
    lowered.compile(compiler_options={name: True})
    with pytest.raises(Exception, match="No such compile option"):
        lowered.compile(compiler_options={f"{name}_not": True})
