"""Kernels on torch's tensors, with gradients: under autograd, torch.func, torch.compile and torch.export.

    dense_tanh = tiaot.torch.load("dense_tanh")
    y = dense_tanh(x, W, b)  # tensors; y.backward() goes through the module's vjp

Every kernel is also an operator of torch's dispatcher, `torch.ops.tiaot.<name>_<hash>`, which is what compiled and
exported programs call; the program that runs them makes it known again by loading the kernel here.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_dynamo_compiling

from . import _core, _load
from ._framework import Handle, checked
from ._torch_operator import dtype_name, operator_of, record

__all__ = ["DenseTanh", "Kernel", "Layer", "load", "wrap"]


def load(name: str) -> Kernel:
    """The kernel of that name that ships with tiaot, on tensors. Raises what tiaot.load raises."""
    return Kernel(_load.load(name))


def wrap(kernel: _core.Kernel) -> Kernel:
    """Any kernel on tensors: `wrap(tiaot.open("my_kernels.tiaot.so").my_kernel)`. TypeError for anything but a Kernel,
    and for a kernel over state.
    """
    return Kernel(checked(kernel))


def _dtype_of(value: Any) -> str:
    return dtype_name(value) if isinstance(value, Tensor) else ""


def _tensor_of(number: float, dtype: str) -> Tensor:
    return torch.tensor(number, dtype=getattr(torch, dtype))


class Kernel(Handle):
    """A kernel on tensors; from load or wrap.

    kernel(*inputs) computes the output, or a tuple where there are several, as new tensors. Its gradient with respect
    to the inputs that have one is recorded as for torch's own functions, for first derivatives. Tensors are dense ones
    on the CPU or one CUDA device, of the kernel's element type; a strided one is copied first, as torch's own functions
    do. A Python number may stand for a tensor without dimensions; beside tensors on a CUDA device, inputs that the
    kernel takes by value may be on the CPU. On a CUDA device the work goes to torch's current stream, and the call does
    not wait for it.

    Raises TypeError for another element type, device or layout, or a wrong number of arguments; ValueError for a wrong
    shape; NotImplementedError for a gradient or second derivative that the module does not have; tiaot.ModuleError when
    the module has been closed; RuntimeError when the CUDA driver reports a failure.
    """

    def __init__(self, kernel: _core.Kernel) -> None:
        super().__init__(kernel)
        self._operator = operator_of(kernel)
        self._op = self._operator.forward
        tensors = _core.for_tensors(kernel)
        self._call = _core.TensorCall(tensors, record, self._operator, self._operator.general)

        self._numbers = self._operator.signature.numbers

    def __call__(self, *tensors: Tensor | float) -> Any:
        if self._numbers:
            tensors = tuple(self._operator.signature.with_numbers(tensors, _dtype_of, _tensor_of))
        if is_dynamo_compiling():
            return self._op(*tensors)
        return self._call(*tensors)

    def __deepcopy__(self, _: Any) -> Kernel:
        return self


class Layer(torch.nn.Module):
    """A kernel as a layer: some of its inputs are the layer's parameters, the others its arguments, in their order.

    Layer(kernel, W=..., b=...) takes tensors, which become nn.Parameters under these names; shapes and element types
    are those of the kernel's signature. Raises ValueError for a name that is no input.
    """

    def __init__(self, kernel: Kernel, **parameters: Tensor) -> None:
        super().__init__()
        self.kernel = kernel
        self._inputs = kernel._operator.signature.inputs
        for name, value in parameters.items():
            if name not in self._inputs:
                raise ValueError(f"Layer: expected names of inputs, {', '.join(self._inputs)}, got {name!r}")
            self.register_parameter(name, value if isinstance(value, torch.nn.Parameter) else torch.nn.Parameter(value))
        self._arguments = tuple(name for name in self._inputs if name not in parameters)

    def forward(self, *arguments: Tensor) -> Any:
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
    """y = tanh(W x + b) as a layer: x (B, in_features) to y (B, out_features).

    W (out_features, in_features) and b (out_features,) start as those of torch.nn.Linear: uniform in
    +-1/sqrt(in_features). `dtype` is torch.float32 or torch.float64, the default dtype when None.
    """

    W: Tensor
    b: Tensor

    def __init__(self, in_features: int, out_features: int, dtype: torch.dtype | None = None) -> None:
        linear = torch.nn.Linear(in_features, out_features, dtype=dtype)
        super().__init__(load("dense_tanh"), W=linear.weight, b=linear.bias)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]  # one argument, which exported programs see
        """(B, in_features) to (B, out_features); raises what the kernel raises."""
        return self.kernel(x, self.W, self.b)
