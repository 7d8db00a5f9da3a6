"""Size expressions, `2 * n + rows`: what an author writes for the sizes of scratch arrays. The one evaluator of them,
for numbers and for values of code that is being written."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import TypeVar

T = TypeVar("T")

_OPERATORS: dict[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.FloorDiv: "//"}


def evaluate(text: str, sizes: Mapping[str, T], constant: Callable[[int], T], operate: Callable[[str, T, T], T]) -> T:
    """The value of a size expression.

    Args:
        sizes: those of dimensions, and of `rows`.
        constant: makes a value of a number.
        operate: computes with an operator, one of + - * //, and two values.

    Raises:
        ValueError: for what is no such expression.
    """

    def value(node: ast.expr) -> T:
        if isinstance(node, ast.Constant) and type(node.value) is int:
            return constant(node.value)
        if isinstance(node, ast.Name) and node.id in sizes:
            return sizes[node.id]
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            return operate(_OPERATORS[type(node.op)], value(node.left), value(node.right))
        raise ValueError

    try:
        return value(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError):
        raise ValueError(f"size {text!r}: expected dimensions, `rows`, numbers, + - * // ()") from None


def number(text: str, sizes: Mapping[str, int]) -> int:
    """The same in numbers.

    Raises:
        ValueError: for what is no size expression.
    """
    return evaluate(text, sizes, int, operate_on_numbers)


def operate_on_numbers(operator: str, a: int, b: int) -> int:
    """What an operator gives. A size that is divided by 0 is 0: an array may be empty."""
    return {"+": a + b, "-": a - b, "*": a * b, "//": b and a // b}[operator]
