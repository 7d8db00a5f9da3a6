"""The benchmark of kernels on arrays: it runs, and what tiaot and Taichi's JIT compute agrees, which it checks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("taichi")
pytest.importorskip("llvmlite")


def test_every_kernel_is_checked_and_timed(tmp_path: Path) -> None:
    target = tmp_path / "found.json"
    command = [sys.executable, "-m", "tiaot.benchmarks.kernels", "--seconds", "0.01", "--cpu-time", "--json", target]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(target.read_text())
    kernels = set(found["titles"])
    assert {"damp", "cross", "squares"} <= kernels
    for name in kernels:
        assert all(found[name][way]["us"] > 0 for way in ("jit", "tiaot", "cpp"))
        assert f"\n{name}: " in done.stdout
    assert "jit adjoint" in found["damp"] and "jit adjoint" not in found["largest"]
