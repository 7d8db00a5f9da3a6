"""What a generated kernel computes at a point, by plain Python on hyper-dual numbers; and what rounding explains."""

from __future__ import annotations

import dataclasses
from typing import Any

import hyperdual
import numpy as np
from hyperdual import Array, Number, Run, Tensor
from kernel_text import Argument, Kernel

SIZES = {"n": (5, 6, 7), "m": (3, 4), "k": (2, 3, 5)}  # that are drawn for each dimension
NUMPY = {"f32": np.float32, "f64": np.float64}
_NOISE = 1e-10  # beside which the rounding of float64 is nothing
_MOST = 1e4  # values and derivatives up to here
# How near a decision may come, so that neither rounding nor noise turns it.
_MARGIN = {"f32": 2e-3, "f64": 1e-7}


@dataclasses.dataclass(frozen=True)
class Point:
    """Where a kernel is tried, and what it computes there: by array, in the order of the signature."""

    inputs: dict[str, Any]
    tangents: dict[str, Any]  # of what is in wrt
    cotangents: list[np.ndarray]
    outputs: list[np.ndarray]
    along: list[np.ndarray]
    gradients: list[np.ndarray]
    products: list[np.ndarray]
    bounds: dict[str, list[float]]  # of each of these, how far off rounding may be


def _array(run: Run, argument: Argument, sizes: dict[str, int], values: Any, slopes: Any, tangent: Any) -> Array:
    count = slopes.shape[-1]
    zero = np.zeros(count)

    def number(value: float) -> Number:
        return Number(run, value, zero, 0.0, zero)

    shape = [sizes[each] for each in argument.shape]
    if argument.kind == "integer":
        return Array(shape, [int(each) for each in values.reshape(-1)])
    parts = zip(values.reshape(-1), slopes.reshape(-1, count), tangent.reshape(-1), strict=True)
    numbers = [Number(run, *each, zero) for each in parts]
    if argument.kind == "vector":
        return Array(shape, [Tensor(numbers[i : i + 2]) for i in range(0, len(numbers), 2)])
    return Array(shape, numbers, number)


def interpret(kernel: Kernel, inputs: dict[str, Any], tangents: dict[str, Any], run: Run) -> list[list[np.ndarray]]:
    """The outputs, their slopes along the tangents, their Jacobians by the inputs in wrt, and the slopes of these.

    A Jacobian has one more axis, the last: the elements of all inputs, one after another.
    """
    sizes = {
        name: size
        for each in kernel.inputs
        if each.shape
        for name, size in zip(each.shape, inputs[each.name].shape, strict=False)
    }
    count = sum(inputs[name].size for name in kernel.wrt)
    given: list[Any] = []
    first = 0
    for each in kernel.arguments:
        shape = [sizes[axis] for axis in each.shape] + [2] * (each.kind == "vector")
        value = inputs.get(each.name, np.zeros(shape))
        if not each.shape:
            if each.kind == "real":
                value = Number(run, value, np.zeros(count), tangents.get(each.name, 0.0), np.zeros(count))
            given.append(value)
            continue
        slopes = np.zeros((value.size, count))
        if each.name in kernel.wrt:
            slopes[:, first : first + value.size] = np.eye(value.size)
            first += value.size
        given.append(_array(run, each, sizes, value, slopes, tangents.get(each.name, np.zeros(value.shape))))
    names: dict[str, Any] = {"ti": hyperdual.TI, "copied": hyperdual.copied, "real": "real"}
    exec(compile(kernel.text(plain=True), kernel.name, "exec"), names)
    with np.errstate(all="ignore"):  # what is too large is noted by the run
        names[kernel.name](*given)
    found: list[list[np.ndarray]] = [[], [], [], []]
    for argument, array in zip(kernel.arguments, given, strict=True):
        if argument.is_output:
            entries = array.entries.reshape(-1)
            if argument.kind == "vector":
                entries = [entry for vector in entries for entry in vector.entries]
            shape = (*array.shape, 2) if argument.kind == "vector" else array.shape
            none = np.zeros(count)
            numbers = [each if isinstance(each, Number) else Number(run, each, none, 0.0, none) for each in entries]
            for part, name in zip(found, ("value", "along", "first", "second"), strict=True):
                values = np.array([getattr(entry, name) for entry in numbers])
                part.append(values.reshape(shape + values.shape[1:]))
    return found


