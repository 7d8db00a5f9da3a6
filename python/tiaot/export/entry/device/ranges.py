"""Which of a kernel's tasks only work out the ranges of its loops. Knows no signatures.

Taichi computes the range of a parallel loop in a task of its own, which hands it on through temporaries that all tasks
share. Where it follows from shapes and numbers alone, each thread of the loop's kernel can do the same for itself, and
so can the host to know how many threads to launch: no kernel has to run before it.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from ...ir import Task, TracedModule
from ...ir.instructions import AtomicUpdate, Call, CompareExchange, Fence, Load, Store
from ...ir.model import Function
from ...ir.origins import CONTEXT, LOCAL, UNKNOWN, Origins, Temporary

_ALLOWED = {"RuntimeContext_get_runtime", "get_temporary_pointer", "min_i32", "max_i32"}


@dataclass(frozen=True)
class Bounds:
    """Of one kernel: the indices of the tasks that each thread runs for itself, before those that come after them;
    those among them that have to run once for all, too; the offsets of the temporaries that each thread has for itself.
    """

    prelude: frozenset[int]
    shared: frozenset[int]
    private: frozenset[int]

    roots: Container[int] = ()  # the numbers of the children of roots of fields

    def known(self, task: Task) -> bool:
        """Whether the range of a loop is known to who runs the prelude."""
        return _used(task.body, self.roots)[0] <= self.private


def find_bounds(module: TracedModule, roots: Container[int] = ()) -> Bounds:
    """Look for them. There are none where a task has a pointer that may be to a temporary or not."""
    if any(UNKNOWN in Origins(function, roots).touched() for function in module.functions):
        return Bounds(frozenset(), frozenset(), frozenset(), roots)
    uses = [_task_uses(task, roots) for task in module.tasks]
    prelude = {index for index, task in enumerate(module.tasks) if _only_computes(task, roots)}
    while True:
        written: dict[int, set[int]] = {}  # offset: the tasks that write to it
        for index, (_, writes) in enumerate(uses):
            for offset in writes:
                written.setdefault(offset, set()).add(index)
        private = {offset for offset, tasks in written.items() if tasks <= prelude}
        kept = {index for index in prelude if uses[index][0] <= private and uses[index][1] & private}
        if kept == prelude:
            break
        prelude = kept
    shared = {index for index in prelude if not uses[index][1] <= private}
    return Bounds(frozenset(prelude), frozenset(shared), frozenset(private), roots)


def _only_computes(task: Task, roots: Container[int]) -> bool:
    """Whether a task computes with shapes, numbers and temporaries, and touches no array."""
    if task.turn is not None:
        return False
    origins = Origins(task.body, roots)
    for instruction in task.body.instructions:
        if isinstance(instruction, (AtomicUpdate, CompareExchange, Fence)):
            return False
        if isinstance(instruction, Call) and instruction.name not in _ALLOWED and not instruction.is_intrinsic:
            return False
        if not all(isinstance(each, Temporary) or each in (LOCAL, CONTEXT) for each in origins.touched_by(instruction)):
            return False
    return True


def _task_uses(task: Task, roots: Container[int]) -> tuple[set[int], set[int]]:
    """Offsets of the temporaries that a task (reads, may write)."""
    reads: set[int] = set()
    writes: set[int] = set()
    for function in task.functions:
        found = _used(function, roots)
        reads |= found[0]
        writes |= found[1]
    return reads, writes


def _used(function: Function, roots: Container[int]) -> tuple[set[int], set[int]]:
    """Offsets of the temporaries that a function (reads, may write), as far as its pointers are known."""
    origins = Origins(function, roots)
    reads: set[int] = set()
    writes: set[int] = set()
    for instruction in function.instructions:
        used = {each.offset for each in origins.touched_by(instruction) if isinstance(each, Temporary)}
        if not isinstance(instruction, Load):
            writes |= used
        if not isinstance(instruction, Store):
            reads |= used  # a load, an atomic operation, or a function
    return reads, writes
