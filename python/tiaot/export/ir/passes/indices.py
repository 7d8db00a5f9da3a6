"""Indices: in a loop over an array of one dimension Taichi takes each index modulo the array's size, which it is below.

A CPU's vectors have no division of integers, so that such a loop would stay scalar.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..instructions import Alloca, Binary, Branch, Call, Cast, Compare, Instruction, Load, Store
from ..model import Block, Function
from ..origins import UNKNOWN, Origins, Temporary
from ..types import I32
from ..values import Local, Value, constant_of, integer_of
from .chains import binary
from .control import reached


def plain_indices(function: Function, beside: Iterable[Function] = ()) -> Function:
    """Leave the remainder out where it is known to be the index itself.

    The loop variable starts at 0 or above, grows by 1, and is compared with the smaller of two numbers, one of which is
    the temporary that it is divided by. All else stays as it is.

    Args:
        function: the body of a parallel loop, whose last parameter is the number of a piece.
        beside: what other threads may run meanwhile, the other functions of the loop.
    """
    if any(map(writes_temporaries, (function, *beside))):
        return function

    def change(instruction: Instruction) -> Instruction | None:
        if not isinstance(instruction, Binary) or instruction.opcode != "srem":
            return None
        index, size = function.definition(instruction.left), temporary_of(function, instruction.right)
        if size is None or not isinstance(index, Load) or not _is_below(function, index, size):
            return None
        assert instruction.result is not None
        return Binary(instruction.result, "add", instruction.left, constant_of(I32, 0))

    return function.rewritten(change)


def writes_temporaries(function: Function) -> bool:
    """Whether a temporary may have another value later in the loop."""
    origins = Origins(function)
    for instruction in function.instructions:
        if not isinstance(instruction, Load):
            touched = origins.touched_by(instruction)
            if UNKNOWN in touched or any(isinstance(each, Temporary) for each in touched):
                return True
    return False


def temporary_of(function: Function, value: Value) -> int | None:
    """The offset of the temporary that an i32 was read from."""
    load = function.definition(value)
    if not isinstance(load, Load) or load.volatile or load.result.type != I32:
        return None
    definition = function.definition(load.pointer)
    while isinstance(definition, Cast) and definition.opcode == "bitcast":
        definition = function.definition(definition.value)
    if isinstance(definition, Call) and definition.name == "get_temporary_pointer":
        return integer_of(definition.arguments[1])
    return None


@dataclass(frozen=True)
class CountingLoop:
    """A loop whose variable begins at 0 or above and grows by 1 while it is less than `limit`."""

    variable: Value
    begin: Store
    step: Store
    limit: Value


def loop_that_counts(function: Function, index: Load) -> CountingLoop | None:
    """The loop that a load reads the variable of, in its body and before the step; None where it is no such loop."""
    variable = index.pointer
    if not isinstance(function.definition(variable), Alloca) or index.result.type != I32 or index.volatile:
        return None
    stores = []
    for user in function.users(variable):
        if isinstance(user, Store) and user.pointer == variable and user.value != variable and not user.volatile:
            stores.append(user)
        elif not isinstance(user, Load):
            return None
    steps = [store for store in stores if _is_step(function, store)]
    begins = [store for store in stores if store not in steps]
    if len(steps) != 1 or len(begins) != 1 or not _is_begin(function, begins[0].value):
        return None
    limit = _test_before(function, variable, (begins[0], steps[0]), index)
    return None if limit is None else CountingLoop(variable, begins[0], steps[0], limit)


def _is_below(function: Function, index: Load, size: int) -> bool:
    """Whether what was read of a loop variable is at least 0 and less than the temporary at the offset `size`."""
    loop = loop_that_counts(function, index)
    limit = None if loop is None else function.definition(loop.limit)
    if not isinstance(limit, Call) or limit.name != "min_i32":
        return False
    return any(temporary_of(function, each) == size for each in limit.arguments)


def _is_step(function: Function, store: Store) -> bool:
    """Whether it adds 1 to the variable that it writes."""
    sum_ = binary(function, store.value, "add")
    if sum_ is None or integer_of(sum_.right) != 1:
        return False
    before = function.definition(sum_.left)
    return isinstance(before, Load) and before.pointer == store.pointer


def _is_begin(function: Function, value: Value) -> bool:
    """Whether it is where a piece begins: its number times the length of a piece, which does not overflow.

    A length is the larger of a constant and a 16th or less of the loop's, and pieces are 16.
    """
    product = binary(function, value, "mul")
    if product is None or not function.parameters:
        return False
    piece = function.parameters[-1].value
    for length, number in ((product.left, product.right), (product.right, product.left)):
        if number == piece:
            return _is_share(function, length)
        load = function.definition(number)
        if not isinstance(load, Load) or not isinstance(function.definition(load.pointer), Alloca):
            continue
        users = function.users(load.pointer)
        if all(isinstance(user, Load) or (isinstance(user, Store) and user.value == piece) for user in users):
            return _is_share(function, length)
    return False


def _is_share(function: Function, length: Value) -> bool:
    largest = function.definition(length)
    if not isinstance(largest, Call) or largest.name != "max_i32":
        return False
    for share, least in (largest.arguments, largest.arguments[::-1]):
        number = integer_of(least)
        difference = binary(function, share, "sub")
        quotient = None if difference is None else binary(function, difference.left, "sdiv")
        if number is None or quotient is None or difference is None:
            continue
        rounding = function.definition(difference.right)
        is_bit = isinstance(rounding, Cast) and rounding.opcode == "zext"
        return 0 < number <= 1 << 20 and is_bit and (integer_of(quotient.right) or 0) >= 16
    return False


def _test_before(function: Function, variable: Value, stores: tuple[Store, Store], index: Load) -> Value | None:
    """What the variable was compared with, and less than, before `index` was read and after it was written last."""
    places = {id(each): block for block in function.blocks for each in block.instructions}
    begin, step, at = (places[id(each)] for each in (*stores, index))
    if begin.end.targets != step.end.targets or len(begin.end.targets) != 1:
        return None
    test = function.by_label[begin.end.targets[0]]
    branch = test.end
    compared = function.definition(branch.condition) if isinstance(branch, Branch) and branch.condition else None
    if not isinstance(compared, Compare) or compared.predicate != "slt" or not isinstance(branch, Branch):
        return None
    read = function.definition(compared.left)
    if not isinstance(read, Load) or read.pointer != variable or places[id(read)] is not test:
        return None
    entered = reached(function, function.blocks[0].label, test)
    inside, outside = reached(function, branch.yes, test), reached(function, branch.no, test)
    if at.label not in inside or at.label in entered | outside or begin.label in inside or step.label not in inside:
        return None
    if at is step and _position(at, index) > _position(step, stores[1]):
        return None
    return compared.right if isinstance(compared.right, Local) else None


def _position(block: Block, instruction: Instruction) -> int:
    return next(place for place, each in enumerate(block.instructions) if each is instruction)
