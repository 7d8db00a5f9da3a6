"""Values of LLVM IR that are written like numbers: `r - n * LN2` emits instructions. Knows no function of the library.

Arithmetic is emitted with the flag `contract`: LLVM may fuse a product and a sum into an FMA on a machine that has one,
and nothing else. No intrinsic for that is called, so that a machine without FMA (x86-64-v2) never calls libm's slow
emulation. Where a step must be exact, its products are exact in themselves (factors with short mantissas): then it is
the same with and without contraction.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from llvmlite import ir

Number = int | float


@dataclass(frozen=True)
class Format:
    """A floating-point format, the integer type of the same width and the masks of its fields."""

    name: str
    real: ir.Type
    integer: ir.IntType
    mantissa: int  # stored bits
    bias: int

    @property
    def sign(self) -> int:
        return 1 << (self.integer.width - 1)

    @property
    def magnitude(self) -> int:
        return self.sign - 1

    def bits(self, number: float) -> int:
        """`number`, rounded to this format, as an integer."""
        code = "<fI" if self.name == "f32" else "<dQ"
        return struct.unpack(code[0] + code[2], struct.pack(code[:2], number))[0]

    @property
    def rounder(self) -> float:
        """Added to a small number and taken away again, it leaves the nearest integer.

        The sum's low bits are that integer plus `2 (bias + 1)`, and so positive for every exponent.
        """
        return 1.5 * 2**self.mantissa + 2 * (self.bias + 1)


F32 = Format("f32", ir.FloatType(), ir.IntType(32), 23, 127)
F64 = Format("f64", ir.DoubleType(), ir.IntType(64), 52, 1023)
FORMATS = {"f32": F32, "f64": F64}


class Value:
    """An SSA value with operators; the other operand is a Value of the same type or a Python number."""

    def __init__(self, builder: ir.IRBuilder, value: ir.Value) -> None:
        self.builder = builder
        self.value = value

    def _new(self, value: ir.Value) -> Value:
        return Value(self.builder, value)

    def _other(self, other: Value | Number) -> ir.Value:
        return other.value if isinstance(other, Value) else ir.Constant(self.value.type, other)

    def constant(self, number: Number) -> Value:
        """A number of this value's type."""
        return self._new(self._other(number))

    @property
    def _integer(self) -> bool:
        return isinstance(self.value.type, ir.IntType)

    def _binary(self, name: str, left: ir.Value, right: ir.Value) -> Value:
        if self._integer:
            return self._new(getattr(self.builder, name)(left, right))
        return self._new(getattr(self.builder, "f" + name)(left, right, flags=("contract",)))

    def __add__(self, other: Value | Number) -> Value:
        return self._binary("add", self.value, self._other(other))

    def __radd__(self, other: Number) -> Value:
        return self._binary("add", self._other(other), self.value)

    def __sub__(self, other: Value | Number) -> Value:
        return self._binary("sub", self.value, self._other(other))

    def __rsub__(self, other: Number) -> Value:
        return self._binary("sub", self._other(other), self.value)

    def __mul__(self, other: Value | Number) -> Value:
        return self._binary("mul", self.value, self._other(other))

    __rmul__ = __mul__

    def __truediv__(self, other: Value | Number) -> Value:
        return self._binary("div", self.value, self._other(other))

    def __rtruediv__(self, other: Number) -> Value:
        return self._binary("div", self._other(other), self.value)

    def __and__(self, other: Value | Number) -> Value:
        return self._new(self.builder.and_(self.value, self._other(other)))

    def __or__(self, other: Value | Number) -> Value:
        return self._new(self.builder.or_(self.value, self._other(other)))

    def __xor__(self, other: Value | Number) -> Value:
        return self._new(self.builder.xor(self.value, self._other(other)))

    def __lshift__(self, other: Value | Number) -> Value:
        return self._new(self.builder.shl(self.value, self._other(other)))

    def __rshift__(self, other: Value | Number) -> Value:
        """A logical shift: an arithmetic one of 64 bits comes with AVX-512 only."""
        return self._new(self.builder.lshr(self.value, self._other(other)))

    def _compare(self, operator: str, other: Value | Number) -> Value:
        compare = self.builder.icmp_signed if self._integer else self.builder.fcmp_ordered
        return self._new(compare(operator, self.value, self._other(other)))

    def __lt__(self, other: Value | Number) -> Value:
        """False when either is NaN."""
        return self._compare("<", other)

    def equals(self, other: Value | Number) -> Value:
        return self._compare("==", other)

    def cast(self, operation: str, type_: ir.Type) -> Value:
        """One of LLVM's conversions: fpext, fptrunc, trunc, zext."""
        return self._new(getattr(self.builder, operation)(self.value, type_))

    def load(self, table: ir.GlobalVariable, element: ir.Type, align: int | None = None) -> Value:
        """The element at this offset, an i64 counted in the table's own elements; a gather when it is vectorised."""
        pointer = self.builder.gep(table, [ir.Constant(ir.IntType(64), 0), self.value], inbounds=True)
        pointer = self.builder.bitcast(pointer, element.as_pointer())
        return self._new(self.builder.load(pointer, align=align))

    @property
    def module(self) -> ir.Module:
        return self.builder.module

    def bits(self, type_: ir.Type) -> Value:
        """The same bits as another type."""
        return self._new(self.builder.bitcast(self.value, type_))


def select(condition: Value, yes: Value | Number, no: Value | Number) -> Value:
    """`yes` where `condition` holds, else `no`; at least one of the two is a Value."""
    like = yes if isinstance(yes, Value) else no
    return condition._new(condition.builder.select(condition.value, like._other(yes), like._other(no)))


def square_root(x: Value) -> Value:
    """Rounded correctly; NaN below zero. The one intrinsic that is called: every CPU level has it as an instruction."""
    return x._new(x.builder.call(x.module.declare_intrinsic("llvm.sqrt", [x.value.type]), [x.value]))


def table(like: Value, name: str, data: ir.Constant) -> ir.GlobalVariable:
    """The constant table `name` of the module that `like` is written into; made at the first call."""
    module = like.module
    if name in module.globals:
        return module.globals[name]
    variable = ir.GlobalVariable(module, data.type, name)
    variable.initializer = data
    variable.linkage = "internal"
    variable.global_constant = True
    return variable


def at_most(x: Value, limit: float) -> Value:
    """min(x, limit); NaN stays NaN."""
    return select(x.constant(limit) < x, limit, x)


def at_least(x: Value, limit: float) -> Value:
    """max(x, limit); NaN stays NaN."""
    return select(x < limit, limit, x)


def polynomial(x: Value, coefficients: Sequence[float]) -> Value:
    """Sum of coefficients[k] x^k, by Estrin's scheme: the latency grows with the logarithm of the degree only."""
    terms: list[Value] = [x.constant(c) for c in coefficients]
    while len(terms) > 1:
        pairs = [terms[k] + x * terms[k + 1] for k in range(0, len(terms) - 1, 2)]
        terms = pairs + terms[2 * len(pairs) :]
        x = x * x
    return terms[0]
