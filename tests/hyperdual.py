"""Runs the text of a Taichi kernel in plain Python, on numbers that carry their first and second derivatives.

A `Number` is an element of R[e_1 .. e_P, t] with e_i e_j = 0 and t t = 0: beside its value it has the slopes in P
directions, the slope along one more, and the slopes of that along the P. One run of a kernel so gives its values, its
Jacobian, its jvp and its second derivatives. `TI` stands for the module `ti`, `Array` for an ndarray. Knows neither
Taichi nor tiaot; loops run in order, on one element after another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np


class Run:
    """What is noted during a run.

    Args:
        noise: each result of an operation is off by as much, in proportion, by chance: who runs a kernel twice sees how
            much its rounding shows.
    """

    def __init__(self, noise: float = 0, seed: int = 0) -> None:
        self.noise = noise
        self.rng = np.random.default_rng(seed)
        self.margin = math.inf  # how near any decision was: two numbers that were compared, a number and its floor
        self.largest = 0.0  # of all values and derivatives
        self.operations = 0

    def decides(self, distance: float) -> None:
        self.margin = min(self.margin, abs(distance))


class TooLong(Exception):
    """A kernel that does not end soon."""


_MOST_OPERATIONS = 60000


class Number:
    """A value, its slopes in the directions, its slope along one more, and the slopes of that."""

    __slots__ = ("along", "first", "place", "run", "second", "value")

    def __init__(self, run: Run, value: float, first: Any, along: float, second: Any) -> None:
        run.operations += 1
        if run.operations > _MOST_OPERATIONS:
            raise TooLong
        if run.noise:
            off = 1 + run.noise * run.rng.uniform(-1, 1, 4)
            value, first, along, second = value * off[0], first * off[1], along * off[2], second * off[3]
        self.run, self.value, self.first, self.along, self.second = run, value, first, along, second
        self.place: tuple[Array, Any] | None = None
        largest = max(abs(value), abs(along), np.abs(first).max(initial=0), np.abs(second).max(initial=0))
        if not largest <= run.largest:
            run.largest = float(largest) if math.isfinite(largest) else math.inf

    def _of(self, value: float, slope: float, bend: float) -> Number:
        """f of this number, by f, f' and f'' at it."""
        return Number(
            self.run,
            value,
            slope * self.first,
            slope * self.along,
            slope * self.second + bend * self.along * self.first,
        )

    def _scaled(self, by: float) -> Number:
        return Number(self.run, by * self.value, by * self.first, by * self.along, by * self.second)

    def copy(self) -> Number:
        return self._scaled(1.0)

    def __add__(self, other: Any) -> Any:
        if isinstance(other, Tensor):
            return NotImplemented
        if not isinstance(other, Number):
            return Number(self.run, self.value + other, self.first, self.along, self.second)
        return Number(
            self.run,
            self.value + other.value,
            self.first + other.first,
            self.along + other.along,
            self.second + other.second,
        )

    def __mul__(self, other: Any) -> Any:
        if isinstance(other, Tensor):
            return NotImplemented
        if not isinstance(other, Number):
            return self._scaled(other)
        a, b = self, other
        return Number(
            a.run,
            a.value * b.value,
            a.value * b.first + b.value * a.first,
            a.value * b.along + b.value * a.along,
            a.value * b.second + b.value * a.second + a.along * b.first + b.along * a.first,
        )

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> Number:
        return self._scaled(-1.0)

    def __sub__(self, other: Any) -> Any:
        return NotImplemented if isinstance(other, Tensor) else self + (-other)

    def __rsub__(self, other: Any) -> Any:
        return -self + other

    def __truediv__(self, other: Any) -> Any:
        if not isinstance(other, Number):
            return self._scaled(1 / other)
        return self * (1 / other)

    def __rtruediv__(self, other: Any) -> Any:
        r = 1 / self.value
        return self._of(r, -r * r, 2 * r**3)._scaled(other)

    def __pow__(self, power: Any) -> Any:
        if isinstance(power, Number):
            return TI.exp(power * TI.log(self))
        v = self.value
        bend = power * (power - 1) * v ** (power - 2) if power > 1 else 0.0
        return self._of(v**power, power * v ** (power - 1), bend)

    def _less(self, other: Any) -> bool:
        difference = self - other
        if difference.value or difference.along or difference.first.any() or difference.second.any():
            self.run.decides(difference.value)
        return difference.value < 0

    __lt__ = __le__ = _less

    def __gt__(self, other: Any) -> bool:
        return not self._less(other)

    __ge__ = __gt__

    def __abs__(self) -> Number:
        return -self if self < 0 else self.copy()


