"""The C++ unit tests of the runtime, built with warnings as errors and run by CTest."""

import shutil
import subprocess
from pathlib import Path

import pytest

RUNTIME = Path(__file__).parents[1] / "runtime"


def test_the_runtimes_unit_tests(tmp_path: Path) -> None:
    if shutil.which("cmake") is None or shutil.which("c++") is None:
        pytest.skip("no cmake or no C++ compiler")
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    options = ["-DTIAOT_BUILD_TESTS=ON", "-DTIAOT_WERROR=ON"]
    for command in (
        ["cmake", "-S", RUNTIME, "-B", tmp_path, *generator, *options],
        ["cmake", "--build", tmp_path],
        ["ctest", "--test-dir", tmp_path, "--output-on-failure", "--no-tests=error"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
