"""From the start of a process to its first result, and the memory that it holds. Fresh processes, taken in turn."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .build_cpp import build_program
from .measure import quartiles

# name, title, the path in first_result.py ("": the C program), the package that it needs
PATHS = (
    ("python", "Python alone", "python", ""),
    ("numpy", "NumPy by hand", "numpy", ""),
    ("tiaot", "tiaot", "tiaot", "tiaot"),
    ("tiaot-c", "tiaot, from C", "", "tiaot"),
    ("torch-autograd", "torch autograd", "torch", "torch"),
    ("jax", "jax.jit", "jax", "jax"),
    ("taichi-warm", "Taichi JIT, warm cache", "taichi", "taichi"),
    ("taichi-cold", "Taichi JIT, cold cache", "taichi", "taichi"),
)
_SCRIPT = Path(__file__).with_name("first_result.py")
_CLOSE = 1e-5  # what the paths may differ by in the two numbers that they print: they are of order 1


def _run_once(command: list[str]) -> tuple[float, int, list[float]]:
    """Milliseconds to the first result, peak memory in kB, and two numbers of the result. Raises RuntimeError."""
    environment = {**os.environ, "ENABLE_TAICHI_HEADER_PRINT": "0", "JAX_PLATFORMS": "cpu"}
    start = time.clock_gettime(time.CLOCK_MONOTONIC)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    line = next((line for line in done.stdout.splitlines() if line.startswith("first ")), None)
    if done.returncode or line is None:
        raise RuntimeError((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1][:160])
    _, end, memory, first, last = line.split()
    return (float(end) - start) * 1e3, int(memory), [float(first), float(last)]


def _build_program(program: Path) -> str:
    """'' when the C program was built, otherwise why not."""
    import tiaot

    return build_program(Path(tiaot.load("dense_tanh").module.path), program)


def measure(repetitions: int, say: Callable[[str], None]) -> dict[str, dict[str, Any]]:
    """For each path {'ms', 'ms_q1', 'ms_q3', 'peak_kb', 'samples'}, or {'skipped': why} or {'failed': why}."""
    outcome: dict[str, dict[str, Any]] = {}
    times: dict[str, list[float]] = {}
    memory: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="tiaot-bench-cache-") as folder:
        for name, _, _, package in PATHS:
            if package and importlib.util.find_spec(package) is None:
                outcome[name] = {"skipped": f"{package} is not installed"}
            else:
                times[name], memory[name] = [], []
        program = Path(folder) / "first_result"
        if "tiaot-c" in times and (why := _build_program(program)):
            del times["tiaot-c"], memory["tiaot-c"]
            outcome["tiaot-c"] = {"skipped": why}
        expected: list[float] = []
        for repetition in range(repetitions + 1):  # the first one warms the caches and the disk, and is not counted
            for name, _, path, _ in PATHS:
                if name in outcome:
                    continue
                say(f"cold start: {name}, {repetition} of {repetitions}")
                command = [sys.executable, str(_SCRIPT), path] if path else [str(program)]
                if name == "taichi-warm":
                    command.append(os.path.join(folder, "warm"))
                elif name == "taichi-cold":
                    command.append(os.path.join(folder, f"cold{repetition}"))
                try:
                    milliseconds, peak, numbers = _run_once(command)
                except RuntimeError as error:
                    outcome[name] = {"failed": str(error)}
                    continue
                if name == "numpy":
                    expected = numbers
                if name != "python" and max(abs(a - b) for a, b in zip(numbers, expected, strict=True)) > _CLOSE:
                    outcome[name] = {"failed": f"gave {numbers}, NumPy {expected}"}
                elif repetition:
                    times[name].append(milliseconds)
                    memory[name].append(peak)
    for name, samples in times.items():
        if name not in outcome:
            low, median, high = quartiles(samples)
            peak = quartiles(memory[name])[1]
            outcome[name] = {"ms": median, "ms_q1": low, "ms_q3": high, "peak_kb": peak, "samples": len(samples)}
    return outcome
