"""Trials of kernels over fields: the whole state before and after, and the slopes of all that has a gradient.

A kernel maps the fields as they are to the fields as it leaves them, and its adjoint takes the gradients of the latter
to those of the former, in the same memory. Here the fields and their gradients are drawn, and what the module leaves
is held against what Taichi's JIT leaves, and against the kernel in float64 with one field moved.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from .declare import Declaration

Arrays = Mapping[str, np.ndarray]
_STEPS = (-2, -1, 1, 2)


def draw_state(declaration: Declaration, fields: Mapping[str, Any], about: list[dict[str, Any]], rng: Any) -> Arrays:
    """What every field of a trial holds, and for each that has a gradient the direction that it is moved in.

    Args:
        fields: Taichi's fields by name. Whole numbers stay as the kernel file left them: they may be indices.
        about: the fields of the module, as `Module.info` has them.
    """
    arrays = {}
    for each in about:
        name, shape, dtype = each["name"], tuple(each["shape"]), np.dtype(each["dtype"])
        drawn = declaration.drawn(name, rng, shape, {})
        if drawn is None:
            drawn = _content(name, fields, shape, dtype, rng)
        arrays[f"state.{name}"] = drawn.astype(dtype)
        if each["gradient"] is not None:
            arrays[f"direction.{name}"] = rng.uniform(-1, 1, shape)
    return arrays


def _content(name: str, fields: Mapping[str, Any], shape: tuple[int, ...], dtype: Any, rng: Any) -> np.ndarray:
    if name.endswith(".grad"):
        return rng.uniform(-1, 1, shape)
    if name not in fields:
        return np.zeros(shape)  # it has no name in the file, so that Taichi's cannot be set
    return rng.uniform(0.25, 0.75, shape) if dtype.kind == "f" else _read(fields[name])


def run_module(module: Any, trial: Mapping[str, Any], arrays: Arrays) -> dict[str, np.ndarray]:
    """The outputs, and all fields after the kernel and after its adjoint."""
    results = {}
    inputs = [arrays[f"{trial['id']}.input.{name}"] for name in trial["inputs"]]
    state = module.state()
    kernel = state.kernels[trial["kernel"]]

    def fill(only: str = "") -> None:
        for name in trial["fields"]:
            if name.endswith(only):
                _field_of(state, name)[...] = arrays[f"{trial['id']}.state.{name}"]

    def keep(stage: str) -> None:
        for name in trial["fields"]:
            results[f"{trial['id']}.{stage}.{name}"] = np.array(_field_of(state, name))

    fill()
    made = kernel(*inputs)
    for name, array in zip(trial["outputs"], made if isinstance(made, tuple) else (made,), strict=False):
        results[f"{trial['id']}.output.{name}"] = array
    keep("after")
    if trial["gradient"]:
        fill(".grad")
        kernel.grad(*inputs)
        keep("adjoint")
    return results


def _field_of(state: Any, name: str) -> Any:
    plain = name.removesuffix(".grad")
    return state.fields[plain].grad if plain != name else state.fields[name]


class TaichiState:
    """Taichi's fields of a kernel file by the names that the module has for them, gradients too."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self.fields = dict(fields)
        for name, field in fields.items():
            if field.grad is not None:
                self.fields[f"{name}.grad"] = field.grad

    def fill(self, trial: Mapping[str, Any], arrays: Arrays, only: str = "") -> None:
        """Writes what was drawn, of the names that end in `only`."""
        for name in trial["fields"]:
            if name.endswith(only) and name in self.fields:
                self.write(name, arrays[f"{trial['id']}.state.{name}"])

    def write(self, name: str, array: np.ndarray) -> None:
        field = self.fields[name]
        if field.shape:
            field.from_numpy(array)
        else:
            field[None] = array.tolist()

    def read(self, trial: Mapping[str, Any], names: list[str]) -> dict[str, np.ndarray]:
        return {name: _read(self.fields[name]) for name in names if name in self.fields}


def _read(field: Any) -> np.ndarray:
    return np.asarray(field.to_numpy())


def run_taichi(
    kernel: Any, arguments: list[Any], state: TaichiState, trial: Mapping[str, Any], arrays: Arrays, adjoint: bool
) -> tuple[Any, dict[str, np.ndarray]]:
    """What the kernel returns, and all fields after it and after its adjoint, where that is to run."""
    state.fill(trial, arrays)
    returned = kernel._primal(*arguments)
    after = state.read(trial, trial["fields"])
    results = {f"{trial['id']}.after.{name}": array for name, array in after.items()}
    if adjoint:
        state.fill(trial, arrays, ".grad")
        kernel._adjoint(*arguments)
        left = state.read(trial, trial["fields"])
        results |= {f"{trial['id']}.adjoint.{name}": array for name, array in left.items()}
    return returned, results


def run_moved(
    kernel: Any, arguments: list[Any], state: TaichiState, trial: Mapping[str, Any], arrays: Arrays, step: float
) -> dict[str, np.ndarray]:
    """All fields that have a gradient as the kernel leaves them, for each of them moved along its direction."""
    results = {}
    moving = [name for name in trial["fields"] if f"{trial['id']}.direction.{name}" in arrays and name in state.fields]
    for name in moving:
        start = arrays[f"{trial['id']}.state.{name}"].astype(np.float64)
        direction = arrays[f"{trial['id']}.direction.{name}"]
        for steps in _STEPS:
            state.fill(trial, arrays)
            state.write(name, start + steps * step * direction)
            kernel._primal(*arguments)
            for each, array in state.read(trial, moving).items():
                results[f"{trial['id']}.moved.{name}.{steps}.{each}"] = array
    return results


@contextlib.contextmanager
def wide_fields() -> Iterator[None]:
    """While a kernel file runs, its fields of real numbers are of float64."""
    import taichi as ti
    from taichi.lang import impl

    original = impl.create_field_member

    def create(dtype: Any, *arguments: Any, **options: Any) -> Any:
        return original(ti.f64 if dtype in (ti.f32, ti.f16, float) else dtype, *arguments, **options)

    impl.create_field_member = create
    try:
        yield
    finally:
        impl.create_field_member = original
