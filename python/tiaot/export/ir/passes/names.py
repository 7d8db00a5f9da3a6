"""Names: words in the place of LLVM's numbers, which have to stand in order, so that a pass may leave values out."""

from __future__ import annotations

import dataclasses

from ..builder import Builder
from ..instructions import Instruction
from ..model import Block, Function, Parameter
from ..values import Local, Value


def with_names(function: Function) -> Function:
    """The function with a name for each value and block that has a number."""
    builder = Builder(function.names)
    names = {each: builder.fresh("v" + each) for each in sorted(function.names) if each.isdigit()}

    def value(each: Value) -> Value:
        return Local(each.type, names[each.name]) if isinstance(each, Local) and each.name in names else each

    def label(each: str) -> str:
        return names.get(each, each)

    def change(instruction: Instruction) -> Instruction:
        changed = instruction.with_operands(value).with_labels(label)
        result = instruction.result
        if result is None or result.name not in names:
            return changed
        return dataclasses.replace(changed, result=Local(result.type, names[result.name]))

    parameters = tuple(
        Parameter(Local(each.value.type, label(each.value.name)), each.attributes) for each in function.parameters
    )
    blocks = tuple(Block(label(each.label), tuple(map(change, each.instructions))) for each in function.blocks)
    return dataclasses.replace(function, parameters=parameters, blocks=blocks)
