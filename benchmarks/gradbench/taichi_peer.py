"""The same kernels on Taichi's own JIT compiler: the primal, and `kernel.grad` over ndarrays with gradients."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import taichi as ti

from .by_hand import results
from .problems import Inputs, Problem

KERNELS = Path(__file__).parent / "kernels"


def _kernel_file(name: str) -> Any:
    """A file of kernels/, run; its Taichi is started anew, on one thread."""
    spec = importlib.util.spec_from_file_location(name, KERNELS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    file = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(file)
    ti.init(
        arch=ti.cpu,
        cpu_max_num_threads=1,
        default_fp=ti.f64,
        fast_math=False,
        offline_cache=False,
        log_level=ti.CRITICAL,
    )
    return file


def _scratch(name: str, inputs: Inputs) -> dict[str, tuple[int, ...]]:
    """The kernel's scratch arrays, which its decorator describes to tiaot."""
    if name == "gaussian_mixture":
        return {"term": (len(inputs["x"]), len(inputs["alpha"]))}
    if name == "long_short_term_memory":
        shape = inputs["hidden"].shape
        return {"h": shape, "s": shape, "signal": shape[1:]}
    if name == "differential_equation":
        return {"k": (4, len(inputs["x"]))}
    return {"M": inputs["A"].shape} if name == "determinant" else {}


def _ndarray(value: np.ndarray, needs_grad: bool) -> Any:
    real = value.dtype == np.float64
    array = ti.ndarray(ti.f64 if real else ti.i32, value.shape, needs_grad=needs_grad and real)
    array.from_numpy(value)
    return array


def prepare(problem: Problem, inputs: Inputs) -> dict[str, Callable[[], Any]]:
    """The primal and the gradient, which runs the primal first, as a tape does. Raises what Taichi raises."""
    file = _kernel_file(problem.name)
    kernel = getattr(file, problem.name)
    before: list[Callable[[], Any]] = []
    given = {name: _ndarray(each, True) if isinstance(each, np.ndarray) else each for name, each in inputs.items()}
    if problem.name == "bundle_adjustment":
        count = len(inputs["seen"])
        camera, point = (_ndarray(np.zeros((count, size)), True) for size in (11, 3))
        gathered = [given[name] for name in ("cameras", "points", "seen")]
        before.append(lambda: file.gather(*gathered, camera, point))
        given = {"camera": camera, "point": point, "weight": given["weight"], "feature": given["feature"]}
    outputs, _ = results(problem, inputs)
    for name, shape in _scratch(problem.name, inputs).items():
        given[name] = _ndarray(np.zeros(shape), True)
    output = _ndarray(np.zeros(outputs[0].shape), True)
    given["output"] = output
    arrays = list(given.values())
    differentiable = [each for each in arrays if getattr(each, "grad", None) is not None]

    def primal() -> Any:
        output.fill(0)
        for each in before:
            each()
        kernel(*arrays)
        return output

    def seeded(place: Any) -> None:
        for each in differentiable:
            each.grad.fill(0)
        if place is None:
            output.grad.fill(1)
        elif isinstance(place, int):
            output.grad[place] = 1
        else:
            output.grad.from_numpy(place)
        kernel.grad(*arrays)

    def gradient() -> Any:
        primal()
        if problem.name == "bundle_adjustment":
            rows = []
            for j in range(2):
                seeded(np.tile(np.eye(2)[j], (len(outputs[0]), 1)))
                rows.append([given[name].grad.to_numpy() for name in problem.wrt])
            return tuple(np.stack(each, 1) for each in zip(*rows, strict=True))
        seeded(len(outputs[0]) - 1 if problem.name == "differential_equation" else None)
        return tuple(given[name].grad for name in problem.wrt)

    return {"primal": primal, "gradient": gradient}
