"""Arrays "on a CUDA device" for machines without one: NumPy's memory behind each of the protocols that tiaot reads.

The stand-in for the driver, runtime/tests/standin_cuda.cpp, has its device's memory in the host's, so that what a
kernel did can be looked at. Once it is loaded it is the process's driver: tests that need it run in a child, see
`in_child`.
"""

from __future__ import annotations

import ctypes
import importlib
import inspect
import os
import shutil
import subprocess
import sys
import tempfile
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

CPU, CUDA, MANAGED = 1, 2, 13
READ_ONLY, COPIED = 1, 2
_KINDS = {"i": 0, "u": 1, "f": 2, "b": 6}


class DLTensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class ManagedTensor(ctypes.Structure):
    """DLManagedTensorVersioned."""


Deleter = ctypes.CFUNCTYPE(None, ctypes.POINTER(ManagedTensor))
ManagedTensor._fields_ = (
    ("major", ctypes.c_uint32),
    ("minor", ctypes.c_uint32),
    ("context", ctypes.c_void_p),
    ("deleter", Deleter),
    ("flags", ctypes.c_uint64),
    ("tensor", DLTensor),
)


class OldManagedTensor(ctypes.Structure):
    """DLManagedTensor, from before DLPack 1.0."""


OldDeleter = ctypes.CFUNCTYPE(None, ctypes.POINTER(OldManagedTensor))
OldManagedTensor._fields_ = (("tensor", DLTensor), ("context", ctypes.c_void_p), ("deleter", OldDeleter))
_lent: dict[int, Any] = {}  # what an export points to, by its address, until it is given back


def lent() -> int:
    """How many exports have not been given back."""
    return len(_lent)


@Deleter
def _give_back(managed: Any) -> None:
    del _lent[ctypes.addressof(managed.contents)]


@OldDeleter
def _give_old_back(managed: Any) -> None:
    del _lent[ctypes.addressof(managed.contents)]


