"""From the tasks of a kernel to those of its adjoint, as texts: which tasks run again, and in which order.

Taichi's adjoint of a kernel works on its arrays and their gradients: it finds the cotangents in the gradients of the
outputs, which it zeroes, and adds to the gradients of the inputs. So does this one, and everything that follows takes
either. What differs is what it finds in the arrays that the kernel writes to: what the kernel finds there, and not what
it leaves. Tasks whose results later tasks read run again, in their order; then the adjoints of all tasks that have one,
in the opposite order. Where one of these tasks overwrites what an adjoint reads, a copy is made in between (kept.py).
Fields are found as the kernel leaves them, and stay so (fields.py).
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import llvmlite.binding as llvm

from ..author.parameters import Parameter
from ..ir.instructions import AtomicUpdate, Call, Compare, Instruction, Load, Store
from ..ir.model import Function, Module
from ..ir.origins import UNKNOWN, Array, Origin, Origins, Other, Root, Temporary
from ..ir.passes.indices import plain_indices
from ..ir.passes.lookups import Indices
from ..ir.passes.names import with_names
from ..ir.reader import read
from ..ir.runtime_calls import draws_random
from ..ir.tasks import CPU_LOOP, main_of
from ..ir.types import I64, Struct, Type
from ..ir.values import Global, Local, LoweringError, zero
from ..ir.writer import write
from .activity import Activity, Pointers
from .adjoint import Surroundings, adjoint, extremum, recording, whole
from .dead import without_dead, without_idle_branches
from .fields import Fields
from .kept import Copy, Room, SerialTask, arguments_type, copying, redirected
from .overwritten import Overwritten, overwritten
from .shared import Temporaries

_CHOOSES = re.compile(r"(llvm\.(min|max)num\.|(min|max)_f\d+$)")


@dataclass(frozen=True)
class AdjointTasks:
    """The tasks of an adjoint, as texts; the parameters that these have behind the kernel's own: arrays that it keeps
    copies in (role "kept"), and inputs as the caller has them; the places of fields that it finds overwritten, or may
    find so."""

    texts: tuple[str, ...]
    added: tuple[Parameter, ...]
    overwritten: tuple[Overwritten, ...]


@dataclass(frozen=True)
class _Task:
    """A task: its module, and in it the function that the work is in."""

    module: Module
    body: Function
    indices: Mapping[str, Indices]  # of elements of fields, by the names of their pointers
    is_loop: bool

    @property
    def main(self) -> Function:
        return main_of(self.module)

    def text(self, body: Function, called: Sequence[Function] = ()) -> str:
        """The module with another body, which calls other functions."""
        new = [each for each in called if each.name not in self.module.functions]
        return write(self.module.with_functions(*new, body))


def adjoint_tasks(
    texts: Sequence[str], parameters: Sequence[Parameter], wrt: Sequence[str], state: Fields | None = None
) -> AdjointTasks:
    """The tasks of the adjoint.

    Args:
        texts: those of the kernel, with room for the gradients of arrays in Taichi's arguments' struct.
        parameters: the kernel's, in the order of that struct. All arrays have their shapes.
        wrt: the inputs that are differentiated.
        state: the fields that a kernel over fields is differentiated by.

    Raises:
        LoweringError: for what cannot be differentiated, with a line of Taichi's code.
    """
    if any(map(draws_random, texts)):
        raise LoweringError("the reverse mode takes no random numbers, which it would draw anew on the way back")
    state = state or Fields()
    tasks = [_read(text, state) for text in texts]
    for task in tasks:
        state.check(task.body)
    fields = [each for each in parameters if each.role != "result"]
    able = {place: each for place, each in enumerate(fields) if each.gradient}
    inputs = [Array(i, 1) for i, p in able.items() if p.role in ("input", "updated") and p.name in wrt]
    outputs = [Array(i, 1) for i, p in able.items() if p.role in ("output", "updated")]
    of_state = list(map(Root, state.gradients))
    bodies = [task.body for task in tasks]
    temporaries = Temporaries(bodies, state.places)
    activity = Activity(bodies, temporaries, [*inputs, *of_state], [*outputs, *of_state])
    writes = [_shared_writes(body, temporaries) for body in bodies]
    left = [state.without_writes(body) for body in bodies]  # as they run again: fields stay as the kernel leaves them
    kept = _Kept(tasks, left, writes, fields, temporaries)
    called: dict[int, dict[str, Function]] = {place: {} for place in range(len(tasks))}
    for place, task in enumerate(tasks):
        if not any(activity.is_active_instruction(place, each) for each in task.body.instructions):
            continue
        around = Surroundings(
            activity=activity,
            place=place,
            changed=writes[place],
            ranks={i: p.rank + bool(p.element) for i, p in enumerate(fields)},
            with_gradient=frozenset(able),
            temporaries=temporaries,
            winners=functools.partial(kept.winners, place),
            arguments=lambda: kept.room.arguments,
            types=task.module.types,
            fields=state,
            indices=task.indices,
        )
        made = adjoint(task.body, task.is_loop, around, called[place])
        kept.adjoints[place] = _without_unread(made, temporaries)
        if kept.has_winners(place):
            kept.bodies[place] = recording(left[place], task.is_loop, around)
    again = kept.choose()
    found: list[Overwritten] = []
    if state.places:
        needed = [
            _needed(task, kept.runs(place), tuple(called[place].values()), state) for place, task in enumerate(tasks)
        ]
        found = overwritten(tasks, state, needed)
    cleared = [(each + temporaries.behind, temporaries.kinds[each]) for each in _active(tasks, activity)]
    cleared += kept.cleared
    result = [_clearing(tasks[0].module, cleared)] if cleared else []
    for number, place in enumerate(again):
        result += kept.copying(number)
        result.append(tasks[place].text(kept.bodies[place]))
    result += kept.copying(len(again))
    for place in sorted(kept.adjoints, reverse=True):
        result.append(tasks[place].text(kept.adjoints[place], tuple(called[place].values())))
    return AdjointTasks(tuple(result), tuple(kept.added), tuple(found))


def may_overwrite(texts: Sequence[str], state: Fields) -> list[int]:
    """The places of fields of which a kernel may read a value and then overwrite it, needed by an adjoint or not.

    Raises:
        LoweringError: where that is not known.
    """
    return [each.place for each in overwritten([_read(text, state) for text in texts], state)]


def _read(text: str, state: Fields) -> _Task:
    """A task in SSA form, with loops in the form that the pass takes, and elements of fields as sums."""
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
        return _Task(module, *_named(main, state), False)
    prologue, body, epilogue = loops[0].arguments[6:9]
    if len(loops) > 1 or not isinstance(body, Global):
        raise LoweringError(f"task {main.name!r} holds {len(loops)} parallel loops, where one was expected")
    if isinstance(prologue, Global) or isinstance(epilogue, Global):
        raise LoweringError(f"task {main.name!r}: its parallel loop has memory of each thread's own")
    return _Task(module, *_named(module.functions[body.name], state), True)


def _named(function: Function, state: Fields) -> tuple[Function, Mapping[str, Indices]]:
    return state.placed(with_names(function))


# ---- what tasks share ----


def _shared_writes(body: Function, temporaries: Temporaries) -> frozenset[Origin]:
    """What a function writes to, of what tasks share but fields, which adjoints find as all tasks have left them."""
    pointers = Pointers(body, temporaries)
    found: set[Origin] = set()
    for each in body.instructions:
        if isinstance(each, (Store, AtomicUpdate)):
            memory = pointers.memory(each.pointer)
            found.update([] if isinstance(memory, Local) else [memory])
        elif isinstance(each, Call):
            found.update(pointers.handed_to(each))
    return frozenset(each for each in found if not isinstance(each, Root)) - {Other.LOCAL}


def _shared_reads(body: Function, temporaries: Temporaries) -> frozenset[Origin]:
    """What a function reads, of what tasks share and change."""
    pointers = Pointers(body, temporaries)
    found: set[Origin] = set()
    for each in body.instructions:
        if isinstance(each, Load) or (isinstance(each, AtomicUpdate) and body.users(each.result)):
            memory = pointers.memory(each.pointer)
            found.update([] if isinstance(memory, Local) else [memory])
        elif isinstance(each, Call) and (extremum(each) is None or body.users(each.result)):  # type: ignore[arg-type]
            found.update(pointers.handed_to(each))
    return frozenset(found) - {Other.LOCAL, Other.CONTEXT}


def _is_primal(memory: object, temporaries: Temporaries) -> bool:
    """Whether it is memory of the kernel's own values, and not of gradients."""
    if isinstance(memory, Array):
        return memory.field == 1
    return isinstance(memory, Temporary) and temporaries.is_primal(memory)


