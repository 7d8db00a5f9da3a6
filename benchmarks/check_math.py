"""Checks the math library (tiaot.export.math) for accuracy and speed at each CPU level that this machine has.

    python benchmarks/check_math.py [tanh_f32 exp_f64 ...] [--quick]

A float32 function of one argument is evaluated at each of the 2^32 inputs and held against NumPy's float64 function;
one of two, and a float64 function, at a large sample, the latter against NumPy's 80-bit one. Both references are held
against mpmath on a sample first. Prints the largest error in ULP, where it is, and nanoseconds a value; exits with 1
when a bound is broken. --quick takes a sample of float32 as well. Needs llvmlite and mpmath; knows nothing of kernels.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import math
import sys
import timeit
from collections.abc import Iterator

import llvmlite.binding as llvm
import numpy as np
from tiaot.export.math import FUNCTIONS, definitions, reduction

BOUND = {  # ULP
    name: 1.5 if name.endswith("f32") else 3.0 if name in ("tan_f64", "atan2_f64") else 2.0 for name in FUNCTIONS
}
DTYPES = {"f32": np.float32, "f64": np.float64}
REFERENCE = {"f32": np.float64, "f64": np.longdouble}
# What /proc/cpuinfo calls the features that each level adds.
LEVELS = {
    "x86-64-v2": {"sse4_2", "ssse3", "popcnt", "cx16"},
    "x86-64-v3": {"avx2", "fma", "bmi1", "bmi2", "f16c", "movbe"},
    "x86-64-v4": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
}
LOOP = """
define void @loop_{name}(i64 %count{parameters}, {type}* noalias %y) {{
entry:
  %some = icmp sgt i64 %count, 0
  br i1 %some, label %body, label %done
body:
  %i = phi i64 [ 0, %entry ], [ %next, %body ]
{loads}
  %to = getelementptr {type}, {type}* %y, i64 %i
  %result = call {type} @{name}({values})
  store {type} %result, {type}* %to
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %count
  br i1 %more, label %body, label %done
done:
  ret void
}}
"""


def available_levels() -> list[str]:
    with open("/proc/cpuinfo") as file:
        flags = next(set(line.split()) for line in file if line.startswith("flags"))
    return [level for level, needed in LEVELS.items() if needed <= flags]


def _loop(name: str) -> str:
    kind = "float" if name.endswith("f32") else "double"
    places = range(FUNCTIONS[name].arguments)
    return LOOP.format(
        name=name,
        type=kind,
        parameters="".join(f", {kind}* noalias %x{k}" for k in places),
        loads="\n".join(
            f"  %from{k} = getelementptr {kind}, {kind}* %x{k}, i64 %i\n  %value{k} = load {kind}, {kind}* %from{k}"
            for k in places
        ),
        values=", ".join(f"{kind} %value{k}" for k in places),
    )


def compile_loops(names: list[str], level: str) -> tuple[llvm.ExecutionEngine, str]:
    """An engine with `loop_NAME(count, x, y)` for each function, compiled for a CPU level, and its assembly."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    loops = [_loop(name) for name in names]
    module = llvm.parse_assembly(definitions(names) + "".join(loops))
    machine = llvm.Target.from_default_triple().create_target_machine(cpu=level, opt=3, jit=True)
    options = llvm.create_pipeline_tuning_options(3)
    options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = True
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    assembly = machine.emit_assembly(module)
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    return engine, assembly


