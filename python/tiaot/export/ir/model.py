"""The model of LLVM IR: modules, functions, blocks. Knows nothing of text, Taichi or kernels.

Everything is immutable. A value is known by its name, as in LLVM's text: an instruction that takes the place of another
gives its result the same name, and nothing that uses it has to be told. So a pass is a function from Function to
Function that shares all that it leaves alone. Names are without their % and @, and in quotes where LLVM quotes them.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from .instructions import Instruction, Phi
from .types import FunctionType, Pointer, Type
from .values import Global, Local, Value


@dataclass(frozen=True)
class Block:
    """Instructions that run one after another; the last one ends the block."""

    label: str
    instructions: tuple[Instruction, ...]

    @property
    def end(self) -> Instruction:
        return self.instructions[-1]

    @property
    def phis(self) -> tuple[Phi, ...]:
        return tuple(each for each in self.instructions if isinstance(each, Phi))


@dataclass(frozen=True)
class Parameter:
    value: Local
    attributes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Function:
    """A function; one without blocks is declared only.

    `before` is what stands in front of its type (linkage, visibility, calling convention, attributes of the result),
    `after` what stands behind its parameters. Labels of blocks and names of values are from one space.
    """

    name: str
    result: Type
    parameters: tuple[Parameter, ...]
    blocks: tuple[Block, ...] = ()
    variadic: bool = False
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()

    @property
    def type(self) -> FunctionType:
        return FunctionType(self.result, tuple(each.value.type for each in self.parameters), self.variadic)

    @property
    def pointer(self) -> Global:
        """The function as a value."""
        return Global(Pointer(self.type), self.name)

    @property
    def instructions(self) -> Iterator[Instruction]:
        return (instruction for block in self.blocks for instruction in block.instructions)

    @cached_property
    def _definitions(self) -> dict[str, Instruction]:
        return {each.result.name: each for each in self.instructions if each.result is not None}

    def definition(self, value: Value) -> Instruction | None:
        """The instruction that a value is the result of; None of a parameter, a global, a constant."""
        return self._definitions.get(value.name) if isinstance(value, Local) else None

    @cached_property
    def _users(self) -> dict[str, list[Instruction]]:
        users: dict[str, list[Instruction]] = {}
        for instruction in self.instructions:
            for name in dict.fromkeys(each.name for each in instruction.operands if isinstance(each, Local)):
                users.setdefault(name, []).append(instruction)
        return users

    def users(self, value: Value) -> Sequence[Instruction]:
        """The instructions that use a parameter or a result, in their order."""
        return self._users.get(value.name, ()) if isinstance(value, Local) else ()

    @cached_property
    def by_label(self) -> Mapping[str, Block]:
        return {block.label: block for block in self.blocks}

    @cached_property
    def predecessors(self) -> Mapping[str, tuple[str, ...]]:
        """By the label of each block those of the blocks that may come before it, each once."""
        found: dict[str, dict[str, None]] = {block.label: {} for block in self.blocks}
        for block in self.blocks:
            for target in block.end.targets:
                found[target][block.label] = None
        return {label: tuple(labels) for label, labels in found.items()}

    @cached_property
    def names(self) -> frozenset[str]:
        """All names that are taken: of parameters, results and blocks."""
        parameters = (parameter.value.name for parameter in self.parameters)
        return frozenset([*parameters, *self._definitions, *self.by_label])

    def with_blocks(self, blocks: Sequence[Block]) -> Function:
        return dataclasses.replace(self, blocks=tuple(blocks))

    def rewritten(self, change: Callable[[Instruction], Instruction | Sequence[Instruction] | None]) -> Function:
        """The function with each instruction as `change` gives it: another one, several, or none of that (None: as it
        is; an empty list: left out)."""
        blocks = []
        for block in self.blocks:
            new: list[Instruction] = []
            for instruction in block.instructions:
                changed = change(instruction)
                if changed is None:
                    new.append(instruction)
                elif isinstance(changed, Instruction):
                    new.append(changed)
                else:
                    new += changed
            same = len(new) == len(block.instructions) and all(map(operator.is_, new, block.instructions))
            blocks.append(block if same else Block(block.label, tuple(new)))
        return self if all(map(operator.is_, blocks, self.blocks)) else self.with_blocks(blocks)


@dataclass(frozen=True)
class Module:
    """A module: its named types (None: opaque), its functions, and what the model does not look into, as text."""

    types: Mapping[str, Type | None]
    functions: Mapping[str, Function]
    globals: Mapping[str, str] = field(default_factory=dict)  # variables and aliases: the line
    attributes: Mapping[str, str] = field(default_factory=dict)  # groups of attributes: "#0": what is in the braces
    comdats: tuple[str, ...] = ()
    target: tuple[str, ...] = ()  # data layout and triple

    @property
    def definitions(self) -> list[Function]:
        return [function for function in self.functions.values() if function.blocks]

    @property
    def declarations(self) -> list[Function]:
        return [function for function in self.functions.values() if not function.blocks]

    def with_functions(self, *functions: Function) -> Module:
        """The module with some functions added, or in the place of those of the same names."""
        return dataclasses.replace(self, functions={**self.functions, **{each.name: each for each in functions}})
