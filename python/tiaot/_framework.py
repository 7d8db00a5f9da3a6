"""What the kernels of every framework share: the handle on the module's kernel. Knows nothing of frameworks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from . import _core
from ._shapes import Signature


def checked(kernel: _core.Kernel) -> _core.Kernel:
    """The argument of `wrap`. TypeError for anything but a Kernel, and for a kernel over state."""
    if not isinstance(kernel, _core.Kernel):
        raise TypeError(f"wrap: argument 'kernel': expected a tiaot.Kernel, got {type(kernel).__name__}")
    if any(each["state"] for each in kernel.module.info()["kernels"] if each["name"] == kernel.name):
        raise TypeError(f"wrap: argument 'kernel': '{kernel.name}' works on state in place, which no framework records")
    return kernel


def bound(signature: Signature, arguments: Sequence[Any], named: Mapping[str, Any]) -> tuple[Any, ...]:
    """All inputs in their order, from those given by position and by name.

    Raises TypeError for a name that is no input, an input that is given twice, and one that is missing.
    """
    if len(arguments) > len(signature.inputs):
        signature.check_count(len(arguments) + len(named))
    given = dict(zip(signature.inputs, arguments, strict=False))
    for name, value in named.items():
        if name not in signature.inputs:
            names = ", ".join(signature.inputs)
            raise TypeError(f"{signature.label}: expected names of inputs, {names}, got {name!r}")
        if name in given:
            raise TypeError(f"{signature.label}: argument '{name}': given by position and by name")
        given[name] = value
    missing = ", ".join(f"'{name}'" for name in signature.inputs if name not in given)
    if missing:
        raise TypeError(f"{signature.label}: missing {missing}")
    return tuple(given[name] for name in signature.inputs)


class Handle:
    """A kernel of a module, made for the arrays of a framework."""

    def __init__(self, kernel: _core.Kernel) -> None:
        self._kernel = kernel

    @property
    def name(self) -> str:
        """Name of the kernel."""
        return self._kernel.name

    @property
    def signature(self) -> str:
        """Names and symbolic shapes of the arguments: 'x[B, n], W[m, n], b[m] -> y[B, m]'."""
        return self._kernel.signature

    @property
    def module(self) -> _core.Module:
        """The Module that the kernel comes from."""
        return self._kernel.module

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__name__} {self.name}: {self.signature}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._kernel,)