def _without_unread(function: Function, temporaries: Temporaries, later: frozenset[Origin] = frozenset()) -> Function:
    """An adjoint, or a task that runs again, without what it writes to arrays and temporaries and neither it reads nor
    what comes later."""
    while True:
        reads = _shared_reads(function, temporaries) | later
        pointers = Pointers(function, temporaries)

        def change(
            instruction: Instruction, function: Function = function, pointers: Pointers = pointers, reads=reads
        ) -> list[Instruction] | None:
            if isinstance(instruction, (Store, AtomicUpdate)):
                pointer = instruction.pointer
            elif isinstance(instruction, Call) and extremum(instruction) is not None:
                pointer = instruction.arguments[0]
            else:
                return None
            memory = pointers.memory(pointer)
            if not _is_primal(memory, temporaries) or memory in reads or UNKNOWN in reads:
                return None
            used = instruction.result is not None and function.users(instruction.result)
            return None if used else []

        smaller = without_dead(function.rewritten(change))
        if smaller is function:
            return function
        function = smaller


def _needed(task: _Task, runs: Sequence[Function], called: Sequence[Function], state: Fields) -> dict[int, bool]:
    """What a task reads of fields and needs as it runs again and backward: the lines of the loads, with whether more
    follows from the value than which way is taken."""
    found: dict[int, bool] = {}
    for function in runs:
        lines = {each.result.name: each.line for each in function.instructions if isinstance(each, Load)}
        left = without_idle_branches(task.module.with_functions(*called, function), function.name)
        origins = Origins(left, state.places)
        for each in left.instructions:
            if (
                isinstance(each, Load)
                and isinstance(origins.of(each.pointer), Root)
                and (line := lines[each.result.name])
            ):
                found[line] = found.get(line, False) or not _is_only_compared(left, each.result)
    return found


