"""The rules of the forward mode for functions of real numbers: one table. Knows nothing of memory and control flow.

A rule is given the arguments of a call, its result y and the tangents of the arguments, None for one that does not
depend on the inputs; it gives the tangent of y, None for zero. The formulas are the textbook's; what is taken at points
where there is no derivative stands beside the rule.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from ..dtypes import ELEMENT_TYPES
from ..ir.builder import Builder
from ..ir.model import Function, Parameter
from ..ir.types import FunctionType, Pointer, Type, Vector
from ..ir.values import Constant, Global, Local, Value

_FLAGS = ("contract",)  # as all arithmetic of the exporter has them


_REAL = {each.ir: each.taichi for each in ELEMENT_TYPES if each.is_real}  # as LLVM and as Taichi's runtime names them


def real(kind: Type, value: float) -> Constant:
    """A floating-point constant, as LLVM spells it; of a vector all elements."""
    scalar = str(kind.scalar)
    if scalar == "half":
        text = "0xH" + struct.pack(">e", value).hex().upper()
    else:
        exact = struct.unpack(">f", struct.pack(">f", value))[0] if scalar == "float" else value
        text = "0x" + struct.pack(">d", exact).hex().upper()
    if isinstance(kind, Vector):
        text = f"<{', '.join([f'{scalar} {text}'] * kind.count)}>"
    return Constant(kind, text)


class Arithmetic:
    """Arithmetic on values of one floating-point type, where a tangent that is None is zero and costs nothing."""

    def __init__(self, build: Builder, kind: Type, spell: Callable[[str], str], called: dict[str, Function]) -> None:
        """`spell` gives the name of a function of this type, from "cos"; `called` collects their declarations."""
        self.build = build
        self.kind = kind
        self._spell = spell
        self._called = called

    def number(self, value: float) -> Constant:
        return real(self.kind, value)

    def times(self, left: Value, right: Value) -> Value:
        return self.build.binary("fmul", left, right, flags=_FLAGS)

    def over(self, left: Value, right: Value) -> Value:
        return self.build.binary("fdiv", left, right)

    def plus(self, left: Value, right: Value) -> Value:
        return self.build.binary("fadd", left, right, flags=_FLAGS)

    def minus(self, left: Value, right: Value) -> Value:
        return self.build.binary("fsub", left, right, flags=_FLAGS)

    def negative(self, value: Value) -> Value:
        return self.build.unary("fneg", value)

    def sum(self, left: Value | None, right: Value | None) -> Value | None:
        """Of two tangents."""
        if left is None or right is None:
            return right if left is None else left
        return self.plus(left, right)

    def difference(self, left: Value | None, right: Value | None) -> Value | None:
        """Of two tangents."""
        if right is None:
            return left
        return self.negative(right) if left is None else self.minus(left, right)

    def scaled(self, tangent: Value | None, slope: Callable[[], Value]) -> Value | None:
        """tangent * slope()."""
        return None if tangent is None else self.times(tangent, slope())

    def where(self, predicate: str, left: Value, right: Value, yes: Value, no: Value) -> Value:
        return self.build.select(self.build.compare(predicate, left, right), yes, no)

    def function(self, stem: str, *arguments: Value) -> Value:
        """A function of real numbers, such as "cos"."""
        name = self._spell(stem)
        kinds = tuple(each.type for each in arguments)
        if name not in self._called:
            parameters = tuple(Parameter(Local(kind, str(place))) for place, kind in enumerate(kinds))
            self._called[name] = Function(name, self.kind, parameters)
        result = self.build.call(Global(Pointer(FunctionType(self.kind, kinds)), name), *arguments)
        assert result is not None
        return result

    def intrinsic(self, stem: str, *arguments: Value) -> Value:
        """One of LLVM's own functions, such as "sqrt"."""
        plain = Arithmetic(self.build, self.kind, lambda stem: f"llvm.{stem}.{_overload(self.kind)}", self._called)
        return plain.function(stem, *arguments)


Rule = Callable[[Arithmetic, Sequence[Value], Value, Sequence[Value | None]], Value | None]


def rule_of(name: str) -> tuple[Rule, Callable[[str], str]] | None:
    """The rule of a function by its name in the IR, and how relatives of it are spelled; None where there is none.

    Taichi's runtime names them `tanh_f32`, LLVM `llvm.sqrt.v8f32`, NVIDIA's libdevice `__nv_expf` and `__nv_exp`.
    """
    if name.startswith("__nv_"):
        stem = name[len("__nv_") :]
        kind = "" if stem in _OF_LIBDEVICE else "f"
        rule = _OF_LIBDEVICE.get(stem.removesuffix(kind)) if stem.endswith(kind) else None
        return None if rule is None else (rule, lambda relative: f"__nv_{relative}{kind}")
    if name.startswith("llvm."):
        stem, _, kinds = name[len("llvm.") :].partition(".")
        rule = _INTRINSICS.get(stem)
        return None if rule is None else (rule, lambda relative: f"llvm.{relative}.{kinds}")
    stem, _, kind = name.rpartition("_")
    rule = _FUNCTIONS.get(stem) if kind in _REAL.values() else None
    return None if rule is None else (rule, lambda relative: f"{relative}_{kind}")


def _overload(kind: Type) -> str:
    """How LLVM spells a type in the name of an intrinsic: "f32", "v8f64"."""
    scalar = _REAL[str(kind.scalar)]
    return f"v{kind.count}{scalar}" if isinstance(kind, Vector) else scalar


# ---- functions of one argument: their slope, from x and y ----


