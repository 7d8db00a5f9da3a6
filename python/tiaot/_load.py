"""Finds module files, opens them, and rebuilds pickled handles. Knows nothing of arrays or calls."""

import os
import threading

from . import _core
from ._core import Entry, Kernel, Module, ModuleError, StateMemory

# Beside the extension, not beside this file: in an editable install the two are in different places.
_SHIPPED = os.path.join(os.path.dirname(_core.__file__), "modules")
_SUFFIX = ".tiaot.so"

_loaded: dict[str, Module] = {}
_lock = threading.RLock()  # re-entrant for a signal handler or a finalizer that runs while its thread is in here


def _renew_lock() -> None:
    global _lock
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_renew_lock)  # the child lacks the thread that may have held it


def load(name: str) -> Kernel:
    """The kernel of that name that ships with tiaot, such as "dense_tanh".

    Its module is opened once per process, and again if it has been closed.

    Raises ValueError, with the names that exist, for any other name; ModuleError when the file is damaged;
    NotImplementedError when this machine lacks the CPU level that TIAOT_CPU_LEVEL asks for.
    """
    return _shipped_module(name).kernels[name]


def open(path: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> Module:
    """Opens a module file; its kernels are attributes of the result. Each call opens it anew.

    Raises ModuleError (an OSError) when the file cannot be read, is no module, is truncated or damaged, or was made for
    another version of the format; ValueError for a path with a null byte; TypeError for what is no path;
    NotImplementedError when this machine lacks the CPU level that TIAOT_CPU_LEVEL asks for.
    """
    return _open(os.fsdecode(path), shipped=False)


def _open(path: str, *, shipped: bool) -> Module:
    if "\0" in path:
        raise ValueError(f"open: argument 'path': expected a path without null bytes, got {path!r}")
    path = os.path.abspath(path)
    return _core.open_module(os.fsencode(path), path, shipped)


def _shipped_names() -> list[str]:
    return sorted(name.removesuffix(_SUFFIX) for name in os.listdir(_SHIPPED) if name.endswith(_SUFFIX))


def _shipped_module(name: str) -> Module:
    if not isinstance(name, str):
        raise TypeError(f"load: argument 'name': expected a str, got {type(name).__name__}")
    module = _loaded_module(name)
    if module is not None:  # without the lock
        return module
    names = _shipped_names()
    if name not in names:
        raise ValueError(f"load: argument 'name': expected one of {', '.join(names)}, got {name!r}")
    with _lock:
        module = _loaded_module(name)
        if module is None:
            opened = _open(os.path.join(_SHIPPED, name + _SUFFIX), shipped=True)
            module = _loaded_module(name)  # what came in between on this thread has loaded it, too
            if module is None:
                module = _loaded[name] = opened
    return module


def _loaded_module(name: str) -> Module | None:
    module = _loaded.get(name)
    return None if module is None or module.closed else module


def restore_module(source: str, shipped: bool, expected_hash: str) -> Module:
    """Rebuilds a pickled Module from its shipped name or its path. ModuleError when the file is another one by now."""
    module = _shipped_module(source) if shipped else _open(source, shipped=False)
    if module.hash != expected_hash:
        raise ModuleError(f"{module.path}: expected the module with hash {expected_hash}, got {module.hash}")
    return module


def restore(origin: Module | StateMemory, name: str, variant: str | None, attribute: str | None) -> Kernel | Entry:
    """Rebuilds a pickled Kernel, of a module or bound to a state, or the Entry that is its `attribute`."""
    kernel = origin.kernels[name] if isinstance(origin, Module) else origin.kernel(name)
    if variant is not None:
        kernel = kernel.restrict(variant)
    return kernel if attribute is None else getattr(kernel, attribute)
