"""Variables: the variable of a counting loop in memory, where it has become a value, so that one form of it is known.

Adjoints are made of tasks that LLVM has brought to SSA form.
"""

from __future__ import annotations

from ..builder import Builder
from ..instructions import Branch, Compare, Instruction, Load, Phi
from ..model import Block, Function
from ..types import I32
from ..values import Local
from .chains import binary
from .control import reached


def loop_variables(function: Function) -> Function:
    """Give each loop that tests `phi < limit` a variable, which is read once at the beginning of its body.

    Where the phi is used behind the loop, or is not the only one of its block, it stays.
    """
    for block in function.blocks:
        if (loop := _counted(function, block)) is not None:
            function = _in_memory(function, block, loop)
    return function


def _counted(function: Function, test: Block) -> Phi | None:
    branch = test.end
    if len(test.instructions) != 3 or len(test.phis) != 1 or not isinstance(branch, Branch) or not branch.condition:
        return None
    (phi,) = test.phis
    compared = test.instructions[1]
    if not isinstance(compared, Compare) or branch.condition != compared.result or compared.left != phi.result:
        return None
    if phi.result.type != I32 or compared.predicate != "slt" or compared.right == phi.result:
        return None
    if not any((sum_ := binary(function, each, "add")) and sum_.left == phi.result for each in phi.values):
        return None
    inside = reached(function, branch.yes, test)
    used = {block.label for block in function.blocks for each in block.instructions if phi.result in each.operands}
    before = function.predecessors[branch.yes]
    return phi if used - {test.label} <= inside and before == (test.label,) else None


def _in_memory(function: Function, test: Block, phi: Phi) -> Function:
    builder = Builder(function.names)
    variable = builder.alloca(I32, align=4, name="variable")
    (allocation,) = builder.take()
    branch = test.end
    assert isinstance(branch, Branch)
    values = dict(zip(phi.labels, phi.values, strict=True))
    blocks = []
    for block in function.blocks:
        instructions: list[Instruction] = list(block.instructions)
        if block.label == test.label:
            read = builder.load(variable, align=4)
            compared = instructions[1].with_operands(lambda each, new=read: new if each == phi.result else each)
            instructions = [*builder.take(), compared, branch]
        if block.label == branch.yes:
            instructions.insert(0, Load(Local(I32, phi.result.name), variable, 4))
        if block.label in values:
            builder.store(values[block.label], variable, align=4)
            instructions[-1:-1] = builder.take()
        if block is function.blocks[0]:
            instructions.insert(0, allocation)
        blocks.append(Block(block.label, tuple(instructions)))
    return function.with_blocks(blocks)
