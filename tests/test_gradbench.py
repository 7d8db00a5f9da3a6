"""The problems of GradBench in benchmarks/: tiaot's kernels, the C++ by hand and the check before the timing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("taichi")
pytest.importorskip("llvmlite")
peers = pytest.importorskip("tiaot.benchmarks.gradbench.peers")

from tiaot.benchmarks.gradbench import by_hand, tiaot_peer  # noqa: E402
from tiaot.benchmarks.gradbench.__main__ import text  # noqa: E402
from tiaot.benchmarks.gradbench.problems import PROBLEMS, Problem  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("gradbench")
    why = by_hand.build(where)
    if why:
        pytest.skip(why)
    return where


@pytest.mark.parametrize("problem", PROBLEMS, ids=[each.name for each in PROBLEMS])
def test_a_kernel_and_its_gradient_are_what_is_written_by_hand(problem: Problem, folder: Path) -> None:
    assert tiaot_peer.export(problem, folder, "tiaot") == ""
    inputs = problem.inputs(quick=True)
    expected = peers.compute(peers.prepare("cpp", problem, inputs, folder))
    found = peers.compute(peers.prepare("tiaot", problem, inputs, folder))
    assert list(found) == ["primal", "gradient"]
    for what, arrays in found.items():
        assert peers.difference(arrays, expected[what]) <= problem.tolerance


def test_who_is_wrong_or_ends_is_not_timed() -> None:
    problem = PROBLEMS[1]
    right: dict[str, Any] = {"primal": [np.array(2.0)], "gradient": [np.array([1.0, 4.0])]}
    computed = {
        "cpp": right,
        "jax": right,
        "torch": {"primal": [np.array(2.0)], "gradient": [np.array([1.0, 4.0 + 1e-9])]},
        "taichi": {"primal": [np.array([2.0])], "gradient": "the process ended with -6"},
        "tiaot": {"primal": [np.array(np.nan)]},
    }
    wrong = peers.check(problem, computed)
    assert wrong["jax"] == {} and wrong["cpp"] == {}
    assert wrong["torch"] == {"gradient": "wrong: off by 2.5e-10"}
    assert wrong["taichi"] == {"gradient": "the process ended with -6"}
    assert wrong["tiaot"] == {"primal": "wrong: off by inf"}
    with pytest.raises(RuntimeError, match="least squares: neither jax nor torch agrees with C"):
        peers.check(problem, {name: computed[name] for name in ("cpp", "torch", "taichi")})


def test_the_table_says_why_there_is_no_number() -> None:
    times = {"primal": {"us": 10.0}, "gradient": {"us": 25.0}}
    row = {"title": "k-means", "peers": {"cpp": times, "tiaot": {"primal": {"us": 8.0}}}}
    row["why"] = {"cpp": {}, "tiaot": {"gradient": "refused: it draws"}}
    table = text([row], ["tiaot", "cpp"])
    assert re.search(r"k-means +- +2\.50\n", table) and "k-means, tiaot, gradient: refused: it draws" in table
