"""The reverse mode: from a task of a kernel to that of its adjoint. One pass.

    adjoint(function, ...)

Each turn of a parallel loop, or of one whose turns need nothing of each other, and any other task as a whole, is a
*sweep*: it runs forward as it is, and then backward, block after block in the opposite order. Beside every active
number lies its adjoint, in a local variable, beside every active memory its gradient. The sweep backward takes the
adjoint of a result, and adds to those of the operands what the rules of the forward mode say, which are linear in the
tangents; a store gives up the gradient of what it has overwritten. So a turn may update arrays in place.

What the sweep backward needs of the values of the sweep forward is computed again where that is cheap and its operands
are still there: indices, elements of arrays that nothing writes to, sums and products of these. Everything else is
kept, in local variables; of a loop for each turn in a frame on a stack, one stack for each loop. A loop counts its
turns. What is neither active nor needed is not there at all.

An atomic minimum or maximum hands its gradient to the number that has won, which is the first of equal ones, as in the
forward mode. Who that is, a run of the task before writes down (`recording`): the turn, and how many of its minima and
maxima have been before; so it does not have to be found by numbers that may have been rounded in another way.

The function is one that LLVM has brought to SSA form, with loop-simplify and LCSSA, and has not combined or moved
anything of, so that an element is still reached as Taichi has written it, and no branch has become a select, whose
other side would then be differentiated, too. What the pass does not understand it refuses with its line.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NoReturn, TypeVar

from ..ir import types as t
from ..ir.builder import Builder
from ..ir.control_flow import ControlFlow, Loop
from ..ir.instructions import (
    Alloca,
    AtomicUpdate,
    Binary,
    Branch,
    Call,
    Cast,
    Compare,
    ExtractElement,
    GetElementPointer,
    InsertElement,
    Instruction,
    Load,
    Phi,
    Return,
    Select,
    Store,
    Unary,
)
from ..ir.model import Block, Function, Parameter
from ..ir.origins import Array, Origin, Other, Root, Temporary
from ..ir.passes.chains import offset_chain, peel_constant
from ..ir.passes.lookups import Indices
from ..ir.values import Constant, Global, Local, LoweringError, Value, integer, integer_of, zero
from ..ir.writer import write_instruction
from .activity import Activity, Memory, is_real, read_from, written
from .dead import has_effect, only_computes, without_dead
from .fields import STEP, Fields
from .kept import elements_of
from .rules import Arithmetic, real, rule_of
from .shared import Temporaries

_CHEAP = frozenset({"add", "sub", "mul", "sdiv", "srem", "udiv", "urem", "shl", "lshr", "ashr", "and", "or", "xor"})
_CHEAP_REAL = frozenset({"fadd", "fsub", "fmul"})
_MOST_AGAIN = 40  # instructions that computing a value again may take
_FEW = 6  # so few are less than to keep a value
_MOST_WEIGHED = 500  # kept values that are looked at one by one
_RAW = t.Pointer(t.I8)
_EXTREMA = {"min": "olt", "max": "ogt"}
Given = TypeVar("Given")


@dataclasses.dataclass(frozen=True)
class Surroundings:
    """What the adjoint of a task follows from beside the task. Arrays are by their places in the arguments' struct."""

    activity: Activity  # of all tasks
    place: int  # of this one among them
    changed: frozenset[Origin]  # what this task writes to: it is not there any more on the way back
    ranks: Mapping[int, int]  # of arrays
    with_gradient: frozenset[int]  # the arrays that have one
    temporaries: Temporaries
    winners: Callable[[Array | Temporary], Array | Temporary]  # where the winners of minima and maxima are written down
    arguments: Callable[[], t.Struct]  # the type of the arguments' struct, with all arrays that `winners` has given
    types: Mapping[str, t.Type | None]
    fields: Fields = dataclasses.field(default_factory=Fields)
    indices: Mapping[str, Indices] = dataclasses.field(default_factory=dict)  # of elements of fields


def adjoint(function: Function, is_loop: bool, around: Surroundings, called: dict[str, Function]) -> Function:
    """The adjoint of a task, or of one piece of a parallel one, under the same name and with the same parameters.

    Args:
        function: the task's body. Of arrays it uses elements only (field 1 of `Array`); the gradients are field 2.
        is_loop: whether it is a piece of a parallel loop; a serial task otherwise.
        around: what it follows from beside the function.
        called: is given the declarations of functions that are called anew.

    Raises:
        LoweringError: for what cannot be differentiated, with the line.
    """
    first = _Pass(function, is_loop, around, called)
    first.go_back()
    return _Pass(function, is_loop, around, called, first.worth_keeping()).run()


def recording(function: Function, is_loop: bool, around: Surroundings) -> Function:
    """The task, or a piece of it, that writes down who wins its minima and maxima, for its adjoint."""
    return _Pass(function, is_loop, around, {}).recorded()


@dataclasses.dataclass
class _Kept:
    """Where a value is kept: in the local variable `slot`, or in the frames of a loop at an offset."""

    type: t.Type
    slot: Local | None
    loop: Loop | None = None
    offset: int = 0


@dataclasses.dataclass
class _Frames:
    """The frames of a loop's turns, whose size is known at the end."""

    loop: Loop
    room: Local  # the stack's memory
    raw: Local  # the same as bytes
    current: Local  # the variable that points to the frame of the turn that is gone through, forward or backward
    size: int = 0

    @property
    def size_constant(self) -> Constant:
        """Stands for the size until it is known."""
        return Constant(t.I64, f"size of {self.loop.header}")


