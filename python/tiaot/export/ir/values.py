"""Values of LLVM IR: results and parameters by their names, globals, constants; and the error for what cannot be
lowered."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .types import Array, Integer, Named, Struct, Type, Vector


class LoweringError(Exception):
    """A kernel uses something that cannot be lowered; the message names it and what to write instead."""


@dataclass(frozen=True)
class Local:
    """A parameter of the function, or the result of an instruction."""

    type: Type
    name: str

    def __str__(self) -> str:
        return f"%{self.name}"


@dataclass(frozen=True)
class Global:
    """A function or a variable of the module: a pointer."""

    type: Type
    name: str

    def __str__(self) -> str:
        return f"@{self.name}"


@dataclass(frozen=True)
class Constant:
    """A constant, as LLVM spells it: a number, null, undef, an aggregate, an expression over globals."""

    type: Type
    text: str

    @property
    def integer(self) -> int | None:
        """The value of an integer; None of anything else."""
        if not isinstance(self.type, Integer):
            return None
        if self.text in ("true", "false"):
            return int(self.text == "true")
        return int(self.text) if self.text.lstrip("-").isdigit() else None

    def __str__(self) -> str:
        return self.text


Value = Local | Global | Constant


def integer_of(value: Value) -> int | None:
    """The integer that a value is; None where it is no constant, or none of an integer."""
    return value.integer if isinstance(value, Constant) else None


def integer(kind: Type, value: int) -> Constant:
    """An integer constant."""
    if kind == Integer(1):
        return Constant(kind, "true" if value & 1 else "false")
    return Constant(kind, str(value))


def constant_of(kind: Type, value: int) -> Constant:
    """An integer constant, or a vector whose elements are all it."""
    if not isinstance(kind, Vector):
        return integer(kind, value)
    element = f"{kind.element} {integer(kind.element, value)}"
    return Constant(kind, f"<{', '.join([element] * kind.count)}>")


def float_constant(kind: Type, value: float) -> Constant:
    """A floating-point constant, or a vector whose elements are all it. It must be a number of the type."""
    if isinstance(kind, Vector):
        element = f"{kind.element} {float_constant(kind.element, value)}"
        return Constant(kind, f"<{', '.join([element] * kind.count)}>")
    if str(kind) == "half":
        return Constant(kind, f"0xH{struct.pack('>e', value).hex().upper()}")
    return Constant(kind, f"0x{struct.pack('>d', value).hex().upper()}")


def zero(kind: Type) -> Constant:
    """The constant of a type whose bits are all zero."""
    if kind.is_pointer and kind.scalar is kind:
        return Constant(kind, "null")
    if kind.is_integer and kind.scalar is kind:
        return integer(kind, 0)
    if kind.is_float and kind.scalar is kind:
        return Constant(kind, "0xH0000" if str(kind) == "half" else "0.000000e+00")
    return Constant(kind, "zeroinitializer")


def element_type(kind: Type, path: Sequence[int | Value], types: Mapping[str, Type | None]) -> Type:
    """The type of the member of an aggregate that a path of places leads to; `types` are a module's named ones.

    Raises:
        LoweringError: when there is no such member.
    """
    for place in path:
        if isinstance(kind, Named):
            if (known := types.get(kind.name)) is None:
                raise LoweringError(f"the type {kind} is not defined")
            kind = known
        if isinstance(kind, Struct):
            index = place if isinstance(place, int) else integer_of(place)
            if index is None or not 0 <= index < len(kind.members):
                raise LoweringError(f"the struct {kind} has no member {place}")
            kind = kind.members[index]
        elif isinstance(kind, (Array, Vector)):
            kind = kind.element
        else:
            raise LoweringError(f"the type {kind} has no members")
    return kind
