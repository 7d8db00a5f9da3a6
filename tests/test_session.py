"""Kernels of packages, of a notebook's cells, of closures, and of two files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiaot

pytest.importorskip("taichi")
pytest.importorskip("llvmlite")

# A notebook as IPython runs it: each cell is compiled under a name of its own, by which linecache has its text.
NOTEBOOK = """
import linecache, sys

def cell(text, count=[0]):
    count[0] += 1
    name = f"/tmp/ipykernel_1/{count[0]}.py"
    linecache.cache[name] = (len(text), None, text.splitlines(True), name)
    exec(compile(text, name, "exec"), globals())
"""


def run(folder: Path, *command: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done


# ---- files


def write_package(folder: Path) -> None:
    package = folder / "physics"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "constants.py").write_text("FACTOR = 3.0\n")
    (package / "inner" / "__init__.py").write_text("")
    (package / "inner" / "steps.py").write_text(
        "import taichi as ti\n"
        "from tiaot.export import kernel\n"
        "from ..constants import FACTOR\n"
        "array = ti.types.ndarray(ti.f32, ndim=1)\n\n\n"
        '@kernel("x[n] -> y[n]")\n@ti.kernel\ndef step(x: array, y: array):\n'
        "    for i in x:\n        y[i] = FACTOR * x[i]\n"
    )


@pytest.mark.parametrize("source", [["-m", "physics.inner.steps"], ["physics/inner/steps.py"]])
def test_a_module_of_a_package(tmp_path: Path, source: list[str]) -> None:
    write_package(tmp_path)
    run(tmp_path, "-m", "tiaot", "export", "--no-verify", *source, "-o", "made.so")
    step = tiaot.open(tmp_path / "made.so").step
    assert step(np.array([1, 2], np.float32)).tolist() == [3, 6]


def test_a_module_that_is_not_there(tmp_path: Path) -> None:
    done = run(tmp_path, "-m", "tiaot", "export", "-m", "physics.steps", "-o", "made.so", code=1)
    assert "-m physics.steps: no such module in this folder and on the import path (PYTHONPATH)" in done.stderr


CLOSURES = """
import taichi as ti
from tiaot.export import kernel
import beside
array = ti.types.ndarray(ti.f32, ndim=1)


def scaling(factor):
    @kernel("x[n] -> y[n]")
    @ti.kernel
    def scale(x: array, y: array):
        for i in x:
            y[i] = factor * x[i]

    return scale


double, triple = scaling(beside.FACTOR), scaling(3.0)
"""


def test_closures_are_named_by_their_variables_and_their_values_count(tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "closures.py").write_text(CLOSURES)
    for factor in (2.0, 2.5):  # in a file beside the kernel file; the second time the cache knows the first
        (folder / "beside.py").write_text(f"import os\nFACTOR = float({factor})\n")
        run(tmp_path, "-m", "tiaot", "export", "--no-verify", "elsewhere/closures.py", "-o", f"made{factor}.so")
        module = tiaot.open(tmp_path / f"made{factor}.so")
        x = np.array([1, 2], np.float32)
        assert (module.double(x) / x).tolist() == [factor, factor]
        assert (module.triple(x) / x).tolist() == [3, 3]


def test_what_a_closure_holds_is_part_of_the_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tiaot.export.taichi.trace import trace_file

    source = tmp_path / "closures.py"
    source.write_text(CLOSURES.replace("import beside", "import os").replace("beside.FACTOR", "eval(os.environ['F'])"))
    for factor, reused in (("2.0", []), ("2.0", ["double", "triple"]), ("2.5", [])):
        monkeypatch.setenv("F", factor)
        assert trace_file(source, tmp_path / "cache").reused == reused


def test_kernels_of_one_name_in_two_files(tmp_path: Path) -> None:
    write_package(tmp_path)
    steps = (tmp_path / "physics" / "inner" / "steps.py").read_text().replace("..constants", "physics.constants")
    (tmp_path / "other.py").write_text(steps)
    (tmp_path / "both.py").write_text("import other\n" + steps)
    done = run(tmp_path, "-m", "tiaot", "export", "--no-verify", "both.py", "-o", "made.so", code=1)
    assert "declares two kernels of the name 'step', at other.py:7 and both.py:8: give one another name" in done.stderr
    (tmp_path / "both.py").write_text("from other import step as other_step\n" + steps)
    run(tmp_path, "-m", "tiaot", "export", "--no-verify", "both.py", "-o", "made.so")
    assert sorted(tiaot.open(tmp_path / "made.so").kernels) == ["other_step", "step"]


# ---- sessions


def test_kernels_of_a_notebook(tmp_path: Path) -> None:
    (tmp_path / "notebook.py").write_text(
        NOTEBOOK
        + '''
cell("import taichi as ti\\nimport numpy as np\\nimport warnings\\nfrom tiaot.export import export, kernel")
cell("ti.init(arch=ti.cpu, log_level=ti.ERROR)\\nrate = 0.5")
cell("""array = ti.types.ndarray(ti.f32, ndim=1)

