"""Elements of fields that a task touches: their indices, as far as they can be compared. Knows no derivatives.

Indices are compared by what they are computed from, which has a number: where that are arguments, constants and memory
that the kernel does not write to, it is one number in all of the kernel, else one of the task.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod

from ..ir.instructions import (
    Binary,
    Call,
    Cast,
    Compare,
    GetElementPointer,
    Instruction,
    Load,
    Select,
    Unary,
)
from ..ir.model import Function
from ..ir.origins import UNKNOWN, Origin, Origins, Root
from ..ir.passes.chains import binary, peel_constant
from ..ir.passes.lookups import Indices
from ..ir.values import Local, Value, integer_of
from .dead import only_computes
from .fields import STEP, Fields


@dataclass(frozen=True)
class Index:
    """The index along an axis: a value, and a constant that is added to it. A constant index along an axis outside of
    this one, which is then missing, Taichi has added here: a multiple of this axis's size."""

    axis: tuple[int, int]  # the node, and the stride of the axis in it
    size: int  # of the axis; 0 of the outermost
    value: int  # a number for what it is computed from
    shift: int
    follows: frozenset[Local]  # the values of the task that it follows from; none: it is one number in all the kernel

    def differs(self, other: Index) -> bool:
        """Whether it is another one along the same axis, where the values are the same numbers."""
        return self._is_alike(other) and self._distance(other) != 0

    def is_same(self, other: Index) -> bool:
        """Whether it is the same along the same axis, where the values are the same numbers."""
        return self._is_alike(other) and self._distance(other) == 0

    def _is_alike(self, other: Index) -> bool:
        return self.axis == other.axis and self.value == other.value

    def _distance(self, other: Index) -> int:
        distance = self.shift - other.shift
        return distance % self.size if self.size else distance


Element = tuple[Index, ...]
_Meaning = tuple[int, frozenset[Local]]


def are_apart(one: Element, other: Element) -> bool:
    """Whether two elements lie at another distance from the same place."""
    if [(each.axis, each.value) for each in one] != [(each.axis, each.value) for each in other]:
        return False
    distances: dict[int, int] = {}  # in each node
    for mine, its in zip(one, other, strict=True):
        node, stride = mine.axis
        distances[node] = distances.get(node, 0) + (mine.shift - its.shift) * max(1, stride)
    return any(distances.values())


@dataclass(frozen=True)
class Kernel:
    """What the tasks of a kernel share."""

    state: Fields
    changed: frozenset[Origin]  # what it writes to
    numbers: dict[Hashable, int]  # of what is computed


