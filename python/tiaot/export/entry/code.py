"""Code: the instructions of a function being written, as LLVM IR text. Knows nothing of kernels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ..author.sizes import evaluate, operate_on_numbers
from ..dtypes import ELEMENT_TYPES
from ..ir import LoweringError

IR_TYPES = {each.name: each.ir for each in ELEMENT_TYPES}


class Code:
    """The instructions of a function being written."""

    def __init__(self, sizes: Mapping[str, str]) -> None:
        self.lines: list[str] = []
        self.sizes = dict(sizes)  # a dimension: its value, a constant or a register
        self._count = 0

    def add(self, instruction: str) -> str:
        """Append `instruction` and give the name of its result."""
        name = f"%v{self._count}"
        self._count += 1
        self.lines.append(f"  {name} = {instruction}")
        return name

    def do(self, instruction: str) -> None:
        self.lines.append("  " + instruction)

    def label(self, name: str) -> None:
        self.lines.append(f"{name}:")

    def multiply(self, *factors: str) -> str:
        """The product of i64 values, folded where they are constants."""
        constant = math.prod(int(factor) for factor in factors if not factor.startswith("%"))
        result = None
        for factor in factors:
            if factor.startswith("%"):
                result = factor if result is None else self.add(f"mul nsw i64 {result}, {factor}")
        if result is None:
            return str(constant)
        return result if constant == 1 else self.add(f"mul nsw i64 {result}, {constant}")

    def add_up(self, a: str, b: str) -> str:
        """The sum of two i64 values, folded where they are constants."""
        if a.startswith("%") or b.startswith("%"):
            return self.add(f"add nsw i64 {a}, {b}")
        return str(int(a) + int(b))

    def larger(self, a: str, b: str) -> str:
        """The larger of two i64 values, folded where they are constants."""
        if not a.startswith("%") and not b.startswith("%"):
            return str(max(int(a), int(b)))
        return self.add(f"select i1 {self.add(f'icmp sgt i64 {a}, {b}')}, i64 {a}, i64 {b}")

    def load_sizes(self, dims: Sequence[str], fixed: Mapping[str, int], batch: str | None) -> None:
        """The sizes of an entry's dimensions: those that are fixed, %rows, and the others from %dims."""
        for index, dim in enumerate(dims):
            if dim in fixed:
                self.sizes[dim] = str(fixed[dim])
            elif dim == batch:
                self.sizes[dim] = "%rows"
            else:
                pointer = self.add(f"getelementptr i64, i64* %dims, i64 {index}")
                self.sizes[dim] = self.add(f"load i64, i64* {pointer}")
        self.sizes["rows"] = "%rows"

    def round_up(self, value: str, step: int) -> str:
        if not value.startswith("%"):
            return str(-(-int(value) // step) * step)
        return self.add(f"and i64 {self.add(f'add nsw i64 {value}, {step - 1}')}, {-step}")

    def expression(self, text: str) -> str:
        """The value of a size expression over dimensions and `rows`."""
        try:
            return evaluate(text, self.sizes, str, self._operate)
        except ValueError as error:
            raise LoweringError(f"scratch {error}") from error

    def _operate(self, operator: str, left: str, right: str) -> str:
        if not left.startswith("%") and not right.startswith("%"):
            return str(operate_on_numbers(operator, int(left), int(right)))
        if operator == "//":
            return self._divide(left, right)
        instruction = {"+": "add nsw", "-": "sub nsw", "*": "mul nsw"}[operator]
        return self.add(f"{instruction} i64 {left}, {right}")

    def _divide(self, left: str, right: str) -> str:
        """The quotient of two i64 values, rounded down; 0 where the divisor is 0: an array may be empty."""
        if not right.startswith("%") and int(right) > 0:
            used = right
            if int(right) & (int(right) - 1) == 0:  # so that LLVM sees what the quotient is a multiple of, times it
                return self.add(f"ashr i64 {left}, {int(right).bit_length() - 1}")
        else:
            used = self.add(f"select i1 {self.add(f'icmp eq i64 {right}, 0')}, i64 1, i64 {right}")
        quotient = self.add(f"sdiv i64 {left}, {used}")
        rest = self.add(f"srem i64 {left}, {used}")
        below = self.add(f"icmp slt i64 {self.add(f'xor i64 {rest}, {used}')}, 0")
        inexact = self.add(f"icmp ne i64 {rest}, 0")
        less = self.add(f"sext i1 {self.add(f'and i1 {below}, {inexact}')} to i64")
        floored = self.add(f"add nsw i64 {quotient}, {less}")
        if used == right:
            return floored
        return self.add(f"select i1 {self.add(f'icmp eq i64 {right}, 0')}, i64 0, i64 {floored}")
