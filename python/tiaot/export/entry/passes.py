"""The order of the passes that every function of a task goes through, on any target and with a batch or without.

What an entry knows of a function is a Plan. What differs between targets is the Target's.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass

from ..ir.model import Function
from ..ir.origins import Layout
from ..ir.passes.atomics import plain_additions, plain_extrema
from ..ir.passes.finish import finish
from ..ir.passes.indices import plain_indices
from ..ir.passes.offsets import widen_offsets
from ..ir.passes.reassociation import reassociate_sums
from ..ir.passes.rows import loop_over_rows
from ..ir.passes.scaling import point_to_copies, scale_offsets
from ..ir.passes.stacks import fix_stacks, grow_stacks
from ..ir.passes.temporaries import Private, Summed, point_temporaries
from ..ir.passes.variables import loop_variables
from ..target.model import Target

IsArray = Callable[[int, int], bool]  # whether something holds of the array (index, field)


class Atomics(enum.Enum):
    """What becomes of the atomic operations of a function."""

    STAY = "several threads run it at a time"
    SUMS_APART = "several threads do, each of which adds floating-point numbers to memory of its own"
    PLAIN_SUMS = "one thread runs it at a time"
    PLAIN = "one thread does, and the order in which its minima and maxima find their numbers shows"


@dataclass(frozen=True)
class Copies:
    """What each thread of a device adds to in a copy of its own: arrays, and roots of fields by their places among all
    whose numbers are `roots`."""

    arrays: IsArray
    places: Mapping[int, int]
    roots: Container[int] = ()


@dataclass(frozen=True)
class Plan:
    """What the passes are to know of a function. `layout` is as `widen_offsets` takes it."""

    layout: Layout
    atomics: Atomics
    temporaries: Mapping[int, Private | Summed] | None = (
        None  # by their offsets, where threads have some for themselves
    )
    loop: Iterable[Function] = ()  # the functions of its task, where this is a loop that is cut into pieces
    lanes: bool = False  # whether any array lies in lanes
    reassociated: IsArray | None = None  # to which numbers may be added in any order
    lane_copies: Callable[[int, int], int] = lambda index, field: 1  # of an array those that lanes have of each element
    copies: Copies | None = None
    stack_values: int = 0  # that a stack has room for, on a target where it does not grow


def prepare(function: Function, plan: Plan, target: Target) -> Function:
    """A function of a task as LLVM is given it.

    Raises:
        LoweringError: when a pass does not take it; the message has the instruction.
    """
    if plan.temporaries is not None:
        function = point_temporaries(function, plan.temporaries)
    if plan.loop:
        function = plain_indices(loop_variables(function), plan.loop)
        if target.vectorizes:
            function = loop_over_rows(function, plan.loop)
    function = grow_stacks(function) if target.stacks_grow else fix_stacks(function, plan.stack_values)
    if plan.atomics is not Atomics.STAY:
        function = plain_additions(function, whole_numbers=plan.atomics is not Atomics.SUMS_APART)
    if plan.atomics is Atomics.PLAIN:
        function = plain_extrema(function)
    function = widen_offsets(
        function, plan.layout, lanes=plan.lanes, in_steps=target.vectorizes, copies=plan.lane_copies
    )
    if plan.reassociated is not None:
        function = reassociate_sums(function, plan.reassociated)
    if plan.copies is not None:
        function = scale_offsets(function, plan.copies.arrays, plan.copies.roots)
        if plan.copies.places:
            function = point_to_copies(function, plan.copies.places, plan.copies.roots)
    return finish(function)


def prepare_range(function: Function, temporaries: Mapping[int, Private | Summed]) -> Function:
    """A function that only works out the range of a loop, from shapes, numbers and temporaries of the thread's own."""
    return finish(point_temporaries(function, temporaries))
