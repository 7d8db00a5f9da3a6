"""What wheels.py builds wheels with: the bill of materials, and what stands in for a newer libstdc++."""

import importlib.metadata
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGING = Path(__file__).parents[1] / "packaging"

# Copies and drops exception_ptrs, and asks a vector for too much: each goes by what older_libstdcxx.cpp defines.
PROGRAM = """
#include <cstdio>
#include <exception>
#include <memory>
#include <new>
#include <stdexcept>
#include <vector>

int main() {
  std::exception_ptr first;
  try { throw std::runtime_error("kept"); } catch (...) { first = std::current_exception(); }
  std::vector<std::exception_ptr> copies(100, first);
  first = nullptr;
  copies.resize(1);
  copies.shrink_to_fit();
  try { std::rethrow_exception(copies[0]); } catch (const std::runtime_error &error) { std::puts(error.what()); }
  copies.clear();
  volatile size_t count = size_t(-1) / 2;
  try {
    std::allocator<double>().allocate(count);
  } catch (const std::bad_array_new_length &error) {
    std::puts("too long");
  }
  auto shared = std::make_shared<int>(7);  // counts by __libc_single_threaded
  std::printf("%d\\n", *std::shared_ptr<int>(shared));
}
"""


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_what_stands_in_for_a_newer_libstdcxx(tmp_path: Path) -> None:
    (tmp_path / "program.cpp").write_text(PROGRAM)
    run("g++", "-std=c++17", "-O2", "-c", PACKAGING / "older_libstdcxx.cpp", "-o", tmp_path / "older.o")
    run("g++", "-std=c++17", "-O1", tmp_path / "program.cpp", tmp_path / "older.o", "-o", tmp_path / "program")
    undefined = run("nm", "--undefined-only", "--demangle", tmp_path / "program")
    for name in ("__throw_bad_array_new_length", "_M_addref", "_M_release", "__libc_single_threaded"):
        assert name not in undefined
    assert run(tmp_path / "program").split("\n") == ["kept", "too long", "7", ""]


def test_the_bill_of_materials() -> None:
    pytest.importorskip("nanobind")
    bill = json.loads(run(sys.executable, PACKAGING / "sbom.py", "--libgcc", "12.2.0"))
    versions = {entry["name"]: entry.get("version") for entry in bill["components"]}
    assert versions["nanobind"] == importlib.metadata.version("nanobind")
    assert versions["libgcc"] == "12.2.0"
    assert all(entry.get("purl") or entry.get("externalReferences") for entry in bill["components"])
    without = json.loads(run(sys.executable, PACKAGING / "sbom.py"))
    assert [entry["name"] for entry in without["components"]] == [name for name in versions if name != "libgcc"]


def test_a_python_that_is_not_there() -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); import wheels; wheels.find_python('3.1')"
    done = subprocess.run([sys.executable, "-c", code, PACKAGING], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "there is no python3.1, neither on PATH nor from pyenv" in done.stderr
