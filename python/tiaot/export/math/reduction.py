"""Argument reduction for sin and cos: x = q pi/2 + r, |r| <= pi/4, right for every finite x. Knows no polynomial.

A float x is an integer M times 2^e, and only (2^e 2/pi mod 4) matters, since M times any multiple of 4 is whole turns.
Those residues are windows into the binary digits of 2/pi, so that huge arguments cost what small ones do.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

from llvmlite import ir

from . import coefficients, values
from .values import Format, Value, select, table

I8, I32, I64, F64 = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.DoubleType()
DIGITS = 1200  # binary digits of 2/pi that are kept


@functools.cache
def two_over_pi() -> int:
    """floor(2/pi 2^DIGITS)."""
    guard = DIGITS + 64
    one = 1 << guard

    def arctan_of_inverse(n: int) -> int:
        term, total, k = one // n, 0, 1
        while term:
            total += term // k if k % 4 == 1 else -(term // k)
            term, k = term // (n * n), k + 2
        return total

    pi = 4 * (4 * arctan_of_inverse(5) - arctan_of_inverse(239))  # Machin's formula
    return (2 << (guard + DIGITS)) // pi


class Reduced(NamedTuple):
    """x = q pi/2 + s (r + rest), where s is 1 or -1."""

    r: Value  # from 0 to pi/4
    rest: Value  # what r lacks by its rounding; |rest| is tiny
    sign: Value  # of s, as the sign bit of an integer
    quadrant: Value  # an integer that is q modulo 4


def reduce(x: Value, f: Format) -> Reduced:
    return reduce_f32(x, f) if f.name == "f32" else reduce_f64(x, f)


def factors_f32(part: int) -> list[float]:
    """For each exponent field the factor of x: part 0 or 1 of ((2/pi 2^e mod 4) / 2^e) as a sum.

    Part 0 times 2^e is a multiple of 2^-28 in [-2, 2], so its product with a 24-bit integer is exact in float64.
    """
    turn = 4 << (DIGITS + 149)  # 4 in units of 2^-(DIGITS + 149)
    unit = turn >> 30
    result = []
    for field in range(256):
        e = max(field, 1) - 150
        residue = (two_over_pi() << (e + 149)) % turn
        residue -= turn if 2 * residue >= turn else 0
        high = (residue + unit // 2) // unit
        rest = 4 * (residue - high * unit) / turn  # Python rounds the quotient of integers to nearest
        result.append(math.ldexp(rest if part else high * 2.0**-28, -e))
    return result


def reduce_f32(x: Value, f: Format) -> Reduced:
    wide = reduce_f32_wide(x, f)
    r = wide.r.cast("fptrunc", f.real)
    lost = (wide.r - r.cast("fpext", F64)).cast("fptrunc", f.real)
    sign = (wide.sign >> 32).cast("trunc", I32)
    return Reduced(r, lost, sign, wide.quadrant.cast("trunc", I32))


def reduce_f32_wide(x: Value, f: Format) -> Reduced:
    """In float64: the product of x and the first factor is exact, and the second is precise enough for all float32."""
    field = ((x.bits(f.integer) >> f.mantissa) & 255).cast("zext", I64)
    parts = []
    for part in range(2):
        data = ir.Constant(ir.ArrayType(F64, 256), factors_f32(part))
        parts.append(field.load(table(x, f"tiaot_two_over_pi_f32_{part}", data), F64))
    wide = x.cast("fpext", F64)
    turns, rest = wide * parts[0], wide * parts[1]
    rounder = 1.5 * 2.0**52
    shifted = (turns + rest) + rounder
    bits = (((turns - (shifted - rounder)) + rest) * (math.pi / 2)).bits(I64)
    r = (bits & values.F64.magnitude).bits(F64)
    return Reduced(r, r.constant(0.0), bits & values.F64.sign, shifted.bits(I64))


def reduce_f64(x: Value, f: Format) -> Reduced:
    """In integers: M times a window of 2/pi, in limbs of 28 bits; no sum of their products exceeds 64 bits."""
    limb = (1 << 28) - 1
    bits = x.bits(f.integer)
    magnitude = bits & f.magnitude
    absolute = magnitude.bits(f.real)

    # |x| = M 2^(8 step - 1078) with step = field >> 3 and M < 2^60: the window, from the weight 2^1 down, then begins
    # at a byte of the table. Below pi/4 it would lie before the first digit, and the result is not used.
    field = magnitude >> f.mantissa
    field = select(field < 1022, 1022, field) + 3
    m = ((bits & ((1 << f.mantissa) - 1)) | (1 << f.mantissa)) << (field & 7)
    low, high = m & limb, (m >> 28) & 0xFFFFFFFF
    data = two_over_pi().to_bytes(DIGITS // 8 + 8, "little")
    digits = table(x, "tiaot_two_over_pi_f64", ir.Constant(ir.ArrayType(I8, len(data)), bytearray(data)))
    first = DIGITS // 8 + 128 - (field >> 3)
    words = [(first - 7 * k).load(digits, I64, align=1) for k in range(4)]  # 7 bytes of each are used
    window = [part & limb for word in words for part in (word >> 28, word)]

    # product[0] has the weights from 2^1 to 2^-26; what is above is whole turns. The rest is below 2^-137.
    product: list[Value] = []
    carry = (low * window[5] + high * window[6]) >> 28
    for k in (4, 3, 2, 1, 0):
        total = low * window[k] + high * window[k + 1] + carry
        product.insert(0, total & limb)
        carry = total >> 28
    quadrant = (product[0] + (1 << 25)) >> 26
    # A fraction above 1/2 is replaced by its distance to 1 (complemented), so that nothing cancels in the sum.
    above = 0 - ((product[0] >> 25) & 1)
    product[0] = product[0] & ((1 << 26) - 1)
    d = [((p ^ above) & limb) for p in product]
    d[0] = d[0] & ((1 << 25) - 1)
    numbers = [(p | (f.bias + f.mantissa) << f.mantissa).bits(f.real) - 2.0**f.mantissa for p in d]
    upper = numbers[0] * 2.0**-26 + numbers[1] * 2.0**-54
    lower = numbers[2] * 2.0**-82 + (numbers[3] * 2.0**-110 + numbers[4] * 2.0**-138)
    turns = upper + lower
    turns_rest = lower - (turns - upper)

    # Times pi/2: the product of the two short factors is exact.
    head = (turns.bits(f.integer) & -(1 << 27)).bits(f.real)
    pi_head, pi_rest = coefficients.HALF_PI["f64"]
    main = head * pi_head
    minor = head * pi_rest + ((turns - head) + turns_rest) * (math.pi / 2)
    r = main + minor
    rest = minor - (r - main)

    small = absolute < math.pi / 4
    r = select(absolute < math.inf, select(small, absolute, r), math.nan)
    rest = select(small, 0.0, rest)
    negative = bits & f.sign
    sign = negative ^ select(small, 0, above & f.sign)
    minus = 0 - (negative >> (f.integer.width - 1))
    return Reduced(r, rest, sign, select(small, 0, (quadrant ^ minus) - minus))
