"""Derives the constants of the math library (tiaot.export.math) and prints its coefficients.py.

    python benchmarks/fit_math.py > python/tiaot/export/math/coefficients.py

Needs mpmath. Stands beside check_math.py and not in the exporter, which uses no more than what this prints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from mpmath import mp, mpf

mp.dps = 60

PRECISION = {"f32": 24, "f64": 53}  # significant bits
Function = Callable[[mpf], mpf]


def rounded(value: mpf, bits: int) -> mpf:
    """`value` rounded to nearest with `bits` significant bits."""
    mantissa, exponent = mp.frexp(value)
    return mp.ldexp(mp.nint(mp.ldexp(mantissa, bits)), int(exponent) - bits)


def remez(function: Function, weight: Function, low: mpf, high: mpf, powers: Sequence[int]) -> list[mpf]:
    """The coefficients of x^p, p in `powers`, that minimise the maximum of |weight * (polynomial - function)|.

    Powers that do not start at 0 may have no alternating solution on an interval around 0: the best one met is given.
    """
    count = len(powers)
    middle, half = (low + high) / 2, (high - low) / 2
    grid = [middle - half * mp.cos(mp.pi * k / (24 * count + 23)) for k in range(24 * count + 24)]  # not the middle
    table = [(function(x), weight(x), [x**p for p in powers]) for x in grid]
    points = [12 + 24 * k for k in range(count + 1)]
    best: tuple[mpf, list[mpf]] = (mp.inf, [])
    for _ in range(20):
        system, right = mp.matrix(count + 1, count + 1), mp.matrix(count + 1, 1)
        for row, point in enumerate(points):
            right[row], scale, basis = table[point]
            for column in range(count):
                system[row, column] = basis[column]
            system[row, count] = (-1) ** row / scale
        solution = mp.lu_solve(system, right)
        errors = [w * (mp.fdot(solution[:count], basis) - f) for f, w, basis in table]
        best = min(best, (max(map(abs, errors)), list(solution[:count])), key=lambda pair: pair[0])
        extrema: list[int] = []  # where the error is largest in each run of one sign
        for k, error in enumerate(errors):
            if not extrema or (error < 0) != (errors[extrema[-1]] < 0):
                extrema.append(k)
            elif abs(error) > abs(errors[extrema[-1]]):
                extrema[-1] = k
        while len(extrema) > count + 1:
            extrema.pop(0 if abs(errors[extrema[0]]) < abs(errors[extrema[-1]]) else -1)
        if len(extrema) <= count or extrema == points:
            break
        points = extrema
    return best[1]


class Case(NamedTuple):
    """P with `counts[format]` coefficients, as near to `function` from `low` to `high` as |weight * error| can be."""

    meaning: str
    function: Function
    weight: Function
    low: mpf
    high: mpf
    counts: dict[str, int]


def fit(case: Case, name: str) -> tuple[list[mpf], float]:
    """The coefficients, lowest power first, as numbers of the format `name`, and the largest weighted error.

    They are rounded one by one, and those that are left are fitted again each time: it makes good for most of the
    rounding.
    """
    done: list[mpf] = []

    def residual(x: mpf) -> mpf:
        return case.function(x) - mp.polyval(done[::-1], x)

    while len(done) < case.counts[name]:
        first, *_ = remez(residual, case.weight, case.low, case.high, range(len(done), case.counts[name]))
        done.append(rounded(first, PRECISION[name]))
    grid = [case.low + (case.high - case.low) * k / 999 for k in range(1000)]
    return done, float(max(abs(case.weight(x) * residual(x)) for x in grid))


def near(function: Function) -> Function:
    """`function` with its removable singularity at 0 stepped around; 60 digits leave room for the cancellation."""
    return lambda x: function(x if abs(x) > mpf("1e-12") else mpf("1e-12"))


def odd(value: str, function: Function, end: mpf, counts: dict[str, int]) -> Case:
    """For an odd function with slope 1 at 0, such as `value` names: "sin x"; `end` is that of the squares."""
    x = value.split()[1]
    return Case(
        f"{value} = {x} + {x} z P(z), z = {x}^2, relative to {value}",
        near(lambda z: (function(mp.sqrt(z)) / mp.sqrt(z) - 1) / z),
        near(lambda z: z * mp.sqrt(z) / function(mp.sqrt(z))),
        mpf(0),
        end,
        counts,
    )


LN2_HALF = mp.log(2) / 2 * mpf("1.0001")  # the rounding of x / ln 2 may go the other way
TANH_POLYNOMIAL_END = mpf("0.75")  # where functions.tanh goes over to the exponential

CASES = {
    "EXP": Case(
        "e^r - 1 = r + r^2 P(r), relative to e^r",
        near(lambda r: (mp.expm1(r) - r) / r**2),
        near(lambda r: r**2 / mp.exp(r)),
        -LN2_HALF,
        LN2_HALF,
        {"f32": 5, "f64": 10},
    ),
    "TANH": odd("tanh x", mp.tanh, TANH_POLYNOMIAL_END**2, {"f32": 6, "f64": 13}),
    "LOG": Case(
        "log(1 + f) = 2 s + s z P(z), s = f / (2 + f), z = s^2, relative to log(1 + f)",
        near(lambda z: (2 * mp.atanh(mp.sqrt(z)) / mp.sqrt(z) - 2) / z),
        near(lambda z: z * mp.sqrt(z) / mp.atanh(mp.sqrt(z)) / 2),
        mpf(0),
        ((mp.sqrt(2) - 1) / (mp.sqrt(2) + 1)) ** 2,
        {"f32": 3, "f64": 7},
    ),
    "SIN": odd("sin r", mp.sin, (mp.pi / 4) ** 2 * mpf("1.0001"), {"f32": 3, "f64": 6}),
    "COS": Case(
        "cos r = 1 - z/2 + z^2 P(z), z = r^2, relative to cos r",
        near(lambda z: (mp.cos(mp.sqrt(z)) - 1 + z / 2) / z**2),
        near(lambda z: z**2 / mp.cos(mp.sqrt(z))),
        mpf(0),
        (mp.pi / 4) ** 2 * mpf("1.0001"),
        {"f32": 3, "f64": 6},
    ),
    "ASIN": odd("asin x", mp.asin, mpf("0.25") * mpf("1.0001"), {"f32": 5, "f64": 12}),
    "ATAN": odd("atan x", mp.atan, (mp.sqrt(2) - 1) ** 2 * mpf("1.0001"), {"f32": 5, "f64": 11}),
}


def split(value: mpf, bits: int, name: str) -> list[mpf]:
    """`value` as a sum: its first `bits` bits, cut off so that products with a short factor are exact, and the rest."""
    exponent = int(mp.frexp(value)[1])
    high = mp.ldexp(mp.floor(mp.ldexp(value, bits - exponent)), exponent - bits)
    return [high, rounded(value - high, PRECISION[name])]


# A number that is needed as a sum, and the bits of the first part in each format.
SUMS = {
    # Its factor is an exponent: up to 8 and 11 bits.
    "LN2": (mp.log(2), {"f32": 16, "f64": 42}),
    # Its factor is cut to 26 bits.
    "HALF_PI": (mp.pi / 2, {"f64": 27}),
}


def print_numbers(name: str, values: Sequence[mpf], comment: str = "") -> None:
    print(f'    "{name}": ({comment}')
    for value in values:
        print(f'        float.fromhex("{float(value).hex()}"),')
    print("    ),")


def main() -> None:
    print('"""The constants of the math library. Printed by benchmarks/fit_math.py and not edited."""')
    for key, (value, bits) in SUMS.items():
        print(f"\n{key} = {{  # a sum of two parts; the first has {' and '.join(map(str, bits.values()))} bits")
        for name, count in bits.items():
            print_numbers(name, split(value, count, name))
        print("}")
    for key, case in CASES.items():
        print(f"\n# {case.meaning}.")
        print(f"# Lowest power first, for {float(case.low):.4f} <= argument <= {float(case.high):.4f}.")
        print(f"{key} = {{")
        for name in case.counts:
            coefficients, error = fit(case, name)
            print_numbers(name, coefficients, f"  # largest error {error:.1e}")
        print("}")


if __name__ == "__main__":
    main()
