"""How long single calls take, not their mean: p50, p99, p99.9 and the worst of many, from C, C++ and Python.

    python -m tiaot.benchmarks.latency [--calls N] [--json FILE]

The vjp of dense_tanh with respect to x in float32, each call timed by itself, beside the same written by hand in C++:
on an idle machine, with all other cores busy, and with 2 and 8 threads that call at once, a million calls in all each
time. "/ one caller's" is how many times the calls a second of one caller on the idle machine these are. Results are
checked. Reading the clock twice is part of each time; the line `clock` says how much that is. Allocations are counted
in C and C++, over all calls but each thread's first. Needs a C++ compiler.

At the end it times how long opening the module takes, which copies the file into memory and checks it, beside what the
system's loader takes for the same file without either.
"""

from __future__ import annotations

import _ctypes
import argparse
import array
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .build_cpp import build_latency_program
from .report import aligned, environment

_SHAPES = ((2, 8, 4), (64, 8, 4))
_PROGRAM_PATHS = {
    "clock": "clock",
    "hand": "C++ by hand",
    "c": "C",
    "c-bound": "C, bound",
    "c++": "C++",
    "c++-bound": "C++, bound",
}
_PYTHON_PATHS = {"python-clock": "clock in Python", "python": "Python", "python-bound": "Python, bound"}
_CONDITIONS = {"idle": 1, "other cores busy": 1, "2 callers": 2, "8 callers": 8}


@contextlib.contextmanager
def _busy(processes: int) -> Iterator[None]:
    """As many processes that do nothing but calculate, for five minutes at most."""
    code = "import time; end = time.monotonic() + 300\nwhile time.monotonic() < end: pass"
    started = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def _summary(times: list[int], rate: float) -> dict[str, Any]:
    times.sort()
    p50, p99, p999 = (times[int(part * (len(times) - 1))] for part in (0.5, 0.99, 0.999))
    return {"p50": p50, "p99": p99, "p99.9": p999, "worst": times[-1], "rate": rate}


def _from_program(program: Path, path: str, shape: tuple[int, ...], callers: int, calls: int) -> dict[str, Any]:
    """Nanoseconds, calls a second, allocations. Raises RuntimeError when the program failed."""
    import tiaot

    words = [program, tiaot.load("dense_tanh").module.path, path, *map(str, (*shape, callers, calls))]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{path}: {done.stderr.strip() or done.returncode}")
    p50, p99, p999, worst, rate, allocations = (int(word) for word in done.stdout.split())
    return {"p50": p50, "p99": p99, "p99.9": p999, "worst": worst, "rate": rate, "allocations": allocations}


def _call_in_python(path: str, shape: tuple[int, ...]) -> Callable[[], object]:
    """The call that is timed, on arrays of its own. Raises RuntimeError where its result is wrong."""
    import tiaot

    if path == "python-clock":
        return lambda: None
    B, n, m = shape
    rng = np.random.default_rng(0)
    x, W, b, v = (rng.standard_normal(size, np.float32) for size in ((B, n), (m, n), (m,), (B, m)))
    gx = np.empty_like(x)
    vjp = tiaot.load("dense_tanh").vjp
    bound = vjp.bind(x, W, b, v, out=gx)
    call: Callable[[], object] = bound if path == "python-bound" else lambda: vjp(x, W, b, v, out=gx)
    call()
    z = x.astype(np.float64) @ W.T.astype(np.float64) + b
    if not np.allclose(gx, ((1 - np.tanh(z) ** 2) * v) @ W.astype(np.float64), atol=1e-5):
        raise RuntimeError(f"{path}: a wrong result")
    return call


def _from_python(path: str, shape: tuple[int, ...], callers: int, calls: int) -> dict[str, Any]:
    each = calls // callers
    times = [array.array("q", bytes(8 * each)) for _ in range(callers)]
    functions = [_call_in_python(path, shape) for _ in range(callers)]
    barrier = threading.Barrier(callers)
    begins, ends = [0.0] * callers, [0.0] * callers

    def run(number: int) -> None:
        call, mine, now = functions[number], times[number], time.perf_counter_ns
        barrier.wait()
        begins[number] = time.perf_counter()
        for i in range(each):
            begin = now()
            call()
            mine[i] = now() - begin
        ends[number] = time.perf_counter()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rate = callers * each / (max(ends) - min(begins))
    return _summary([int(number) for mine in times for number in mine], rate)


