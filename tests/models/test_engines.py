"""Machine code that one process keeps for the next."""

import jax
import pytest

from models.layers import engines

TEXT = """
define i8* @handler(i8* %0) {
  ret i8* %0
}
"""


@pytest.fixture
def folder(tmp_path):
    """Where it is kept; jax's own setting is put back."""
    if engines.llvm() is None:
        pytest.skip("llvmlite has no compiler for this processor")
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    yield tmp_path / "machine_code"
    jax.config.update("jax_compilation_cache_dir", before)


def made(monkeypatch):
    """Compile the text; how often LLVM was asked."""
    binding, asked = engines.llvm(), []
    parse = binding.parse_assembly
    with monkeypatch.context() as patch:
        patch.setattr(binding, "parse_assembly", lambda text: asked.append(text) or parse(text))
        engine = engines._compiled(TEXT)
    assert engine.get_function_address("handler")
    return asked.count(TEXT)


def test_it_is_compiled_once(folder, monkeypatch):
    assert made(monkeypatch) == 1
    [file] = folder.iterdir()
    assert made(monkeypatch) == 0
    assert [file] == list(folder.iterdir())


@pytest.mark.parametrize(
    "damage", [lambda code: b"", lambda code: code[:-1], lambda code: code[:40] + b"\xff" + code[41:]]
)
def test_damaged_code_is_made_anew(folder, monkeypatch, damage):
    made(monkeypatch)
    [file] = folder.iterdir()
    whole = file.read_bytes()
    assert damage(whole) != whole
    file.write_bytes(damage(whole))
    assert made(monkeypatch) == 1
    assert file.read_bytes() == whole


def test_code_of_another_compiler_is_not_taken(folder, monkeypatch):
    made(monkeypatch)
    monkeypatch.setattr(engines.llvm(), "llvm_version_info", (0, 0, 1))
    assert made(monkeypatch) == 1
    assert len(list(folder.iterdir())) == 2


def test_a_folder_that_cannot_be_written_to_is_done_without(folder, monkeypatch):
    folder.write_text("a file in its place")
    assert made(monkeypatch) == 1
    assert made(monkeypatch) == 1


def test_nothing_is_kept_where_jax_keeps_nothing(folder, monkeypatch):
    before = jax.config.jax_enable_compilation_cache
    try:
        jax.config.update("jax_enable_compilation_cache", False)
        assert made(monkeypatch) == 1
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
    assert not folder.exists()
