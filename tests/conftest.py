"""Fixtures: the shipped kernel, and a module that was written by hand."""

from pathlib import Path

import module_files
import pytest
import tiaot


@pytest.fixture
def dense_tanh() -> tiaot.Kernel:
    return tiaot.load("dense_tanh")


@pytest.fixture(scope="session")
def small_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return module_files.write_small(tmp_path_factory.mktemp("small") / "small.so")


@pytest.fixture
def small(small_path: Path) -> tiaot.Module:
    return tiaot.open(small_path)
