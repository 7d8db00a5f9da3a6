"""Loads of fields that a task only reads: Taichi asks for the read-only cache, of whose loads our passes know nothing.
As plain loads they are cached all the same. Knows no signatures."""

from __future__ import annotations

import re

_BYTES = {"float": 4, "double": 8, "half": 2, "i8": 1, "i16": 2, "i32": 4, "i64": 8}
_CACHED = re.compile(
    r"call (?P<type>\w+) @llvm\.nvvm\.ldg\.global\.[if]\.[\w.]+\((?P<pointer>\w+\* [^\s,]+), i32 \d+\)(?: #\d+)?"
)


def plain_loads(task: str) -> str:
    """A task's IR, with plain loads in place of those."""
    return _CACHED.sub(lambda m: f"load {m['type']}, {m['pointer']}, align {_BYTES[m['type']]}", task)
