"""Modules inside of other things: packages, zip files, programs that PyInstaller makes."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import tiaot
import tiaot.__pyinstaller as hooks

# The example of docs/numpy.md.
READS_RESOURCE = """
import gc
from importlib.resources import as_file, files
import numpy as np
import tiaot

with as_file(files("robot") / "layer.tiaot.so") as path:
    module = tiaot.open(path)
gc.collect()
print(module.dense_tanh(*(np.full(shape, 0.25, np.float32) for shape in ((2, 8), (4, 8), (4,)))).shape)
"""


@pytest.mark.parametrize("zipped", [False, True])
def test_a_module_is_a_resource_of_a_package(tmp_path: Path, zipped: bool) -> None:
    package = tmp_path / "robot"
    package.mkdir()
    (package / "__init__.py").touch()
    shutil.copy(tiaot.load("dense_tanh").module.path, package / "layer.tiaot.so")
    place = tmp_path
    if zipped:
        place = tmp_path / "robot.zip"
        with zipfile.ZipFile(place, "w") as archive:
            for file in package.iterdir():
                archive.write(file, f"robot/{file.name}")
    program = f"import sys; sys.path.insert(0, {str(place)!r})\n{READS_RESOURCE}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd="/")
    assert (done.returncode, done.stdout) == (0, "(2, 4)\n"), done.stderr


def test_pyinstaller_takes_the_modules_along(tmp_path: Path) -> None:
    pytest.importorskip("PyInstaller")
    program = tmp_path / "program.py"
    program.write_text(
        "import sys, numpy as np, tiaot\n"
        "kernel = tiaot.load('dense_tanh')\n"
        "assert kernel.module.path.startswith(sys._MEIPASS)\n"
        "print(kernel(*(np.full(shape, 0.25, np.float32) for shape in ((2, 8), (4, 8), (4,)))).shape)\n"
    )
    [folder] = hooks.get_hook_dirs()
    build = [sys.executable, "-m", "PyInstaller", "--log-level", "ERROR", "--additional-hooks-dir", folder, program]
    done = subprocess.run(build, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    bundle = tmp_path / "dist" / "program"
    assert not list(bundle.rglob("*ptx*")) and not list(bundle.rglob("*torch*"))
    environment = {"PATH": "/usr/bin:/bin"}  # nothing of this Python's
    done = subprocess.run([bundle / "program"], capture_output=True, text=True, check=False, cwd="/", env=environment)
    assert (done.returncode, done.stdout) == (0, "(2, 4)\n"), done.stderr