@ti.func
def scaled(a):
    return rate * a * weights[1]

@kernel("x[n] -> y[n]")
@ti.kernel
def forget(x: array, y: array):
    for i in x:
        y[i] = 0.0
""")
cell("weights = np.array([1.0, 4.0])\\nweights = tuple(weights)")
cell("""
@kernel("x[n] -> y[n]")
@ti.kernel
def step(x: array, y: array):
    for i in x:
        y[i] = scaled(x[i]) + 1.0
""")
cell("raise_at_export = 1\\nrate = rate + 0.25\\nran = len(sys.argv)")
cell("""
x = ti.field(ti.f32, shape=3, needs_grad=True)
loss = ti.field(ti.f32)
ti.root.place(loss)

@ti.kernel
def measure():
    for i in x:
        loss[None] += x[i] * x[i]
""")
cell("for i in range(3):\\n    x[i] = i + rate\\n")
cell("print(open)\\nmodule = export(step, 'step.so', verify=False)")
cell("with warnings.catch_warnings(record=True) as told:\\n    warnings.simplefilter('always')\\n"
     "    export([measure, step], 'both.so', verify=False)\\nprint([str(each.message) for each in told])")
print(module.step(np.array([2, 4], np.float32)).tolist(), list(module.kernels))
step(x := ti.ndarray(ti.f32, 2), y := ti.ndarray(ti.f32, 2))
print(y.to_numpy().tolist())
'''
    )
    done = run(tmp_path, "notebook.py")
    # rate is 0.75 by now, and weights[1] 4.
    assert done.stdout.splitlines()[-2:] == ["[7.0, 13.0] ['step']", "[1.0, 1.0]"], done.stdout + done.stderr
    assert "a state starts with what the file wrote into x; the other fields are zeros" in done.stdout
    state = tiaot.open(tmp_path / "both.so").state()
    assert state.x.tolist() == [0.75, 1.75, 2.75]
    state.measure()
    assert state.loss == 0.75**2 + 1.75**2 + 2.75**2


def test_kernels_of_a_module_that_is_imported(tmp_path: Path) -> None:
    write_package(tmp_path)
    (tmp_path / "script.py").write_text(
        "from physics.inner import steps\n"
        "from tiaot.export import export\n"
        "print(export(steps.step, 'made.so', verify=False).step)\n"
    )
    run(tmp_path, "script.py")
    assert tiaot.open(tmp_path / "made.so").step(np.array([1, 2], np.float32)).tolist() == [3, 6]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("export(3, 'made.so')", "TypeError: kernel: expected a Taichi kernel, got int"),
        ("export(scaling(2.0), 'made.so')", "no variable of the session, or of its module, holds the kernel 'scale'"),
        ("export(double, 'nowhere/made.so')", "ExportError: nowhere/made.so: there is no folder 'nowhere'"),
    ],
)
def test_what_a_session_cannot_export(tmp_path: Path, text: str, message: str) -> None:
    closures = CLOSURES.replace("import beside\n", "").replace("beside.FACTOR", "2.0")
    (tmp_path / "script.py").write_text(
        f"{closures}\nfrom tiaot.export import export\nif __name__ == '__main__':\n    {text}\n"
    )
    assert message in run(tmp_path, "script.py", code=1).stderr
