"""From the tasks of a kernel to those of its adjoint, as texts: which tasks run again, and in which order.

Taichi's adjoint of a kernel works on its arrays and their gradients: it finds the cotangents in the gradients of the
outputs, which it zeroes, and adds to the gradients of the inputs. So does this one, and everything that follows takes
either. What differs is what it finds in the arrays that the kernel writes to: what the kernel finds there, and not what
it leaves. Tasks whose results later tasks read run again, in their order; then the adjoints of all tasks that have one,
in the opposite order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import llvmlite.binding as llvm

from ..author.parameters import Parameter
from ..entry.support import draws_random
from ..ir import types as t
from ..ir.builder import Builder
from ..ir.instructions import AtomicUpdate, Call, Instruction, Load, Store
from ..ir.model import Block, Function, Module
from ..ir.model import Parameter as Formal
from ..ir.origins import UNKNOWN, Array, Origin, Other, Temporary
from ..ir.passes.indices import plain_indices
from ..ir.passes.names import with_names
from ..ir.reader import read
from ..ir.tasks import CPU_LOOP, main_of
from ..ir.values import Global, Local, LoweringError, integer, integer_of, zero
from ..ir.writer import write
from .activity import Activity, Pointers
from .adjoint import Surroundings, adjoint
from .dead import without_dead

_ROOM = 64  # the gradients of temporaries lie behind them at a multiple of so many bytes


@dataclass(frozen=True)
class _Task:
    """A task: its module, and in it the function that the work is in."""

    module: Module
    body: Function
    is_loop: bool

    @property
    def main(self) -> Function:
        return main_of(self.module)

    def text(self, body: Function, called: Sequence[Function] = ()) -> str:
        """The module with another body, which calls other functions."""
        new = [each for each in called if each.name not in self.module.functions]
        return write(self.module.with_functions(*new, body))


def adjoint_tasks(texts: Sequence[str], parameters: Sequence[Parameter], wrt: Sequence[str]) -> tuple[str, ...]:
    """The tasks of the adjoint.

    Args:
        texts: those of the kernel, with room for the gradients of arrays in Taichi's arguments' struct.
        parameters: the kernel's, by whose places in that struct arrays are known.
        wrt: the inputs that are differentiated.

    Raises:
        LoweringError: for what cannot be differentiated, with a line of Taichi's code.
    """
    if any(map(draws_random, texts)):
        raise LoweringError("the reverse mode takes no random numbers, which it would draw anew on the way back")
    tasks = [_read(text) for text in texts]
    fields = _fields(parameters)
    able = {place: each for place, each in fields.items() if each.gradient}
    inputs = [Array(i, 1) for i, p in able.items() if p.role in ("input", "updated") and p.name in wrt]
    outputs = [Array(i, 1) for i, p in able.items() if p.role in ("output", "updated")]
    activity = Activity([task.body for task in tasks], inputs, outputs)
    writes = [_shared_writes(task.body) for task in tasks]
    behind = _behind(tasks)
    adjoints: dict[int, Function] = {}
    called: dict[int, dict[str, Function]] = {place: {} for place in range(len(tasks))}
    for place, task in enumerate(tasks):
        if not any(activity.is_active_instruction(place, each) for each in task.body.instructions):
            continue
        around = Surroundings(
            activity=activity,
            place=place,
            changed=frozenset[Origin]().union(*writes[place:]),
            ranks={i: p.rank + bool(p.element) for i, p in fields.items()},
            with_gradient=frozenset(able),
            temporaries=behind,
            types=task.module.types,
        )
        adjoints[place] = _without_unread(adjoint(task.body, task.is_loop, around, called[place]), behind)
    again = _again(tasks, writes, adjoints)
    _check_found(again, writes, adjoints, fields, behind)
    result = [tasks[place].text(tasks[place].body) for place in again]
    if temporaries := _active_temporaries(tasks, activity):
        result.insert(0, _clearing(tasks[0], temporaries, behind))
    for place in sorted(adjoints, reverse=True):
        result.append(tasks[place].text(adjoints[place], tuple(called[place].values())))
    return tuple(result)


def _fields(parameters: Sequence[Parameter]) -> dict[int, Parameter]:
    """Parameters by their places in the arguments' struct, where a vector by value takes one for each element."""
    found, place = {}, 0
    for each in parameters:
        if each.role != "result":
            found[place] = each
            place += each.element_count if each.by_value else 1
    return found


