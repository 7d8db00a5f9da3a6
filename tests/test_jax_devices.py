"""Kernels on several devices under JAX: jax_devices.py has the checks and runs in a child process with four of them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("jax")
pytest.importorskip("flatbuffers")  # what jax.export writes with

PROGRAM = Path(__file__).with_name("jax_devices.py")
NAMES = re.findall(r"^@check\ndef (\w+)", PROGRAM.read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def report() -> dict[str, str | None]:
    done = subprocess.run([sys.executable, PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", NAMES)
def test_on_four_devices(name: str, report: dict[str, str | None]) -> None:
    assert report[name] is None, report[name]
