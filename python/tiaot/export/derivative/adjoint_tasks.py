"""From the tasks of a kernel to those of its adjoint, as texts: which tasks run again, and in which order.

Taichi's adjoint of a kernel works on its arrays and their gradients: it finds the cotangents in the gradients of the
outputs, which it zeroes, and adds to the gradients of the inputs. So does this one, and everything that follows takes
either. What differs is what it finds in the arrays that the kernel writes to: what the kernel finds there, and not what
it leaves. Tasks whose results later tasks read run again, in their order; then the adjoints of all tasks that have one,
in the opposite order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import llvmlite.binding as llvm

from ..ir import types as t
from ..ir.builder import Builder
from ..ir.instructions import AtomicUpdate, Call, GetElementPointer, Load, Store
from ..ir.model import Function, Module
from ..ir.origins import Array, Origin, Other, Temporary
from ..ir.passes.names import with_names
from ..ir.reader import read
from ..ir.tasks import CPU_LOOP
from ..ir.values import Constant, Global, Local, LoweringError, integer, integer_of
from ..ir.writer import write
from ..parameters import Parameter
from .activity import Activity, Memory, written
from .adjoint import Surroundings, adjoint
from .dead import without_dead

_ROOM = 64  # temporaries are of eight bytes at most; their gradients lie behind them at a multiple of this


@dataclass(frozen=True)
class _Task:
    """A task: its module, and in it the function that the work is in."""

    module: Module
    body: Function
    is_loop: bool

    def text(self, body: Function, called: Sequence[Function] = ()) -> str:
        """The module with another body."""
        new = [each for each in called if each.name not in self.module.functions]
        return write(self.module.with_functions(*new, body))


def adjoint_tasks(texts: Sequence[str], parameters: Sequence[Parameter], wrt: Sequence[str]) -> tuple[str, ...]:
    """The tasks of the adjoint.

    Args:
        texts: those of the kernel, with room for the gradients of arrays in Taichi's arguments' struct.
        parameters: the kernel's, by whose places in that struct arrays are known.
        wrt: the inputs that are differentiated.

    Raises:
        LoweringError: for what cannot be differentiated, with a line of Taichi's code and what to write instead.
    """
    tasks = [_read(text) for text in texts]
    members = [each for each in parameters if each.role != "result"]
    fields = _fields(members)
    inputs = [Array(i, 1) for i, p in fields.items() if p.gradient and p.role in ("input", "updated") and p.name in wrt]
    outputs = [Array(i, 1) for i, p in fields.items() if p.gradient and p.role in ("output", "updated")]
    activity = Activity([task.body for task in tasks], inputs, outputs)
    _check_results(tasks, activity)
    writes = [_written(activity, place, task.body) for place, task in enumerate(tasks)]
    behind = _behind(tasks, activity)
    reversed_: dict[int, Function] = {}
    called: dict[int, dict[str, Function]] = {}
    for place, task in enumerate(tasks):
        if not _is_active(activity, place, task.body):
            continue
        later = frozenset().union(*writes[place:])
        around = Surroundings(
            activity,
            place,
            lambda memory, later=later: memory not in later and Other.UNKNOWN not in later,  # type: ignore[misc]
            {i: p.rank + bool(p.element) for i, p in fields.items()},
            behind,
            task.module.types,
            lambda index: index in fields and fields[index].gradient,
        )
        called[place] = {}
        found = adjoint(task.body, task.is_loop, around, called[place])
        reversed_[place] = _without_unread(found, behind)
    again = _again(tasks, activity, writes, reversed_, behind, fields)
    result = [tasks[place].text(tasks[place].body) for place in again]
    temporaries = sorted(
        {m.offset: kind for m, kind in _active_temporaries(tasks, activity).items()}.items()
    )
    if temporaries:
        result.insert(0, _cleared(tasks[0], temporaries, behind))
    for place in sorted(reversed_, reverse=True):
        result.append(tasks[place].text(reversed_[place], tuple(called[place].values())))
    return tuple(result)


def _fields(members: Sequence[Parameter]) -> dict[int, Parameter]:
    """Parameters by their places in the arguments' struct, where a vector by value takes one for each element."""
    found, place = {}, 0
    for each in members:
        found[place] = each
        place += each.element_count if each.by_value else 1
    return found