class Tensor:
    """A Taichi vector or matrix: numbers in a NumPy array of objects."""

    def __init__(self, entries: Any) -> None:
        self.entries = np.array(entries, dtype=object)

    def __getitem__(self, index: Any) -> Any:
        return self.entries[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        self.entries[index] = value

    def copy(self) -> Tensor:
        return Tensor(self.entries.copy())

    def _with(self, other: Any, operation: Callable[[Any, Any], Any]) -> Tensor:
        result = Tensor(self.entries)
        for index in np.ndindex(self.entries.shape):
            result.entries[index] = operation(
                self.entries[index], other.entries[index] if isinstance(other, Tensor) else other
            )
        return result

    def __add__(self, other: Any) -> Tensor:
        return self._with(other, lambda a, b: a + b)

    def __sub__(self, other: Any) -> Tensor:
        return self._with(other, lambda a, b: a - b)

    def __mul__(self, other: Any) -> Tensor:
        return self._with(other, lambda a, b: a * b)

    __radd__, __rmul__ = __add__, __mul__

    def __truediv__(self, other: Any) -> Tensor:
        return self._with(other, lambda a, b: a / b)

    def __neg__(self) -> Tensor:
        return self * -1.0

    def __matmul__(self, other: Tensor) -> Tensor:
        return Tensor(np.dot(self.entries, other.entries))

    def dot(self, other: Tensor) -> Any:
        return sum((a * b for a, b in zip(self.entries, other.entries, strict=True)), 0.0)

    def norm_sqr(self) -> Any:
        return sum((a * a for a in self.entries.flat), 0.0)

    def norm(self, eps: float = 0.0) -> Any:
        return TI.sqrt(self.norm_sqr() + eps)

    def sum(self) -> Any:
        return sum(self.entries.flat, 0.0)

    def trace(self) -> Any:
        return sum(self.entries.diagonal(), 0.0)

    def transpose(self) -> Tensor:
        return Tensor(self.entries.T.copy())

    def determinant(self) -> Any:
        (a, b), (c, d) = self.entries
        return a * d - b * c

    def inverse(self) -> Tensor:
        (a, b), (c, d) = self.entries
        return Tensor([[d, -b], [-c, a]]) * (1 / self.determinant())


class Array:
    """An ndarray, of Numbers, which `number` makes of those of Python, or of integers or vectors."""

    def __init__(
        self, shape: Sequence[int], entries: Sequence[Any], number: Callable[[float], Number] | None = None
    ) -> None:
        self.shape, self.number = tuple(shape), number
        self.entries = np.empty(self.shape, dtype=object)
        for index, entry in zip(np.ndindex(self.shape), entries, strict=True):
            self.entries[index] = entry

    def __iter__(self) -> Iterator[Any]:
        """The indices, as in a loop of Taichi over an ndarray."""
        yield from range(self.shape[0]) if len(self.shape) == 1 else product(*map(range, self.shape))

    def __getitem__(self, index: Any) -> Any:
        entry = self.entries[self._within(index)]
        if isinstance(entry, Number):
            entry = entry.copy()
            entry.place = self, index
        return entry

    def __setitem__(self, index: Any, value: Any) -> None:
        if self.number and not isinstance(value, (Number, Tensor)):
            value = self.number(value)
        self.entries[self._within(index)] = copied(value)

    def _within(self, index: Any) -> Any:
        places = index if isinstance(index, tuple) else (index,)
        if not all(0 <= place < size for place, size in zip(places, self.shape, strict=True)):
            raise IndexError(f"{index} in {self.shape}")
        return index


def _value(a: Any) -> float:
    return a.value if isinstance(a, Number) else a


def _function(function: Callable[[float], tuple[float, float, float]]) -> Callable[[Any], Any]:
    """A function by its value, slope and bend."""

    def of(a: Any) -> Any:
        return a._of(*function(a.value)) if isinstance(a, Number) else function(float(a))[0]

    return of


def _sqrt(a: float) -> tuple[float, float, float]:
    r = math.sqrt(a)
    return r, 0.5 / r, -0.25 / (r * a)


def _tanh(a: float) -> tuple[float, float, float]:
    r = math.tanh(a)
    return r, 1 - r * r, -2 * r * (1 - r * r)


def _asin(a: float) -> tuple[float, float, float]:
    w = 1 - a * a
    return math.asin(a), w**-0.5, a * w**-1.5


def _floor(a: Any) -> float:
    if isinstance(a, Number):
        a.run.decides(a.value - round(a.value))
    return math.floor(_value(a))


def _atan2(a: Any, b: Any) -> Any:
    """For b > 0."""
    return _function(lambda r: (math.atan(r), 1 / (1 + r * r), -2 * r / (1 + r * r) ** 2))(a / b)


def _max(a: Any, b: Any) -> Any:
    return b if a < b else a


def _min(a: Any, b: Any) -> Any:
    return a if a < b else b


def _store_at(entry: Number, result: Callable[[Any], Any]) -> None:
    """What an atomic operation does to the element that was read."""
    assert entry.place is not None
    array, index = entry.place
    array[index] = result(entry)


def _cast(a: Any, to: str) -> Any:
    return int(_value(a)) if to == "i32" else a + 0.0


TI = SimpleNamespace(
    sin=_function(lambda a: (math.sin(a), math.cos(a), -math.sin(a))),
    cos=_function(lambda a: (math.cos(a), -math.sin(a), -math.cos(a))),
    exp=_function(lambda a: (math.exp(a), math.exp(a), math.exp(a))),
    log=_function(lambda a: (math.log(a), 1 / a, -1 / (a * a))),
    sqrt=_function(_sqrt),
    tanh=_function(_tanh),
    asin=_function(_asin),
    atan2=_atan2,
    pow=lambda a, b: a**b,
    floor=_floor,
    max=_max,
    min=_min,
    abs=abs,
    select=lambda condition, a, b: a if condition else b,
    cast=_cast,
    i32="i32",
    Vector=Tensor,
    Matrix=Tensor,
    static=lambda numbers: numbers,
    ndrange=lambda *sizes: product(*map(range, sizes)),
    loop_config=lambda **_: None,
    atomic_add=lambda entry, value: _store_at(entry, lambda old: old + value),
    atomic_max=lambda entry, value: _store_at(entry, lambda old: _max(old, value)),
    atomic_min=lambda entry, value: _store_at(entry, lambda old: _min(old, value)),
)


def copied(value: Any) -> Any:
    """What `v = x[i]` holds where x has vectors for elements: in Taichi a copy."""
    return value.copy() if isinstance(value, Tensor) else value
