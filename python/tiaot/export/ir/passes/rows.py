"""Rows: a parallel loop over two or more axes, as a loop over rows with one over the places of a row in it.

Taichi makes one loop of it, which divides its variable by the last size to find the indices. A CPU's vectors have no
division of integers, and LLVM does not see that neighbours in a row are neighbours, so that such a loop stays scalar.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..builder import Builder
from ..instructions import Binary, Branch, Call, Cast, Compare, Instruction, Load
from ..model import Block, Function
from ..types import I32
from ..values import Local, Value, constant_of, integer_of
from .chains import binary
from .indices import CountingLoop, loop_that_counts, temporary_of, writes_temporaries

_CLONED = ("RuntimeContext_get_runtime", "get_temporary_pointer")  # what a pointer to a temporary is made by


@dataclass(frozen=True)
class _Found:
    """What in a loop's body is the same for a whole row, and what grows by 1 from one of its places to the next."""

    loop: CountingLoop
    size: Local  # the divisor, read in the body
    quotients: tuple[Binary, ...]
    corrections: tuple[Cast, ...]  # what makes floor division of a quotient
    places: tuple[Binary, ...]  # remainders


def loop_over_rows(function: Function, beside: Iterable[Function] = ()) -> Function:
    """Divide once a row. A loop that has not the form that Taichi gives it stays as it is.

    Where the size is not above 0, each row has one place: all numbers are then what they were.

    Args:
        function: the body of a parallel loop, whose last parameter is the number of a piece.
        beside: what other threads may run meanwhile, the other functions of the loop.
    """
    if any(map(writes_temporaries, (function, *beside))):
        return function
    found = _find(function)
    return function if found is None else _changed(function, found)


def _find(function: Function) -> _Found | None:
    divisions: list[tuple[Binary, CountingLoop]] = []
    for instruction in function.instructions:
        if not isinstance(instruction, Binary) or instruction.opcode not in ("sdiv", "srem"):
            continue
        index = function.definition(instruction.left)
        if temporary_of(function, instruction.right) is None or not isinstance(index, Load):
            continue
        loop = loop_that_counts(function, index)
        if loop is not None:
            divisions.append((instruction, loop))
    if not divisions:
        return None
    loop, size = divisions[0][1], divisions[0][0].right
    same = temporary_of(function, size)
    if any(each != loop or temporary_of(function, division.right) != same for division, each in divisions):
        return None
    assert isinstance(size, Local)
    quotients = [division for division, _ in divisions if division.opcode == "sdiv"]
    remainders = [division for division, _ in divisions if division.opcode == "srem"]
    corrections = []
    floors: list[Value] = []
    for quotient in quotients:
        assert quotient.result is not None
        floors.append(quotient.result)
        for user in function.users(quotient.result):
            if isinstance(user, Binary) and user.opcode == "sub" and user.left == quotient.result:
                correction = function.definition(user.right)
                if isinstance(correction, Cast) and _is_correction(function, correction, quotient, loop):
                    corrections.append(correction)
                    assert user.result is not None
                    floors.append(user.result)
    for instruction in function.instructions:
        if isinstance(instruction, Binary) and _is_remainder(function, instruction, floors, same, loop):
            remainders.append(instruction)
    return _Found(loop, size, tuple(quotients), tuple(dict.fromkeys(corrections)), tuple(remainders))


def _reads(function: Function, value: Value, loop: CountingLoop) -> bool:
    """Whether it is the loop's variable, in the body."""
    load = function.definition(value)
    return isinstance(load, Load) and load.pointer == loop.variable and loop_that_counts(function, load) == loop


def _is_remainder(
    function: Function, instruction: Binary, floors: list[Value], size: int | None, loop: CountingLoop
) -> bool:
    """Whether it is the variable less a quotient times the size."""
    product = binary(function, instruction.right, "mul")
    if instruction.opcode != "sub" or product is None or not _reads(function, instruction.left, loop):
        return False
    for quotient, factor in ((product.left, product.right), (product.right, product.left)):
        if quotient in floors and temporary_of(function, factor) == size:
            return True
    return False


def _is_correction(function: Function, correction: Cast, quotient: Binary, loop: CountingLoop) -> bool:
    """Whether it is 1 where variable and size have different signs and the quotient is not exact, and 0 else."""
    size = temporary_of(function, quotient.right)
    signs = exact = False
    for condition in _conjuncts(function, correction.value):
        test = function.definition(condition)
        if not isinstance(test, Compare) or test.predicate != "ne":
            return False
        left, right = function.definition(test.left), function.definition(test.right)
        if isinstance(left, Compare) and isinstance(right, Compare):
            signs = (
                all(each.predicate == "slt" and integer_of(each.right) == 0 for each in (left, right))
                and _reads(function, left.left, loop)
                and temporary_of(function, right.left) == size
            )
            if not signs:
                return False
        elif _reads(function, test.right, loop):
            product = binary(function, test.left, "mul")
            exact = product is not None and quotient.result in (product.left, product.right)
            if not exact:
                return False
        elif integer_of(test.right) != 0 or not _reads(function, test.left, loop):
            return False
    return correction.opcode == "zext" and signs and exact


