"""Kernels on torch's tensors, with gradients: under autograd, torch.func, torch.compile and torch.export.

    dense_tanh = tiaot.torch.load("dense_tanh")
    y = dense_tanh(x, W, b)  # tensors; y.backward() goes through the module's vjp

Every kernel is also an operator of torch's dispatcher, `torch.ops.tiaot.<name>_<hash>`, which is what compiled and
exported programs call; the program that runs them makes it known again by loading the kernel here.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.compiler import is_dynamo_compiling

from . import _core, _load
from ._framework import Handle, bound, checked
from ._shapes import is_number
from ._torch_operator import Operator, dtype_name, operator_of, record
from ._torch_simulation import Simulation

__all__ = ["DenseTanh", "Kernel", "Layer", "Simulation", "load", "wrap"]

_HALF = (torch.float16, torch.bfloat16)


def load(name: str, *, upcast: bool = False) -> Kernel:
    """The kernel of that name that ships with tiaot; `upcast` is Kernel's. Raises what tiaot.load raises."""
    return Kernel(_load.load(name), upcast=upcast)


def wrap(kernel: _core.Kernel, *, upcast: bool = False) -> Kernel:
    """Any kernel on tensors: `wrap(tiaot.open("my_kernels.tiaot.so").my_kernel)`. `upcast` is
    Kernel's. TypeError for anything but a Kernel, and for a kernel over state.
    """
    return Kernel(checked(kernel), upcast=upcast)


def _dtype_of(value: Any) -> str:
    return dtype_name(value) if isinstance(value, Tensor) else ""


def _tensor_of(number: float, dtype: str) -> Tensor:
    return torch.tensor(number, dtype=getattr(torch, dtype))


class Kernel(Handle):
    """A kernel on tensors; from load or wrap.

    kernel(*inputs) computes the output, or a tuple where there are several, as new tensors; inputs may be given by
    their names. Its gradient with respect to the inputs that have one is recorded as for torch's own functions. So are
    forward mode, where the module has the kernel's jvp, and second derivatives, where it has the hvp too. Tensors are
    dense ones on the CPU or one CUDA device, of the kernel's element type; a strided one is copied first, as torch's
    own functions do. A Python number may stand for a tensor without dimensions; beside tensors on a CUDA device, inputs
    that the kernel takes by value may be on the CPU. On a CUDA device the work goes to torch's current stream, and the
    call does not wait for it.

    Tensors of float16 or bfloat16 that the kernel does not take as they are count as float32 under torch.autocast, or
    anywhere with `upcast`: they are cast in, and the results are cast to their type.

    `num_threads` limits the threads of a call and of its gradient; for calls on plain tensors, under autograd at most.

    Raises TypeError for another element type, device or layout, or a wrong number of arguments; ValueError for a wrong
    shape; NotImplementedError for a derivative that the module does not have, for third derivatives, for second ones
    under torch.compile, and for `num_threads` under torch.func, torch.compile and the like; tiaot.ModuleError when the
    module has been closed; RuntimeError when the CUDA driver reports a failure.
    """

    def __init__(self, kernel: _core.Kernel, *, upcast: bool = False) -> None:
        super().__init__(kernel)
        self._upcast = upcast
        self._operator = operator_of(kernel)
        self._op = self._operator.forward
        tensors = _core.for_tensors(kernel)
        general = functools.partial(_general, self._operator, upcast)
        self._call = _core.TensorCall(tensors, record, self._operator, general)
        self._numbers = self._operator.signature.numbers

    def __call__(self, *tensors: Tensor | float, num_threads: int | None = None, **named: Tensor | float) -> Any:
        if named:
            tensors = bound(self._operator.signature, tensors, named)
        if self._numbers:
            tensors = tuple(self._operator.signature.with_numbers(tensors, _dtype_of, _tensor_of))
        if num_threads is not None:
            return _with_threads(self._operator, self._upcast, num_threads, tensors)
        if is_dynamo_compiling():
            return _cast_around(self._op, self._operator, self._upcast, tensors)
        return self._call(*tensors)

    def __deepcopy__(self, _: Any) -> Kernel:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(type(self), upcast=self._upcast), (self._kernel,)


def _general(operator: Operator, upcast: bool, *tensors: Any) -> Any:
    """A call that is not plain, or whose tensors the kernel did not take."""
    operator.signature.check_count(len(tensors))
    return _cast_around(operator.general, operator, upcast, tensors)


def _cast_around(call: Any, operator: Operator, upcast: bool, tensors: tuple[Any, ...]) -> Any:
    """`call(*tensors)`; with half-precision tensors as float32, and results of their type, where that is the rule."""
    halves = [tensor for tensor in tensors if isinstance(tensor, Tensor) and tensor.dtype in _HALF]
    if not halves or operator.signature.takes(operator.signature.inputs, [_dtype_of(tensor) for tensor in tensors]):
        return call(*tensors)
    if not upcast and not torch.is_autocast_enabled(halves[0].device.type):
        return call(*tensors)
    results = call(*(t.float() if isinstance(t, Tensor) and t.dtype in _HALF else t for t in tensors))
    half = functools.reduce(torch.promote_types, [tensor.dtype for tensor in halves])
    if isinstance(results, tuple):
        return tuple(result.to(half) if result.dtype == torch.float32 else result for result in results)
    return results.to(half) if results.dtype == torch.float32 else results


