"""The documents: the README's code runs, its commands are CI's, and every public name is documented."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiaot

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def _steps(page: str) -> Iterator[tuple[str, str, str]]:
    """What a page has its reader do, in order: ("file", NAME.py, text), ("export", command, ""), ("run", "", code).

    A block of Python with kernels in it is the file that the text above it names last.
    """
    named = ""
    found = re.finditer(
        r"```python\n(?P<code>.*?)```|^    (?P<command>tiaot export [^\n#]*)|`(?P<inline>tiaot export [^`]*)`"
        r"|`(?P<file>\w+\.py)`",
        page,
        re.DOTALL | re.MULTILINE,
    )
    for each in found:
        if each["file"]:
            named = each["file"]
        elif each["code"] and "@ti.kernel" in each["code"]:
            yield "file", named, each["code"]
        elif each["code"]:
            yield "run", "", each["code"]
        else:
            yield "export", (each["command"] or each["inline"]).strip(), ""


PAGES = ["README.md", *sorted(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md") if "```python" in p.read_text())]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # torch's own
@pytest.mark.parametrize("page", PAGES)
def test_a_page_does_what_it_says(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block of Python runs alone, after the files and exports above it."""
    monkeypatch.chdir(tmp_path)
    written: set[str] = set()
    ran = 0
    for kind, name, text in _steps((ROOT / page).read_text()):
        if kind == "file":
            pytest.importorskip("llvmlite")
            pytest.importorskip("taichi")
            Path(name).write_text(text)
            written.add(name)
        elif kind == "export" and written & set(name.split()):
            command = [sys.executable, "-m", *name.split()]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
        elif kind == "run":
            for library in ("torch", "jax"):
                if re.search(rf"^import {library}$", text, re.MULTILINE):
                    pytest.importorskip(library)
            exec(compile(text, page, "exec"), {})
            ran += 1
    assert ran


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    for package in ("sphinx", "furo", "myst_parser", "torch", "jax"):
        pytest.importorskip(package)
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", str(ROOT / "docs"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "tutorial.html").exists()


def test_newtons_method_converges() -> None:
    path = ROOT / "examples" / "newton_fit.py"
    names: dict[str, Any] = {"__name__": "newton_fit"}
    exec(compile(path.read_text(), str(path), "exec"), names)
    norms = names["fit"](rounds=11)
    assert norms[0] > 1 and norms[-1] < 1e-8
    assert norms[8] < norms[7] ** 1.5  # faster than any fixed factor


def test_the_training_example_follows_torch() -> None:
    pytest.importorskip("torch")
    path = ROOT / "examples" / "train_torch.py"
    names: dict[str, Any] = {"__name__": "train_torch"}
    exec(compile(path.read_text(), str(path), "exec"), names)
    ours, theirs = names["train"](steps=100)
    assert ours[-1] < ours[0] / 3
    # Sums of up to 16 products and means over 256 samples, in float64, over 100 steps.
    np.testing.assert_allclose(ours, theirs, rtol=100 * 300 * np.finfo(np.float64).eps)


def test_the_pendulum_is_found_from_its_equation() -> None:
    torch = pytest.importorskip("torch")
    path = ROOT / "examples" / "pendulum_torch.py"
    names: dict[str, Any] = {"__name__": "pendulum_torch"}
    exec(compile(path.read_text(), str(path), "exec"), names)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        ours, theirs, error = names["train"](rounds=5)
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-9)  # twenty steps, of which each magnifies rounding
    assert ours[-1] < 1e-4
    assert error < 0.01


def test_the_kernel_of_the_readme_has_the_right_gradient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("llvmlite")
    pytest.importorskip("taichi")
    monkeypatch.chdir(tmp_path)
    program, use = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[:2]
    Path("springs.py").write_text(program)
    command = [sys.executable, "-m", "tiaot", "export", "springs.py", "--no-verify"]
    subprocess.run(command, capture_output=True, check=True)
    names: dict[str, Any] = {}
    exec(compile(use, "README.md", "exec"), names)
    x, v, cx, cv = (names[name] for name in ("x", "v", "cx", "cv"))
    new_v = v - np.float32(0.4) * x
    np.testing.assert_allclose(names["new_v"], new_v, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(names["new_x"], x + np.float32(0.01) * new_v, rtol=1e-6, atol=1e-6)
    both = cv + np.float32(0.01) * cx  # what reaches the new v
    np.testing.assert_allclose(names["gv"], both, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(names["gx"], cx - np.float32(0.4) * both, rtol=1e-5, atol=1e-5)


def test_the_header_of_the_program_over_fields_has_what_the_page_names(tmp_path: Path) -> None:
    pytest.importorskip("llvmlite")
    pytest.importorskip("taichi")
    page = (ROOT / "docs" / "fields.md").read_text()
    (tmp_path / "throw.py").write_text(re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0])
    command = ["tiaot", "export", "throw.py", "--no-verify"]
    subprocess.run([sys.executable, "-m", *command], cwd=tmp_path, capture_output=True, check=True)
    header = (tmp_path / "throw.h").read_text()
    for name in re.findall(r"`(THROW_\w+)`", page):
        assert f"#define {name} " in header


def test_the_c_of_the_readme_is_the_headers() -> None:
    call = re.search(r"```c\n(\w+)\((.*?)\);", README)
    assert call is not None
    header = Path(tiaot.load("dense_tanh").module.path).with_name("dense_tanh.h").read_text()
    prototype = re.search(rf"int {call[1]}\(([^)]*)\);", header)
    assert prototype is not None, call[1]
    assert len(call[2].split(",")) == len(prototype[1].split(","))


def test_ci_runs_the_readmes_test_command() -> None:
    assert README.count('\n    pip install ".[test]" && pytest\n') == 1
    assert "\n    pip install . && tiaot demo\n" in README
    script = (ROOT / ".ci" / "run").read_text()
    reads = re.search(r"^command=\$\((sed .*README\.md)\)$", script, re.MULTILINE)
    assert reads is not None
    done = subprocess.run(["sh", "-c", reads[1]], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == 'pip install ".[test]" && pytest\n'


def test_every_public_name_is_documented() -> None:
    modules = [tiaot, *(pytest.importorskip(f"tiaot.{name}") for name in ("torch", "jax"))]
    for name, thing in ((name, getattr(module, name)) for module in modules for name in module.__all__):
        if name.startswith("__"):
            continue
        assert (thing.__doc__ or "").strip(), name
        for member in vars(thing) if isinstance(thing, type) else ():
            if not member.startswith("_"):
                assert (getattr(thing, member).__doc__ or "").strip(), f"{name}.{member}"
