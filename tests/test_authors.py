"""What an author meets: decorated programs stay what they were; a message says where, what came, what to write."""

from __future__ import annotations

import copy
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiaot

pytest.importorskip("taichi")
pytest.importorskip("llvmlite")

HEAD = """
import taichi as ti
from tiaot.export import autodiff, family, kernel, written
reals = ti.types.ndarray(ti.f64, ndim=1)
planes = ti.types.ndarray(ti.f64, ndim=2)
"""
DOUBLE = """
@kernel("x[n] -> y[n]")
@ti.kernel
def double(x: reals, y: reals):
    for i in x:
        y[i] = 2.0 * x[i]
"""


def run_export(folder: Path, text: str, *options: str, name: str = "source") -> subprocess.CompletedProcess[str]:
    (folder / f"{name}.py").write_text(text)
    command = [sys.executable, "-m", "tiaot", "export", f"{name}.py", "-o", f"{name}.so", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def run_python(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)


# ---- a decorated program stays what it was

PROGRAM = (
    HEAD.replace("f64", "f32")
    + """
@kernel("x[n], dt -> x[n]", draw={"x": lambda rng, shape, sizes: rng.uniform(0, 1, shape)})
@ti.kernel
def step(x: reals, dt: ti.f32):
    for i in x:
        x[i] += dt * x[i]


@kernel("a nonsense signature")
@ti.kernel
def wrong(x: reals):
    for i in x:
        x[i] += 1.0


@family("x[B] -> y[B]", batch="B")
def squares(variant):
    raise RuntimeError("made before the export")


if __name__ == "__main__":
    print("main")
"""
)


def test_a_decorated_program_runs_as_it_did(tmp_path: Path) -> None:
    """Without a ti.init, and with one after the kernels; as a script; a declaration is read at the export alone."""
    (tmp_path / "program.py").write_text(PROGRAM)
    done = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "main", done.stderr
    done = run_python(
        tmp_path,
        "import program, taichi as ti\n"
        "ti.init(arch=ti.cpu, log_level=ti.ERROR)\n"
        "x = ti.ndarray(ti.f32, 3)\n"
        "x.fill(2.0)\n"
        "program.step(x, 0.5)\n"
        "program.wrong(x)\n"
        "print(x.to_numpy().tolist())\n",
    )
    assert done.stdout.splitlines()[-1] == "[4.0, 4.0, 4.0]", done.stderr


# ---- what cannot be exported

# A kernel whose gradient Taichi's autodiff is to make, up to the body of its loop.
BY_TAICHI = '@kernel("x[n] -> y[n]", derivative="taichi")\n@ti.kernel\ndef f(x: reals, y: reals):\n    for i in x:\n'
REFUSED = {
    "kernel without parentheses": (
        "@kernel\n@ti.kernel\ndef bare(x: reals):\n    pass\n",
        r"source.py:6 \(@kernel\): TypeError: @kernel above 'bare' has no parentheses: write @kernel\(",
    ),
    "family without parentheses": (
        "@family\ndef bare(variant):\n    pass\n",
        r"source.py:6 \(@family\): TypeError: @family above 'bare' has no parentheses: write @family",
    ),
    "family of a kernel": (
        '@family("x[n] -> y[n]")\n@ti.kernel\ndef bare(x: reals, y: reals):\n    pass\n',
        r"source.py:6 .*expected a function of a variant .*, got a Taichi kernel; for one Taichi kernel, write @kernel",
    ),
    "signature": (
        '@kernel("x[n] -> y[m]")\n@ti.kernel\ndef f(x: reals, y: reals):\n    pass\n',
        r"source.py:6: signature 'x\[n\] -> y\[m\]': dimension 'm' of output 'y' is in no input",
    ),
    "sizes": (
        '@kernel("x[n] -> y[n]", sizes=[{"m": 3}])\n@ti.kernel\ndef f(x: reals, y: reals):\n    pass\n',
        r"source.py:6: sizes: expected a whole number for each of n, got \{'m': 3\}",
    ),
    "template in the signature": (
        '@kernel("x[n] -> y[n]")\n@ti.kernel\ndef f(x: ti.template(), y: reals):\n    pass\n',
        r"source.py:6: f: parameter 'x' is a ti.template\(\), but an argument in the signature: annotate it",
    ),
    "while in a gradient": (
        f"{BY_TAICHI}        a = x[i]\n        while a < 10.0:\n            a = a * 2.0\n        y[i] = a\n",
        r"source.py:6: Taichi does not compile the gradient of kernel f:\n"
        r"source.py:11: a `while` has no gradient: write `for _ in range\(most\):` around an `if`, or give wrt=\[\]",
    ),
    "break in a gradient": (
        f"{BY_TAICHI}        a = x[i]\n"
        "        for j in range(9):\n            if a > 5.0:\n                break\n            a = a * 2.0\n"
        "        y[i] = a\n",
        r"source.py:6: Taichi does not compile the gradient of kernel f:\nsource.py:13: a `break` has no gradient",
    ),
    "while in a function": (
        "@ti.func\ndef grown(a):\n    while a < 10.0:\n        a = a * 2.0\n    return a\n\n\n"
        f"{BY_TAICHI}        y[i] = grown(x[i])\n",
        r"source.py:13: Taichi does not compile the gradient of kernel f:\nsource.py:8: a `while` has no gradient",
    ),
    "Taichi's abort": (
        '@kernel("x[3, b] -> loss[1]", derivative="taichi")\n@ti.kernel\ndef dots(x: planes, loss: reals):\n'
        "    for b in range(x.shape[1]):\n        z = ti.Vector.zero(ti.f64, 3)\n        for c in range(3):\n"
        "            z[c] += x[c, b] * x[c, b]\n        loss[0] += z[0] + z[1] + z[2]\n",
        r"Taichi's compiler ended \(signal SIGABRT\) at the gradient of kernel dots \(source.py:6\):\n"
        r"source.py:12: z\[c\]: a local vector has no gradient where its index is a variable: loop with "
        r"`for c in ti.static\(range\(...\)\)`",
    ),
    "condition": (
        '@kernel("x[n] -> y[n]")\n@ti.kernel\ndef f(x: reals, y: reals):\n    for i in x:\n        if x[i]:\n'
        "            y[i] = 1.0\n",
        r"source.py:6: Taichi does not compile kernel f:\n.*line 10, in f(.|\n)*`if` conditions must be an integer",
    ),
    "scratch without a gradient": (
        '@kernel("x[n] -> y[n]", scratch={"s": ["n"]})\n@ti.kernel\n'
        "def f(x: reals, s: ti.types.ndarray(ti.f64, ndim=1, needs_grad=False), y: reals):\n"
        "    for i in x:\n        s[i] = x[i]\n    for i in x:\n        y[i] = s[i] * x[i]\n",
        r"source.py:6: f: scratch 's' is annotated needs_grad=False, and so loses .*: leave needs_grad out",
    ),
    "an author's own assert": (
        '@kernel("x[n] -> y[n]", wrt=[])\n@ti.kernel\ndef f(x: reals, y: reals):\n    for i in x:\n'
        "        assert x[i] > 0.0\n        y[i] = x[i]\n",
        r"f: the kernel cannot be exported: it asserts; check the arguments before the call",
    ),
    "an assert of Taichi's that cannot hold": (
        '@kernel("a[n, 2, 3], b[n, 2] -> x[n, 2]", wrt=[])\n@ti.kernel\n'
        "def f(a: ti.types.ndarray(ti.types.matrix(2, 3, ti.f64), ndim=1),\n"
        "      b: ti.types.ndarray(ti.types.vector(2, ti.f64), ndim=1),\n"
        "      x: ti.types.ndarray(ti.types.vector(2, ti.f64), ndim=1)):\n"
        "    for i in a:\n        x[i] = ti.solve(a[i], b[i], ti.f64)\n",
        r"source.py:6: Taichi does not compile kernel f(.|\n)*Only square matrix is supported",
    ),
    "an error of the file": (
        "def setup():\n    return 1 / 0\n\n\nsetup()\n",
        r"source.py:7 \(return 1 / 0\), called from source.py:10: ZeroDivisionError: division by zero",
    ),
    "a file that ends the process": (
        "import sys\nsys.exit()\n",
        r"source.py:7 \(sys.exit\(\)\): the file ends the process while it runs; keep that under if __name__",
    ),
    "a syntax error": ("def f(:\n    pass\n", r"source.py:6: SyntaxError: invalid syntax"),
    "two kernels of a name": (
        DOUBLE + DOUBLE,
        r"declares two kernels of the name 'double', at source.py:7 and source.py:13: give one another name",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_says_where_and_what_to_write(tmp_path: Path, case: str) -> None:
    text, message = REFUSED[case]
    done = run_export(tmp_path, HEAD + text, "--no-verify")
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(message, done.stderr), done.stderr
    assert "tiaot/export" not in done.stderr, done.stderr  # none of our own stack
    assert not (tmp_path / "source.so").exists()


def test_draw_that_raises_says_at_which_size(tmp_path: Path) -> None:
    draw = "draw={'x': lambda rng, shape, sizes: rng.integers(1, sizes['n'], shape).astype(float)}"
    done = run_export(tmp_path, HEAD + DOUBLE.replace('y[n]"', f'y[n]", {draw}'))
    assert done.returncode == 1
    assert re.search(
        r"source.py:7: double: draw for 'x' raised ValueError: .*; it was asked for an array of shape \(1,\) at n=1: "
        r"sizes are tried from 0 on, unless sizes= names others",
        done.stderr,
    ), done.stderr


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nowhere/made.so", "nowhere/made.so: there is no folder 'nowhere': make it first"),
        ("made", "made: expected the name of a module, NAME.so"),
        ("folder.so", "folder.so: is a folder"),
    ],
)
def test_where_the_module_goes_is_looked_at_first(tmp_path: Path, target: str, message: str) -> None:
    (tmp_path / "folder.so").mkdir()
    (tmp_path / "source.py").write_text("raise RuntimeError('the file was run')\n")
    command = [sys.executable, "-m", "tiaot", "export", "source.py", "-o", target]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, message in done.stderr) == (1, True), done.stderr


