"""What the gate sees: errors of one small step, branches that ordinary values miss; and what it must let pass."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import tiaot

pytest.importorskip("taichi")
pytest.importorskip("llvmlite")

from tiaot.export.gate import judge
from tiaot.export.gate.children import Folder
from tiaot.export.gate.points import NEAR


def export(source: str, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "source.py").write_text(source)
    command = [sys.executable, "-m", "tiaot", "export", "source.py", "-o", "module.so"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    assert (done.returncode == 0) == (folder / "module.so").exists()
    return done


def records(folder: Path) -> dict[str, str]:
    with tiaot.open(folder / "module.so") as module:
        return {kernel["name"]: kernel["verification"] for kernel in module.info()["kernels"]}


HEADER = """
import taichi as ti
from tiaot.export import kernel
f32_1, f64_1 = ti.types.ndarray(ti.f32, ndim=1), ti.types.ndarray(ti.f64, ndim=1)
i32_1 = ti.types.ndarray(ti.i32, ndim=1)
"""

BY_TAICHI = """
from functools import partial
kernel = partial(kernel, derivative="taichi")
"""

ORBIT = """
            r = x.norm()
            v = v - 0.01 * x / (r * r * r)
            x = x + 0.01 * v
"""
SMALL_STEPS = f"""
{HEADER}{BY_TAICHI}
narrow, wide = (ti.types.ndarray(ti.types.vector(2, t), ndim=1) for t in (ti.f32, ti.f64))

@kernel("place[n, 2], speed[n, 2], turns -> end[n, 2]")
@ti.kernel
def single(place: narrow, speed: narrow, turns: ti.i32, end: narrow):
    for i in place:
        x, v = place[i], speed[i]
        for _ in range(turns):{ORBIT}
        end[i] = x

@kernel("place[n, 2], speed[n, 2], turns -> end[n, 2]", wrt=["place speed"])
@ti.kernel
def double(place: wide, speed: wide, turns: ti.i32, end: wide):
    for i in place:
        x, v = place[i], speed[i]
        for _ in range(turns):{ORBIT}
        end[i] = x

@kernel("place[n, 2], speed[n, 2], turns -> place[n, 2], speed[n, 2]", wrt=["place speed"])
@ti.kernel
def in_place(place: wide, speed: wide, turns: ti.i32):
    for i in place:
        x, v = place[i], speed[i]
        for _ in range(turns):{ORBIT}
        place[i] = x
        speed[i] = v

start = ti.Vector.field(2, ti.f32, shape=20, needs_grad=True)
end = ti.Vector.field(2, ti.f32, shape=20, needs_grad=True)

@kernel()
@ti.kernel
def over_fields(turns: ti.i32):
    for i in start:
        x, v = start[i], ti.Vector([0.0, 1.0])
        for _ in range(turns):{ORBIT}
        end[i] = x

@kernel("x[n] -> y[n]")
@ti.kernel
def right(x: f32_1, y: f32_1):
    for i in x:
        y[i] = ti.sin(x[i])
"""


def test_an_error_of_one_small_step_is_seen(tmp_path: Path) -> None:
    """Taichi's adjoint of a local vector that is assigned anew in a loop is off by 1e-5 in a step."""
    done = export(SMALL_STEPS, tmp_path)
    assert done.returncode == 1
    for name in ("single", "double", "in_place", "over_fields"):
        where = rf"^(tiaot export: no module was written: )?{name}, float\d\d_dynamic.*: gradient of "
        assert re.search(where, done.stderr, re.MULTILINE), done.stderr
    assert "right," not in done.stderr
    assert "Taichi's own adjoint is wrong here: its JIT gives the same." in done.stderr
    assert "a variable of its own for each element" in done.stderr


UNREACHED = f"""
{HEADER}{BY_TAICHI}
@kernel("x[n] -> x[n]")
@ti.kernel
def negative(x: f64_1):
    for i in x:
        if x[i] < 0:
            x[i] = x[i] * x[i]

@kernel("x[n] -> x[n]")
@ti.kernel
def large(x: f32_1):
    for i in x:
        if x[i] > 20:
            x[i] = x[i] * x[i]

@kernel("x[n], turns -> x[n]")
@ti.kernel
def long(x: f64_1, turns: ti.i32):
    for i in x:
        if turns > 20:
            x[i] = x[i] * x[i]
"""