def _is_only_compared(function: Function, value: Local) -> bool:
    """Whether nothing but which way is taken follows from a value: it is compared, or a minimum or maximum of it is."""
    for user in function.users(value):
        chooses = isinstance(user, Call) and _CHOOSES.match(user.name)
        if not isinstance(user, Compare) and not (chooses and user.result and _is_only_compared(function, user.result)):
            return False
    return True


# ---- what is kept ----


class _Kept:
    """What adjoints find in memory: each is to find what its task has found there, whatever has run before it."""

    def __init__(
        self,
        tasks: Sequence[_Task],
        left: Sequence[Function],
        writes: Sequence[frozenset[Origin]],
        fields: Sequence[Parameter],
        temporaries: Temporaries,
    ) -> None:
        self.adjoints: dict[int, Function] = {}
        self.added: list[Parameter] = []
        self.bodies = dict(enumerate(left))  # of the tasks where they run again
        self.cleared: list[tuple[int, Type]] = []  # temporaries, by their offsets, that are to be zeros
        self._writes, self._fields, self._temporaries = writes, fields, temporaries
        self._again: list[int] = []
        self._winners: dict[tuple[int, Array | Temporary], Array | Temporary] = {}
        self._copies: dict[int, list[Copy]] = {}  # by how many of the tasks that run again come before them
        self._known: dict[tuple[Origin, int], Array | Temporary] = {}
        arguments = arguments_type([task.body for task in tasks])
        loops = [
            (each, task.module)
            for task in tasks
            for each in task.main.instructions
            if isinstance(each, Call) and each.name == CPU_LOOP
        ]
        loop, module = loops[0] if loops else (None, tasks[0].module)
        self.room = Room(arguments or Struct(()), tuple(fields), temporaries, module, loop)

    def winners(self, place: int, memory: Array | Temporary) -> Array | Temporary:
        """Where a task writes down the winners of its minima and maxima in some memory: integers, zeros at first."""
        if (place, memory) not in self._winners:
            if isinstance(memory, Temporary):
                kind = whole(self._temporaries.kinds[memory.offset])
                to: Array | Temporary = Temporary(self._temporaries.add(kind))
                self.cleared.append((to.offset, kind))
            else:
                to = self._array(memory, "scratch", dtype="int64")
            self._winners[place, memory] = to
        return self._winners[place, memory]

    def has_winners(self, place: int) -> bool:
        """Whether a task is to write winners down."""
        return any(each == place for each, _ in self._winners)

    def choose(self) -> list[int]:
        """Lets adjoints that would find other values use copies. The places of the tasks that run again before them.

        Raises:
            LoweringError: where there can be no copy.
        """
        self._again = self._needed()
        for place in sorted(self.adjoints, reverse=True):
            found = _shared_reads(self.adjoints[place], self._temporaries)
            changed = frozenset[Origin]().union(*(self._writes[each] for each in self._again if each >= place))
            for other, its_body in self.adjoints.items():
                if other > place:
                    changed |= {each for each in self._written(its_body) if _is_primal(each, self._temporaries)}
            wrong = sorted(found & changed, key=str)
            copies = [Copy(each, self._copy(each, place)) for each in map(self._able, wrong)]
            if copies:
                self.adjoints[place] = redirected(self.adjoints[place], copies, self.room)
        return self._again

    def _needed(self) -> list[int]:
        """The tasks that run again before the adjoints: what they write, an adjoint of a later task reads, or a later
        one of them; and those that write down winners."""
        found: list[int] = []
        for place in reversed(range(len(self.bodies))):
            readers = [body for each, body in self.adjoints.items() if each > place]
            readers += [self.bodies[each] for each in found]
            read = frozenset[Origin]().union(*(_shared_reads(each, self._temporaries) for each in readers))
            if self.has_winners(place) or self._writes[place] & read:
                found.insert(0, place)
        return found

    def runs(self, place: int) -> list[Function]:
        """What runs of a task: its adjoint, and before the adjoints the task again, without what nobody reads."""
        found = [self.adjoints[place]] if place in self.adjoints else []
        if place in self._again:
            readers = [body for each, body in self.adjoints.items() if each > place]
            readers += [self.bodies[each] for each in self._again if each > place]
            read = frozenset[Origin]().union(*(_shared_reads(each, self._temporaries) for each in readers))
            found.append(_without_unread(self.bodies[place], self._temporaries, read))
        return found

    def copying(self, number: int) -> list[str]:
        """The tasks that make copies after so many of the tasks that run again."""
        return copying(self._copies.get(number, ()), self.room)

    def _written(self, body: Function) -> frozenset[Origin]:
        return _shared_writes(body, self._temporaries)

    def _able(self, memory: Origin) -> Array | Temporary:
        if not isinstance(memory, (Array, Temporary)) or not _is_primal(memory, self._temporaries):
            raise LoweringError(
                "the reverse mode needs what one loop of the kernel has found in memory that it does not know, and "
                "this or a later loop writes to it: make kernels of the loops"
            )
        return memory

    def _copy(self, memory: Array | Temporary, place: int) -> Array | Temporary:
        """What a task has found in memory."""
        before = [each for each in self._again if each < place]
        version = sum(memory in self._writes[each] for each in before)
        overwrites = memory in self._written(self.adjoints[place])
        if not overwrites and (known := self._known.get((memory, version))) is not None:
            return known
        updated = isinstance(memory, Array) and self._fields[memory.index].role == "updated"
        as_given = updated and version == 0 and not overwrites
        copy: Array | Temporary
        if isinstance(memory, Temporary):
            copy = Temporary(self._temporaries.copy(memory.offset))
        else:
            copy = self._array(memory, "input" if as_given else "kept")
        if not overwrites:
            self._known[memory, version] = copy
        if not as_given:
            self._copies.setdefault(len(before), []).append(Copy(memory, copy))
        return copy

    def _array(self, like: Array, role: str, dtype: str = "") -> Array:
        """An array of the same form, of that role."""
        new = Array(len(self.room.parameters), 1)
        parameter = self._fields[like.index]
        name = parameter.name if role == "input" else f"{parameter.name}.{new.index}"
        parameter = dataclasses.replace(parameter, name=name, role=role, dtype=dtype or parameter.dtype, gradient=False)
        self.room = self.room.with_array(parameter, like.index, I64 if dtype else None)
        self.added.append(parameter)
        return new


# ---- temporaries ----


def _active(tasks: Sequence[_Task], activity: Activity) -> list[int]:
    """The offsets of temporaries that have a gradient."""
    found = set()
    for place, task in enumerate(tasks):
        for each in task.body.instructions:
            if isinstance(each, (Load, Store, AtomicUpdate)):
                memory = activity.memory(place, each.pointer)
                if isinstance(memory, Temporary) and activity.is_active_memory(place, memory):
                    found.add(memory.offset)
    return sorted(found)


def _clearing(module: Module, temporaries: Sequence[tuple[int, Type]]) -> str:
    """A task that sets temporaries, each with its offset, to zero; `module` lends it the types."""
    serial = SerialTask(module, "cleared")
    for offset, kind in temporaries:
        serial.build.store(zero(kind), serial.temporary(offset, kind))
    return serial.text()
