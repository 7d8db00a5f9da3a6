"""Trials of kernels over fields: the whole state before and after, and the gradients of all that has one.

A kernel maps the fields as they are to the fields as it leaves them, and its adjoint takes the gradients of the latter
to those of the former, in the same memory. Here the fields and their gradients are drawn, and what the module leaves
is held against what Taichi's JIT leaves, and its adjoint against slopes of the twin.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from .exact import Entry, check
from .trial_session import Arrays, Record, Session, perturbed, spread, widened

_MOST = 1 << 18  # elements of a field that are looked at
_BLOCK = 256  # of these lie side by side, so that a stencil finds its neighbours among them
_ENTRY: Entry = ("*",)


def thin(array: np.ndarray) -> np.ndarray:
    """Some of the elements of a large array, as one axis, spread over it; all of another."""
    if array.size <= _MOST:
        return np.asarray(array)
    return np.asarray(array[_chosen(array.shape)])


def _put(array: np.ndarray, values: np.ndarray) -> None:
    """Writes what `thin` gives of an array."""
    array[_chosen(array.shape) if array.size > _MOST else ...] = values


@functools.lru_cache(2)
def _chosen(shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """The indices of some elements, in blocks at the same parts of arrays of other sizes."""
    count, blocks = _MOST // _BLOCK, math.prod(shape) // _BLOCK
    # One in each of `count` equal parts, so that no two are the same.
    within = np.random.default_rng(0).random(count) * (blocks // count)
    starts = np.arange(count) * blocks // count + within.astype(np.int64)
    flat = (starts[:, None] * _BLOCK + np.arange(_BLOCK)).reshape(-1)
    return np.unravel_index(flat, shape)


class _Drawn(Mapping[str, np.ndarray]):
    """What was drawn for the fields, by their names; of a large state each is read from its file when it is needed."""

    def __init__(self, arrays: Arrays, names: list[str]) -> None:
        self.arrays, self.names = arrays, names

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[f"state.{name}"]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def run_module(
    session: Session, module: Any, wide: Any, trial: Record, arrays: Arrays, rng: np.random.Generator
) -> None:
    """Writes the outputs and all fields after the kernel and after its adjoint, and the twin's verdicts."""
    inputs = {name: arrays[f"input.{name}"] for name in trial["inputs"]}
    fields = _Drawn(arrays, trial["fields"])
    state = module.state()
    session.say(trial, doing="forward")
    mine = _results(session, state, trial, inputs, fields)
    session.keep(trial, "results", mine)
    if not trial["large"]:
        moved = [_results(session, state, trial, inputs, perturbed(fields, rng)) for _ in range(2)]
        session.keep(trial, "spread", spread(mine, moved))
    del state
    if wide is None or trial["kernel"] not in wide.kernels or not trial["gradient"]:
        return
    session.say(trial, doing="forward, in float64")
    double = wide.state()
    inputs = widened(inputs)
    if not trial["large"]:
        session.keep(trial, "twin", _results(session, double, trial, inputs, fields))
    if trial["sloped"]:
        for verdict in check(_Fields(double, trial, inputs, fields), rng, session.in_time):
            session.say(trial, verdict=verdict.record())


def _results(session: Session, state: Any, trial: Record, inputs: Arrays, fields: Arrays) -> dict[str, np.ndarray]:
    kernel = state.kernels[trial["kernel"]]
    _fill(state, fields)
    made = kernel(*inputs.values())
    results = {}
    for name, array in zip(trial["outputs"], made if isinstance(made, tuple) else (made,), strict=False):
        results[f"output.{name}"] = np.asarray(array)
    results |= {f"after.{name}": np.array(thin(_field_of(state, name))) for name in fields}
    if trial["gradient"]:
        session.say(trial, doing="grad")
        _fill(state, fields, ".grad")
        kernel.grad(*inputs.values())
        results |= {f"adjoint.{name}": np.array(thin(_field_of(state, name))) for name in fields}
    return results


def _fill(state: Any, fields: Arrays, only: str = "") -> None:
    """Writes what was drawn, of the names that end in `only`, one field after another."""
    for name in fields:
        if name.endswith(only):
            _field_of(state, name)[...] = fields[name]


def _field_of(state: Any, name: str) -> Any:
    plain = name.removesuffix(".grad")
    return state.fields[plain].grad if plain != name else state.fields[name]


class _Fields:
    """A kernel over the twin's fields at a point, as exact.py wants it."""

    def __init__(self, state: Any, trial: Record, inputs: Arrays, fields: Mapping[str, np.ndarray]) -> None:
        self.state, self.inputs, self.fields = state, inputs, fields
        self.kernel = state.kernels[trial["kernel"]]
        self.primal = [name for name in fields if not name.endswith(".grad")]
        self.names = [name for name in self.primal if f"{name}.grad" in fields]

    def entries(self, name: str) -> list[Entry]:
        return [_ENTRY]

    def point(self, name: str) -> np.ndarray:
        return thin(self.fields[name]).astype(np.float64)

    def outputs(self, name: str, moved: np.ndarray) -> list[np.ndarray]:
        for each in self.primal:
            _field_of(self.state, each)[...] = self.fields[each]
        _put(_field_of(self.state, name), moved)
        self.kernel(*self.inputs.values())
        return [np.array(thin(_field_of(self.state, each))) for each in self.names]

    def cotangents(self) -> list[np.ndarray]:
        return [thin(self.fields[f"{each}.grad"]).astype(np.float64) for each in self.names]

    def pull_back(self, entry: Entry, name: str, cotangents: list[np.ndarray]) -> np.ndarray:
        _fill(self.state, self.fields)
        self.kernel(*self.inputs.values())
        for each, chosen in zip(self.names, cotangents, strict=True):
            gradient = _field_of(self.state, f"{each}.grad")
            gradient[...] = 0
            _put(gradient, chosen)
        self.kernel.grad(*self.inputs.values())
        return np.array(thin(_field_of(self.state, f"{name}.grad")))


class TaichiState:
    """Taichi's fields of a kernel file by the names that the module has for them, gradients too."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self.fields = dict(fields)
        for name, field in fields.items():
            if field.grad is not None:
                self.fields[f"{name}.grad"] = field.grad

    def run(
        self, kernel: Any, arguments: list[Any], session: Session, trial: Record, arrays: Arrays, adjoint: bool
    ) -> Any:
        """Writes all fields after the kernel and after its adjoint, where that is to run; what the kernel returns."""
        self._fill(trial, arrays)
        returned = kernel._primal(*arguments)
        session.keep(trial, "fields", {f"after.{name}": array for name, array in self._read(trial).items()})
        if adjoint:
            session.say(trial, doing="grad")
            self._fill(trial, arrays, ".grad")
            kernel._adjoint(*arguments)
            session.keep(trial, "gradients", {f"adjoint.{name}": array for name, array in self._read(trial).items()})
        return returned

    def _fill(self, trial: Record, arrays: Arrays, only: str = "") -> None:
        """Writes what was drawn, of the names that end in `only`."""
        for name in trial["fields"]:
            if name.endswith(only) and name in self.fields:
                self._write(name, arrays[f"state.{name}"])

    def _write(self, name: str, array: np.ndarray) -> None:
        field = self.fields[name]
        if field.shape:
            field.from_numpy(array)
        else:
            field[None] = array.tolist()

    def _read(self, trial: Record) -> dict[str, np.ndarray]:
        return {name: thin(np.asarray(self.fields[name].to_numpy())) for name in trial["fields"] if name in self.fields}
