"""The exporter's cache: unchanged kernels are not traced again; whatever a kernel follows from makes it changed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("taichi")
pytest.importorskip("llvmlite")

KERNELS = """
import os
import numpy as np
import taichi as ti
import sizes
from tiaot.export import kernel

FACTOR = 2.0
OTHER = float(os.environ.get("OTHER", "1"))
table = np.arange(3.0)
array = ti.types.ndarray(ti.f32, ndim=1)


@ti.func
def scaled(a):
    return FACTOR * a


@kernel("x[n] -> y[n]")
@ti.kernel
def first(x: array, y: array):
    for i in x:
        y[i] = scaled(x[i]) + OTHER


@kernel("x[n] -> y[n]")
@ti.kernel
def second(x: array, y: array):
    for i in x:
        y[i] = x[i] * sizes.SHIFT


if __name__ == "__main__":
    pass
"""


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "sizes.py").write_text("SHIFT = 3.0\n")
    (tmp_path / "kernels.py").write_text(KERNELS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    return tmp_path / "kernels.py"


def reused(source: Path) -> list[str]:
    from tiaot.export.taichi.trace import trace_file

    return trace_file(source, source.parent / "cache").reused


def test_unchanged_kernels_are_not_traced_again(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert reused(source) == []
    assert reused(source) == ["first", "second"]
    source.write_text(KERNELS.replace("scaled(x[i]) + OTHER", "scaled(x[i]) - OTHER"))
    assert reused(source) == ["second"]
    assert reused(source) == ["first", "second"]
    for changed in (
        KERNELS.replace("FACTOR = 2.0", "FACTOR = 2.5"),
        KERNELS.replace("return FACTOR * a", "return a * FACTOR"),
        KERNELS.replace("np.arange(3.0)", "np.arange(4.0)"),
        KERNELS.replace("import sizes", "import sizes\nti.init(default_fp=ti.f64)"),
        KERNELS.replace("import sizes", "import sizes\nfield = ti.field(ti.f32, shape=3)"),
    ):
        source.write_text(changed)
        assert reused(source) == [], changed
        assert reused(source) == ["first", "second"]
    monkeypatch.setenv("OTHER", "7")  # a number from outside of any file
    assert reused(source) == []


def test_options_from_outside_of_the_file_count(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    option = 'wrt=[] if os.environ.get("FORWARD") else None, derivative=os.environ.get("MAKER")'
    source.write_text(KERNELS.replace('@kernel("x[n] -> y[n]")', f'@kernel("x[n] -> y[n]", {option})'))
    assert reused(source) == []
    assert reused(source) == ["first", "second"]
    for name, value in (("FORWARD", "1"), ("MAKER", "taichi")):
        monkeypatch.setenv(name, value)
        assert reused(source) == []


def test_files_that_a_kernel_file_imports_count(source: Path) -> None:
    reused(source)
    (source.parent / "sizes.py").write_text("SHIFT = 3.5\n")
    assert reused(source) == []


def test_a_damaged_entry_is_made_anew(source: Path) -> None:
    reused(source)
    entries = [path for path in (source.parent / "cache").rglob("*") if path.is_file()]
    assert len(entries) == 2
    for entry in entries:
        entry.write_bytes(entry.read_bytes()[:-40])
    assert reused(source) == []
    assert reused(source) == ["first", "second"]


def export(source: Path, name: str, *options: str) -> bytes:
    command = [sys.executable, "-m", "tiaot", "export", "--no-verify", *options, str(source), "-o", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=source.parent)
    assert done.returncode == 0, done.stderr
    return (source.parent / name).read_bytes()


def test_a_module_is_the_same_with_the_cache_and_without(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = source.parent / "kept"
    monkeypatch.setenv("TIAOT_CACHE_DIR", str(folder))
    wanted = export(source, "kernels.so", "--no-cache")
    assert not folder.exists()
    assert export(source, "kernels.so") == wanted
    assert len(list(folder.glob("??/*"))) == 2 + 3 * 2 * 2  # traces; entries at three levels
    assert export(source, "kernels.so") == wanted
    monkeypatch.setenv("TIAOT_CACHE_DIR", "/proc/nowhere")  # cannot be written
    assert export(source, "kernels.so") == wanted


def test_the_longest_unused_entries_go_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    from tiaot.export import cache

    kept = cache.Cache(tmp_path)
    for place in range(4):
        kept.put(bytes(1000), f"entry {place}")
        assert kept.get(f"entry {place}") == bytes(1000)
    paths = [kept._path((f"entry {place}",)) for place in range(4)]
    for place, path in enumerate(paths):
        assert path is not None
        os.utime(path, (place, place))
    kept.get("entry 0")  # just used
    monkeypatch.setattr(cache, "_MOST_BYTES", 2500)
    kept.prune()
    assert [kept.get(f"entry {place}") is not None for place in range(4)] == [True, False, False, True]


def test_a_user_without_a_home_has_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    from tiaot.export import cache

    for name in ("TIAOT_CACHE_DIR", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)

    def getpwuid(user: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {user}")

    monkeypatch.setattr("pwd.getpwuid", getpwuid)
    assert cache.default_folder() is None
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache.default_folder() == Path("/somewhere/tiaot")


def test_taichi_starts_without_a_home(source: Path, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME")}
    command = [sys.executable, "-m", "tiaot", "export", source, "-o", tmp_path / "module.so", "--no-verify"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