def test_branches_that_values_near_one_miss_are_reached(tmp_path: Path) -> None:
    done = export(UNREACHED, tmp_path)
    assert done.returncode == 1
    assert re.search("negative, float64_dynamic, at n=.*, values of both signs: gradient of 'x'", done.stderr)
    assert re.search("large, float32_dynamic, at n=.*, values from 1e-3 to 1e3: gradient of 'x'", done.stderr)
    assert re.search("long, float64_dynamic, at n=.*, values with large counts: gradient of 'x'", done.stderr)
    assert "read and then overwritten" in done.stderr


def test_an_adjoint_of_our_own_passes_where_taichis_is_wrong(tmp_path: Path) -> None:
    done = export(UNREACHED.replace(BY_TAICHI, ""), tmp_path)
    assert done.returncode == 0, done.stderr
    assert all(record.endswith("vjp by tiaot") for record in records(tmp_path).values())


PASSING = f"""
{HEADER}
@kernel("x[n] -> y[n]")
@ti.kernel
def relu(x: f32_1, y: f32_1):
    for i in x:
        y[i] = ti.max(x[i], 0.0) + ti.abs(x[i] - 0.5)

@kernel("x[n] -> y[n]")
@ti.kernel
def steps(x: f64_1, y: f64_1):
    for i in x:
        y[i] = ti.floor(16 * x[i]) * x[i]

@kernel("x[n] -> total[1]")
@ti.kernel
def kinks(x: f64_1, total: f64_1):
    for i in x:
        total[0] += ti.abs(ti.sin(40 * x[i]))

@kernel("x[n] -> y[n]")
@ti.kernel
def logarithm(x: f64_1, y: f64_1):
    for i in x:
        y[i] = ti.log(x[i])

@kernel("x[n] -> y[n]")
@ti.kernel
def by_index(x: f64_1, y: f64_1):
    for i in x:
        y[i] = x[ti.cast(x[i] * x.shape[0], ti.i32)] + x[i]

@kernel("x[n], at -> y[n]")
@ti.kernel
def chosen(x: f64_1, at: ti.i32, y: f64_1):
    for i in y:
        y[i] = x[at - 1] ** 2 * x[i]

@kernel("x[n] -> y[n]")
@ti.kernel
def relax(x: f64_1, y: f64_1):
    for i in x:
        p = x[i]
        for k in range(60):
            p = 0.9 * ti.sin(p) + 0.1 * x[i]
        y[i] = p

@kernel("x[n] -> y[n]")
@ti.kernel
def relaxed(x: f64_1, y: f64_1):  # the same code under another name
    for i in x:
        p = x[i]
        for k in range(60):
            p = 0.9 * ti.sin(p) + 0.1 * x[i]
        y[i] = p

@kernel("x[n] -> y[n]")
@ti.kernel
def saturated(x: f32_1, y: f32_1):
    for i in x:
        y[i] = ti.tanh(20 * x[i])

@kernel("x[n] -> y[n]", wrt=[])
@ti.kernel
def halves(x: f64_1, y: f64_1):
    for i in x:
        r = x[i]
        while r != 0.5:
            r = 0.5 * (r + ti.max(r, 0.0)) if r < 0.25 else 0.5
        y[i] = r
"""


def test_what_is_right_passes(tmp_path: Path) -> None:
    """Kinks, jumps, logarithms of what is negative, real numbers and counts that are indices, loops without an end."""
    done = export(PASSING, tmp_path)
    assert done.returncode == 0, done.stderr
    found = records(tmp_path)
    for name in ("relu", "steps", "kinks", "logarithm", "by_index", "chosen", "relax", "relaxed", "saturated"):
        assert "vjp from finite differences" in found[name], name
        assert "vjp from the JIT" in found[name], name
    assert "took longer than there was time for" in found["halves"]
    x = np.linspace(-2, 2, 7)
    with tiaot.open(tmp_path / "module.so") as module:
        slope = (module.relax(x + 1e-6) - module.relax(x - 1e-6)) / 2e-6
        np.testing.assert_allclose(module.relax.vjp(x, np.ones(7)), slope, rtol=1e-7)