def _read(text: str) -> _Task:
    """A task in SSA form."""
    try:
        parsed = llvm.parse_assembly(text, llvm.create_context())
        parsed.verify()
    except RuntimeError as error:
        raise LoweringError(f"LLVM refused Taichi's code: {error}") from error
    passes = llvm.create_module_pass_manager()
    passes.add_sroa_pass()
    passes.add_loop_simplification_pass()
    passes.add_lcssa_pass()
    passes.run(parsed)
    module = read(str(parsed))
    mains = [each for each in module.definitions if "internal" not in each.before]
    if len(mains) != 1:
        raise LoweringError(f"expected a task with one main function, found {len(mains)}")
    loops = [each for each in mains[0].instructions if isinstance(each, Call) and each.name == CPU_LOOP]
    if not loops:
        return _Task(module, with_names(mains[0]), False)
    if len(loops) > 1:
        raise LoweringError(f"task {mains[0].name!r} holds {len(loops)} parallel loops, where one was expected")
    prologue, body, epilogue = loops[0].arguments[6:9]
    if not isinstance(body, Global) or any(isinstance(each, Global) for each in (prologue, epilogue)):
        raise LoweringError(f"task {mains[0].name!r}: its parallel loop has memory of each thread's own")
    return _Task(module, with_names(module.functions[body.name]), True)


def _is_active(activity: Activity, place: int, body: Function) -> bool:
    return any(
        (each.result is not None and activity.is_active(place, each.result))
        or any(activity.is_active_memory(place, activity.memory(place, pointer)) for pointer, _ in written(each))
        for each in body.instructions
    )


def _written(activity: Activity, place: int, body: Function) -> frozenset[Memory]:
    """What a task writes to, of what tasks share."""
    found: set[Memory] = set()
    for each in body.instructions:
        if isinstance(each, (Store, AtomicUpdate)):
            found.add(activity.memory(place, each.pointer))
        elif isinstance(each, Call):
            origins = activity.functions[place].origins
            found.update(origins.touched_by(each))
    return frozenset(each for each in found if not isinstance(each, Local) and each is not Other.LOCAL)


def _read_by(body: Function, activity_of: Activity) -> frozenset[Origin]:
    """What a function reads, of what tasks share."""
    found: set[Origin] = set()
    view = activity_of.functions[0]
    for each in body.instructions:
        if isinstance(each, (Load, AtomicUpdate)) and not (isinstance(each, AtomicUpdate) and not body.users(each.result)):
            memory = view.memory(each.pointer)
            if not isinstance(memory, Local):
                found.add(memory)
        elif isinstance(each, Call):
            found.update(view.origins.touched_by(each))
    return frozenset(found)


def _reads(body: Function) -> frozenset[Origin]:
    return _read_by(body, Activity([body], [], []))


def _without_unread(function: Function, behind: int) -> Function:
    """The adjoint without what it writes again to arrays and temporaries and does not read."""
    while True:
        reads = _reads(function)
        view = Activity([function], [], [])

        def change(instruction):  # type: ignore[no-untyped-def]
            if not isinstance(instruction, (Store, AtomicUpdate)):
                return None
            memory = view.memory(0, instruction.pointer)
            is_primal = (isinstance(memory, Array) and memory.field == 1) or (
                isinstance(memory, Temporary) and memory.offset < behind
            )
            if not is_primal or memory in reads or Other.UNKNOWN in reads:
                return None
            return [] if isinstance(instruction, Store) or not function.users(instruction.result) else None

        smaller = without_dead(function.rewritten(change))
        if smaller is function:
            return function
        function = smaller


