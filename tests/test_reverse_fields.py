"""The exporter's own reverse mode over fields: every adjoint against the jvp, by <v, J t> = <J^T v, t> over all fields;
second derivatives; tapes; and what it leaves to Taichi, with the reason."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import module_files
import numpy as np
import pytest
import tiaot

pytest.importorskip("taichi")
pytest.importorskip("llvmlite")

from tiaot.export.taichi.trace import trace_file

SOURCE = Path(__file__).parent / "kernels" / "reverse_fields.py"
CALLS: dict[str, tuple[Any, ...]] = {
    "steps": (1, 0.1),
    "powers": (),
    "largest": (),
    "siblings": (),
    "scattered": (),
    "trees": (),
    "outside": (0.5,),
    "serial": (7,),
    "scan": (),
    "with_arrays": (np.random.default_rng(9).normal(size=40),),
}


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> tiaot.Module:
    target = tmp_path_factory.mktemp("reverse_fields") / "reverse_fields.so"
    return tiaot.open(module_files.exported(SOURCE, target, "--no-verify"))


def drawn(module: tiaot.Module, seed: int = 0) -> tiaot.State:
    """A state with values in all fields, and tangents and gradients of those that have a gradient."""
    rng = np.random.default_rng(seed)
    state = module.state()
    for field in state.fields.values():
        if field.dtype.kind == "i":
            field[...] = rng.integers(0, 600, field.shape)
            continue
        field[...] = rng.uniform(-1, 1, field.shape)
        if field.grad is not None:
            field.grad[...] = rng.normal(size=field.shape)
            field.tangent[...] = rng.normal(size=field.shape)
    return state


def with_gradient(state: tiaot.State) -> dict[str, Any]:
    return {name: field for name, field in state.fields.items() if field.grad is not None}


def gradients(state: tiaot.State) -> dict[str, np.ndarray]:
    return {name: np.array(field.grad) for name, field in with_gradient(state).items()}


@pytest.mark.parametrize("name", CALLS)
def test_the_adjoint_is_the_transpose_of_the_jvp(module: tiaot.Module, name: str) -> None:
    state = drawn(module)
    kernel = state.kernels[name]
    tangents = {each: np.array(field.tangent) for each, field in with_gradient(state).items()}
    kernel.jvp(*CALLS[name])
    forward = sum(np.vdot(field.grad, field.tangent) for field in with_gradient(state).values())
    before = {each: np.array(field) for each, field in state.fields.items()}
    given = gradients(state)
    kernel.grad(*CALLS[name])
    found = gradients(state)
    terms = [found[each] * tangents[each] for each in found]
    size = sum(np.abs(each).sum() for each in terms)
    assert np.isfinite(size) and any((found[each] != given[each]).any() for each in found)
    assert abs(forward - sum(each.sum() for each in terms)) <= 1e-13 * size
    for each, field in state.fields.items():
        np.testing.assert_array_equal(field, before[each])  # an adjoint writes to gradients alone


@pytest.mark.parametrize("name", CALLS)
def test_results_are_the_same_bits_for_any_number_of_threads(module: tiaot.Module, name: str) -> None:
    def found(threads: int) -> dict[str, np.ndarray]:
        state = drawn(module, 1)
        state.kernels[name](*CALLS[name])
        state.kernels[name].grad(*CALLS[name], num_threads=threads)
        return gradients(state)

    expected = found(1)
    for threads in (2, 7):
        for each, gradient in found(threads).items():
            np.testing.assert_array_equal(gradient, expected[each])


@pytest.mark.parametrize("name", ["steps", "powers", "siblings", "outside"])
def test_second_derivatives_are_those_of_the_adjoint(module: tiaot.Module, name: str) -> None:
    def adjoint(step: float) -> dict[str, np.ndarray]:
        state = drawn(module)
        for field in with_gradient(state).values():
            field[...] += step * field.tangent
        state.kernels[name](*CALLS[name])
        state.kernels[name].grad(*CALLS[name])
        return gradients(state)

    state = drawn(module)
    state.kernels[name].jvp(*CALLS[name])
    for field in with_gradient(state).values():
        field.grad.tangent[...] = 0
    state.kernels[name].hvp(*CALLS[name])
    h = 1e-3
    a, b, c, d = map(adjoint, (-h, h, -2 * h, 2 * h))
    for each, field in with_gradient(state).items():
        slope = (8 * (b[each] - a[each]) - (d[each] - c[each])) / (12 * h)
        np.testing.assert_allclose(field.grad.tangent, slope, rtol=1e-6, atol=1e-7 * max(1, np.abs(slope).max()))


def test_a_simulation_through_a_tape(module: tiaot.Module) -> None:
    def run(values: np.ndarray) -> tuple[float, np.ndarray]:
        state = module.state(zeros=True)
        state.path[0] = values
        state.x[...] = np.linspace(0.5, 1.5, 600)
        state.weight[...] = 1
        with state.tape(state.loss):
            for t in range(3):
                state.steps(t, 0.3)
            state.siblings()
        return float(state.loss), np.array(state.path.grad[0])

    rng = np.random.default_rng(4)
    values, along = rng.uniform(0.2, 1, 600), rng.normal(size=600)
    _, gradient = run(values)
    h = 1e-3
    a, b, c, d = (run(values + each * h * along)[0] for each in (-1, 1, -2, 2))
    assert np.vdot(gradient, along) == pytest.approx((8 * (b - a) - (d - c)) / (12 * h), rel=1e-9)


HEAD = """import taichi as ti
from tiaot.export import kernel

