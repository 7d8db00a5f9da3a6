"""Trials of code for CUDA on a machine without a GPU: its kernels compiled for the CPU (cuda/emulate.py), with a host
that runs them where a driver would. Knows no signatures.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from .cuda.device import BLOCK
from .trial import Session

_MOST_THREADS = 2 * BLOCK  # of a grid whose size is the runtime's to choose: most loops then go round

_Pointer = ctypes.c_void_p
_Launch = ctypes.CFUNCTYPE(
    ctypes.c_int32, _Pointer, ctypes.c_uint32, ctypes.c_int64, ctypes.c_int32, ctypes.POINTER(_Pointer)
)
_Fill = ctypes.CFUNCTYPE(ctypes.c_int32, _Pointer, _Pointer, ctypes.c_int64)
_Copy = ctypes.CFUNCTYPE(ctypes.c_int32, _Pointer, _Pointer, _Pointer, ctypes.c_int64)
_Workspace = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.POINTER(ctypes.c_int64))


class _Host(ctypes.Structure):
    """tiaot_cuda_host of module.h."""

    _fields_ = (("launch", _Launch), ("fill", _Fill), ("copy", _Copy), ("user", _Pointer))


_Code = ctypes.CFUNCTYPE(
    ctypes.c_int32,
    ctypes.c_int64,
    ctypes.POINTER(ctypes.c_int64),
    ctypes.POINTER(_Pointer),
    ctypes.c_uint64,
    _Pointer,
    ctypes.POINTER(_Host),
)


class _Emulator:
    def __init__(self, path: str) -> None:
        self.library = ctypes.CDLL(path)
        self.library.run.argtypes = [_Pointer, ctypes.POINTER(_Pointer), ctypes.c_int64]
        self.library.run.restype = None
        count = ctypes.c_int32.in_dll(self.library, "kernel_count").value
        self.kernels = (_Pointer * count).in_dll(self.library, "kernel_pointers")
        self.host = _Host(_Launch(self._launch), _Fill(self._fill), _Copy(self._copy), None)

    def has(self, entry: str) -> bool:
        return hasattr(self.library, f"{entry}_cuda_pointer")

    def call(self, entry: str, rows: int, sizes: list[int], arrays: list[np.ndarray]) -> None:
        dims = (ctypes.c_int64 * max(len(sizes), 1))(*sizes)
        pointers = (_Pointer * len(arrays))(*(array.ctypes.data for array in arrays))
        workspace = _Workspace(_Pointer.in_dll(self.library, f"{entry}_cuda_workspace_pointer").value)
        room = np.full(workspace(rows, dims) + 256, 0xFF, np.uint8)  # NaN to whoever reads it unwritten
        start = -(-room.ctypes.data // 256) * 256
        code = _Code(_Pointer.in_dll(self.library, f"{entry}_cuda_pointer").value)
        everything = (1 << 64) - 1  # numbers are all on the host
        outcome = code(rows, dims, pointers, everything, start, ctypes.byref(self.host))
        if outcome != 0:
            raise RuntimeError(f"{entry}: its code for CUDA gave {outcome}")

    def _launch(self, _: Any, kernel: int, threads: int, exact: int, parameters: Any) -> int:
        if not exact:
            wanted = _MOST_THREADS if threads < 0 else -(-threads // BLOCK) * BLOCK
            threads = min(wanted, _MOST_THREADS)
        self.library.run(self.kernels[kernel], parameters, threads)
        return 0

    @staticmethod
    def _fill(_: Any, target: int | None, size: int) -> int:
        if size > 0:
            ctypes.memset(target, 0, size)
        return 0

    @staticmethod
    def _copy(_: Any, target: int | None, source: int | None, size: int) -> int:
        if size > 0:
            ctypes.memmove(target, source, size)
        return 0


def _placed(array: np.ndarray, shift: int) -> np.ndarray:
    """A dense copy of an array, so many elements behind a multiple of 16 bytes."""
    memory = np.empty(array.nbytes + 64, np.uint8)
    start = -memory.ctypes.data % 16 + shift * array.itemsize
    placed = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    placed[...] = array
    return placed


def run_emulated(session: Session, path: str) -> None:
    """Writes the results of every entry that there is, by the keys that trial_module.py gives those of the module."""
    emulator = _Emulator(path)
    for number, (trial, arrays) in enumerate(session.each()):
        results: dict[str, np.ndarray] = {}
        shift = number % 2  # of the arrays from a multiple of 16 bytes: an entry may have code for either
        sizes = [trial["dims"][name] for name in trial["dim_names"]]
        rows = trial["dims"][trial["batch"]] if trial["batch"] else 1
        stem = f"{trial['kernel']}_{trial['variant_name']}"
        inputs = {name: _placed(arrays[f"input.{name}"], shift) for name in trial["inputs"]}
        cotangents = [_placed(arrays[f"cotangent.{name}"], shift) for name in trial["outputs"]]
        if emulator.has(f"{stem}_forward"):
            session.say(trial, doing="forward")
            made = [_placed(cotangent, shift) for cotangent in cotangents]
            emulator.call(f"{stem}_forward", rows, sizes, [*inputs.values(), *made])
            for name, array in zip(trial["outputs"], made, strict=True):
                results[f"output.{name}"] = array
        for wrt in trial["wrt"]:
            entry = f"{stem}_vjp_{'_'.join(wrt)}"
            if not emulator.has(entry):
                continue
            session.say(trial, doing=f"vjp, wrt {' '.join(wrt)}")
            made = [_placed(inputs[name], shift) for name in wrt]
            emulator.call(entry, rows, sizes, [*inputs.values(), *cotangents, *made])
            for name, array in zip(wrt, made, strict=True):
                results[f"gradient.{' '.join(wrt)}.{name}"] = array
        session.keep(trial, "results", results)
