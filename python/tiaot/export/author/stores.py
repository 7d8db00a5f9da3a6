"""Stores: where a kernel's text writes to a field, by file and line. Knows no IR."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from typing import Any

from .functions import file_of, functions, value_of


def stores(kernel: Any, field: Any, given: Mapping[str, Any]) -> list[str]:
    """Where a kernel, and the functions that it calls, write to a field: "springs.py:12". None where the text does not
    tell, as it hands the field to a function.

    Args:
        given: what parameters of the kernel stand for.
    """
    owner = getattr(kernel, "_kernel_owner", None)
    found = []
    for function, node in functions(kernel):
        known: dict[str, Any] = {}
        if function is kernel._primal.func:
            known = {**given, **({node.args.args[0].arg: owner} if owner is not None else {})}
        for target in _targets(node):
            if _is_part(function, target, field, known):
                found.append((file_of(function), target.lineno))
    return [f"{file}:{line}" for file, line in sorted(set(found))]


def _targets(node: ast.FunctionDef) -> Iterator[ast.expr]:
    for each in ast.walk(node):
        if isinstance(each, ast.Assign):
            yield from each.targets
        elif isinstance(each, ast.AugAssign):
            yield each.target
        elif isinstance(each, ast.Call) and getattr(each.func, "attr", "").startswith("atomic_") and each.args:
            yield each.args[0]


def _is_part(function: Any, node: ast.expr, field: Any, known: Mapping[str, Any]) -> bool:
    """Whether an expression stands for an element of a field, or for a part of one."""
    if isinstance(node, ast.Tuple):
        return any(_is_part(function, each, field, known) for each in node.elts)
    names: list[str] = []
    while isinstance(node, ast.Subscript | ast.Attribute):
        if isinstance(node, ast.Subscript) and _member(_value(function, node.value, known), names) is field:
            return True
        names = [node.attr, *names] if isinstance(node, ast.Attribute) else names
        node = node.value
    return False


def _value(function: Any, node: ast.expr, known: Mapping[str, Any]) -> Any:
    if isinstance(node, ast.Attribute):
        return getattr(_value(function, node.value, known), node.attr, None)
    return known[node.id] if isinstance(node, ast.Name) and node.id in known else value_of(function, node)


def _member(field: Any, names: list[str]) -> Any:
    """A field, or the one of a field of structs that names behind an element lead to."""
    for name in names:
        if not hasattr(field, "get_member_field") or name not in field.keys:
            return field
        field = field.get_member_field(name)
    return field
