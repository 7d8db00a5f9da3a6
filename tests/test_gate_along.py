"""The gate holds entries with tangents against slopes and against each other: what is wrong in one writes no module."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiaot

pytest.importorskip("taichi")
pytest.importorskip("llvmlite")

SOURCE = """
import taichi as ti
from tiaot.export import kernel
array = ti.types.ndarray(ti.f32, ndim=1)

@kernel("x[n], w[n] -> y[n]", wrt=["x w"], derivatives=["jvp", "hvp"], sizes=[{"n": 4}])
@ti.kernel
def wave(x: array, w: array, y: array):
    for i in x:
        y[i] = ti.sin(x[i] * w[i]) + w[i] * w[i]

@kernel("x[n], turns -> y[n]", wrt=[], derivatives=["jvp"], sizes=[{"n": 4}])
@ti.kernel
def without_a_vjp(x: array, turns: ti.i32, y: array):
    for i in x:
        left = turns
        y[i] = x[i]
        while left > 0:
            y[i] = ti.sin(y[i])
            left -= 1
"""

# Its gradient is by hand and meant to differ, so that it is not held against slopes; its jvp is.
BY_HAND = """
@ti.kernel
def backward(x: array, grad_y: array, grad_x: array):
    for i in x:
        grad_x[i] = 2 * grad_y[i]

@kernel("x[n] -> y[n]", vjp={"x": backward}, finite_differences=False, derivatives=["jvp"], sizes=[{"n": 4}])
@ti.kernel
def by_hand(x: array, y: array):
    for i in x:
        y[i] = ti.sin(x[i])
"""
SOURCE += BY_HAND

# What a broken rule is, in the processes of the exporter alone: their first import of anything finds it.
BROKEN = """
import sys
if "tiaot" in " ".join(sys.orig_argv) or "multiprocessing" in " ".join(sys.orig_argv):
    from tiaot.export.derivative import rules
    right = dict(rules._FUNCTIONS)
    def off(name, part, kinds=("float", "double")):
        def rule(a, x, y, t):
            found = right[name](a, x, y, t)
            spoiled = found is not None and str(a.kind.scalar) in kinds
            return a.times(found, a.number(1 + part)) if spoiled else found
        rules._FUNCTIONS[name] = rule
    {mutation}
