"""Code for aarch64, made on another machine: under qemu-user it computes what the code for this machine does, through
the plain functions of modules; and the runtime, built for it, passes its unit tests."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import module_files
import plain_program
import pytest
from tiaot.export.target import AARCH64, find_cpu, native

TESTS = Path(__file__).parent
RUNTIME = TESTS.parent / "runtime"
DENSE_TANH = TESTS.parent / "kernels" / "dense_tanh.py"
# Of each file the sizes that its variants are fixed for, or many of what is spread over threads.
EXAMPLES = {"geometry": {"k": 3, "n": 70}, "learning": {"n": 4, "h": 8}, "physics": {"n": 70}}
LIBRARIES = "/usr/aarch64-linux-gnu"  # where Debian puts them
MISSING = [
    f"{program} ({package})"
    for program, package in (
        ("aarch64-linux-gnu-gcc", "Debian: gcc-aarch64-linux-gnu"),
        ("qemu-aarch64", "Debian: qemu-user"),
    )
    if shutil.which(program) is None
]
cross = pytest.mark.skipif(bool(MISSING), reason=f"no {', '.join(MISSING)}")
elsewhere = pytest.mark.skipif(platform.machine() in AARCH64.machines, reason="this machine is an aarch64 itself")


def run(*command: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    return done.stdout


def results(
    folder: Path, module: Path, sets: Iterable[Mapping[str, int]], compiler: str, *emulator: str
) -> dict[str, list[str]]:
    """What the plain functions of a module give at some sets of sizes, by function, array and set."""
    header = module.with_name(f"{module.stem}.h")
    strict = ["-std=c11", "-D_DEFAULT_SOURCE", "-Wall", "-Wextra", "-Werror", "-O1"]
    found = {}
    for sizes in sets:
        (folder / "program.c").write_text(plain_program.program(header, sizes))
        run(compiler, *strict, f"-I{header.parent}", "program.c", module, "-lm", f"-Wl,-rpath,{module.parent}",
            "-o", "program", cwd=folder)  # fmt: skip
        for line in run(*emulator, folder / "program").splitlines():
            name, _, numbers = line.partition(":")
            found[f"{name} {sizes}"] = numbers.split()
    return found


def both(
    tmp_path: Path, source: Path, sets: Iterable[Mapping[str, int]] = ({},)
) -> tuple[dict[str, list[str]], dict[str, list[str]], Path]:
    """The results of this machine's code, and of that for aarch64, at some sets of sizes; the header."""
    found = []
    for name, options, command in (
        ("here", (), ("cc",)),
        ("arm", ("--target", "aarch64-linux"), ("aarch64-linux-gnu-gcc", "qemu-aarch64", "-L", LIBRARIES)),
    ):
        folder = tmp_path / name
        folder.mkdir()
        module = module_files.exported(source, folder / f"{source.stem}.so", "--no-verify", *options)
        found.append(results(folder, module, sets, *command))
    return found[0], found[1], module.with_name(f"{source.stem}.h")


def check_same(here: dict[str, list[str]], arm: dict[str, list[str]]) -> None:
    """The same functions and arrays, and the same numbers but for rounding: the compilers contract other products and
    sums, in chains of less than 100 operations on numbers no larger than the largest that comes out."""
    assert list(here) == list(arm) and len(here) > 1
    for name, numbers in here.items():
        assert len(numbers) == len(arm[name]), name
        if all(re.fullmatch(r"-?\d+", each) for each in [*numbers, *arm[name]]):
            assert numbers == arm[name], name
            continue
        ours, theirs = ([float(each) for each in values] for values in (numbers, arm[name]))
        kind = name.partition(" ")[0]
        epsilon = 2.0**-10 if "float16" in kind else 2.0**-52 if "float64" in kind else 2.0**-23
        bound = 100 * epsilon * max((abs(each) for each in ours if abs(each) < float("inf")), default=0)
        for x, y in zip(ours, theirs, strict=True):
            assert x == y or abs(x - y) <= bound or (x != x and y != y), (name, x, y, bound)