class Elements:
    """The elements of fields that a task touches."""

    def __init__(
        self,
        kernel: Kernel,
        place: int,
        function: Function,
        indices: Mapping[str, Indices],
        turn: Local | None,
        piece: Local | None,
    ) -> None:
        """`place` is the task's among the kernel's; `turn` and `piece` are what a parallel loop has of its own, which
        stands for the same in all tasks."""
        self._kernel, self._place, self._function, self._indices = kernel, place, function, indices
        self._origins = Origins(function, kernel.state.places)
        self._known: dict[str, _Meaning] = {}
        for name, value in (("turn", turn), ("piece", piece)):
            if value is not None:
                self._known[value.name] = self._number(name), frozenset([value])
        self._known[function.parameters[0].value.name] = self._number("context"), frozenset()

    def at(self, pointer: Value, place: int) -> Element | None:
        """The element that a pointer points to, by the steps from the root."""
        path = list(self._kernel.state.paths.get(place, ()))
        found: list[Index] = []
        while path and (definition := self._function.definition(pointer)) is not None:
            if isinstance(definition, Cast) and definition.opcode == "bitcast":
                pointer = definition.value
            elif isinstance(definition, Call) and STEP.fullmatch(definition.name):
                path.pop()
                pointer = definition.arguments[0]
            elif isinstance(definition, Call) and definition.name == "LLVMRuntime_get_roots":
                return tuple(sorted(found, key=lambda each: each.axis))
            elif isinstance(definition, GetElementPointer):
                if (indices := self._indices.get(definition.result.name)) is not None:
                    found += [self._index((path[-1], stride), leaf, shift) for stride, leaf, shift in indices]
                elif any(integer_of(each) != 0 for each in definition.indices):
                    return None
                pointer = definition.pointer
            else:
                return None
        return None

    def _index(self, axis: tuple[int, int], leaf: Value | None, shift: int) -> Index:
        while leaf is not None and (difference := binary(self._function, leaf, "sub")) is not None:
            if (number := integer_of(difference.right)) is None:
                break
            leaf, further = peel_constant(self._function, difference.left)
            shift += further - number
        value, follows = (self._number("none"), frozenset[Local]()) if leaf is None else self.meaning(leaf)
        return Index(axis, self._size(*axis), value, shift, follows)

    def _size(self, node: int, stride: int) -> int:
        sizes = self._kernel.state.dense[node].sizes if node in self._kernel.state.dense else ()
        return next((size for place, size in enumerate(sizes) if place and prod(sizes[place + 1 :]) == stride), 0)

    def _number(self, *what: Hashable) -> int:
        """A number for what is computed, from parts that have numbers."""
        return self._kernel.numbers.setdefault(what, len(self._kernel.numbers))

    def meaning(self, value: Value) -> _Meaning:
        """A number for what a value is computed from, down to arguments and constants, and the values that it follows
        from where there are others."""
        if not isinstance(value, Local):
            return self._number("constant", value), frozenset()
        if value.name not in self._known:
            itself: _Meaning = self._number("value", self._place, value.name), frozenset([value])
            self._known[value.name] = itself  # of what follows from itself
            definition = self._function.definition(value)
            if definition is not None and self._is_computed(definition):
                parts = [self.meaning(each) for each in definition.operands]
                number = self._number(_kind(definition), *(part for part, _ in parts))
                self._known[value.name] = number, frozenset[Local]().union(*(follows for _, follows in parts))
        return self._known[value.name]

    def _is_computed(self, definition: Instruction) -> bool:
        """Whether an instruction gives the same for the same operands, wherever in the kernel it stands."""
        if isinstance(definition, Load):
            memory = self._origins.of(definition.pointer)
            is_whole = isinstance(memory, Root) and not self._kernel.changed & {memory, UNKNOWN}
            return is_whole or self._is_of_context(definition)
        if isinstance(definition, Call):
            return only_computes(definition)
        return isinstance(definition, (Binary, Unary, Compare, Select, Cast, GetElementPointer))

    def _is_of_context(self, load: Load) -> bool:
        """Whether it reads what a kernel is given, which no task changes."""
        return self._origins.is_in_arguments(load.pointer) or self._origins.is_arguments(load.result)

    def follows(self, wanted: Local, known: Collection[int]) -> bool:
        """Whether a value is one of some known ones, or what they are quotients and rests of."""
        values, index = set(known), self.meaning(wanted)[0]
        found = True
        while found and index not in values:
            new = {whole for whole, quotient, rest in self._divisions if {quotient, rest} <= values} - values
            values |= new
            found = bool(new)
        return index in values

    @cached_property
    def _divisions(self) -> list[tuple[int, int, int]]:
        """The numbers of what is divided by a constant, of the quotient and of the rest."""
        found = []
        for each in self._function.instructions:
            if isinstance(each, Binary):
                for quotient in self._quotients(each):
                    whole, rest = self.meaning(each.left)[0], self.meaning(each.result)[0]
                    found.append((whole, self.meaning(quotient)[0], rest))
        return found

    def _quotients(self, rest: Binary) -> list[Value]:
        """What belongs to a rest of its left side; Taichi writes it as `whole - quotient * by`, too."""
        if rest.opcode == "sub":
            product = binary(self._function, rest.right, "mul")
            return [product.left] if product is not None and integer_of(product.right) is not None else []
        by = integer_of(rest.right)
        if by is None or rest.opcode not in ("srem", "and"):
            return []
        if rest.opcode == "and":
            by += 1
            if by & (by - 1):
                return []
        return [
            each.result
            for each in self._function.users(rest.left)
            if isinstance(each, Binary) and each.left == rest.left and _divides(each, by)
        ]


def _divides(instruction: Binary, by: int) -> bool:
    number = integer_of(instruction.right)
    if number is None or instruction.opcode not in ("sdiv", "lshr", "ashr"):
        return False
    return by == (number if instruction.opcode == "sdiv" else 1 << (number & 31))


def _kind(instruction: Instruction) -> Hashable:
    """What an instruction does, without its operands."""
    result = instruction.result
    what = [type(instruction).__name__, str(result.type) if result is not None else ""]
    what += [str(getattr(instruction, each, "")) for each in ("opcode", "predicate", "kind", "name")]
    return tuple(what)