DIAGNOSED = f"""
{HEADER}
@kernel("x[B] -> y[B]", batch="B", sizes=[{{"B": 3}}])
@ti.kernel
def neighbours(x: f64_1, y: f64_1):
    for i in x:
        y[i] = x[i] * x[ti.max(i - 1, 0)]

def outside(rng, shape, sizes):
    return rng.integers(10, 999, shape)  # halves of addresses lie there, which differ

@kernel("x[n], at[m] -> y[m]", wrt=[], sizes=[{{"n": 3, "m": 256}}], draw={{"at": outside}})
@ti.kernel
def gather(x: i32_1, at: i32_1, y: i32_1):
    for i in at:
        y[i] = x[at[i]]

@kernel("x[n] -> y[n]", sizes=[{{"n": 3}}])
@ti.kernel
def root(x: f64_1, y: f64_1):
    for i in x:
        y[i] = ti.sqrt(x[i] - x[i]) * x[i]

m = ti.field(ti.f64, shape=20, needs_grad=True)

@kernel()
@ti.kernel
def overwritten():
    for i in m:
        if m[i] > 0.5:
            m[i] = 0.0
"""


def test_what_is_wrong_is_diagnosed(tmp_path: Path) -> None:
    done = export(DIAGNOSED, tmp_path)
    assert done.returncode == 1
    assert re.search("neighbours: Its samples depend on each other.*Leave batch='B' out", done.stderr), done.stderr
    assert re.search(r"gather: An index is out of range.*ndarray at arg 0 with indices \[\d+\]", done.stderr), (
        done.stderr
    )
    assert re.search("root, .*gradient of 'x' .*is not a number", done.stderr), done.stderr
    assert re.search("overwritten: It overwrites the field m, whose gradient is 0 then", done.stderr), done.stderr


def test_infinite_numbers_are_compared_without_a_warning() -> None:
    """Where rounding of the point decides whether a result is infinite, there is no error, and nothing to tell."""
    ours, theirs = np.array([np.inf, 1.0]), np.array([1.0, 1.0])
    explained = judge._compare(ours, theirs, 1e-6, np.array([1e308, 0.0]))
    assert explained.fine and explained.error == 0.0
    assert judge._compare(ours, theirs, 1e-6, None).missing == "is inf at [0], and not 1.0"


def test_one_huge_number_hides_no_error_of_the_others() -> None:
    right = np.array([1.0, 2.0, -3.0, 0.0, 1e30])
    assert judge._compare(right, right, 2e-5, None).fine
    wrong = right.copy()
    wrong[1] = 2.5
    found = judge._compare(wrong, right, 2e-5, None)
    assert not found.fine and found.error == pytest.approx(0.5 / 250)  # 100 times the median
    # What is a hundredth of the usual size is what larger numbers leave over: rounding may be all of it.
    assert judge._compare(np.array([1.0, 1e-5]), np.array([1.0, 0.0]), 2e-5, None).fine


def test_a_draw_that_raises_is_told_with_its_line(tmp_path: Path) -> None:
    source = f"""
{HEADER}
def draw(rng, shape, sizes):
    return rng.uniform(size=sizes["m"])

@kernel("x[n] -> y[n]", draw={{"x": draw}})
@ti.kernel
def odd(x: f64_1, y: f64_1):
    for i in x:
        y[i] = x[i]
"""
    done = export(source, tmp_path)
    assert done.returncode == 1
    assert "source.py:11: odd: draw for 'x' raised KeyError: 'm'" in done.stderr, done.stderr


def test_slopes_and_their_errors() -> None:
    from tiaot.export.gate.slopes import slopes

    x = np.random.default_rng(0).uniform(-2, 2, 500)
    cases = {  # (function, derivative, how well it is known)
        "smooth": (np.sin, np.cos, 1e-9),
        "large": (lambda x: np.exp(3 * x) + 1e3, lambda x: 3 * np.exp(3 * x), 1e-7),
        "a kink": (np.abs, np.sign, 1e-9),
        "jumps": (lambda x: np.floor(8 * x) + x, np.ones_like, 1e-9),
        "many jumps": (lambda x: np.floor(90 * x) * x, lambda x: np.floor(90 * x), 1e-7),
        "rounding inside": (lambda x: (np.sin(x) + 1e5) - 1e5, np.cos, 1e-4),
    }
    for name, (function, derivative, known) in cases.items():
        (found,) = slopes(lambda step, f=function: [f(x + step * x)])
        error = np.abs(found.value - derivative(x) * x)
        assert (found.error < known * np.maximum(1, np.abs(found.value))).mean() > 0.9, name
        assert (error <= 2 * found.error).mean() > 0.99, name
    (kink,) = slopes(lambda step: [np.abs(np.array([step]))])
    assert kink.error[0] > 1e-3  # both sides agree on a slope of 0, which is none
    (constant,) = slopes(lambda step: [np.array([3.0])])
    assert constant.value[0] == 0 and constant.error[0] < 1e-12


