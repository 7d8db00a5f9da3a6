"""The dot-product test of a gradient in float64: <v, J t> = <J^T v, t>. Knows no Taichi and no files.

J t comes from `slopes`, each element with an error of its own. Where an element is not known well enough, since the
kernel has a kink or a jump there, its cotangent is 0: it takes no part. What is left must agree to what rounding and
these errors explain. A disagreement counts when it is seen along three directions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from .slopes import STEPS, Slope, slopes

Entry = tuple[str, ...]  # the names that an entry differentiates by; STATE for fields

# How well an element of J t must be known, beside itself and the others' mean: the first that enough of them are.
_KNOWN = (1e-9, 1e-7, 1e-5, 1e-3)
_ENOUGH = 0.1
_SURE = 1e-7
_UNSURE = 32
_ROUNDING = 1e-11  # of the gradient's own operations and of the sums
_DIRECTIONS = 3
# How dense a direction is: along a sparse one there are fewer kinks, where one number depends on many.
_SHARES = (1.0, 1 / 64, 1 / 4096)


class Case(Protocol):
    """A kernel at a point: what the test needs of it. Every array is of float64."""

    @property
    def names(self) -> list[str]:
        """What has a gradient."""

    def entries(self, name: str) -> list[Entry]:
        """The entries that give the gradient of `name`."""

    def point(self, name: str) -> np.ndarray: ...

    def outputs(self, name: str, moved: np.ndarray) -> list[np.ndarray]:
        """What comes out, with `moved` in place of `name`."""

    def cotangents(self) -> list[np.ndarray]:
        """What was drawn, one for each of `outputs`."""

    def pull_back(self, entry: Entry, name: str, cotangents: list[np.ndarray]) -> np.ndarray:
        """The gradient of `name`."""


@dataclass(frozen=True)
class Verdict:
    """What came out of the test of one gradient."""

    name: str
    entry: Entry
    outcome: str  # "right", "wrong", "unknown" (too few slopes are known), "not finite"
    error: float  # as a part of the terms of both sides
    limit: float  # what was allowed of it

    def record(self) -> dict[str, Any]:
        return asdict(self)


def check(case: Case, rng: np.random.Generator, allowed: Callable[[], bool]) -> Iterator[Verdict]:
    """The verdict on each gradient of a case, as long as `allowed` says that there is time."""
    for name in case.names:
        if not allowed():
            return
        yield from _check_name(case, name, rng)


def _check_name(case: Case, name: str, rng: np.random.Generator) -> list[Verdict]:
    found: dict[Entry, list[Verdict]] = {entry: [] for entry in case.entries(name)}
    for _ in range(_DIRECTIONS):
        unsettled = [entry for entry, verdicts in found.items() if not verdicts or verdicts[0].outcome == "wrong"]
        if not unsettled:
            break
        line = _line(case, name, rng)
        for entry in unsettled:
            found[entry].append(_test(case, entry, name, line))
    return [_last_word(verdicts) for verdicts in found.values()]


def _last_word(verdicts: list[Verdict]) -> Verdict:
    """What is wrong is so along almost every direction: one along which it is not was bad luck in the estimates."""
    other = [each for each in verdicts if each.outcome != "wrong"]
    return min(other or verdicts, key=lambda each: each.error)


@dataclass(frozen=True)
class _Line:
    """A direction, the slopes along it, and which of them are known well enough."""

    direction: np.ndarray
    slopes: list[Slope]
    used: list[np.ndarray]


def _line(case: Case, name: str, rng: np.random.Generator) -> _Line | None:
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
            return _Line(direction, found, used)
    for least in _KNOWN[1:]:
        for direction, found in tried:
            if (used := _used(found, least)) is not None:
                return _Line(direction, found, used)
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


def _test(case: Case, entry: Entry, name: str, line: _Line | None) -> Verdict:
    if line is None:
        return Verdict(name, entry, "unknown", 0.0, 0.0)
    with np.errstate(invalid="ignore", over="ignore"):
        drawn = case.cotangents()
        cotangents = [np.where(used, v.reshape(-1), 0.0) for used, v in zip(line.used, drawn, strict=True)]
        terms = [v * s.value for s, v in zip(line.slopes, cotangents, strict=True)]
        errors = [
            np.abs(v) * np.where(u, s.error, 0) for s, u, v in zip(line.slopes, line.used, cotangents, strict=True)
        ]
        shaped = [v.reshape(d.shape) for v, d in zip(cotangents, drawn, strict=True)]
        products = np.asarray(case.pull_back(entry, name, shaped)).reshape(-1) * line.direction.reshape(-1)
        ahead, back = sum(float(each.sum()) for each in terms), float(products.sum())
        size = max(sum(float(np.abs(each).sum()) for each in terms), float(np.abs(products).sum()))
    if not np.isfinite(size + back):
        return Verdict(name, entry, "not finite", np.inf, 0.0)
    if size == 0:
        return Verdict(name, entry, "right", 0.0, 0.0)
    error, limit = abs(ahead - back) / size, 4 * sum(float(each.sum()) for each in errors) / size + _ROUNDING
    # Estimates of a slope that is hardly known are not sure themselves.
    beyond = limit if limit <= _SURE else _UNSURE * limit
    outcome = "wrong" if error > beyond else "right" if error <= limit <= _KNOWN[-1] else "unknown"
    return Verdict(name, entry, outcome, error, limit)
