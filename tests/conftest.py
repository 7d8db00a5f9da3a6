"""Fixtures: the shipped kernel, and a module that was written by hand."""

import os
from pathlib import Path

import module_files
import pytest
import tiaot


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_exporter(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Exports of tests leave nothing in the user's folders."""
    os.environ["TIAOT_CACHE_DIR"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def dense_tanh() -> tiaot.Kernel:
    return tiaot.load("dense_tanh")


@pytest.fixture(scope="session")
def small_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return module_files.write_small(tmp_path_factory.mktemp("small") / "small.so")


@pytest.fixture
def small(small_path: Path) -> tiaot.Module:
    return tiaot.open(small_path)
