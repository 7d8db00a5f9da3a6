"""Who is measured, and whether what they compute is right. Times nothing."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from . import by_hand, numpy_peer, tiaot_peer
from .problems import PROBLEMS, Inputs, Problem

TITLES = {"tiaot": "tiaot", "cpp": "C++ by hand", "jax": "jax.jit", "torch": "torch", "taichi": "Taichi's JIT"}
TITLES["numpy"] = "NumPy"
MAY_CRASH = ("tiaot", "taichi")  # whose compilers, or code, may take the process with them
Calls = dict[str, Callable[[], Any]]  # "primal" and, where there is one, "gradient"
Part = list[np.ndarray] | str  # what one of them gives, or why it gives nothing


def prepare(peer: str, problem: Problem, inputs: Inputs, folder: Path) -> Calls:
    """The primal and the gradient of a problem by a peer. Raises what keeps the peer from it."""
    if peer == "tiaot":
        return tiaot_peer.prepare(folder, problem, inputs)
    if peer == "cpp":
        return by_hand.prepare(by_hand.library(folder), problem, inputs)
    if peer == "numpy":
        return numpy_peer.prepare(problem, inputs)
    if peer == "jax":
        from . import jax_peer

        return jax_peer.prepare(problem, inputs)
    if peer == "torch":
        from . import torch_peer

        return torch_peer.prepare(problem, inputs)
    from . import taichi_peer

    return taichi_peer.prepare(problem, inputs)


def _arrays(value: Any) -> list[np.ndarray]:
    """Results of any peer as NumPy arrays."""
    if isinstance(value, (tuple, list)):
        return [array for each in value for array in _arrays(each)]
    return [np.array(value.to_numpy() if hasattr(value, "to_numpy") else value, dtype=float)]


def _attempt(call: Callable[[], Any]) -> Part:
    try:
        return _arrays(call())
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def compute(calls: Calls) -> dict[str, Part]:
    """What a peer computes."""
    return {name: _attempt(call) for name, call in calls.items()}


def _compute_into(peer: str, name: str, quick: bool, folder: Path, queue: Any) -> None:
    problem = next(each for each in PROBLEMS if each.name == name)
    inputs = problem.inputs(quick)
    try:
        for name, call in prepare(peer, problem, inputs, folder).items():
            queue.put((name, _attempt(call)))
    except Exception as error:
        queue.put(("primal", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"))
    queue.put(("end", []))


def compute_in_child(peer: str, problem: Problem, quick: bool, folder: Path) -> dict[str, Part]:
    """What a peer computes that may end its process: what it was at then is said to have crashed."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    child = context.Process(target=_compute_into, args=(peer, problem.name, quick, folder, queue))
    child.start()
    found: dict[str, Part] = {}
    while "end" not in found:
        while child.is_alive() and queue.empty():
            child.join(0.05)
        if queue.empty():
            found["gradient" if "primal" in found else "primal"] = f"the process ended with {child.exitcode}"
            break
        name, part = queue.get()
        found[name] = part
    found.pop("end", None)
    child.join()
    return found


def difference(found: list[np.ndarray], right: list[np.ndarray]) -> float:
    """The largest error, relative to the largest element of each array."""
    worst = 0.0
    for array, value in zip(found, right, strict=True):
        error = np.abs(array.reshape(value.shape) - value).max() / max(np.abs(value).max(), 1e-300)
        worst = max(worst, float(error) if error == error else np.inf)
    return worst


def check(problem: Problem, computed: dict[str, dict[str, Part]]) -> dict[str, dict[str, str]]:
    """By peer, and by "primal" or "gradient", why it is not timed: it has no result, or not that of C++ by hand.

    Raises RuntimeError where neither jax nor torch agrees with C++ by hand.
    """
    wrong: dict[str, dict[str, str]] = {}
    for peer, parts in computed.items():
        wrong[peer] = {}
        for name, found in parts.items():
            right = computed["cpp"][name]
            if isinstance(found, str) or isinstance(right, str):
                wrong[peer][name] = str(found)
            elif not difference(found, right) <= problem.tolerance:
                wrong[peer][name] = f"wrong: off by {difference(found, right):.1e}"
    if not any(peer in computed and not wrong[peer] for peer in ("jax", "torch")):
        raise RuntimeError(f"{problem.title}: neither jax nor torch agrees with C++ by hand: {wrong}")
    return wrong
