"""Differentiable Taichi kernels, compiled ahead of time. This package loads and calls them; it knows nothing of Taichi.

For example:

    dense_tanh = tiaot.load("dense_tanh")
    gx = dense_tanh.vjp(x, W, b, v)

Every array is a numpy.ndarray or speaks DLPack, and none is copied. `tiaot.torch` and `tiaot.jax` do the same for
tensors and JAX arrays, with gradients; they are imported at their first use.
"""

from typing import Any

from ._core import (
    BoundCall,
    Entry,
    Kernel,
    Module,
    ModuleError,
    __version__,
    cpu_level,
    get_num_threads,
    set_num_threads,
)
from ._load import load, open
from ._state import Field, State

__all__ = [
    "BoundCall",
    "Entry",
    "Field",
    "Kernel",
    "Module",
    "ModuleError",
    "State",
    "__version__",
    "cpu_level",
    "get_num_threads",
    "load",
    "open",
    "set_num_threads",
]


def __getattr__(name: str) -> Any:
    if name in ("cuda", "jax", "torch"):
        import importlib

        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
