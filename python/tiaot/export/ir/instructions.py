"""Instructions of LLVM IR, immutable. Knows nothing of text."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from .types import Type
from .values import Constant, Global, Local, Value

Self = TypeVar("Self", bound="Instruction")


@dataclass(frozen=True)
class Instruction:
    """One instruction. `result` is None where it gives none."""

    VALUES: ClassVar[tuple[str, ...]] = ()  # its members that are a value or several

    result: Local | None
    line: int = field(default=0, kw_only=True, compare=False, repr=False)  # where it was read

    @property
    def operands(self) -> tuple[Value, ...]:
        """The values that it uses, in their order."""
        found: list[Value] = []
        for name in self.VALUES:
            member = getattr(self, name)
            if isinstance(member, tuple):
                found += member
            elif member is not None:
                found.append(member)
        return tuple(found)

    def with_operands(self: Self, change: Callable[[Value], Value]) -> Self:
        """The same with other operands."""
        members: dict[str, Any] = {}
        for name in self.VALUES:
            member = getattr(self, name)
            if isinstance(member, tuple):
                members[name] = tuple(map(change, member))
            elif member is not None:
                members[name] = change(member)
        return dataclasses.replace(self, **members) if members else self

    @property
    def targets(self) -> tuple[str, ...]:
        """Labels of the blocks that may come next, of what ends a block."""
        return ()

    def with_labels(self: Self, change: Callable[[str], str]) -> Self:
        """The same with other labels of blocks: of targets, or of where a phi comes from."""
        return self

    @property
    def ends_block(self) -> bool:
        return isinstance(self, (Return, Branch, Switch, Unreachable))


@dataclass(frozen=True)
class Unary(Instruction):
    """fneg, or freeze."""

    VALUES = ("value",)
    opcode: str
    value: Value
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Binary(Instruction):
    """Arithmetic on two values of one type. `flags` are nsw, nuw, exact, and those of floating-point arithmetic."""

    VALUES = ("left", "right")
    opcode: str
    left: Value
    right: Value
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Compare(Instruction):
    """icmp or fcmp."""

    VALUES = ("left", "right")
    opcode: str
    predicate: str
    left: Value
    right: Value
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cast(Instruction):
    """trunc, zext, sext, fptrunc, fpext, fptoui, fptosi, uitofp, sitofp, ptrtoint, inttoptr, bitcast, addrspacecast."""

    VALUES = ("value",)
    result: Local  # whose type is what it casts to
    opcode: str
    value: Value


@dataclass(frozen=True)
class Select(Instruction):
    VALUES = ("condition", "yes", "no")
    condition: Value
    yes: Value
    no: Value
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Phi(Instruction):
    VALUES = ("values",)
    result: Local
    values: tuple[Value, ...]
    labels: tuple[str, ...]  # of the blocks that they come from
    flags: tuple[str, ...] = ()

    def with_labels(self, change: Callable[[str], str]) -> Phi:
        return dataclasses.replace(self, labels=tuple(map(change, self.labels)))


@dataclass(frozen=True)
class Alloca(Instruction):
    VALUES = ("count",)
    result: Local
    kind: Type
    count: Value | None = None
    align: int | None = None
    space: int = 0


@dataclass(frozen=True)
class Load(Instruction):
    VALUES = ("pointer",)
    result: Local
    pointer: Value
    align: int | None = None
    volatile: bool = False
    ordering: str = ""  # of an atomic one, with its scope: "monotonic"


@dataclass(frozen=True)
class Store(Instruction):
    VALUES = ("value", "pointer")
    value: Value
    pointer: Value
    align: int | None = None
    volatile: bool = False
    ordering: str = ""


@dataclass(frozen=True)
class GetElementPointer(Instruction):
    """getelementptr: `kind` is the type that `pointer` points to."""

    VALUES = ("pointer", "indices")
    result: Local
    kind: Type
    pointer: Value
    indices: tuple[Value, ...]
    inbounds: bool = False


@dataclass(frozen=True)
class AtomicUpdate(Instruction):
    """atomicrmw: `operation` is add, fadd, max, xchg..."""

    VALUES = ("pointer", "value")
    result: Local
    operation: str
    pointer: Value
    value: Value
    ordering: str
    align: int | None = None
    volatile: bool = False


@dataclass(frozen=True)
class CompareExchange(Instruction):
    """cmpxchg."""

    VALUES = ("pointer", "expected", "new")
    result: Local
    pointer: Value
    expected: Value
    new: Value
    ordering: str  # both: "seq_cst seq_cst"
    align: int | None = None
    weak: bool = False
    volatile: bool = False


@dataclass(frozen=True)
class Fence(Instruction):
    ordering: str


@dataclass(frozen=True)
class ExtractElement(Instruction):
    VALUES = ("vector", "index")
    vector: Value
    index: Value


@dataclass(frozen=True)
class InsertElement(Instruction):
    VALUES = ("vector", "element", "index")
    vector: Value
    element: Value
    index: Value


@dataclass(frozen=True)
class Shuffle(Instruction):
    """shufflevector; `mask` is a constant."""

    VALUES = ("first", "second")
    result: Local
    first: Value
    second: Value
    mask: Constant


@dataclass(frozen=True)
class ExtractValue(Instruction):
    VALUES = ("aggregate",)
    result: Local
    aggregate: Value
    path: tuple[int, ...]


@dataclass(frozen=True)
class InsertValue(Instruction):
    VALUES = ("aggregate", "element")
    aggregate: Value
    element: Value
    path: tuple[int, ...]


@dataclass(frozen=True)
class Call(Instruction):
    """A call. `attributes` has those of each argument; `type` is the function's where LLVM spells that, else its
    result's."""

    VALUES = ("callee", "arguments")
    type: Type
    callee: Value
    arguments: tuple[Value, ...]
    attributes: tuple[tuple[str, ...], ...] = ()
    tail: str = ""  # tail, musttail, notail
    flags: tuple[str, ...] = ()
    before: tuple[str, ...] = ()  # calling convention, attributes of the result
    after: tuple[str, ...] = ()  # attributes of the call

    @property
    def name(self) -> str:
        """The name of the function; "" where a pointer is called."""
        return self.callee.name if isinstance(self.callee, Global) else ""

    @property
    def is_intrinsic(self) -> bool:
        return self.name.startswith("llvm.")


@dataclass(frozen=True)
class Return(Instruction):
    VALUES = ("value",)
    value: Value | None = None


@dataclass(frozen=True)
class Branch(Instruction):
    """br: to `yes` where `condition` holds, else to `no`; without a condition to `yes`."""

    VALUES = ("condition",)
    yes: str
    condition: Value | None = None
    no: str = ""

    @property
    def targets(self) -> tuple[str, ...]:
        return (self.yes,) if self.condition is None else (self.yes, self.no)

    def with_labels(self, change: Callable[[str], str]) -> Branch:
        return dataclasses.replace(self, yes=change(self.yes), no=self.no and change(self.no))


@dataclass(frozen=True)
class Switch(Instruction):
    VALUES = ("value",)
    value: Value
    default: str
    cases: tuple[tuple[Constant, str], ...]

    @property
    def targets(self) -> tuple[str, ...]:
        return (self.default, *(label for _, label in self.cases))

    def with_labels(self, change: Callable[[str], str]) -> Switch:
        cases = tuple((value, change(label)) for value, label in self.cases)
        return dataclasses.replace(self, default=change(self.default), cases=cases)


@dataclass(frozen=True)
class Unreachable(Instruction):
    pass
