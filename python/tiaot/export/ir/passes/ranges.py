"""Ranges: what is known of the values of integers."""

from __future__ import annotations

from ..instructions import Binary, Call, Cast, Select
from ..model import Function
from ..values import Constant, Value

_DEPTH = 8  # of what is looked through


def is_positive(function: Function, value: Value, depth: int = _DEPTH) -> bool:
    """Whether an integer is known to be greater than 0."""
    if isinstance(value, Constant):
        return (value.integer or 0) > 0
    definition = function.definition(value)
    if depth == 0 or definition is None:
        return False

    def known(each: Value) -> bool:
        return is_positive(function, each, depth - 1)

    if isinstance(definition, Call) and len(definition.arguments) == 2:
        if definition.name in ("max_i32", "max_i64"):
            return any(map(known, definition.arguments))
        return definition.name in ("min_i32", "min_i64") and all(map(known, definition.arguments))
    if isinstance(definition, Cast):
        return definition.opcode in ("sext", "zext") and known(definition.value)
    if isinstance(definition, Select):
        return known(definition.yes) and known(definition.no)
    if isinstance(definition, Binary) and definition.opcode == "or":
        return known(definition.left) and known(definition.right)
    return False
