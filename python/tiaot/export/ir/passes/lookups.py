"""Lookups: the steps to an element of a dense node of fields, as sums in 64 bits, as offsets.py does for arrays."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Protocol

from ..builder import Builder
from ..instructions import Call, Cast, GetElementPointer, Instruction
from ..model import Function
from ..types import I8, I32, I64
from ..values import Constant, Local, LoweringError, Value, integer, integer_of
from ..writer import write_instruction
from .chains import binary, peel_constant
from .refusal import refuse

_DESCRIBES = re.compile(r"(Struct|Dense)Meta_set_\w+")
_OF_NODES = re.compile(r"Dense_\w+|S\d+_refine_coordinates")


# Of each axis of a node its stride, and the index there: a value, None for 0, and a constant that is added to it. The
# stride is 0 of one index that stands for all axes.
Indices = tuple[tuple[int, Value | None, int], ...]


class Dense(Protocol):
    """A dense node: the bytes of a cell, and the sizes of its axes, row-major."""

    @property
    def cell_bytes(self) -> int: ...

    @property
    def sizes(self) -> tuple[int, ...]: ...


def place_lookups(function: Function, nodes: Mapping[int, Dense]) -> Function:
    """Rewrite them; `nodes` are the dense nodes by Taichi's numbers.

    Raises:
        LoweringError: when it is not known which node a step is in, or Taichi's functions for nodes are used otherwise.
    """
    numbers = _node_numbers(function)
    builder = Builder(function.names)

    def change(instruction: Instruction) -> list[Instruction] | None:
        if not isinstance(instruction, Call):
            return None
        if _DESCRIBES.fullmatch(instruction.name):
            return []
        if not _OF_NODES.fullmatch(instruction.name):
            return None
        number = _number_of(function, numbers, instruction.arguments[0])
        dense = None if number is None else nodes.get(number)
        if instruction.name != "Dense_lookup_element" or dense is None or instruction.result is None:
            refuse(instruction, "it is not known which element of a field this is")
        _, container, index = instruction.arguments
        tag = f"at{instruction.result.name}"
        total = _element(builder, function, dense, index, tag)
        offset = builder.binary("mul", total, integer(I64, dense.cell_bytes), flags=["nsw"], name=tag)
        pointer = GetElementPointer(instruction.result, I8, container, (offset,), inbounds=True)
        return [*builder.take(), pointer]

    return function.rewritten(change)


def indices_of(function: Function, nodes: Mapping[int, Dense]) -> dict[str, Indices]:
    """By the names of the pointers to elements of nodes, before `place_lookups`: the indices along the node's axes."""
    numbers = _node_numbers(function)
    found: dict[str, Indices] = {}
    for each in function.instructions:
        if not isinstance(each, Call) or each.name != "Dense_lookup_element" or each.result is None:
            continue
        number = _number_of(function, numbers, each.arguments[0])
        if number is None or number not in nodes:
            continue
        strides = _strides(nodes[number])
        terms = _terms(function, strides, each.arguments[2])
        flat = _flat(function, [(leaf, stride) for leaf, _, stride in terms if leaf is not None], strides)
        if flat is not None and not any(shift for _, shift, _ in terms):
            terms = [(flat, 0, 0)]
        found[each.result.name] = tuple((stride, leaf, shift) for leaf, shift, stride in terms)
    return found


def _node_numbers(function: Function) -> dict[str, int]:
    """By the memory that describes a node: its number."""
    found: dict[str, int] = {}
    for instruction in function.instructions:
        if isinstance(instruction, Call) and instruction.name == "StructMeta_set_snode_id":
            name = _described(function, instruction.arguments[0])
            number = integer_of(instruction.arguments[1])
            if name is None or number is None or found.setdefault(name, number) != number:
                raise LoweringError(f"it is not known which node of fields {write_instruction(instruction)!r} is about")
    return found


def _described(function: Function, pointer: Value) -> str | None:
    definition = function.definition(pointer)
    while isinstance(definition, Cast) and definition.opcode == "bitcast":
        pointer = definition.value
        definition = function.definition(pointer)
    return pointer.name if isinstance(pointer, Local) else None


