"""Overwritten: what the adjoint of a kernel over fields reads of these, and the kernel has overwritten by then.

An adjoint finds fields as the kernel leaves them (fields.py). What it reads, the kernel has read, too: whatever the
kernel writes behind that is another element, or the same one, or it is not known which. Knows no derivatives.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..ir.control_flow import ControlFlow, Loop
from ..ir.instructions import (
    AtomicUpdate,
    Binary,
    Call,
    CompareExchange,
    Instruction,
    Load,
    Phi,
    Return,
    Store,
)
from ..ir.model import Function
from ..ir.origins import UNKNOWN, Origin, Origins, Root, is_address
from ..ir.passes.lookups import Indices
from ..ir.values import Local, LoweringError, integer_of
from .elements import Element, Elements, Index, Kernel, are_apart
from .fields import Fields


class Task(Protocol):
    """A task of a kernel, and in it the function that the work is in."""

    @property
    def body(self) -> Function: ...

    @property
    def indices(self) -> Mapping[str, Indices]: ...

    @property
    def is_loop(self) -> bool: ...


@dataclass(frozen=True)
class Overwritten:
    """A place of a field of which a value is read that may be overwritten behind that, or surely is."""

    place: int
    surely: bool


def overwritten(
    tasks: Sequence[Task], state: Fields, needed: Sequence[Mapping[int, bool]] | None = None
) -> list[Overwritten]:
    """The places of fields of which something is needed that the kernel may overwrite once it has read it.

    Args:
        tasks: those of the kernel, in their order.
        needed: of each task the lines of the loads whose values are needed, with whether more follows from these than
            which way is taken; None where that is not known, and nothing is sure.

    Raises:
        LoweringError: where it is not known which field a task uses, or in which order it runs.
    """
    kernel = Kernel(state, frozenset().union(*(_written_by(task.body, state) for task in tasks)), {})
    views = [_View(task, kernel, place) for place, task in enumerate(tasks)]
    found: dict[int, bool] = {}
    for number, view in enumerate(views):
        for read in view.reads:
            if needed is not None and read.line not in needed[number]:
                continue
            if read.place is None:
                raise LoweringError("it is not known which field a kernel reads, and finds overwritten")
            behind = [(other, write) for other in views[number:] for write in other.writes_to(read.place)]
            left = [(other, write) for other, write in behind if not view.is_apart(read, other, write)]
            if left:
                counts = needed is not None and needed[number][read.line]
                surely = counts and any(view.is_surely_overwritten(read, other) for other, _ in left)
                found[read.place] = found.get(read.place, False) or surely
    return [Overwritten(place, surely) for place, surely in sorted(found.items())]


def _written_by(function: Function, state: Fields) -> set[Origin]:
    origins = Origins(function, state.places)
    return {memory for each in function.instructions if _writes(each) for memory in origins.touched_by(each)}


def _writes(instruction: Instruction) -> bool:
    if isinstance(instruction, Call):
        return not is_address(instruction.name) and any(each.type.is_pointer for each in instruction.arguments)
    return isinstance(instruction, (Store, AtomicUpdate, CompareExchange))


@dataclass(frozen=True)
class _Access:
    """A read or a write of an element of a field."""

    place: int | None  # None: not known
    element: Element | None  # None: not known
    label: str  # the block
    position: int  # in it
    line: int


class _View:
    """A task: where it touches fields, and in which order.

    A *turn* is one of a parallel loop, or a task without one as a whole.
    """

    def __init__(self, task: Task, kernel: Kernel, place: int) -> None:
        self.function = task.body
        self.flow = ControlFlow(self.function)
        self.outer = self._parallel_loop() if task.is_loop else None
        phis = () if self.outer is None else self.function.by_label[self.outer.header].phis
        self.index = phis[0] if len(phis) == 1 else None  # of the parallel loop
        self._piece = None if self.outer is None else self.function.parameters[-1].value
        turn = None if self.index is None else self.index.result
        self.elements = Elements(kernel, place, self.function, task.indices, turn, self._piece)
        self.origins = Origins(self.function, kernel.state.places)
        self._home = {
            each.result.name: block.label
            for block in self.function.blocks
            for each in block.instructions
            if each.result is not None
        }
        self._behind: dict[str, set[str]] = {}  # the blocks behind a block, in a turn
        self.reads, self.writes = self._accesses()

    def _parallel_loop(self) -> Loop:
        loops = [loop for loop in self.flow.loops if loop.depth == 1]
        if len(loops) != 1 or self.flow.leaving(loops[0]) != [loops[0].header]:
            raise LoweringError(f"{self.function.name!r}: it is not known what its parallel loop is")
        return loops[0]

    def _accesses(self) -> tuple[list[_Access], list[_Access]]:
        reads, writes = [], []
        for label in self.flow.order:
            for position, each in enumerate(self.function.by_label[label].instructions):
                pointers = []
                if isinstance(each, (Load, Store, AtomicUpdate, CompareExchange)):
                    pointers = [each.pointer]
                elif isinstance(each, Call) and _writes(each):
                    pointers = [operand for operand in each.arguments if operand.type.is_pointer]
                for pointer in pointers:
                    memory = self.origins.of(pointer)
                    if isinstance(memory, Root) or memory is UNKNOWN:
                        place = memory.node if isinstance(memory, Root) else None
                        element = None if place is None else self.elements.at(pointer, place)
                        access = _Access(place, element, label, position, each.line)
                        (reads if isinstance(each, Load) else writes).append(access)
        return reads, writes

    def writes_to(self, place: int) -> list[_Access]:
        """Those that may be to a place."""
        return [each for each in self.writes if each.place in (place, None)]

    # ---- order ----

    def is_apart(self, read: _Access, other: _View, write: _Access) -> bool:
        """Whether the write, of this task or of a later one, never writes to the element once it has been read."""
        if self._differs(read, write):
            return True
        if other is not self:
            return False
        if self._may_follow(read, write) and not self._goes_on(read, write):
            return False
        return self.outer is None or self._is_of_one_turn(read, write)

    @staticmethod
    def _differs(read: _Access, write: _Access) -> bool:
        """Whether the elements differ by a constant, beside what is the same number in all of the kernel: along an
        axis, or in their place, where all else is the same."""
        one, other = read.element or (), write.element or ()
        if any(not mine.follows and mine.differs(its) for mine in one for its in other):
            return True
        return are_apart(one, other) and not any(each.follows for each in one)

    def _goes_on(self, read: _Access, write: _Access) -> bool:
        """Whether the write, where it comes behind the read in a turn, has another index along an axis: in this round
        of a loop, and in all that follow."""
        one, other = read.element or (), write.element or ()
        if are_apart(one, other) and not any(map(self._loops_of, one)):
            return True
        for mine in one:
            for its in other:
                if not mine.differs(its):
                    continue
                loops = self._loops_of(mine)
                if not loops:
                    return True
                ahead = self._step(mine, loops) * (its.shift - mine.shift)
                if ahead > 0 and not mine.size and write.label in loops[0]:
                    return True
        return False

    def _step(self, index: Index, loops: Sequence[Loop]) -> int:
        """By what a loop's own variable, which an index is, goes on from round to round; 0: it is no such, or the loop
        itself runs again in a turn."""
        (variable, *more) = index.follows
        phi = self.function.definition(variable)
        if more or len(loops) > 1 or not isinstance(phi, Phi) or index.value != self.elements.meaning(variable)[0]:
            return 0
        if self._home[variable.name] != loops[0].header:
            return 0
        steps = [
            self.function.definition(value)
            for value, label in zip(phi.values, phi.labels, strict=True)
            if label in loops[0]
        ]
        if len(steps) != 1 or not isinstance(steps[0], Binary) or steps[0].opcode != "add":
            return 0
        return (integer_of(steps[0].right) or 0) if steps[0].left == phi.result else 0

    def _loops_of(self, index: Index) -> list[Loop]:
        """The loops in a turn in which an index is not the same in all rounds, outer ones first."""
        found = [
            loop
            for each in index.follows
            if each.name in self._home
            for loop in self.flow.loops_around(self._home[each.name])
            if loop is not self.outer
        ]
        return sorted(set(found), key=lambda loop: loop.depth)

    def _may_follow(self, read: _Access, write: _Access) -> bool:
        """Whether the write may come behind the read in a turn."""
        if read.label == write.label and read.position < write.position:
            return True
        if read.label not in self._behind:
            self._behind[read.label] = self._reached(self._targets(read.label), ())
        return write.label in self._behind[read.label]

    def _targets(self, label: str) -> list[str]:
        return [each for each in self.function.by_label[label].end.targets if each != self._turns]

    @property
    def _turns(self) -> str | None:
        """The block at which a turn ends."""
        return None if self.outer is None else self.outer.header

    def _reached(self, labels: Iterable[str], walls: Collection[str]) -> set[str]:
        """The blocks that control may come to in a turn, from some of them on, without passing walls."""
        pending, found = list(labels), set[str]()
        while pending:
            label = pending.pop()
            if label not in found and label not in walls:
                found.add(label)
                pending += self._targets(label)
        return found

    def _is_of_one_turn(self, read: _Access, write: _Access) -> bool:
        """Whether no other turn of the parallel loop writes to the element: indices that both have along the same axes
        tell which turn it is of."""
        one, other = read.element or (), write.element or ()
        common = {mine.value for mine in one for its in other if mine.is_same(its)}
        return self.index is not None and self.elements.follows(self.index.result, common)

    # ---- what surely happens ----

    def is_surely_overwritten(self, read: _Access, other: _View) -> bool:
        """Whether a task, this one or a later one, writes to the element behind the read, whenever that is done."""
        if read.element is None:
            return False
        if other is not self:
            mine = self._as_of_turns(read.element)
            writes = [each for each in other.writes_to(read.place) if other._as_of_turns(each.element) == mine]
            is_once = other.outer is None or (self._range is not None and self._range == other._range)
            first = other._first if other.outer is None else other._first_of_turn
            return mine is not None and is_once and bool(writes) and other._is_passed(first, -1, writes, None)
        writes = [each for each in self.writes_to(read.place) if each.element == read.element]
        loops = [loop for each in read.element for loop in self._loops_of(each)]
        within = max(loops, key=lambda loop: loop.depth, default=None)
        return bool(writes) and self._is_passed(read.label, read.position, writes, within)

    def _is_passed(self, label: str, position: int, writes: Sequence[_Access], within: Loop | None) -> bool:
        """Whether on every way from an instruction to the end of the round of a loop, or of the turn, there is one of
        the writes."""
        if any(each.label == label and each.position > position for each in writes):
            return True
        walls = {each.label for each in writes if within is None or each.label in within}
        ends = {within.header, *self._outside(within)} if within else {self._turns}
        for target in self.function.by_label[label].end.targets:
            if target in ends:
                return False
        reached = self._reached(self._targets(label), walls)
        leaves = {each for one in reached for each in (one, *self.function.by_label[one].end.targets)}
        return not leaves & ends and not any(isinstance(self.function.by_label[one].end, Return) for one in reached)

    def _outside(self, loop: Loop) -> set[str]:
        return {each.label for each in self.function.blocks} - loop.blocks

    @property
    def _first(self) -> str:
        return self.flow.order[0]

    @property
    def _first_of_turn(self) -> str:
        assert self.outer is not None
        inside = [each for each in self.function.by_label[self.outer.header].end.targets if each in self.outer]
        return inside[0]

    def _as_of_turns(self, element: Element | None) -> Hashable | None:
        """An element as a function of the number of the turn, with nothing of the task; None where it is none."""
        if element is None:
            return None
        known = set() if self.index is None else {self.index.result}
        if any(each.follows - known for each in element):
            return None
        return tuple((each.axis, each.value, each.shift) for each in element)

    @property
    def _range(self) -> Hashable | None:
        """From where to where the turns of a parallel loop go, with nothing of the task; None where it is not known."""
        if self.index is None or self.outer is None:
            return None
        end = self.function.by_label[self.outer.header].end
        starts = [v for v, label in zip(self.index.values, self.index.labels, strict=True) if label not in self.outer]
        parts = [self.elements.meaning(each) for each in (*starts, end.operands[0])]
        known = {self.index.result, self._piece}
        if frozenset[Local]().union(*(follows for _, follows in parts)) - known:
            return None
        return tuple(what for what, _ in parts)
