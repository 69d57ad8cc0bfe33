"""The machine code that ``layers/native.py`` writes: compiled, registered with XLA, and told which threads may help."""

import contextlib
import ctypes
import functools
import hashlib
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from models.layers import threads

LOGGER = logging.getLogger("paribus")

_DIGEST = hashlib.sha256().digest_size
"""Bytes before kept machine code, which show whether it is whole."""

_LOCK = threading.Lock()
_ENGINES: dict[str, Any] = {}
"""The code of every target by its name; it must stay in memory while XLA can call it."""

_helpers = 0
"""How many more threads share the work of a call that is cut into parts."""


@functools.cache
def llvm() -> Any:
    """The binding of llvmlite, ready for this processor; None where it is absent or has no compiler for it."""
    try:
        import llvmlite.binding as binding

        binding.initialize_native_target()
        binding.initialize_native_asmprinter()
        binding.Target.from_default_triple()
    except (ImportError, OSError, RuntimeError) as error:
        LOGGER.warning("no machine code for convolutions on this CPU, they will be slower: %s", error)
        return None
    return binding


@functools.cache
def vector_bytes() -> int:
    """Size of the processor's vectors."""
    features = llvm().get_host_cpu_features()
    return 64 if features.get("avx512f") else 32 if features.get("avx") else 16


def targets() -> tuple[str, ...]:
    """Names of the custom calls registered so far, for ``jax.export`` to accept."""
    return tuple(_ENGINES)


def share(cores: int) -> None:
    """Let so many cores compute what one call has been cut into; as they are idle, not those that run other lanes.

    Holds for the process, from the next call on. What is computed stays the same, bit for bit.
    """
    global _helpers
    helpers = max(0, min(cores, threads.PARTS) - 1) if threads.are_available() else 0
    if helpers == _helpers:  # without waiting for what is being compiled
        return
    with _LOCK:
        _helpers = helpers
        for engine in _ENGINES.values():
            _tell(engine)


def _tell(engine: Any) -> None:
    """Tell machine code how many threads help, where it makes use of any."""
    address = engine.get_function_address("paribus_share")
    if address:
        ctypes.CFUNCTYPE(None, ctypes.c_int32)(address)(_helpers)


def target(text: str) -> str:
    """The name of the custom call that runs the module with this text: the same in every process."""
    name = f"paribus_{hashlib.sha256(text.encode()).hexdigest()[:24]}"
    with _LOCK:
        if name not in _ENGINES:
            engine = _compiled(text)
            _tell(engine)
            jax.ffi.register_ffi_target(name, _capsule(engine.get_function_address("handler")), platform="cpu")
            _ENGINES[name] = engine
    return name


def _compiled(text: str) -> Any:
    """The engine that holds the machine code of a module."""
    binding = llvm()
    processor, features = binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten()
    machine = binding.Target.from_default_triple().create_target_machine(cpu=processor, features=features, opt=3)

    def translate() -> bytes:
        module = binding.parse_assembly(text)
        builder = binding.create_pass_builder(machine, binding.create_pipeline_tuning_options(speed_level=2))
        builder.getModulePassManager().run(module, builder)
        return machine.emit_object(module)

    code = _kept((text, processor, features, *binding.llvm_version_info), translate)
    engine = binding.create_mcjit_compiler(binding.parse_assembly(""), machine)
    engine.add_object_file(binding.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return engine


def _kept(made_of: tuple, make: Callable[[], bytes]) -> bytes:
    """Machine code from the folder of jax's compilation cache, or else made, and kept there for the next process.

    What is damaged there counts as absent; where nothing can be kept, nothing is.
    """
    folder = getattr(jax.config, "jax_compilation_cache_dir", None)
    if not getattr(jax.config, "jax_enable_compilation_cache", False) or not folder or not os.path.isdir(folder):
        return make()
    path = Path(folder) / "machine_code" / hashlib.sha256(repr(made_of).encode()).hexdigest()
    with contextlib.suppress(OSError):
        content = path.read_bytes()
        if content[:_DIGEST] == hashlib.sha256(content[_DIGEST:]).digest():
            return content[_DIGEST:]
    code = make()
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
        try:
            part.write_bytes(hashlib.sha256(code).digest() + code)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    return code


def _capsule(address: int) -> Any:
    """A function's address, as jax takes it."""
    function = ctypes.pythonapi.PyCapsule_New
    function.restype, function.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
    return function(address, b"xla._CUSTOM_CALL_TARGET", None)
