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


@pytest.mark.parametrize("compiler", ["g++-11", "clang++-14", "clang++-16"])
def test_older_compilers_take_it(compiler: str) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler}")
    sources = sorted([*RUNTIME.glob("src/*.cpp"), *RUNTIME.glob("tests/*.cpp")])
    options = ["-std=c++17", "-Wall", "-Wextra", "-Werror", f"-I{RUNTIME}/include", f"-I{RUNTIME}/src"]
    names = [
        "TIAOT_VERSION",
        "TOY_A",
        "TOY_B",
        "TOY_FOREIGN",
        "STANDIN_LIBRARY",
        "STANDIN_OLD_LIBRARY",
        "STANDIN_KERNELS",
    ]
    options += [f'-D{name}="x"' for name in names]
    done = subprocess.run([compiler, "-fsyntax-only", *options, *sources], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
