"""Fixtures: the shipped kernel, a module that was written by hand, the CPU levels."""

import os
from collections.abc import Iterator
from pathlib import Path

import module_files
import numpy as np
import pytest
import tiaot

LEVELS = ["x86-64-v2", "x86-64-v3", "x86-64-v4"]


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this run that all processes of it share, for what is made once."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_exporter(shared_folder: Path) -> None:
    """Exports of tests leave nothing in the user's folders."""
    cache = shared_folder / "cache"
    cache.mkdir(exist_ok=True)
    os.environ["TIAOT_CACHE_DIR"] = str(cache)


@pytest.fixture(scope="module", autouse=True)
def denormals() -> Iterator[None]:
    """No test leaves the process with denormals flushed, as a library that is linked with -ffast-math does."""
    yield
    assert np.nextafter(0.0, 1.0) + np.zeros(1) > 0


@pytest.fixture
def dense_tanh() -> tiaot.Kernel:
    return tiaot.load("dense_tanh")


@pytest.fixture(scope="session")
def small_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return module_files.write_small(tmp_path_factory.mktemp("small") / "small.so")


@pytest.fixture
def small(small_path: Path) -> tiaot.Module:
    return tiaot.open(small_path)


@pytest.fixture(params=LEVELS)
def cpu_level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each level that this machine has; modules that are opened, in child processes too, run their code for it."""
    if LEVELS.index(request.param) > LEVELS.index(tiaot.cpu_level()):
        pytest.skip(f"this machine has {tiaot.cpu_level()} at most")
    monkeypatch.setenv("TIAOT_CPU_LEVEL", request.param)
    return request.param