def fill(tensor: DLTensor, array: np.ndarray, device: tuple[int, int]) -> Any:
    """Describes a NumPy array as one on `device`. What is returned has to live as long as the description."""
    numbers = (ctypes.c_int64 * (2 * array.ndim))(*array.shape, *(s // array.itemsize for s in array.strides))
    whole = ctypes.cast(numbers, ctypes.POINTER(ctypes.c_int64))
    tensor.data = array.__array_interface__["data"][0]
    tensor.device_type, tensor.device_id = device
    tensor.ndim = array.ndim
    tensor.code, tensor.bits, tensor.lanes = _KINDS[array.dtype.kind], 8 * array.itemsize, 1
    tensor.shape = whole
    tensor.strides = ctypes.cast(ctypes.byref(numbers, 8 * array.ndim), ctypes.POINTER(ctypes.c_int64))
    tensor.byte_offset = 0
    return numbers


def managed_tensor(array: np.ndarray, device: tuple[int, int], flags: int) -> ManagedTensor:
    """An export of the array, kept until its deleter is called."""
    managed = ManagedTensor(major=1, minor=0, deleter=_give_back, flags=flags)
    _lent[ctypes.addressof(managed)] = (managed, array, fill(managed.tensor, array, device))
    return managed


_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype, _new_capsule.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)


def capsule(address: int, name: bytes) -> Any:
    """A PyCapsule; `name` must live as long as it."""
    return _new_capsule(address, name, None)


class OnDevice:
    """A NumPy array that says it is on a CUDA device, by DLPack. `streams` lists what its __dlpack__ was asked for."""

    def __init__(self, array: np.ndarray, device: int = 0, *, kind: int = CUDA, flags: int = 0) -> None:
        self.array, self.place, self.flags = array, (kind, device), flags
        self.streams: list[int | None] = []

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.place

    def __dlpack__(self, *, stream: int | None = None, max_version: tuple[int, int] | None = None) -> Any:
        assert max_version == (1, 0)
        self.streams.append(stream)
        return capsule(ctypes.addressof(managed_tensor(self.array, self.place, self.flags)), b"dltensor_versioned")


class OfOldLibrary(OnDevice):
    """As CuPy before its version 14: its export cannot say whether it may be written to, its other interface does."""

    def __dlpack__(self, stream: int | None = None) -> Any:  # type: ignore[override]
        self.streams.append(stream)
        managed = OldManagedTensor(deleter=_give_old_back)
        _lent[ctypes.addressof(managed)] = (managed, self.array, fill(managed.tensor, self.array, self.place))
        return capsule(ctypes.addressof(managed), b"dltensor")

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        of_numpy = self.array.__array_interface__
        return {**of_numpy, "data": (of_numpy["data"][0], bool(self.flags & READ_ONLY)), "version": 3}


class OfLibrary(OnDevice):
    """One of a library that follows the array API standard, as CuPy does: it makes arrays on the device it is told."""

    made: tuple[OfLibrary, ...] = ()

    @property
    def device(self) -> int:
        return self.place[1]

    def __array_namespace__(self) -> Any:
        def empty(shape: tuple[int, ...], *, dtype: Any, device: int) -> OfLibrary:
            array = type(self)(np.full(shape, 99, dtype), device)
            OfLibrary.made += (array,)
            return array

        dtypes = {name: np.dtype(name) for name in ("float32", "float64", "int32", "int64", "uint8")}
        return types.SimpleNamespace(empty=empty, **dtypes)


class Interface:
    """A NumPy array behind a __cuda_array_interface__, whose entries can be given others, or taken out by None."""

    def __init__(self, array: np.ndarray, **entries: Any) -> None:
        self.array = array
        of_numpy = array.__array_interface__
        dense = {key: of_numpy[key] for key in ("shape", "typestr", "data", "strides")}
        self.interface = {**dense, "version": 3, **entries}

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return self.interface


class Stream:
    """A stream object with the attribute, or method, that one of the libraries has."""

    def __init__(self, attribute: str, value: Any) -> None:
        setattr(self, attribute, (lambda: value) if attribute == "__cuda_stream__" else value)


# DLPack's table of C functions.

_Export = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.POINTER(ctypes.c_void_p))
_Borrow = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.POINTER(DLTensor))
_Allocate = ctypes.PYFUNCTYPE(
    ctypes.c_int,
    ctypes.POINTER(DLTensor),
    ctypes.POINTER(ctypes.c_void_p),
    ctypes.c_void_p,
    ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p),
)
_Import = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.POINTER(ManagedTensor), ctypes.POINTER(ctypes.c_void_p))
_Current = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_int32, ctypes.POINTER(ctypes.c_void_p))


class ExchangeTable(ctypes.Structure):
    _fields_ = (
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("previous", ctypes.c_void_p),
        ("allocate", _Allocate),
        ("export", _Export),
        ("import_", _Import),
        ("borrow", _Borrow),
        ("current", _Current),
    )


def exchange_table(current: Callable[[int], int], make: Callable[..., Any] | None = None) -> Any:
    """A capsule of the table for types with `array`, `place` and `flags`; `current` tells a device's stream, and `make`
    makes an object of a NumPy array and a device; without it, the table allocates nothing.
    """
    kept: dict[int, Any] = {}

    def export(array: Any, out: Any) -> int:
        out[0] = ctypes.addressof(managed_tensor(array.array, array.place, array.flags))
        return 0

    def borrow(array: Any, out: Any) -> int:
        kept[id(array)] = fill(out[0], array.array, array.place)
        return 0

    def stream_of(_: int, device: int, out: Any) -> int:
        out[0] = current(device)
        return 0

    def allocate(prototype: Any, out: Any, error: int, set_error: Any) -> int:
        tensor = prototype[0]
        if tensor.shape[0] > 1000:
            set_error(error, b"MemoryError", b"a thousand rows is all there is")
            return -1
        assert (tensor.code, tensor.bits) == (_KINDS["f"], 32)
        array = np.full(tensor.shape[: tensor.ndim], 99, np.float32)
        out[0] = ctypes.addressof(managed_tensor(array, (tensor.device_type, tensor.device_id), 0))
        return 0

    def import_(managed: Any, out: Any) -> int:
        _, array, _ = _lent[ctypes.addressof(managed[0])]
        assert make is not None
        made = make(array, managed[0].tensor.device_id)
        managed[0].deleter(managed)
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(made))
        out[0] = id(made)
        return 0

    allocates = (_Allocate(allocate), _Import(import_)) if make is not None else (_Allocate(), _Import())
    table = ExchangeTable(1, 3, None, allocates[0], _Export(export), allocates[1], _Borrow(borrow), _Current(stream_of))
    _lent_for_ever.append(table)
    return capsule(ctypes.addressof(table), b"dlpack_exchange_api")


