"""Fingerprints: all of a kernel file that what Taichi makes of one of its kernels can follow from. Knows no IR.

That is the file without the bodies of its other kernels, the files of its own that it imports, and what its names stand
for once it has run: a kernel takes numbers from them, and a file may have them from anywhere.
"""

from __future__ import annotations

import ast
import hashlib
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

_DEPTH = 6
_PLAIN = (int, float, complex, str, bytes, bool, type(None), np.generic, set, frozenset, range, Path)


def source_without_other_kernels(source: str, name: str) -> str:
    """The text of a kernel file, less the bodies of the top-level kernels and families that are not called `name`."""
    lines = source.splitlines()
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and node.name != name and node.decorator_list:
            marks = " ".join(ast.unparse(each) for each in node.decorator_list)
            if any(word in marks for word in ("ti.kernel", "kernel(", "family(")):
                first = min(node.lineno, *(each.lineno for each in node.decorator_list))
                lines[first - 1 : node.end_lineno] = [""] * ((node.end_lineno or first) - first + 1)
    return "\n".join(lines)


def own_modules() -> list[types.ModuleType]:
    """The imported modules that belong to no installed package and not to Python."""
    foreign = [Path(place).resolve() for place in (sys.prefix, sys.base_prefix, Path(__file__).parents[2])]
    found = []
    for _, module in sorted(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if not file or Path(file).suffix != ".py" or not Path(file).is_file() or "site-packages" in Path(file).parts:
            continue
        if not any(Path(file).resolve().is_relative_to(place) for place in foreign):
            found.append(module)
    return found


def values(namespace: Mapping[str, Any]) -> str:
    """What the names of a namespace stand for, as a hash; another one at every run for what cannot be compared."""
    digest = hashlib.sha256()
    for name, value in sorted(namespace.items()):
        if not name.startswith("__"):
            for part in _parts(value, _DEPTH):
                digest.update(f"{name} {part}\n".encode())
    return digest.hexdigest()


def used_values(namespace: Mapping[str, Any], sources: Iterable[str]) -> dict[str, str]:
    """Of the names that functions of some files use: a hash of the numbers and texts that they stand for."""
    used = {
        node.id
        for source in sources
        for function in ast.walk(ast.parse(source))
        if isinstance(function, ast.FunctionDef | ast.Lambda)
        for node in ast.walk(function)
        if isinstance(node, ast.Name)
    }
    return {
        name: hashlib.sha256("\n".join(_parts(namespace[name], _DEPTH, comparable=True)).encode()).hexdigest()
        for name in sorted(used & namespace.keys())
        if not name.startswith("__")
    }


def _parts(value: Any, depth: int, *, comparable: bool = False) -> Iterator[str]:
    """What a value is made of; with `comparable` only what is the same in every process that computes the same."""
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    yield kind
    if isinstance(value, types.ModuleType):
        yield f"{value.__name__} {getattr(value, '__version__', '')}"
    elif isinstance(value, np.ndarray):
        yield f"{value.dtype} {value.shape} {hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()}"
    elif isinstance(value, type):
        yield value.__qualname__  # the file that has it is part of the fingerprint
    elif kind.endswith(".DataType"):
        yield str(value)
    elif isinstance(value, _PLAIN) or depth == 0:
        if isinstance(value, _PLAIN) or not comparable:
            yield repr(value)
    elif hasattr(value, "snode"):
        yield f"{value.shape} {value.dtype}"  # a field of Taichi's: how it lies is told by the trees
    elif isinstance(value, list | tuple):
        yield str(len(value))
        for each in value:
            yield from _parts(each, depth - 1, comparable=comparable)
    elif isinstance(value, dict):
        yield str(len(value))
        for key, each in value.items():
            yield repr(key)
            yield from _parts(each, depth - 1, comparable=comparable)
    elif isinstance(value, types.FunctionType):
        yield f"{value.__module__} {value.__qualname__}"
        plain = value._primal.func if hasattr(value, "_primal") else value  # of a Taichi kernel the author's function
        for cell in plain.__closure__ or ():
            yield from _parts(cell.cell_contents, depth - 1, comparable=comparable)
    elif isinstance(getattr(value, "func", None), types.FunctionType):  # what ti.func makes
        yield from _parts(value.func, depth - 1, comparable=comparable)
    elif hasattr(value, "__dict__") and vars(value):
        for key, each in sorted(vars(value).items()):
            yield key
            yield from _parts(each, depth - 1, comparable=comparable)
    elif not comparable:
        yield repr(value)