@cross
@elsewhere
@pytest.mark.parametrize("kernels", ["half", "integers", "rows", "fields", "various", "whole"])
def test_it_computes_what_this_machines_code_does(tmp_path: Path, kernels: str) -> None:
    here, arm, _ = both(tmp_path, TESTS / "kernels" / f"{kernels}.py")
    check_same(here, arm)


@cross
@elsewhere
@pytest.mark.parametrize("kernels", EXAMPLES)
def test_the_examples(tmp_path: Path, kernels: str) -> None:
    """At the sizes that variants are fixed for, too, and with more than a block of samples."""
    sets = [{}, {**EXAMPLES[kernels], "B": 70}]
    here, arm, _ = both(tmp_path, TESTS.parent / "examples" / "kernels" / f"{kernels}.py", sets)
    check_same(here, arm)


@cross
@elsewhere
def test_the_dense_layer(tmp_path: Path) -> None:
    """Samples in lanes, and the matrix product in tiles, whose implementation is x86-64-v2's."""
    source = tmp_path / "dense_tanh.py"
    text = DENSE_TANH.read_text()
    fewer = text.replace(
        'fixed=[{"n": 4, "m": 4}, {"n": 8, "m": 4}, {"n": 8, "m": 8}, {}]', 'fixed=[{"n": 4, "m": 4}, {}]'
    )
    assert fewer != text
    source.write_text(fewer.replace('"W b", "x W b"]', '"x W b"]'))
    fixed = {"n": 4, "m": 4}
    here, arm, header = both(tmp_path, source, [{}, {"B": 70}, fixed, {**fixed, "B": 70}])
    check_same(here, arm)
    assert "dense_tanh_hvp_x_W_b_float32" in header.read_text()


@cross
@elsewhere
def test_the_runtimes_unit_tests(tmp_path: Path) -> None:
    if shutil.which("aarch64-linux-gnu-g++") is None or shutil.which("cmake") is None:
        pytest.skip("no aarch64-linux-gnu-g++ (Debian: g++-aarch64-linux-gnu) or no cmake")
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    run("cmake", "-S", RUNTIME, "-B", tmp_path, *generator, "-DTIAOT_BUILD_TESTS=ON", "-DTIAOT_WERROR=ON",
        "-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64",
        "-DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++",
        f"-DCMAKE_CROSSCOMPILING_EMULATOR=qemu-aarch64;-L;{LIBRARIES}")  # fmt: skip
    run("cmake", "--build", tmp_path)
    run("ctest", "--test-dir", tmp_path, "--output-on-failure", "--no-tests=error")


@elsewhere
def test_without_its_compiler_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tiaot.export.module.link import LinkError, find_linker

    monkeypatch.setenv("PATH", str(tmp_path))
    message = "no linker for aarch64-linux: looked for aarch64-linux-gnu-gcc, aarch64-linux-gnu-ld on the PATH; install"
    with pytest.raises(LinkError, match=message):
        find_linker(AARCH64)


def test_targets_are_found_by_their_names(tmp_path: Path) -> None:
    assert find_cpu("aarch64-linux") is AARCH64 and platform.machine() in native().machines
    command = [sys.executable, "-m", "tiaot", "export", "kernels.py", "--target", "riscv64-linux"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "expected x86_64-linux or aarch64-linux, got 'riscv64-linux'" in done.stderr


@cross
@elsewhere
def test_a_module_for_another_machine_is_refused(tmp_path: Path) -> None:
    import tiaot

    source = tmp_path / "made.py"
    source.write_text(
        "import taichi as ti\nfrom tiaot.export import kernel\n\n\n@kernel('x[n] -> y[n]')\n@ti.kernel\n"
        "def double(x: ti.types.ndarray(ti.f32, 1), y: ti.types.ndarray(ti.f32, 1)):\n"
        "    for i in x:\n        y[i] = 2 * x[i]\n"
    )
    # Checked as the code for this machine, and said so.
    module = module_files.exported(source, tmp_path / "made.so", "--target", "aarch64-linux", "--verify-seconds", "5")
    assert b"as code for x86_64-linux: " in module.read_bytes() and b"aarch64-linux\0" in module.read_bytes()
    with pytest.raises(tiaot.ModuleError, match="it is not a shared library for this machine"):
        tiaot.open(module)
