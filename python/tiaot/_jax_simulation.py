"""Programs over fields as differentiable functions of JAX arrays: Simulation. Compiled programs call back for runs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NoReturn

import jax
import numpy as np
from jax.interpreters import mlir

from . import _core
from ._framework import bound
from ._jax_primitives import FORWARD, VJP, Callee, Names, call, untyped
from ._simulation import Program, Record, Run


class Simulation:
    """Kernels over state as a differentiable function: fields in, fields out, as JAX arrays.

    simulation(x, v) fills the fields named by `inputs`, makes one step, and returns those named by `outputs`; a tuple
    where there are several. simulation(x, v, steps=T), with a Python number, makes T steps. All other fields start as
    the state does, or as `constants` says. The gradient runs the steps again, with about 2 sqrt(T) copies of all
    fields at a time.

    Arguments are those of tiaot.torch.Simulation. `run` has to be a pure function of the fields and the number of the
    step: JAX calls it when it likes, and again for a gradient. Works under jit, grad, vmap (one run after another),
    scan and shard_map, on the CPU; a compiled program calls back into this process, so that it cannot be exported.

    Raises ValueError for an unknown name or a wrong shape, TypeError for another element type, NotImplementedError for
    an input whose field has no gradient, a second derivative and forward mode; when the program runs, JAX's own error
    for what goes wrong in a run, such as a kernel without a gradient.
    """

    def __init__(
        self,
        module: _core.Module,
        run: str | Sequence[str] | Callable[[Run, int], Any],
        inputs: Sequence[str],
        outputs: Sequence[str] | None = None,
        *,
        constants: Mapping[str, Any] | None = None,
        passive: Sequence[str] = (),
    ) -> None:
        self._program = Program(module, run, inputs, outputs, constants, passive)
        self._call = jax.jit(self._run, static_argnames="steps", inline=True)

    def __call__(self, *arrays: Any, steps: int = 1, **named: Any) -> Any:
        program = self._program
        arrays = bound(program, arrays, named) if named else arrays
        program.check_count(len(arrays))
        program.check_steps(steps)
        for name, array in zip(program.inputs, arrays, strict=True):
            if not isinstance(array, (jax.Array, np.ndarray)):
                got = type(array).__name__
                raise TypeError(f"{program.label}: field '{name}': expected a jax.Array, got {got}")
            program.check(name, array.shape, str(array.dtype))
        for name in (*program.inputs, *program.outputs):
            dtype = program.fields[name].dtype
            if jax.dtypes.canonicalize_dtype(dtype) != dtype:
                raise TypeError(f"{program.label}: field '{name}': {dtype} needs jax_enable_x64")
        return self._call(*arrays, steps=steps)

    def _run(self, *arrays: Any, steps: int) -> Any:
        outputs = call(*arrays, kernel=_RunCallee(self._program, steps))
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def __repr__(self) -> str:
        program = self._program
        return f"<tiaot.jax.Simulation of {program.label}: {', '.join(program.inputs)} -> {', '.join(program.outputs)}>"


class _FieldSignature:
    """A program's inputs and outputs as the primitives see a kernel's. There is no batch."""

    batched: frozenset[str] = frozenset()
    has_batch = False

    def __init__(self, program: Program) -> None:
        self._program = program
        self.label = program.label
        self.inputs, self.outputs = program.inputs, program.outputs
        self.differentiable = tuple(filter(program.has_gradient, program.inputs))

    def results(self, shapes: Sequence[Any], dtypes: Sequence[str]) -> list[tuple[Any, str]]:
        for name, shape, dtype in zip(self.inputs, shapes, dtypes, strict=True):
            self._program.check(name, shape, dtype)
        fields = [self._program.fields[name] for name in self.outputs]
        return [(field.shape, str(field.dtype)) for field in fields]

    def why_no_gradient(self, name: str) -> str:
        """What to add to a message about an input that has no gradient."""
        return ""

    def covering(self, kind: str, names: Collection[str]) -> None:
        """No derivative along tangents is there."""

    def needed(self, kind: str, names: Collection[str]) -> NoReturn:
        raise NotImplementedError(f"{self.label}: a run has first derivatives only, in reverse mode, and no {kind}")

    def calls(self, wrt: Sequence[str]) -> list[Names]:
        return [tuple(wrt)] if wrt else []


class _RunCallee(Callee):
    """A number of steps of a program."""

    def __init__(self, program: Program, steps: int) -> None:
        super().__init__((program, steps), _FieldSignature(program))
        self._program = program
        self._steps = steps

    def lower(self, context: Any, values: Any, entry: int, wrt: Names, mapped: int, names: tuple[Names, Names]) -> Any:
        types = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in context.avals_out]
        if entry not in (FORWARD, VJP):
            self.signature.needed("jvp", wrt)
        run = self._forward if entry == FORWARD else self._vjp

        def function(*arrays: Any) -> Any:
            return jax.pure_callback(lambda *given: run(wrt, list(map(np.asarray, given))), types, *arrays)

        return mlir.lower_fun(function, multiple_results=True)(untyped(context), *values)

    def _forward(self, _: Names, arrays: Sequence[Any]) -> list[Any]:
        return self._program.forward(arrays, self._steps, None)

    def _vjp(self, wrt: Names, operands: Sequence[Any]) -> list[Any]:
        program, record = self._program, Record()
        count = len(program.inputs)
        program.forward(operands[:count], self._steps, record)
        gradients = dict(zip(program.inputs, program.pull_back(record, operands[count:]), strict=True))
        return [gradients[name] for name in wrt]
