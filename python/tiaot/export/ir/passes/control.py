"""Control: which blocks come after which."""

from __future__ import annotations

from ..model import Block, Function


def reached(function: Function, label: str, end: Block) -> set[str]:
    """The blocks that can come after the one of that label, itself included, before `end`."""
    found: set[str] = set()
    waiting = [label]
    while waiting:
        name = waiting.pop()
        if name != end.label and name not in found:
            found.add(name)
            waiting += function.by_label[name].end.targets
    return found
