"""The dot-product test of a gradient in float64: <v, J t> = <J^T v, t>. Knows no Taichi and no files.

J t comes from `slopes`, each element with an error of its own. Where an element is not known well enough, since the
kernel has a kink or a jump there, its cotangent is 0: it takes no part. What is left must agree to what rounding and
these errors explain. A disagreement counts when it is seen along three directions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import numpy as np

from .slopes import STEPS, Slope, slopes

Wrt = tuple[str, ...]  # the names that an entry differentiates by

# How well an element of J t must be known, beside itself and the others' mean: the first that enough of them are.
_KNOWN = (1e-9, 1e-7, 1e-5, 1e-3)
_ENOUGH = 0.1
_SURE = 1e-7
_UNSURE = 32
_ROUNDING = 1e-11  # of the gradient's own operations and of the sums
DIRECTIONS = 3
# How dense a direction is: along a sparse one there are fewer kinks, where one number depends on many.
_SHARES = (1.0, 1 / 64, 1 / 4096)


class Case(Protocol):
    """A kernel at a point: what the test needs of it. Every array is of float64."""

    @property
    def names(self) -> list[str]:
        """What has a gradient."""

    def entries(self, name: str) -> list[Wrt]:
        """The entries that give the gradient of `name`."""

    def point(self, name: str) -> np.ndarray: ...

    def outputs(self, name: str, moved: np.ndarray) -> list[np.ndarray]:
        """What comes out, with `moved` in place of `name`."""

    def cotangents(self) -> list[np.ndarray]:
        """What was drawn, one for each of `outputs`."""

    def pull_back(self, wrt: Wrt, name: str, cotangents: list[np.ndarray]) -> np.ndarray:
        """The gradient of `name`."""


@dataclass(frozen=True)
class Verdict:
    """What came out of the test of one gradient."""

    name: str
    wrt: Wrt
    outcome: str  # "right", "wrong", "unknown" (too few slopes are known), "not finite"
    error: float  # as a part of the terms of both sides
    limit: float  # what was allowed of it
    kind: str = "vjp"  # what was tested; along.py has other kinds

    def record(self) -> dict[str, Any]:
        return asdict(self)


def check(case: Case, rng: np.random.Generator, allowed: Callable[[], bool]) -> Iterator[Verdict]:
    """The verdict on each gradient of a case, as long as `allowed` says that there is time."""
    for name in case.names:
        if not allowed():
            return
        yield from _check_name(case, name, rng)


def _check_name(case: Case, name: str, rng: np.random.Generator) -> list[Verdict]:
    found: dict[Wrt, list[Verdict]] = {wrt: [] for wrt in case.entries(name)}
    for _ in range(DIRECTIONS):
        unsettled = [wrt for wrt, verdicts in found.items() if not verdicts or verdicts[0].outcome == "wrong"]
        if not unsettled:
            break
        line = find_line(case, name, rng)
        for wrt in unsettled:
            found[wrt].append(_test(case, wrt, name, line))
    return [last_word(verdicts) for verdicts in found.values()]


def last_word(verdicts: list[Verdict]) -> Verdict:
    """What is wrong is so along almost every direction: one along which it is not was bad luck in the estimates."""
    other = [each for each in verdicts if each.outcome != "wrong"]
    return min(other or verdicts, key=lambda each: each.error)


@dataclass(frozen=True)
class Line:
    """A direction, the slopes along it, and which of them are known well enough."""

    direction: np.ndarray
    slopes: list[Slope]
    used: list[np.ndarray]

    def known(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        """Arrays, one for each slope, flat, with 0 where the slope is not known."""
        return [np.where(used, array.reshape(-1), 0.0) for used, array in zip(self.used, arrays, strict=True)]

    def terms(self, cotangents: list[np.ndarray]) -> list[np.ndarray]:
        """Those of <v, J t>."""
        return [v * slope.value for slope, v in zip(self.slopes, cotangents, strict=True)]

    def off(self, cotangents: list[np.ndarray]) -> float:
        """How far <v, J t> may be off."""
        errors = [np.where(used, slope.error, 0.0) for slope, used in zip(self.slopes, self.used, strict=True)]
        return 4 * sum(float((np.abs(v) * error).sum()) for v, error in zip(cotangents, errors, strict=True))


class Curve(Protocol):
    """A function of one array: what a direction through a point needs of it."""

    def point(self, name: str) -> np.ndarray: ...

    def outputs(self, name: str, moved: np.ndarray) -> list[np.ndarray]: ...


def find_line(case: Curve, name: str, rng: np.random.Generator) -> Line | None:
    """A direction along which enough slopes are known; None where there is none."""
    point = case.point(name)
    tried: list[tuple[np.ndarray, list[Slope]]] = []
    for share in _SHARES:
        if share < 1 and point.size * share * _SHARES[1] ** -1 <= 1:
            break
        direction = _direction(point, share, rng)

        def moved(step: float, along: np.ndarray = direction) -> list[np.ndarray]:
            return case.outputs(name, np.asarray(point + step * along))

        found = slopes(moved, STEPS)
        tried.append((direction, found))
        if (used := _used(found, _KNOWN[0])) is not None:
            return Line(direction, found, used)
    for least in _KNOWN[1:]:
        for direction, found in tried:
            if (used := _used(found, least)) is not None:
                return Line(direction, found, used)
    return None


def _used(found: list[Slope], least: float) -> list[np.ndarray] | None:
    """Which slopes are known to that part; None where these are too few of all that are not 0 throughout."""
    used = []
    for each in found:
        finite = np.isfinite(each.error) & ~each.still
        mean = float(np.abs(each.value[finite]).mean()) if finite.any() else 0.0
        used.append(each.still | (finite & (each.error <= least * np.maximum(np.abs(each.value), mean))))
    changing = [~each.still for each in found]
    known = sum(int((u & c).sum()) for u, c in zip(used, changing, strict=True))
    return used if known >= _ENOUGH * sum(int(c.sum()) for c in changing) else None


def _direction(point: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """A direction as large as the point in each element, of 10 bits."""
    part = rng.uniform(0.5, 1.0, point.shape) * rng.choice([-1.0, 1.0], point.shape)
    if share < 1 and point.size > 1:
        chosen = rng.choice(point.size, max(1, int(point.size * share)), replace=False)
        kept = np.zeros(point.size)
        kept[chosen] = 1
        part = part * kept.reshape(point.shape)
    mantissa, exponent = np.frexp(np.where(point == 0, 1e-3, np.abs(point)) * part)
    return np.asarray(np.ldexp(np.round(mantissa * 1024) / 1024, exponent))


def _test(case: Case, wrt: Wrt, name: str, line: Line | None) -> Verdict:
    if line is None:
        return Verdict(name, wrt, "unknown", 0.0, 0.0)
    with np.errstate(invalid="ignore", over="ignore"):
        drawn = case.cotangents()
        cotangents = line.known(drawn)
        shaped = [v.reshape(d.shape) for v, d in zip(cotangents, drawn, strict=True)]
        products = np.asarray(case.pull_back(wrt, name, shaped)).reshape(-1) * line.direction.reshape(-1)
        return settle(Verdict(name, wrt, "", 0.0, 0.0), line.terms(cotangents), [products], line.off(cotangents))


def settle(verdict: Verdict, ahead: list[np.ndarray], back: list[np.ndarray], off: float) -> Verdict:
    """The verdict on two sums, given by their terms, that differ by `off` and rounding when all is right."""
    with np.errstate(invalid="ignore", over="ignore"):
        one, other = (sum(float(each.sum()) for each in terms) for terms in (ahead, back))
        size = max(sum(float(np.abs(each).sum()) for each in terms) for terms in (ahead, back))
    if not np.isfinite(size + other):
        return replace(verdict, outcome="not finite", error=np.inf)
    if size == 0:
        return replace(verdict, outcome="right")
    error, limit = abs(one - other) / size, off / size + _ROUNDING
    # Estimates of a slope that is hardly known are not sure themselves.
    beyond = limit if limit <= _SURE else _UNSURE * limit
    outcome = "wrong" if error > beyond else "right" if error <= limit <= _KNOWN[-1] else "unknown"
    return replace(verdict, outcome=outcome, error=error, limit=limit)
