"""`tiaot inspect --code`: which loops calculate in vectors, by the machine code at each CPU level."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import module_files
import pytest
from tiaot import inspect_module

pytest.importorskip("taichi")
pytest.importorskip("llvmlite")
pytestmark = pytest.mark.skipif(shutil.which("objdump") is None, reason="no objdump")

LENGTHS = {"x86-64-v2": 4, "x86-64-v3": 8, "x86-64-v4": 16}  # float32 in a vector


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("loops") / "loops.tiaot.so"
    return module_files.exported(Path(__file__).parent / "kernels" / "loops.py", target, "--no-verify")


def inspect(path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tiaot", "inspect", str(path), "--code", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def loops_of(path: Path, kernel: str) -> list[dict[str, Any]]:
    done = inspect(path, "--json")
    assert done.returncode == 0, done.stderr
    (found,) = (each for each in json.loads(done.stdout)["kernels"] if each["name"] == kernel)
    return [loop for variant in found["variants"] for entry in variant["entries"] for loop in entry["loops"]]


def lengths(loop: dict[str, Any]) -> set[tuple[str, int]]:
    return {(values["dtype"], values["at_a_time"]) for values in loop["values"]}


def test_a_loop_in_vectors_and_what_it_leaves_over(path: Path, cpu_level: str) -> None:
    loops = [loop for loop in loops_of(path, "square") if loop["values"]]
    assert lengths(loops[0]) == {("float32", LENGTHS[cpu_level])} and not loops[0]["rest"]
    assert lengths(loops[-1]) == {("float32", 1)} and loops[-1]["rest"]


def test_a_loop_that_calls_libm(path: Path, cpu_level: str) -> None:
    loops = [loop for loop in loops_of(path, "power") if loop["values"] or loop["calls"]]
    assert loops and all(loop["calls"] == ["pow"] for loop in loops)
    assert all(lengths(loop) <= {("float64", 1)} and not loop["rest"] for loop in loops)


def test_a_loop_in_a_loop(path: Path, cpu_level: str) -> None:
    loops = [loop for loop in loops_of(path, "chain") if loop["values"]]
    assert {loop["depth"] for loop in loops} == {0, 1}
    assert all(lengths(loop) == {("float64", 1)} for loop in loops)


def test_a_batch_along_the_lanes(path: Path, cpu_level: str) -> None:
    widest = max(loops_of(path, "halve"), key=lambda loop: max((v["at_a_time"] for v in loop["values"]), default=0))
    assert ("float32", LENGTHS[cpu_level]) in lengths(widest) or ("float64", LENGTHS[cpu_level] // 2) in lengths(widest)


def test_text(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIAOT_CPU_LEVEL", "x86-64-v2")
    done = inspect(path)
    assert done.returncode == 0, done.stderr
    text = done.stdout.partition("loops in the code for x86-64-v2")[2]
    (square,) = re.findall(r"\n  square_float32\w*_forward\n((?:    .*\n)+)", text)
    assert re.match(r"    \d+ instructions: 4 float32 at a time\n", square)
    assert "one float32 at a time; what a loop above leaves over\n" in square
    assert re.search(r"\n  power_float64\w*_forward\n    \d+ instructions: one float64 at a time; calls pow\n", text)


def test_a_module_without_symbols(path: Path, tmp_path: Path) -> None:
    stripped = tmp_path / "stripped.so"
    subprocess.run(["strip", "-o", str(stripped), str(path)], check=True)
    done = inspect(stripped)
    assert done.returncode == 1
    assert "has no symbol square_float32" in done.stderr and "stripped" in done.stderr


def test_the_code_of_another_machine() -> None:
    with pytest.raises(NotImplementedError, match="x86-64, not of aarch64-linux"):
        inspect_module.loops_of({"target": "aarch64-linux", "path": "made.so"})


def test_no_objdump(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    done = inspect(path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "install binutils" in done.stderr