def _number_of(function: Function, numbers: Mapping[str, int], pointer: Value) -> int | None:
    name = _described(function, pointer)
    return None if name is None else numbers.get(name)


def _element(builder: Builder, function: Function, dense: Dense, index: Value, tag: str) -> Value:
    """An element's number in its node, in i64."""
    strides = _strides(dense)
    shift = 0
    plain: list[tuple[Value, int]] = []
    for leaf, offset, stride in _terms(function, strides, index):
        shift += offset * stride
        if leaf is not None:
            plain.append((leaf, stride))
    flat = _flat(function, plain, strides)
    if flat is not None:
        plain = [(flat, 1)]
    total: Value = integer(I64, shift)
    for place, (leaf, stride) in enumerate(plain):
        wide = builder.cast("sext", leaf, I64, name=f"{tag}.p{place}")
        scaled_ = builder.binary("mul", wide, integer(I64, stride), flags=["nsw"], name=f"{tag}.m{place}")
        total = builder.binary("add", scaled_, total, flags=["nsw"], name=f"{tag}.t{place}")
    return total


def _strides(dense: Dense) -> list[int]:
    strides = [1]
    for size in dense.sizes[:0:-1]:
        strides.insert(0, strides[0] * size)
    return strides


def _terms(function: Function, strides: Sequence[int], index: Value) -> list[tuple[Value | None, int, int]]:
    """Of each axis: its index without a constant that is added to it (None: it is all), the constant, the stride."""
    rest = index
    terms: list[tuple[Value, int]] = []
    for stride in strides[:-1]:
        found = _split(function, rest, stride)
        if found is not None:
            rest, scaled = found
            terms.append((scaled, stride))
    terms.append((rest, 1))
    return [(*peel_constant(function, value), stride) for value, stride in terms]


def _split(function: Function, value: Value, stride: int) -> tuple[Value, Value] | None:
    """value = rest + scaled * stride, as (rest, scaled)."""
    sum_ = binary(function, value, "add")
    if sum_ is not None:
        for rest, product in ((sum_.left, sum_.right), (sum_.right, sum_.left)):
            scaled = _scaled(function, product, stride)
            if scaled is not None:
                return rest, scaled
    scaled = _scaled(function, value, stride)
    return None if scaled is None else (Constant(I32, "0"), scaled)


def _scaled(function: Function, value: Value, stride: int) -> Value | None:
    """x, where value = x * stride."""
    product = binary(function, value, "mul", "shl")
    if product is None or (factor := integer_of(product.right)) is None:
        return None
    return product.left if stride == (factor if product.opcode == "mul" else _power(factor)) else None


def _power(exponent: int) -> int:
    return 1 << exponent if 0 <= exponent < 31 else 0


def _flat(function: Function, terms: Sequence[tuple[Value, int]], strides: Sequence[int]) -> Value | None:
    """v, where the indices are those that v stands for in a loop over all elements, so that v is the sum again."""
    if len(terms) != len(strides) or len(terms) < 2:
        return None

    def quotient(value: Value, by: int) -> Value | None:
        found = binary(function, value, "sdiv", "lshr", "ashr")
        if found is None or (divisor := integer_of(found.right)) is None:
            return None
        return found.left if by == (divisor if found.opcode == "sdiv" else _power(divisor)) else None

    def remainder(value: Value, by: int) -> Value | None:
        found = binary(function, value, "srem", "and")
        if found is None or (divisor := integer_of(found.right)) is None:
            return None
        return found.left if by == (divisor if found.opcode == "srem" else divisor + 1) else None

    whole = quotient(terms[0][0], strides[0])
    if whole is None:
        return None
    for place in range(1, len(strides)):
        value, above, own = terms[place][0], strides[place - 1], strides[place]
        if own == 1:
            found = remainder(value, above)
        else:  # (v mod above) div own, or (v div own) mod (above div own)
            inner = quotient(value, own)
            found = None if inner is None else remainder(inner, above)
            if found is None:
                inner = remainder(value, above // own)
                found = None if inner is None else quotient(inner, own)
        if found != whole:
            return None
    return whole