@pytest.mark.parametrize("part", [0.0, 1e-8, 1e-5, 0.5])
def test_the_dot_product_test_sees_small_errors(part: float) -> None:
    from tiaot.export.gate.exact import check

    class Case:
        @property
        def names(self) -> list[str]:
            return ["x"]

        def entries(self, name: str) -> list[tuple[str, ...]]:
            return [("x",)]

        def point(self, name: str) -> np.ndarray:
            return np.linspace(-1.5, 1.7, 40)

        def outputs(self, name: str, moved: np.ndarray) -> list[np.ndarray]:
            return [np.sin(moved) * np.exp(moved), np.abs(moved).sum()[None]]

        def cotangents(self) -> list[np.ndarray]:
            return [np.linspace(1, 2, 40), np.array([0.5])]

        def pull_back(self, entry: tuple[str, ...], name: str, cotangents: list[np.ndarray]) -> np.ndarray:
            x = self.point(name)
            right = cotangents[0] * (np.sin(x) + np.cos(x)) * np.exp(x) + cotangents[1][0] * np.sign(x)
            return right * (1 + part * (x > 1))

    (verdict,) = check(Case(), np.random.default_rng(0), lambda: True)
    assert verdict.outcome == ("right" if part == 0 else "wrong"), verdict


def test_some_elements_of_a_large_field_are_looked_at() -> None:
    """The same parts of fields of other sizes, so that what is computed from a neighbour is among what is looked at."""
    from tiaot.export.gate import trial_state

    line = np.arange(3_000_000.0)
    chosen = trial_state.thin(line)
    assert chosen.size == np.unique(chosen).size == trial_state._MOST
    np.testing.assert_array_equal(trial_state.thin(line.reshape(-1, 3)), chosen)
    half = trial_state.thin(np.arange(1_500_000.0))
    part = trial_state._BLOCK / trial_state._MOST
    apart = half[:: trial_state._BLOCK] / 1.5e6 - chosen[:: trial_state._BLOCK] / 3e6
    assert np.abs(apart).max() < 2 * part
    strided = np.zeros((3_000_000, 2))[:, 0]
    trial_state._put(strided, chosen + 1)
    np.testing.assert_array_equal(np.flatnonzero(strided), chosen)
    np.testing.assert_array_equal(strided[strided > 0], chosen + 1)
    few = np.zeros(5)
    trial_state._put(few, np.arange(5.0))
    np.testing.assert_array_equal(trial_state.thin(few), np.arange(5.0))


class _Point(NamedTuple):
    """As much of a point as a child asks for."""

    id: str
    kernel: str
    kind: str = NEAR

    @property
    def family(self) -> SimpleNamespace:
        return SimpleNamespace(name=self.kernel)

    def draw(self) -> dict[str, np.ndarray]:
        return {}

    def record(self) -> dict[str, object]:
        return {"id": self.id, "kernel": self.kernel, "wrt": [["x"]], "gradient": False}


def test_a_kernel_goes_on_without_the_adjoint_that_taichi_does_not_make(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its forward runs are still compared: at each point, not up to the first gradient only."""
    taichi = tmp_path / "taichi"
    taichi.write_text(
        f"#!{sys.executable}\n"
        """
import json, sys
from pathlib import Path
mode, folder = sys.argv[3], Path(sys.argv[5])
with (folder / f"{mode}.log").open("a") as log:
    for trial in json.loads((folder / f"{mode}.json").read_text()):
        print(json.dumps({"trial": trial["id"], "doing": "forward"}), file=log)
        if trial["wrt"] and trial["kernel"] == "loops":
            print(json.dumps({"trial": trial["id"], "doing": "vjp, wrt x"}), file=log)
            raise SystemExit("[E] [auto_diff.cpp:visit@1099] Not supported.\\n"
                             "RuntimeError: [auto_diff.cpp:visit@1099] Not supported. If you are using autodiff, wait.")
        print(json.dumps({"trial": trial["id"], "done": True}), file=log)
"""
    )
    taichi.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(taichi))
    points = [_Point(str(place), name) for place, name in enumerate(["loops", "plain", "loops", "loops"])]
    outcome = Folder(str(tmp_path), points).start("jit", "kernels.py", points, 60.0).finish()  # type: ignore[arg-type]
    assert outcome.done == {"1", "2", "3"}  # the first had its forward run before
    assert outcome.failures == {}
    assert outcome.without_adjoint == {"loops": "said 'Not supported' (vjp, wrt x)"}
