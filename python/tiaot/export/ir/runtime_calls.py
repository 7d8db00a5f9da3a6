"""What a task's IR calls of Taichi's runtime, by its text: random numbers, and the steps through trees of fields."""

from __future__ import annotations

import re
from collections.abc import Iterable

RANDOM = frozenset({f"rand_{kind}" for kind in ("u64", "i64", "u32", "i32", "f32", "f64")})
ROOTS = "LLVMRuntime_get_roots"
STEP = re.compile(r"@get_ch_S(\d+)_to_S(\d+)\(")  # from a node to a child of it


# A loop over a field that is cut into pieces, all of them for one thread.
_BY_ONE_THREAD = re.compile(r"@cpu_parallel_range_for\(%struct\.RuntimeContext\* %\w+, i32 1, i32 0, i32 (\d+),")


def draws_random(text: str) -> bool:
    """Whether a task draws random numbers."""
    return any(f"@{name}(" in text for name in RANDOM)


def uses_fields(text: str) -> bool:
    """Whether a task reaches into a field."""
    return f"@{ROOTS}(" in text


def used_nodes(texts: Iterable[str]) -> set[int]:
    """Numbers of the nodes that tasks go through."""
    return {int(match[2]) for text in texts for match in STEP.finditer(text)}


def by_one_thread(text: str) -> bool:
    """Whether Taichi runs the pieces of a task's loop on one thread, one after another."""
    return any(int(match[1]) > 1 for match in _BY_ONE_THREAD.finditer(text))
