"""A kernel as an operator of torch's dispatcher, and under autograd. Knows nothing of layers."""

from __future__ import annotations

import copy
import itertools
import keyword
import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from . import _core
from ._shapes import Signature
from ._torch_functions import Forward, as_tuple, vjp

_core.prepare_torch(torch)

_library = torch.library.Library("tiaot", "DEF")
_operators: dict[str, Operator] = {}
_lock = threading.Lock()


class Operator:
    """One kernel as an operator: what its forward and its vjp are under each of torch's systems."""

    def __init__(self, name: str, kernel: _core.Kernel) -> None:
        self.name = name
        self.signature = signature = Signature(kernel)
        self.raw: Any = _core.for_tensors(kernel)
        self.single = len(signature.outputs) == 1
        self.has_every_gradient = signature.differentiable == signature.inputs
        self._plans: dict[tuple[bool, ...], list[tuple[str, ...]]] = {}
        self._define()
        packet = getattr(torch.ops.tiaot, name)
        self.forward = packet.default
        self.vjp_op: Any = getattr(torch.ops.tiaot, f"{name}_vjp").default if signature.differentiable else None

    def limited(self, num_threads: int) -> Operator:
        """The same with a limit to the threads, for plain tensors: what goes through the dispatcher has none."""
        twin = copy.copy(self)
        twin.raw = _Limited(self.raw, num_threads)
        return twin

    # The two computations, on tensors that hold their values. They enter no device and name no stream: the kernel works
    # on the tensors' device and on torch's current stream there, and its results are torch's own memory.

    def _run_forward(self, *tensors: Tensor) -> Any:
        return self.raw(*tensors)

    def _run_vjp(self, *arguments: Any) -> Any:
        *operands, needed = arguments
        return self._complete(needed, self.run_vjp(needed, operands), self._placed(operands))

    def run_vjp(self, needed: Sequence[bool], operands: Sequence[Tensor]) -> list[Tensor]:
        """The gradients of the inputs that are needed. `operands`: inputs, then the cotangents of all outputs."""
        calls = self._plan(tuple(needed))
        if len(calls) == 1:
            gradients = list(self.raw.vjp(*operands, wrt=calls[0]))
        else:
            gradients = [gradient for wrt in calls for gradient in self.raw.vjp(*operands, wrt=wrt)]
        if self.signature.values:  # one that stayed on the CPU gets its gradient there, which is a copy to wait for
            inputs = itertools.compress(operands, needed)
            gradients = [g.to(t.device) if g.device != t.device else g for g, t in zip(gradients, inputs, strict=True)]
        return gradients

    def along(self, kind: str, wrt: tuple[str, ...], operands: Sequence[Tensor]) -> list[Tensor]:
        """What an entry along tangents, a "jvp" or an "hvp", computes, through the dispatcher, for tensors of any
        kind: the tangents of the outputs, or of the gradients of the inputs in `wrt`.
        """
        return list(getattr(torch.ops.tiaot, f"{self.name}_{kind}").default(list(operands), list(wrt)))

    def _run_jvp(self, operands: Sequence[Tensor], wrt: Sequence[str]) -> list[Tensor]:
        return list(as_tuple(self.raw.jvp(*operands, wrt=tuple(wrt))[1]))

    def _run_hvp(self, operands: Sequence[Tensor], wrt: Sequence[str]) -> list[Tensor]:
        return list(self.raw.hvp(*operands, wrt=tuple(wrt))[1])

    def vjp(self, needed: Sequence[bool], operands: Sequence[Tensor]) -> list[Tensor]:
        """The same through the dispatcher, for tensors of any kind."""
        results = as_tuple(self.vjp_op(*operands, list(needed)))
        return list(itertools.compress(results, self._of_differentiable(needed)))

    def _complete(self, needed: Sequence[bool], gradients: Sequence[Any], model: Any) -> Any:
        """As the operator returns it: a tensor for every differentiable input, an empty one where none is needed."""
        rest = iter(gradients)
        every = [next(rest) if wanted else model.new_empty(0) for wanted in self._of_differentiable(needed)]
        return every[0] if len(every) == 1 else tuple(every)

    def _of_differentiable(self, needed: Sequence[bool]) -> list[bool]:
        wanted = dict(zip(self.signature.inputs, needed, strict=True))
        return [wanted[name] for name in self.signature.differentiable]

    def _plan(self, needed: tuple[bool, ...]) -> list[tuple[str, ...]]:
        plan = self._plans.get(needed)
        if plan is None:
            wrt = tuple(itertools.compress(self.signature.inputs, needed))
            plan = self._plans[needed] = self.signature.calls(wrt)
        return plan

    # What calls go through that are not plain.

    def general(self, *tensors: Any) -> Any:
        self.check(tensors)
        if _transforming() or torch.autograd.forward_ad._current_level >= 0:
            return Forward.apply(self, *tensors)
        return self.forward(*tensors)

    def check(self, tensors: Sequence[Any]) -> None:
        """Raises what a call with these arguments has to."""
        self.signature.check_count(len(tensors))
        for name, tensor in zip(self.signature.inputs, tensors, strict=True):
            if not isinstance(tensor, Tensor):
                got = f"{type(tensor).__module__}.{type(tensor).__qualname__}"
                self._refuse(name, "a torch.Tensor", got.removeprefix("builtins."))
            if torch._C._functorch.is_functorch_wrapped_tensor(tensor) and not _transforming():
                self._refuse(name, "a tensor that holds its values", "one that has left the transform it belongs to")
            if tensor.layout is not torch.strided or tensor.is_nested:
                kind = "nested" if tensor.is_nested else str(tensor.layout)
                self._refuse(name, "a dense tensor", f"one with the layout {kind}")
            if tensor.device.type not in ("cpu", "cuda", "meta"):
                self._refuse(name, "a tensor on the CPU or a CUDA device", f"one on {tensor.device}")
        self._check_devices(tensors)
        if torch.is_grad_enabled():
            self.check_gradients([tensor.requires_grad for tensor in tensors])
        self.signature.results([tensor.shape for tensor in tensors], [dtype_name(tensor) for tensor in tensors])

    def _check_devices(self, tensors: Sequence[Tensor]) -> None:
        """Raises TypeError where some are on one CUDA device and others are not: only values may stay on the CPU."""
        names = [f"argument '{name}'" for name in self.signature.inputs]
        names += [f"cotangent of '{name}'" for name in self.signature.outputs]
        place = next(((n, t.device) for n, t in zip(names, tensors, strict=False) if t.device.type == "cuda"), None)
        if place is None:
            return
        values = [name in self.signature.values for name in self.signature.inputs]
        for i, (name, tensor) in enumerate(zip(names, tensors, strict=False)):
            if tensor.device == place[1] or (i < len(values) and values[i] and tensor.device.type == "cpu"):
                continue
            expected = f"a tensor on {place[1]}, where {place[0].removeprefix('argument ')} is"
            raise TypeError(f"{self.signature.label}: {name}: expected {expected}, got one on {tensor.device}")

    @staticmethod
    def _placed(tensors: Sequence[Tensor]) -> Tensor:
        """One that is where the results go: not a value that has stayed on the CPU."""
        return next((tensor for tensor in tensors if tensor.device.type != "cpu"), tensors[0])

    def _refuse(self, name: str, expected: str, got: str) -> None:
        raise TypeError(f"{self.signature.label}: argument '{name}': expected {expected}, got {got}")

    def scatter(self, needed: Sequence[bool], gradients: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
        """A gradient or None for each input."""
        rest = iter(gradients)
        return tuple(next(rest) if wanted else None for wanted in needed)

    # Registration with the dispatcher.

    def _define(self) -> None:
        signature = self.signature
        inputs = ", ".join(f"Tensor {_parameter(name)}" for name in signature.inputs)
        cotangents = ", ".join(f"Tensor cotangent_{name}" for name in signature.outputs)
        result = "Tensor" if self.single else f"({', '.join('Tensor' for _ in signature.outputs)})"
        forward, vjp = f"tiaot::{self.name}", f"tiaot::{self.name}_vjp"
        tags = (torch.Tag.pt2_compliant_tag,)
        _library.define(f"{self.name}({inputs}) -> {result}", tags=tags)
        for key in ("CPU", "CUDA"):
            _library.impl(self.name, self._run_forward, key)
        torch.library.register_fake(forward, self._fake_forward, lib=_library)
        torch.library.register_vmap(forward, self._map_forward, lib=_library)
        library: Any = _RefusingTangents(signature.label)
        torch.library.register_autograd(forward, self._backward, setup_context=self._keep_inputs, lib=library)
        count = len(signature.differentiable)
        if count == 0:
            return
        gradients = "Tensor" if count == 1 else f"({', '.join(['Tensor'] * count)})"
        _library.define(f"{self.name}_vjp({inputs}, {cotangents}, bool[] needed) -> {gradients}", tags=tags)
        for key in ("CPU", "CUDA"):
            _library.impl(f"{self.name}_vjp", self._run_vjp, key)
        torch.library.register_fake(vjp, self._fake_vjp, lib=_library)
        torch.library.register_vmap(vjp, self._map_vjp, lib=_library)
        torch.library.register_autograd(vjp, self._second_derivative, lib=library)
        for kind, run, fake in (("jvp", self._run_jvp, self._fake_jvp), ("hvp", self._run_hvp, self._fake_hvp)):
            if signature.covering(kind, ()) is not None:
                _library.define(f"{self.name}_{kind}(Tensor[] operands, str[] wrt) -> Tensor[]")
                for key in ("CPU", "CUDA"):
                    _library.impl(f"{self.name}_{kind}", run, key)
                torch.library.register_fake(f"tiaot::{self.name}_{kind}", fake, lib=_library)

    def _fake_forward(self, *tensors: Tensor) -> Any:
        made = self.outputs_like(tensors)
        return made[0] if self.single else tuple(made)

    def outputs_like(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Tensors of the outputs' shapes and element types, for inputs; their content is undefined. Raises what a call
        with these shapes, element types and devices has to.
        """
        shapes, dtypes = [tensor.shape for tensor in tensors], [dtype_name(tensor) for tensor in tensors]
        results = self.signature.results(shapes, dtypes)
        self._check_devices(tensors)
        model = self._placed(tensors)
        return [model.new_empty(shape, dtype=getattr(torch, dtype)) for shape, dtype in results]

    def _fake_vjp(self, *arguments: Any) -> Any:
        *tensors, needed = arguments
        self.signature.check_cotangents(
            [tensor.shape for tensor in tensors], [dtype_name(tensor) for tensor in tensors]
        )
        self._check_devices(tensors)
        gradients = [tensor.new_empty(tensor.shape) for tensor in itertools.compress(tensors, needed)]
        return self._complete(needed, gradients, self._placed(tensors))

    def _fake_jvp(self, operands: Sequence[Tensor], wrt: Sequence[str]) -> list[Tensor]:
        return self.outputs_like(operands[: len(self.signature.inputs)])

    def _fake_hvp(self, operands: Sequence[Tensor], wrt: Sequence[str]) -> list[Tensor]:
        inputs = zip(self.signature.inputs, operands, strict=False)
        return [tensor.new_empty(tensor.shape) for name, tensor in inputs if name in wrt]

    def _keep_inputs(self, ctx: Any, inputs: tuple[Tensor, ...], output: Any) -> None:
        ctx.save_for_backward(*inputs)

    def _backward(self, ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        needed = ctx.needs_input_grad
        return self.scatter(needed, self.vjp(needed, (*ctx.saved_tensors, *cotangents)))

    def check_gradients(self, wanted: Sequence[bool]) -> None:
        """Raises NotImplementedError where an input requires grad that the module has no gradient for."""
        self.signature.check_count(len(wanted))
        for name, want in zip(self.signature.inputs, wanted, strict=True):
            if want and name not in self.signature.differentiable:
                raise NotImplementedError(
                    f"{self.signature.label}: argument '{name}': requires grad, but the module has no gradient for it"
                    f"{self.signature.why_no_gradient(name)}"
                )

    def _second_derivative(self, ctx: Any, *_: Any) -> None:
        raise NotImplementedError(
            f"{self.signature.label}: a derivative of its gradient was asked for, which is there under torch.autograd "
            "and torch.func, not for tensors that torch traces and the like"
        )

    # vmap: the mapped dimension joins the batch where that leaves no sum to take apart; otherwise call by call.

    def _map_forward(self, info: Any, in_dims: Sequence[int | None], *tensors: Tensor) -> tuple[Any, Any]:
        results = self.map_forward(info, in_dims, tensors, lambda *each: as_tuple(self.forward(*each)))
        return (results[0], 0) if self.single else (results, tuple(0 for _ in results))

    def _map_vjp(self, info: Any, in_dims: Sequence[Any], *arguments: Any) -> tuple[Any, Any]:
        *tensors, needed = arguments
        results = self.map_vjp(info, in_dims[: len(tensors)], needed, tensors, lambda *each: self.vjp(needed, each))
        dims = [0 if wanted else None for wanted in self._of_differentiable(needed)]
        return self._complete(needed, results, self._placed(tensors)), dims[0] if len(dims) == 1 else tuple(dims)

    def map_vjp(
        self,
        info: Any,
        in_dims: Sequence[int | None],
        needed: Sequence[bool],
        tensors: Sequence[Tensor],
        call: Callable[..., Sequence[Tensor]],
    ) -> tuple[Tensor, ...]:
        signature = self.signature
        wanted = tuple(itertools.compress(signature.inputs, needed))
        return self._map(info, in_dims, tensors, (*signature.inputs, *signature.outputs), wanted, call)

    def map_forward(
        self, info: Any, in_dims: Sequence[int | None], tensors: Sequence[Tensor], call: Callable[..., Sequence[Tensor]]
    ) -> tuple[Tensor, ...]:
        return self._map(info, in_dims, tensors, self.signature.inputs, self.signature.outputs, call)

    def map_along(
        self,
        kind: str,
        info: Any,
        in_dims: Sequence[int | None],
        wrt: tuple[str, ...],
        tensors: Sequence[Tensor],
        call: Callable[..., Sequence[Tensor]],
    ) -> tuple[Tensor, ...]:
        inputs, outputs = self.signature.inputs, self.signature.outputs
        if kind == "jvp":
            return self._map(info, in_dims, tensors, (*inputs, *wrt), outputs, call)
        return self._map(info, in_dims, tensors, (*inputs, *outputs, *wrt), wrt, call)

    def _map(
        self,
        info: Any,
        in_dims: Sequence[int | None],
        tensors: Sequence[Tensor],
        names: Sequence[str],
        made: Sequence[str],
        call: Callable[..., Sequence[Tensor]],
    ) -> tuple[Tensor, ...]:
        """The results of `call` for each place along the mapped dimensions, stacked in front. `names` and `made` are
        the arguments that the tensors and the results have the shapes of.
        """
        count = info.batch_size
        mapped = [t if d is None else t.movedim(d, 0) for t, d in zip(tensors, in_dims, strict=True)]
        is_mapped = [d is not None for d in in_dims]
        batched = [name in self.signature.batched for name in names]
        foldable = self.signature.has_batch and all(name in self.signature.batched for name in made)
        if foldable and not any(m and not b for m, b in zip(is_mapped, batched, strict=True)):
            rows = next(t.shape[1 if m else 0] for t, m, b in zip(mapped, is_mapped, batched, strict=True) if b)
            folded = [
                (t if m else t.unsqueeze(0).expand(count, *t.shape)).flatten(0, 1) if b else t
                for t, m, b in zip(mapped, is_mapped, batched, strict=True)
            ]
            return tuple(result.reshape(count, rows, *result.shape[1:]) for result in call(*folded))
        if count == 0:  # no call to learn the shapes from: one on zeros, of which nothing is kept
            once = call(*(t.new_zeros(t.shape[1:]) if m else t for t, m in zip(mapped, is_mapped, strict=True)))
            return tuple(result.unsqueeze(0)[:0] for result in once)
        each = [call(*(t[i] if m else t for t, m in zip(mapped, is_mapped, strict=True))) for i in range(count)]
        return tuple(torch.stack(results) for results in zip(*each, strict=True))


class _RefusingTangents:
    """The library, for kernels of autograd, which are to refuse tangents: torch would take an operator that has no rule
    for them, as none has that is registered from Python, for a constant. Those of Forward and its like never come here.
    """

    def __init__(self, label: str) -> None:
        self._label = label

    def impl(self, name: str, kernel: Callable[..., Any], key: str, *, with_keyset: bool) -> None:
        def refusing(keyset: Any, *arguments: Any) -> Any:
            if torch.autograd.forward_ad._current_level >= 0 and torch._C._is_fwd_grad_enabled():
                for each in arguments:
                    if isinstance(each, Tensor) and torch.autograd.forward_ad.unpack_dual(each).tangent is not None:
                        raise NotImplementedError(
                            f"{self._label}: there is no forward-mode derivative under torch.compile and of the "
                            "operator itself: call the tiaot.torch.Kernel, and do not compile the call"
                        )
            return kernel(keyset, *arguments)

        _library.impl(name, refusing, key, with_keyset=with_keyset)


class _Limited:
    """A kernel of for_tensors with a limit to its threads."""

    def __init__(self, kernel: Any, num_threads: int) -> None:
        self._kernel = kernel
        self._num_threads = num_threads

    def __call__(self, *tensors: Tensor) -> Any:
        return self._kernel(*tensors, num_threads=self._num_threads)

    def vjp(self, *operands: Tensor, wrt: tuple[str, ...]) -> Any:
        return self._kernel.vjp(*operands, wrt=wrt, num_threads=self._num_threads)

    def jvp(self, *operands: Tensor, wrt: tuple[str, ...]) -> Any:
        return self._kernel.jvp(*operands, wrt=wrt, num_threads=self._num_threads)

    def hvp(self, *operands: Tensor, wrt: tuple[str, ...]) -> Any:
        return self._kernel.hvp(*operands, wrt=wrt, num_threads=self._num_threads)


class _Recorded(torch.autograd.Function):
    """The quick form, for plain tensors under torch.autograd alone."""

    @staticmethod
    def forward(ctx: Any, operator: Operator, *tensors: Tensor) -> Any:
        if not operator.has_every_gradient:
            operator.check_gradients(ctx.needs_input_grad[1:])
        ctx.operator = operator
        ctx.save_for_backward(*tensors)
        return operator.raw(*tensors)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Any, ...]:
        operator: Operator = ctx.operator
        needed = ctx.needs_input_grad[1:]
        operands = (*ctx.saved_tensors, *cotangents)
        if torch.is_grad_enabled():  # create_graph=True: the gradient itself may be asked for its gradient
            gradients = list(vjp(operator, needed, operands))
        else:
            try:
                gradients = operator.run_vjp(needed, operands)
            except TypeError:  # is_grads_batched=True wraps the cotangents, which the dispatcher unwraps
                gradients = operator.vjp(needed, operands)
        return (None, *gradients) if all(needed) else (None, *operator.scatter(needed, gradients))


# Function.apply looks for transforms and signatures first, which takes as long as all the rest; TensorCall has looked.
record = super(torch.autograd.Function, _Recorded).apply


def _transforming() -> bool:
    """Whether one of torch.func's transforms is at work."""
    return torch._C._are_functorch_transforms_active()


def dtype_name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _parameter(name: str) -> str:
    return name + "_" if keyword.iskeyword(name) else name


def operator_of(kernel: _core.Kernel) -> Operator:
    """The operator of a kernel, registered at first need; the same for every handle on the same module's contents."""
    variant = "" if len(kernel.variants) != 1 else f"_{kernel.variants[0]}"
    name = f"{kernel.name}_{kernel.module.hash[:12]}{variant}"
    with _lock:
        operator = _operators.get(name)
        if operator is None:
            operator = _operators[name] = Operator(name, kernel)
        elif operator.raw.module.closed:
            operator.raw = _core.for_tensors(kernel)
        return operator
