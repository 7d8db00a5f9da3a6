"""Fields in the reverse mode: the place that an element lies in, and the steps from there to its gradient.

An adjoint on fields finds them as the kernel leaves them, as Taichi's does: a tape runs adjoints when all kernels have
run. So it reads them where it needs them, writes to none, and nothing of what they hold has to be kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..ir.instructions import AtomicUpdate, Call, CompareExchange, Instruction, Store
from ..ir.model import Function
from ..ir.origins import UNKNOWN, Origins, Root, is_address
from ..ir.passes.lookups import Dense, Indices, indices_of, place_lookups
from ..ir.passes.refusal import refuse

STEP = re.compile(r"get_ch_S(\d+)_to_S(\d+)")
_EXTREMUM = re.compile(r"atomic_(min|max)_\w+")


@dataclass(frozen=True)
class Fields:
    """The places of the named fields, by Taichi's numbers: a vector's or matrix's elements have one each."""

    dense: Mapping[int, Dense] = field(default_factory=dict)  # the dense nodes
    paths: Mapping[int, tuple[int, ...]] = field(default_factory=dict)  # of each place: the nodes from the root to it
    gradients: Mapping[int, int] = field(default_factory=dict)  # of places with a gradient: that of the gradient

    @property
    def places(self) -> frozenset[int]:
        """Of all fields and their gradients."""
        return frozenset(self.paths)

    def placed(self, function: Function) -> tuple[Function, dict[str, Indices]]:
        """The function with the steps to elements as sums, and the indices of elements by the names of their pointers.

        Raises:
            LoweringError: where it reaches into fields in a way that is not followed.
        """
        if not self.paths:
            return function, {}
        return place_lookups(function, self.dense), indices_of(function, self.dense)

    def gradient_path(self, place: int) -> tuple[int, ...] | None:
        """The nodes from the root to the gradient of a place; None where it has none, or in a tree of another form."""
        if place not in self.gradients:
            return None
        own, other = self.paths[place], self.paths[self.gradients[place]]
        alike = len(own) == len(other) and all(map(self._is_alike, own[1:-1], other[1:-1]))
        return other if alike else None

    def _is_alike(self, one: int, other: int) -> bool:
        first, second = self.dense.get(one), self.dense.get(other)
        return first is not None and second is not None and first.sizes == second.sizes

    def check(self, function: Function) -> None:
        """Refuses what a function does to fields that the adjoint would have to do once more, or does not see.

        Raises:
            LoweringError: with the instruction.
        """
        if not self.paths:
            return
        origins = Origins(function, self.places)
        hidden = self.places - set(self.gradients) - set(self._plain)
        for each in function.instructions:
            touched = origins.touched_by(each)
            if any(isinstance(memory, Root) and memory.node in hidden for memory in touched):
                refuse(each, "the kernel itself uses the gradient of a field")
            if isinstance(each, Call) and (match := STEP.fullmatch(each.name)) and self._is_unknown(int(match[2])):
                refuse(each, "no variable of the file holds this field: it is not known whether it has a gradient")
            if isinstance(each, (Store, AtomicUpdate, CompareExchange)) and origins.of(each.pointer) is UNKNOWN:
                refuse(each, "it is not known which field it writes to")
            if isinstance(each, Call) and not is_address(each.name) and UNKNOWN in touched:
                refuse(each, "it is not known which field it uses")
            if any(isinstance(memory, Root) for memory in touched) and self._is_used(function, each):
                refuse(each, "what a field held before an atomic operation is used, and is not there any more")

    @property
    def _plain(self) -> list[int]:
        """The places of fields that have no gradient."""
        of_gradients = set(self.gradients.values())
        return [each for each in self.paths if each not in self.gradients and each not in of_gradients]

    def _is_unknown(self, node: int) -> bool:
        return node not in self.paths and node not in self.dense

    @staticmethod
    def _is_used(function: Function, instruction: Instruction) -> bool:
        """Whether something that writes to fields cannot be left out."""
        if isinstance(instruction, AtomicUpdate):
            return bool(function.users(instruction.result))
        if isinstance(instruction, Call) and _EXTREMUM.fullmatch(instruction.name):
            return instruction.result is not None and bool(function.users(instruction.result))
        return isinstance(instruction, (CompareExchange, Call))

    def writes(self, origins: Origins, instruction: Instruction) -> bool:
        """Whether an instruction writes to a field."""
        if isinstance(instruction, (Store, AtomicUpdate)):
            pointer = instruction.pointer
        elif isinstance(instruction, Call) and _EXTREMUM.fullmatch(instruction.name):
            pointer = instruction.arguments[0]
        else:
            return False
        return isinstance(origins.of(pointer), Root)

    def without_writes(self, function: Function) -> Function:
        """The function, which leaves the fields as they are."""
        origins = Origins(function, self.places)
        return function.rewritten(lambda each: [] if self.writes(origins, each) else None)
