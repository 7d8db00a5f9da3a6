"""The problems in C++ (by_hand.cpp), called through ctypes."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..build_cpp import run_compiler
from .problems import Inputs, Problem

_FLAGS = "-std=c++17 -O3 -march=native -ffast-math -fopenmp-simd -fPIC"
# The sizes in front of the arguments of a problem's functions: an axis of an input each.
_SIZES = {
    "log_sum_exp": [("x", 0)],
    "least_squares": [("x", 0)],
    "gaussian_mixture": [("alpha", 0), ("mean", 1), ("factor", 1), ("x", 0)],
    "k_means": [("point", 0), ("point", 1), ("centre", 0)],
    "bundle_adjustment": [("seen", 0)],
    "long_short_term_memory": [("weight", 0), ("weight", 2), ("sequence", 0)],
    "differential_equation": [("x", 0)],
    "determinant": [("A", 0)],
}


def build(folder: Path) -> str:
    """'' when the functions, compiled for this machine, lie in a folder; otherwise why not, in one line."""
    source, object_file, target = Path(__file__).parent / "by_hand.cpp", folder / "by_hand.o", folder / "by_hand.so"
    # Linked apart: a library that is linked with -ffast-math flushes the denormals of the whole process that loads it.
    return run_compiler("CXX", "c++", [*_FLAGS.split(), "-c", str(source), "-o", str(object_file)]) or run_compiler(
        "CXX", "c++", ["-shared", str(object_file), "-o", str(target)]
    )


def library(folder: Path) -> ctypes.CDLL:
    return ctypes.CDLL(str(folder / "by_hand.so"))


def _given(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return ctypes.c_void_p(value.ctypes.data)
    return ctypes.c_int64(value) if isinstance(value, int) else ctypes.c_double(value)


def results(problem: Problem, inputs: Inputs) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """Room for the outputs, and for the gradients."""
    if problem.name == "bundle_adjustment":
        count = len(inputs["seen"])
        rows = tuple(np.empty(shape) for shape in ((count, 2, 11), (count, 2, 3), (count, 2)))
        return (np.empty((count, 2)),), rows
    output = np.empty_like(inputs["x"]) if problem.name == "differential_equation" else np.empty(1)
    return (output,), tuple(np.empty_like(inputs[name]) for name in problem.wrt)


def prepare(functions: ctypes.CDLL, problem: Problem, inputs: Inputs) -> dict[str, Callable[[], Any]]:
    """The primal and the gradient; each returns the same arrays each time. The inputs must live as long."""
    sizes = [inputs[name].shape[axis] for name, axis in _SIZES[problem.name]]
    given = [*map(_given, sizes), *map(_given, inputs.values())]

    def call(name: str, room: tuple[np.ndarray, ...]) -> Callable[[], Any]:
        function = getattr(functions, f"{problem.name}_{name}")
        function.restype = None
        operands = [*given, *map(_given, room)]

        def run() -> tuple[np.ndarray, ...]:
            function(*operands)
            return room

        return run

    outputs, gradients = results(problem, inputs)
    return {"primal": call("primal", outputs), "gradient": call("gradient", gradients)}
