"""Builder: writes instructions of the model one after another and names their results."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from . import types as t
from .instructions import (
    Alloca,
    Binary,
    Branch,
    Call,
    Cast,
    Compare,
    ExtractElement,
    ExtractValue,
    GetElementPointer,
    InsertElement,
    InsertValue,
    Instruction,
    Load,
    Phi,
    Return,
    Select,
    Store,
    Switch,
    Unary,
)
from .model import Block, Function
from .values import Constant, Global, Local, LoweringError, Value, element_type


class Builder:
    """Instructions, and blocks of them. Each method appends an instruction and gives its result.

    `name=` names a result; another name than that of any value or block is taken where it is taken already.
    """

    def __init__(self, taken: Collection[str] = (), types: Mapping[str, t.Type | None] | None = None) -> None:
        """`taken` are names that are given already, as `Function.names`; `types` the module's named ones."""
        self.blocks: list[Block] = []
        self.instructions: list[Instruction] = []
        self.types = types or {}
        self._taken = set(taken)
        self._label: str | None = None

    # ---- names and blocks ----

    def fresh(self, name: str = "v") -> str:
        """A name that no other value or block has, made of `name`. It needs no quotes, and is no number."""
        name = re.sub(r"[^-a-zA-Z$._0-9]", "", name)
        name = f"v{name}" if name[:1].isdigit() or not name else name
        found, number = name, 0
        while found in self._taken:
            number += 1
            found = f"{name}.{number}"
        self._taken.add(found)
        return found

    def take(self) -> list[Instruction]:
        """The instructions since the last `take`, for `Function.rewritten`."""
        taken, self.instructions = self.instructions, []
        return taken

    def block(self, label: str) -> str:
        """Begins a block; the one before must have been ended. Its label, which is another one where it is taken."""
        self._finish()
        self._label = self.fresh(label)
        return self._label

    def finish(self) -> tuple[Block, ...]:
        """All blocks."""
        self._finish()
        return tuple(self.blocks)

    def _finish(self) -> None:
        if self._label is not None:
            self.blocks.append(Block(self._label, tuple(self.take())))
        self._label = None

    def add(self, instruction: Instruction) -> None:
        """Appends an instruction as it is."""
        self.instructions.append(instruction)
        if instruction.result is not None:
            self._taken.add(instruction.result.name)

    def _result(self, kind: t.Type, name: str) -> Local:
        return Local(kind, self.fresh(name))

    # ---- arithmetic ----

    def unary(self, opcode: str, value: Value, *, flags: Sequence[str] = (), name: str = "v") -> Local:
        self.add(Unary(result := self._result(value.type, name), opcode, value, tuple(flags)))
        return result

    def binary(self, opcode: str, left: Value, right: Value, *, flags: Sequence[str] = (), name: str = "v") -> Local:
        if left.type != right.type:
            raise LoweringError(f"{opcode} of {left.type} and {right.type}")
        self.add(Binary(result := self._result(left.type, name), opcode, left, right, tuple(flags)))
        return result

    def compare(
        self, predicate: str, left: Value, right: Value, *, flags: Sequence[str] = (), name: str = "v"
    ) -> Local:
        """fcmp of floating-point numbers, icmp of others."""
        opcode = "fcmp" if left.type.is_float else "icmp"
        result = self._result(t.with_element(left.type, t.I1), name)
        self.add(Compare(result, opcode, predicate, left, right, tuple(flags)))
        return result

    def cast(self, opcode: str, value: Value, to: t.Type, *, name: str = "v") -> Local:
        self.add(Cast(result := self._result(to, name), opcode, value))
        return result

    def select(self, condition: Value, yes: Value, no: Value, *, flags: Sequence[str] = (), name: str = "v") -> Local:
        self.add(Select(result := self._result(yes.type, name), condition, yes, no, tuple(flags)))
        return result

    def select_as(self, result: Local, condition: Value, yes: Value, no: Value) -> None:
        """A select whose result has the name of one that it takes the place of."""
        self.add(Select(result, condition, yes, no))

    # ---- memory ----

    def alloca(self, kind: t.Type, *, count: Value | None = None, align: int | None = None, name: str = "v") -> Local:
        self.add(Alloca(result := self._result(t.Pointer(kind), name), kind, count, align))
        return result

    def load(self, pointer: Value, *, align: int | None = None, name: str = "v") -> Local:
        self.add(Load(result := self._result(_pointee(pointer), name), pointer, align))
        return result

    def store(self, value: Value, pointer: Value, *, align: int | None = None) -> None:
        self.add(Store(None, value, pointer, align))

    def element_pointer(self, pointer: Value, *indices: Value | int, inbounds: bool = False, name: str = "v") -> Local:
        """getelementptr; an index that is an int is an i64 in front, an i32 behind."""
        kind = _pointee(pointer)
        values = [
            index if not isinstance(index, int) else Constant(t.I32 if place else t.I64, str(index))
            for place, index in enumerate(indices)
        ]
        space = pointer.type.space if isinstance(pointer.type, t.Pointer) else 0
        result = self._result(t.Pointer(element_type(kind, values[1:], self.types), space), name)
        self.add(GetElementPointer(result, kind, pointer, tuple(values), inbounds))
        return result

    # ---- vectors and structs ----

    def extract_element(self, vector: Value, index: Value, *, name: str = "v") -> Local:
        self.add(ExtractElement(result := self._result(vector.type.scalar, name), vector, index))
        return result

    def insert_element(self, vector: Value, element: Value, index: Value, *, name: str = "v") -> Local:
        self.add(InsertElement(result := self._result(vector.type, name), vector, element, index))
        return result

    def extract_value(self, aggregate: Value, *path: int, name: str = "v") -> Local:
        kind = element_type(aggregate.type, path, self.types)
        self.add(ExtractValue(result := self._result(kind, name), aggregate, path))
        return result

    def insert_value(self, aggregate: Value, element: Value, *path: int, name: str = "v") -> Local:
        self.add(InsertValue(result := self._result(aggregate.type, name), aggregate, element, path))
        return result

    # ---- control ----

    def call(self, callee: Function | Global, *arguments: Value, name: str = "v") -> Local | None:
        """Calls a function; None where it gives no result."""
        pointer = callee.pointer if isinstance(callee, Function) else callee
        kind = _pointee(pointer)
        if not isinstance(kind, t.FunctionType):
            raise LoweringError(f"{pointer} is no function")
        result = None if kind.result == t.VOID else self._result(kind.result, name)
        self.add(Call(result, kind if kind.variadic else kind.result, pointer, arguments))
        return result

    def phi(self, kind: t.Type, *sources: tuple[Value, str], name: str = "v") -> Local:
        """`sources` are values with the labels of the blocks that they come from."""
        values, labels = tuple(value for value, _ in sources), tuple(label for _, label in sources)
        self.add(Phi(result := self._result(kind, name), values, labels))
        return result

    def branch(self, yes: str, condition: Value | None = None, no: str = "") -> None:
        self.add(Branch(None, yes, condition, no))

    def switch(self, value: Value, default: str, cases: Sequence[tuple[Constant, str]]) -> None:
        self.add(Switch(None, value, default, tuple(cases)))

    def ret(self, value: Value | None = None) -> None:
        self.add(Return(None, value))


def _pointee(pointer: Value) -> t.Type:
    if not isinstance(pointer.type, t.Pointer):
        raise LoweringError(f"{pointer} is no pointer, but {pointer.type}")
    return pointer.type.to
