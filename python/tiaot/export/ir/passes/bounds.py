"""Bounds: an index out of range leaves the function and is told, where Taichi was asked to check indices.

It asserts before every access to an array or a field then, with a text that has the file, the line and the indices. A
check that fails ends the call, whose status says so; what it found goes into a record of the module's
(entry/support.py).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from ..builder import Builder
from ..instructions import Binary, Branch, Call, Cast, Compare, GetElementPointer, Phi, Store
from ..model import Block, Function, Module, Parameter
from ..types import I1, I8, I32, I64, VOID, Array, Named, Pointer
from ..values import Constant, Local, Value, integer, integer_of
from .refusal import refuse

ASSERT = "taichi_assert_format"
OUT_OF_RANGE, FAILED = "tiaot_out_of_range", "tiaot_has_failed"
MOST = 16  # indices and sizes that are told
_RUNTIME, _BYTES = Pointer(Named("struct.LLVMRuntime")), Pointer(I8)
_GET_RUNTIME = "RuntimeContext_get_runtime"
_ABOUT = re.compile(
    r"[\[(]kernel=(?P<kernel>\w+?)_c\d+_\d+(?P<adjoint>_reverse_grad)?[\])] "
    r"(Out of bound access to ndarray at arg (?P<argument>\d+)|Accessing field).*",
    re.DOTALL,
)
_FIELD_SIZE = re.compile(r" of size \(([\d, ]+)\)")
_PLACE = re.compile(r'\nFile "(?P<file>[^\n]*)", line (?P<line>\d+), in [^\n]*\n(?P<rest>.*)', re.DOTALL)
_STRING = re.compile(r'.*? constant \[\d+ x i8\] c"(.*)", align 1')

_TOLD = Function(
    OUT_OF_RANGE,
    VOID,
    tuple(Parameter(Local(kind, str(place))) for place, kind in enumerate((_RUNTIME, _BYTES, I32, Pointer(I64)))),
)
_ASKED = Function(FAILED, I1, (Parameter(Local(_RUNTIME, "0")),))


def check_bounds(module: Module) -> tuple[Module, dict[str, str]]:
    """The module of a task with its assertions on indices as branches, and the texts for them, as lines of IR by their
    names. A module without such assertions is left alone, as are other assertions.

    Raises:
        LoweringError: when one is in a place where the function cannot be left.
    """
    strings: dict[str, str] = {}
    changed = [_checked(function, module, strings) for function in module.definitions]
    if not strings:
        return module, strings
    return module.with_functions(*changed, _TOLD, _ASKED), strings


@dataclass(frozen=True)
class _Check:
    """An assertion on indices: the text for people, what it says of each index, and the values that belong there."""

    call: Call
    text: str
    values: tuple[Value, ...]  # of i32, for the %d of the text


def _checked(function: Function, module: Module, strings: dict[str, str]) -> Function:
    checks = {id(each.call): each for each in _checks(function, module)}
    if not checks:
        return function
    builder = Builder(function.names, module.types)
    first, renamed, leaving = function.blocks[0], {}, []
    values = builder.alloca(Array(MOST, I64), name="bounds")
    room = builder.take()
    blocks: list[Block] = []
    for block in function.blocks:
        label, pending = block.label, list(room) if block is first else []
        for instruction in block.instructions:
            check = checks.get(id(instruction))
            if check is None:
                pending.append(instruction)
                continue
            inside, outside = builder.fresh("in_range"), builder.fresh("out_of_range")
            blocks.append(Block(label, (*pending, Branch(None, inside, check.call.arguments[1], outside))))
            leaving.append(_leave(builder, check, outside, values, strings))
            label, pending = inside, []
        blocks.append(Block(label, tuple(pending)))
        renamed[block.label] = label
    return function.with_blocks([*blocks, *leaving]).rewritten(
        lambda each: each.with_labels(lambda label: renamed.get(label, label)) if isinstance(each, Phi) else None
    )


def _leave(builder: Builder, check: _Check, label: str, values: Local, strings: dict[str, str]) -> Block:
    for place, value in enumerate(check.values):
        slot = builder.element_pointer(values, 0, place, name="bound")
        builder.store(builder.cast("sext", value, I64, name="bound"), slot)
    first = builder.element_pointer(values, 0, 0, name="bound")
    name, size = _named(check.text, strings)
    text = Constant(_BYTES, f"getelementptr inbounds ([{size} x i8], [{size} x i8]* @{name}, i32 0, i32 0)")
    builder.call(_TOLD, check.call.arguments[0], text, integer(I32, len(check.values)), first)
    builder.ret()
    return Block(label, tuple(builder.take()))


def not_after_a_failure(function: Function) -> Function:
    """What a call does after a failure it does on values that are not there: a loop might not end."""
    builder = Builder(function.names)
    entry, *rest = function.blocks
    if not isinstance(entry.end, Branch) or entry.end.condition is not None:
        return function  # it has no loop
    context = function.parameters[0].value
    get_runtime = Function(_GET_RUNTIME, _RUNTIME, (Parameter(Local(context.type, "0")),))
    runtime = builder.call(get_runtime, context, name="bounds")
    assert runtime is not None
    failed = builder.call(_ASKED, runtime, name="bounds")
    over = builder.fresh("over")
    builder.add(Branch(None, over, failed, entry.end.yes))
    start = Block(entry.label, (*entry.instructions[:-1], *builder.take()))
    builder.ret()
    return function.with_blocks([start, *rest, Block(over, tuple(builder.take()))])


def _checks(function: Function, module: Module) -> Iterator[_Check]:
    for call in function.instructions:
        if not isinstance(call, Call) or call.name != ASSERT:
            continue
        said = _said(call.arguments[2], module)
        about = _ABOUT.fullmatch(said)
        if about is None:
            continue
        if function.result != VOID:
            refuse(call, "an index is checked where the kernel cannot be left")
        indices = _indices(function, call)
        condition = call.arguments[1]
        sizes = [_size(function, condition, index) for index in indices]
        field = _FIELD_SIZE.search(said)
        shape = "(%d)" if len(sizes) == 1 else f"({', '.join(['%d'] * len(sizes))})"
        known = tuple(size for size in sizes if size is not None)
        if field:
            size_text, known = f", its size ({field[1]})", ()
        elif indices and len(known) == len(indices):
            size_text = f", its size {shape}"
        else:
            size_text, known = "", ()
        what, where = _source(said)
        what = what or (
            f"an element of array argument {about['argument']}" if about["argument"] else "an element of a field"
        )
        whose = f"{about['kernel']}, its gradient" if about["adjoint"] else about["kernel"]
        text = f"{where}{whose}: {what} is out of range: the index is {shape}{size_text}"
        yield _Check(call, text, (*indices, *known)[:MOST])


def _said(value: Value, module: Module) -> str:
    """The text that a pointer to a constant of the module stands for."""
    name = re.search(r"@([-\w.$]+)", str(value))
    line = module.globals.get(name[1], "") if name else ""
    text = _STRING.fullmatch(line)
    if text is None:
        return ""
    data = re.sub(r"\\([0-9A-Fa-f]{2})", lambda each: chr(int(each[1], 16)), text[1])
    return data.encode("latin-1").decode(errors="replace").rstrip("\0")


def _source(said: str) -> tuple[str, str]:
    """(what was accessed, as it is written, and "springs.py:9: "); "" where that is not known."""
    place = _PLACE.search(said)
    if place is None:
        return "", ""
    lines = place["rest"].splitlines()
    marks = lines[1] if len(lines) > 1 else ""
    begin, end = marks.find("^"), marks.rfind("^") + 1
    what = lines[0][begin:end].strip() if begin >= 0 else ""
    return what.replace("%", "%%"), f"{place['file'].rpartition('/')[2]}:{place['line']}: "


def _indices(function: Function, call: Call) -> tuple[Value, ...]:
    """The indices that an assertion is given, which lie in memory as 64-bit numbers."""
    count = integer_of(call.arguments[3])
    pointer = function.definition(call.arguments[4])
    if count is None or not isinstance(pointer, GetElementPointer):
        refuse(call, "it is not known which indices are checked")
    found: dict[int, Value] = {}
    for user in function.users(pointer.pointer):
        if isinstance(user, GetElementPointer) and (place := integer_of(user.indices[-1])) is not None:
            for store in function.users(user.result):
                cast = function.definition(store.value) if isinstance(store, Store) else None
                if isinstance(cast, Cast) and cast.value.type == I32:
                    found[place] = cast.value
                elif isinstance(store, Store) and (number := integer_of(store.value)) is not None:
                    found[place] = integer(I32, number)
    if set(found) != set(range(count)):
        refuse(call, "it is not known which indices are checked")
    return tuple(found[place] for place in range(count))


def _size(function: Function, condition: Value, index: Value) -> Value | None:
    """What a condition says that an index has to be less than."""
    definition = function.definition(condition)
    if isinstance(definition, Binary) and definition.opcode == "and":
        left = _size(function, definition.left, index)
        return left if left is not None else _size(function, definition.right, index)
    if isinstance(definition, Compare) and definition.predicate == "slt" and definition.left == index:
        return definition.right
    if isinstance(definition, Compare) and definition.predicate == "ne" and definition.left.type == I1:
        return _size(function, definition.left, index)
    return None


def _named(text: str, strings: dict[str, str]) -> tuple[str, int]:
    """(the name of the constant that holds a text, its size); it is added to `strings`."""
    data = text.encode() + b"\0"
    name = f"tiaot.bounds.{zlib.crc32(data):08x}"
    spelled = "".join(chr(each) if 32 <= each < 127 and each not in (34, 92) else f"\\{each:02X}" for each in data)
    strings[name] = f'@{name} = private unnamed_addr constant [{len(data)} x i8] c"{spelled}"'
    return name, len(data)
