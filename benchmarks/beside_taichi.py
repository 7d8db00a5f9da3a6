"""What the benchmarks share that run a Taichi program, exported, beside the same program in Taichi's JIT."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tiaot

from .report import environment, number

HEAD = ["", "Taichi's JIT", "tiaot", "times as fast", "adjoint: Taichi's JIT", "tiaot", "times as fast"]


def start(threads: int) -> dict[str, Any]:
    """Gives both so many threads, prints what they run on, and returns it, for the numbers in JSON."""
    import taichi as ti

    ti.init(arch=ti.cpu, cpu_max_num_threads=threads, fast_math=False, log_level=ti.ERROR)
    tiaot.set_num_threads(threads)
    about = environment()
    versions = [f"{name} {version}" for name, version in about["packages"].items()]
    print(", ".join([about["cpu"], f"Python {about['python']}", *versions, f"{threads} thread(s)"]))
    return {"environment": about, "threads": threads}


def exported(program: Path) -> tiaot.Module:
    """The program as a module."""
    with tempfile.TemporaryDirectory(prefix="tiaot-bench-") as folder:
        target = Path(folder, "program.so")
        command = [sys.executable, "-m", "tiaot", "export", "--no-verify", str(program), "-o", str(target)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return tiaot.open(target)


def row(name: str, times: Mapping[str, Mapping[str, float]]) -> list[str]:
    """A line of the table under HEAD, with dashes for what was not timed."""
    found = [name]
    for jit, compiled in (("jit", "tiaot"), ("jit adjoint", "tiaot adjoint")):
        if jit in times:
            us, our_us = times[jit]["us"], times[compiled]["us"]
            found += [number(us), number(our_us), f"{us / our_us:.2f}"]
        else:
            found += ["-"] * 3
    return found
