"""Sums: which arrays a parallel loop only adds floating-point numbers to, atomically. Knows no signatures.

The order of such additions shows in the result, so that the loop would have to run on one thread. Where nothing else
reads or writes the array in the loop, each of its pieces can add into a copy of its own instead, and the copies are
added up in their order.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable

from .code import IR_TYPES
from .ir import Definitions, Function, depends_on_order

DTYPES = ("float32", "float64")  # that there are atomic sums of
Slot = tuple[int, int]  # (index in the argument struct, 1 data or 2 gradient)
_SUM = re.compile(r"^\s*(%[\w.]+) = atomicrmw fadd (?:float|double)\* (%[\w.]+), ")
_LOAD = re.compile(r"^\s*%[\w.]+ = load .*\* (%[\w.]+), align \d+$")
_STORE = re.compile(r"^\s*store .*\* (%[\w.]+), align \d+$")
_STEP = re.compile(r"^i8\* @get_ch_S\d+_to_S(\d+)\(i8\* (%[\w.]+)\)$")
_LOOKUP = re.compile(r"^i8\* @Dense_lookup_element\(i8\* %[\w.]+, i8\* (%[\w.]+), ")
_TEMPORARY = re.compile(r"^i8\* @get_temporary_pointer\(.*, i64 (\d+)\)$")
_CAST = re.compile(r"^.*\* (%[\w.]+) to .*\*$")


def summed(function: Function, roots: Container[int]) -> list[Slot | int | str] | None:
    """What a loop only adds to: arrays by their slot, children of roots of fields by their number, temporaries that
    the tasks share as "temporary OFFSET".

    None where it depends on the order in another way, [] where it does not depend on it.
    """
    definitions = Definitions(function.body)
    targets: dict[Slot | int | str, None] = {}
    touched: set[Slot | int | str | None] = set()
    rest: list[str] = []
    for line in function.body:
        if match := _SUM.match(line):
            if _uses(function, match[1]):
                return None
            target = _origin(definitions, match[2], roots)
            if target is None:
                return None
            targets[target] = None
            continue
        rest.append(line)
        if match := _LOAD.match(line) or _STORE.match(line):
            touched.add(_origin(definitions, match[1], roots))
    if depends_on_order(Function(function.parameters, rest)) or touched & targets.keys():
        return None
    return list(targets)


def _uses(function: Function, name: str) -> bool:
    pattern = re.compile(rf"{re.escape(name)}\b")
    return any(pattern.search(line.partition(" = ")[2] or line) for line in function.body)


def added_type(function: Function, target: str) -> str:
    """The type of what a loop adds to a temporary, as LLVM names it."""
    definitions = Definitions(function.body)
    for line in function.body:
        if (match := _SUM.match(line)) and _origin(definitions, match[2], ()) == target:
            return line.split("atomicrmw fadd ")[1].split("*")[0]
    return ""


def _origin(definitions: Definitions, pointer: str, roots: Container[int]) -> Slot | int | str | None:
    """The array, the child of a root or the temporary that a pointer points into; None for a local variable."""
    while True:
        if slot := definitions.slot(pointer):
            return slot
        opcode, rest = definitions.operation(pointer)
        if opcode == "call" and (match := _STEP.match(rest)):
            if int(match[1]) in roots:
                return int(match[1])
            pointer = match[2]
        elif opcode == "call" and (match := _TEMPORARY.match(rest)):
            return f"temporary {match[1]}"
        elif (opcode == "call" and (match := _LOOKUP.match(rest))) or (
            opcode == "bitcast" and (match := _CAST.match(rest))
        ):
            pointer = match[1]
        else:
            return None


def add_copies(dtypes: Iterable[str]) -> str:
    """`tiaot_add_copies_T(target, copies, stride, count, pieces)`: adds the copies to the target, in their order."""
    return "\n".join(_add_copies(IR_TYPES[dtype]) for dtype in sorted(set(dtypes)))


def _add_copies(kind: str) -> str:
    return f"""
define internal void @tiaot_add_copies_{kind}(i8* noalias %target, i8* noalias %copies, i64 %stride, i64 %count,
                                             i64 %pieces) noinline {{
entry:
  %to = bitcast i8* %target to {kind}*
  br label %piece
piece:
  %p = phi i64 [ 0, %entry ], [ %next.p, %done ]
  %more.p = icmp slt i64 %p, %pieces
  br i1 %more.p, label %start, label %end
start:
  %offset = mul i64 %p, %stride
  %copy = getelementptr i8, i8* %copies, i64 %offset
  %from = bitcast i8* %copy to {kind}*
  br label %element
element:
  %e = phi i64 [ 0, %start ], [ %next.e, %add ]
  %more.e = icmp slt i64 %e, %count
  br i1 %more.e, label %add, label %done
add:
  %pt = getelementptr {kind}, {kind}* %to, i64 %e
  %pf = getelementptr {kind}, {kind}* %from, i64 %e
  %a = load {kind}, {kind}* %pt
  %b = load {kind}, {kind}* %pf
  %sum = fadd {kind} %a, %b
  store {kind} %sum, {kind}* %pt
  %next.e = add nsw i64 %e, 1
  br label %element
done:
  %next.p = add nsw i64 %p, 1
  br label %piece
end:
  ret void
}}"""
