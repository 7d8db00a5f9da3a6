"""Arithmetic that LLVM leaves undefined: what the passes that define it write, and the values that come of it."""

from __future__ import annotations

import ctypes
import itertools
import math
import re

import pytest
from task_texts import body, function, text

llvm = pytest.importorskip("llvmlite.binding")

from tiaot.export.author.sizes import number  # noqa: E402
from tiaot.export.entry.code import Code  # noqa: E402
from tiaot.export.ir.passes.divisions import define_divisions  # noqa: E402
from tiaot.export.ir.passes.finish import finish  # noqa: E402
from tiaot.export.ir.passes.shifts import define_shifts  # noqa: E402
from tiaot.export.ir.reader import read_function  # noqa: E402
from tiaot.export.ir.values import LoweringError  # noqa: E402
from tiaot.export.ir.writer import write_function  # noqa: E402

BITS = (8, 16, 32, 64)
C_TYPES = {8: ctypes.c_int8, 16: ctypes.c_int16, 32: ctypes.c_int32, 64: ctypes.c_int64}


def compiled(line: str, parameters: str, result: str, optimise: int):
    """A function `f` of one instruction, `%r = LINE`, behind the passes, as an engine that has its code."""
    lines = f"define {result} @f({parameters}) {{\nentry:\n%r = {line}\nret {result} %r\n}}"
    return engine_of(write_function(finish(read_function(lines))), optimise)