def _read(text: str) -> _Task:
    """A task in SSA form, with loops in the form that the pass takes."""
    given = read(text)
    for call in main_of(given).instructions:
        if isinstance(call, Call) and call.name == CPU_LOOP and isinstance(body := call.arguments[7], Global):
            given = given.with_functions(plain_indices(given.functions[body.name]))
    try:
        parsed = llvm.parse_assembly(write(given), llvm.create_context())  # of its own, so that types keep their names
        parsed.verify()
    except RuntimeError as error:
        raise LoweringError(f"LLVM refused Taichi's code: {error}") from error
    passes = llvm.create_module_pass_manager()
    passes.add_sroa_pass()
    passes.add_loop_simplification_pass()
    passes.add_lcssa_pass()
    passes.run(parsed)
    module = read(str(parsed))
    main = main_of(module)
    loops = [each for each in main.instructions if isinstance(each, Call) and each.name == CPU_LOOP]
    if not loops:
        return _Task(module, with_names(main), False)
    prologue, body, epilogue = loops[0].arguments[6:9]
    if len(loops) > 1 or not isinstance(body, Global):
        raise LoweringError(f"task {main.name!r} holds {len(loops)} parallel loops, where one was expected")
    if isinstance(prologue, Global) or isinstance(epilogue, Global):
        raise LoweringError(f"task {main.name!r}: its parallel loop has memory of each thread's own")
    return _Task(module, with_names(module.functions[body.name]), True)


# ---- what tasks share ----


def _shared_writes(body: Function) -> frozenset[Origin]:
    """What a function writes to, of what tasks share."""
    pointers = Pointers(body)
    found: set[Origin] = set()
    for each in body.instructions:
        if isinstance(each, (Store, AtomicUpdate)):
            memory = pointers.memory(each.pointer)
            found.update([] if isinstance(memory, Local) else [memory])
        elif isinstance(each, Call):
            found.update(pointers.origins.touched_by(each))
    return frozenset(found) - {Other.LOCAL}


def _shared_reads(body: Function) -> frozenset[Origin]:
    """What a function reads, of what tasks share and change."""
    pointers = Pointers(body)
    found: set[Origin] = set()
    for each in body.instructions:
        if isinstance(each, Load) or (isinstance(each, AtomicUpdate) and body.users(each.result)):
            memory = pointers.memory(each.pointer)
            found.update([] if isinstance(memory, Local) else [memory])
        elif isinstance(each, Call):
            found.update(pointers.origins.touched_by(each))
    return frozenset(found) - {Other.LOCAL, Other.CONTEXT}


def _is_primal(memory: object, behind: int) -> bool:
    """Whether it is memory of the kernel's own values, and not of gradients."""
    if isinstance(memory, Array):
        return memory.field == 1
    return isinstance(memory, Temporary) and memory.offset < behind


def _without_unread(function: Function, behind: int) -> Function:
    """An adjoint without what it writes once more to arrays and temporaries, and does not read."""
    while True:
        reads = _shared_reads(function)
        pointers = Pointers(function)

        def change(
            instruction: Instruction, function: Function = function, pointers: Pointers = pointers, reads=reads
        ) -> list[Instruction] | None:
            if not isinstance(instruction, (Store, AtomicUpdate)) or UNKNOWN in reads:
                return None
            memory = pointers.memory(instruction.pointer)
            if not _is_primal(memory, behind) or memory in reads:
                return None
            used = isinstance(instruction, AtomicUpdate) and function.users(instruction.result)
            return None if used else []

        smaller = without_dead(function.rewritten(change))
        if smaller is function:
            return function
        function = smaller


