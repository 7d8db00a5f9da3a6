"""Trials in Taichi itself: its JIT, forward and gradients; or forward, with indices checked or branches counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..author.declare import Declaration, Variant
from ..author.kernel_file import load_kernel_file
from ..author.parameters import Parameter, is_array, is_template, parameters_of, taichi_type
from ..author.sizes import number
from .branches import Branches
from .trial_session import Arrays, Record, Session
from .trial_state import TaichiState

# Taichi keeps the values of a variable that changes in a loop on a stack of 32 and writes beyond it. Here it has more;
# above this size a kernel with two such loops, one in the other, could go beyond that too, and its adjoint is left out.
_STACK = 256
_SAFE_SIZE = 15


def run_taichi(session: Session, path: str) -> None:
    import taichi as ti
    from taichi.lang.exception import TaichiAssertionError

    check_bounds = session.mode == "bounds"
    ti.init(
        arch=ti.cpu,
        offline_cache=False,
        fast_math=False,
        log_level=ti.CRITICAL if check_bounds else ti.ERROR,
        cpu_max_num_threads=2,
        ad_stack_size=_STACK,
        debug=check_bounds,
    )
    file = load_kernel_file(path)
    declarations = {each.family.name: each for each in file.declarations}
    state = TaichiState(file.fields)
    ti.lang.impl.get_runtime().materialize()  # fields, before kernels are compiled
    branches = Branches() if session.mode == "branches" else None
    for trial, arrays in session.each():
        session.say(trial, doing="forward")
        jit = _Jit(declarations[trial["kernel"]], trial)
        if branches:
            branches.start(trial["kernel"])
        try:
            if trial["fields"]:
                jit.run_on_state(session, state, arrays, session.mode == "jit")
            else:
                jit.run(session, arrays, session.mode == "jit" or (branches and jit.implementation.vjp))
        except TaichiAssertionError as error:
            session.say(trial, failed=_last_lines(str(error)))
        if branches:
            every, gone = branches.found()
            session.say(trial, ways=[each.record() for each in every], gone=[each.text() for each in gone])


def _last_lines(text: str) -> str:
    """What Taichi says of an index, without the marks under its source."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not set(line.strip()) <= {"^"}]
    return "; ".join(lines)


class _Jit:
    """A kernel of one variant in Taichi itself, at one point."""

    def __init__(self, declaration: Declaration, trial: Record) -> None:
        self.trial = trial
        self.signature = declaration.family.signature
        self.dims: dict[str, int] = trial["dims"]
        variant = Variant(trial["variant"]["dtype"], trial["variant"]["sizes"])
        self.implementation = declaration.make(variant)
        self.dtypes = {each.name: declaration.family.dtype(each.name, variant) for each in self.signature.arguments}

    def run(self, session: Session, arrays: Arrays, gradients: object) -> None:
        inputs = {name: arrays[f"input.{name}"] for name in self.trial["inputs"]}
        cotangents = {name: arrays[f"cotangent.{name}"] for name in self.trial["outputs"]}
        made = self._forward(inputs)
        session.keep(self.trial, "outputs", {f"output.{name}": array for name, array in made.items()})
        results = {}
        for wrt in self.trial["wrt"] if gradients else []:
            if self.implementation.autodiff and not self._stack_is_safe(inputs):
                continue
            session.say(self.trial, doing=f"vjp, wrt {' '.join(wrt)}")
            for name, array in self._gradient(tuple(wrt), inputs, cotangents).items():
                results[f"gradient.{' '.join(wrt)}.{name}"] = array
        session.keep(self.trial, "gradients", results)

    def run_on_state(self, session: Session, state: TaichiState, arrays: Arrays, gradients: bool) -> None:
        inputs = {name: arrays[f"input.{name}"] for name in self.trial["inputs"]}
        kernel = self.implementation.forward
        arguments, made = self._arguments(kernel, (), False, inputs, {})
        adjoint = gradients and self.trial["gradient"] and self._stack_is_safe(inputs)
        returned = state.run(kernel, arguments, session, self.trial, arrays, adjoint)
        results = {}
        for argument in self.signature.outputs:
            array = made[argument.name].to_numpy() if argument.name in made else _plain(returned)
            results[f"output.{argument.name}"] = np.asarray(array, self.dtypes[argument.name])
        session.keep(self.trial, "outputs", results)

    def _stack_is_safe(self, inputs: Arrays) -> bool:
        numbers = [int(array) for array in inputs.values() if array.ndim == 0 and array.dtype.kind in "iu"]
        return not self.trial["stacks"] or max(*self.dims.values(), *numbers, 0, 0) <= _SAFE_SIZE

    def _forward(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """The outputs by name."""
        arguments, made = self._arguments(self.implementation.forward, (), False, inputs, {})
        returned = self.implementation.forward._primal(*arguments)
        results = {}
        for argument in self.signature.outputs:
            name = argument.name
            results[name] = made[name].to_numpy() if name in made else np.asarray(_plain(returned), self.dtypes[name])
        return results

    def _gradient(self, wrt: tuple[str, ...], inputs: Arrays, cotangents: Arrays) -> dict[str, np.ndarray]:
        """The gradients by name: by Taichi's autodiff of the kernel, or by the backward kernel of the author."""
        if self.implementation.vjp:
            kernel = self.implementation.vjp[wrt]
            arguments, made = self._arguments(kernel, wrt, False, inputs, cotangents)
            kernel._primal(*arguments)
            return {name: made[f"grad_{name}"].to_numpy() for name in wrt}
        kernel = self.implementation.forward
        arguments, made = self._arguments(kernel, wrt, True, inputs, {})
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
                value = self._forward(inputs)[parameter.name]
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
            return tuple(number(size, known) for size in parameter.shape)
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
