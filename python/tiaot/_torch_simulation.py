"""Programs over fields as differentiable operations on tensors: Simulation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from . import _core
from ._simulation import Program, Record, Run
from ._torch_operator import dtype_name


class Simulation:
    """Kernels over state as a differentiable function: fields in, fields out, as tensors.

    simulation(x, v) fills the fields named by `inputs`, makes one step, and returns those named by `outputs`, new
    tensors; a tuple where there are several. simulation(x, v, steps=T) makes T steps. All other fields start as the
    state does, or as `constants` says. Gradients go through the kernels' `grad` entries, step by step: about
    2 sqrt(T) copies of all fields are kept for T steps, of the steps in between only what was called, to be run again.

    module: from tiaot.open. run: the name of a kernel that takes no arguments, or several, called in this order; or a
    function run(state, step) that calls kernels, `state.move(0.01)`, with numbers and arrays of its own, in which no
    gradient is recorded; it can read `state.x`, not write it. inputs, outputs: names of fields; `outputs` are the
    `inputs` when None. constants: what further fields start with, by name. passive: names of fields and kernels that no
    gradient is to go through, although a run writes to them, or calls them.

    The state is the Simulation's own, calls and what the fields hold are copied: nothing that happens between a call
    and its gradient changes the gradient. Calls from several threads wait for each other.

    Raises ValueError for an unknown name, a wrong shape, or a run that calls its own Simulation; TypeError for another
    element type or device; NotImplementedError for a gradient through a kernel or a field that has none, for a second
    derivative and for forward mode; tiaot.ModuleError when the module has been closed.
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

    @torch.compiler.disable  # type: ignore[untyped-decorator,unused-ignore]  # not a program that torch could trace
    def __call__(self, *tensors: Tensor, steps: int = 1) -> Any:
        program = self._program
        program.check_call(len(tensors), steps)
        for name, tensor in zip(program.inputs, tensors, strict=True):
            self._check(name, tensor)
        record = Record()
        outputs = _Run.apply(program, steps, record, *tensors)
        if record.obstacle and any(output.requires_grad for output in outputs):
            raise NotImplementedError(record.obstacle)
        return outputs[0] if len(outputs) == 1 else outputs

    def _check(self, name: str, tensor: Any) -> None:
        program = self._program
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{program.label}: field '{name}': expected a torch.Tensor, got {type(tensor).__name__}")
        if tensor.device.type != "cpu" or tensor.layout is not torch.strided:
            got = f"one on {tensor.device}" if tensor.device.type != "cpu" else f"the layout {tensor.layout}"
            raise TypeError(f"{program.label}: field '{name}': expected a dense tensor on the CPU, got {got}")
        program.check(name, tensor.shape, dtype_name(tensor))
        if tensor.requires_grad and torch.is_grad_enabled() and not program.has_gradient(name):
            raise NotImplementedError(f"{program.label}: field '{name}': requires grad, but has no gradient")

    def __repr__(self) -> str:
        program = self._program
        return (
            f"<tiaot.torch.Simulation of {program.label}: {', '.join(program.inputs)} -> {', '.join(program.outputs)}>"
        )


class _Run(torch.autograd.Function):
    """A run; in the form that torch.func takes."""

    @staticmethod
    def forward(program: Program, steps: int, record: Record, *tensors: Tensor) -> tuple[Tensor, ...]:
        arrays = [tensor.detach().resolve_neg().numpy() for tensor in tensors]
        return tuple(map(torch.from_numpy, program.forward(arrays, steps, record)))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.program, _, ctx.record = inputs[:3]
        ctx.save_for_backward(*inputs[3:])
        ctx.set_materialize_grads(False)
        passive = [t for name, t in zip(ctx.program.outputs, output, strict=True) if not ctx.program.has_gradient(name)]
        ctx.mark_non_differentiable(*passive)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Any, ...]:
        if all(cotangent is None for cotangent in cotangents):
            return (None, None, None, *(None for _ in ctx.program.inputs))
        # The record has all that a gradient is made of. The inputs are asked for where the gradient is to be
        # differentiated in turn, for it to depend on them: torch then refuses those that were written to.
        inputs = ctx.saved_tensors if torch.is_grad_enabled() else ()
        gradients = iter(_PullBack.apply(ctx.program, ctx.record, len(inputs), *inputs, *cotangents))
        needed = zip(ctx.program.inputs, ctx.needs_input_grad[3:], strict=True)
        every = [(next(gradients) if ctx.program.has_gradient(name) else None, wanted) for name, wanted in needed]
        return (None, None, None, *(gradient if wanted else None for gradient, wanted in every))

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], program: Program, steps: int, record: Record, *tensors: Tensor
    ) -> tuple[Any, Any]:
        record.each = [Record() for _ in range(info.batch_size)]
        results = [
            _Run.apply(program, steps, own, *_element(tensors, in_dims[3:], i)) for i, own in enumerate(record.each)
        ]
        return _stacked(results)

    @staticmethod
    def jvp(ctx: Any, *_: Any) -> None:
        raise NotImplementedError(f"{ctx.program.label}: a Simulation has no forward-mode derivative (jvp)")


class _PullBack(torch.autograd.Function):
    """The gradients of the inputs that have one, from inputs, which may be left out, and cotangents; they have none."""

    @staticmethod
    def forward(program: Program, record: Record, count: int, *tensors: Tensor | None) -> tuple[Tensor, ...]:
        arrays = [None if each is None else each.detach().resolve_neg().numpy() for each in tensors[count:]]
        gradients = program.pull_back(record, arrays)
        return tuple(torch.from_numpy(gradient) for gradient in gradients if gradient is not None)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.program = inputs[0]

    @staticmethod
    def backward(ctx: Any, *_: Any) -> None:
        raise NotImplementedError(
            f"{ctx.program.label}: a derivative of a gradient was asked for; a Simulation has first derivatives only"
        )

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], program: Program, record: Record, count: int, *tensors: Tensor | None
    ) -> tuple[Any, Any]:
        records = record.each or [record] * info.batch_size
        results = [
            _PullBack.apply(program, own, count, *_element(tensors, in_dims[3:], i)) for i, own in enumerate(records)
        ]
        return _stacked(results)

    jvp = _Run.jvp


def _element(tensors: Sequence[Any], dims: Sequence[int | None], place: int) -> list[Any]:
    return [t if d is None else t.select(d, place) for t, d in zip(tensors, dims, strict=True)]


def _stacked(results: Sequence[tuple[Tensor, ...]]) -> tuple[Any, Any]:
    stacked = tuple(torch.stack(each) for each in zip(*results, strict=True))
    return stacked, tuple(0 for _ in stacked)
