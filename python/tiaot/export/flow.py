"""Flow: through which fields values go on their way to what is differentiated, from the IR of kernels over fields."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_CHILD = re.compile(r"^\s*(%[\w.]+) = call i8\* @get_ch_S\d+_to_S(\d+)\(")
_SAME = re.compile(r"^\s*(%[\w.]+) = (?:bitcast|getelementptr) .*?\* (%[\w.]+)\b")
_LOAD = re.compile(r"^\s*%[\w.]+ = load .*\* (%[\w.]+)")
_STORE = re.compile(r"^\s*store .*\* (%[\w.]+)")
_ATOMIC = re.compile(r"atomicrmw|cmpxchg|@atomic_")
_POINTER = re.compile(r"\* (%[\w.]+)")


@dataclass(frozen=True)
class Flow:
    """The numbers of the places that a kernel reads and those that it writes."""

    reads: frozenset[int]
    writes: frozenset[int]


@dataclass(frozen=True)
class Place:
    """A place of a field of real numbers."""

    field: str
    differentiable: bool


def flow_of(texts: Iterable[str]) -> Flow:
    """What a kernel's tasks read and write."""
    reads: set[int] = set()
    writes: set[int] = set()
    for text in texts:
        places: dict[str, int] = {}
        for line in text.splitlines():
            if line.startswith("define"):
                places = {}
            elif match := _CHILD.match(line):
                places[match[1]] = int(match[2])
            elif (match := _SAME.match(line)) and match[2] in places:
                places[match[1]] = places[match[2]]
            elif match := _LOAD.match(line):
                reads |= {places[match[1]]} if match[1] in places else set()
            elif match := _STORE.match(line):
                writes |= {places[match[1]]} if match[1] in places else set()
            elif _ATOMIC.search(line):
                found = {places[name] for name in _POINTER.findall(line) if name in places}
                reads |= found
                writes |= found
    return Flow(frozenset(reads), frozenset(writes))


def lost_gradients(flows: Mapping[str, Flow], places: Mapping[int, Place]) -> list[str]:
    """A warning for each field without a gradient that lies between differentiable ones: the gradient ends there.

    Args:
        flows: of the kernels that have a gradient, by name.
        places: of the fields of real numbers.
    """
    differentiable = {number for number, place in places.items() if place.differentiable}
    others = set(places) - differentiable
    carrying: set[int] = set()  # places without a gradient that hold what follows from differentiable ones
    while True:
        found = {
            number
            for flow in flows.values()
            if flow.reads & (differentiable | carrying)
            for number in flow.writes & others
        }
        if found <= carrying:
            break
        carrying |= found
    warnings = {}
    for number in sorted(carrying):
        field = places[number].field
        writers = [name for name, flow in flows.items() if number in flow.writes]
        readers = [name for name, flow in flows.items() if number in flow.reads and flow.writes & differentiable]
        if readers:
            warnings[field] = (
                f"WARNING: field {field!r} has no gradient, but lies between fields that have one: "
                f"{' and '.join(writers)} {_verb(writers, 'write')} it, {' and '.join(readers)} "
                f"{_verb(readers, 'read')} it. The gradient ends there and comes out as too little, or 0: declare it "
                "with needs_grad=True"
            )
    return list(warnings.values())


def _verb(names: list[str], verb: str) -> str:
    return verb if len(names) > 1 else f"{verb}s"