_lent_for_ever: list[Any] = []


# The driver's stand-in, and children that have it.

_ROOT = Path(__file__).parents[1]
_TESTS = Path(__file__).parent
_SKIPPED = 77  # what a child ends with


def build_standin(folder: Path) -> Path:
    """The stand-in for libcuda.so.1, compiled into `folder` unless it is there."""
    library = folder / "libcuda.so.1"
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("needs a C++ compiler")
    if not library.exists():
        objects = []
        interpreter = sorted((_ROOT / "python" / "ptx").glob("*.cpp"))
        for source in (_ROOT / "runtime" / "tests" / "standin_cuda.cpp", *interpreter):
            objects.append(str(library.with_name(f"{source.stem}.{os.getpid()}.o")))
            options = ["-fPIC", "-std=c++17", "-O2", "-ffp-contract=off", "-fvisibility=hidden"]
            options.append(f"-I{_ROOT / 'python'}")
            subprocess.run([compiler, *options, "-c", str(source), "-o", objects[-1]], check=True)
        made = library.with_suffix(f".{os.getpid()}")
        options = ["-shared", "-Wl,-soname,libcuda.so.1"]
        subprocess.run([compiler, *options, *objects, "-o", str(made), "-ldl"], check=True)
        made.replace(library)
    return library


class Driver:
    """The stand-in, loaded as the driver of this process. Functions of standin_cuda.h are its attributes, by the part
    of their names behind "standin_".
    """

    def __init__(self, path: str) -> None:
        self._library = ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
        for text in (self._library.standin_log, self._library.standin_findings, self._library.standin_ptx):
            text.restype = ctypes.c_char_p
        for number in (self._library.standin_unwritten, self._library.standin_steps):
            number.restype = ctypes.c_int64

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return getattr(self._library, f"standin_{name}")

    def calls(self, *functions: str) -> list[str]:
        """The lines of the log that are of these functions, all lines without any; then the log is empty."""
        lines = self._library.standin_log().decode().splitlines()
        self._library.standin_clear_log()
        return [line for line in lines if not functions or line.split()[0] in functions]

    def streams(self) -> list[str]:
        """The streams of the launches in the log, which then is empty."""
        return [line.split("stream=")[1].split()[0] for line in self.calls("cuLaunchKernel")]


def in_child(function: Callable[..., None]) -> Callable[..., None]:
    """A test that runs in a process of its own, called with the Driver; or without an argument where it takes none,
    in a process without a driver.
    """
    takes = len(inspect.signature(function).parameters)

    def test(shared_folder: Path) -> None:
        command = [sys.executable, "-c", "import sys, cuda_arrays; cuda_arrays.run_in_child(*sys.argv[1:])"]
        command += [function.__module__, function.__name__]
        if takes:
            command.append(str(build_standin(shared_folder)))
        path = os.pathsep.join([str(_TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {**os.environ, "PYTHONPATH": path}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
        if done.returncode == _SKIPPED:
            pytest.skip(done.stderr)
        assert done.returncode == 0, done.stdout + done.stderr

    test.__name__ = test.__qualname__ = function.__name__
    test.__doc__ = function.__doc__
    test.body = function  # type: ignore[attr-defined]
    return test


def run_in_child(module: str, name: str, library: str | None = None) -> None:
    """What the child does."""
    driver = [] if library is None else [Driver(library)]
    try:
        getattr(importlib.import_module(module), name).body(*driver)
    except pytest.skip.Exception as reason:
        print(reason, file=sys.stderr)
        sys.exit(_SKIPPED)


def open_module(**defines: str) -> Any:
    """The module of fixtures/cuda.c, opened. Its file is gone already."""
    import module_files
    import tiaot

    with tempfile.TemporaryDirectory() as folder:
        return tiaot.open(module_files.write_module("cuda.c", Path(folder) / "cuda.so", **defines))
