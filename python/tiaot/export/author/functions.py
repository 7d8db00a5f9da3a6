"""The functions of a kernel: their texts as trees, and what names stand for in them. Knows no IR, and of Taichi how it
holds functions."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_MOST_FUNCTIONS = 200  # that a kernel calls


def functions(kernel: Any) -> Iterator[tuple[Any, ast.FunctionDef]]:
    """A kernel's function and those of its own that it calls, each with its tree, whose lines are those of the file."""
    pending, seen = [kernel._primal.func], set()
    while pending:
        function = pending.pop(0)
        if function in seen or len(seen) > _MOST_FUNCTIONS:
            continue
        seen.add(function)
        try:
            lines, first = inspect.getsourcelines(function)
            node = ast.parse(textwrap.dedent("".join(lines))).body[0]
        except (OSError, SyntaxError, TypeError):
            continue
        if not isinstance(node, ast.FunctionDef):
            continue
        ast.increment_lineno(node, first - 1)
        yield function, node
        for each in ast.walk(node):
            if isinstance(each, ast.Call):
                called = getattr(getattr(value_of(function, each.func), "func", None), "func", None)  # of a ti.func
                if inspect.isfunction(called) and not called.__module__.startswith(("taichi.", "tiaot.")):
                    pending.append(called)


def file_of(function: Any) -> str:
    """The name of the file that a function stands in."""
    return Path(function.__code__.co_filename).name


def value_of(function: Any, node: ast.expr) -> Any:
    """What a name, or an attribute of one, stands for in a function; None where that is not known."""
    if isinstance(node, ast.Attribute):
        return getattr(value_of(function, node.value), node.attr, None)
    if not isinstance(node, ast.Name):
        return None
    closure = inspect.getclosurevars(function)
    return closure.nonlocals.get(node.id, closure.globals.get(node.id))