def _measure(program: Path | None, calls: int) -> Iterator[tuple[tuple[int, ...], str, dict[str, dict[str, Any]]]]:
    """For each shape and condition, what each path took."""
    others = max(1, len(os.sched_getaffinity(0)) - 1)
    for shape in _SHAPES:
        for condition, callers in _CONDITIONS.items():
            with _busy(others if condition == "other cores busy" else 0):
                found = {}
                for path in _PROGRAM_PATHS if program else ():
                    found[path] = _from_program(program, path, shape, callers, calls)  # type: ignore[arg-type]
                for path in _PYTHON_PATHS:
                    found[path] = _from_python(path, shape, callers, calls)
            yield shape, condition, found


def _opening(times: int = 300) -> dict[str, Any]:
    """Microseconds to open the shipped module and to close it again, in turns with the loader alone."""
    import tiaot

    path = tiaot.load("dense_tanh").module.path
    encoded = os.fsencode(path)

    def load() -> None:
        _ctypes.dlclose(_ctypes.dlopen(encoded, os.RTLD_NOW | os.RTLD_LOCAL))

    taken: dict[str, list[float]] = {"tiaot": [], "loader": []}
    for _ in range(times):
        for name, call in (("tiaot", lambda: tiaot.open(path).close()), ("loader", load)):
            begin = time.perf_counter_ns()
            call()
            taken[name].append((time.perf_counter_ns() - begin) / 1000)
    return {"bytes": os.path.getsize(path), **{name: statistics.median(each) for name, each in taken.items()}}


def _table(found: dict[str, dict[str, Any]], alone: dict[str, dict[str, Any]]) -> list[str]:
    """A line for each path. `alone` is what one caller on the idle machine took."""
    rows = [
        [
            "nanoseconds a call",
            "p50",
            "p99",
            "p99.9",
            "worst",
            "p99 / p50",
            "calls a second",
            "/ one caller's",
            "allocations",
        ]
    ]
    for path, title in {**_PROGRAM_PATHS, **_PYTHON_PATHS}.items():
        if path in found:
            it = found[path]
            p50, p99, p999, worst, rate = (f"{round(it[key]):,}" for key in ("p50", "p99", "p99.9", "worst", "rate"))
            ratios = f"{it['p99'] / max(it['p50'], 1):.2f}", f"{it['rate'] / alone[path]['rate']:.2f}"
            rows.append([title, p50, p99, p999, worst, ratios[0], rate, ratios[1], str(it.get("allocations", ""))])
    return aligned(rows)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tiaot.benchmarks.latency", description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=1_000_000, help="in all, for each line (1000000)")
    parser.add_argument("--json", metavar="FILE", help="write every number to FILE")
    arguments = parser.parse_args(argv)
    about = environment()
    print(f"{about['cpu']}, {len(os.sched_getaffinity(0))} cores, Python {about['python']}")
    results, alone = [], {}
    with tempfile.TemporaryDirectory(prefix="tiaot-latency-") as folder:
        program = Path(folder) / "latency_program"
        if why := build_latency_program(program):
            print(f"without C and C++: {why}")
        for shape, condition, found in _measure(None if why else program, arguments.calls):
            alone = found if condition == "idle" else alone
            print("", f"(B, n, m) = {shape}, {condition}:", *_table(found, alone), sep="\n", flush=True)
            results.append({"shape": shape, "condition": condition, "paths": found})
    opening = _opening()
    ours, loader = (round(opening[name]) for name in ("tiaot", "loader"))
    print(f"\nopening and closing the module of {opening['bytes']:,} bytes: {ours:,} microseconds, {loader:,} without "
          f"copy and check (medians)")  # fmt: skip
    if arguments.json:
        Path(arguments.json).write_text(
            json.dumps({"environment": about, "results": results, "opening": opening}, indent=1) + "\n"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