def test_success_says_what_was_made_and_how_it_was_checked(tmp_path: Path) -> None:
    done = run_export(tmp_path, HEAD + DOUBLE)
    assert re.fullmatch(
        r"wrote source.so \(\d+ KiB\) and source.h in \d+ s\n"
        r"  double: x\[n\] -> y\[n\]\n    forward, vjp x\n    verified at \d+ points; largest errors: .+\n",
        done.stdout,
    ), done.stdout + done.stderr


# ---- Taichi's own library


LIBRARY = (
    HEAD
    + """
vectors = ti.types.ndarray(ti.types.vector(3, ti.f64), ndim=1)
matrices = ti.types.ndarray(ti.types.matrix(3, 3, ti.f64), ndim=1)
whole = ti.types.ndarray(ti.i32, ndim=1)
ti.init(default_fp=ti.f64)


@kernel("A[n, 3, 3], b[n, 3] -> x[n, 3]", wrt=[])
@ti.kernel
def solve(A: matrices, b: vectors, x: vectors):
    for i in A:
        x[i] = ti.solve(A[i], b[i], ti.f64)


@kernel("A[n, 3, 3] -> x[n, 3]", wrt=[])
@ti.kernel
def eigenvalues(A: matrices, x: vectors):
    for i in A:
        values, _ = ti.sym_eig(A[i], ti.f64)
        x[i] = values


@kernel("x[n] -> y[n]")
@ti.kernel
def guarded(x: reals, y: reals):
    for i in x:
        if not ti.math.isnan(x[i]):
            y[i] = x[i] * x[i]
"""
)
SIGNS = (
    HEAD
    + """
whole = ti.types.ndarray(ti.i32, ndim=1)


@kernel("x[n] -> y[n]")
@ti.kernel
def signs(x: reals, y: reals):
    for i in x:
        s = ti.math.sign(x[i])
        s *= x[i]
        t = ti.math.step(0.5, x[i])
        t += x[i]
        y[i] = s + t


@kernel("x[n] -> y[n]", wrt=[])
@ti.kernel
def kinds(x: reals, y: whole):
    for i in x:
        y[i] = ti.math.isinf(x[i]) + 2 * ti.math.isnan(x[i])
"""
)


