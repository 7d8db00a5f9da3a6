"""The report of the script for a machine with a GPU: of measurements, failures and a machine that has none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiaot.benchmarks import gpu

CASE = {"B": 1 << 20, "n": 8, "m": 4}
FOUND: dict[str, Any] = {
    "environment": {"cpu": "a CPU", "python": "3.12.1", "packages": {"torch": "2.11.0"}},
    "device": {"name": "a GPU", "image": "cubin 9.0"},
    "steps": [
        {"step": "device", "status": "ok", "seconds": 1.2},
        {"step": "numbers, CuPy", "status": "failed (1)", "seconds": 3.4},
    ],
    "first_calls_ms": {"load": 1.5},
    "same_bits": "of 12 entries",
    "measured": [
        {
            "task": "x",
            **CASE,
            "peers": {
                "tiaot": {"host_us": 4.0, "gpu_us": 50.0, "us": 51.0},
                "torch": {"host_us": 40.0, "gpu_us": 200.0, "us": 210.0},
                "jax": {"failed": "no plugin"},
            },
        },
        {"task": "forward", **CASE, "skipped": "no time left"},
    ],
}


def row(report: str, title: str) -> list[str]:
    """The cells of the one row of a table."""
    lines = report.splitlines()
    return lines[next(i for i, line in enumerate(lines) if title in line) + 2].split()


def test_a_report() -> None:
    report = gpu.text(FOUND)
    assert report.splitlines()[0] == "== a GPU; a CPU; Python 3.12.1"
    assert row(report, "== vjp with respect to x: host")[-2:] == ["4.00*", "40.0"]
    assert row(report, "== vjp with respect to x: GPU")[-2:] == ["50.0*", "200"]
    # Of each sample 8 + 4 floats are read and 8 written, 80 bytes; twice 8 * 4 multiplications and as many additions.
    assert "1,678 / 2.68" in report and "failed: jax x (1048576, 8, 4): no plugin" in report
    assert "skipped: forward (1048576, 8, 4): no time left" in report
    assert "numbers, CuPy" in report and "failed (1)" in report
    assert "the same bits in two processes: of 12 entries" in report


def test_a_machine_without_a_gpu(tmp_path: Path) -> None:
    """Each step that needs one says so, and the report is written all the same."""
    if gpu.device_facts()["name"]:
        pytest.skip("there is a GPU")
    folder, out = tmp_path / "packed", tmp_path / "out"
    folder.mkdir()
    assert gpu.run(folder, out, 100.0, False) == 0
    found = json.loads((out / "gpu.json").read_text())
    statuses = {step["step"]: step["status"] for step in found["steps"]}
    assert statuses.pop("device") == "ok"
    assert set(statuses.values()) == {"no GPU"} and len(statuses) >= 7
    assert "libcuda.so.1" in found["device"]["driver"] or found["device"]["devices"] == 0


def test_bits_of_two_processes(tmp_path: Path) -> None:
    assert gpu.same_bits(tmp_path) == "unknown"
    for name, digest in (("torch", "1"), ("CuPy", "2")):
        (tmp_path / f"bits-{name}.log").write_text("note\n" + json.dumps({"a": "0", "b": digest}) + "\n")
    assert gpu.same_bits(tmp_path) == "not of b"
    (tmp_path / "bits-CuPy.log").write_text(json.dumps({"a": "0", "b": "1"}))
    assert gpu.same_bits(tmp_path) == "of 2 entries"
