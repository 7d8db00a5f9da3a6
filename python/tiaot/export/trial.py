"""Trials: runs kernels on given arrays and writes down what comes out. In a child process, since any of them may crash.

    python -m tiaot.export.trial jit KERNEL_FILE DIRECTORY       Taichi's own JIT, forward and gradients
    python -m tiaot.export.trial double KERNEL_FILE DIRECTORY    the same in float64, forward, beside each point
    python -m tiaot.export.trial module MODULE DIRECTORY         the module
    python -m tiaot.export.trial cuda LIBRARY DIRECTORY          its code for CUDA, interpreted

DIRECTORY holds what verify.py has written: `trials.json`, and the arrays in `arrays.npz`.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from . import trial_cuda, trial_state
from .declare import Declaration, Variant
from .parameters import Parameter, is_array, is_template, parameters_of, taichi_type

# Taichi keeps the values of a variable that changes in a loop on a stack of 32 and writes beyond it. Above this size a
# kernel with such a loop, or one within another, is not run in Taichi: its gradient would be wrong, or the process end.
_SAFE_SIZE = 5
STEP = 1e-5  # of finite differences, for numbers of order 1 in float64: rounding and curvature both below 1e-10


def main(mode: str, path: str, directory: str) -> None:
    trials = json.loads(Path(directory, "trials.json").read_text())
    with np.load(Path(directory, "arrays.npz")) as stored:
        arrays = dict(stored)
    path = os.path.abspath(path)
    os.chdir(directory)
    if mode == "module":
        results = _run_module(path, trials, arrays)
    elif mode == "cuda":
        results = trial_cuda.run_interpreted(path, trials, arrays)
    else:
        results = _run_taichi(mode, path, trials, arrays)
    np.savez(f"{mode}.npz", **results)


def _run_module(path: str, trials: list[dict[str, Any]], arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    from .. import open as open_module

    results = {}
    module = open_module(path)
    for trial in trials:
        if trial["fields"]:
            results |= trial_state.run_module(module, trial, arrays)
            continue
        kernel = module.kernels[trial["kernel"]].restrict(trial["variant_name"])
        inputs = [arrays[f"{trial['id']}.input.{name}"] for name in trial["inputs"]]
        cotangents = [arrays[f"{trial['id']}.cotangent.{name}"] for name in trial["outputs"]]
        made = kernel(*inputs)
        for name, array in zip(trial["outputs"], made if isinstance(made, tuple) else (made,), strict=True):
            results[f"{trial['id']}.output.{name}"] = array
        for wrt in trial["wrt"]:
            gradients = kernel.vjp(*inputs, *cotangents, wrt=tuple(wrt))
            for name, array in zip(wrt, gradients, strict=True):
                results[f"{trial['id']}.gradient.{' '.join(wrt)}.{name}"] = array
    return results


def _run_taichi(
    mode: str, path: str, trials: list[dict[str, Any]], arrays: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    import taichi as ti

    from .kernel_file import load_kernel_file

    double = mode == "double"
    ti.init(
        arch=ti.cpu,
        offline_cache=False,
        fast_math=False,
        log_level=ti.ERROR,
        default_fp=ti.f64 if double else ti.f32,
        cpu_max_num_threads=2,
        print_kernel_llvm_ir=not double,
    )
    if double:  # what the file calls by these names, in casts too; annotations and fields are widened below
        ti.f16 = ti.f32 = ti.float16 = ti.float32 = ti.f64
    with trial_state.wide_fields() if double else contextlib.nullcontext():
        file = load_kernel_file(path)
    declarations = {each.family.name: each for each in file.declarations}
    state = trial_state.TaichiState(file.fields)
    ti.lang.impl.get_runtime().materialize()  # fields, before there is a builder: Taichi loses them otherwise
    if double:  # whatever the file asked for
        ti.lang.impl.get_runtime().set_default_fp(ti.f64)
        ti.lang.impl.current_cfg().default_fp = ti.f64
    results: dict[str, np.ndarray] = {}
    stacks = None if double else _Stacks()
    for trial in trials:
        jit = _Jit(declarations[trial["kernel"]], trial, double)
        inputs = {name: arrays[f"{trial['id']}.input.{name}"] for name in trial["inputs"]}
        if trial["fields"]:
            results |= jit.on_state(inputs, state, arrays, stacks)
            continue
        if double:
            for key, moved in _moved(trial, inputs, arrays):
                for name, array in jit.forward(moved).items():
                    results[f"{key}.{name}"] = array
            continue
        cotangents = {name: arrays[f"{trial['id']}.cotangent.{name}"] for name in trial["outputs"]}
        for name, array in jit.forward(inputs).items():
            results[f"{trial['id']}.output.{name}"] = array
        for wrt in trial["wrt"]:
            for name, array in jit.gradient(tuple(wrt), inputs, cotangents, stacks).items():
                results[f"{trial['id']}.gradient.{' '.join(wrt)}.{name}"] = array
    return results


def _moved(
    trial: Mapping[str, Any], inputs: Mapping[str, np.ndarray], arrays: Mapping[str, np.ndarray]
) -> list[tuple[str, dict[str, np.ndarray]]]:
    """The points to evaluate: each input a step and two ahead and behind, along its direction."""
    points = []
    for name in sorted({name for wrt in trial["wrt"] for name in wrt}):
        direction = arrays[f"{trial['id']}.direction.{name}"]
        for steps in (-2, -1, 1, 2):
            moved = {
                each: array.astype(np.float64) if array.dtype.kind == "f" else array for each, array in inputs.items()
            }
            moved[name] = np.asarray(moved[name] + steps * STEP * direction)
            points.append((f"{trial['id']}.moved.{name}.{steps}", moved))
    return points


class _Stacks:
    """Which adjoints keep values on Taichi's stack: read from the IR that Taichi writes into the working directory."""

    def __init__(self) -> None:
        import taichi as ti

        self.builder = ti.aot.Module()._aot_builder
        self.known: dict[Any, bool] = {}

    def used(self, kernel: Any, arguments: list[Any]) -> bool:
        """Compiles the adjoint of a kernel for these arguments, and looks."""
        adjoint = kernel._adjoint
        before = set(Path().glob("*.ll"))
        adjoint.ensure_compiled(*arguments)
        self.builder.add(f"adjoint{len(self.known)}", adjoint.kernel_cpp)
        written = set(Path().glob("*.ll")) - before
        key = kernel._primal.func.__code__
        self.known[key] = self.known.get(key, False) or any("@stack_init(" in file.read_text() for file in written)
        return self.known[key]


