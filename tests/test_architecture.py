"""The shape of the house: which room may import which, and what may lie where.

Files are parsed, not imported. Each rule is a function from a file's path and syntax tree to
complaints, and each is shown to complain about a file that breaks it.
"""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAY_IMPORT = {"models": {"models"}, "train": {"models", "train"}, "experiments": {"models", "train", "experiments"}}
ONLY_IN = {  # library: the folder or file that alone may import it
    "flax.linen": "models/",
    "absl.flags": "experiments/__main__.py",
    "matplotlib": "experiments/report/",
}
ORBAX_FILE = "train/checkpoints.py"
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}
LONGEST_FILE = 400
TOP_LEVEL = {
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CITATION.cff",
    "CONTRIBUTING.md",
    "LICENSE",
    "README.md",
    "docs",
    "experiments",
    "models",
    "pyproject.toml",
    "tests",
    "train",
}


def imports(tree: ast.Module) -> Iterator[str]:
    """Every module or name that is imported anywhere in a file, as an absolute dotted name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "__import__"):
            yield from (arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant))


def is_in(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def one_way(path: str, tree: ast.Module) -> Iterator[str]:
    room = path.partition("/")[0]
    for name in imports(tree):
        target = name.partition(".")[0]
        if target in {*MAY_IMPORT, "tests"} - MAY_IMPORT[room]:
            yield f"{path} imports {name}: imports go only experiments -> train -> models"


def no_relative_imports(path: str, tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield f"{path}:{node.lineno} imports relatively"


def libraries_in_their_places(path: str, tree: ast.Module) -> Iterator[str]:
    for name in imports(tree):
        for library, place in ONLY_IN.items():
            if is_in(name, library) and not path.startswith(place):
                yield f"{path} imports {library}, which belongs in {place} alone"
        if is_in(name, "orbax") and path != ORBAX_FILE:
            yield f"{path} imports orbax, which belongs in {ORBAX_FILE} alone"


def no_optimizer_or_flag_in_models(path: str, tree: ast.Module) -> Iterator[str]:
    for name in imports(tree):
        if path.startswith("models/") and any(is_in(name, library) for library in ("optax", "absl", "pooch", "pandas")):
            yield f"{path} imports {name}: models/ knows no data, no optimizer, no flag"


def no_print(path: str, tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            yield f"{path}:{node.lineno} prints; console output goes through the logger"


def no_drawer_for_leftovers(path: str, tree: ast.Module) -> Iterator[str]:
    for part in PurePosixPath(path).with_suffix("").parts:
        if part.strip("_") in FORBIDDEN_NAMES:
            yield f"{path}: no file or folder is called {part}"


RULES = (
    one_way,
    no_relative_imports,
    libraries_in_their_places,
    no_optimizer_or_flag_in_models,
    no_print,
    no_drawer_for_leftovers,
)


def sources(*folders: str) -> dict[str, Path]:
    """Python files below the folders, by their path from the root."""
    return {
        path.relative_to(ROOT).as_posix(): path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))
    }


@pytest.fixture(scope="module")
def trees() -> dict[str, ast.Module]:
    found = {path: ast.parse(file.read_text(encoding="utf-8")) for path, file in sources(*MAY_IMPORT).items()}
    assert {"models/base.py", "train/__init__.py", "experiments/study.py"} <= set(found)
    return found


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rule(rule, trees):
    assert [complaint for path, tree in trees.items() for complaint in rule(path, tree)] == []


@pytest.mark.parametrize(
    ("rule", "path", "code"),
    [
        (one_way, "models/cnn.py", "import train.step"),
        (one_way, "models/cnn.py", "from train import step"),
        (one_way, "models/layers/dense.py", "def f():\n    from experiments.study import Study"),
        (one_way, "train/loop.py", "import numpy, experiments"),
        (one_way, "train/loop.py", "import importlib\nimportlib.import_module('experiments.study')"),
        (one_way, "experiments/plan.py", "from tests import conftest"),
        (no_relative_imports, "train/loop.py", "from . import step"),
        (libraries_in_their_places, "train/step.py", "import flax.linen as nn"),
        (libraries_in_their_places, "train/step.py", "from flax import linen"),
        (libraries_in_their_places, "train/step.py", "from flax.linen import Dense"),
        (libraries_in_their_places, "experiments/run.py", "from absl import flags"),
        (libraries_in_their_places, "train/loop.py", "import matplotlib.pyplot as plt"),
        (libraries_in_their_places, "train/loop.py", "import orbax.checkpoint as ocp"),
        (no_optimizer_or_flag_in_models, "models/cnn.py", "import optax"),
        (no_print, "train/loop.py", "def f():\n    print('x')"),
        (no_drawer_for_leftovers, "train/utils.py", ""),
        (no_drawer_for_leftovers, "train/_common/loop.py", ""),
    ],
)
def test_each_rule_finds_its_breach(rule, path, code):
    assert list(rule(path, ast.parse(code)))


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("models/cnn.py", "from flax import linen as nn\nfrom models.layers import dense"),
        ("train/step.py", "import optax\nimport models\nfrom train import config"),
        ("experiments/run.py", "import train.config, models.base, trainers, flaxen\nprinter('x')"),
        ("experiments/__main__.py", "from absl import app, flags"),
        ("experiments/report/figures.py", "import matplotlib.pyplot as plt"),
        (ORBAX_FILE, "import orbax.checkpoint"),
    ],
)
def test_no_rule_complains_about_what_is_allowed(path, code):
    assert [complaint for rule in RULES for complaint in rule(path, ast.parse(code))] == []


def test_orbax_has_its_adapter(trees):
    """Were the adapter renamed, the rule above would complain; were it gone, nothing would."""
    users = [path for path, tree in trees.items() if any(is_in(name, "orbax") for name in imports(tree))]
    assert users == [ORBAX_FILE]


def test_no_file_is_too_long():
    lengths = {
        path: len(file.read_text(encoding="utf-8").splitlines()) for path, file in sources(*MAY_IMPORT, "tests").items()
    }
    assert lengths["models/base.py"] > 100  # the lengths are those of real files
    assert {path: length for path, length in lengths.items() if length > LONGEST_FILE} == {}


def test_every_folder_of_code_is_a_package():
    """A folder without __init__.py is left out of the wheel, silently."""
    folders = {file.parent for file in sources(*MAY_IMPORT).values()}
    assert [folder for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


def unexpected_entries(names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if not name.startswith(".") and name not in TOP_LEVEL)


def ignored_entries() -> set[str]:
    """Entries of the root that .gitignore names: caches, builds, results. It names whole folders only."""
    patterns = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    return {path.name for pattern in patterns for path in ROOT.glob(pattern.strip("/"))}


def test_the_top_level_is_as_agreed():
    assert unexpected_entries({entry.name for entry in ROOT.iterdir()} - ignored_entries()) == []


def test_an_unexpected_entry_is_found():
    assert unexpected_entries(["models", ".git", "scratch.py"]) == ["scratch.py"]
