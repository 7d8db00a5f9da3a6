"""Tasks: a traced kernel as Taichi hands it over, a module for each of its top-level loops and stretches of statements.

Taichi's IR is not optimised. A parallel loop is a task whose main function does nothing but call the runtime's loop
with the functions that are its parts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from .instructions import Branch, Call, Return
from .model import Function, Module, Parameter
from .origins import UNKNOWN, Array, Origin, Origins
from .passes.bounds import ASSERT, check_bounds, not_after_a_failure
from .reader import read
from .types import Type
from .values import Constant, Global, LoweringError, Value, integer_of
from .writer import type_lines, write_function

_SPARSE = ("_struct_for", "_listgen", "_gc", "_mesh_for")
_PARTS = ("prologue", "body", "turn", "epilogue")
CPU_LOOP, GPU_LOOP = "cpu_parallel_range_for", "gpu_parallel_range_for"


@dataclass(frozen=True)
class Task:
    """A top-level loop or stretch of statements of a kernel.

    A serial task is `body(context)` alone. A parallel one on the CPU is cut into `pieces`: `prologue(context, local)`,
    `body(context, local, piece)` and `epilogue(context, local)`, where `local` are `local_bytes` of the piece's own.
    On CUDA `body(context)` of a parallel one works out the range and hands it to `gpu_parallel_range_for` with
    `prologue`, `turn(context, local, index)` and `epilogue`, where `local` are of a thread's own. The functions have
    the names of their parts.
    """

    name: str
    body: Function
    pieces: int = 0
    prologue: Function | None = None
    epilogue: Function | None = None
    local_bytes: int = 0
    turn: Function | None = None

    @property
    def functions(self) -> list[Function]:
        return [each for each in (self.prologue, self.body, self.turn, self.epilogue) if each is not None]

    def changed(self, change: Callable[[Function], Function]) -> Task:
        """The task with each of its functions changed."""
        prologue, turn, epilogue = (
            None if each is None else change(each) for each in (self.prologue, self.turn, self.epilogue)
        )
        return dataclasses.replace(self, body=change(self.body), prologue=prologue, turn=turn, epilogue=epilogue)

    def text(self, name: str) -> str:
        """Its functions, named `NAME_body` and so on, to be inlined."""
        names = {part: f"{name}_{part}" for part in _PARTS}
        return "\n".join(write_function(_to_inline(_with_names(each, names))) for each in self.functions)


@dataclass(frozen=True)
class TracedModule:
    """One traced kernel: its type definitions, its tasks in the order that they run, the functions that it declares."""

    types: Mapping[str, Type | None]
    tasks: tuple[Task, ...]
    declarations: Mapping[str, Function]
    strings: Mapping[str, str] = field(default_factory=dict)  # texts that they point to, as lines of IR, by name

    @property
    def functions(self) -> Iterable[Function]:
        return (function for task in self.tasks for function in task.functions)

    @cached_property
    def touched(self) -> frozenset[Origin]:
        """All that the tasks read, write or hand on to where it is not seen any more."""
        return frozenset(origin for function in self.functions for origin in Origins(function).touched())

    def may_touch(self, index: int, field: int) -> bool:
        """Whether the tasks use an array's elements (field 1) or those of its gradient (2), as far as is known."""
        return Array(index, field) in self.touched or UNKNOWN in self.touched

    @property
    def type_lines(self) -> list[str]:
        return type_lines(self.types)

    def changed(self, change: Callable[[Function], Function]) -> TracedModule:
        """The module with each function of each task changed."""
        return dataclasses.replace(self, tasks=tuple(task.changed(change) for task in self.tasks))

    def text(self, prefix: str) -> str:
        """The functions, named `PREFIX_0_body` and so on, to be inlined."""
        return "\n".join(task.text(f"{prefix}_{index}") for index, task in enumerate(self.tasks))


def read_tasks(texts: Iterable[str]) -> TracedModule:
    """Take traced tasks apart, each a text of its own, and put them together into one module.

    Raises:
        LoweringError: when it holds something that cannot be lowered.
    """
    types: dict[str, Type | None] = {}
    tasks: list[Task] = []
    declarations: dict[str, Function] = {}
    strings: dict[str, str] = {}
    for text in texts:
        module, own_strings = check_bounds(read(text))
        strings.update(own_strings)
        for name, kind in module.types.items():
            if types.setdefault(name, kind) != kind:
                raise LoweringError(f"the tasks of a kernel have different types of the name {name!r}")
        declared = [each for each in module.declarations if each.name != ASSERT or _asserts(module)]
        declarations.update({each.name: _without_attributes(each) for each in declared})
        tasks.append(_task(module))
    traced = TracedModule(types, tuple(tasks), declarations, strings)
    return traced.changed(not_after_a_failure) if strings else traced


def _asserts(module: Module) -> bool:
    return any(isinstance(each, Call) and each.name == ASSERT for f in module.definitions for each in f.instructions)


