"""Types of LLVM IR, as values that can be compared, and how they are spelled. Pointers are spelled here alone."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from functools import cached_property


class Type(abc.ABC):
    """A type; `str` gives its text."""

    def __str__(self) -> str:
        return self._text

    @cached_property
    def _text(self) -> str:
        return self._spell()

    @abc.abstractmethod
    def _spell(self) -> str:
        """Its text."""

    @property
    def is_float(self) -> bool:
        """Whether it is a floating-point number, or a vector of these."""
        return isinstance(self.scalar, Float)

    @property
    def is_integer(self) -> bool:
        """Whether it is an integer, or a vector of these."""
        return isinstance(self.scalar, Integer)

    @property
    def is_pointer(self) -> bool:
        """Whether it is a pointer, or a vector of these."""
        return isinstance(self.scalar, Pointer)

    @property
    def scalar(self) -> Type:
        """The type of a vector's elements; any other type itself."""
        return self


@dataclass(frozen=True)
class Simple(Type):
    """A type that a word names and that is no number: void, label, metadata, token."""

    name: str

    def _spell(self) -> str:
        return self.name


@dataclass(frozen=True)
class Integer(Type):
    bits: int

    def _spell(self) -> str:
        return f"i{self.bits}"


@dataclass(frozen=True)
class Float(Type):
    """A floating-point number: half, bfloat, float, double, x86_fp80, fp128, ppc_fp128."""

    name: str

    @property
    def bits(self) -> int:
        return FLOAT_BITS[self.name]

    def _spell(self) -> str:
        return self.name


@dataclass(frozen=True)
class Pointer(Type):
    to: Type
    space: int = 0

    def _spell(self) -> str:
        return f"{self.to} addrspace({self.space})*" if self.space else f"{self.to}*"


@dataclass(frozen=True)
class Vector(Type):
    count: int
    element: Type
    scalable: bool = False

    @property
    def scalar(self) -> Type:
        return self.element

    def _spell(self) -> str:
        return f"<{'vscale x ' * self.scalable}{self.count} x {self.element}>"


@dataclass(frozen=True)
class Array(Type):
    count: int
    element: Type

    def _spell(self) -> str:
        return f"[{self.count} x {self.element}]"


@dataclass(frozen=True)
class Struct(Type):
    """A struct that is spelled by its members."""

    members: tuple[Type, ...]
    packed: bool = False

    def _spell(self) -> str:
        text = f"{{ {', '.join(map(str, self.members))} }}" if self.members else "{}"
        return f"<{text}>" if self.packed else text


@dataclass(frozen=True)
class Named(Type):
    """A struct by its name, without the %; the module knows its members."""

    name: str

    def _spell(self) -> str:
        return f"%{self.name}"


@dataclass(frozen=True)
class FunctionType(Type):
    result: Type
    parameters: tuple[Type, ...]
    variadic: bool = False

    def _spell(self) -> str:
        parameters = [*map(str, self.parameters), *["..."] * self.variadic]
        return f"{self.result} ({', '.join(parameters)})"


FLOAT_BITS = {"half": 16, "bfloat": 16, "float": 32, "double": 64, "x86_fp80": 80, "fp128": 128, "ppc_fp128": 128}

VOID, LABEL, METADATA, TOKEN = map(Simple, ("void", "label", "metadata", "token"))
I1, I8, I16, I32, I64 = map(Integer, (1, 8, 16, 32, 64))
HALF, FLOAT, DOUBLE = map(Float, ("half", "float", "double"))


def with_element(kind: Type, element: Type) -> Type:
    """A vector of as many `element` as `kind` has, where that is a vector; else `element` itself."""
    return Vector(kind.count, element, kind.scalable) if isinstance(kind, Vector) else element


def byte_size(kind: Type) -> int | None:
    """The bytes that a number, a pointer, or an array or a vector of these takes in memory; None of other types."""
    if isinstance(kind, Pointer):
        return 8
    if isinstance(kind, (Integer, Float)):
        return -(-kind.bits // 8)
    if isinstance(kind, (Array, Vector)):
        element = byte_size(kind.element)
        return None if element is None else kind.count * element
    return None
