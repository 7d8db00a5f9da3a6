"""Which of a kernel's tasks only work out the ranges of its loops. Knows no signatures.

Taichi computes the range of a parallel loop in a task of its own, which hands it on through temporaries that all tasks
share. Where it follows from shapes and numbers alone, each thread of the loop's kernel can do the same for itself, and
so can the host to know how many threads to launch: no kernel has to run before it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..ir import Definitions, Function, Task, TracedModule

_POINTER = re.compile(r"^\s*(%[\w.]+) = call i8\* @get_temporary_pointer\(.*, i64 (\d+)\)$")
_CAST = re.compile(r"^\s*(%[\w.]+) = bitcast i8\* (%[\w.]+) to .*$")
_LOAD = re.compile(r"^\s*%[\w.]+ = load .*\* (%[\w.]+), align \d+$")
_CALLED = re.compile(r" call .*?@([\w.]+)\(")
_ELEMENT = re.compile(r" = getelementptr (?!\{|%struct\.)")
_ALLOWED = {"RuntimeContext_get_runtime", "get_temporary_pointer", "min_i32", "max_i32"}


@dataclass(frozen=True)
class Bounds:
    """Of one kernel: the indices of the tasks that each thread runs for itself, before those that come after them;
    those among them that have to run once for all, too; the offsets of the temporaries that each thread has for itself.
    """

    prelude: frozenset[int]
    shared: frozenset[int]
    private: frozenset[int]

    def known(self, task: Task) -> bool:
        """Whether the range of a loop is known to who runs the prelude."""
        return _used(task.body)[0] <= self.private


def find_bounds(module: TracedModule) -> Bounds:
    """Look for them."""
    uses = [_task_uses(task) for task in module.tasks]
    prelude = {index for index, task in enumerate(module.tasks) if _only_computes(task)}
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
    return Bounds(frozenset(prelude), frozenset(shared), frozenset(private))


def _only_computes(task: Task) -> bool:
    """Whether a task computes with shapes, numbers and temporaries, and touches no array."""
    if task.turn is not None:
        return False
    for line in task.body.body:
        if _ELEMENT.search(line) or "atomicrmw" in line:
            return False
        called = _CALLED.search(line)
        if called and called[1] not in _ALLOWED and not called[1].startswith("llvm."):
            return False
    return True


def _task_uses(task: Task) -> tuple[set[int], set[int]]:
    """Offsets of the temporaries that a task (reads, may write)."""
    reads: set[int] = set()
    writes: set[int] = set()
    for function in task.functions:
        found = _used(function)
        reads |= found[0]
        writes |= found[1]
    return reads, writes


def _used(function: Function) -> tuple[set[int], set[int]]:
    pointers: dict[str, int] = {}
    for line in function.body:
        if match := _POINTER.match(line):
            pointers[match[1]] = int(match[2])
        elif (match := _CAST.match(line)) and match[2] in pointers:
            pointers[match[1]] = pointers[match[2]]
    reads: set[int] = set()
    writes: set[int] = set()
    for line in function.body:
        if _POINTER.match(line) or _CAST.match(line):
            continue
        used = {pointers[name] for name in re.findall(r"%[\w.]+", line) if name in pointers}
        if _LOAD.match(line):
            reads |= used
            continue
        writes |= used
        if not line.lstrip().startswith("store "):
            reads |= used  # an atomic operation, or a function
    return reads, writes


def temporary_target(definitions: Definitions, pointer: str) -> int | None:
    """The offset of the temporary that a pointer points to; None for one to anything else."""
    opcode, rest = definitions.operation(pointer)
    if opcode == "bitcast" and (match := re.match(r"^i8\* (%[\w.]+) to .*$", rest)):
        opcode, rest = definitions.operation(match[1])
    match = re.match(r"^i8\* @get_temporary_pointer\(.*, i64 (\d+)\)$", rest) if opcode == "call" else None
    return int(match[1]) if match else None
