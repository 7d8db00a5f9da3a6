"""The benchmark of single calls: what it builds gives right results, and the C interface allocates nothing."""

import shutil
from pathlib import Path

import pytest
from tiaot.benchmarks import latency
from tiaot.benchmarks.build_cpp import build_latency_program

if not shutil.which("c++"):
    pytest.skip("needs a C++ compiler", allow_module_level=True)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("latency") / "program"
    assert build_latency_program(path) == ""
    return path


@pytest.mark.parametrize("callers", [1, 3])
@pytest.mark.parametrize("path", ["clock", "hand", "c", "c-bound", "c++", "c++-bound"])
def test_a_call_allocates_nothing_once_it_was_made(program: Path, path: str, callers: int) -> None:
    found = latency._from_program(program, path, (64, 8, 4), callers, 300)
    assert 0 <= found["p50"] <= found["p99"] <= found["p99.9"] <= found["worst"]
    assert found["allocations"] == 0


def test_a_program_that_fails_is_told(program: Path) -> None:
    with pytest.raises(RuntimeError, match=r"^hand: "):
        latency._from_program(program, "hand", (64, 8), 1, 300)  # too few numbers


def test_how_long_opening_takes() -> None:
    found = latency._opening(3)
    assert found["bytes"] > 1_000_000 and found["tiaot"] > found["loader"] > 0


@pytest.mark.parametrize("path", ["python", "python-bound", "python-clock"])
def test_calls_from_python(path: str) -> None:
    found = latency._from_python(path, (2, 8, 4), 2, 100)
    assert 0 < found["p50"] <= found["worst"] and found["rate"] > 0