def test_functions_of_taichis_library_that_assert(tmp_path: Path) -> None:
    done = run_export(tmp_path, LIBRARY, "--no-verify")
    assert done.returncode == 0, done.stderr
    module = tiaot.open(tmp_path / "source.so")
    rng = np.random.default_rng(0)
    A, b = rng.standard_normal((5, 3, 3)) + 3 * np.eye(3), rng.standard_normal((5, 3))
    # Elimination in float64 of matrices with a condition below 100.
    np.testing.assert_allclose(module.solve(A, b), np.linalg.solve(A, b[..., None])[..., 0], rtol=1e-12, atol=1e-13)
    S = A + A.transpose(0, 2, 1)
    # The iteration ends at 1e-15 of the matrix; Taichi's closed forms lose half of the digits where roots are close.
    np.testing.assert_allclose(np.sort(module.eigenvalues(S)), np.linalg.eigvalsh(S), rtol=1e-7)
    x = np.array([2.0, np.nan, -3.0])
    assert module.guarded(x).tolist() == [4, 0, 9]
    assert module.guarded.vjp(x, np.ones(3)).tolist() == [4, 0, -6]


def test_functions_of_taichis_library_keep_float64(tmp_path: Path) -> None:
    """Where the default type is float32, which the library casts to."""
    done = run_export(tmp_path, SIGNS)
    assert done.returncode == 0, done.stderr
    module = tiaot.open(tmp_path / "source.so")
    x = np.array([-1 / 3, 0, 0.1, 0.7])
    assert module.signs(x).tolist() == [0.0, 0.0, 0.1 + 0.1, 0.7 + (1 + 0.7)]
    assert module.signs.vjp(x, np.ones(4)).tolist() == [0, 1, 2, 2]
    assert module.kinds(np.array([1e300, np.inf, -np.inf, np.nan, 0.0])).tolist() == [0, 1, 1, 2, 0]


