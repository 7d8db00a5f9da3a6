"""The plain C functions of a module, from a C program that links the module and no runtime."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import tiaot
from tiaot.export.build import module_name
from tiaot.export.module.plain import header
from tiaot.export.target import native


@pytest.mark.parametrize("standard", ["c99", "c++17"])
def test_a_program_links_the_module_alone(tmp_path: Path, standard: str) -> None:
    compiler = shutil.which("cc" if standard == "c99" else "c++")
    if compiler is None:
        pytest.skip("no C compiler")
    modules = Path(tiaot.load("dense_tanh").module.path).parent
    source = Path(__file__).with_name("plain.c")
    program = tmp_path / "plain"
    language = ["-x", "c"] if standard == "c99" else ["-x", "c++"]
    strict = ["-Wall", "-Wextra", "-Werror", "-pedantic"]
    if standard == "c++17":  # only the header is for both: a program of two lines includes it
        source = tmp_path / "plain.cpp"
        source.write_text(
            '#include "dense_tanh.h"\n'
            "int main() { float o[1] = {0}; return dense_tanh_forward_float32(1, 1, 1, o, o, o, o + 0) == 1; }\n"
        )
    command = [compiler, f"-std={standard}", *strict, "-O1", f"-I{modules}", *language, str(source), "-x", "none"]
    command += [str(modules / "dense_tanh.tiaot.so"), "-lm", "-o", str(program), f"-Wl,-rpath,{modules}"]
    subprocess.run(command, check=True)
    listing = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=True).stdout
    needed = {
        line.split()[0].rpartition("/")[2].partition(".so")[0].removesuffix(".tiaot") for line in listing.splitlines()
    }
    assert needed <= {"dense_tanh", "libm", "libc", "libstdc++", "libgcc_s", "ld-linux-x86-64", "linux-vdso"}
    done = subprocess.run([str(program)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_headers_have_guards_of_their_own(tmp_path: Path) -> None:
    """Whatever the file is called: two headers can be included, twice each."""
    names = ["my-kernel", "my.kernel", "my_kernel", "2nd", "springs \N{SNOWFLAKE}"]
    for name in names:
        (tmp_path / f"{name}.h").write_text(header(name, f"{name}.tiaot.so", native(), [], None))
    guards = {re.search(r"#ifndef (\w+)$", (tmp_path / f"{name}.h").read_text(), re.M)[1] for name in names}
    assert len(guards) == len(names)
    (tmp_path / "all.c").write_text("".join(f'#include "{name}.h"\n' for name in names * 2) + "int x;\n")
    subprocess.run(["cc", "-std=c99", "-Werror", "-Wall", "-c", "all.c", "-o", "all.o"], check=True, cwd=tmp_path)


def test_the_name_of_a_module_is_its_files() -> None:
    for file, name in (("springs.tiaot.so", "springs"), ("a/springs.so", "springs"), ("my-kernel", "my-kernel")):
        assert module_name(file) == name
