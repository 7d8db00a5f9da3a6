"""Kernels over fields that overwrite what their gradients need: refused by name where that is sure, else left to the
gate, or told of where there is none."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import module_files
import pytest
import tiaot

pytest.importorskip("taichi")
pytest.importorskip("llvmlite")

from tiaot.export.taichi.trace import Traced, trace_file

SOURCE = Path(__file__).parent / "kernels" / "overwritten.py"
EXPECTED = {
    name: (kind, field)
    for kind, field, name in re.findall(r"# (\w+)(?:: (\w+))?\n@ti\.kernel\ndef (\w+)", SOURCE.read_text())
}


@pytest.fixture(scope="module")
def traced() -> Traced:
    return trace_file(SOURCE)


@pytest.mark.parametrize("name", EXPECTED)
def test_what_becomes_of_a_gradient(traced: Traced, name: str) -> None:
    kind, field = EXPECTED[name]
    (family,) = (each for each in traced.families if each.name == name)
    notes = [each for each in traced.notes if each.startswith(f"{name} ")]
    doubts = [each for each in traced.doubts if f": {name}: " in each]
    assert (family.gradient, len(notes), len(doubts)) == (kind != "refused", kind == "refused", kind == "doubted")
    assert family.gradient_refused == (kind == "refused")
    for text in (*notes, *doubts):
        lines = [int(each) for each in re.findall(r"overwritten.py:(\d+)[,)]", text)]
        assert f"what field '{field}' held before it was overwritten" in text
        written = [SOURCE.read_text().splitlines()[line - 1].strip() for line in lines]
        assert written and all(each.startswith(f"{field}[") for each in written), text


def test_there_are_kernels_of_each_kind() -> None:
    assert {kind for kind, _ in EXPECTED.values()} == {"refused", "doubted", "sure"}


HEAD = """import taichi as ti
from tiaot.export import kernel

ti.init(arch=ti.cpu, default_fp=ti.f64)
x = ti.field(ti.f64, shape=8, needs_grad=True)
y = ti.field(ti.f64, shape=8, needs_grad=True)
loss = ti.field(ti.f64, shape=(), needs_grad=True)
k = ti.field(ti.i32, shape=8)


@ti.kernel
def measure():
    for i in x:
        loss[None] += x[i] ** 2
"""


def export(folder: Path, body: str, *options: str) -> subprocess.CompletedProcess[str]:
    return module_files.export_text(folder, HEAD + body, *options)


SQUARE = """

@kernel(constants={{"data": x}}{maker})
@ti.kernel
def square(data: ti.template()):
    for i in data:
        data[i] = data[i] * data[i]
"""


@pytest.mark.parametrize("maker", ["", ', derivative="tiaot"', ', derivative="taichi"'])
def test_nobody_makes_the_gradient_of_a_decorated_kernel(tmp_path: Path, maker: str) -> None:
    body = SQUARE.format(maker=maker)
    done = export(tmp_path, body, "--no-verify")
    assert done.returncode == 1 and not (tmp_path / "made.tiaot.so").exists()
    line = 1 + (HEAD + body).splitlines().index("        data[i] = data[i] * data[i]")
    expected = (
        rf"made.py:\d+: square: its gradient needs what field 'x' held before it was overwritten \(made.py:{line}\)"
    )
    assert re.search(expected, done.stderr), done.stderr


MAXIMUM = """

@kernel()
@ti.kernel
def highest():
    for i in x:
        ti.atomic_max(y[k[i]], x[i])
        x[i] = 2.0
"""


def test_without_the_gate_a_doubt_is_told(tmp_path: Path) -> None:
    """Of an adjoint that only Taichi makes, here."""
    done = export(tmp_path, MAXIMUM, "--no-verify")
    assert done.returncode == 0, done.stderr
    (warning,) = (each for each in done.stderr.splitlines() if "WARNING: made.py" in each)
    assert "highest: its gradient is wrong where it needs what field 'x' held" in warning
    assert "which --no-verify leaves out" in warning


PROGRAM = """

@ti.kernel
def square():
    for i in x:
        x[i] = x[i] * x[i]
"""


def test_a_tape_does_not_pass_over_a_kernel_whose_gradient_was_refused(tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(HEAD.replace("from tiaot.export import kernel\n", "") + PROGRAM)
    state = tiaot.open(module_files.exported(path, tmp_path / "program.so", "--no-verify")).state()
    state.x[...] = 2
    state.square()
    bound = state.square.bind()
    for call in (state.square, bound):
        refused = pytest.raises(ValueError, match="tape: there is no gradient of square, which the export refused")
        with refused, state.tape(state.loss):
            call()
            state.measure()
    with state.tape(state.loss):
        state.measure()
    assert (state.x.grad == 2 * state.x).all()
