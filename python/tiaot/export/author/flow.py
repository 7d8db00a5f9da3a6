"""Flow: through which fields values go on their way to what is differentiated, from the IR of kernels over fields."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_CHILD = re.compile(r"^\s*(%[\w.]+) = call i8\* @get_ch_S\d+_to_S(\d+)\(")
_SAME = re.compile(r"^\s*(%[\w.]+) = (?:bitcast|getelementptr) .*?\* (%[\w.]+)\b")
_LOAD = re.compile(r"^\s*%[\w.]+ = load .*\* (%[\w.]+)")
_STORE = re.compile(r"^\s*store .*\* (%[\w.]+)")
_ATOMIC = re.compile(r"atomicrmw|cmpxchg|@atomic_")
_NAME = re.compile(r"%[\w.]+")
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
    for body in (part for text in texts for part in text.split("\ndefine ")):
        places: dict[str, int] = {}
        uses = Counter(_NAME.findall(body))
        for line in body.splitlines():
            if match := _CHILD.match(line):
                places[match[1]] = int(match[2])
            elif (match := _SAME.match(line)) and match[2] in places:
                places[match[1]] = places[match[2]]
            elif match := _LOAD.match(line):
                reads |= {places[match[1]]} if match[1] in places else set()
            elif match := _STORE.match(line):
                writes |= {places[match[1]]} if match[1] in places else set()
            elif _ATOMIC.search(line):
                found = {places[name] for name in _POINTER.findall(line) if name in places}
                writes |= found
                result = _NAME.search(line)
                if result and uses[result[0]] > 1:  # what was there before is used
                    reads |= found
    return Flow(frozenset(reads), frozenset(writes))


def lost_gradients(flows: Mapping[str, Flow], places: Mapping[int, Place]) -> list[str]:
    """A warning for each field without a gradient that lies between differentiable ones: the gradient ends there.

    Args:
        flows: of the kernels, by name, without those that are to have no gradient.
        places: of the fields of real numbers.
    """
    differentiable = {number for number, place in places.items() if place.differentiable}
    others = set(places) - differentiable
    backwards = [Flow(flow.writes, flow.reads) for flow in flows.values()]
    between = _reached(flows.values(), differentiable, others) & _reached(backwards, differentiable, others)
    warnings = {}
    for number in sorted(between):
        field = places[number].field
        writers = [name for name, flow in flows.items() if number in flow.writes]
        readers = [name for name, flow in flows.items() if number in flow.reads]
        warnings[field] = (
            f"WARNING: field {field!r} has no gradient, but lies between fields that have one: "
            f"{' and '.join(writers)} {_verb(writers, 'write')} it, {' and '.join(readers)} {_verb(readers, 'read')} "
            "it. The gradient ends there and comes out as too little, or 0: declare it with needs_grad=True"
        )
    return list(warnings.values())


def _reached(flows: Iterable[Flow], start: set[int], through: set[int]) -> set[int]:
    """What is written from `start`, from kernel to kernel, through places of `through` only."""
    kept = list(flows)
    found: set[int] = set()
    while True:
        more = {number for flow in kept if flow.reads & (start | found) for number in flow.writes & through}
        if more <= found:
            return found
        found |= more


def _verb(names: list[str], verb: str) -> str:
    return verb if len(names) > 1 else f"{verb}s"
