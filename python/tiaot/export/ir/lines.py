"""Taichi's LLVM IR as text: takes it apart, rewrites what keeps LLVM from seeing the loops. Knows no signatures.

The IR comes out of Taichi unoptimised and regular: one instruction a line, unnamed values `%12`, one function a task.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .values import LoweringError

_FUNCTION = re.compile(r"^define (?P<linkage>internal )?void @(?P<name>[\w.]+)\((?P<parameters>[^)]*)\).*\{$")
_DECLARATION = re.compile(r"^declare .*?@(?P<name>[\w.]+)\(")
_ASSIGNMENT = re.compile(r"^\s*(%[\w.]+) = (\w+) (.*)$")
_FLOAT_ARITHMETIC = re.compile(r"= (fadd|fsub|fmul|fdiv|fneg) ")
_PARALLEL = re.compile(
    r"^\s*call void @cpu_parallel_range_for\(%struct\.RuntimeContext\* %context, i32 \d+, i32 0, i32 (?P<pieces>\d+), "
    r"i32 1, i32 1, void \(%struct\.RuntimeContext\*, i8\*\)\* (?P<prologue>[@\w.]+), "
    r"void \(%struct\.RuntimeContext\*, i8\*, i32\)\* (?P<body>[@\w.]+), "
    r"void \(%struct\.RuntimeContext\*, i8\*\)\* (?P<epilogue>[@\w.]+), i64 (?P<bytes>\d+)\)$"
)
_GPU_PARALLEL = re.compile(
    r"^\s*call void @gpu_parallel_range_for\(%struct\.RuntimeContext\* %context, i32 \S+, i32 \S+, "
    r"void \(%struct\.RuntimeContext\*, i8\*\)\* (?P<prologue>[@\w.]+), "
    r"void \(%struct\.RuntimeContext\*, i8\*, i32\)\* (?P<turn>[@\w.]+), "
    r"void \(%struct\.RuntimeContext\*, i8\*\)\* (?P<epilogue>[@\w.]+), i64 (?P<bytes>\d+)\)$"
)
_SPARSE = ("_struct_for", "_listgen", "_gc", "_mesh_for")


@dataclass
class Function:
    """One function of a task: its parameters as Taichi writes them, the lines of its body, the closing brace last."""

    parameters: str
    body: list[str]

    def text(self, name: str) -> str:
        return "\n".join([f"define internal void @{name}({self.parameters}) alwaysinline {{", *self.body])


@dataclass
class Task:
    """A top-level loop or stretch of statements of a kernel.

    A serial task is `body(context)` alone. A parallel one on the CPU is cut into `pieces`: `prologue(context, local)`,
    `body(context, local, piece)` and `epilogue(context, local)`, where `local` are `local_bytes` of the piece's own.
    On CUDA `body(context)` of a parallel one works out the range and hands it to `gpu_parallel_range_for` with
    `prologue`, `turn(context, local, index)` and `epilogue`, where `local` are of a thread's own.
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

    def text(self, name: str) -> str:
        """Its functions, named `NAME_body` and so on, to be inlined."""
        functions = {part: getattr(self, part) for part in ("prologue", "body", "turn", "epilogue")}
        texts = [function.text(f"{name}_{part}") for part, function in functions.items() if function is not None]
        return re.sub(r"@tiaot_part_(\w+)", rf"@{name}_\1", "\n".join(texts))


@dataclass
class TracedModule:
    """One traced kernel: its type definitions, its tasks in the order that they run, the functions that it declares."""

    types: list[str]
    tasks: list[Task]
    declarations: dict[str, str]  # name: the declaration

    @property
    def lines(self) -> Iterable[str]:
        """Every line of every function."""
        return (line for task in self.tasks for function in task.functions for line in function.body)

    def touched_slots(self) -> set[tuple[int, int]]:
        """The arrays that the tasks have pointers to: (index in the argument struct, 1 data or 2 gradient)."""
        return {slot for task in self.tasks for function in task.functions for slot in _touched_slots(function.body)}

    def text(self, prefix: str) -> str:
        """The functions, named `PREFIX_0_body` and so on, to be inlined."""
        return "\n".join(task.text(f"{prefix}_{index}") for index, task in enumerate(self.tasks))