def _conjuncts(function: Function, value: Value) -> list[Value]:
    """What all must hold for a condition to hold."""
    definition = function.definition(value)
    if isinstance(definition, Binary) and definition.opcode == "and":
        return [*_conjuncts(function, definition.left), *_conjuncts(function, definition.right)]
    if isinstance(definition, Compare) and definition.predicate == "ne" and str(definition.right) == "false":
        return _conjuncts(function, definition.left)
    return [value]


def _changed(function: Function, found: _Found) -> Function:
    loop = found.loop
    where = {id(each): block for block in function.blocks for each in block.instructions}
    step = where[id(loop.step)]
    test = function.by_label[step.end.targets[0]]
    branch = test.end
    assert isinstance(branch, Branch)
    if test.phis or function.by_label[branch.yes].phis:
        return function
    builder = Builder(function.names)
    row, row_test = builder.fresh("row"), builder.fresh("row.test")

    now = builder.load(loop.variable, name="row.begin")
    known: dict[str, Value] = {}
    for load in function.users(loop.variable):
        if isinstance(load, Load) and _reads(function, load.result, loop):
            known[load.result.name] = now
    size = _clone(builder, function, found.size, known)
    if size is None:
        return function
    for user in (*found.quotients, *found.places):
        for operand in user.operands:
            if isinstance(operand, Local) and temporary_of(function, operand) is not None:
                known[operand.name] = size
    quotient = builder.binary("sdiv", now, size, name="row.quotient")
    for each in found.quotients:
        assert each.result is not None
        known[each.result.name] = quotient
    rest = builder.binary("sub", now, builder.binary("mul", quotient, size), name="row.rest")
    corrections = [_clone(builder, function, each.result, known) for each in found.corrections]
    places = []
    for place in found.places:
        assert place.result is not None
        places.append(rest if place.opcode == "srem" else _clone(builder, function, place.result, known))
    if None in corrections or None in places:
        return function
    positive = builder.compare("sgt", size, constant_of(I32, 0))
    span = builder.select(positive, builder.binary("sub", size, rest), constant_of(I32, 1))
    left = builder.binary("sub", loop.limit, now)
    shorter = builder.compare("slt", span, left)
    end = builder.binary("add", now, builder.select(shorter, span, left), flags=["nsw"], name="row.end")
    builder.branch(branch.yes)
    row_block = Block(row, tuple(builder.take()))

    following = builder.load(loop.variable)
    inside = builder.compare("slt", following, end)
    builder.branch(branch.yes, inside, test.label)
    test_block = Block(row_test, tuple(builder.take()))

    same: Mapping[int, Value | None] = {
        **{id(each): quotient for each in found.quotients},
        **dict(zip(map(id, found.corrections), corrections, strict=True)),
    }
    first = dict(zip(map(id, found.places), places, strict=True))

    def change(instruction: Instruction) -> list[Instruction] | None:
        value = same.get(id(instruction))
        if value is not None and instruction.result is not None:
            return [Binary(instruction.result, "add", value, constant_of(I32, 0))]
        start = first.get(id(instruction))
        if start is None or not isinstance(instruction, Binary):
            return None
        distance = builder.binary("sub", instruction.left, now, flags=["nsw"])
        return [*builder.take(), Binary(instruction.result, "add", start, distance, ("nsw",))]

    blocks = []
    for block in function.rewritten(change).blocks:
        if block.label == test.label:
            block = _ending(block, dataclasses.replace(branch, yes=row))
        elif block.label == step.label:
            block = _ending(block, block.end.with_labels(lambda label: row_test if label == test.label else label))
        blocks.append(block)
    return function.with_blocks([*blocks, row_block, test_block])


def _ending(block: Block, end: Instruction) -> Block:
    return Block(block.label, (*block.instructions[:-1], end))


def _clone(builder: Builder, function: Function, value: Value | None, known: dict[str, Value]) -> Value | None:
    """The value once more, of what is `known` by its name; None where it is made of something else."""
    if not isinstance(value, Local):
        return value
    if value.name in known:
        return known[value.name]
    definition = function.definition(value)
    if definition is None:
        return value  # a parameter
    temporary = isinstance(definition, Load) and temporary_of(function, value) is not None
    called = isinstance(definition, Call) and definition.name in _CLONED
    if not temporary and not called and not isinstance(definition, (Binary, Compare, Cast)):
        return None
    operands = {str(each): _clone(builder, function, each, known) for each in definition.operands}
    if None in operands.values():
        return None
    copy = Local(value.type, builder.fresh(f"row.{value.name}"))
    renamed = definition.with_operands(lambda each: operands[str(each)] or each)
    builder.add(dataclasses.replace(renamed, result=copy))
    known[value.name] = copy
    return copy