def _with_threads(operator: Operator, upcast: bool, num_threads: int, tensors: tuple[Any, ...]) -> Any:
    label = operator.signature.label
    if not isinstance(num_threads, int):  # the kernel's TypeError would be taken for one about tensors
        raise TypeError(f"{label}: argument 'num_threads': expected an int or None, got {type(num_threads).__name__}")
    limited = operator.limited(num_threads)

    def refuse(*tensors: Any) -> None:
        operator.check(tensors)
        raise NotImplementedError(
            f"{label}: num_threads: expected plain tensors, got a call that torch transforms or "
            "traces: tiaot.set_num_threads limits these"
        )

    call = _core.TensorCall(limited.raw, record, limited, refuse)
    operator.signature.check_count(len(tensors))
    return _cast_around(call, operator, upcast, tensors)


class Layer(torch.nn.Module):
    """A kernel as a layer: some of its inputs belong to the layer, the others are its arguments, in their order.

    Layer(kernel, W=..., b=...) takes a tiaot.torch.Kernel, or a tiaot.Kernel, and for its own inputs tensors, NumPy
    arrays (copied) or, for inputs without dimensions, numbers. They become nn.Parameters under these names; buffers
    where the kernel has no gradient for them. Raises ValueError for a name that is no input and for a wrong shape,
    TypeError for another element type and for what is no tensor.
    """

    def __init__(self, kernel: Kernel | _core.Kernel, **parameters: Tensor | np.ndarray[Any, Any] | float) -> None:
        super().__init__()
        if not isinstance(kernel, Kernel):
            if not isinstance(kernel, _core.Kernel):
                raise TypeError(f"Layer: argument 'kernel': expected a Kernel, got {type(kernel).__name__}")
            kernel = wrap(kernel)
        self.kernel = kernel
        signature = kernel._operator.signature
        self._inputs = signature.inputs
        for name in parameters:
            if name not in self._inputs:
                raise ValueError(f"Layer: expected names of inputs, {', '.join(self._inputs)}, got {name!r}")
        own = {name: self._tensor(name, parameters[name]) for name in self._inputs if name in parameters}
        dtypes = [dtype_name(tensor) for tensor in own.values()]
        if kernel._upcast and not signature.takes(tuple(own), dtypes):
            dtypes = ["float32" if tensor.dtype in _HALF else dtype_name(tensor) for tensor in own.values()]
        signature.check_some(tuple(own), [tensor.shape for tensor in own.values()], dtypes)
        for name in parameters:
            tensor = own[name]
            if name not in signature.differentiable:
                self.register_buffer(name, tensor.detach())
            else:
                given = tensor if isinstance(tensor, torch.nn.Parameter) else torch.nn.Parameter(tensor)
                self.register_parameter(name, given)
        self._arguments = tuple(name for name in self._inputs if name not in parameters)

    def _tensor(self, name: str, value: Any) -> Tensor:
        signature = self.kernel._operator.signature
        if isinstance(value, Tensor):
            return value
        if isinstance(value, np.ndarray):
            return torch.from_numpy(np.array(value))  # TypeError for element types that torch lacks
        if is_number(value) and self._inputs.index(name) in signature.numbers:
            return _tensor_of(*signature.as_number(name, value))
        expected = "a number, a tensor or a NumPy array" if signature.numbers else "a tensor or a NumPy array"
        raise TypeError(f"Layer: argument '{name}': expected {expected}, got {type(value).__name__}")

    def forward(self, *arguments: Tensor | float) -> Any:
        """The kernel's output, or a tuple; TypeError for a wrong number of tensors, and what the kernel raises."""
        if len(arguments) != len(self._arguments):
            names = ", ".join(self._arguments)
            raise TypeError(f"Layer: expected {len(self._arguments)} tensors ({names}), got {len(arguments)}")
        given = iter(arguments)
        return self.kernel(*[next(given) if name in self._arguments else getattr(self, name) for name in self._inputs])

    def extra_repr(self) -> str:
        """The kernel's signature."""
        return self.kernel.signature


class DenseTanh(Layer):
    """y = tanh(W x + b) as a layer: x (..., in_features) to y (..., out_features).

    The arguments are those of torch.nn.Linear, and W (out_features, in_features) and b (out_features,) start as its
    weight and bias: uniform in +-1/sqrt(in_features). Without `bias`, b stays zero and is no parameter. `dtype` is
    float32, float64, or float16 or bfloat16, for which it computes in float32; the default dtype when None.
    """

    W: Tensor
    b: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        linear = torch.nn.Linear(in_features, out_features, bias, device, dtype)
        own = {"W": linear.weight, "b": linear.bias} if bias else {"W": linear.weight}
        super().__init__(load("dense_tanh", upcast=True), **own)
        self.in_features, self.out_features = in_features, out_features
        if not bias:
            self.register_buffer("b", self.W.detach().new_zeros(out_features), persistent=False)

    def reset_parameters(self) -> None:
        """Draws W and b anew."""
        limit = 1 / math.sqrt(self.in_features) if self.in_features else 0
        for parameter in self.parameters():
            torch.nn.init.uniform_(parameter, -limit, limit)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]  # one argument, which exported programs see
        """(..., in_features) to (..., out_features); raises what the kernel raises."""
        if not isinstance(x, Tensor) or x.dim() in (0, 2):
            return self.kernel(x, self.W, self.b)
        rows = x.unsqueeze(0) if x.dim() == 1 else x.flatten(0, -2)
        return self.kernel(rows, self.W, self.b).reshape(*x.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        """As torch.nn.Linear's."""
        has_bias = isinstance(self.b, torch.nn.Parameter)
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={has_bias}"
