"""What kernels on arrays cost, forward and backward, beside the same kernels in Taichi's JIT and in C++ by hand.

    python -m tiaot.benchmarks.kernels [--json FILE] [--threads N] [--cpu-time]

The kernels are those of kernels_program.py, exported as they are; a call has `out=` and one thread unless it is said
otherwise. Results are checked first; the statements of one kernel are timed in turn, in one process. Taichi's `grad()`
adds to gradients and clears cotangents, so that its adjoint begins with setting both, as tiaot's vjp does. C++ by hand
(kernels_by_hand.cpp) is compiled for the machine at hand, with -Ofast.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import runpy
import statistics
import tempfile
import time
import timeit
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import tiaot
from numpy.typing import NDArray

from .beside_taichi import exported, start
from .build_cpp import build_kernels
from .measure import measure
from .report import aligned, number

_PROGRAM = Path(__file__).parent / "kernels_program.py"
_SECONDS = 4.0
_SIZES = {"n": 1 << 18, "h": 512, "w": 512, "1": 1, "3": 3}
_WAYS = {"jit": "Taichi's JIT", "cpp": "C++ by hand", "tiaot": "tiaot"}
_CLOSE = 1e-3  # float32, sums of up to 262,144 numbers, in different orders


class _Case:
    """One kernel on the same numbers, ours and Taichi's."""

    def __init__(self, ours: tiaot.Kernel, theirs: Any, by_hand: ctypes.CDLL | None, threads: int) -> None:
        import taichi as ti

        rng = np.random.default_rng(0)
        described = next(each for each in ours.module.info()["kernels"] if each["name"] == ours.name)
        (variant,) = described["variants"]
        wrts = [entry["wrt"] for entry in variant["entries"] if entry["kind"] == "vjp"]
        self.wrt = tuple(max(wrts, key=len)) if wrts else ()

        def draw(argument: dict[str, Any]) -> NDArray[np.float32]:
            return rng.uniform(0, 1, [_SIZES[dim] for dim in argument["dims"]]).astype(np.float32)

        self.inputs = {each["name"]: draw(each) for each in described["inputs"]}
        self.outputs = {each["name"]: np.zeros_like(draw(each)) for each in described["outputs"]}
        self.cotangents = {
            name: rng.uniform(0, 1, each.shape).astype(np.float32) for name, each in self.outputs.items()
        }
        self.gradients = {name: np.empty_like(self.inputs[name]) for name in self.wrt}
        self.arrays: dict[str, Any] = {}
        self.kinds: dict[str, tuple[Any, tuple[int, ...]]] = {}  # of Taichi's arrays the elements' type and the shape
        for name, values in {**self.inputs, **self.outputs}.items():
            vectors = values.ndim == 2 and values.shape[1] == 3
            kind = (ti.types.vector(3, ti.f32), values.shape[:1]) if vectors else (ti.f32, values.shape)
            differentiated = bool(self.wrt) and (name in self.wrt or name in self.outputs)
            self.kinds[name], self.arrays[name] = kind, ti.ndarray(*kind, needs_grad=differentiated)
            self.arrays[name].from_numpy(values)
        out = list(self.outputs.values())
        gradients = list(self.gradients.values())
        self.names = {
            "ours": ours,
            "theirs": theirs,
            "x": tuple(self.inputs.values()),
            "v": tuple(self.cotangents.values()),
            "out": out[0] if len(out) == 1 else tuple(out),
            "wrt": self.wrt if len(self.wrt) > 1 else "".join(self.wrt),
            "gradients": gradients[0] if len(gradients) == 1 else tuple(gradients),
            "a": tuple(self.arrays.values()),
            "sync": ti.sync,
        }
        self.statements = {"jit": "theirs(*a); sync()", "tiaot": "ours(*x, out=out)"}
        if self.wrt:
            self.names["adjoint"] = self._taichis_adjoint(theirs)
            self.statements["jit adjoint"] = "adjoint(); sync()"
            self.statements["tiaot adjoint"] = "ours.vjp(*x, *v, wrt=wrt, out=gradients)"
        if by_hand is not None:
            self._add_by_hand(by_hand, ours.name, threads)

    def _add_by_hand(self, library: ctypes.CDLL, name: str, threads: int) -> None:
        first = next(iter(self.inputs.values()))
        self.found_by_hand = {each: np.empty_like(values) for each, values in (self.outputs | self.gradients).items()}
        results = [self.found_by_hand[each] for each in self.outputs]
        self.names["by_hand"] = _call_by_hand(library, name, first, [*self.inputs.values(), *results], threads)
        self.statements["cpp"] = "by_hand()"
        if self.wrt:
            gradients = [self.found_by_hand[each] for each in self.wrt]
            arrays = [*self.inputs.values(), *self.cotangents.values(), *gradients]
            self.names["adjoint_by_hand"] = _call_by_hand(library, f"{name}_vjp", first, arrays, threads)
            self.statements["cpp adjoint"] = "adjoint_by_hand()"

    def _taichis_adjoint(self, kernel: Any) -> Callable[[], None]:
        import taichi as ti

        from .taichi_jit import zero_kernel

        cotangents = []
        for name, values in self.cotangents.items():
            cotangents.append((self.arrays[name].grad, ti.ndarray(*self.kinds[name])))
            cotangents[-1][1].from_numpy(values)
        gradients = [self.arrays[name].grad for name in self.wrt]
        zeros = [zero_kernel(self.kinds[name][0], len(self.kinds[name][1])) for name in self.wrt]

        def adjoint() -> None:
            for gradient, cotangent in cotangents:
                gradient.copy_from(cotangent)
            for zero, gradient in zip(zeros, gradients, strict=True):
                zero(gradient)
            kernel.grad(*self.arrays.values())

        return adjoint

    def check(self) -> None:
        """Runs everything once. Raises RuntimeError where ours and Taichi's results differ."""
        for statement in self.statements.values():
            exec(statement, self.names)
        kernel = self.names["ours"].name
        for name, values in self.outputs.items():
            _compare(f"{kernel}: {name}", values, self.arrays[name])
        for name, values in self.gradients.items():
            _compare(f"{kernel}: gradient of {name}", values, self.arrays[name].grad)
        if "cpp" in self.statements:
            for name, values in (self.outputs | self.gradients).items():
                if not np.allclose(values, self.found_by_hand[name], rtol=_CLOSE, atol=_CLOSE):
                    raise RuntimeError(f"{kernel}: {name} is not what C++ by hand computes")