def test_numbers_that_float32_rounds_in_a_kernel_of_float64_are_named(tmp_path: Path) -> None:
    text = HEAD + "rate = 0.1\n" + DOUBLE.replace("2.0 * x[i]", "rate * x[i] * 0.5 + ti.math.pi + 0.7")
    done = run_export(tmp_path, text, "--no-verify")
    said = "source.py:8: double works in float64, but these numbers are float32, as is Taichi's default: "
    assert said in done.stderr and "rate at source.py:12" in done.stderr, done.stderr
    assert "ti.math.pi at source.py:12" in done.stderr and "0.7 at source.py:12" in done.stderr
    assert "0.5 at" not in done.stderr
    done = run_export(tmp_path, text + "ti.init(default_fp=ti.f64)\n", "--no-verify")
    assert done.returncode == 0 and "float32" not in done.stderr, done.stderr


# ---- scratch


def test_a_family_by_autodiff_with_scratch(tmp_path: Path) -> None:
    done = run_export(
        tmp_path,
        HEAD
        + """
@family("x[B, n] -> y[B]", batch="B", dtypes=["float64"])
def cubes(variant):
    @ti.kernel
    def forward(x: variant.array(2), s: variant.array(2), y: variant.array(1)):
        for b in y:
            for i in range(x.shape[1]):
                s[b, i] = x[b, i] * x[b, i]
        for b in y:
            for i in range(x.shape[1]):
                y[b] += s[b, i] * x[b, i]

    return autodiff(forward, scratch={"s": ["rows", "n"]})
""",
    )
    assert done.returncode == 0, done.stderr
    cubes = tiaot.open(tmp_path / "source.so").cubes
    x = np.arange(6.0).reshape(2, 3)
    assert cubes(x).tolist() == [9, 216]
    assert cubes.vjp(x, np.array([1.0, 2.0])).tolist() == (3 * x**2 * [[1], [2]]).tolist()


# ---- fields


TABLE = """
import taichi as ti
ti.init(arch=ti.cpu)
n = 6
table = ti.field(ti.f32, shape=n)
pairs = ti.Struct.field({"a": ti.i32, "b": ti.f64}, shape=3)
rest = ti.Vector.field(2, ti.f32, shape=4)
halves = ti.field(ti.f16, shape=())
x = ti.field(ti.f32, shape=n, needs_grad=True)
for i in range(n):
    table[i] = 10.0 * i
for i in range(3):
    pairs[i].b = i + 0.5
    pairs[i].a = -i
halves[None] = 0.5


@ti.kernel
def weigh():
    for i in x:
        x[i] = table[i] + ti.cast(pairs[i % 3].a, ti.f32) + ti.cast(pairs[i % 3].b, ti.f32) + halves[None]


@ti.kernel
def fill():
    for i in rest:
        rest[i] = ti.Vector([i, 2 * i])


fill()
"""
MAIN = """
#include <stdio.h>
#include <stdlib.h>
#include "my_table.h"

int main(void) {
  char *state = aligned_alloc(64, (MY_TABLE_STATE_BYTES + 63) / 64 * 64);
  for (int i = 0; i < MY_TABLE_STATE_BYTES; ++i) state[i] = 1;
  my_table_init_state(state);
  const float *table = (const float *)(state + MY_TABLE_OFFSET_table), *x = (const float *)(state + MY_TABLE_OFFSET_x);
  printf("%g %g %g\\n", table[1], table[5], x[0]);
  free(state);
  return 0;
}
"""