def parse(texts: Iterable[str]) -> TracedModule:
    """Take traced tasks apart, each a text of its own, and put them together into one module.

    Raises:
        LoweringError: when it holds something that cannot be lowered.
    """
    types: dict[str, None] = {}
    tasks: list[Task] = []
    declarations: dict[str, str] = {}
    for text in texts:
        functions: dict[str, Function] = {}
        main = ""
        body: list[str] | None = None
        for line in text.splitlines():
            line = re.sub(r"(\s+#\d+| nonnull| noundef)+(?=$|[,) ])", "", line)
            line = line.replace("* byval(%struct.RuntimeContext) %context)", "* %context)")
            if body is not None:
                body.append(line)
                if line == "}":
                    body = None
            elif match := _FUNCTION.match(line):
                body = []
                functions[match["name"]] = Function(match["parameters"], body)
                if not match["linkage"]:
                    main = match["name"]
            elif match := _DECLARATION.match(line):
                declarations[match["name"]] = line
            elif re.match(r"^%[\w.]+ = type ", line):
                types[line] = None
            elif line.strip() and not line.startswith((";", "@", "target ", "source_filename", "attributes ")):
                raise LoweringError(f"Taichi's IR holds {line.strip()[:120]!r}, which this version cannot lower")
        tasks.append(_task(main, functions))
    return TracedModule(list(types), tasks, declarations)


def _task(main: str, functions: dict[str, Function]) -> Task:
    if main.endswith(_SPARSE):
        raise LoweringError(
            f"task {main!r} loops over a sparse or mesh structure; only dense loops can be exported: pass the data as "
            "ndarrays and loop over their indices"
        )
    calls = [line for line in functions[main].body if " call " in line]
    match = _PARALLEL.match(calls[0]) if len(calls) == 1 else None
    on_gpu = next((found for line in calls if (found := _GPU_PARALLEL.match(line))), None)
    names = ("prologue", "body", "epilogue") if match else ("prologue", "turn", "epilogue")
    found = match or on_gpu
    parts = {found[name][1:] for name in names} if found else set()
    if set(functions) - {main} - parts:
        raise LoweringError(
            f"task {main!r} calls functions of its own, which is not supported: make a ti.func of a ti.real_func"
        )
    if found is None:
        return Task(main, functions[main])

    def part(name: str) -> Function | None:
        return None if found[name] == "null" else functions[found[name][1:]]

    if match is None:
        links = {found[name]: f"@tiaot_part_{name}" for name in names if found[name] != "null"}
        lines = [re.sub(r"@[\w.]+", lambda m: links.get(m[0], m[0]), line) for line in functions[main].body]
        body = Function(functions[main].parameters, lines)
        return Task(main, body, 0, part("prologue"), part("epilogue"), int(found["bytes"]), part("turn"))
    task_body = part("body")
    assert task_body is not None
    return Task(main, task_body, int(match["pieces"]), part("prologue"), part("epilogue"), int(match["bytes"]))


def contract(ir: str) -> str:
    """Allow multiplications and additions to be fused, in every operation of the text."""
    return _FLOAT_ARITHMETIC.sub(r"= \1 contract ", ir)


class Definitions:
    """The instructions of one function by the value that they define."""

    def __init__(self, body: list[str]) -> None:
        self.by_name = {match[1]: (match[2], match[3]) for line in body if (match := _ASSIGNMENT.match(line))}

    def operation(self, value: str) -> tuple[str, str]:
        """(opcode, the rest of its line) of a value, ("", "") for a constant or a parameter."""
        return self.by_name.get(value, ("", ""))

    def slot(self, pointer: str) -> tuple[int, int] | None:
        """Which array an element pointer belongs to: (index in the argument struct, 1 data or 2 gradient)."""
        opcode, rest = self.operation(pointer)
        if opcode == "getelementptr" and (match := re.match(r"[\w]+, [\w]+\* (%[\w.]+), i\d+ ", rest)):
            opcode, rest = self.operation(match[1])
        if opcode != "load" or not (match := re.search(r"\* (%[\w.]+), align \d+$", rest)):
            return None
        opcode, rest = self.operation(match[1])
        if opcode != "getelementptr" or not (match := re.search(r"\}\* (%[\w.]+), i32 0, i32 (\d+)$", rest)):
            return None
        field = int(match[2])
        opcode, rest = self.operation(match[1])
        if opcode != "getelementptr" or not (match := re.search(r"\}\* %[\w.]+, i32 0, i32 (\d+)$", rest)):
            return None
        return int(match[1]), field