class Library:
    """The named functions compiled for one CPU level, each in a loop over an array."""

    def __init__(self, names: list[str], level: str) -> None:
        self._engine, _ = compile_loops(names, level)
        self.loops = {}
        for name in names:
            pointers = [ctypes.c_void_p] * (FUNCTIONS[name].arguments + 1)
            prototype = ctypes.CFUNCTYPE(None, ctypes.c_int64, *pointers)
            self.loops[name] = prototype(self._engine.get_function_address(f"loop_{name}"))

    def __call__(self, name: str, x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """f(x) for x of the function's dtype: one-dimensional, for a function of two arguments with a row for each."""
        rows = [np.ascontiguousarray(row) for row in np.atleast_2d(x)]
        y = np.empty_like(rows[0]) if out is None else out
        self.loops[name](y.size, *(row.ctypes.data for row in rows), y.ctypes.data)
        return y


def error_in_ulp(result: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """|result - exact| in units in the last place of the exact value, which has a wider type; inf for a wrong special.

    An infinity counts as the power of two behind the largest finite number, on both sides. The sign of a zero matters,
    and so does NaN.
    """
    info, wide = np.finfo(result.dtype), exact.dtype.type
    behind = wide(2) ** info.maxexp
    with np.errstate(all="ignore"):
        _, exponent = np.frexp(exact)
        ulp = np.ldexp(wide(1), np.clip(exponent, info.minexp + 1, info.maxexp) - info.nmant - 1)
        error = np.abs(np.clip(result.astype(wide), -behind, behind) - np.clip(exact, -behind, behind)) / ulp
    error = np.where(np.isnan(result) & np.isnan(exact), 0.0, np.where(np.isnan(error), np.inf, error))
    wrong_infinity = np.isinf(exact) & ~np.isinf(result)
    wrong_zero = (exact == 0) & ((result != 0) | (np.signbit(result) != np.signbit(exact)))
    return np.where(wrong_infinity | wrong_zero, np.inf, error).astype(np.float64)


def reference(name: str, x: np.ndarray) -> np.ndarray:
    function, kind = name.split("_")
    named = {"asin": "arcsin", "acos": "arccos", "atan2": "arctan2", "pow": "power"}
    with np.errstate(all="ignore"):
        return getattr(np, named.get(function, function))(*np.atleast_2d(x).astype(REFERENCE[kind]))


@functools.cache
def near_multiples_of_half_pi(dtype: type) -> np.ndarray:
    """For each exponent the M 2^e that come nearest to a multiple of pi/2: there the reduction loses the most digits.

    M is a denominator of a convergent of 2^e 2/pi.
    """
    info = np.finfo(dtype)
    found = []
    for e in range(info.maxexp - info.nmant):
        p, q = reduction.two_over_pi() << e, 1 << reduction.DIGITS
        before, m = 1, 0
        while m < 2 << info.nmant:
            if m >> (info.nmant - 2):
                found.append(math.ldexp(m, e))
            digit, rest = divmod(p, q)
            p, q = q, rest
            before, m = m, digit * m + before
    return np.array(found, np.float64)[np.array(found) <= info.max].astype(dtype)


def sample(name: str, count: int) -> np.ndarray:
    """About `count` inputs for a function: special values, neighbours of powers of two, and random numbers.

    Of the random ones a part has any bits, and a part is where the function changes. For two arguments all special
    values meet each other, and a second row is drawn like the first.
    """
    function, kind = name.split("_")
    if FUNCTIONS[name].arguments == 2:
        return _pairs(function, kind, count)
    dtype, rng = DTYPES[kind], np.random.default_rng(0)
    info = np.finfo(dtype)
    tiny, huge = info.smallest_subnormal, info.max
    special = np.array([0, tiny, 2 * tiny, info.tiny - tiny, info.tiny, huge, np.inf, np.nan, 0.75, np.pi / 4], dtype)
    powers = np.ldexp(dtype(1), np.arange(info.minexp - info.nmant, info.maxexp)).astype(dtype)
    multiples = (np.arange(1, 2000) * (np.pi / 4)).astype(dtype)
    halves = (np.arange(1, 2200) * (np.log(2) / 2)).astype(dtype)
    points = np.concatenate([special, powers, multiples, halves, near_multiples_of_half_pi(dtype)])
    with np.errstate(over="ignore"):
        points = np.concatenate([points, np.nextafter(points, dtype(np.inf)), np.nextafter(points, dtype(0))])
    limit = {"tanh": 12, "exp": 760 if kind == "f64" else 110, "log": 4, "asin": 1, "acos": 1}.get(function, 100)
    bits = rng.integers(0, 256, count // 2 * dtype().itemsize, dtype=np.uint8).view(dtype)
    wide, narrow = rng.uniform(-limit, limit, count // 4), rng.normal(0, 1, count // 4)
    return np.concatenate([points, -points, bits, wide.astype(dtype), narrow.astype(dtype)])


def _pairs(function: str, kind: str, count: int) -> np.ndarray:
    dtype, rng = DTYPES[kind], np.random.default_rng(0)
    info = np.finfo(dtype)
    special = [0, info.smallest_subnormal, info.tiny, 1e-3, 0.5, np.nextafter(dtype(1), dtype(0)), 1, 1.5, 2, 3, 4]
    special += [2.0**22 + 0.5, 2.0**23 + 1, 2.0**24, 2.0**25 + 4, info.max, np.inf, np.nan]
    special = np.array([*special, *(-each for each in special)], dtype)
    met = np.stack(np.meshgrid(special, special)).reshape(2, -1)
    bits = rng.integers(0, 256, count // 4 * 2 * dtype().itemsize, dtype=np.uint8).view(dtype).reshape(2, -1)
    near = rng.normal(0, 1, (2, count // 4)).astype(dtype)
    if function == "pow":
        # Results of all sizes: bases of any exponent, and exponents that keep the result within the format.
        base = np.ldexp(rng.uniform(1, 2, count // 4), rng.integers(-info.maxexp, info.maxexp, count // 4)).astype(
            dtype
        )
        bound = 1.1 * info.maxexp / np.maximum(np.abs(np.log2(base.astype(np.float64))), 1e-3)
        scaled = np.stack([base, (rng.uniform(-1, 1, count // 4) * bound).astype(dtype)])
        whole = np.stack([rng.normal(0, 2, count // 8), rng.integers(-40, 40, count // 8)]).astype(dtype)
        return np.concatenate([met, bits, near, scaled, whole], axis=1)
    angle, size = rng.uniform(-np.pi, np.pi, count // 2), rng.integers(-60, 60, count // 2)
    polar = np.ldexp(np.stack([np.sin(angle), np.cos(angle)]), size).astype(dtype)
    return np.concatenate([met, bits, near, polar], axis=1)


def check_reference(name: str) -> float:
    """The largest error of the reference against mpmath on a sample, in ULP of the result's format."""
    from mpmath import mp, mpf

    function, kind = name.split("_")
    x = np.atleast_2d(sample(name, 1 << 13))
    expected = reference(name, x)
    sound = np.isfinite(x).all(axis=0) & np.isfinite(expected)
    x, expected = x[:, sound], expected[sound]
    worst = 0.0
    info = np.finfo(DTYPES[kind])
    with mp.workdps(40):
        for values, near in zip(x.T, expected, strict=True):
            if function == "exp" and abs(values[0]) > 800:
                continue
            exact = getattr(mp, {"pow": "power"}.get(function, function))(*(mpf(float(value)) for value in values))
            if not exact:
                continue
            mantissa, power = np.frexp(near)
            high = float(mantissa)
            error = abs(exact - mp.ldexp(mpf(high) + mpf(float(mantissa - high)), int(power)))
            exponent = max(int(mp.frexp(exact)[1]), info.minexp + 1)
            worst = max(worst, float(mp.ldexp(error, info.nmant + 1 - exponent)))
    return worst


class Largest:
    """The largest error met so far. A result with the bits of the rounded reference counts as half an ULP."""

    def __init__(self) -> None:
        self.error, self.at, self.result, self.exact = 0.5, None, None, None

    def update(self, x: np.ndarray, result: np.ndarray, exact: np.ndarray, nearest: np.ndarray) -> None:
        integer = np.dtype(f"u{x.itemsize}")
        where = np.flatnonzero(result.view(integer) != nearest.view(integer))
        error = error_in_ulp(result[where], exact[where])
        if error.size and error.max() > self.error:
            k = where[error.argmax()]
            self.error, self.at, self.result, self.exact = float(error.max()), x[..., k], result[k], exact[k]


def chunks(name: str, quick: bool) -> Iterator[np.ndarray]:
    if name.endswith("f32") and FUNCTIONS[name].arguments == 1 and not quick:
        step = 1 << 20
        for first in range(0, 1 << 32, step):
            yield np.arange(first, first + step, dtype=np.uint32).view(np.float32)
    else:
        x = sample(name, 1 << (20 if quick else 24))
        for first in range(0, x.shape[-1], 1 << 18):
            yield x[..., first : first + (1 << 18)]


def nanoseconds(library: Library, name: str) -> float:
    """For one value, in a loop over arrays that fit in the first-level cache: the best of many, less an empty call."""
    dtype = DTYPES[name[-3:]]
    x = np.abs(np.random.default_rng(0).normal(0, 2, 12288 // dtype().itemsize)).astype(dtype)
    y = np.empty_like(x)
    pointers = *[x.ctypes.data] * FUNCTIONS[name].arguments, y.ctypes.data
    loop = library.loops[name]

    def seconds(count: int) -> float:
        return min(timeit.repeat(lambda: loop(count, *pointers), number=20, repeat=200)) / 20

    return (seconds(x.size) - seconds(0)) / x.size * 1e9


def check(name: str, libraries: dict[str, Library], quick: bool) -> bool:
    """Prints a line for each level; whether the bound holds."""
    print(f"{name}: the reference is within {check_reference(name):.1e} ULP", flush=True)
    largest = {level: Largest() for level in libraries}
    count = 0
    for x in chunks(name, quick):
        exact = reference(name, x)
        with np.errstate(all="ignore"):
            nearest = exact.astype(x.dtype)
        count += x.shape[-1]
        for level, library in libraries.items():
            largest[level].update(x, library(name, x), exact, nearest)
    bound = BOUND[name]
    for level, library in libraries.items():
        worst = largest[level]
        where = f"at {worst.at!r}: {worst.result!r} for {worst.exact!r}"
        verdict = "" if worst.error <= bound else f"  MORE THAN {bound}"
        speed = f"{nanoseconds(library, name):.2f} ns a value"
        print(f"  {level}: {worst.error:.4f} ULP in {count} inputs, {where}; {speed}{verdict}", flush=True)
    return all(worst.error <= bound for worst in largest.values())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="FUNCTION", help=f"of {', '.join(FUNCTIONS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="a sample instead of all float32")
    options = parser.parse_args()
    names = options.names or list(FUNCTIONS)
    libraries = {level: Library(names, level) for level in available_levels()}
    results = [check(name, libraries, options.quick) for name in names]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
