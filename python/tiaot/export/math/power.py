"""pow for float32, calculated in float64 and rounded once. Knows nothing about Taichi.

For float64 it would need a logarithm of twice the precision: that one is libm's.
"""

from __future__ import annotations

import math

from . import coefficients
from .arcs import absolute, narrow, widen, with_sign
from .functions import log
from .values import F64, Format, Value, at_least, at_most, polynomial, select


def pow(x: Value, y: Value, f: Format) -> Value:
    base, exponent = widen(x, f), widen(y, f)
    size = absolute(base)
    e = exponent * (log(size, F64) * (1 / math.log(2)))
    # 2^e; beyond these limits it is infinite or zero as a float32.
    e = at_most(at_least(e, -200.0), 200.0)
    shifted = e + F64.rounder
    r = (e - (shifted - F64.rounder)) * math.log(2)
    p = r + r * r * polynomial(r, coefficients.EXP[f.name])
    scale = ((shifted.bits(F64.integer) + (F64.bias - 2 * (F64.bias + 1))) << F64.mantissa).bits(F64.real)
    result = (1.0 + p) * scale

    # A negative base has a power where the exponent is whole. From 2^24 on every exponent is whole and even.
    large = exponent.constant(2.0**24) < absolute(exponent) + 0.5
    rounder = 1.5 * 2.0**52
    whole = large | exponent.equals((exponent + rounder) - rounder)
    half = exponent * 0.5
    odd = whole ^ (large | half.equals((half + rounder) - rounder))
    negative = base.bits(F64.integer) < 0
    finite = (size.constant(0.0) < size) & (size < math.inf)
    result = select(negative & finite & (whole ^ whole.constant(1)), math.nan, result)
    sign = select(negative & odd, result.bits(F64.integer).constant(F64.sign), 0)
    result = with_sign(result, sign)
    # 1 to any power and any number to the power of 0 are 1, also where the other one is NaN, and so is -1 to an
    # infinite one.
    endless = base.equals(-1.0) & absolute(exponent).equals(math.inf)
    return narrow(select(base.equals(1.0) | exponent.equals(0.0) | endless, 1.0, result), f)
