"""Control flow of a function: the order of its blocks, which dominate which, its loops. Knows no kernels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from .model import Function
from .values import LoweringError


@dataclass(frozen=True)
class Loop:
    """A natural loop: what is reached from `header` and comes back to it by `latch`, the one block that does."""

    header: str
    latch: str
    blocks: frozenset[str]
    depth: int  # 1 of a loop that lies in no other

    def __contains__(self, label: object) -> bool:
        return label in self.blocks


class ControlFlow:
    """Of a function in the form that LLVM's loop-simplify leaves: each loop has one latch."""

    def __init__(self, function: Function) -> None:
        self.function = function

    @cached_property
    def order(self) -> list[str]:
        """Labels of the blocks that can be reached, each behind all that come before it but for those of its loop."""
        return order(self.function)

    @cached_property
    def predecessors(self) -> Mapping[str, tuple[str, ...]]:
        """By the label of each block that can be reached those that come before it and can be reached."""
        reached = set(self.order)
        return {
            label: tuple(each for each in self.function.predecessors[label] if each in reached) for label in self.order
        }

    @cached_property
    def immediate_dominators(self) -> Mapping[str, str]:
        """Of each block but the first the last of the blocks that every way to it passes (Cooper, Harvey and Kennedy, A
        Simple, Fast Dominance Algorithm)."""
        place = {label: index for index, label in enumerate(self.order)}
        first = self.order[0]
        found = {first: first}
        changed = True
        while changed:
            changed = False
            for label in self.order[1:]:
                known = [each for each in self.predecessors[label] if each in found]
                new = known[0]
                for other in known[1:]:
                    while new != other:
                        if place[new] > place[other]:
                            new = found[new]
                        else:
                            other = found[other]
                if found.get(label) != new:
                    found[label] = new
                    changed = True
        del found[first]
        return found

    def dominates(self, one: str, other: str) -> bool:
        """Whether every way to the block `other` passes `one`; a block dominates itself."""
        at: str | None = other
        while at is not None and at != one:
            at = self.immediate_dominators.get(at)
        return at == one

    @cached_property
    def loops(self) -> list[Loop]:
        """All loops, outer ones before those in them.

        Raises:
            LoweringError: when a loop has several latches, or is entered in another way than by its header.
        """
        latches: dict[str, list[str]] = {}
        place = {label: index for index, label in enumerate(self.order)}
        for label in self.order:
            for target in self.function.by_label[label].end.targets:
                if self.dominates(target, label):
                    latches.setdefault(target, []).append(label)
                elif place[target] <= place[label]:
                    raise LoweringError(f"{self.function.name!r}: a loop around {target!r} has several entries")
        found: list[tuple[str, str, frozenset[str]]] = []
        for header, ends in latches.items():
            if len(set(ends)) != 1:
                raise LoweringError(f"{self.function.name!r}: the loop of {header!r} has several latches")
            blocks = {header}
            pending = [ends[0]]
            while pending:
                label = pending.pop()
                if label not in blocks:
                    blocks.add(label)
                    pending += self.predecessors[label]
            found.append((header, ends[0], frozenset(blocks)))
        loops = [
            Loop(header, latch, blocks, 1 + sum(header in other and other is not blocks for _, _, other in found))
            for header, latch, blocks in found
        ]
        return sorted(loops, key=lambda loop: loop.depth)

    @cached_property
    def _innermost(self) -> Mapping[str, Loop]:
        return {label: loop for loop in self.loops for label in loop.blocks}

    def loop_of(self, label: str) -> Loop | None:
        """The innermost loop that a block lies in."""
        return self._innermost.get(label)

    def leaving(self, loop: Loop) -> list[str]:
        """The blocks of a loop from which control may leave it."""
        return [
            label
            for label in self.order
            if label in loop and set(self.function.by_label[label].end.targets) - loop.blocks
        ]

    def loops_around(self, label: str) -> list[Loop]:
        """The loops that a block lies in, outer ones first."""
        return [loop for loop in self.loops if label in loop]


def order(function: Function) -> list[str]:
    """Labels of the blocks that can be reached, each behind all that come before it on every way to it."""
    first = function.blocks[0]
    seen: set[str] = {first.label}
    done: list[str] = []
    stack: list[tuple[str, list[str]]] = [(first.label, list(first.end.targets))]
    while stack:
        label, targets = stack[-1]
        if targets:
            following = targets.pop()
            if following not in seen:
                seen.add(following)
                stack.append((following, list(function.by_label[following].end.targets)))
            continue
        done.append(label)
        stack.pop()
    return done[::-1]
