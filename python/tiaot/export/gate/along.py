"""Tests of entries with tangents in float64, against slopes and against other entries. Knows no Taichi and no files.

A jvp is the slope of the kernel along its tangents, and an hvp that of the vjp of the same inputs. A jvp and that vjp
have <v, J t> = <J^T v, t>, and the Hessian is symmetric. As in exact.py what is not smooth takes no part, and a
disagreement counts when it is seen along three directions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np

from .exact import DIRECTIONS, Line, Verdict, Wrt, find_line, last_word, settle

JVP, HVP = "jvp", "hvp"
TRANSPOSED, SYMMETRIC = "jvp beside the vjp", "hvp by its symmetry"
_EPSILON = 8 * float(np.finfo(np.float64).eps)
_AMPLIFIED = 64  # times what a move of the point by rounding does

Arrays = list[np.ndarray]


class Case(Protocol):
    """A kernel at a point: what the tests need of it. Every array is of float64."""

    @property
    def along(self) -> list[tuple[str, Wrt]]:
        """The entries with tangents: JVP or HVP, and the names of their inputs."""

    def has_vjp(self, wrt: Wrt) -> bool:
        """Whether there is a vjp of the same inputs that is meant to be the kernel's own."""

    def inputs(self, wrt: Wrt) -> Arrays:
        """The inputs in `wrt`, at the point."""

    def cotangents(self) -> Arrays:
        """What was drawn, one for each output."""

    def forward(self, wrt: Wrt, moved: Arrays) -> Arrays:
        """What comes out, with `moved` in place of the inputs in `wrt`."""

    def vjp(self, wrt: Wrt, moved: Arrays, cotangents: Arrays) -> Arrays:
        """The gradients of the inputs in `wrt`, there."""

    def jvp(self, wrt: Wrt, moved: Arrays, tangents: Arrays) -> Arrays:
        """The derivatives of what comes out, there."""

    def hvp(self, wrt: Wrt, moved: Arrays, cotangents: Arrays, tangents: Arrays) -> Arrays:
        """The derivatives of the gradients, there."""


def check_along(case: Case, rng: np.random.Generator, allowed: Callable[[], bool]) -> Iterator[Verdict]:
    """The verdicts on each entry with tangents of a case, as long as `allowed` says that there is time."""
    for kind, wrt in case.along:
        if not allowed():
            return
        test = _test_jvp if kind == JVP else _test_hvp
        found: dict[str, list[Verdict]] = {}
        for _ in range(DIRECTIONS):
            for verdict in test(case, wrt, rng):
                found.setdefault(verdict.kind, []).append(verdict)
            if all(any(each.outcome != "wrong" for each in verdicts) for verdicts in found.values()):
                break
        yield from map(last_word, found.values())


class _Joined:
    """The inputs of an entry as one array, for a direction along all of them."""

    def __init__(self, case: Case, wrt: Wrt, function: Callable[[Arrays], Arrays]) -> None:
        self.parts = case.inputs(wrt)
        self.function = function

    def point(self, name: str) -> np.ndarray:
        return np.concatenate([np.zeros(0), *(part.reshape(-1) for part in self.parts)])

    def outputs(self, name: str, moved: np.ndarray) -> Arrays:
        return self.function(self.split(moved))

    def split(self, joined: np.ndarray) -> Arrays:
        ends = np.cumsum([part.size for part in self.parts])[:-1]
        return [each.reshape(part.shape) for each, part in zip(np.split(joined, ends), self.parts, strict=True)]


def _test_jvp(case: Case, wrt: Wrt, rng: np.random.Generator) -> Iterator[Verdict]:
    name = " ".join(wrt)
    joined = _Joined(case, wrt, lambda moved: case.forward(wrt, moved))
    line = find_line(joined, name, rng)
    if line is None:
        yield Verdict(name, wrt, "unknown", 0.0, 0.0, JVP)
        return
    tangents, drawn = joined.split(line.direction), case.cotangents()
    cotangents = line.known(drawn)

    def terms(moved: Arrays) -> Arrays:
        return _products(cotangents, case.jvp(wrt, moved, tangents))

    back = terms(joined.parts)
    yield settle(Verdict(name, wrt, "", 0.0, 0.0, JVP), line.terms(cotangents), back, line.off(cotangents))
    if case.has_vjp(wrt):
        shaped = [v.reshape(d.shape) for v, d in zip(cotangents, drawn, strict=True)]
        ahead = _products(tangents, case.vjp(wrt, joined.parts, shaped))
        off = _moved_by_rounding(terms, joined.parts, back, rng)
        yield settle(Verdict(name, wrt, "", 0.0, 0.0, TRANSPOSED), ahead, back, off)


def _test_hvp(case: Case, wrt: Wrt, rng: np.random.Generator) -> Iterator[Verdict]:
    name = " ".join(wrt)
    v = case.cotangents()
    joined = _Joined(case, wrt, lambda moved: case.vjp(wrt, moved, v))
    one = find_line(joined, name, rng)
    if one is None:
        yield Verdict(name, wrt, "unknown", 0.0, 0.0, HVP)
        return
    along_one = joined.split(one.direction)
    found = case.hvp(wrt, joined.parts, v, along_one)
    weights = one.known([rng.uniform(0.5, 1.0, each.shape) * rng.choice([-1.0, 1.0], each.shape) for each in found])
    back = _products(weights, found)
    yield settle(Verdict(name, wrt, "", 0.0, 0.0, HVP), one.terms(weights), back, one.off(weights))
    other = find_line(joined, name, rng) if case.has_vjp(wrt) else None
    if other is None or not (_smooth(one) and _smooth(other)):
        return
    along_other = joined.split(other.direction)

    def terms(moved: Arrays) -> Arrays:
        return _products(along_other, case.hvp(wrt, moved, v, along_one))

    back = terms(joined.parts)
    ahead = _products(along_one, case.hvp(wrt, joined.parts, v, along_other))
    off = _moved_by_rounding(terms, joined.parts, back, rng)
    yield settle(Verdict(name, wrt, "", 0.0, 0.0, SYMMETRIC), ahead, back, off)


def _smooth(line: Line) -> bool:
    return all(bool(used.all()) for used in line.used)


def _products(left: Arrays, right: Arrays) -> Arrays:
    with np.errstate(invalid="ignore", over="ignore"):
        # What takes no part may be infinite.
        pairs = [(a.reshape(-1), np.asarray(b).reshape(-1)) for a, b in zip(left, right, strict=True)]
        return [np.where(a == 0, 0.0, a * b) for a, b in pairs]


def _moved_by_rounding(
    terms: Callable[[Arrays], Arrays], point: Arrays, here: Arrays, rng: np.random.Generator
) -> float:
    """How far the sum of `terms` is off by rounding: what it does where each input moves by as much."""
    moved = [each * (1 + _EPSILON * rng.choice([-1.0, 1.0], each.shape)) for each in point]
    there = terms(moved)
    with np.errstate(invalid="ignore", over="ignore"):
        off = sum(float(np.abs(a - b).sum()) for a, b in zip(here, there, strict=True))
    return _AMPLIFIED * off if np.isfinite(off) else np.inf
