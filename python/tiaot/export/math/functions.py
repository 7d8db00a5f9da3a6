"""The functions of the math library, each written once for float32 and float64. Knows nothing about Taichi.

Each takes its argument and the format, and returns the result. All are straight lines without calls and branches, which
LLVM's vectorisers can widen; what a CPU would branch for is computed on both sides and selected.
"""

from __future__ import annotations

import math

from . import coefficients
from .reduction import reduce
from .values import Format, Value, at_least, at_most, polynomial, select

LOG2_E = float.fromhex("0x1.71547652b82fep+0")


def exp_parts(x: Value, f: Format) -> tuple[Value, Value]:
    """(p, n) with exp(x) = (1 + p) 2^n, |p| < 0.42; n as bits, plus `2 (bias + 1)`, in an integer's lowest bits."""
    shifted = x * LOG2_E + f.rounder
    n = shifted - f.rounder
    high, low = coefficients.LN2[f.name]
    r = x - n * high - n * low
    return r + r * r * polynomial(r, coefficients.EXP[f.name]), shifted.bits(f.integer)


def exp(x: Value, f: Format) -> Value:
    # Beyond these every result is infinite or zero, and the exponents below still fit.
    p, n = exp_parts(at_most(at_least(x, -0.6932 * (f.bias + f.mantissa + 1)), 0.6935 * (f.bias + 1)), f)
    # 2^n in two factors, so that it may lie outside of the format: only the last product rounds, to any kind of number.
    half = n >> 1
    first = ((half << f.mantissa) - (1 << f.mantissa)).bits(f.real)
    second = (((n - half) << f.mantissa) - (1 << f.mantissa)).bits(f.real)
    return (1.0 + p) * first * second


def tanh(x: Value, f: Format) -> Value:
    bits = x.bits(f.integer)
    a = at_most((bits & f.magnitude).bits(f.real), 20.0)  # tanh is 1 from there on

    # Away from zero: 1 - 2 / (e^2a + 1). The sum 2^n + 1 is exact (or 1 is lost), so the divisor is rounded once.
    p, n = exp_parts(a + a, f)
    power = ((n + (f.bias - 2 * (f.bias + 1))) << f.mantissa).bits(f.real)
    large = 1.0 - 2.0 / (power * p + (power + 1.0))

    # Near zero, where that cancels.
    z = a * a
    small = a + a * z * polynomial(z, coefficients.TANH[f.name])

    return (select(a < 0.75, small, large).bits(f.integer) | (bits & f.sign)).bits(f.real)


def log(x: Value, f: Format) -> Value:
    # x = m 2^k, sqrt(1/2) <= m < sqrt(2). Subnormal numbers are scaled up first.
    scale = f.mantissa + 1
    tiny = x < 2.0 ** (1 - f.bias)
    root = f.bits(math.sqrt(0.5))
    shifted = select(tiny, x * 2.0**scale, x).bits(f.integer) + (f.bits(1.0) - root)
    m = ((shifted & ((1 << f.mantissa) - 1)) + root).bits(f.real)
    # An integer below 2^mantissa becomes a number when it is written into the mantissa of 2^mantissa.
    base = 2.0**f.mantissa
    k = ((shifted >> f.mantissa) | ((f.bias + f.mantissa) << f.mantissa)).bits(f.real)
    k = k - select(tiny, x.constant(base + f.bias + scale), base + f.bias)

    # log(1 + t) = 2 s + s R = t - (t^2/2 - s (t^2/2 + R)): the exact t carries the result, the rest is small beside it.
    t = m - 1.0
    s = t / (t + 2.0)
    z = s * s
    square = 0.5 * t * t
    high, low = coefficients.LN2[f.name]
    rest = s * (square + z * polynomial(z, coefficients.LOG[f.name])) + k * low
    result = k * high - ((square - rest) - t)
    result = select(x < math.inf, result, x)
    return select(x.constant(0.0) < x, result, select(x.equals(0.0), x.constant(-math.inf), math.nan))


def sin(x: Value, f: Format) -> Value:
    return quarter_wave(x, f, 0)


def cos(x: Value, f: Format) -> Value:
    return quarter_wave(x, f, 1)


def quarter_wave(x: Value, f: Format, ahead: int) -> Value:
    """sin(x + ahead pi/2)."""
    r, rest, sign, quadrant = reduce(x, f)
    quadrant = quadrant + ahead
    sine, cosine = sine_and_cosine(r, rest, f.name)
    # The sine changes its sign with r and the cosine does not; both do in the second half of the circle.
    odd = (quadrant & 1).equals(1)
    flip = select(odd, 0, sign) ^ ((quadrant & 2) << (f.integer.width - 2))
    return (select(odd, cosine, sine).bits(f.integer) ^ flip).bits(f.real)


def sine_and_cosine(r: Value, rest: Value, precision: str) -> tuple[Value, Value]:
    """Of r + rest, from 0 to pi/4, with as many terms as the format of the name `precision` needs."""
    z = r * r
    sine = r + (rest + r * z * polynomial(z, coefficients.SIN[precision]))
    # 1 - z/2 is rounded, and what that loses is put back with the small terms.
    half = 0.5 * z
    near = 1.0 - half
    return sine, near + (((1.0 - near) - half) + (z * z * polynomial(z, coefficients.COS[precision]) - r * rest))
