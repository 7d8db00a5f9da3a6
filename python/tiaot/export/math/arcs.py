"""tan, asin, acos and atan2, each written once for float32 and float64. Knows nothing about Taichi.

For float32 they calculate in float64, with as many terms as float32 needs, and round once.
"""

from __future__ import annotations

import math

from . import coefficients
from .functions import sine_and_cosine
from .reduction import reduce, reduce_f32_wide
from .values import F64, Format, Value, polynomial, select, square_root

# pi/4 as a sum; the first part has 50 bits, so that its products with 0 to 4 are exact.
QUARTER_PI, QUARTER_PI_REST = float.fromhex("0x1.921fb54442d18p-1"), float.fromhex("0x1.1a62633145c07p-55")
# pi/2 as a sum of two numbers of full length.
HALF_PI, HALF_PI_REST = float.fromhex("0x1.921fb54442d18p+0"), float.fromhex("0x1.1a62633145c07p-54")
TAN_PI_8 = math.sqrt(2) - 1


def widen(x: Value, f: Format) -> Value:
    return x if f is F64 else x.cast("fpext", F64.real)


def narrow(x: Value, f: Format) -> Value:
    return x if f is F64 else x.cast("fptrunc", f.real)


def with_sign(magnitude: Value, sign: Value) -> Value:
    """`magnitude`, which is not negative, with the sign bit that the integer `sign` has."""
    return (magnitude.bits(F64.integer) | sign).bits(F64.real)


def absolute(x: Value) -> Value:
    return (x.bits(F64.integer) & F64.magnitude).bits(F64.real)


def tan(x: Value, f: Format) -> Value:
    reduced = reduce(x, f) if f is F64 else reduce_f32_wide(x, f)
    sine, cosine = sine_and_cosine(reduced.r, reduced.rest, f.name)
    odd = (reduced.quadrant & 1).equals(1)
    quotient = select(odd, cosine, sine) / select(odd, sine, cosine)
    sign = reduced.sign ^ select(odd, reduced.sign.constant(F64.sign), 0)
    return narrow((quotient.bits(F64.integer) ^ sign).bits(F64.real), f)


def half_angle(a: Value, f: Format) -> tuple[Value, Value, Value]:
    """(whether a > 1/2, s, asin(s) - s), where s is a, or sin of half the angle whose cosine is a."""
    large = a.constant(0.5) < a
    z = select(large, 0.5 - 0.5 * a, a * a)
    s = select(large, square_root(z), a)
    return large, s, s * z * polynomial(z, coefficients.ASIN[f.name])


def asin(x: Value, f: Format) -> Value:
    wide = widen(x, f)
    large, s, rest = half_angle(absolute(wide), f)
    big = HALF_PI - (2.0 * s + (2.0 * rest - HALF_PI_REST))
    return narrow(with_sign(select(large, big, s + rest), wide.bits(F64.integer) & F64.sign), f)


def acos(x: Value, f: Format) -> Value:
    wide = widen(x, f)
    negative = wide < 0.0
    large, s, rest = half_angle(absolute(wide), f)
    signed = with_sign(s, wide.bits(F64.integer) & F64.sign)
    middle = HALF_PI - (signed - (HALF_PI_REST - select(negative, 0.0 - rest, rest)))
    outer = select(negative, 2.0 * (HALF_PI - (s + (rest - HALF_PI_REST))), 2.0 * (s + rest))
    return narrow(select(large, outer, middle), f)


def atan2(y: Value, x: Value, f: Format) -> Value:
    wide_y, wide_x = widen(y, f), widen(x, f)
    up, along = absolute(wide_y), absolute(wide_x)
    swap = along < up
    less, more = select(swap, along, up), select(swap, up, along)
    if f is F64:  # their sum may be beyond the format
        scale = select(more.constant(2.0**1000) < more, more.constant(2.0**-4), 1.0)
        less, more = less * scale, more * scale
    # atan(less / more), from pi/8 on as pi/4 + atan((less - more) / (less + more)).
    equal = less.equals(more)
    turned = (more * TAN_PI_8 < less) | (equal & (less.constant(0.0) < less))
    dividend = select(equal, 0.0, select(turned, less - more, less))
    divisor = select(turned, less + more, more)
    t = dividend / select(divisor.equals(0.0), 1.0, divisor)
    z = t * t
    rest = t * z * polynomial(z, coefficients.ATAN[f.name])
    # From there to the octant of (x, y): a number of quarters of pi, and t forwards or backwards.
    left = wide_x.bits(F64.integer) < 0
    quarters = select(turned, t.constant(1.0), 0.0)
    quarters = select(swap, 2.0 + select(left, quarters, 0.0 - quarters), select(left, 4.0 - quarters, quarters))
    backwards = swap ^ left
    t, rest = select(backwards, 0.0 - t, t), select(backwards, 0.0 - rest, rest)
    angle = quarters * QUARTER_PI + (t + (rest + quarters * QUARTER_PI_REST))
    angle = with_sign(absolute(angle), wide_y.bits(F64.integer) & F64.sign)
    return narrow(select(wide_x.equals(wide_x) & wide_y.equals(wide_y), angle, wide_x + wide_y), f)