_ELEMENT = re.compile(r"^(\s*%[\w.]+ = getelementptr (\w+), \w+\* %[\w.]+, )i32 (%[\w.]+)$")
_BINARY = re.compile(r"^i32 (\S+), (\S+)$")


def widen_offsets(body: list[str], layout: Callable[[int, int], tuple[int, int | None]]) -> list[str]:
    """Recompute element offsets in 64 bits, and for arrays that lie in lanes (lanes.py) in that order.

    Args:
        body: a task.
        layout: for the array (index, field) of a slot its rank and, where it lies in lanes, the stride of its columns.

    Taichi computes an element's offset, ((0 * s0 + i0) * s1 + i1)..., in i32 without the no-wrap flag, so LLVM cannot
    see that neighbours in a row are neighbours in memory. Here the same chain is built again in i64 beside it; dead
    code elimination takes the old one. A constant added to an index moves into the chain too: an index that wraps
    around by it lies outside of any array. All other integer arithmetic is the user's and keeps its wrap.

    Raises:
        LoweringError: when an array in lanes is reached in a way that is not of this form.
    """
    definitions = Definitions(body)
    lines: list[str] = []
    for line in body:
        match = _ELEMENT.match(line)
        slot = definitions.slot(line.split("=")[0].strip()) if match else None
        if match is None or slot is None:
            lines.append(line)
            continue
        rank, stride = layout(*slot)
        chain = _offset_chain(definitions, match[3], rank)
        if chain is None:
            if stride is not None:
                raise LoweringError(f"an element of a batched array is reached by {line.strip()!r}, not by its indices")
            lines.append(line)
            continue
        if stride is not None:  # the batch, the first axis, becomes the last
            chain = [*chain[1:], (str(stride), chain[0][1])]
        lines += _wide_offset(definitions, chain, "%wide" + line.split("=")[0].strip()[1:])
        lines.append(f"{match[1]}i64 {lines[-1].split('=')[0].strip()}")
    return lines


def _wide_offset(definitions: Definitions, chain: list[tuple[str, str]], tag: str) -> list[str]:
    """Instructions for ((i0 * s1 + i1) * s2 + i2)... in i64; the last one's result is the offset."""
    lines: list[str] = []
    total = None
    for axis, (size, index) in enumerate(chain):
        plain, constant = peel_constant(definitions, index)
        wide = str(constant)
        if plain is not None:
            lines.append(f"  {tag}.p{axis} = sext i32 {plain} to i64")
            lines.append(f"  {tag}.i{axis} = add nsw i64 {tag}.p{axis}, {constant}")
            wide = f"{tag}.i{axis}"
        if total is None:
            total = wide
            continue
        lines.append(f"  {tag}.s{axis} = sext i32 {size} to i64")
        lines.append(f"  {tag}.m{axis} = mul nsw i64 {total}, {tag}.s{axis}")
        lines.append(f"  {tag}.t{axis} = add nsw i64 {tag}.m{axis}, {wide}")
        total = f"{tag}.t{axis}"
    lines.append(f"  {tag} = add nsw i64 {total}, 0")
    return lines


def _offset_chain(definitions: Definitions, value: str, rank: int) -> list[tuple[str, str]] | None:
    """The (size, index) of each axis, outermost first; None when the offset is not of Taichi's form."""
    chain = []
    for _ in range(rank):
        opcode, rest = definitions.operation(value)
        match = _BINARY.match(rest)
        if opcode != "add" or not match:
            return None
        scaled, index = match.groups()
        opcode, rest = definitions.operation(scaled)
        match = _BINARY.match(rest)
        if opcode != "mul" or not match:
            return None
        value, size = match.groups()
        chain.append((size, index))
    return chain[::-1] if value == "0" else None