def _again(
    tasks: Sequence[_Task],
    activity: Activity,
    writes: Sequence[frozenset[Memory]],
    adjoints: dict[int, Function],
    behind: int,
    fields: dict[int, Parameter],
) -> list[int]:
    """The tasks that run again before the adjoints, which read what these write.

    Raises:
        LoweringError: when an adjoint would not find in an array what its task has found there.
    """
    wanted: dict[int, frozenset[Origin]] = {place: _reads(body) for place, body in adjoints.items()}
    needed = frozenset().union(*wanted.values())
    again: list[int] = []
    for place in reversed(range(len(tasks))):
        later = [each for each in adjoints if each > place]
        read = frozenset().union(*(wanted[each] for each in later), *(_reads(tasks[each].body) for each in again))
        if (later or again) and writes[place] & read:
            again.insert(0, place)
    for place, read in wanted.items():
        # What is written again before this adjoint runs, by its own task or later ones.
        changed = frozenset().union(
            *(writes[each] for each in again if each >= place),
            *(_primal_writes(adjoints[each], behind) for each in adjoints if each > place),
        )
        for memory in sorted(read & changed, key=str):
            what = _name(memory, fields)
            raise LoweringError(
                f"the reverse mode needs {what} as one loop of the kernel found it, where this or a later loop writes "
                "to it: let the loops write to arrays of their own, or make kernels of them"
            )
    del needed
    return again


def _primal_writes(body: Function, behind: int) -> frozenset[Memory]:
    view = Activity([body], [], [])
    return frozenset(
        each
        for each in _written(view, 0, body)
        if (isinstance(each, Array) and each.field == 1) or (isinstance(each, Temporary) and each.offset < behind)
    )


def _name(memory: Origin, fields: dict[int, Parameter]) -> str:
    if isinstance(memory, Array) and memory.index in fields:
        return f"the array {fields[memory.index].name!r}"
    return "a variable of the kernel" if isinstance(memory, Temporary) else "memory"


def _check_results(tasks: Sequence[_Task], activity: Activity) -> None:
    for place, task in enumerate(tasks):
        for each in task.body.instructions:
            for pointer, value in written(each):
                memory = activity.memory(place, pointer)
                if memory is Other.UNKNOWN and value.type.is_float and value in activity.functions[place].varied:
                    raise LoweringError(f"the reverse mode does not know where {each} writes to")
                if memory is Other.RESULT and isinstance(value, Local) and value.name in activity.functions[place].varied:
                    raise LoweringError(
                        "the reverse mode takes no returned values: write to an array of one element instead"
                    )


def _active_temporaries(tasks: Sequence[_Task], activity: Activity) -> dict[Temporary, t.Type]:
    found: dict[Temporary, t.Type] = {}
    for place, task in enumerate(tasks):
        for each in task.body.instructions:
            if isinstance(each, (Load, Store, AtomicUpdate)):
                memory = activity.memory(place, each.pointer)
                if isinstance(memory, Temporary) and activity.is_active_memory(place, memory):
                    assert isinstance(each.pointer.type, t.Pointer)
                    found[memory] = each.pointer.type.to
    return found


def _behind(tasks: Sequence[_Task], activity: Activity) -> int:
    """How far behind temporaries their gradients lie."""
    offsets = [
        integer_of(each.arguments[1]) or 0
        for task in tasks
        for each in task.body.instructions
        if isinstance(each, Call) and each.name == "get_temporary_pointer"
    ]
    return -(-(max(offsets, default=0) + 8) // _ROOM) * _ROOM


def _cleared(task: _Task, temporaries: Sequence[tuple[int, t.Type]], behind: int) -> str:
    """A task that sets the gradients of temporaries to zero, made of another one."""
    from ..ir.model import Block, Parameter as Formal
    from ..ir.values import zero

    context = next(each for each in task.module.definitions if "internal" not in each.before).parameters[0].value.type
    assert isinstance(context, t.Pointer)
    runtime = t.Pointer(t.Named("struct.LLVMRuntime"))
    raw = t.Pointer(t.I8)
    given = Local(context, "context")
    build = Builder(["context", "entry"])
    get = Function("RuntimeContext_get_runtime", runtime, (Formal(Local(context, "c")),))
    find = Function("get_temporary_pointer", raw, (Formal(Local(runtime, "r")), Formal(Local(t.I64, "o"))))
    where = build.call(get, given)
    assert where is not None
    for offset, kind in temporaries:
        place = build.call(find, where, integer(t.I64, offset + behind))
        assert place is not None
        build.store(zero(kind), build.cast("bitcast", place, t.Pointer(kind)))
    build.ret()
    main = Function("cleared_serial", t.VOID, (Formal(given),), (Block("entry", tuple(build.take())),))
    functions = {each.name: each for each in (get, find, main)}
    return write(dataclasses.replace(task.module, functions=functions))
