"""The wheel on a machine that has NumPy and nothing else: no Taichi, no LLVM, no torch, no compiler in the process."""

import importlib.metadata
import json
import re
import subprocess
import venv
import zipfile
from pathlib import Path

import pytest
import tiaot

ALONE = """
import importlib.util, sys
absent = ("taichi", "llvmlite", "torch", "jax")
for name in absent:
    assert importlib.util.find_spec(name) is None, name
import numpy as np

before = set(sys.modules)
import tiaot

assert tiaot.__file__.startswith(sys.prefix), tiaot.__file__
heavy = (*absent, "tiaot.export", "tiaot.benchmarks", "multiprocessing", "importlib.metadata")
assert not [name for name in set(sys.modules) - before if name.startswith(heavy)]
kernel = tiaot.load("dense_tanh")
rng = np.random.default_rng(0)
x, W, b, v = (rng.standard_normal(shape) for shape in ((2, 8), (4, 8), (4,), (2, 4)))
d = (1 - np.tanh(x @ W.T + b) ** 2) * v
assert np.allclose(kernel(x, W, b), np.tanh(x @ W.T + b), rtol=1e-12)
assert np.allclose(kernel.vjp(x, W, b, v), d @ W, rtol=1e-12)
assert np.allclose(np.einsum("bmn,bm->bn", kernel.jacobian(x, W, b), v), d @ W, rtol=1e-12)
assert tiaot.open(kernel.module.path).dense_tanh.vjp(x, W, b, v).shape == (2, 8)
maps = open("/proc/self/maps").read().lower()
assert "dense_tanh.tiaot.so" in maps
for name in ("llvm", "taichi", "torch", "cuda", "libclang"):
    assert name not in maps, name
"""


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that this installation came from, made again from the files that it put there."""
    try:
        distribution = importlib.metadata.distribution("tiaot")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("tiaot is imported from a build folder, not from an installation")
    files = distribution.files or []
    if not any(file.name.startswith("_core") for file in files):
        pytest.skip("tiaot is installed in editable mode")
    tag = re.search(r"^Tag: (.*)$", distribution.read_text("WHEEL") or "", re.MULTILINE)
    assert tag is not None
    path = tmp_path_factory.mktemp("wheel") / f"tiaot-{tiaot.__version__}-{tag[1]}.whl"
    made_here = {"INSTALLER", "REQUESTED", "direct_url.json"}  # by pip, not in a wheel
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            name = str(file)
            if not name.startswith("..") and file.name not in made_here and "__pycache__" not in name:
                archive.write(file.locate(), name)
    return path


def test_the_wheel_is_small_and_whole(wheel: Path) -> None:
    assert wheel.stat().st_size < 8_000_000  # most of it code of the kernel that ships, for CUDA above all
    names = zipfile.ZipFile(wheel).namelist()
    for name in (
        "tiaot/modules/dense_tanh.tiaot.so",
        "tiaot/modules/dense_tanh.h",
        "tiaot/include/tiaot/tiaot.h",
        "tiaot/include/tiaot/tiaot.hpp",
        "tiaot/lib/libtiaot.so.0",
        "tiaot/lib/libtiaot.so",
        "tiaot/lib/libtiaot.a",
        "tiaot/include/tiaot/torch.hpp",
        "tiaot/lib/cmake/tiaot/tiaotConfig.cmake",
        "tiaot/lib/cmake/tiaot/tiaotTorch.cmake",
        "tiaot/lib/cmake/tiaot/operators.cpp",
        "tiaot/lib/pkgconfig/tiaot.pc",
        "tiaot/include/tiaot/module.h",
        "tiaot/include/tiaot/dlpack.h",
        "tiaot/export/taichi/trace.py",
        "tiaot/export/taichi/tracer.py",
        "tiaot/benchmarks/bench.py",
        "tiaot/benchmarks/first_result.c",
        "tiaot/torch.py",
        "tiaot/jax.py",
        "tiaot/py.typed",
        "tiaot/_core.pyi",
        f"tiaot-{tiaot.__version__}.dist-info/licenses/LICENSE",
        f"tiaot-{tiaot.__version__}.dist-info/licenses/NOTICE",
    ):
        assert name in names


def test_the_wheel_says_whose_code_is_in_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        bill = json.loads(archive.read(f"tiaot-{tiaot.__version__}.dist-info/sboms/tiaot.cdx.json"))
    assert (bill["bomFormat"], bill["metadata"]["component"]["version"]) == ("CycloneDX", tiaot.__version__)
    versions = {entry["name"]: entry.get("version") for entry in bill["components"]}
    assert {"nanobind", "robin-map", "taichi", "llvmlite", "libdevice"} <= set(versions)
    assert versions["taichi"] == tiaot.load("dense_tanh").module.info()["taichi_version"]
    assert {entry["ref"] for entry in bill["dependencies"]} == {"tiaot"}
    assert set(bill["dependencies"][0]["dependsOn"]) == set(versions)


def needed_libraries(path: str) -> set[str]:
    listing = subprocess.run(["readelf", "-d", path], capture_output=True, text=True, check=True).stdout
    return {name.partition(".so")[0] for name in re.findall(r"\(NEEDED\).*\[(.*)\]", listing)}


def test_the_binaries_need_system_libraries_only() -> None:
    from tiaot import _core

    # libpthread and libdl are part of libc since glibc 2.34.
    system = {"libc", "libm", "libstdc++", "libgcc_s", "ld-linux-x86-64", "libpthread", "libdl"}
    assert needed_libraries(_core.__file__) <= system
    assert needed_libraries(str(Path(_core.__file__).parent / "lib" / "libtiaot.so.0")) <= system
    assert needed_libraries(tiaot.load("dense_tanh").module.path) <= {"libc", "libm"}


def test_the_wheel_runs_alone(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    for arguments in (["numpy"], ["--no-deps", str(wheel)]):
        command = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *arguments]
        subprocess.run(command, check=True, capture_output=True)
    done = subprocess.run([python, "-I", "-c", ALONE], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    demo = subprocess.run([tmp_path / "venv" / "bin" / "tiaot", "demo"], capture_output=True, text=True, check=False)
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "torch" in demo.stdout  # that it is not installed
    doctor = subprocess.run([tmp_path / "venv/bin/tiaot", "doctor"], capture_output=True, text=True, check=False)
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr
    export = [tmp_path / "venv/bin/tiaot", "export", "kernels.py", "-o", "kernels.so"]
    refused = subprocess.run(export, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert refused.returncode == 1 and 'pip install "tiaot[export]"' in refused.stderr