class _Pass:
    def __init__(
        self,
        function: Function,
        is_loop: bool,
        around: Surroundings,
        called: dict[str, Function],
        to_keep: frozenset[str] = frozenset(),
    ) -> None:
        """`to_keep` are values that are kept where they are needed, however cheap they are."""
        self.to_keep = to_keep
        self.function = function
        self.around = around
        self.called = called
        self.flow = ControlFlow(function)
        self.home = {
            each.result.name: block.label
            for block in function.blocks
            for each in block.instructions
            if each.result is not None
        }
        self.results = {each.result.name: each.result for each in function.instructions if each.result is not None}
        self._find_sweep(is_loop)
        self.build = Builder(function.names, around.types)
        self.allocas: list[Instruction] = []
        self.start: list[Instruction] = []  # of the sweep forward
        self.clear: list[Instruction] = []  # of the sweep backward
        self.slots: dict[str, Local] = {}  # variables with adjoints, by the name of the value
        self.shadows: dict[Local, Local] = {}  # allocas with gradients, by those that they are of
        self.kept: dict[str, _Kept] = {}
        self.costs: dict[str, int] = {}
        self.frames: dict[str, _Frames] = {}  # by the header of the loop
        self.framing: dict[int, tuple[Instruction, str]] = {}  # what only serves frames, and the loop's header, by id
        self.turns: dict[str, Local] = {}  # variables with the turns that are left to go back, by the header
        self.counts: dict[str, Local] = {}  # the number of a turn, forward
        self.came: dict[str, tuple[Local, tuple[str, ...]]] = {}  # by the block which of those before it came
        self.memo: dict[str, Value] = {}
        self.backward = {label: self.build.fresh(f"back.{label}") for label in self.sweep}
        self.finish = self.build.fresh("swept")
        self.blocks: list[Block] = []
        self.own: dict[Memory, bool] = {}
        self.wanted: set[str] = set()  # blocks to be gone through backward
        self.pending: list[str] = []  # those of them that are still to be written
        self.here = ""  # the label of the block that is being written
        self.taken: Local | None = None  # the variable with how many minima and maxima a turn has taken

    def _find_sweep(self, is_loop: bool) -> None:
        """What is swept: the blocks, the first and the last of them."""
        self.index: Local | None = None  # of the loop
        self.is_parallel = is_loop
        loop = None if is_loop else self._independent()
        if loop is None and not is_loop:
            self.sweep = list(self.flow.order)
            self.first = self.sweep[0]
            ends = [label for label in self.sweep if isinstance(self.function.by_label[label].end, Return)]
            if len(ends) != 1:
                raise LoweringError(f"{self.function.name!r}: the reverse mode expected one return, found {len(ends)}")
            self.last = ends[0]
            self.outer: Loop | None = None
            return
        loop = loop or self._only_loop()
        if loop is None:
            raise LoweringError(f"{self.function.name!r}: the reverse mode does not know the parallel loop of it")
        self.outer = loop
        header = self.function.by_label[loop.header]
        if len(header.phis) == 1:
            self.index = header.phis[0].result
        self.sweep = [label for label in self.flow.order if label in loop and label != loop.header]
        (self.first,) = (label for label in header.end.targets if label in loop)
        self.last = loop.latch

    def _only_loop(self) -> Loop | None:
        """The one loop that lies in no other, where it is left from its header alone."""
        loops = [loop for loop in self.flow.loops if loop.depth == 1]
        if len(loops) != 1 or loops[0].header == loops[0].latch:
            return None
        inside = [label for label in self.function.by_label[loops[0].header].end.targets if label in loops[0]]
        return loops[0] if len(inside) == 1 and self.flow.leaving(loops[0]) == [loops[0].header] else None

    def _independent(self) -> Loop | None:
        """The loop that a serial task consists of, where no turn of it needs what another one has done: it writes to
        arrays alone, each element with the loop's index at one and the same place, or only adds to them."""
        loop = self._only_loop()
        if loop is None or len(phis := self.function.by_label[loop.header].phis) != 1:
            return None
        (start,) = (value for value, label in zip(phis[0].values, phis[0].labels, strict=True) if label not in loop)
        (following,) = (value for value, label in zip(phis[0].values, phis[0].labels, strict=True) if label in loop)
        step = self.function.definition(following)
        if not isinstance(step, Binary) or step.opcode != "add" or step.left != phis[0].result or start == following:
            return None
        if integer_of(step.right) in (None, 0):
            return None
        added: set[Memory] = set()
        touched: set[Memory] = set()
        stored: set[Memory] = set()
        for block in self.function.blocks:
            for each in block.instructions:
                if isinstance(each, AtomicUpdate) and each.operation == "fadd" and not self.function.users(each.result):
                    added.add(self._memory(each.pointer))
                elif isinstance(each, Load):
                    touched.add(self._memory(each.pointer))
                elif isinstance(each, Store) and block.label in loop:
                    stored.add(self._memory(each.pointer))
                elif isinstance(each, Store) or (has_effect(each) and not each.ends_block):
                    return None
        blocks = [label for label in self.flow.order if label in loop]
        if added & (touched | stored):
            return None
        return loop if all(self._own_axes(each, phis[0].result, blocks) for each in stored) else None

    # ---- the whole ----

    def go_back(self) -> None:
        """Writes the sweep backward, which tells what the sweep forward has to keep."""
        self._check_outside()
        self.active_blocks = {label for label in self.sweep if self._is_active_block(self.function.by_label[label])}
        self._want(self.last)
        while self.pending:
            self._reverse_block(self.function.by_label[self.pending.pop()])

    def run(self) -> Function:
        self.go_back()
        forward = {label: self._forward_block(self.function.by_label[label]) for label in self.sweep}
        clear = self.backward[self.last]
        blocks = [
            *(forward.get(b.label, b) for b in self.function.blocks),
            *(Block(b.label, (*self.clear, *b.instructions)) if b.label == clear else b for b in self.blocks),
            Block(self.finish, (self.function.by_label[self.last].end,)),
        ]
        blocks = [self._relabelled(block) for block in blocks]
        head = self.function.blocks[0].label
        blocks = [Block(b.label, (*self.allocas, *b.instructions)) if b.label == head else b for b in blocks]
        return self._settled(self.function.with_blocks(blocks))

    def _want(self, label: str) -> str:
        """The block of the sweep backward for one of the sweep forward, which will be written."""
        if label not in self.wanted:
            self.wanted.add(label)
            self.pending.append(label)
        return self.backward[label]

    def _relabelled(self, block: Block) -> Block:
        """The parallel loop's header comes from the end of the sweep backward."""
        if self.outer is None or block.label != self.outer.header:
            return block
        change = {self.last: self.finish}
        phis = [each.with_labels(lambda label: change.get(label, label)) for each in block.phis]
        return Block(block.label, (*phis, *block.instructions[len(phis) :]))

    def _settled(self, function: Function) -> Function:
        """With frames of the size that they have in the end, or none, and without what is dead."""
        sizes = {f.size_constant: integer(t.I64, -(-f.size // 16) * 8) for f in self.frames.values()}
        unused = {header for header, frames in self.frames.items() if frames.size == 0}
        rooms = {frames.room.name: 32 * 2 * (-(-frames.size // 16) * 8) + 8 for frames in self.frames.values()}

        def change(instruction: Instruction) -> Instruction | list[Instruction] | None:
            if self.framing.get(id(instruction), (None, None))[1] in unused:
                return []
            if isinstance(instruction, Alloca) and instruction.result.name in rooms:
                kind = t.Array(rooms[instruction.result.name], t.I8)
                return dataclasses.replace(
                    instruction, result=Local(t.Pointer(kind), instruction.result.name), kind=kind
                )
            if (
                isinstance(instruction, Cast)
                and isinstance(instruction.value, Local)
                and instruction.value.name in rooms
            ):
                kind = t.Array(rooms[instruction.value.name], t.I8)
                return dataclasses.replace(instruction, value=Local(t.Pointer(kind), instruction.value.name))
            if isinstance(instruction, Call):
                return instruction.with_operands(
                    lambda value: sizes.get(value, value) if isinstance(value, Constant) else value
                )
            return None

        return without_dead(function.rewritten(change))

    def refuse(self, instruction: Instruction, why: str) -> NoReturn:
        raise LoweringError(
            f"the reverse mode cannot differentiate {write_instruction(instruction).strip()[:200]!r} (line "
            f"{instruction.line} of {self.function.name!r}): {why}"
        )

    # ---- what is active ----

    def _is_active(self, value: Value) -> bool:
        return self.around.activity.is_active(self.around.place, value)

    def _memory(self, pointer: Value) -> Memory:
        return self.around.activity.memory(self.around.place, pointer)

    def _is_active_instruction(self, instruction: Instruction) -> bool:
        return self.around.activity.is_active_instruction(self.around.place, instruction)

    def _is_active_block(self, block: Block) -> bool:
        return any(map(self._is_active_instruction, block.instructions))

    def _check_outside(self) -> None:
        swept = set(self.sweep)
        for block in self.function.blocks:
            for each in block.instructions:
                if block.label not in swept and self._is_active_instruction(each):
                    self.refuse(each, "it stands outside of the parallel loop")

    # ---- values of the sweep forward ----

    def _inner(self, label: str) -> Loop | None:
        """The innermost loop of the sweep that a block lies in."""
        loop = self.flow.loop_of(label)
        return None if loop is None or loop is self.outer else loop

    def _is_there(self, label: str) -> bool:
        """Whether what a block has computed can be used as it is in all of the sweep backward."""
        return label not in self.backward or (self._inner(label) is None and self.flow.dominates(label, self.last))

    def value(self, value: Value) -> Value:
        """A value of the sweep forward, in the block of the sweep backward that is being written."""
        if not isinstance(value, Local):
            return value
        home = self.home.get(value.name)
        if home is None or self._is_there(home):
            return value
        if value.name not in self.memo:
            is_kept = value.name in self.kept or value.name in self.to_keep
            if not is_kept and self._cost(value) <= _MOST_AGAIN:
                self.memo[value.name] = self._again(value)
            else:
                self.memo[value.name] = self._load_kept(self._keep(value, home))
        return self.memo[value.name]

    def _cost(self, value: Value) -> int:
        """About how many instructions it takes to compute a value again, more than _MOST_AGAIN where that cannot be."""
        if not isinstance(value, Local):
            return 0
        home = self.home.get(value.name)
        if home is None or self._is_there(home):
            return 0
        if value.name in self.kept or value.name in self.to_keep:
            return 1
        if value.name not in self.costs:
            self.costs[value.name] = _MOST_AGAIN + 1  # of what follows from itself
            definition = self.function.definition(value)
            if definition is not None and self._is_cheap(definition):
                operands = () if isinstance(definition, Phi) else definition.operands
                self.costs[value.name] = 1 + sum(map(self._cost, operands))
        return self.costs[value.name]

    def worth_keeping(self) -> frozenset[str]:
        """What was kept, without what a few instructions make of the rest of it, later values first."""
        kept = [name for name in self.results if name in self.kept]
        if len(kept) > _MOST_WEIGHED:
            return frozenset(kept)
        left = set(kept)
        self.kept = {}
        for name in reversed(kept):
            self.to_keep = frozenset(left - {name})
            self.costs = {}
            if self._cost(self.results[name]) <= _FEW:
                left.remove(name)
        return frozenset(left)

    def _is_cheap(self, instruction: Instruction) -> bool:
        if isinstance(instruction, Binary):
            return instruction.opcode in (_CHEAP | _CHEAP_REAL)
        if isinstance(instruction, (Compare, Select, GetElementPointer, Cast, ExtractElement, InsertElement, Unary)):
            return True
        if isinstance(instruction, Load):
            return not (instruction.volatile or instruction.ordering) and self._is_fixed(instruction.pointer)
        if isinstance(instruction, Call):
            return only_computes(instruction) and not any(each.type.is_float for each in instruction.operands)
        if isinstance(instruction, Phi):
            return self._induction(instruction) is not None
        return False

    def _is_fixed(self, pointer: Value) -> bool:
        memory = self._memory(pointer)
        if isinstance(memory, Local) or memory is Other.UNKNOWN:
            return False
        return memory is Other.CONTEXT or not self.around.changed & {memory, Other.UNKNOWN}

    def _induction(self, phi: Phi) -> tuple[Loop, Value, int] | None:
        """Of a phi that goes up by a constant in each turn of a loop: the loop, where it starts, the constant."""
        loop = self._inner(self.home[phi.result.name])
        if loop is None or loop.header != self.home[phi.result.name] or not phi.result.type.is_integer:
            return None
        starts = [value for value, label in zip(phi.values, phi.labels, strict=True) if label not in loop]
        nexts = [value for value, label in zip(phi.values, phi.labels, strict=True) if label in loop]
        if len(starts) != 1 or len(nexts) != 1 or self._cost(starts[0]) > _MOST_AGAIN // 2:
            return None
        step = self.function.definition(nexts[0])
        if not isinstance(step, Binary) or step.opcode != "add" or step.left != phi.result:
            return None
        number = integer_of(step.right)
        return None if number is None else (loop, starts[0], number)

    def _again(self, value: Local) -> Value:
        """Computes a value once more."""
        definition = self.function.definition(value)
        assert definition is not None
        if isinstance(definition, Phi):
            found = self._induction(definition)
            assert found is not None
            loop, start, step = found
            turn: Value = self.build.load(self._turn(loop), name="turn")
            bits = value.type
            if bits != t.I64:
                turn = self.build.cast("trunc", turn, bits)
            if step != 1:
                turn = self.build.binary("mul", turn, integer(bits, step))
            begin = self.value(start)
            return turn if integer_of(begin) == 0 else self.build.binary("add", begin, turn)
        operands = {each: self.value(each) for each in definition.operands}
        result = Local(value.type, self.build.fresh(f"{value.name}.again"))
        copy = definition.with_operands(lambda each: operands[each])
        self.build.add(dataclasses.replace(copy, result=result))
        return result

    def _keep(self, value: Local, home: str) -> _Kept:
        """Sees to it that a value is kept."""
        if value.name not in self.kept:
            loop = self._inner(home)
            if loop is None:
                slot = Local(t.Pointer(value.type), self.build.fresh(f"{value.name}.kept"))
                self.allocas.append(Alloca(slot, value.type))
                self.kept[value.name] = _Kept(value.type, slot)
            else:
                frames = self._frames_of(loop)
                size = _size(value.type)
                offset = -(-frames.size // size) * size
                frames.size = offset + size
                self.kept[value.name] = _Kept(value.type, None, loop, offset)
        return self.kept[value.name]

    def _load_kept(self, kept: _Kept) -> Value:
        if kept.slot is not None:
            return self.build.load(kept.slot, name="kept")
        assert kept.loop is not None
        frame = self.build.load(self._frames_of(kept.loop).current, name="frame")
        return self.build.load(self._place_in(frame, kept), name="kept")

    def _place_in(self, frame: Value, kept: _Kept) -> Value:
        place = self.build.element_pointer(frame, kept.offset) if kept.offset else frame
        return self.build.cast("bitcast", place, t.Pointer(kept.type))

    def _store_kept(self, value: Local, frame: Callable[[Loop], Value]) -> None:
        """In the sweep forward, behind a value."""
        if (kept := self.kept.get(value.name)) is None:
            return
        if kept.slot is not None:
            self.build.store(value, kept.slot)
        else:
            assert kept.loop is not None
            self.build.store(value, self._place_in(frame(kept.loop), kept))

    # ---- loops ----

    def _frames_of(self, loop: Loop) -> _Frames:
        if loop.header not in self.frames:
            room = Local(t.Pointer(t.Array(0, t.I8)), self.build.fresh("frames"))
            raw = Local(_RAW, self.build.fresh("frames.raw"))
            current = Local(t.Pointer(_RAW), self.build.fresh("frame.current"))
            self.frames[loop.header] = _Frames(loop, room, raw, current)
            own = [
                Alloca(room, t.Array(0, t.I8), align=16),
                Cast(raw, "bitcast", room),
                Alloca(current, _RAW),
            ]
            self.allocas += own
            init = self._stack_call("stack_init", t.VOID, raw)
            self.start.append(init)
            for each in (*own, init):
                self.framing[id(each)] = each, loop.header
        return self.frames[loop.header]

    def _stack_call(self, name: str, kind: t.Type, *arguments: Value) -> Call:
        kinds = tuple(each.type for each in arguments)
        if name not in self.called:
            parameters = tuple(Parameter(Local(each, f"p{place}")) for place, each in enumerate(kinds))
            self.called[name] = Function(name, kind, parameters)
        result = None if kind == t.VOID else Local(kind, self.build.fresh("frame"))
        return Call(result, kind, Global(t.Pointer(t.FunctionType(kind, kinds)), name), arguments)

    def _add_framing(self, frames: _Frames, instruction: Instruction) -> None:
        self.framing[id(instruction)] = instruction, frames.loop.header
        self.build.add(instruction)

    def _push(self, frames: _Frames) -> Local:
        """A new frame, of the turn that begins."""
        push = self._stack_call("stack_push", t.VOID, frames.raw, integer(t.I64, 32), frames.size_constant)
        self._add_framing(frames, push)
        return self._top(frames)

    def _top(self, frames: _Frames) -> Local:
        top = self._stack_call("stack_top_primal", _RAW, frames.raw, frames.size_constant)
        self._add_framing(frames, top)
        assert top.result is not None
        return top.result

    def _take_top(self, loop: Loop) -> None:
        """The frame of the turn that is gone back to is the top one."""
        frames = self._frames_of(loop)
        self._add_framing(frames, Store(None, self._top(frames), frames.current))

    def _turn(self, loop: Loop) -> Local:
        if loop.header not in self.turns:
            self.turns[loop.header] = variable = Local(t.Pointer(t.I64), self.build.fresh("turns"))
            self.allocas.append(Alloca(variable, t.I64))
        return self.turns[loop.header]

    def _count(self, loop: Loop) -> Local:
        """The number of a turn, forward, from 0."""
        if loop.header not in self.counts:
            self.counts[loop.header] = Local(t.I64, self.build.fresh("count"))
        return self.counts[loop.header]

    def _enter(self, loop: Loop, after: str) -> None:
        """Into a loop from behind it, from the block `after` it."""
        number = self._known_count(loop)
        if number is not None:
            count: Value = integer(t.I64, number)
        elif self._is_there(after):
            count = self._count(loop)
        else:
            name = f"{self._count(loop).name} at {after}"
            self.home.setdefault(name, after)
            count = self._load_kept(self._keep(Local(t.I64, name), after))
        self.build.store(count, self._turn(loop))
        self._take_top(loop)

    def _known_count(self, loop: Loop) -> int | None:
        """How often a loop comes back to its header, where that is a constant."""
        header = self.function.by_label[loop.header]
        end = header.end
        if self.flow.leaving(loop) != [loop.header] or not isinstance(end, Branch) or end.yes not in loop:
            return None
        test = self.function.definition(end.condition) if end.condition is not None else None
        if not isinstance(test, Compare) or test.predicate != "slt":
            return None
        phi = self.function.definition(test.left)
        stop = integer_of(test.right)
        found = self._induction(phi) if isinstance(phi, Phi) and self.home[phi.result.name] == loop.header else None
        if found is None or stop is None or found[2] != 1 or (begin := integer_of(found[1])) is None:
            return None
        return max(0, stop - begin)

    # ---- the sweep forward ----

    def _forward_block(self, block: Block) -> Block:
        label = block.label
        phis: list[Instruction] = list(block.phis)
        loop = next((each for each in self.flow.loops if each.header == label and each is not self.outer), None)
        count = self.counts.get(label)
        following: Local | None = None
        if loop is not None and count is not None:
            following = Local(t.I64, self.build.fresh("count.next"))
            outside = [each for each in self.flow.predecessors[label] if each not in loop]
            values = (*(integer(t.I64, 0) for _ in outside), following)
            phis.append(Phi(count, values, (*outside, loop.latch)))
        if label in self.came:
            result, labels = self.came[label]
            phis.append(Phi(result, tuple(integer(t.I8, place) for place in range(len(labels))), labels))
        own: dict[str, Value] = {}

        def frame(wanted: Loop) -> Value:
            return own.setdefault(wanted.header, self.build.load(self._frames_of(wanted).current, name="frame"))

        if label == self.first:
            for each in self.start:
                self.build.add(each)
        if following is not None and count is not None:
            self.build.add(Binary(following, "add", count, integer(t.I64, 1)))
        if loop is not None and (frames := self.frames.get(label)) is not None:
            self._add_framing(frames, Store(None, self._push(frames), frames.current))
        for header, number in self.counts.items():
            name = f"{number.name} at {label}"
            if name in self.kept:
                kept = self.kept[name]
                assert header != label
                place = kept.slot if kept.slot is not None else self._place_in(frame(_given(kept.loop)), kept)
                self.build.store(number, place)
        for phi in phis:
            assert phi.result is not None
            self._store_kept(phi.result, frame)
        for instruction in block.instructions[len(block.phis) : -1]:
            if self._writes_field(instruction):
                continue
            self.build.add(instruction)
            if instruction.result is not None:
                self._store_kept(instruction.result, frame)
            if self.taken is not None and self._is_recorded(instruction):
                self._count_taken()
        if label == self.last:
            self.build.branch(self.backward[label])
        else:
            self.build.add(block.end)
        return Block(label, (*phis, *self.build.take()))

    def _writes_field(self, instruction: Instruction) -> bool:
        """Whether it is left out forward: fields are there as the kernel has left them."""
        return any(isinstance(self._memory(pointer), Root) for pointer, _ in written(instruction))

    # ---- the sweep backward ----

    def _reverse_block(self, block: Block) -> None:
        self.memo = {}
        self.here = self.backward[block.label]
        if block.label in self.active_blocks:
            for instruction in reversed(block.instructions[len(block.phis) : -1]):
                if self._is_active_instruction(instruction):
                    self._reverse(instruction)
        self._go_back(block)

    def _end(self, label: str) -> None:
        self.blocks.append(Block(label, tuple(self.build.take())))

    def _go_back(self, block: Block) -> None:
        """From the block of the sweep backward to that of the one that came before."""
        label, here = block.label, self.here
        if label == self.first:
            self.build.branch(self.finish)
            self._end(here)
            return
        phis = [each for each in block.phis if self._is_active(each.result)]
        if not phis and (before := self._before_idle(label)) is not None:
            self.build.branch(self._want(before))
            self._end(here)
            return
        adjoints = [(phi, self._take(phi.result)) for phi in phis]
        loop = next((each for each in self.flow.loops if each.header == label), None)
        if loop is not None:
            self._go_back_in_loop(loop, here, adjoints)
            return
        before_it = self.flow.predecessors[label]
        if len(before_it) == 1:
            self._cross(before_it[0], label, adjoints)
            self._end(here)
            return
        edges = {each: self.build.fresh(f"{here}.to") for each in before_it}
        self._choose(label, before_it, edges)
        self._end(here)
        for each in before_it:
            self.memo = {}
            self._cross(each, label, adjoints)
            self._end(edges[each])

    def _choose(self, label: str, before: tuple[str, ...], edges: Mapping[str, str]) -> None:
        """Branches to where control came from: by the condition that parted the ways, or by a number that says it."""
        above = self.flow.immediate_dominators[label]
        end = self.function.by_label[above].end
        if len(before) == 2 and isinstance(end, Branch) and end.condition is not None and end.yes != end.no:
            sides = [self._side(above, end, each, label) for each in before]
            if self._inner(above) is self._inner(label) and set(sides) == {True, False}:
                yes, no = (before[sides.index(side)] for side in (True, False))
                self.build.branch(edges[yes], self.value(end.condition), edges[no])
                return
        if label not in self.came:
            self.came[label] = (Local(t.I8, self.build.fresh("came")), before)
            self.home[self.came[label][0].name] = label
        came = self.came[label][0]
        number: Value = came
        if not self._is_there(label):
            number = self._load_kept(self._keep(came, label))
        cases = [(integer(t.I8, place), edges[each]) for place, each in enumerate(before)]
        assert isinstance(cases[0][0], Constant)
        self.build.switch(number, cases[0][1], [(place, to) for place, to in cases[1:]])

    def _side(self, above: str, end: Branch, before: str, label: str) -> bool | None:
        """Whether control came to a block from one before it by the first way of the branch above; None: unknown."""
        if before == above:
            return end.yes == label
        for side, target in ((True, end.yes), (False, end.no)):
            if self.flow.predecessors[target] == (above,) and self.flow.dominates(target, before):
                return side
        return None

    def _go_back_in_loop(self, loop: Loop, here: str, adjoints: list[tuple[Phi, Value]]) -> None:
        outside = [each for each in self.flow.predecessors[loop.header] if each not in loop]
        if len(outside) != 1:
            raise LoweringError(f"{self.function.name!r}: the loop of {loop.header!r} has no one block before it")
        frames = self._frames_of(loop)
        self._add_framing(frames, self._stack_call("stack_pop", t.VOID, frames.raw))
        variable = self._turn(loop)
        turn = self.build.load(variable, name="turn")
        is_first = self.build.compare("eq", turn, integer(t.I64, 0))
        leave, repeat = self.build.fresh(f"{here}.left"), self.build.fresh(f"{here}.again")
        self.build.branch(leave, is_first, repeat)
        self._end(here)
        self.memo = {}
        self._cross(outside[0], loop.header, adjoints)
        self._end(leave)
        self.memo = {}
        self.build.store(self.build.binary("sub", turn, integer(t.I64, 1)), variable)
        self._take_top(loop)
        self._cross(loop.latch, loop.header, adjoints)
        self._end(repeat)

    def _cross(self, before: str, label: str, adjoints: list[tuple[Phi, Value]]) -> None:
        """Backward over the edge from one block to the next: what phis hand on; into the loops that it leaves."""
        for phi, found in adjoints:
            for value, origin in zip(phi.values, phi.labels, strict=True):
                if origin == before:
                    self._add(value, found)
                    break
        for loop in self.flow.loops_around(before):
            if loop is not self.outer and label not in loop:
                self._enter(loop, label)
        self.build.branch(self._want(before))

    def _before_idle(self, label: str) -> str | None:
        """The last block before this one that something has to be done for, where nothing has to be between."""
        above = self.flow.immediate_dominators.get(label)
        around = self._inner(label)
        if around is not None and around.header == label:
            return None
        while above is not None and above in self.backward:
            if self._inner(above) is around:
                return above if self._is_idle_between(above, label) else None
            if around is not None and above not in around:
                return None
            above = self.flow.immediate_dominators.get(above)
        return None

    def _is_idle_between(self, above: str, label: str) -> bool:
        pending, seen = list(self.flow.predecessors[label]), {above}
        while pending:
            each = pending.pop()
            if each in seen:
                continue
            seen.add(each)
            if each in self.active_blocks or each not in self.backward:
                return False
            pending += self.flow.predecessors[each]
        return True

    # ---- adjoints of values ----

    def _slot(self, value: Local) -> Local:
        if value.name not in self.slots:
            slot = Local(t.Pointer(value.type), self.build.fresh(f"{value.name}.adjoint"))
            self.slots[value.name] = slot
            self.allocas.append(Alloca(slot, value.type))
            self.clear.append(Store(None, _nothing(value.type), slot))
        return self.slots[value.name]

    def _take(self, value: Local) -> Value:
        """The adjoint of a value, which is not used any more."""
        slot = self._slot(value)
        found = self.build.load(slot, name="a")
        self.build.store(_nothing(value.type), slot)
        return found

    def _add(self, value: Value, change: Value | None) -> None:
        """Adds to the adjoint of a value, where it is active."""
        if change is None or not self._is_active(value):
            return
        assert isinstance(value, Local)
        slot = self._slot(value)
        old = self.build.load(slot, name="a")
        self.build.store(self.build.binary("fadd", old, change), slot)

    def _arithmetic(self, kind: t.Type, spell: Callable[[str], str] = str) -> Arithmetic:
        return Arithmetic(self.build, kind, spell, self.called)

    # ---- instructions ----

    def _reverse(self, instruction: Instruction) -> None:
        if isinstance(instruction, Store):
            self._reverse_store(instruction)
        elif isinstance(instruction, Load):
            self._add_to_memory(instruction, instruction.pointer, self._take(instruction.result))
        elif isinstance(instruction, AtomicUpdate):
            self._reverse_atomic(instruction)
        elif isinstance(instruction, Binary):
            self._reverse_binary(instruction)
        elif isinstance(instruction, Unary) and instruction.opcode == "fneg":
            found = self._take(_given(instruction.result))
            self._add(instruction.value, self.build.unary("fneg", found))
        elif isinstance(instruction, Cast) and instruction.opcode in ("fptrunc", "fpext"):
            other = "fpext" if instruction.opcode == "fptrunc" else "fptrunc"
            self._add(instruction.value, self.build.cast(other, self._take(instruction.result), instruction.value.type))
        elif isinstance(instruction, Select):
            self._reverse_select(instruction)
        elif isinstance(instruction, ExtractElement):
            index = self.value(instruction.index)
            empty = _nothing(instruction.vector.type)
            found = self._take(_given(instruction.result))
            self._add(instruction.vector, self.build.insert_element(empty, found, index))
        elif isinstance(instruction, InsertElement):
            index = self.value(instruction.index)
            found = self._take(_given(instruction.result))
            self._add(instruction.element, self.build.extract_element(found, index))
            left = self.build.insert_element(found, _nothing(instruction.element.type), index)
            self._add(instruction.vector, left)
        elif isinstance(instruction, Call):
            self._reverse_call(instruction)
        else:
            self.refuse(instruction, "it has no rule")

    def _reverse_binary(self, instruction: Binary) -> None:
        result = _given(instruction.result)
        found = self._take(result)
        a = self._arithmetic(result.type)
        left, right = instruction.left, instruction.right
        if instruction.opcode in ("fadd", "fsub"):
            self._add(left, found)
            if self._is_active(right):
                self._add(right, found if instruction.opcode == "fadd" else a.negative(found))
        elif instruction.opcode == "fmul":
            if self._is_active(left):
                self._add(left, a.times(found, self.value(right)))
            if self._is_active(right):
                self._add(right, a.times(found, self.value(left)))
        elif instruction.opcode == "fdiv":
            share = a.over(found, self.value(right))
            self._add(left, share)
            if self._is_active(right):
                self._add(right, a.negative(a.times(share, self.value(result))))
        elif instruction.opcode == "frem":
            self._add(left, found)
            if self._is_active(right):
                rest = a.over(a.minus(self.value(left), self.value(result)), self.value(right))
                self._add(right, a.negative(a.times(a.intrinsic("round", rest), found)))
        else:
            self.refuse(instruction, "it has no rule")

    def _reverse_select(self, instruction: Select) -> None:
        found = self._take(_given(instruction.result))
        condition, nothing = self.value(instruction.condition), _nothing(found.type)
        if self._is_active(instruction.yes):
            self._add(instruction.yes, self.build.select(condition, found, nothing))
        if self._is_active(instruction.no):
            self._add(instruction.no, self.build.select(condition, nothing, found))

    def _reverse_call(self, instruction: Call) -> None:
        if (predicate := extremum(instruction)) is not None:
            self._reverse_extremum(instruction, predicate)
            return
        if any(each.type.is_pointer for each in instruction.arguments):
            self.refuse(instruction, f"{instruction.name!r} works on memory that has gradients")
        rule = rule_of(instruction.name)
        if rule is None:
            self.refuse(instruction, f"{instruction.name or 'the function'!r} has no rule")
        formula, spell = rule
        result = _given(instruction.result)
        found = self._take(result)
        a = self._arithmetic(result.type, spell)
        arguments = [self.value(each) for each in instruction.arguments]
        for place, argument in enumerate(instruction.arguments):
            if self._is_active(argument):
                tangents = [found if each == place else None for each in range(len(arguments))]
                self._add(argument, formula(a, arguments, self.value(result), tangents))

    # ---- memory ----

    def _reverse_store(self, instruction: Store) -> None:
        target = self._gradient(instruction, instruction.pointer)
        kind = instruction.value.type
        if not kind.is_float:
            if is_real(kind) and isinstance(instruction.value, Constant):
                self.build.store(zero(kind), target)
                return
            if kind.is_integer or not isinstance(instruction.value, Constant):
                self.refuse(instruction, "it stores what is no real number where real numbers are")
        found = self.build.load(target, align=instruction.align, name="a")
        self.build.store(zero(kind), target, align=instruction.align)
        self._add(instruction.value, found)

    def _reverse_atomic(self, instruction: AtomicUpdate) -> None:
        if instruction.operation not in ("fadd", "fsub"):
            self.refuse(instruction, f"atomic {instruction.operation!r} has no rule")
        if self.function.users(instruction.result):
            self.refuse(instruction, "the value from before an atomic operation is used")
        if not self._is_active(instruction.value):
            return
        found: Value = self.build.load(self._gradient(instruction, instruction.pointer), name="a")
        self._add(instruction.value, found if instruction.operation == "fadd" else self.build.unary("fneg", found))

    def _reverse_extremum(self, instruction: Call, predicate: str) -> None:
        """`old = atomic_max(pointer, number)`: where the number wins it takes the gradient."""
        pointer, number = instruction.arguments
        if isinstance(self._memory(pointer), Root):
            self.refuse(instruction, "who has won a minimum or maximum cannot be seen from the field that is left")
        if self.outer is not None:
            self._reverse_recorded(instruction, pointer, number)
            return
        old = _given(instruction.result)
        value = self.value(number)
        wins = self.build.compare(predicate, value, self.value(old))
        target = self._gradient(instruction, pointer)
        found, nothing = self.build.load(target, name="a"), _nothing(value.type)
        self._add(number, self.build.select(wins, found, nothing))
        rest = self.build.select(wins, zero(value.type), found)
        self.build.store(self.build.binary("fadd", rest, self._take(old)), target)

    def _reverse_recorded(self, instruction: Call, pointer: Value, number: Value) -> None:
        """In a turn of a loop: where it is written down as the winner. No other turn touches the gradient then."""
        target = self._gradient(instruction, pointer)
        count = self.build.load(self._taken(), name="taken")
        winner = self.build.load(self._winner(instruction, pointer, self.value), name="winner")
        wins = self.build.compare("eq", winner, self._number(instruction, count))
        self.build.store(self.build.binary("sub", count, integer(t.I64, 1)), self._taken())
        take, behind = self.build.fresh(f"{self.here}.won"), self.build.fresh(f"{self.here}.behind")
        self.build.branch(take, wins, behind)
        self._end(self.here)
        found = self.build.load(target, name="a")
        self.build.store(zero(found.type), target)
        self._add(number, found)
        self.build.branch(behind)
        self._end(take)
        self.here = behind

    def _is_recorded(self, instruction: Instruction) -> bool:
        """Whether it is a minimum or maximum whose winner is written down."""
        return self.outer is not None and extremum(instruction) is not None and self._is_active_instruction(instruction)

    def _taken(self) -> Local:
        if self.taken is None:
            self.taken = Local(t.Pointer(t.I64), self.build.fresh("taken"))
            self.allocas.append(Alloca(self.taken, t.I64))
            self.start.append(Store(None, integer(t.I64, 0), self.taken))
        return self.taken

    def _count_taken(self) -> Local:
        count = self.build.binary("add", self.build.load(self._taken(), name="taken"), integer(t.I64, 1))
        self.build.store(count, self._taken())
        return count

    def _number(self, instruction: Call, count: Value) -> Value:
        """What is written down of a winner: the number of its turn, and which of the turn's it is, from 1. Not 0."""
        if self.index is None or self.index.type != t.I32:
            self.refuse(instruction, "the turns of its loop have no number")
        turn = self.build.binary("shl", self.build.cast("sext", self.index, t.I64), integer(t.I64, 32))
        return self.build.binary("or", turn, self.build.binary("and", count, integer(t.I64, (1 << 32) - 1)))

    def _winner(self, instruction: Call, pointer: Value, value: Callable[[Value], Value]) -> Value:
        """A pointer to where the winner is written down of what a pointer points to."""
        memory = self._memory(pointer)
        if not isinstance(memory, (Array, Temporary)) or not self._is_only_extremum(memory, instruction.name):
            self.refuse(instruction, "its loop uses what it takes the minimum or maximum of in another way, too")
        return self._moved(instruction, pointer, memory, self.around.winners(memory), value)

    def _is_only_extremum(self, memory: Memory, name: str) -> bool:
        """Whether all that the function does to some memory is one kind of minimum or maximum, of which it does not use
        what was there before."""
        for each in self.function.instructions:
            if isinstance(each, Call) and each.name == name and not self.function.users(_given(each.result)):
                continue
            pointers = [pointer for pointer, _ in written(each)]
            if memory in map(self._memory, [*pointers, *read_from(each)]):
                return False
        return True

    def _moved(
        self,
        instruction: Instruction,
        pointer: Value,
        memory: Memory,
        to: Array | Temporary,
        value: Callable[[Value], Value],
    ) -> Value:
        """A pointer to the same place in memory of the same form that holds whole numbers."""
        definition = self.function.definition(pointer)
        if isinstance(definition, GetElementPointer) and self._memory(definition.pointer) == memory:
            base = self._moved(instruction, definition.pointer, memory, to, value)
            result = Local(whole(definition.result.type), self.build.fresh("winner"))
            indices = tuple(map(value, definition.indices))
            self.build.add(GetElementPointer(result, whole(definition.kind), base, indices, definition.inbounds))
            return result
        if isinstance(definition, Cast) and definition.opcode == "bitcast":
            base = self._moved(instruction, definition.value, memory, to, value)
            return self.build.cast("bitcast", base, whole(definition.result.type), name="winner")
        if isinstance(definition, Load) and isinstance(to, Array):
            return elements_of(self.build, self.function.parameters[0].value, self.around.arguments(), to)
        if isinstance(definition, Call) and isinstance(to, Temporary) and definition.name == "get_temporary_pointer":
            assert isinstance(memory, Temporary)
            offset = (integer_of(definition.arguments[1]) or 0) - memory.offset
            if offset:
                self.refuse(instruction, "it is not known which of its numbers this is")
            return self._temporary(definition, to.offset - memory.offset, value)
        self.refuse(instruction, "it is not known what it reads or writes")

    def recorded(self) -> Function:
        """The task as it is, which writes down who wins."""

        def change(instruction: Instruction) -> list[Instruction] | None:
            if not isinstance(instruction, Call) or not self._is_recorded(instruction):
                return None
            pointer, number = instruction.arguments
            predicate = _given(extremum(instruction))
            self.build.add(instruction)
            place = self._winner(instruction, pointer, lambda value: value)
            mine = self._number(instruction, self._count_taken())
            wins = self.build.compare(predicate, number, _given(instruction.result))
            self.build.store(self.build.select(wins, mine, self.build.load(place, name="winner")), place)
            return self.build.take()

        changed = self.function.rewritten(change)
        head = self.function.blocks[0].label
        blocks = []
        for block in changed.blocks:
            phis, rest = block.instructions[: len(block.phis)], block.instructions[len(block.phis) :]
            before = self.start if block.label == self.first else ()
            first = self.allocas if block.label == head else ()
            blocks.append(Block(block.label, (*phis, *first, *before, *rest)))
        return changed.with_blocks(blocks)

    def _temporary(self, call: Call, further: int, value: Callable[[Value], Value]) -> Local:
        """A pointer to what lies so many bytes behind a temporary."""
        offset = integer_of(call.arguments[1])
        assert offset is not None
        arguments = (value(call.arguments[0]), integer(t.I64, offset + further))
        result = Local(_given(call.result).type, self.build.fresh("further"))
        self.build.add(dataclasses.replace(call, result=result, arguments=arguments))
        return result

    def _add_to_memory(self, instruction: Load, pointer: Value, change: Value) -> None:
        target = self._gradient(instruction, pointer)
        memory = self._memory(pointer)
        if not self.is_parallel or isinstance(memory, Local) or self._is_own(memory):
            old = self.build.load(target, align=instruction.align, name="a")
            self.build.store(self.build.binary("fadd", old, change), target, align=instruction.align)
        elif change.type in (t.FLOAT, t.DOUBLE):
            result = Local(change.type, self.build.fresh("before"))
            self.build.add(AtomicUpdate(result, "fadd", target, change, "seq_cst"))
        else:
            self.refuse(instruction, f"turns of a parallel loop add to the gradient of one element in {change.type}")

    def _is_own(self, memory: Memory) -> bool:
        """Whether no two turns of the parallel loop touch the same element of active memory."""
        if memory not in self.own:
            self.own[memory] = self.index is not None and self._own_axes(memory, self.index, self.sweep)
        return self.own[memory]

    def _own_axes(self, array: Memory, index: Local, labels: Sequence[str]) -> bool:
        """Whether all elements of an array that some blocks touch have this index, or the same constant added to it, at
        one and the same place."""
        if isinstance(array, Root):
            return self._own_axes_of_field(array, index, labels)
        common: set[tuple[int, int]] | None = None
        if not isinstance(array, Array) or (rank := self.around.ranks.get(array.index)) is None:
            return False
        for label in labels:
            for each in self.function.by_label[label].instructions:
                pointers = [each.pointer] if isinstance(each, Load) else [pointer for pointer, _ in written(each)]
                for pointer in pointers:
                    if self._memory(pointer) != array:
                        continue
                    step = self.function.definition(pointer)
                    if not isinstance(step, GetElementPointer) or len(step.indices) != 1:
                        return False
                    chain = offset_chain(self.function, step.indices[0], rank)
                    if chain is None:
                        return False
                    peeled = [peel_constant(self.function, each_index) for _, each_index in chain]
                    places = {(place, shift) for place, (plain, shift) in enumerate(peeled) if plain == index}
                    common = places if common is None else common & places
        return bool(common)

    def _own_axes_of_field(self, place: Root, index: Local, labels: Sequence[str]) -> bool:
        """The same of a field."""
        axes = [
            set(self._axes_with(index, pointer))
            for label in labels
            for each in self.function.by_label[label].instructions
            for pointer in ([each.pointer] if isinstance(each, Load) else [pointer for pointer, _ in written(each)])
            if self._memory(pointer) == place
        ]
        return bool(axes and set.intersection(*axes))

    def _axes_with(self, index: Local, pointer: Value) -> Iterator[tuple[int, int, int]]:
        """Where an index stands in the steps to an element of a field: the node, the stride of the axis there, and the
        constant that is added."""
        place = self._memory(pointer)
        assert isinstance(place, Root)
        path = list(self.around.fields.paths[place.node])
        while (definition := self.function.definition(pointer)) is not None:
            if isinstance(definition, Cast):
                pointer = definition.value
            elif isinstance(definition, GetElementPointer):
                for stride, leaf, shift in self.around.indices.get(definition.result.name, ()):
                    if leaf == index:
                        yield path[-1], stride, shift
                pointer = definition.pointer
            elif isinstance(definition, Call) and STEP.fullmatch(definition.name):
                path.pop()
                pointer = definition.arguments[0]
            else:
                return

    def _gradient(self, instruction: Instruction, pointer: Value) -> Value:
        """A pointer to the gradient of what a pointer of the sweep forward points to."""
        memory = self._memory(pointer)
        if isinstance(memory, Array):
            if memory.field != 1 or memory.index not in self.around.with_gradient:
                self.refuse(instruction, "what has a gradient goes through an array that has none")
        elif isinstance(memory, Root):
            if memory.node not in self.around.fields.gradients:
                self.refuse(instruction, "what has a gradient goes through a field that has none")
        elif not isinstance(memory, (Local, Temporary)):
            self.refuse(instruction, "it is not known what it reads or writes")
        return self._gradient_of(instruction, pointer)

    def _gradient_of(self, instruction: Instruction, pointer: Value) -> Value:
        definition = self.function.definition(pointer)
        if isinstance(definition, Alloca):
            return self._shadow(definition)
        if isinstance(definition, GetElementPointer):
            base = self._gradient_of(instruction, definition.pointer)
            indices = tuple(self.value(each) for each in definition.indices)
            result = Local(definition.result.type, self.build.fresh("gradient"))
            self.build.add(dataclasses.replace(definition, result=result, pointer=base, indices=indices))
            return result
        if isinstance(definition, Cast) and definition.opcode == "bitcast":
            base = self._gradient_of(instruction, definition.value)
            return self.build.cast("bitcast", base, definition.result.type, name="gradient")
        if isinstance(definition, Load):
            member = self.function.definition(definition.pointer)
            if isinstance(member, GetElementPointer) and integer_of(member.indices[-1]) == 1:
                struct = self.value(member.pointer)
                indices = (*map(self.value, member.indices[:-1]), integer(member.indices[-1].type, 2))
                place = Local(member.result.type, self.build.fresh("gradients"))
                self.build.add(dataclasses.replace(member, result=place, pointer=struct, indices=indices))
                return self.build.load(place, align=definition.align, name="gradients")
        if isinstance(definition, Call) and definition.name == "get_temporary_pointer":
            return self._temporary(definition, self.around.temporaries.behind, self.value)
        if isinstance(definition, Call) and (match := STEP.fullmatch(definition.name)):
            path = self.around.fields.gradient_path(int(match[2]))
            if path is None:
                self.refuse(instruction, "its gradient lies in a tree of another form")
            return self._in_field(instruction, pointer, path)
        self.refuse(instruction, "it is not known what it reads or writes")

    def _in_field(self, instruction: Instruction, pointer: Value, path: tuple[int, ...]) -> Value:
        """The steps to an element once more, along another path from the root that has the same form."""
        definition = self.function.definition(pointer)
        if isinstance(definition, Cast) and definition.opcode == "bitcast":
            return self._in_field(instruction, definition.value, path)
        if isinstance(definition, Call) and STEP.fullmatch(definition.name):
            container = self._in_field(instruction, definition.arguments[0], path[:-1])
            name = f"get_ch_S{path[-2]}_to_S{path[-1]}"
            self.called.setdefault(name, Function(name, _RAW, (Parameter(Local(_RAW, "node")),)))
            result = self.build.call(self.called[name], container, name="node")
            assert result is not None
            return result
        if isinstance(definition, Call) and definition.name == "LLVMRuntime_get_roots":
            return self.value(pointer)
        if isinstance(definition, GetElementPointer):
            if all(integer_of(each) == 0 for each in definition.indices):
                return self._in_field(instruction, definition.pointer, path)
            offset = self.function.definition(definition.indices[0])
            node = self.around.fields.dense.get(path[-1])
            plain = definition.kind == t.I8 and isinstance(offset, Binary) and offset.opcode == "mul"
            if plain and isinstance(offset, Binary) and node is not None:
                container = self._in_field(instruction, definition.pointer, path)
                cell = integer(t.I64, node.cell_bytes)
                there = self.build.binary("mul", self.value(offset.left), cell, flags=["nsw"], name="gradient")
                return self.build.element_pointer(container, there, name="gradient")
        self.refuse(instruction, "it is not known which element of a field it reads or writes")

    def _shadow(self, alloca: Alloca) -> Local:
        if alloca.result not in self.shadows:
            shadow = Local(alloca.result.type, self.build.fresh(f"{alloca.result.name}.gradient"))
            self.shadows[alloca.result] = shadow
            self.allocas.append(dataclasses.replace(alloca, result=shadow))
            self.clear.append(Store(None, zero(alloca.kind), shadow))
        return self.shadows[alloca.result]


def extremum(instruction: Instruction) -> str | None:
    """The comparison that a number wins by in an atomic minimum or maximum of real numbers; None of anything else."""
    if not isinstance(instruction, Call):
        return None
    match = re.fullmatch(r"atomic_(min|max)_f\d+", instruction.name)
    return None if match is None else _EXTREMA[match[1]]


def whole(kind: t.Type) -> t.Type:
    """The type with whole numbers of 64 bits in the place of real ones."""
    if isinstance(kind, t.Pointer):
        return t.Pointer(whole(kind.to), kind.space)
    if isinstance(kind, t.Array):
        return t.Array(kind.count, whole(kind.element))
    return t.I64 if isinstance(kind, t.Float) else kind


def _nothing(kind: t.Type) -> Constant:
    """-0.0, which LLVM knows to be nothing in a sum."""
    return real(kind, -0.0)


def _size(kind: t.Type) -> int:
    """Bytes of a value that is kept, a power of two."""
    if isinstance(kind, t.Vector):
        size = kind.count * _size(kind.element)
        return 1 << (size - 1).bit_length()
    if isinstance(kind, t.Integer):
        return max(1, kind.bits // 8)
    if isinstance(kind, t.Float):
        return kind.bits // 8
    if isinstance(kind, t.Pointer):
        return 8
    raise LoweringError(f"the reverse mode cannot keep a value of type {kind}")


def _given(value: Given | None) -> Given:
    assert value is not None
    return value