def test_a_state_starts_with_what_the_file_wrote(tmp_path: Path) -> None:
    done = run_export(tmp_path, TABLE, "--no-verify", name="my_table")
    assert done.returncode == 0, done.stderr
    said = (
        "a state starts with what the file wrote into table, pairs_a, pairs_b, rest, halves; the other fields are zeros"
    )
    assert said in done.stderr
    module = tiaot.open(tmp_path / "my_table.so")
    state, other = module.state(), module.state()
    for each in (state, copy.copy(state), pickle.loads(pickle.dumps(state))):
        assert each.table.tolist() == [0, 10, 20, 30, 40, 50]
        assert each.pairs_a.tolist() == [0, -1, -2] and each.pairs_b.tolist() == [0.5, 1.5, 2.5]
        assert each.rest.tolist() == [[0, 0], [1, 2], [2, 4], [3, 6]]
        assert each.halves == 0.5 and not each.x.any() and not each.x.grad.any()
    state.weigh()
    assert state.x.tolist() == [10.0 * i + 0.5 + 0.5 for i in range(6)]
    assert not other.x.any()
    for field in module.state(zeros=True).fields.values():
        assert not field.any()
    state.table[...] = 0
    assert not pickle.loads(pickle.dumps(state)).table.any() and other.table.any()
    (tmp_path / "main.c").write_text(MAIN)
    command = ["cc", "main.c", "my_table.so", "-o", "main", "-Wl,-rpath," + str(tmp_path)]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=True).stdout == "10 50 0\n"


def test_content_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    text = """
import taichi as ti
ti.init(arch=ti.cpu)
def make():
    hidden = ti.field(ti.f32, shape=3)
    hidden[1] = 2.0

    @ti.kernel
    def total() -> ti.f32:
        s = 0.0
        for i in hidden:
            s += hidden[i]
        return s

    return total

total = make()
"""
    done = run_export(tmp_path, text, "--no-verify")
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"field_\d+: no variable of the file holds this field, .*: a state starts with zeros there", done.stderr
    )


def test_content_that_is_too_much_is_refused(tmp_path: Path) -> None:
    text = TABLE.replace("n = 6", "n = 1 << 25").replace(
        "for i in range(n):\n    table[i] = 10.0 * i", "table.fill(1.0)"
    )
    done = run_export(tmp_path, text, "--no-verify")
    assert re.search(
        r"field 'table' holds 128 MB that the file wrote, and all fields 128 MB; a module keeps up to 64 MB: write it "
        r"from your program, state.table\[...\] = values",
        done.stderr,
    ), done.stderr


SILENT = """
import taichi as ti
ti.init(arch=ti.cpu, default_fp=ti.f64)
spot = ti.field(ti.f64, shape=3, needs_grad=True)
force = ti.field(ti.f64, shape=3)
doubled = ti.field(ti.f64, shape=3)
weight = ti.field(ti.f64, shape=3)
seen = ti.field(ti.f64, shape=())
loss = ti.field(ti.f64, shape=(), needs_grad=True)


@ti.kernel
def pull():
    for i in spot:
        force[i] = spot[i] * spot[i]
        seen[None] += 1.0


@ti.kernel
def twice():
    for i in spot:
        doubled[i] = 2.0 * force[i]


@ti.kernel
def measure():
    for i in spot:
        loss[None] += weight[i] * doubled[i]
"""


def test_a_field_without_a_gradient_between_two_is_warned_of(tmp_path: Path) -> None:
    done = run_export(tmp_path, SILENT, "--no-verify")
    assert done.returncode == 0
    warnings = [line for line in done.stderr.splitlines() if "WARNING" in line]
    assert len(warnings) == 2, done.stderr
    assert (
        "field 'force' has no gradient, but lies between fields that have one: pull writes it, twice reads"
        in warnings[0]
    )
    assert "field 'doubled' has no gradient" in warnings[1] and "twice writes it, measure reads it" in warnings[1]
    done = run_export(tmp_path, re.sub(r"shape=3\)", "shape=3, needs_grad=True)", SILENT), "--no-verify")
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr
