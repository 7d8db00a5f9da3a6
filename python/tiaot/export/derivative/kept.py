"""Keeps what tasks find in memory, for their adjoints, where later ones overwrite it: as copies that tasks of their own
make. Knows no derivatives."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ..author.parameters import Parameter
from ..ir import types as t
from ..ir.builder import Builder
from ..ir.instructions import Binary, Call, Instruction, Load, Phi
from ..ir.model import Block, Function, Module
from ..ir.model import Parameter as Formal
from ..ir.origins import CONTEXT_TYPE, Array, Origins, Temporary
from ..ir.tasks import CPU_LOOP
from ..ir.values import Local, LoweringError, Value, integer, integer_of, zero
from ..ir.writer import write
from .shared import Temporaries

_RUNTIME, _RAW = t.Pointer(t.Named("struct.LLVMRuntime")), t.Pointer(t.I8)


@dataclasses.dataclass(frozen=True)
class Copy:
    """A copy of an array, or of a temporary, by their places."""

    of: Array | Temporary
    to: Array | Temporary


@dataclasses.dataclass(frozen=True)
class Room:
    """What copies are made in: the arguments' struct as it is with the arrays that are kept behind the kernel's own."""

    arguments: t.Struct
    parameters: Sequence[Parameter]  # by the places in the struct
    temporaries: Temporaries
    module: Module  # of any task, which lends its types
    loop: Call | None  # a parallel loop of the kernel, which says how such are cut

    def with_array(self, parameter: Parameter, like: int, element: t.Type | None = None) -> Room:
        """With another array behind the others, of the same form as the one at the place `like`; of another element
        where that is given."""
        array = self.arguments.members[like]
        if not isinstance(array, t.Struct):
            raise LoweringError(f"the reverse mode knows no array of the form {array}")
        shape, pointer, *_ = array.members
        added = t.Struct((shape, pointer if element is None else t.Pointer(element)))
        arguments = t.Struct((*self.arguments.members, added))
        return dataclasses.replace(self, arguments=arguments, parameters=(*self.parameters, parameter))


def arguments_type(functions: Sequence[Function]) -> t.Struct | None:
    """The type of the arguments' struct; None where no function uses it.

    Raises:
        LoweringError: where it has several.
    """
    found = set()
    for function in functions:
        origins = Origins(function)
        for each in function.instructions:
            if isinstance(each, Load) and origins.is_arguments(each.result):
                assert isinstance(each.result.type, t.Pointer)
                found.add(each.result.type.to)
    if not found:
        return None
    if len(found) > 1 or not isinstance(kind := found.pop(), t.Struct):
        raise LoweringError("the reverse mode expected one type of the arguments' struct")
    return kind


# ---- reading the copies ----


def redirected(function: Function, copies: Sequence[Copy], room: Room) -> Function:
    """A task that uses copies in the place of what they are copies of."""
    origins = Origins(function)
    arrays = {copy.of: copy.to for copy in copies if isinstance(copy.of, Array)}
    moved = {copy.of: copy.to for copy in copies if isinstance(copy.of, Temporary)}
    build = Builder(function.names, room.module.types)
    context = function.parameters[0].value

    def change(instruction: Instruction) -> Instruction | list[Instruction] | None:
        if isinstance(instruction, Load) and instruction.result.type.is_pointer:
            to = arrays.get(origins.of(instruction.result))
            if isinstance(to, Array):
                member = build.element_pointer(_arguments(build, context, room.arguments), 0, to.index, 1)
                return [*build.take(), dataclasses.replace(instruction, pointer=member)]
        if isinstance(instruction, Call) and instruction.name == "get_temporary_pointer":
            offset = integer_of(instruction.arguments[1])
            assert offset is not None
            of = room.temporaries.whole(Temporary(offset))
            if isinstance(to := moved.get(of), Temporary) and isinstance(of, Temporary):
                place = integer(t.I64, to.offset + offset - of.offset)
                return dataclasses.replace(instruction, arguments=(instruction.arguments[0], place))
        return None

    return function.rewritten(change)


def elements_of(build: Builder, context: Value, arguments: t.Struct, array: Array | Temporary) -> Value:
    """A pointer to an array's elements."""
    assert isinstance(array, Array)
    member = build.element_pointer(_arguments(build, context, arguments), 0, array.index, 1)
    return build.load(member, align=8)


def _arguments(build: Builder, context: Value, kind: t.Struct) -> Value:
    """A pointer to the arguments' struct."""
    place = build.element_pointer(context, 0, 0)
    return build.load(build.cast("bitcast", place, t.Pointer(t.Pointer(kind))), align=8)


# ---- making the copies ----


def copying(copies: Sequence[Copy], room: Room) -> list[str]:
    """Tasks that make copies: of numbers one after another, of arrays in pieces, as those of the kernel's loops."""
    arrays = [each for each in copies if isinstance(each.of, Array) and _has_axes(room.parameters[each.of.index])]
    others = [each for each in copies if each not in arrays]
    return [*([_of_numbers(others, room)] if others else []), *([_of_arrays(arrays, room)] if arrays else [])]


def _has_axes(parameter: Parameter) -> bool:
    return bool(parameter.rank or parameter.element)


def _of_numbers(copies: Sequence[Copy], room: Room) -> str:
    serial = SerialTask(room.module, "kept")
    for copy in copies:
        if isinstance(copy.of, Temporary) and isinstance(copy.to, Temporary):
            kind = room.temporaries.kinds[copy.of.offset]
            source, target = (serial.temporary(each.offset, kind) for each in (copy.of, copy.to))
        else:
            source, target = (
                elements_of(serial.build, serial.context, room.arguments, each) for each in (copy.of, copy.to)
            )
        serial.build.store(serial.build.load(source), target)
    return serial.text()


def _of_arrays(copies: Sequence[Copy], room: Room) -> str:
    context, local, piece = Local(CONTEXT_TYPE, "context"), Local(_RAW, "local"), Local(t.I32, "piece")
    pieces = 1 if room.loop is None else integer_of(room.loop.arguments[3])
    assert pieces is not None
    build = Builder(["context", "local", "piece"], room.module.types)
    blocks: list[Block] = []
    label = build.fresh("entry")
    for copy in copies:
        label = _copy_share(
            build, blocks, label, context, room, copy, integer(t.I32, 0) if room.loop is None else piece, pieces
        )
    build.ret()
    blocks.append(Block(label, tuple(build.take())))
    if room.loop is None:
        main = Function("kept_serial", t.VOID, (Formal(context),), tuple(blocks))
        return write(dataclasses.replace(room.module, functions={main.name: main}))
    body = Function(
        "function_body", t.VOID, tuple(map(Formal, (context, local, piece))), tuple(blocks), before=("internal",)
    )
    null = zero(room.loop.arguments[6].type)
    loop = dataclasses.replace(
        room.loop, arguments=(context, *room.loop.arguments[1:6], null, body.pointer, null, integer(t.I64, 1))
    )
    build = Builder(["context", "entry"])
    build.add(loop)
    build.ret()
    main = Function("kept_range_for", t.VOID, (Formal(context),), (Block("entry", tuple(build.take())),))
    functions = (room.module.functions[CPU_LOOP], body, main)
    return write(dataclasses.replace(room.module, functions={each.name: each for each in functions}))


def _copy_share(
    build: Builder,
    blocks: list[Block],
    label: str,
    context: Value,
    room: Room,
    copy: Copy,
    piece: Value,
    pieces: int,
) -> str:
    """A piece's share of the elements, which lie one behind another, from the block `label` on; the block behind it."""
    assert isinstance(copy.of, Array)
    parameter = room.parameters[copy.of.index]
    arguments = _arguments(build, context, room.arguments)
    count: Value = integer(t.I64, parameter.element_count)
    for axis in range(parameter.rank):
        size = build.load(build.element_pointer(arguments, 0, copy.of.index, 0, axis), align=4, name="size")
        count = build.binary("mul", count, build.cast("zext", size, t.I64), name="count")
    source, target = (elements_of(build, context, room.arguments, each) for each in (copy.of, copy.to))
    number = build.cast("zext", piece, t.I64)
    begin, end = (
        build.binary("udiv", build.binary("mul", count, each), integer(t.I64, pieces))
        for each in (number, build.binary("add", number, integer(t.I64, 1)))
    )
    header, inner, behind = map(build.fresh, ("loop", "element", "copied"))
    build.branch(header)
    blocks.append(Block(label, tuple(build.take())))
    place, following = Local(t.I64, build.fresh("place")), Local(t.I64, build.fresh("next"))
    build.add(Phi(place, (begin, following), (label, inner)))
    build.branch(inner, build.compare("ult", place, end), behind)
    blocks.append(Block(header, tuple(build.take())))
    build.store(build.load(build.element_pointer(source, place)), build.element_pointer(target, place))
    build.add(Binary(following, "add", place, integer(t.I64, 1)))
    build.branch(header)
    blocks.append(Block(inner, tuple(build.take())))
    return behind


class SerialTask:
    """A task of one block that is being written."""

    def __init__(self, module: Module, name: str) -> None:
        """`module` lends its types."""
        self.module, self.name = module, name
        self.context = Local(CONTEXT_TYPE, "context")
        self.build = Builder(["context", "entry"], module.types)
        self._get = Function("RuntimeContext_get_runtime", _RUNTIME, (Formal(Local(CONTEXT_TYPE, "c")),))
        self._find = Function("get_temporary_pointer", _RAW, (Formal(Local(_RUNTIME, "r")), Formal(Local(t.I64, "o"))))

    def temporary(self, offset: int, kind: t.Type) -> Value:
        """A pointer to a temporary."""
        runtime = self.build.call(self._get, self.context)
        assert runtime is not None
        place = self.build.call(self._find, runtime, integer(t.I64, offset))
        assert place is not None
        return self.build.cast("bitcast", place, t.Pointer(kind))

    def text(self) -> str:
        self.build.ret()
        blocks = (Block("entry", tuple(self.build.take())),)
        main = Function(f"{self.name}_serial", t.VOID, (Formal(self.context),), blocks)
        functions = {each.name: each for each in (self._get, self._find, main)}
        return write(dataclasses.replace(self.module, functions=functions))
