"""Packs what a machine with a GPU needs to build tiaot and to try it, with neither Taichi nor LLVM nor a network: the
sources of the runtime and of the Python package, modules that were exported here, the tests' tables, a script.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("CMakeLists.txt", "pyproject.toml", "README.md", "LICENSE", "NOTICE", "python", "benchmarks")
RUNTIME = ("CMakeLists.txt", "include", "src")
TESTS = (
    "cases.py",
    "cuda_numerics.py",
    "cuda_state.py",
    "kernel_cases.py",
    "numerics.py",
    "rows_cases.py",
    "test_cuda_device.py",
    "whole_cases.py",
)
KERNELS = ("tests/kernels", "examples/kernels")
FIELDS = [_ROOT / "tests" / "kernels" / name for name in ("fields.py", "state_along.py")]
# What is not in the table of kernels: those over fields, what is about CPU levels, gradients for the CPU alone.
WITHOUT_CUDA = {"fields", "levels", "overwritten", "reverse", "reverse_fields", "state_along"}
MOST_BYTES = 64 << 20

RUN = """#!/usr/bin/env bash
# Builds tiaot from source/ with the modules that are exported already, and runs `tiaot.benchmarks.gpu run` with the
# arguments given here. Needs Python with NumPy, nanobind, CMake and ninja, and a C++ compiler; PyTorch, and what there
# is of JAX, CuPy, pytest and compute-sanitizer. PYTHON names the interpreter, OUT the folder for results and logs.
set -u
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
out=${OUT:-$here/out}
mkdir -p "$out"
site=$here/site
log=$out/build.log
export PYTHONDONTWRITEBYTECODE=1 PIP_DISABLE_PIP_VERSION_CHECK=1
started=$(date +%s)

with_pip() {
  timeout 200 "$python" -m pip install --no-build-isolation --no-deps --no-index --target "$site" "$here/source" \\
    -Ccmake.define.TIAOT_MODULES="$here/kernels"
}
with_cmake() {  # where pip or scikit-build-core is missing
  rm -rf "$site" &&
    timeout 200 cmake -S "$here/source" -B "$here/build" -G Ninja -DTIAOT_MODULES="$here/kernels" \\
      -DPython_EXECUTABLE="$(command -v "$python")" &&
    timeout 200 cmake --build "$here/build" && ln -s "$here/build/stage" "$site"
}

rm -rf "$site" "$here/build"
if with_pip >"$log" 2>&1; then how=pip; elif with_cmake >>"$log" 2>&1; then how=cmake; else how=; fi
if [ -z "$how" ]; then
  echo "build: FAILED"
  tail -n 40 "$log"
  nvidia-smi 2>&1 | head -n 15
  exit 1
fi
echo "build: ok, by $how, $(($(date +%s) - started)) s"
cd "$here" || exit 1
PYTHONPATH="$site:$here/tests${PYTHONPATH:+:$PYTHONPATH}" \\
  exec "$python" -m tiaot.benchmarks.gpu run --folder "$here" --out "$out" \\
  --seconds $((460 - $(date +%s) + started)) "$@"
"""


def pack(target: Path, cuda: str = "--cuda") -> int:
    """Fill the folder `target`, which must not be there yet; its size in bytes.

    Args:
        cuda: the option of `tiaot export` that says for which architectures.

    Raises:
        ValueError: when the folder is there, this is no checkout, or the folder has become too large.
        RuntimeError: when a file of kernels cannot be exported.
    """
    if target.exists():
        raise ValueError(f"{target} is there already")
    if not (_ROOT / "CMakeLists.txt").exists():
        raise ValueError("packs a checkout of tiaot only: run it there, as python -m benchmarks.gpu pack")
    ignore = shutil.ignore_patterns("__pycache__", "*.pyc", "*.so")
    for parts, origin, folder in (
        (SOURCES, _ROOT, target / "source"),
        (RUNTIME, _ROOT / "runtime", target / "source" / "runtime"),
        (TESTS, _ROOT / "tests", target / "tests"),
    ):
        folder.mkdir(parents=True)
        for name in parts:
            if (origin / name).is_dir():
                shutil.copytree(origin / name, folder / name, ignore=ignore)
            else:
                shutil.copy2(origin / name, folder / name)
    export(target / "kernels", cuda)
    script = target / "run.sh"
    script.write_text(RUN)
    script.chmod(0o755)
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    if size > MOST_BYTES:
        raise ValueError(f"{target} has {size >> 20} MiB, more than {MOST_BYTES >> 20}: name fewer architectures")
    return size


def sources() -> list[Path]:
    """The files of kernels whose modules are packed."""
    found = [_ROOT / "kernels" / "dense_tanh.py", *FIELDS]
    for folder in KERNELS:
        found += sorted(path for path in (_ROOT / folder).glob("*.py") if path.stem not in WITHOUT_CUDA)
    return found


def export(folder: Path, cuda: str) -> None:
    folder.mkdir(parents=True)
    for source in sources():
        print(f"exporting {source.relative_to(_ROOT)}", flush=True)
        target = folder / f"{source.stem}.so"
        command = [sys.executable, "-m", "tiaot", "export", cuda, "--no-verify", str(source), "-o", str(target)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{source.name}: {done.stderr.strip()}")
