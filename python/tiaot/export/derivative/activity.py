"""Activity: which values lie between the inputs that are differentiated and the outputs. Knows no derivatives.

A value is *varied* if it depends on a differentiated input, *useful* if an output depends on it, and active if it is
both; memory is so if something that is stored there is. Only real numbers count: integers and conditions are steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from ..ir.instructions import (
    AtomicUpdate,
    Binary,
    Call,
    Cast,
    CompareExchange,
    ExtractElement,
    ExtractValue,
    InsertElement,
    InsertValue,
    Instruction,
    Load,
    Phi,
    Select,
    Shuffle,
    Store,
    Unary,
)
from ..ir.model import Function
from ..ir.origins import Origin, Origins, Other, is_address, place_of_local
from ..ir.passes.refusal import refuse
from ..ir.types import Array, Struct, Type
from ..ir.values import Local, Value
from .shared import Temporaries

Memory = Origin | Local  # what several functions share, or a local variable by its alloca


class Pointers:
    """What the pointers of a function point into: its own local variables apart from each other."""

    def __init__(self, function: Function, temporaries: Temporaries) -> None:
        self.function = function
        self.origins = Origins(function, temporaries.places)
        self._temporaries = temporaries

    def memory(self, pointer: Value) -> Memory:
        return place_of_local(self.function, pointer) or self._temporaries.whole(self.origins.of(pointer))

    def handed_to(self, call: Call) -> list[Origin]:
        """What a call reads, writes or hands on to where it is not seen any more."""
        return [self._temporaries.whole(each) for each in self.origins.touched_by(call)]


class Activity:
    """Of functions that share memory, by their places in a list."""

    def __init__(
        self,
        functions: Sequence[Function],
        temporaries: Temporaries,
        inputs: Iterable[Origin],
        outputs: Iterable[Origin],
    ) -> None:
        """`inputs` is the memory that is differentiated, `outputs` the memory whose cotangents are given.

        Raises:
            LoweringError: where an output may depend on numbers in a way that is not followed.
        """
        self._views = [_View(function, temporaries) for function in functions]
        varied: set[Origin] = set(inputs)
        useful: set[Origin] = set(outputs)
        _settle(lambda: [view.vary(varied) for view in self._views])
        _settle(lambda: [view.use(useful) for view in self._views])
        self._memory = varied & useful
        for view in self._views:
            view.check(useful)

    def is_active(self, place: int, value: Value) -> bool:
        """Whether a value of a function is active."""
        view = self._views[place]
        return isinstance(value, Local) and value.name in view.varied and value.name in view.useful

    def is_active_memory(self, place: int, memory: Memory) -> bool:
        """Whether what a pointer of a function points into is active."""
        if isinstance(memory, Local):
            view = self._views[place]
            return memory in view.varied_memory and memory in view.useful_memory
        return memory in self._memory

    def is_active_instruction(self, place: int, instruction: Instruction) -> bool:
        """Whether an instruction of a function gives something active, or writes to active memory.

        Raises:
            LoweringError: where something varied is written to memory that is not known.
        """
        if instruction.result is not None and self.is_active(place, instruction.result):
            return True
        for pointer, value in written(instruction):
            memory = self.memory(place, pointer)
            if self.is_active_memory(place, memory):
                return True
            if memory in (Other.UNKNOWN, Other.RESULT) and self._views[place].is_varied(value):
                what = "where it writes to" if memory is Other.UNKNOWN else "the gradient of a returned value"
                refuse(instruction, f"the reverse mode does not know {what}")
        return False

    def memory(self, place: int, pointer: Value) -> Memory:
        """What a pointer of a function points into."""
        return self._views[place].memory(pointer)


def _settle(step: Callable[[], Iterable[bool]]) -> None:
    """Repeats a step until it brings nothing new."""
    while any(step()):
        pass


class _View(Pointers):
    """One function: what of it is varied and useful, as far as is known."""

    def __init__(self, function: Function, temporaries: Temporaries) -> None:
        super().__init__(function, temporaries)
        self.varied: set[str] = set()
        self.useful: set[str] = set()
        self.varied_memory: set[Local] = set()
        self.useful_memory: set[Local] = set()

    def vary(self, shared: set[Origin]) -> bool:
        """One step forward; whether anything is new."""
        before = len(self.varied), len(self.varied_memory), len(shared)
        for each in self.function.instructions:
            self._vary(each, shared)
        return before != (len(self.varied), len(self.varied_memory), len(shared))

    def _vary(self, instruction: Instruction, shared: set[Origin]) -> None:
        for pointer, value in written(instruction):
            if self.is_varied(value):
                self._add(self.memory(pointer), self.varied_memory, shared)
        result = instruction.result
        if result is None or not is_real(result.type) or result.name in self.varied:
            return
        memories = map(self.memory, read_from(instruction))
        if any(self._holds(each, self.varied_memory, shared) for each in memories) or any(
            map(self.is_varied, real_operands(instruction))
        ):
            self.varied.add(result.name)

    def is_varied(self, value: Value) -> bool:
        return isinstance(value, Local) and value.name in self.varied

    def use(self, shared: set[Origin]) -> bool:
        """One step backward; whether anything is new."""
        before = len(self.useful), len(self.useful_memory), len(shared)
        for block in reversed(self.function.blocks):
            for each in reversed(block.instructions):
                self._use(each, shared)
        return before != (len(self.useful), len(self.useful_memory), len(shared))

    def _use(self, instruction: Instruction, shared: set[Origin]) -> None:
        for pointer, value in written(instruction):
            if isinstance(value, Local) and self._holds(self.memory(pointer), self.useful_memory, shared):
                self.useful.add(value.name)
        if instruction.result is None or instruction.result.name not in self.useful:
            return
        for pointer in read_from(instruction):
            self._add(self.memory(pointer), self.useful_memory, shared)
        for operand in real_operands(instruction):
            if isinstance(operand, Local):
                self.useful.add(operand.name)

    def check(self, shared: set[Origin]) -> None:
        """LoweringError where an output may follow from what is not seen here: memory that is not known, and bits of
        numbers, which a loop around a compare-and-exchange works with, too. `shared` is the useful memory."""
        for each in self.function.instructions:
            if isinstance(each, CompareExchange):
                memory = self.memory(each.pointer)
                if memory is Other.UNKNOWN or self._holds(memory, self.useful_memory, shared):
                    refuse(each, "the reverse mode does not follow a compare-and-exchange, of a product, say")
            if each.result is None or each.result.name not in self.useful:
                continue
            if any(self.memory(pointer) is Other.UNKNOWN for pointer in read_from(each)):
                refuse(each, "the reverse mode does not know where it reads")
            if isinstance(each, Cast) and each.opcode == "bitcast" and not is_real(each.value.type):
                refuse(each, "the reverse mode does not follow the bits of a number")

    def _holds(self, memory: Memory, own: set[Local], shared: set[Origin]) -> bool:
        return memory in own if isinstance(memory, Local) else memory in shared

    def _add(self, memory: Memory, own: set[Local], shared: set[Origin]) -> None:
        if isinstance(memory, Local):
            own.add(memory)
        else:
            shared.add(memory)


def is_real(kind: Type) -> bool:
    """Whether values of a type are real numbers, or consist of some."""
    if isinstance(kind, Array):
        return is_real(kind.element)
    if isinstance(kind, Struct):
        return any(map(is_real, kind.members))
    return kind.is_float


def written(instruction: Instruction) -> list[tuple[Value, Value]]:
    """What an instruction writes where: pairs of a pointer and a value."""
    if isinstance(instruction, (Store, AtomicUpdate)):
        return [(instruction.pointer, instruction.value)]
    if isinstance(instruction, Call):
        values = [each for each in instruction.arguments if each.type.is_float]
        return [(pointer, value) for pointer in instruction.arguments if pointer.type.is_pointer for value in values]
    return []


def read_from(instruction: Instruction) -> Sequence[Value]:
    """The pointers whose memory a result follows from."""
    if isinstance(instruction, (Load, AtomicUpdate)):
        return (instruction.pointer,)
    if isinstance(instruction, Call) and not is_address(instruction.name):
        return [each for each in instruction.arguments if each.type.is_pointer]
    return ()


def real_operands(instruction: Instruction) -> Sequence[Value]:
    """The real numbers that a real result is computed from."""
    if isinstance(instruction, (Load, Store, AtomicUpdate)):
        return ()
    if isinstance(instruction, Select):
        return (instruction.yes, instruction.no)
    if isinstance(
        instruction,
        (Binary, Unary, Cast, Phi, Call, ExtractElement, InsertElement, Shuffle, ExtractValue, InsertValue),
    ):
        return [each for each in instruction.operands if is_real(each.type)]
    return ()