def peel_constant(definitions: Definitions, index: str) -> tuple[str | None, int]:
    """index = plain + constant; plain is None for a constant index."""
    constant = 0
    while True:
        if not index.startswith("%"):
            return None, constant + int(index)
        opcode, rest = definitions.operation(index)
        match = _BINARY.match(rest)
        if opcode == "add" and match and re.fullmatch(r"-?\d+", match[2]):
            constant, index = constant + int(match[2]), match[1]
        elif opcode == "add" and match and re.fullmatch(r"-?\d+", match[1]):
            constant, index = constant + int(match[1]), match[2]
        else:
            return index, constant


_STORE = re.compile(r"^\s*store (\w+) (%[\w.]+), \w+\* (%[\w.]+), align \d+$")


def reassociate_sums(body: list[str], is_sum: Callable[[int, int], bool]) -> list[str]:
    """Let the additions into some arrays be done in any order: `a[i] = a[i] + v` where is_sum(index, field) of a.

    For the gradients of shared inputs, sums over the batch, whose order is the exporter's to choose: with it LLVM keeps
    one partial sum in each vector lane.
    """
    definitions = Definitions(body)
    sums = set()
    for line in body:
        if not (match := _STORE.match(line)):
            continue
        slot = definitions.slot(match[3])
        if slot is not None and is_sum(*slot) and definitions.operation(match[2])[0] == "fadd":
            sums.add(match[2])
    return [
        line.replace("= fadd ", "= fadd reassoc ", 1) if line.split("=")[0].strip() in sums else line for line in body
    ]


_ATOMIC = re.compile(r"^\s*(%[\w.]+) = atomicrmw (fadd|add) ([\w]+)\* (%[\w.]+), \w+ (\S+) seq_cst, align (\d+)$")


def plain_additions(body: list[str], *, whole_numbers: bool = True) -> list[str]:
    """The atomic additions of a function that runs on one thread at a time, as plain ones.

    Without `whole_numbers` only those of floating-point numbers, where these go to memory of the thread's own.
    """
    lines = []
    for line in body:
        match = _ATOMIC.match(line)
        if match is None or (match[2] == "add" and not whole_numbers):
            lines.append(line)
            continue
        name, operation, kind, pointer, value, align = match.groups()
        lines += [
            f"  {name} = load {kind}, {kind}* {pointer}, align {align}",
            f"  %sum{name[1:]} = {operation} {kind} {name}, {value}",
            f"  store {kind} %sum{name[1:]}, {kind}* {pointer}, align {align}",
        ]
    return lines


_USED_ATOMIC = re.compile(
    r"^\s*(?:(%[\w.]+) = )?(?:atomicrmw (\w+) (\w+)\*|call \S+ @(atomic_\w+|mutex_\w+|lock_\w+)\()"
)


def depends_on_order(function: Function) -> bool:
    """Whether the result of a parallel loop can depend on which thread comes first: atomic sums of floating-point
    numbers, which round, atomics whose old value is used, and loops around a compare-and-exchange, which are products
    and sums of float16."""
    uses = set(re.findall(r"%[\w.]+", "\n".join(line.partition(" = ")[2] or line for line in function.body)))
    for line in function.body:
        if " = cmpxchg " in line:
            return True
        if not (match := _USED_ATOMIC.match(line)):
            continue
        name, operation, _, called = match.groups()
        if (name is not None and name in uses) or operation in ("fadd", "fsub", "xchg"):
            return True
        if called and not re.fullmatch(r"atomic_(min|max|and|or|xor)_\w+|atomic_add_[iu]\d+", called):
            return True
    return False


def _touched_slots(body: list[str]) -> set[tuple[int, int]]:
    definitions = Definitions(body)
    slots = (definitions.slot(name) for name, (opcode, _) in definitions.by_name.items() if opcode == "getelementptr")
    return {slot for slot in slots if slot is not None}