def _again(tasks: Sequence[_Task], writes: Sequence[frozenset[Origin]], adjoints: Mapping[int, Function]) -> list[int]:
    """The tasks that run again before the adjoints: what they write, an adjoint of a later task reads, or a later one
    of them."""
    found: list[int] = []
    for place in reversed(range(len(tasks))):
        readers = [body for each, body in adjoints.items() if each > place] + [tasks[each].body for each in found]
        if any(writes[place] & _shared_reads(each) for each in readers):
            found.insert(0, place)
    return found


def _check_found(
    again: Sequence[int],
    writes: Sequence[frozenset[Origin]],
    adjoints: Mapping[int, Function],
    fields: Mapping[int, Parameter],
    behind: int,
) -> None:
    """That each adjoint finds in memory what its task has found there, whatever has run before it."""
    for place, body in adjoints.items():
        changed = frozenset[Origin]().union(*(writes[each] for each in again if each >= place))
        for other, its_body in adjoints.items():
            if other > place:
                changed |= {each for each in _shared_writes(its_body) if _is_primal(each, behind)}
        wrong = sorted(_shared_reads(body) & changed, key=str)
        if wrong:
            raise LoweringError(
                f"the reverse mode needs {_name(wrong[0], fields)} as one loop of the kernel has found it, and this or "
                "a later loop writes to it: let them write to arrays of their own, or make kernels of the loops"
            )


def _name(memory: Origin, fields: Mapping[int, Parameter]) -> str:
    if isinstance(memory, Array) and memory.index in fields:
        return f"the array {fields[memory.index].name!r}"
    return "a variable outside of the loops" if isinstance(memory, Temporary) else "memory"


# ---- temporaries ----


def _behind(tasks: Sequence[_Task]) -> int:
    """How far behind temporaries their gradients lie."""
    last = max(
        (
            integer_of(each.arguments[1]) or 0
            for task in tasks
            for each in task.body.instructions
            if isinstance(each, Call) and each.name == "get_temporary_pointer"
        ),
        default=0,
    )
    return -(-(last + 8) // _ROOM) * _ROOM


def _active_temporaries(tasks: Sequence[_Task], activity: Activity) -> list[tuple[int, t.Type]]:
    """The offsets of temporaries that have a gradient, and what they hold."""
    found: dict[int, t.Type] = {}
    for place, task in enumerate(tasks):
        for each in task.body.instructions:
            if isinstance(each, (Load, Store, AtomicUpdate)):
                memory = activity.memory(place, each.pointer)
                if isinstance(memory, Temporary) and activity.is_active_memory(place, memory):
                    found[memory.offset] = each.result.type if isinstance(each, Load) else each.value.type
    return sorted(found.items())


def _clearing(task: _Task, temporaries: Sequence[tuple[int, t.Type]], behind: int) -> str:
    """A task that sets the gradients of temporaries to zero; `task` lends it the types."""
    context = Local(task.main.parameters[0].value.type, "context")
    runtime, raw = t.Pointer(t.Named("struct.LLVMRuntime")), t.Pointer(t.I8)
    get = Function("RuntimeContext_get_runtime", runtime, (Formal(Local(context.type, "c")),))
    find = Function("get_temporary_pointer", raw, (Formal(Local(runtime, "r")), Formal(Local(t.I64, "offset"))))
    build = Builder(["context", "entry"])
    where = build.call(get, context)
    assert where is not None
    for offset, kind in temporaries:
        place = build.call(find, where, integer(t.I64, offset + behind))
        assert place is not None
        build.store(zero(kind), build.cast("bitcast", place, t.Pointer(kind)))
    build.ret()
    main = Function("cleared_serial", t.VOID, (Formal(context),), (Block("entry", tuple(build.take())),))
    return write(dataclasses.replace(task.module, functions={each.name: each for each in (get, find, main)}))