def main_of(module: Module) -> Function:
    """The function that runs a task; the others are parts of its parallel loop.

    Raises:
        LoweringError: where there is not one.
    """
    mains = [each for each in module.definitions if "internal" not in each.before]
    if len(mains) != 1:
        named = ", ".join(each.name for each in mains)
        raise LoweringError(f"expected a task with one main function, got {named or 'none'}")
    return mains[0]


def _task(module: Module) -> Task:
    functions = {each.name: _without_attributes(each) for each in module.definitions}
    main = functions.pop(main_of(module).name)
    if main.name.endswith(_SPARSE):
        raise LoweringError(
            f"task {main.name!r} loops over a sparse or mesh structure; only dense loops can be exported: pass the "
            "data as ndarrays and loop over their indices"
        )
    loops = [each for each in main.instructions if isinstance(each, Call) and each.name in (CPU_LOOP, GPU_LOOP)]
    if len(loops) > 1:
        raise LoweringError(f"task {main.name!r} holds {len(loops)} parallel loops, where one was expected")
    if not loops:
        _check_calls(main, functions, set())
        return Task(main.name, _named(main, "body"))
    loop = loops[0]
    if loop.name == GPU_LOOP:
        return _gpu_task(main, loop, functions)
    # The task is nothing but its loop: whatever else its main function did would be lost.
    for instruction in main.instructions:
        if instruction is not loop and not isinstance(instruction, (Branch, Return)):
            raise LoweringError(f"task {main.name!r}, line {instruction.line}: does more than run its parallel loop")
    _, _, begin, pieces, step, block, *parts, size = loop.arguments
    if [_number(each) for each in (begin, step, block)] != [0, 1, 1]:
        raise LoweringError(f"task {main.name!r}, line {loop.line}: its parallel loop is not cut as was asked for")
    found = _parts(main, functions, dict(zip(("prologue", "body", "epilogue"), parts, strict=True)))
    if "body" not in found:
        raise LoweringError(f"task {main.name!r}, line {loop.line}: its parallel loop has no body")
    _check_calls(main, functions, {each.name for each in found.values()})
    named = {part: _named(function, part) for part, function in found.items()}
    return Task(main.name, named["body"], _number(pieces), named.get("prologue"), named.get("epilogue"), _number(size))


def _gpu_task(main: Function, loop: Call, functions: Mapping[str, Function]) -> Task:
    _, _, _, *parts, size = loop.arguments
    found = _parts(main, functions, dict(zip(("prologue", "turn", "epilogue"), parts, strict=True)))
    _check_calls(main, functions, {each.name for each in found.values()})
    body = _with_names(_named(main, "body"), {each.name: part for part, each in found.items()})
    named = {part: _named(function, part) for part, function in found.items()}
    bytes_ = _number(size)
    return Task(main.name, body, 0, named.get("prologue"), named.get("epilogue"), bytes_, named.get("turn"))


def _number(value: Value) -> int:
    number = integer_of(value)
    if number is None:
        raise LoweringError(f"a parallel loop has {value} where a number was expected")
    return number


def _parts(main: Function, functions: Mapping[str, Function], given: Mapping[str, Value]) -> dict[str, Function]:
    """The functions that a loop is made of, by what they are."""
    found = {}
    for part, value in given.items():
        if isinstance(value, Constant) and value.text == "null":
            continue
        if not isinstance(value, Global) or value.name not in functions:
            raise LoweringError(f"task {main.name!r}: the {part} of its parallel loop is {value}, which is not there")
        found[part] = functions[value.name]
    return found


def _check_calls(main: Function, functions: Mapping[str, Function], parts: set[str]) -> None:
    if set(functions) - parts:
        raise LoweringError(
            f"task {main.name!r} calls functions of its own, which is not supported: make a ti.func of a ti.real_func"
        )


def _named(function: Function, name: str) -> Function:
    return dataclasses.replace(function, name=name)


def _to_inline(function: Function) -> Function:
    return dataclasses.replace(function, before=("internal",), after=("alwaysinline",))


def _with_names(function: Function, names: Mapping[str, str]) -> Function:
    """The function with other names for functions: for itself, and for those that it uses."""

    def change(value: Value) -> Value:
        return Global(value.type, names[value.name]) if isinstance(value, Global) and value.name in names else value

    renamed = _named(function, names.get(function.name, function.name))
    if not any(isinstance(v, Global) and v.name in names for each in function.instructions for v in each.operands):
        return renamed
    return renamed.rewritten(lambda instruction: instruction.with_operands(change))


def _without_attributes(function: Function) -> Function:
    """The function without what Taichi says of parameters, results and calls, which only LLVM's optimiser reads."""

    def change(instruction: object) -> Call | None:
        if isinstance(instruction, Call) and (instruction.after or instruction.before or instruction.attributes):
            return dataclasses.replace(instruction, before=(), after=(), attributes=())
        return None

    parameters = tuple(Parameter(each.value) for each in function.parameters)
    before = tuple(each for each in function.before if each == "internal")
    return dataclasses.replace(function, parameters=parameters, before=before, after=()).rewritten(change)
