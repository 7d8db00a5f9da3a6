"""Builds the C++ function and a C program with the machine's own compiler, into a folder of the caller's."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sysconfig
from pathlib import Path

import numpy as np

_HERE = Path(__file__).parent
_SOURCES = ("dense_tanh.cpp", "dense_tanh_extension.cpp", "fma_peak.cpp")
# The scheduler flags interleave the independent exponentials: a quarter faster with GCC 12 on a layer of 8 x 4.
_LEVEL = os.environ.get("TIAOT_CPU_LEVEL")
_MACHINE = f"-march={_LEVEL}" if _LEVEL and _LEVEL.startswith("x86-64") else "-march=native"
_FLAGS = f"-std=c++17 -O3 {_MACHINE} -fschedule-insns -fsched-pressure -Wno-psabi -fPIC -shared -fopenmp -ldl"


def run_compiler(variable: str, default: str, arguments: list[str]) -> str:
    """Runs the compiler that the environment variable names. '' when it succeeds, otherwise why not, in one line."""
    compiler = shlex.split(os.environ.get(variable, default))
    if shutil.which(compiler[0]) is None:
        return f"no {variable} compiler: '{compiler[0]}' not found"
    done = subprocess.run([*compiler, *arguments], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return ""
    errors = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
    return f"{compiler[0]} failed: {errors[0][:160] if errors else done.returncode}"


def build(folder: Path) -> str:
    """'' when the extension lies in `folder`, otherwise why not, in one line."""
    include = Path(sysconfig.get_path("include"))
    if not (include / "Python.h").exists():
        return f"no Python.h in {include}"
    sources = [str(_HERE / source) for source in _SOURCES]
    includes = [f"-I{include}", f"-I{np.get_include()}"]
    return run_compiler("CXX", "c++", [*_FLAGS.split(), *includes, *sources, "-o", str(folder / "dense_tanh_cpp.so")])


def build_kernels(library: Path) -> str:
    """'' when `library` is kernels_by_hand.cpp, compiled, otherwise why not, in one line."""
    flags = f"-std=c++17 -Ofast {_MACHINE} -fPIC -shared -fopenmp".split()
    return run_compiler("CXX", "c++", [*flags, str(_HERE / "kernels_by_hand.cpp"), "-o", str(library)])


def build_program(module: Path, program: Path) -> str:
    """'' when `program` is first_result.c linked with the module, otherwise why not, in one line."""
    arguments = ["-O2", f"-I{module.parent}", str(_HERE / "first_result.c"), str(module), f"-Wl,-rpath,{module.parent}"]
    return run_compiler("CC", "cc", [*arguments, "-o", str(program)])


def build_latency_program(program: Path) -> str:
    """'' when `program` is latency_program.cpp linked with the installed library, otherwise why not, in one line."""
    from tiaot.config_command import flags

    sources = [str(_HERE / source) for source in ("latency_program.cpp", "dense_tanh.cpp")]
    fast = [flag for flag in _FLAGS.split() if flag not in ("-fPIC", "-shared", "-ldl")]
    return run_compiler("CXX", "c++", [*fast, *sources, *flags(cflags=True, libs=True), "-pthread", "-o", str(program)])
