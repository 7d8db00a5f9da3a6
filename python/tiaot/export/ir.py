"""Taichi's LLVM IR as text: takes it apart, rewrites what keeps LLVM from seeing the loops. Knows no signatures.

The IR comes out of Taichi unoptimised and regular: one instruction a line, unnamed values `%12`, one function a task.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from . import math


class LoweringError(Exception):
    """A kernel uses something that cannot be lowered; the message names it and what to write instead."""


# Functions of Taichi's runtime that kernels call, which its IR only declares.
_RUNTIME = {
    "min_i32": "i32 @min_i32(i32 %a, i32 %b) alwaysinline {\n %c = icmp slt i32 %a, %b\n"
    " %r = select i1 %c, i32 %a, i32 %b\n ret i32 %r\n}",
    "max_i32": "i32 @max_i32(i32 %a, i32 %b) alwaysinline {\n %c = icmp sgt i32 %a, %b\n"
    " %r = select i1 %c, i32 %a, i32 %b\n ret i32 %r\n}",
}

_FUNCTION = re.compile(r"^define (?:\w+ )*?void @(?P<name>[\w.]+)\((?P<parameters>[^)]*)\).*\{$")
_DECLARATION = re.compile(r"^declare .*?@(?P<name>[\w.]+)\(")
_ASSIGNMENT = re.compile(r"^\s*(%[\w.]+) = (\w+) (.*)$")
_FLOAT_ARITHMETIC = re.compile(r"= (fadd|fsub|fmul|fdiv|fneg) ")


@dataclass
class TracedModule:
    """The parts of one traced module: its type definitions, its tasks in the order that they run, what it calls."""

    types: list[str]
    tasks: list[tuple[str, list[str]]]  # name, lines of the body without the define line
    calls: list[str]

    def text(self, prefix: str) -> str:
        """The tasks as functions `PREFIX_0(context)`, `PREFIX_1(context)`..., to be inlined into an entry."""
        parts = []
        for index, (_, body) in enumerate(self.tasks):
            head = f"define internal void @{prefix}_{index}(%struct.RuntimeContext* %context) alwaysinline {{"
            parts.append("\n".join([head, *body]))
        return "\n".join(parts)


def parse(texts: Iterable[str]) -> TracedModule:
    """Take traced tasks apart, each a text of its own, and put them together into one module.

    Raises:
        LoweringError: when it has a task that is not serial.
    """
    types: dict[str, None] = {}
    tasks: list[tuple[str, list[str]]] = []
    calls: list[str] = []
    body: list[str] | None = None
    for line in (line for text in texts for line in text.splitlines()):
        if body is not None:
            body.append(re.sub(r"\s+#\d+$", "", line))
            if line == "}":
                body = None
        elif match := _FUNCTION.match(line):
            body = []
            tasks.append((match["name"], body))
        elif match := _DECLARATION.match(line):
            calls.append(match["name"])
        elif re.match(r"^%[\w.]+ = type ", line):
            types[line] = None
        elif line.strip() and not line.startswith((";", "target ", "source_filename", "attributes ")):
            raise LoweringError(f"Taichi's IR holds {line.strip()[:120]!r}, which this version cannot lower")
    for name, _ in tasks:
        if not name.endswith("_serial"):
            raise LoweringError(
                f"task {name!r} is a parallel loop; write ti.loop_config(serialize=True) before each outermost loop: "
                "the runtime splits the batch between threads"
            )
    return TracedModule(list(types), tasks, calls)


def support(calls: Iterable[str]) -> str:
    """Definitions of everything that the tasks call: Taichi's runtime functions and the mathematical ones.

    Raises:
        LoweringError: for a function that there is no definition of.
    """
    runtime, mathematical = [], []
    for name in sorted(set(calls)):
        if name in math.FUNCTIONS:
            mathematical.append(name)
        elif name in _RUNTIME:
            runtime.append("define internal " + _RUNTIME[name])
        else:
            raise LoweringError(f"the kernel needs {name!r} of Taichi's runtime, which this version cannot lower")
    return "\n".join([*runtime, math.definitions(mathematical)])


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
        plain, constant = _peel_constant(definitions, index)
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


def _peel_constant(definitions: Definitions, index: str) -> tuple[str | None, int]:
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


def touched_slots(body: list[str]) -> set[tuple[int, int]]:
    """The arrays that a task has pointers to: (index in the argument struct, 1 data or 2 gradient)."""
    definitions = Definitions(body)
    slots = (definitions.slot(name) for name, (opcode, _) in definitions.by_name.items() if opcode == "getelementptr")
    return {slot for slot in slots if slot is not None}