def _compare(what: str, ours: NDArray[np.float32], theirs: Any) -> None:
    if not np.allclose(ours, theirs.to_numpy(), rtol=_CLOSE, atol=_CLOSE):
        raise RuntimeError(f"{what} is not what Taichi computes")


def _call_by_hand(
    library: ctypes.CDLL, name: str, first: NDArray[np.float32], arrays: Iterable[NDArray[np.float32]], threads: int
) -> Callable[[], None]:
    """A call of a function of kernels_by_hand.cpp on those arrays."""
    kept = list(arrays)
    pointers = (ctypes.c_void_p * len(kept))(*(each.ctypes.data for each in kept))
    rows, columns = first.shape if first.ndim == 2 else (first.size, 1)
    function = getattr(library, name)
    given = (ctypes.c_int64(rows), ctypes.c_int64(columns), pointers, ctypes.c_int(threads))

    def call() -> None:
        function(*given)

    call.arrays = kept  # type: ignore[attr-defined]
    return call


def table(found: dict[str, Any]) -> list[str]:
    """Medians in microseconds a call, and the median over the kernels of what tiaot takes of C++ by hand's time."""
    rows = [["", *_WAYS.values(), *(f"adjoint: {title}" for title in _WAYS.values())]]
    shares: dict[str, list[float]] = {}
    for name, title in found["titles"].items():
        times, cells = found[name], [f"{name}: {title}"]
        for suffix in ("", " adjoint"):
            cells += [number(times[way + suffix]["us"]) if way + suffix in times else "-" for way in _WAYS]
            for other in ("jit", "cpp"):
                if other + suffix in times:
                    share = times["tiaot" + suffix]["us"] / times[other + suffix]["us"]
                    shares.setdefault(other, []).append(share)
        rows.append(cells)
    lines = aligned(rows)
    for other, found_shares in shares.items():
        median, most = statistics.median(found_shares), max(found_shares)
        lines.append(f"tiaot takes {median:.2f} times as long as {_WAYS[other]} at the median, {most:.2f} at most")
    return lines


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tiaot.benchmarks.kernels", description=__doc__.splitlines()[0])
    parser.add_argument("--json", metavar="FILE", help="write every number to FILE")
    parser.add_argument("--threads", type=int, default=1, help="threads for both (default: 1)")
    parser.add_argument("--cpu-time", action="store_true", help="count the process's own time, on a busy machine")
    parser.add_argument("--seconds", type=float, default=_SECONDS, help="time for a kernel (default: %(default)s)")
    arguments = parser.parse_args(argv)
    found: dict[str, Any] = start(arguments.threads)
    program = runpy.run_path(str(_PROGRAM))
    module = exported(_PROGRAM)
    found["titles"] = {each["name"]: each["doc"] for each in module.info()["kernels"]}
    with tempfile.TemporaryDirectory(prefix="tiaot-bench-") as folder:
        library = Path(folder, "kernels_by_hand.so")
        why = build_kernels(library)
        by_hand = None if why else ctypes.CDLL(str(library))
    for name in found["titles"]:
        case = _Case(getattr(module, name), program[name], by_hand, arguments.threads)
        case.check()
        clock = time.process_time if arguments.cpu_time else time.perf_counter
        timers = {title: timeit.Timer(text, "", clock, case.names) for title, text in case.statements.items()}
        found[name] = measure(timers, arguments.seconds, arguments.threads)
    what = "microseconds of CPU time a call" if arguments.cpu_time else "microseconds a call"
    print("", f"{what}, medians:", *table(found), sep="\n")
    if why:
        print(f"skipped: C++ by hand: {why}")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