ti.init(arch=ti.cpu, default_fp=ti.f64)
x = ti.field(ti.f64, shape=8, needs_grad=True)
y = ti.field(ti.f64, shape=8, needs_grad=True)
k = ti.field(ti.i32, shape=8)
bent = ti.field(ti.f64)
ti.root.dense(ti.i, 8).place(bent)
ti.root.dense(ti.i, 8).dense(ti.i, 1).place(bent.grad)
"""


def export(folder: Path, body: str, *options: str) -> subprocess.CompletedProcess[str]:
    return module_files.export_text(folder, HEAD + body, *options)


LOCAL = """
@kernel({option})
@ti.kernel
def iterate():
    for i in x:
        a = ti.Vector([x[i], y[i]])
        for _ in range(k[i]):
            a = ti.Vector([a[0] * a[1], a[0] + 0.5])
        y[i] = a[0] + a[1]


def fill():
    for i in range(8):
        k[i] = i % 4


fill()
"""


def test_the_gate_takes_ours_where_taichis_is_wrong(tmp_path: Path) -> None:
    body = LOCAL.replace("y[i] = a[0] + a[1]", "z[i] = a[0] + a[1]").replace(
        "\n@kernel", "\nz = ti.field(ti.f64, shape=8, needs_grad=True)\n\n\n@kernel", 1
    )
    refused = export(tmp_path, body.format(option='derivative="taichi"'))
    assert refused.returncode != 0 and "no module was written" in refused.stderr
    taken = export(tmp_path, body.format(option=""))
    assert taken.returncode == 0, taken.stderr
    assert "gradient by tiaot" in taken.stdout + taken.stderr


@pytest.mark.parametrize(
    ("value", "additions"), [("x[i] * y[i] * y[i]", 0), ("x[i] * y[7 - i]", 1), ("x[i] * x[k[i]]", 2)]
)
def test_a_turns_own_elements_take_no_atomic_additions(tmp_path: Path, value: str, additions: int) -> None:
    body = f"\n\n@kernel()\n@ti.kernel\ndef f():\n    for i in x:\n        bent[i] = x[i] - {value}\n"
    head = HEAD.replace("place(bent)", "place(bent, bent.grad)").replace(
        "ti.root.dense(ti.i, 8).dense(ti.i, 1).place(bent.grad)\n", ""
    )
    (tmp_path / "made.py").write_text(head + body)
    (adjoint,) = (each for each in trace_file(tmp_path / "made.py").traces if each.wrt)
    assert adjoint.derivative == "tiaot"
    assert sum(task.count("atomicrmw") for task in adjoint.tasks) == additions


REFUSED = {
    "a minimum or maximum": (
        "    for i in range(8):\n        ti.atomic_max(y[k[i]], x[i])\n",
        "who has won a minimum or maximum cannot be seen from the field that is left",
    ),
    "what was there": (
        "    for i in range(8):\n        y[ti.atomic_add(k[0], 1)] = x[i]\n",
        "what a field held before an atomic operation is used",
    ),
    "a tree": ("    for i in bent:\n        bent[i] = x[i] * bent[i]\n", "its gradient lies in a tree of another form"),
    "a gradient": (
        "    for i in range(8):\n        y[i] = x.grad[i]\n",
        "the kernel itself uses the gradient of a field",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_it_does_not_take_is_refused(tmp_path: Path, what: str) -> None:
    body, why = REFUSED[what]
    text = f'\n\n@kernel(derivative="tiaot")\n@ti.kernel\ndef f():\n{body}'
    refused = export(tmp_path, text, "--no-verify")
    assert refused.returncode != 0 and why in refused.stderr, refused.stderr
    left = export(tmp_path, text.replace('derivative="tiaot"', ""), "--no-verify")
    assert left.returncode == 0, left.stderr
