"""Trials of code for CUDA on a machine without a GPU: the PTX of its kernels, interpreted (python/ptx), with a host
that runs them where a driver would. Knows no signatures.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..target.nvidia.threads import BLOCK
from .along import JVP
from .trial_session import Arrays, Record, Session
from .trial_state import tangents_of_fields

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


class _Interpreter:
    """The interpreter's library, with the PTX of one module."""

    def __init__(self, ptx: bytes) -> None:
        library = ctypes.CDLL(str(next(Path(__file__).parents[1].glob("libtiaot_ptx.*"))))
        library.tiaot_ptx_open.restype = _Pointer
        library.tiaot_ptx_open.argtypes = [ctypes.c_char_p, ctypes.POINTER(ctypes.c_char_p)]
        library.tiaot_ptx_describe.argtypes = [
            *(_Pointer, _Pointer, ctypes.c_int64, ctypes.c_char_p),
            *(ctypes.c_int32, ctypes.c_int32),
        ]
        library.tiaot_ptx_touch.argtypes = [_Pointer, ctypes.c_char_p, _Pointer, ctypes.c_int64, ctypes.c_int32]
        library.tiaot_ptx_unwritten.argtypes = [_Pointer, _Pointer]
        library.tiaot_ptx_unwritten.restype = ctypes.c_int64
        library.tiaot_ptx_launch.argtypes = [
            *(_Pointer, ctypes.c_char_p, ctypes.c_int64, ctypes.c_int32),
            ctypes.POINTER(_Pointer),
        ]
        library.tiaot_ptx_findings.argtypes = library.tiaot_ptx_forget.argtypes = [_Pointer]
        library.tiaot_ptx_findings.restype = ctypes.c_char_p
        reason = ctypes.c_char_p()
        self.library = library
        self.handle = library.tiaot_ptx_open(ptx, ctypes.byref(reason))
        if not self.handle:
            raise RuntimeError(f"the interpreter does not know its code for CUDA: {(reason.value or b'').decode()}")

    def describe(self, name: str, array: np.ndarray, *, writable: bool) -> None:
        """An array that kernels may touch: an input, or a result whose elements hold nothing yet."""
        size, item = array.nbytes, array.itemsize
        self.library.tiaot_ptx_describe(self.handle, array.ctypes.data, size, name.encode(), writable, item)

    def touch(self, function: str, start: int | None, size: int, *, write: bool) -> None:
        self.library.tiaot_ptx_touch(self.handle, function.encode(), start, size, write)

    def launch(self, kernel: str, blocks: int, parameters: Any) -> int:
        return self.library.tiaot_ptx_launch(self.handle, kernel.encode(), blocks, BLOCK, parameters)

    def unwritten(self, array: np.ndarray) -> int:
        return self.library.tiaot_ptx_unwritten(self.handle, array.ctypes.data) if array.size else 0

    def findings(self) -> str:
        """What was wrong, a line for each kind and place; then all that was described is forgotten."""
        said = self.library.tiaot_ptx_findings(self.handle).decode()
        self.library.tiaot_ptx_forget(self.handle)
        return said


