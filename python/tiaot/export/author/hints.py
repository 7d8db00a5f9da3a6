"""Hints: what in an author's kernel Taichi is known not to take, by file and line, and what to write instead.

Taichi names its own source line, or aborts. A kernel's text tells what it met. Knows no IR, and no Taichi but the texts
of its functions.
"""

from __future__ import annotations

import ast
import struct
from collections.abc import Iterator
from typing import Any

from .functions import file_of, functions, value_of

_WITHOUT_GRADIENT = ("bit_cast", "popcnt", "clz", "frexp", "random", "randn")  # functions of Taichi's


def hints(kernel: Any, differentiated: bool) -> list[str]:
    """What Taichi is known not to compile, of a kernel and the functions that it calls; `differentiated`: of a
    gradient."""
    found = []
    for function, node in functions(kernel):
        for line, text in sorted({*_forward(node), *(_backward(node) if differentiated else ())}):
            found.append(f"{file_of(function)}:{line}: {text}")
    return list(dict.fromkeys(found))


def rounded_numbers(kernel: Any) -> list[str]:
    """The numbers in a kernel that float32 rounds: "0.1 at springs.py:12"."""
    found = []
    for function, node in functions(kernel):
        for each in ast.walk(node):
            if isinstance(each, ast.expr) and (value := _number(function, each)) is not None and _rounds(value):
                found.append(f"{ast.unparse(each)} at {file_of(function)}:{each.lineno}")
    return list(dict.fromkeys(found))


def ordered_loops(kernel: Any) -> list[str]:
    """Where a kernel asks for a loop in order, by `ti.loop_config` with serialize=True or parallelize=1."""
    found = []
    for function, node in functions(kernel):
        for each in ast.walk(node):
            if isinstance(each, ast.Call) and any(map(_is_for_order, each.keywords)):
                found.append(f"{file_of(function)}:{each.lineno}")
    return list(dict.fromkeys(found))


def _is_for_order(keyword: ast.keyword) -> bool:
    """Whether an argument of `ti.loop_config` asks for a loop in order, as far as is known."""
    value = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
    return (keyword.arg == "serialize" and value is not False) or (keyword.arg == "parallelize" and value in (1, None))


# ---- numbers


def _number(function: Any, node: ast.AST) -> float | None:
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, float) else None
    if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
        value = value_of(function, node)
        return value if type(value) is float else None
    return None


def _rounds(value: float) -> bool:
    try:
        return value == value and struct.unpack("f", struct.pack("f", value))[0] != value
    except OverflowError:
        return True


# ---- what Taichi does not take


def _forward(node: ast.FunctionDef) -> Iterator[tuple[int, str]]:
    for each in ast.walk(node):
        if isinstance(each, ast.If | ast.While | ast.IfExp) and _is_plain(each.test):
            text = ast.unparse(each.test)
            yield each.lineno, f"a condition must be a comparison: write `{text} != 0` for `{text}`"


def _is_plain(test: ast.expr) -> bool:
    """Whether a condition is a number as it is."""
    return isinstance(test, ast.Subscript | ast.BinOp)


def _backward(node: ast.FunctionDef) -> Iterator[tuple[int, str]]:
    static = _static_names(node)
    local = _local_names(node)
    loop = "write `for _ in range(most):` around an `if`, or give wrt=[]"
    for each in ast.walk(node):
        if isinstance(each, ast.While):
            yield each.lineno, f"a `while` has no gradient: {loop}"
        elif isinstance(each, ast.Break):
            yield each.lineno, "a `break` has no gradient: put what follows in the loop under an `if`, or give wrt=[]"
        elif isinstance(each, ast.Subscript) and isinstance(each.value, ast.Name) and each.value.id in local:
            names = {part.id for part in ast.walk(each.slice) if isinstance(part, ast.Name)} - static
            if names:
                index = ", ".join(sorted(names))
                yield (
                    each.lineno,
                    f"{ast.unparse(each)}: a local vector has no gradient where its index is a variable: loop with "
                    f"`for {index} in ti.static(range(...))`, or keep it in an array or a field",
                )
        elif isinstance(each, ast.Call) and getattr(each.func, "attr", "") in _WITHOUT_GRADIENT:
            what = ast.unparse(each.func)
            yield each.lineno, f"{what} has no gradient: compute it in a kernel of its own, or give wrt=[]"


def _static_names(node: ast.FunctionDef) -> set[str]:
    """Names of the loops that Taichi unrolls, and of what is computed from constants."""
    names = set()
    for each in ast.walk(node):
        if isinstance(each, ast.For) and isinstance(each.iter, ast.Call):
            function = each.iter.func
            if (isinstance(function, ast.Attribute) and function.attr == "static") or (
                isinstance(function, ast.Name) and function.id == "static"
            ):
                names |= {part.id for part in ast.walk(each.target) if isinstance(part, ast.Name)}
    return names


def _local_names(node: ast.FunctionDef) -> set[str]:
    """Names that are assigned in a function: what of them has an index is a local vector or matrix."""
    parameters = {each.arg for each in node.args.args}
    targets = [target for each in ast.walk(node) if isinstance(each, ast.Assign) for target in each.targets] + [
        each.target for each in ast.walk(node) if isinstance(each, ast.AnnAssign)
    ]
    names = [each for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)]
    return {each.id for each in names if isinstance(each.ctx, ast.Store)} - parameters