class _Jit:
    """A kernel of one variant in Taichi itself."""

    def __init__(self, declaration: Declaration, trial: Mapping[str, Any], double: bool) -> None:
        self.trial = trial
        self.family = declaration.family
        self.signature = declaration.family.signature
        self.dims: dict[str, int] = trial["dims"]
        dtype = "float64" if double else trial["variant"]["dtype"]
        variant = Variant(dtype, trial["variant"]["sizes"])
        self.implementation = declaration.make(variant)
        if double and declaration.kernel is not None:
            whole = {n for n, t in self.family.argument_dtypes.items() if not t.startswith("float")}
            _widen(declaration.kernel, whole)
        self.dtypes = {each.name: self.family.dtype(each.name, variant) for each in self.signature.arguments}
        if double:
            self.dtypes = {n: "float64" if t.startswith("float") else t for n, t in self.dtypes.items()}

    def forward(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs by name."""
        arguments, made = self._arguments(self.implementation.forward, (), False, inputs, {})
        returned = self.implementation.forward._primal(*arguments)
        results = {}
        for argument in self.signature.outputs:
            name = argument.name
            results[name] = made[name].to_numpy() if name in made else np.asarray(_plain(returned), self.dtypes[name])
        return results

    def on_state(
        self,
        inputs: Mapping[str, np.ndarray],
        state: trial_state.TaichiState,
        arrays: Mapping[str, np.ndarray],
        stacks: _Stacks | None,
    ) -> dict[str, np.ndarray]:
        """What the kernel does to fields; in float64, what it does where they are moved.

        Without its adjoint, where that keeps values on Taichi's stack, and may write beyond it.
        """
        kernel = self.implementation.forward
        arguments, made = self._arguments(kernel, (), False, inputs, {})
        if stacks is None:
            return trial_state.run_moved(kernel, arguments, state, self.trial, arrays, STEP)
        adjoint = self.trial["gradient"] and not stacks.used(kernel, arguments)
        returned, results = trial_state.run_taichi(kernel, arguments, state, self.trial, arrays, adjoint)
        for argument in self.signature.outputs:
            array = made[argument.name].to_numpy() if argument.name in made else _plain(returned)
            results[f"{self.trial['id']}.output.{argument.name}"] = np.asarray(array, self.dtypes[argument.name])
        return results

    def gradient(
        self,
        wrt: tuple[str, ...],
        inputs: Mapping[str, np.ndarray],
        cotangents: Mapping[str, np.ndarray],
        stacks: _Stacks | None,
    ) -> dict[str, np.ndarray]:
        """The gradients by name: by Taichi's autodiff of the kernel, or by the backward kernel of the author.

        None where Taichi's own would be wrong.
        """
        if self.implementation.vjp:
            kernel = self.implementation.vjp[wrt]
            arguments, made = self._arguments(kernel, wrt, False, inputs, cotangents)
            kernel._primal(*arguments)
            return {name: made[f"grad_{name}"].to_numpy() for name in wrt}
        kernel = self.implementation.forward
        arguments, made = self._arguments(kernel, wrt, True, inputs, {})
        numbers = [int(array) for array in inputs.values() if array.ndim == 0]
        assert stacks is not None
        if stacks.used(kernel, arguments) and max(*self.dims.values(), *numbers, 0, 0) > _SAFE_SIZE:
            return {}
        kernel._primal(*arguments)
        for name, cotangent in cotangents.items():
            made[name].grad.from_numpy(cotangent)
        kernel._adjoint(*arguments)
        return {name: made[name].grad.to_numpy() for name in wrt}

    def _arguments(
        self,
        kernel: Any,
        wrt: tuple[str, ...],
        differentiate: bool,
        inputs: Mapping[str, np.ndarray],
        cotangents: Mapping[str, np.ndarray],
    ) -> tuple[list[Any], dict[str, Any]]:
        parameters = iter(parameters_of(self.signature, kernel, self.implementation, wrt, differentiate, self.dtypes))
        arguments: list[Any] = []
        made: dict[str, Any] = {}
        for each in kernel._primal.arguments:
            if is_template(each):
                arguments.append(self.implementation.constants[each.name])
                continue
            parameter = next(parameters)
            value = None
            if parameter.role in ("input", "updated"):
                value = inputs[parameter.name]
            elif parameter.role == "cotangent":
                value = cotangents[parameter.name]
            elif parameter.role == "output" and not differentiate and wrt:
                value = self.forward(inputs)[parameter.name]
            if not is_array(each):
                arguments.append(_by_value(parameter, value))
                continue
            array = _ndarray(parameter, self._shape(parameter), value)
            made[each.name] = array
            arguments.append(array)
        return arguments, made

    def _shape(self, parameter: Parameter) -> tuple[int, ...]:
        if parameter.role == "scratch":
            batch = self.signature.batch
            known = {**self.dims, "rows": self.dims[batch] if batch else 1}
            return tuple(int(eval(size, {}, known)) for size in parameter.shape)  # of the author's own file
        return tuple(self.dims[dim] for dim in self.signature.argument(parameter.name).dims[: parameter.rank])


def _ndarray(parameter: Parameter, shape: tuple[int, ...], value: np.ndarray | None) -> Any:
    import taichi as ti

    array = ti.ndarray(taichi_type(parameter.dtype, parameter.element), shape, needs_grad=parameter.gradient)
    array.from_numpy(np.zeros((*shape, *parameter.element), parameter.dtype) if value is None else value)
    return array


def _by_value(parameter: Parameter, value: np.ndarray | None) -> Any:
    assert value is not None
    return taichi_type(parameter.dtype, parameter.element)(value.tolist()) if parameter.element else value.item()


def _plain(returned: Any) -> Any:
    return returned.to_numpy() if hasattr(returned, "to_numpy") else returned


def _widen(kernel: Any, whole: set[str]) -> None:
    """Makes float64 of the float32 in a kernel's annotations, before it is compiled; not of the names in `whole`."""
    import taichi as ti
    from taichi.lang.matrix import MatrixType
    from taichi.types.ndarray_type import NdarrayType

    def wide(type_: Any) -> Any:
        if isinstance(type_, MatrixType):
            if type_.dtype is not None and type_.dtype not in (ti.f32, ti.f64, ti.f16, float):
                return type_
            return taichi_type("float64", (type_.n,) if type_.ndim == 1 else (type_.n, type_.m))
        return ti.f64 if type_ in (ti.f32, ti.f16, float, None) else type_

    for argument in kernel._primal.arguments:
        if is_template(argument) or argument.name in whole:
            continue
        if isinstance(argument.annotation, NdarrayType):
            argument.annotation.dtype = wide(argument.annotation.dtype)
        else:
            argument.annotation = wide(argument.annotation)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.stderr.flush()
        os._exit(1)
    sys.stdout.flush()
    os._exit(0)
