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

from ..computation import ALL_FIELDS
from .along import HVP, JVP, check_along
from .exact import Wrt, check
from .trial_session import Arrays, Record, Session, perturbed, spread, widened

_MOST = 1 << 18  # elements of a field that are looked at
_BLOCK = 256  # of these lie side by side, so that a stencil finds its neighbours among them
FIELDS: Wrt = ("fields",)
DIFFERENTIABLE: Wrt = ("fields with gradients",)


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
    if wide is None or trial["kernel"] not in wide.kernels or not (trial["gradient"] or trial["along"]):
        return
    session.say(trial, doing="forward, in float64")
    double = wide.state()
    inputs = widened(inputs)
    if not trial["large"]:
        session.keep(trial, "twin", _results(session, double, trial, inputs, fields))
    case = _Fields(double, trial, inputs, fields)
    if trial["sloped"] and trial["gradient"]:
        for verdict in check(case, rng, session.in_time):
            session.say(trial, verdict=verdict.record())
    if trial["tangents"]:
        for along in _along(case, trial):
            for verdict in check_along(along, rng, session.in_time):
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
    if trial["large"]:
        return results
    for kind, _ in trial["along"]:
        session.say(trial, doing=kind)
        results |= _results_along(state, kernel, trial, inputs, fields, kind)
    return results


def tangents_of_fields(trial: Record, fields: Arrays) -> dict[str, np.ndarray]:
    """What is drawn for the tangents of the fields that have some, the same each time."""
    rng = np.random.default_rng([11, *trial["seed"]])
    # Numbers of float32, which every variant has.
    return {
        name: rng.uniform(-1, 1, field.shape).astype(np.float32)
        for name, field in fields.items()
        if field.dtype.kind == "f"
    }


def _results_along(
    state: Any, kernel: Any, trial: Record, inputs: Arrays, fields: Arrays, kind: str
) -> dict[str, np.ndarray]:
    """What a jvp or hvp leaves in the fields, and in their tangents."""
    _fill(state, fields)
    results = {}
    for name, tangent in tangents_of_fields(trial, {name: _field_of(state, name) for name in fields}).items():
        _field_of(state, name).tangent[...] = tangent
    made = (kernel.jvp if kind == JVP else kernel.hvp)(*inputs.values())
    if kind == JVP and trial["outputs"]:
        for part, arrays in zip(("value", JVP), made, strict=True):
            several = arrays if isinstance(arrays, tuple) else (arrays,)
            results |= {f"{part}.*.{name}": a for name, a in zip(trial["outputs"], several, strict=True)}
    for name in fields:
        field = _field_of(state, name)
        if kind == JVP:
            results[f"value.*.{name}"] = np.array(thin(field))
        if field.tangent is not None:
            results[f"{kind}.*.{name}"] = np.array(thin(field.tangent))
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

    def entries(self, name: str) -> list[Wrt]:
        return [ALL_FIELDS]

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

    def pull_back(self, wrt: Wrt, name: str, cotangents: list[np.ndarray]) -> np.ndarray:
        _fill(self.state, self.fields)
        self.kernel(*self.inputs.values())
        for each, chosen in zip(self.names, cotangents, strict=True):
            gradient = _field_of(self.state, f"{each}.grad")
            gradient[...] = 0
            _put(gradient, chosen)
        self.kernel.grad(*self.inputs.values())
        return np.array(thin(_field_of(self.state, f"{name}.grad")))


def _along(case: _Fields, trial: Record) -> list[_Along]:
    """The tests of the entries with tangents: of all fields of real numbers, and of those that have gradients."""
    kinds = [kind for kind, _ in trial["along"]]
    real = [name for name in case.primal if _field_of(case.state, name).tangent is not None]
    cases = [_Along(case, [(JVP, FIELDS)], real, trial["outputs"], False)]
    if trial["gradient"]:
        entries = [(kind, DIFFERENTIABLE) for kind in (JVP, HVP) if kind in kinds]
        cases.append(_Along(case, entries, case.names, [], trial["sloped"]))
    return cases


class _Along:
    """The same from some fields to these, as along.py wants it."""

    def __init__(
        self, case: _Fields, along: list[tuple[str, Wrt]], names: list[str], outputs: list[str], has_vjp: bool
    ) -> None:
        self.case, self.state, self.kernel, self.names = case, case.state, case.kernel, names
        self.along, self.has_outputs, self.sloped = along, bool(outputs), has_vjp

    def has_vjp(self, wrt: Wrt) -> bool:
        return self.sloped

    def inputs(self, wrt: Wrt) -> list[np.ndarray]:
        return [self.case.point(name) for name in self.names]

    def cotangents(self) -> list[np.ndarray]:
        rng = np.random.default_rng(5)
        shapes = [np.shape(each) for each in self.forward(FIELDS, self.inputs(FIELDS))]
        return [rng.uniform(0.5, 1.0, shape) * rng.choice([-1.0, 1.0], shape) for shape in shapes]

    def forward(self, wrt: Wrt, moved: list[np.ndarray]) -> list[np.ndarray]:
        self._place(moved)
        return [*self._made(self.kernel(*self.case.inputs.values())), *self._read(self.names)]

    def vjp(self, wrt: Wrt, moved: list[np.ndarray], cotangents: list[np.ndarray]) -> list[np.ndarray]:
        self._place(moved)
        self.kernel(*self.case.inputs.values())
        self._seed(cotangents)
        self.kernel.grad(*self.case.inputs.values())
        return self._read([f"{name}.grad" for name in self.names])

    def jvp(self, wrt: Wrt, moved: list[np.ndarray], tangents: list[np.ndarray]) -> list[np.ndarray]:
        self._place(moved, tangents)
        made = self.kernel.jvp(*self.case.inputs.values())
        return [*self._made(made[1] if self.has_outputs else None), *self._read(self.names, tangents=True)]

    def hvp(
        self, wrt: Wrt, moved: list[np.ndarray], cotangents: list[np.ndarray], tangents: list[np.ndarray]
    ) -> list[np.ndarray]:
        self._place(moved, tangents)
        self.kernel.jvp(*self.case.inputs.values())
        self._seed(cotangents)
        self.kernel.hvp(*self.case.inputs.values())
        return self._read([f"{name}.grad" for name in self.names], tangents=True)

    def _place(self, moved: list[np.ndarray], tangents: list[np.ndarray] | None = None) -> None:
        _fill(self.state, self.case.fields)
        for name, values in zip(self.names, moved, strict=True):
            _put(_field_of(self.state, name), values)
        if tangents is not None:
            self.state.zero_tangent()
            for name, values in zip(self.names, tangents, strict=True):
                _put(_field_of(self.state, name).tangent, values)

    def _seed(self, cotangents: list[np.ndarray]) -> None:
        for name, values in zip(self.names, cotangents, strict=True):
            gradient = _field_of(self.state, f"{name}.grad")
            gradient[...] = 0
            _put(gradient, values)

    def _made(self, made: Any) -> list[np.ndarray]:
        if not self.has_outputs:
            return []
        return [np.array(each, np.float64) for each in (made if isinstance(made, tuple) else (made,))]

    def _read(self, names: list[str], tangents: bool = False) -> list[np.ndarray]:
        fields = [_field_of(self.state, name) for name in names]
        return [np.array(thin(field.tangent if tangents else field)) for field in fields]


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