"""


def export(folder: Path, mutation: str = "", source: str = SOURCE) -> subprocess.CompletedProcess[str]:
    (folder / "source.py").write_text(source)
    if mutation:
        (folder / "sitecustomize.py").write_text(BROKEN.replace("{mutation}", mutation))
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "tiaot", "export", "--no-cache", "source.py", "-o", "module.so"]
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment)
    assert "Traceback" not in done.stderr, done.stderr
    assert (done.returncode == 0) == (folder / "module.so").exists()
    return done


def test_entries_with_tangents_are_compared_and_that_is_recorded(tmp_path: Path) -> None:
    done = export(tmp_path)
    assert done.returncode == 0, done.stderr
    with tiaot.open(tmp_path / "module.so") as module:
        records = {kernel["name"]: kernel["verification"] for kernel in module.info()["kernels"]}
    for what in (
        "jvp from finite differences",
        "jvp beside the vjp",
        "jvp from float64",
        "hvp from finite differences",
        "hvp by its symmetry",
        "hvp from float64",
    ):
        assert what in records["wave"], what
    assert "jvp from finite differences" in records["without_a_vjp"]
    assert "jvp from finite differences" in records["by_hand"] and "beside the vjp" not in records["by_hand"]
    assert "vjp" not in records["without_a_vjp"].replace("jvp from", "")


@pytest.mark.parametrize(
    ("mutation", "said"),
    {
        "a jvp": (
            'off("sin", 1e-5)',
            [
                "wave, float32_dynamic, at n=4: jvp along x w beside finite differences",
                "without_a_vjp, float32_dynamic, at n=4: jvp along x beside finite differences",
                "by_hand, float32_dynamic, at n=4: jvp along x beside finite differences",
            ],
        ),
        "an hvp": ('off("cos", 1e-5)', ["wave, float32_dynamic, at n=4: hvp along x w beside finite differences"]),
        "one element type": (
            'off("sin", 1e-2, ("float",))',
            ["wave, float32_dynamic, at n=4: jvp of 'y' (along x w) beside the same in float64: off by"],
        ),
    }.values(),
)
def test_a_broken_rule_writes_no_module(mutation: str, said: list[str], tmp_path: Path) -> None:
    done = export(tmp_path, mutation)
    assert done.returncode == 1
    for text in said:
        assert text in done.stderr, done.stderr
    assert "this is a mistake of tiaot" in done.stderr


@pytest.mark.parametrize("broken", ["", "jvp", "vjp", "hvp", "hessian"])
def test_verdicts_on_entries_with_tangents(broken: str) -> None:
    """Each of the comparisons sees an error of 1e-8 in what it compares; y = sin(a) * b has all derivatives."""
    from tiaot.export.gate.along import check_along

    rng = np.random.default_rng(3)
    a, b, v = (rng.uniform(0.3, 1.2, 20) for _ in range(3))

    def part(name: str) -> float:
        return 1 + 1e-8 * (name == broken)

    class Case:
        @property
        def along(self) -> list[tuple[str, tuple[str, ...]]]:
            return [("jvp", ("a", "b")), ("hvp", ("a", "b"))]

        def has_vjp(self, entry: tuple[str, ...]) -> bool:
            return True

        def inputs(self, entry: tuple[str, ...]) -> list[np.ndarray]:
            return [a, b]

        def cotangents(self) -> list[np.ndarray]:
            return [v]

        def forward(self, entry: tuple[str, ...], moved: list[np.ndarray]) -> list[np.ndarray]:
            return [np.sin(moved[0]) * moved[1]]

        def vjp(self, entry: object, moved: list[np.ndarray], cotangents: list[np.ndarray]) -> list[np.ndarray]:
            (v,) = cotangents
            return [v * np.cos(moved[0]) * moved[1] * part("vjp"), v * np.sin(moved[0])]

        def jvp(self, entry: object, moved: list[np.ndarray], tangents: list[np.ndarray]) -> list[np.ndarray]:
            return [np.cos(moved[0]) * moved[1] * tangents[0] * part("jvp") + np.sin(moved[0]) * tangents[1]]

        def hvp(
            self, entry: object, moved: list[np.ndarray], cotangents: list[np.ndarray], tangents: list[np.ndarray]
        ) -> list[np.ndarray]:
            (v,), (x, y), (s, t) = cotangents, moved, tangents
            mixed = np.cos(x) * t * part("hessian")
            return [v * (-np.sin(x) * y * s * part("hvp") + mixed), v * np.cos(x) * s]

    verdicts = {each.kind: each for each in check_along(Case(), np.random.default_rng(0), lambda: True)}
    wrong = {kind for kind, each in verdicts.items() if each.outcome == "wrong"}
    assert set(verdicts) == {"jvp", "hvp", "jvp beside the vjp", "hvp by its symmetry"}
    assert (
        wrong
        == {
            "": set(),
            "jvp": {"jvp", "jvp beside the vjp"},
            "vjp": {"jvp beside the vjp", "hvp"},
            "hvp": {"hvp"},
            "hessian": {"hvp", "hvp by its symmetry"},
        }[broken]
    )
    assert all(each.outcome == "right" for each in verdicts.values() if each.kind not in wrong)


def test_a_small_layer_of_the_wheel_passes(tmp_path: Path) -> None:
    """As it ships, of one size and type: the wheel's own kernels are exported without the gate when it is built."""
    layer = (Path(__file__).parents[1] / "kernels" / "dense_tanh.py").read_text()
    every = 'fixed=[{"n": 4, "m": 4}, {"n": 8, "m": 4}, {"n": 8, "m": 8}, {}],'
    assert every in layer
    done = export(tmp_path, source=layer.replace(every, 'fixed=[{"n": 4, "m": 4}], dtypes=["float32"],'))
    assert done.returncode == 0, done.stderr
    with tiaot.open(tmp_path / "module.so") as module:
        (about,) = module.info()["kernels"]
    for what in ("vjp from finite differences", "jvp beside the vjp", "hvp by its symmetry", "hvp from float64"):
        assert what in about["verification"], what
