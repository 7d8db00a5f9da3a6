"""Origins: what a pointer of a task points into. Knows Taichi's context and runtime, no signatures.

The answer is an array, a child of a root of fields, a temporary, something else that is known and no array, or UNKNOWN,
which may be any of them: who asks has to take the safe road there.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Container
from dataclasses import dataclass

from .instructions import (
    Alloca,
    AtomicUpdate,
    Call,
    Cast,
    CompareExchange,
    GetElementPointer,
    Instruction,
    Load,
    Phi,
    Select,
    Store,
)
from .model import Function
from .types import Named, Pointer
from .values import Local, Value, integer_of


def is_address(name: str) -> bool:
    """Whether the function of this name gives a pointer, or a number, and touches no memory behind its pointers."""
    return _ADDRESSES.fullmatch(name) is not None


@dataclass(frozen=True)
class Array:
    """An array of the argument struct. `field` is 1 for its elements, 2 for its gradient's."""

    index: int
    field: int


# For the array (index, field) its rank, and the stride of its columns where it lies in lanes (entry/cpu/lanes.py).
Layout = Callable[[int, int], tuple[int, int | None]]


@dataclass(frozen=True)
class Root:
    """A child of a root of fields, by its number."""

    node: int


@dataclass(frozen=True)
class Temporary:
    """Memory that the tasks of a call share, by its offset in bytes."""

    offset: int


class Other(enum.Enum):
    LOCAL = "a variable of the function, a stack, or memory of the piece's own"
    CONTEXT = "the context or the arguments' struct: shapes, numbers by value, pointers to arrays"
    RESULT = "where a returned value goes"
    UNKNOWN = "anything"


Origin = Array | Root | Temporary | Other
LOCAL, CONTEXT, RESULT, UNKNOWN = Other.LOCAL, Other.CONTEXT, Other.RESULT, Other.UNKNOWN

CONTEXT_TYPE = Pointer(Named("struct.RuntimeContext"))
_CHILD = re.compile(r"get_ch_S\d+_to_S(\d+)")
# Functions that give a pointer or a number and touch no memory behind their pointers.
_ADDRESSES = re.compile(
    r"get_ch_S\d+_to_S\d+|Dense_lookup_element|get_temporary_pointer|RuntimeContext_get_\w+|LLVMRuntime_get_\w+"
    r"|StructMeta_set_\w+|DenseMeta_set_\w+|(tiaot_)?stack_(init|push|pop|top_primal|top_adjoint)"
    r"|tiaot_stack_(create|destroy)|tiaot_(private|summed)_pointer|tiaot_(out_of_range|has_failed)"
)


def place_of_local(function: Function, pointer: Value) -> Local | None:
    """The alloca whose memory a pointer points into; None where it does not come from one by steps within it."""
    while isinstance(pointer, Local):
        definition = function.definition(pointer)
        if isinstance(definition, Alloca):
            return definition.result
        if isinstance(definition, GetElementPointer):
            pointer = definition.pointer
        elif isinstance(definition, Cast) and definition.opcode in ("bitcast", "addrspacecast"):
            pointer = definition.value
        else:
            return None
    return None


