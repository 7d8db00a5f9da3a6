"""The C++ unit tests of the runtime, built with warnings as errors and run by CTest."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import tiaot

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


def test_it_is_installed_without_python(tmp_path: Path) -> None:
    if shutil.which("cmake") is None or shutil.which("c++") is None:
        pytest.skip("no cmake or no C++ compiler")
    build, prefix, embed = (tmp_path / name for name in ("build", "prefix", "embed"))
    for command in (
        ["cmake", "-S", RUNTIME, "-B", build, "-DCMAKE_BUILD_TYPE=Debug", "-DCMAKE_INSTALL_LIBDIR=lib/here"],
        ["cmake", "--build", build, "-j2"],
        ["cmake", "--install", build, "--prefix", prefix],
        ["cmake", "-S", RUNTIME.parent / "examples" / "embed", "-B", embed, f"-DCMAKE_PREFIX_PATH={prefix}",
         f"-Dtiaot_DIR={prefix}/lib/here/cmake/tiaot"],
        ["cmake", "--build", embed, "--target", "layer"],
        [embed / "layer", tiaot.load("dense_tanh").module.path],
    ):  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    text = (prefix / "lib/here/pkgconfig/tiaot.pc").read_text()
    assert "prefix=${pcfiledir}/../../../" in text
    if shutil.which("abidiff"):
        check_abi(prefix)


def check_abi(prefix: Path) -> None:
    """That the library, built with debug information, has the interface that is written down in libtiaot.abi.

    Where a change is meant, CONTRIBUTING.md says how the file is written anew.
    """
    library = prefix / "lib/here/libtiaot.so.0"
    compare = ["abidiff", "--exported-interfaces-only", "--no-added-syms", RUNTIME / "libtiaot.abi", library]
    done = subprocess.run(compare, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    # It would tell, of a field that has another place.
    written = (RUNTIME / "libtiaot.abi").read_text()
    other, field = prefix / "other.abi", r"'64'(>\s*<var-decl name='variant')"
    other.write_text(re.sub(field, r"'128'\1", written))
    done = subprocess.run([*compare[:3], other, library], capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "variant' offset changed from 128 to 64" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("compiler", ["g++-11", "clang++-14", "clang++-16"])
def test_older_compilers_take_it(compiler: str) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler}")
    sources = sorted([*RUNTIME.glob("src/*.cpp"), *RUNTIME.glob("tests/*.cpp")])
    options = [
        "-std=c++17",
        "-Wall",
        "-Wextra",
        "-Werror",
        f"-I{RUNTIME}/include",
        f"-I{RUNTIME}/src",
        f"-I{RUNTIME.parent}/python",
    ]
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