def engine_of(lines: str, optimise: int):
    """What has the code of some functions; it must be kept alive."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module = llvm.parse_assembly(lines)
    machine = llvm.Target.from_default_triple().create_target_machine(opt=optimise)
    options = llvm.create_pipeline_tuning_options(optimise)
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    return engine


def signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def quotient(a: int, b: int, bits: int, of_signed: bool) -> int:
    if not of_signed:
        a, b = a & ((1 << bits) - 1), b & ((1 << bits) - 1)
    if b == 0:
        return 0
    return signed(abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1), bits)


def remainder(a: int, b: int, bits: int, of_signed: bool) -> int:
    if not of_signed:
        a, b = a & ((1 << bits) - 1), b & ((1 << bits) - 1)
    return signed(a if b == 0 else a - b * (abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)), bits)


def shifted(a: int, b: int, bits: int, opcode: str) -> int:
    amount = b & ((1 << bits) - 1)
    if opcode == "shl":
        return signed(a << amount, bits) if amount < bits else 0
    if opcode == "lshr":
        return signed((a & ((1 << bits) - 1)) >> amount, bits)
    return a >> min(amount, bits - 1)


EXPECTED = {
    "sdiv": lambda a, b, bits: quotient(a, b, bits, True),
    "udiv": lambda a, b, bits: quotient(a, b, bits, False),
    "srem": lambda a, b, bits: remainder(a, b, bits, True),
    "urem": lambda a, b, bits: remainder(a, b, bits, False),
    **{opcode: lambda a, b, bits, opcode=opcode: shifted(a, b, bits, opcode) for opcode in ("shl", "lshr", "ashr")},
}


@pytest.mark.parametrize("optimise", [0, 3])
@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("opcode", EXPECTED)
def test_integer_arithmetic_is_defined_for_all_operands(opcode: str, bits: int, optimise: int):
    least, most = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    values = [least, least + 1, -7, -2, -1, 0, 1, 2, 7, bits - 1, bits, bits + 1, most - 1, most]
    kind = C_TYPES[bits]
    engine = compiled(f"{opcode} i{bits} %a, %b", f"i{bits} %a, i{bits} %b", f"i{bits}", optimise)
    call = ctypes.CFUNCTYPE(kind, kind, kind)(engine.get_function_address("f"))
    for a, b in itertools.product(values, values):
        assert call(a, b) == EXPECTED[opcode](a, b, bits), f"{a} {opcode} {b}"
        if "div" in opcode:  # what is always so
            rest = EXPECTED[opcode.replace("div", "rem")](a, b, bits)
            assert signed(b * call(a, b) + rest, bits) == a


@pytest.mark.parametrize("divisor", [0, -1, 1, 7])
@pytest.mark.parametrize("opcode", ["sdiv", "udiv", "srem", "urem"])
def test_divisions_by_constants_are_defined(opcode: str, divisor: int):
    engine = compiled(f"{opcode} i32 %a, {divisor}", "i32 %a", "i32", 3)
    call = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_int32)(engine.get_function_address("f"))
    for a in (-(2**31), -9, 0, 9, 2**31 - 1):
        assert call(a) == EXPECTED[opcode](a, divisor, 32)


def test_the_divisor_that_is_used_follows_from_the_divisor_alone():
    assert body(define_divisions(function("%5 = sdiv i32 %i, %j"))) == text("""
        %v5.by0 = icmp eq i32 %j, 0
        %v5.not0 = select i1 %v5.by0, i32 1, i32 %j
        %v5.by-1 = icmp eq i32 %j, -1
        %v5.divisor = select i1 %v5.by-1, i32 1, i32 %v5.not0
        %v5.plain = sdiv i32 %i, %v5.divisor
        %v5.minus = sub i32 0, %i
        %v5.signed = select i1 %v5.by-1, i32 %v5.minus, i32 %v5.plain
        %n5 = select i1 %v5.by0, i32 0, i32 %v5.signed
    """)


SAFE_DIVISORS = {
    "%r = sdiv i32 %i, 7": True,
    "%r = sdiv i32 %i, -2": True,
    "%r = urem i32 %i, 7": True,
    "%d = call i32 @max_i32(i32 %j, i32 512)\n%r = sdiv i32 %i, %d": True,
    "%d = call i32 @max_i32(i32 512, i32 %j)\n%e = zext i32 %d to i64\n%r = sdiv i64 9, %e": True,
    "%d = call i32 @min_i32(i32 4, i32 512)\n%r = srem i32 %i, %d": True,
    "%d = select i1 true, i32 3, i32 9\n%r = srem i32 %i, %d": True,
    "%d = call i32 @min_i32(i32 %j, i32 512)\n%r = sdiv i32 %i, %d": False,
    "%d = call i32 @max_i32(i32 %j, i32 0)\n%r = sdiv i32 %i, %d": False,
    "%d = select i1 true, i32 3, i32 %j\n%r = srem i32 %i, %d": False,
    "%d = add i32 %j, 1\n%r = sdiv i32 %i, %d": False,
    "%d = trunc i64 4294967296 to i32\n%r = sdiv i32 %i, %d": False,
    "%r = sdiv i32 %i, undef": False,
}


@pytest.mark.parametrize("lines", SAFE_DIVISORS)
def test_divisions_by_what_is_known_to_be_positive_cost_nothing(lines: str):
    found = function(lines)
    assert (define_divisions(found) is found) == SAFE_DIVISORS[lines]


@pytest.mark.parametrize(
    ("amount", "kept"), [("0", True), ("31", True), ("32", False), ("-1", False), ("undef", False)]
)
def test_shifts_by_known_amounts_cost_nothing(amount: str, kept: bool):
    found = function(f"%r = shl i32 %i, {amount}")
    assert (define_shifts(found) is found) == kept


def test_vectors_are_divided_and_shifted_too():
    found = function("%r = sdiv <2 x i32> %v, %w\n%s = shl <2 x i32> %r, %w", "<2 x i32> %v, <2 x i32> %w")
    lines = write_function(finish(found))
    assert "icmp eq <2 x i32> %w, zeroinitializer" in lines and "<2 x i32> <i32 31, i32 31>" in lines
    llvm.parse_assembly(lines).verify()


FLOATS = [
    0.0,
    -0.0,
    0.5,
    -0.5,
    1.0,
    -1.0,
    2.9,
    -2.9,
    127.0,
    128.0,
    -128.0,
    -129.0,
    255.0,
    256.0,
    3e9,
    -3e9,
    1e20,
    -1e20,
]


@pytest.mark.parametrize("optimise", [0, 3])
@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("opcode", ["fptosi", "fptoui"])
@pytest.mark.parametrize("kind", ["float", "double"])
def test_conversions_to_integers_give_the_nearest_one_and_0_for_nan(kind: str, opcode: str, bits: int, optimise: int):
    engine = compiled(f"{opcode} {kind} %x to i{bits}", f"{kind} %x", f"i{bits}", optimise)
    given = ctypes.c_float if kind == "float" else ctypes.c_double
    call = ctypes.CFUNCTYPE(C_TYPES[bits], given)(engine.get_function_address("f"))
    least, most = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if opcode == "fptosi" else (0, (1 << bits) - 1)
    for value in [*FLOATS, math.inf, -math.inf, math.nan, 2.0 ** (bits - 1), -(2.0 ** (bits - 1)), 2.0**bits]:
        x = given(value).value
        if math.isnan(x):
            expected = 0
        elif math.isinf(x):
            expected = most if x > 0 else least
        else:
            expected = min(max(int(x), least), most)
        assert call(x) == signed(expected, bits), value


def test_float16_and_vectors_are_converted_too():
    found = function("%r = fptosi half %h to i32\n%s = fptoui <2 x float> %v to <2 x i8>", "half %h, <2 x float> %v")
    whole = write_function(finish(found))
    llvm.parse_assembly(whole).verify()
    assert "%r.wide = fpext half %h to float" in whole
    assert "<2 x float> <float 0x406FE00000000000, float 0x406FE00000000000>" in whole


@pytest.mark.parametrize("text", ["n // m", "(n + 7) // m", "(3 - n) // m", "n // 3", "(n - 5) // 4 * m", "7 // m"])
def test_sizes_are_rounded_down_and_0_where_they_are_divided_by_0(text: str):
    code = Code({"n": "%n", "m": "%m"})
    code.do(f"ret i64 {code.expression(text)}")
    lines = "\n".join(["define i64 @f(i64 %n, i64 %m) {", *code.lines, "}"])
    engine = engine_of(lines, 3)
    call = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)(engine.get_function_address("f"))
    for n, m in itertools.product((0, 1, 4, 5, 100), (0, 1, 3, 7)):
        divides_by_0 = m == 0 and "// m" in text
        expected = 0 if divides_by_0 else eval(text, {}, {"n": n, "m": m})
        assert call(n, m) == expected == number(text, {"n": n, "m": m})


@pytest.mark.parametrize("text", ["n / 2", "k", "n ** 2", "f(n)", "n +", "1.5", "-n", "True"])
def test_what_is_no_size_is_refused(text: str):
    message = f"scratch size {text!r}: expected dimensions, `rows`, numbers, + - * // ()"
    with pytest.raises(LoweringError, match=re.escape(message)):
        Code({"n": "%n"}).expression(text)
    with pytest.raises(ValueError, match=re.escape(message.removeprefix("scratch "))):
        number(text, {"n": 3})
