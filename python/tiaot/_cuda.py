"""What libraries of arrays on CUDA devices are asked in Python: their current stream, and an array for a result.

Knows nothing of kernels. Imports no library: whoever passes its arrays has imported it.
"""

from __future__ import annotations

import sys
from typing import Any


def _library_of(array: Any, name: str) -> Any:
    """The module of that name, where `array` is of a type of its own; else None."""
    root = type(array).__module__.partition(".")[0]
    return sys.modules.get(name) if root in (name, f"{name}lib") else None


def current_stream(array: Any, device: int) -> int:
    """The handle of the stream that the array's library works on there; 0, the legacy default stream, for the others
    than CuPy. (torch is asked through DLPack's table.)
    """
    cupy = _library_of(array, "cupy")
    return 0 if cupy is None else int(cupy.cuda.get_current_stream(device).ptr)


def new_array(like: Any, shape: tuple[int, ...], dtype: str) -> Any:
    """An uninitialised array of the library of `like`, on its device; None where it makes none to be written to."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(like, torch.Tensor):
        return torch.empty(shape, dtype=getattr(torch, dtype), device=like.device)
    if _library_of(like, "jax") is not None:
        return None
    library = like.__array_namespace__() if hasattr(like, "__array_namespace__") else _library_of(like, "cupy")
    kind = getattr(library, dtype, None)
    if kind is None:
        return None
    try:
        return library.empty(shape, dtype=kind, device=like.device)
    except TypeError:  # CuPy has no such argument: its devices are entered
        with like.device:
            return library.empty(shape, dtype=kind)