class _Device:
    def __init__(self, path: str) -> None:
        self.library = ctypes.CDLL(path)
        self.kernels = self._text("kernel_names").decode().splitlines()
        self.interpreter = _Interpreter(self._text("ptx"))
        self.host = _Host(_Launch(self._launch), _Fill(self._fill), _Copy(self._copy), None)

    def _text(self, name: str) -> bytes:
        return ctypes.string_at(ctypes.addressof(ctypes.c_char.in_dll(self.library, name)))

    def has(self, entry: str) -> bool:
        return hasattr(self.library, f"{entry}_cuda_pointer")

    def state(self) -> _State:
        """A state of zeros, of a module that has fields."""
        return _State(json.loads(self._text("state")))

    def call(
        self,
        entry: str,
        rows: int,
        sizes: list[int],
        inputs: dict[str, np.ndarray],
        results: dict[str, np.ndarray],
        state: np.ndarray | None = None,
        tangents: np.ndarray | None = None,
    ) -> None:
        """Runs an entry; `state` is the memory of the fields that it works on, `tangents` that of theirs.

        Raises:
            RuntimeError: with what is wrong about what its kernels did, or where they left a result unwritten.
        """
        memory = {"the fields": state, "the tangents of the fields": tangents}
        fields = {name: array for name, array in memory.items() if array is not None}
        arrays = [*inputs.values(), *results.values(), *fields.values()]
        dims = (ctypes.c_int64 * max(len(sizes), 1))(*sizes)
        pointers = (_Pointer * len(arrays))(*(array.ctypes.data for array in arrays))
        workspace = _Workspace(_Pointer.in_dll(self.library, f"{entry}_cuda_workspace_pointer").value)
        room = np.full(workspace(rows, dims) + 256, 0xFF, np.uint8)  # NaN to whoever reads it unwritten
        start = -room.ctypes.data % 256
        room = room[start : start + len(room) - 256]
        for name, array in inputs.items():
            self.interpreter.describe(name, array, writable=False)
        for name, array in results.items():
            self.interpreter.describe(name, array, writable=True)
        for name, array in fields.items():
            self.interpreter.describe(name, array, writable=True)
            self.interpreter.touch("a copy", array.ctypes.data, array.nbytes, write=True)
        self.interpreter.describe("workspace", room.view(np.uint16) if len(room) % 2 == 0 else room, writable=True)
        code = _Code(_Pointer.in_dll(self.library, f"{entry}_cuda_pointer").value)
        everything = (1 << 64) - 1  # numbers are all on the host
        outcome = code(rows, dims, pointers, everything, room.ctypes.data, ctypes.byref(self.host))
        unwritten = {name: self.interpreter.unwritten(array) for name, array in results.items()}
        if said := self.interpreter.findings():
            raise RuntimeError(
                f"{entry}: its code for CUDA is wrong on a device: {said.splitlines()[0]}: let each turn of a parallel "
                "loop read only what no other turn writes, or export it without --cuda"
            )
        if outcome != 0:
            raise RuntimeError(f"{entry}: its code for CUDA gave {outcome}")
        for name, count in unwritten.items():
            if count:
                raise RuntimeError(f"{entry}: its code for CUDA leaves {count} bytes of {name} unwritten")

    def _launch(self, _: Any, kernel: int, threads: int, exact: int, parameters: Any) -> int:
        if not exact:
            wanted = _MOST_THREADS if threads < 0 else threads
            threads = min(wanted, _MOST_THREADS)
        blocks = -(-threads // BLOCK)
        return self.interpreter.launch(self.kernels[kernel], blocks, parameters) if blocks else 0

    def _fill(self, _: Any, target: int | None, size: int) -> int:
        if size > 0:
            self.interpreter.touch("a fill", target, size, write=True)
            ctypes.memset(target, 0, size)
        return 0

    def _copy(self, _: Any, target: int | None, source: int | None, size: int) -> int:
        if size > 0:
            self.interpreter.touch("a copy", source, size, write=False)
            self.interpreter.touch("a copy", target, size, write=True)
            ctypes.memmove(target, source, size)
        return 0


class _State:
    """The memory of a module's fields, and the fields as arrays in it."""

    def __init__(self, about: dict[str, Any]) -> None:
        room = np.zeros(about["bytes"] + 256, np.uint8)
        start = -room.ctypes.data % 256
        self.memory = room[start : start + about["bytes"]]
        self.fields: dict[str, np.ndarray] = {}
        for name, dtype, shape, strides, offset in about["fields"]:
            steps = [stride * np.dtype(dtype).itemsize for stride in strides]
            self.fields[name] = np.ndarray(shape, dtype, self.memory, offset, steps)

    def fill(self, arrays: Mapping[str, np.ndarray], only: str = "") -> None:
        """Writes the fields whose names end in `only`."""
        for name, array in arrays.items():
            if name.endswith(only):
                self.fields[name][...] = array

    def results(self, kind: str, names: list[str]) -> dict[str, np.ndarray]:
        return {f"{kind}.{name}": np.array(self.fields[name]) for name in names}


def _run_on_fields(
    session: Session, device: _Device, trial: Record, inputs: dict[str, np.ndarray], arrays: Arrays
) -> dict[str, np.ndarray]:
    """Outputs and fields after a kernel over fields and its adjoint, as trial_state.py has those of the module."""
    stem = f"{trial['kernel']}_{trial['variant_name']}"
    names = trial["fields"]
    drawn = {name: arrays[f"state.{name}"] for name in names}
    results: dict[str, np.ndarray] = {}
    if not device.has(f"{stem}_forward"):
        return results
    session.say(trial, doing="forward")
    state = device.state()
    state.fill(drawn)
    made = {name: np.array(arrays[f"cotangent.{name}"]) for name in trial["outputs"]}
    sizes = [trial["dims"][name] for name in trial["dim_names"]]
    given = {f"the result {key}": made[key] for key in made}
    device.call(f"{stem}_forward", 1, sizes, _named(inputs), given, state.memory)
    results |= {f"output.{name}": array for name, array in made.items()}
    results |= state.results("after", names)
    if trial["gradient"] and device.has(f"{stem}_grad"):
        session.say(trial, doing="grad")
        state.fill(drawn, ".grad")
        device.call(f"{stem}_grad", 1, sizes, _named(inputs), {}, state.memory)
        results |= state.results("adjoint", names)
    for kind, _ in () if trial["large"] else trial["along"]:
        if device.has(f"{stem}_{kind}"):
            session.say(trial, doing=kind)
            results |= _run_along_fields(device, trial, inputs, arrays, kind)
    return results


def _run_along_fields(
    device: _Device, trial: Record, inputs: dict[str, np.ndarray], arrays: Arrays, kind: str
) -> dict[str, np.ndarray]:
    """What a jvp or hvp leaves in the fields, and in their tangents."""
    state, tangents = device.state(), device.state()
    names = trial["fields"]
    state.fill({name: arrays[f"state.{name}"] for name in names})
    drawn = tangents_of_fields(trial, {name: state.fields[name] for name in names})
    tangents.fill(drawn)
    made, moved = (
        {name: np.array(arrays[f"cotangent.{name}"]) for name in (trial["outputs"] if kind == JVP else ())}
        for _ in range(2)
    )
    given = {f"the result {name}": array for name, array in made.items()}
    given |= {f"the tangent of {name}": array for name, array in moved.items()}
    sizes = [trial["dims"][name] for name in trial["dim_names"]]
    entry = f"{trial['kernel']}_{trial['variant_name']}_{kind}"
    device.call(entry, 1, sizes, _named(inputs), given, state.memory, tangents.memory)
    results = {f"value.*.{name}": array for name, array in made.items()}
    results |= {f"{JVP}.*.{name}": array for name, array in moved.items()}
    results |= state.results("value.*", names) if kind == JVP else {}
    return results | tangents.results(f"{kind}.*", list(drawn))


def _placed(array: np.ndarray, shift: int) -> np.ndarray:
    """A dense copy of an array, so many elements behind a multiple of 16 bytes."""
    memory = np.empty(array.nbytes + 64, np.uint8)
    start = -memory.ctypes.data % 16 + shift * array.itemsize
    placed = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    placed[...] = array
    return placed


def run_interpreted(session: Session, path: str) -> None:
    """Writes the results of every entry that there is, by the keys that trial_module.py gives those of the module."""
    device = _Device(path)
    for number, (trial, arrays) in enumerate(session.each()):
        results: dict[str, np.ndarray] = {}
        shift = number % 2  # of the arrays from a multiple of 16 bytes: an entry may have code for either
        sizes = [trial["dims"][name] for name in trial["dim_names"]]
        rows = trial["dims"][trial["batch"]] if trial["batch"] else 1
        stem = f"{trial['kernel']}_{trial['variant_name']}"
        inputs = {name: _placed(arrays[f"input.{name}"], shift) for name in trial["inputs"]}
        if trial["fields"]:
            session.keep(trial, "results", _run_on_fields(session, device, trial, inputs, arrays))
            continue
        cotangents = {
            f"the cotangent of {name}": _placed(arrays[f"cotangent.{name}"], shift) for name in trial["outputs"]
        }
        if device.has(f"{stem}_forward"):
            session.say(trial, doing="forward")
            made = {
                name: _placed(array, shift) for name, array in zip(trial["outputs"], cotangents.values(), strict=True)
            }
            # An argument on both sides is an input and a result, in arrays of their own.
            device.call(
                f"{stem}_forward", rows, sizes, _named(inputs), {f"the result {key}": made[key] for key in made}
            )
            for name, array in made.items():
                results[f"output.{name}"] = array
        for wrt in trial["wrt"]:
            entry = f"{stem}_vjp_{'_'.join(wrt)}"
            if not device.has(entry):
                continue
            session.say(trial, doing=f"vjp, wrt {' '.join(wrt)}")
            made = {name: _placed(inputs[name], shift) for name in wrt}
            given = {**_named(inputs), **cotangents}
            device.call(entry, rows, sizes, given, {f"the gradient of {key}": made[key] for key in made})
            for name, array in made.items():
                results[f"gradient.{' '.join(wrt)}.{name}"] = array
        for kind, names in trial["along"]:
            entry = f"{stem}_{kind}_{'_'.join(names)}"
            if not device.has(entry):
                continue
            session.say(trial, doing=f"{kind}, wrt {' '.join(names)}")
            tangents = {f"the tangent of {name}": _placed(arrays[f"tangent.{name}"], shift) for name in names}
            given = {**_named(inputs), **({} if kind == JVP else cotangents), **tangents}
            like = {name: arrays[f"cotangent.{name}"] for name in trial["outputs"]} if kind == JVP else inputs
            pairs = [(name, _placed(like[name], shift)) for _ in range(2) for name in (like if kind == JVP else names)]
            half = len(pairs) // 2
            what = "the result" if kind == JVP else "the gradient of"
            out = {f"{what} {name}": array for name, array in pairs[:half]}
            out |= {f"the derivative of {what} {name}": array for name, array in pairs[half:]}
            device.call(entry, rows, sizes, given, out)
            for place, (name, array) in enumerate(pairs):
                part = ("value" if kind == JVP else "again") if place < half else kind
                results[f"{part}.{' '.join(names)}.{name}"] = array
        session.keep(trial, "results", results)


def _named(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {f"the input {name}": array for name, array in inputs.items()}