def _by_slope(slope: Callable[[Arithmetic, Value, Value], Value]) -> Rule:
    def rule(a: Arithmetic, x: Sequence[Value], y: Value, t: Sequence[Value | None]) -> Value | None:
        return a.scaled(t[0], lambda: slope(a, x[0], y))

    return rule


def _one_minus_square(a: Arithmetic, x: Value) -> Value:
    return a.minus(a.number(1.0), a.times(x, x))


def _sign(a: Arithmetic, x: Value) -> Value:
    """-1, 0 or 1: the slope of |x|, with 0 at 0."""
    zero = a.number(0.0)
    positive = a.where("ogt", x, zero, a.number(1.0), zero)
    return a.where("olt", x, zero, a.number(-1.0), positive)


def _constant(a: Arithmetic, x: Sequence[Value], y: Value, t: Sequence[Value | None]) -> Value | None:
    """Of functions that are constant between their jumps."""
    return None


# ---- functions of several arguments ----


def _atan2(a: Arithmetic, x: Sequence[Value], y: Value, t: Sequence[Value | None]) -> Value | None:
    up, along = x
    top = a.difference(a.scaled(t[0], lambda: along), a.scaled(t[1], lambda: up))
    return None if top is None else a.over(top, a.plus(a.times(up, up), a.times(along, along)))


def _pow(a: Arithmetic, x: Sequence[Value], y: Value, t: Sequence[Value | None]) -> Value | None:
    """0 with respect to the base where the exponent is 0, and with respect to the exponent where the base is."""
    base, exponent = x
    zero = a.number(0.0)

    def by_base() -> Value:
        slope = a.times(exponent, a.function("pow", base, a.minus(exponent, a.number(1.0))))
        return a.where("oeq", exponent, zero, zero, slope)

    def by_exponent() -> Value:
        return a.where("oeq", base, zero, zero, a.times(y, a.function("log", base)))

    return a.sum(a.scaled(t[0], by_base), a.scaled(t[1], by_exponent))


def _fma(a: Arithmetic, x: Sequence[Value], y: Value, t: Sequence[Value | None]) -> Value | None:
    return a.sum(a.sum(a.scaled(t[0], lambda: x[1]), a.scaled(t[1], lambda: x[0])), t[2])


def _extremum(predicate: str) -> Rule:
    """Of minimum and maximum: the tangent of the argument that is the result, of the second where they are equal."""

    def rule(a: Arithmetic, x: Sequence[Value], y: Value, t: Sequence[Value | None]) -> Value | None:
        if t[0] is None and t[1] is None:
            return None
        first, second = (a.number(0.0) if each is None else each for each in t)
        chosen = a.where(predicate, x[0], x[1], first, second)
        return a.where("uno", x[1], x[1], first, chosen)  # a NaN gives way to the other argument

    return rule


def _copysign(a: Arithmetic, x: Sequence[Value], y: Value, t: Sequence[Value | None]) -> Value | None:
    """0 at 0."""
    if t[0] is None:
        return None
    turned = a.where("oeq", y, x[0], t[0], a.negative(t[0]))
    return a.where("oeq", x[0], a.number(0.0), a.number(0.0), turned)


# By the names of Taichi's runtime.
_FUNCTIONS: dict[str, Rule] = {
    "tanh": _by_slope(lambda a, x, y: _one_minus_square(a, y)),
    "exp": _by_slope(lambda a, x, y: y),
    "log": _by_slope(lambda a, x, y: a.over(a.number(1.0), x)),
    "sin": _by_slope(lambda a, x, y: a.function("cos", x)),
    "cos": _by_slope(lambda a, x, y: a.negative(a.function("sin", x))),
    "tan": _by_slope(lambda a, x, y: a.plus(a.number(1.0), a.times(y, y))),
    "asin": _by_slope(lambda a, x, y: a.over(a.number(1.0), a.intrinsic("sqrt", _one_minus_square(a, x)))),
    "acos": _by_slope(lambda a, x, y: a.over(a.number(-1.0), a.intrinsic("sqrt", _one_minus_square(a, x)))),
    "abs": _by_slope(lambda a, x, y: _sign(a, x)),
    "sgn": _constant,
    "atan2": _atan2,
    "pow": _pow,
    "min": _extremum("olt"),
    "max": _extremum("ogt"),
}

# By the names of LLVM's intrinsics.
_INTRINSICS: dict[str, Rule] = {
    "sqrt": _by_slope(lambda a, x, y: a.over(a.number(0.5), y)),
    "fabs": _FUNCTIONS["abs"],
    "minnum": _FUNCTIONS["min"],
    "maxnum": _FUNCTIONS["max"],
    "copysign": _copysign,
    "fma": _fma,
    "fmuladd": _fma,
    **{stem: _FUNCTIONS[stem] for stem in ("exp", "log", "sin", "cos", "pow")},
    **dict.fromkeys(("floor", "ceil", "trunc", "round", "roundeven", "rint", "nearbyint"), _constant),
}

# By the names of libdevice, of float64.
_OF_LIBDEVICE: dict[str, Rule] = {
    **{stem: rule for stem, rule in _FUNCTIONS.items() if stem not in ("abs", "min", "max")},
    "fabs": _FUNCTIONS["abs"],
    "fmin": _FUNCTIONS["min"],
    "fmax": _FUNCTIONS["max"],
    "sqrt": _INTRINSICS["sqrt"],
    "rsqrt": _by_slope(lambda a, x, y: a.over(a.times(a.number(-0.5), y), x)),
    "fma": _fma,
    "copysign": _copysign,
    **dict.fromkeys(("floor", "ceil", "trunc", "round", "rint", "nearbyint"), _constant),
}