class Origins:
    """The origins of the pointers of one function."""

    def __init__(self, function: Function, roots: Container[int] = ()) -> None:
        """`roots` are the numbers of the children of roots."""
        self.function, self.roots = function, roots
        self._known: dict[str, Origin] = {}

    def of(self, pointer: Value) -> Origin:
        """What a pointer points into."""
        if not isinstance(pointer, Local):
            return UNKNOWN
        if pointer.name not in self._known:
            self._known[pointer.name] = UNKNOWN  # of what follows from itself
            self._known[pointer.name] = self._look(pointer)
        return self._known[pointer.name]

    def is_arguments(self, value: Value) -> bool:
        """Whether a value is the pointer to the arguments' struct that the context holds."""
        definition = self.function.definition(value)
        return isinstance(definition, Load) and self._member(definition.pointer) == ()

    def is_in_arguments(self, pointer: Value) -> bool:
        """Whether a pointer points into the arguments' struct, which no task changes."""
        definition = self.function.definition(pointer)
        if isinstance(definition, GetElementPointer):
            return self.is_in_arguments(definition.pointer)
        if isinstance(definition, Cast) and definition.opcode == "bitcast":
            return self.is_in_arguments(definition.value)
        return self.is_arguments(pointer)

    def _look(self, pointer: Local) -> Origin:
        definition = self.function.definition(pointer)
        if definition is None:
            return self._of_parameter(pointer)
        if isinstance(definition, Alloca):
            return LOCAL
        if isinstance(definition, GetElementPointer):
            return self.of(definition.pointer)
        if isinstance(definition, Cast) and definition.opcode in ("bitcast", "addrspacecast"):
            return self.of(definition.value)
        if isinstance(definition, Load):
            return self._loaded(definition)
        if isinstance(definition, Call):
            return self._called(definition)
        if isinstance(definition, (Phi, Select)):
            values = definition.values if isinstance(definition, Phi) else (definition.yes, definition.no)
            origins = {self.of(value) for value in values}
            return origins.pop() if len(origins) == 1 else UNKNOWN
        return UNKNOWN

    def _of_parameter(self, pointer: Local) -> Origin:
        if pointer.type == CONTEXT_TYPE:
            return CONTEXT
        names = [parameter.value.name for parameter in self.function.parameters]
        return LOCAL if names[1:2] == [pointer.name] else UNKNOWN  # a piece's or a thread's own memory

    def _loaded(self, load: Load) -> Origin:
        """What a pointer points into that was itself read from memory."""
        variable = self.function.definition(load.pointer)
        if isinstance(variable, Alloca):
            return self._held(variable)
        place = self._member(load.pointer)
        if place is None:
            return UNKNOWN
        if place == ():  # the first member of the context: the arguments' struct
            return CONTEXT
        if len(place) == 2 and place[1] in (1, 2):
            return Array(*place)
        return UNKNOWN

    def _held(self, variable: Alloca) -> Origin:
        """What a pointer points into that a local variable holds."""
        origins: set[Origin] = set()
        for user in self.function.users(variable.result):
            if isinstance(user, Store) and user.value != variable.result:
                origins.add(self.of(user.value))
            elif not isinstance(user, Load):
                return UNKNOWN
        return origins.pop() if len(origins) == 1 else UNKNOWN

    def _member(self, pointer: Value) -> tuple[int, ...] | None:
        """The member of the arguments' struct that a pointer points to, by its path; () for the place in the context
        where the pointer to that struct is; None for anything else."""
        definition = self.function.definition(pointer)
        if isinstance(definition, Cast) and definition.opcode == "bitcast":
            return self._member(definition.value)
        if isinstance(definition, GetElementPointer):
            indices = [integer_of(each) for each in definition.indices]
            if None in indices or indices[0] != 0:
                return None
            path = tuple(each for each in indices[1:] if each is not None)
            if definition.pointer.type == CONTEXT_TYPE:
                known = self.of(definition.pointer) is CONTEXT and path == (0,)
                return () if known else None
            inner = self.function.definition(definition.pointer)
            if isinstance(inner, Load):
                return path if self._member(inner.pointer) == () else None
            front = self._member(definition.pointer) if isinstance(inner, GetElementPointer) else None
            return front + path if front else None
        return None

    def _called(self, call: Call) -> Origin:
        if match := _CHILD.fullmatch(call.name):
            return Root(int(match[1])) if int(match[1]) in self.roots else self.of(call.arguments[0])
        if call.name == "Dense_lookup_element":
            return self.of(call.arguments[1])
        if call.name == "get_temporary_pointer":
            offset = integer_of(call.arguments[1])
            return UNKNOWN if offset is None else Temporary(offset)
        if call.name == "RuntimeContext_get_result_buffer":
            return RESULT
        if call.name == "RuntimeContext_get_runtime":
            return CONTEXT
        if call.name.removeprefix("tiaot_") in ("stack_top_primal", "stack_top_adjoint"):
            return self.of(call.arguments[0])
        if call.name in ("tiaot_private_pointer", "tiaot_summed_pointer"):  # what temporaries.py has put in place
            return LOCAL
        return UNKNOWN

    def touched_by(self, instruction: Instruction) -> list[Origin]:
        """What an instruction reads or writes, or hands on to where it is not seen any more."""
        if isinstance(instruction, Load):
            return [self.of(instruction.pointer)]
        if isinstance(instruction, Store):
            escaping = [self.of(instruction.value)] if instruction.value.type.is_pointer else []
            return [self.of(instruction.pointer), *escaping]
        if isinstance(instruction, (AtomicUpdate, CompareExchange)):
            return [self.of(instruction.pointer)]
        if isinstance(instruction, Cast) and instruction.opcode == "ptrtoint":
            return [self.of(instruction.value)]
        if isinstance(instruction, Call) and not is_address(instruction.name):
            pointers = [each for each in instruction.arguments if each.type.is_pointer and isinstance(each, Local)]
            return [self.of(each) for each in pointers]
        return []

    def touched(self) -> set[Origin]:
        """All that the function reads, writes or hands on."""
        return {origin for instruction in self.function.instructions for origin in self.touched_by(instruction)}