def _pulled(
    kernel: Kernel, inputs: dict[str, Any], cotangents: list[np.ndarray], jacobians: list[np.ndarray]
) -> list[np.ndarray]:
    """The sum of all outputs' Jacobians, each times its cotangent, by input."""
    flat = sum(np.tensordot(v, each, v.ndim) for v, each in zip(cotangents, jacobians, strict=True))
    parts, first = [], 0
    for name in kernel.wrt:
        value = inputs[name]
        parts.append(flat[first : first + value.size].reshape(value.shape))
        first += value.size
    return parts


def _results(
    kernel: Kernel,
    inputs: dict[str, Any],
    tangents: dict[str, Any],
    of_arrays: dict[str, Any],
    cotangents: list[np.ndarray],
    run: Run,
) -> list[list[np.ndarray]]:
    values, along, jacobians, _ = interpret(kernel, inputs, tangents, run)
    *_, slopes = interpret(kernel, inputs, of_arrays, run)
    return [values, along, _pulled(kernel, inputs, cotangents, jacobians), _pulled(kernel, inputs, cotangents, slopes)]


def draw(kernel: Kernel, rng: np.random.Generator, dtype: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Inputs, rounded to the type, and tangents."""
    sizes = {name: int(rng.choice(choices)) for name, choices in SIZES.items()}
    inputs: dict[str, Any] = {}
    tangents: dict[str, Any] = {}
    for each in kernel.inputs:
        shape = [sizes[axis] for axis in each.shape] + [2] * (each.kind == "vector")
        if each.kind == "integer":
            value = rng.integers(0, sizes[each.below] if each.below else 4, shape).astype(np.int32)
        else:
            value = rng.uniform(-1.5, 1.5, shape).astype(NUMPY[dtype]).astype(float)
            tangents[each.name] = rng.uniform(-1, 1, shape).astype(NUMPY[dtype]).astype(float)
        inputs[each.name] = value if each.shape else value.item()
        if not each.shape and each.kind == "real":
            tangents[each.name] = float(tangents[each.name])
    return inputs, tangents


def point(kernel: Kernel, seed: int, dtype: str) -> Point | None:
    """Where the kernel has no kink nearby and no large number; None where that was not found."""
    for attempt in range(8):
        rng = np.random.default_rng([seed, attempt])
        inputs, tangents = draw(kernel, rng, dtype)
        run = Run()
        try:
            exact = interpret(kernel, inputs, tangents, run)
        except (hyperdual.TooLong, OverflowError, ValueError, ZeroDivisionError):
            continue
        if not run.largest < _MOST or run.margin < _MARGIN[dtype]:
            continue
        cotangents = [rng.uniform(-1, 1, each.shape).astype(NUMPY[dtype]).astype(float) for each in exact[0]]

        # A second derivative is along tangents of arrays alone, not of numbers by value.
        of_arrays = {name: tangents[name] for name in kernel.wrt}
        right = _results(kernel, inputs, tangents, of_arrays, cotangents, Run())
        noisy = [_results(kernel, inputs, tangents, of_arrays, cotangents, Run(_NOISE, trial)) for trial in range(3)]
        eps = float(np.finfo(NUMPY[dtype]).eps)
        bounds = {}
        for name, part, *others in zip(("outputs", "along", "gradients", "products"), right, *noisy, strict=True):
            bounds[name] = [
                # The worst of three such errors, one for each operation, may be small by chance; and adjoints round in
                # another order.
                max(np.abs(each - value).max(initial=0) for each in same) * 50 * eps / _NOISE
                + 64 * eps * np.abs(value).max(initial=0)
                for value, *same in zip(part, *others, strict=True)
            ]
        if dtype == "f32" and max(max(each, default=0) for each in bounds.values()) > 0.05:
            continue
        return Point(inputs, tangents, cotangents, *right, bounds)
    return None
