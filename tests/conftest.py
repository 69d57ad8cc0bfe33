"""The strict configuration that every test runs under. Loaded before any test imports Paribus or jax.

* Two virtual CPU devices (or PARIBUS_TEST_DEVICES), on the CPU unless JAX_PLATFORMS says otherwise.
* Broadcasting arrays of different rank raises.
* Every function of models/, train/ and experiments/ has its annotations (shapes included) checked at
  each call by jaxtyping and beartype. That doubles the time of a trace, so PARIBUS_CHECK_TYPES=0 leaves it
  out: CI does so for the slow tests, after the others have called the same functions with it.
* Caches (data sets, compiled programs) lie in a folder of this session alone: what a test finds does
  not depend on what ran before, and the user's own cache stays as it is. Compiled programs are shared by
  the processes of a session, which saves a quarter of its time; a program that is found there counts as
  compiled in a test that counts. To keep them from run to run, set JAX_COMPILATION_CACHE_DIR.

Writing code that is checked at run time: what to know.

* A Linen module's fields are tuples and Mappings, not lists and dicts. Flax itself turns a list
  into a tuple and a dict into a FrozenDict, then makes the module again when it is bound inside another;
  the second ``__init__`` is checked like the first.
* ``Float[Array, "..."]`` does not accept a NumPy array. Pass ``jnp.asarray(x)``, or annotate
  ``ArrayLike`` where both are meant. A Python float is ``float``, not ``Float[Array, ""]``.
* The axis names of ``__call__`` hold within that one call: two layers may both say "features".
* The backward function of a custom_vjp may be handed ``None`` or float0 for what is not
  differentiated; annotate such an argument ``Any``.
"""

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from typing import Annotated, Any, get_args, get_origin, get_type_hints

_session_cache = tempfile.mkdtemp(prefix="paribus-tests-")
atexit.register(shutil.rmtree, _session_cache, ignore_errors=True)

# In the environment, so that the processes which tests start have the same.
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
_user_cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
# Matplotlib's list of fonts takes seconds to make again; nothing in a test depends on it.
os.environ.setdefault("MPLCONFIGDIR", os.path.join(_user_cache, "matplotlib"))
os.environ["XDG_CACHE_HOME"] = _session_cache
# The first process sets these; those that pytest-xdist starts inherit them.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.join(_session_cache, "programs"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import jax  # noqa: E402
import pytest  # noqa: E402
from beartype import BeartypeConf, beartype  # noqa: E402
from hypothesis import settings  # noqa: E402
from jaxtyping import install_import_hook  # noqa: E402

DEVICES = int(os.environ.get("PARIBUS_TEST_DEVICES", "2"))
jax.config.update("jax_num_cpu_devices", DEVICES)
jax.config.update("jax_numpy_rank_promotion", "raise")

# No deadline: the first example of a property pays for a compilation.
settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")

collect_ignore_glob = [] if DEVICES == 8 else ["train/eight_devices/*"]  # run in a process of their own

ROOMS = ("models", "train", "experiments")
# An int is a valid float (PEP 484), as pyright has it and as people write `rate=1`.
_beartype = beartype(conf=BeartypeConf(is_pep484_tower=True))


def check_types(function: Callable[..., Any]) -> Callable[..., Any]:
    """Beartype, except for the ``__init__`` of a configuration, which checks itself.

    A configuration turns ``[0.9, 0.99]`` into a tuple and answers a wrong type with BadInput. Were its
    arguments checked before that, a test would see another error than a person does.
    """
    if function.__name__ == "__init__" and any(
        map(_of_a_configuration, get_type_hints(function, None, None, True).values())
    ):
        return function
    return _beartype(function)


def _of_a_configuration(annotation: Any) -> bool:
    if get_origin(annotation) is Annotated:
        return any(type(mark).__module__ == "models.base" for mark in get_args(annotation)[1:])
    ancestors = getattr(annotation, "__mro__", ())
    return any((cls.__module__, cls.__name__) == ("models.base", "Configuration") for cls in ancestors)


# Not by the option --jaxtyping-packages, which takes only a checker that it can import by name.
if _early := sorted(set(ROOMS) & set(sys.modules)):
    raise RuntimeError(f"imported before their types could be checked: {', '.join(_early)}")
if os.environ.get("PARIBUS_CHECK_TYPES", "1") != "0":
    install_import_hook(ROOMS, f"sys.modules[{__name__!r}].check_types")


@pytest.fixture
def quickly_compiled(monkeypatch):
    """Populations' programs are hardly optimised: for tests of what does not depend on how well a program runs."""
    from train import population

    monkeypatch.setitem(population.COMPILER_OPTIONS, "xla_backend_optimization_level", 0)
