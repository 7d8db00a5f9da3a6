"""The forward mode: small functions, run, against derivatives by hand; and what is refused, each with its line."""

import ctypes
import math
import re
from collections.abc import Callable, Sequence

import numpy as np
import pytest

llvm = pytest.importorskip("llvmlite.binding")

from tiaot.export.derivative.rules import real, rule_of  # noqa: E402
from tiaot.export.derivative.tangent import tangent  # noqa: E402
from tiaot.export.ir import types as t  # noqa: E402
from tiaot.export.ir.reader import read  # noqa: E402
from tiaot.export.ir.values import LoweringError  # noqa: E402
from tiaot.export.ir.writer import write  # noqa: E402
from tiaot.export.math import FUNCTIONS, definitions  # noqa: E402

SHADOWS = {"x": "dx", "y": "dy"}
HEAD = "define void @f(double* %x, double* %y, double* %dx, double* %dy, i64 %n) {"
LIBM = "\n".join(
    f"""declare double @{name}({", ".join(["double"] * count)})
define double @{name}_f64({", ".join(f"double %{i}" for i in range(count))}) {{
  %r = call double @{name}({", ".join(f"double %{i}" for i in range(count))})
  ret double %r
}}"""
    for name, count in (("pow", 2),)  # the one that the library does not have
)


def differentiated(text: str, shadows: dict[str, str] = SHADOWS) -> str:
    """The text with its function `f` differentiated."""
    module = read(text)
    called: dict = {}
    function = tangent(module.functions["f"], shadows, module.types, called)
    new = [each for name, each in called.items() if name not in module.functions]
    return write(module.with_functions(*new, function))


def run(text: str, x: Sequence[float], dx: Sequence[float], count: int, n: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """What f writes, and its tangents: of a function with HEAD's parameters."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    text = differentiated(text)
    ours = [name for name in FUNCTIONS if f"@{name}(" in text]
    for name in ours:
        text = "\n".join(line for line in text.splitlines() if not line.startswith(f"declare double @{name}("))
    declared = re.findall(r'^declare [^@]*@"?([\w.]+)', text, re.MULTILINE)
    module = llvm.parse_assembly(text + "\n" + definitions(ours, declared))
    module.verify()
    machine = llvm.Target.from_default_triple().create_target_machine()
    with llvm.create_mcjit_compiler(module, machine) as engine:
        engine.finalize_object()
        kind = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4, ctypes.c_int64)
        arrays = [np.array(x, float), np.full(count, 7.0), np.array(dx, float), np.full(count, 7.0)]
        kind(engine.get_function_address("f"))(*(each.ctypes.data for each in arrays), n)
    return arrays[1], arrays[3]


def of_call(name: str, arguments: int) -> str:
    loads = "".join(
        f"""
  %p{i} = getelementptr double, double* %x, i64 {i}
  %a{i} = load double, double* %p{i}"""
        for i in range(arguments)
    )
    given = ", ".join(f"double %a{i}" for i in range(arguments))
    kinds = ", ".join(["double"] * arguments)
    declared = "" if f"@{name}(" in LIBM else f"declare double @{name}({kinds})\n"
    return f"""{declared}{LIBM}
{HEAD}{loads}
  %r = call double @{name}({given})
  store double %r, double* %y
  ret void
}}"""


def sech2(x: float) -> float:
    return 1 / math.cosh(x) ** 2


UNARY: list[tuple[str, Callable[[float], float], list[float]]] = [
    ("tanh_f64", sech2, [-2.0, 0.0, 0.3]),
    ("exp_f64", math.exp, [-2.0, 0.0, 1.5]),
    ("log_f64", lambda x: 1 / x, [0.25, 3.0]),
    ("sin_f64", math.cos, [-2.0, 0.0, 9.0]),
    ("cos_f64", lambda x: -math.sin(x), [-2.0, 0.0, 9.0]),
    ("tan_f64", lambda x: 1 / math.cos(x) ** 2, [-1.0, 0.0, 0.7]),
    ("asin_f64", lambda x: 1 / math.sqrt(1 - x * x), [-0.9, 0.0, 0.5]),
    ("acos_f64", lambda x: -1 / math.sqrt(1 - x * x), [-0.9, 0.0, 0.5]),
    ("llvm.sqrt.f64", lambda x: 0.5 / math.sqrt(x), [0.01, 4.0]),
    ("llvm.fabs.f64", lambda x: float(np.sign(x)), [-3.0, 0.0, 3.0]),
    ("llvm.exp.f64", math.exp, [0.5]),
    ("llvm.log.f64", lambda x: 1 / x, [0.5]),
    ("llvm.sin.f64", math.cos, [0.5]),
    ("llvm.cos.f64", lambda x: -math.sin(x), [0.5]),
    *((f"llvm.{name}.f64", lambda x: 0.0, [-1.3, 2.7]) for name in ("floor", "ceil", "trunc", "round", "rint")),
]


@pytest.mark.parametrize(("name", "slope", "points"), UNARY, ids=[each[0] for each in UNARY])
def test_a_function_of_one_number(name: str, slope: Callable[[float], float], points: list[float]) -> None:
    for x in points:
        _, dy = run(of_call(name, 1), [x], [1.5], 1)
        assert dy[0] == pytest.approx(1.5 * slope(x), rel=8e-16 * 8, abs=1e-300)


BINARY: list[tuple[str, Callable[[float, float], tuple[float, float]], list[tuple[float, float]]]] = [
    ("atan2_f64", lambda u, a: (a / (u * u + a * a), -u / (u * u + a * a)), [(1.0, 2.0), (-1.0, -0.5), (0.0, -1.0)]),
    ("pow_f64", lambda x, p: (p * x ** (p - 1), x**p * math.log(x)), [(2.0, 3.5), (0.5, -1.0)]),
    ("pow_f64", lambda x, p: (0.0, 0.0), [(0.0, 0.0)]),
    ("pow_f64", lambda x, p: (2 * x, 0.0), [(0.0, 2.0)]),
    ("llvm.pow.f64", lambda x, p: (p * x ** (p - 1), x**p * math.log(x)), [(2.0, 3.5)]),
    ("llvm.minnum.f64", lambda a, b: (float(a < b), float(a >= b)), [(1.0, 2.0), (2.0, 1.0), (1.0, 1.0)]),
    ("llvm.maxnum.f64", lambda a, b: (float(a > b), float(a <= b)), [(1.0, 2.0), (2.0, 1.0), (1.0, 1.0)]),
    ("llvm.maxnum.f64", lambda a, b: (1.0, 0.0), [(1.0, math.nan)]),
    ("llvm.copysign.f64", lambda a, b: (float(np.sign(a) * np.sign(b)), 0.0), [(2.0, -1.0), (-2.0, -1.0), (0.0, 1.0)]),
]


@pytest.mark.parametrize(("name", "slopes", "points"), BINARY, ids=[f"{each[0]}-{i}" for i, each in enumerate(BINARY)])
def test_a_function_of_two_numbers(
    name: str, slopes: Callable[[float, float], tuple[float, float]], points: list[tuple[float, float]]
) -> None:
    for point in points:
        first, second = slopes(*point)
        _, dy = run(of_call(name, 2), point, [1.5, -0.75], 1)
        assert dy[0] == pytest.approx(1.5 * first - 0.75 * second, rel=1e-14, abs=1e-300)


def test_a_product_that_is_added_in_one_operation() -> None:
    _, dy = run(of_call("llvm.fma.f64", 3), [2.0, 3.0, 5.0], [0.5, 0.25, 0.125], 1)
    assert dy[0] == 0.5 * 3 + 0.25 * 2 + 0.125


RSQRT = """
define double @__nv_rsqrt(double %x) noinline {
  %r = call double @llvm.sqrt.f64(double %x)
  %q = fdiv double 1.0, %r
  ret double %q
}
declare double @llvm.sqrt.f64(double)
"""


def test_functions_of_a_device_have_the_rules_of_others() -> None:
    from tiaot.export.derivative.rules import rule_of

    for name, other, relative in (
        ("__nv_expf", "exp_f32", "__nv_cosf"),
        ("__nv_exp", "exp_f64", "__nv_cos"),
        ("__nv_fmaxf", "max_f32", "__nv_cosf"),
        ("__nv_fabs", "abs_f64", "__nv_cos"),
    ):
        found, same = rule_of(name), rule_of(other)
        assert found is not None and same is not None
        assert found[0] is same[0] and found[1]("cos") == relative
    assert rule_of("__nv_erf") is rule_of("__nv_erff") is rule_of("__nv_f") is None
    _, dy = run(of_call("__nv_rsqrt", 1).replace("declare double @__nv_rsqrt(double)", RSQRT), [4.0], [1.5], 1)
    assert dy[0] == pytest.approx(-1.5 / 16, rel=1e-15)


def test_every_rule_has_a_test() -> None:
    from tiaot.export.derivative import rules

    tested = {each[0] for each in (*UNARY, *BINARY)} | {"llvm.fma.f64"}
    stems = {name.removeprefix("llvm.").removesuffix("_f64").removesuffix(".f64") for name in tested}
    same = {
        "abs": "fabs",
        "min": "minnum",
        "max": "maxnum",
        "fmuladd": "fma",
        "roundeven": "round",
        "nearbyint": "rint",
    }
    for stem in (*rules._FUNCTIONS, *rules._INTRINSICS):
        assert same.get(stem, stem) in stems or stem == "sgn", stem
    assert rule_of("erf_f64") is None and rule_of("llvm.ctlz.i64") is None and rule_of("tanh_i32") is None


ARITHMETIC = {
    "fadd": lambda a, b: (1.0, 1.0),
    "fsub": lambda a, b: (1.0, -1.0),
    "fmul": lambda a, b: (b, a),
    "fdiv": lambda a, b: (1 / b, -a / b**2),
    "frem": lambda a, b: (1.0, -math.trunc(a / b)),
}


@pytest.mark.parametrize("opcode", ARITHMETIC)
@pytest.mark.parametrize("form", ["%a, %b", "%a, 3.0", "7.0, %b"])
def test_arithmetic(opcode: str, form: str) -> None:
    a, b = 7.0, 3.0
    text = f"""{HEAD}
  %a = load double, double* %x
  %p = getelementptr double, double* %x, i64 1
  %b = load double, double* %p
  %r = {opcode} double {form.replace("3.0", "3.000000e+00").replace("7.0", "7.000000e+00")}
  store double %r, double* %y
  ret void
}}"""
    first, second = ARITHMETIC[opcode](a, b)
    _, dy = run(text, [a, b], [0.5, 0.25], 1)
    assert dy[0] == pytest.approx(0.5 * first * ("%a" in form) + 0.25 * second * ("%b" in form), rel=1e-15)


def test_a_loop_carries_its_tangent() -> None:
    """y = x[0]^n by a loop; the block behind stands before in the text."""
    text = f"""{HEAD}
entry:
  %a = load double, double* %x
  br label %test
body:
  %next = fmul double %power, %a
  %j = add i64 %i, 1
  br label %test
test:
  %i = phi i64 [ 0, %entry ], [ %j, %body ]
  %power = phi double [ 1.000000e+00, %entry ], [ %next, %body ]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %body, label %end
end:
  store double %power, double* %y
  ret void
}}"""
    y, dy = run(text, [1.5], [2.0], 1, n=7)
    assert y[0] == 1.5**7 and dy[0] == pytest.approx(2.0 * 7 * 1.5**6, rel=1e-15)


def test_conditions_choose_the_tangent_too() -> None:
    text = f"""{HEAD}
  %a = load double, double* %x
  %up = fcmp ogt double %a, 0.000000e+00
  %s = fmul double %a, %a
  %r = select i1 %up, double %s, double 4.000000e+00
  store double %r, double* %y
  ret void
}}"""
    assert run(text, [3.0], [1.0], 1)[1][0] == 6.0
    assert run(text, [-3.0], [1.0], 1)[1][0] == 0.0


def test_local_memory_is_shadowed_copied_and_cleared() -> None:
    text = f"""declare void @llvm.memcpy.p0i8.p0i8.i64(i8*, i8*, i64, i1)
declare void @llvm.memset.p0i8.i64(i8*, i8, i64, i1)
{HEAD}
  %room = alloca [2 x double]
  %raw = bitcast [2 x double]* %room to i8*
  %from = bitcast double* %x to i8*
  call void @llvm.memcpy.p0i8.p0i8.i64(i8* %raw, i8* %from, i64 16, i1 false)
  %p = getelementptr [2 x double], [2 x double]* %room, i64 0, i64 1
  %b = load double, double* %p
  %s = fmul double %b, %b
  store double %s, double* %y
  call void @llvm.memset.p0i8.i64(i8* %raw, i8 0, i64 16, i1 false)
  %c = load double, double* %p
  %q = getelementptr double, double* %y, i64 1
  store double %c, double* %q
  ret void
}}"""
    y, dy = run(text, [1.0, 3.0], [5.0, 0.5], 2)
    assert y.tolist() == [9.0, 0.0] and dy.tolist() == [3.0, 0.0]


def test_what_has_no_tangent_clears_what_it_is_copied_over_and_adds_none() -> None:
    text = f"""declare void @llvm.memcpy.p0i8.p0i8.i64(i8*, i8*, i64, i1)
@table = private constant double 4.000000e+00
{HEAD}
  %a = load double, double* %x
  store double %a, double* %y
  %to = bitcast double* %y to i8*
  call void @llvm.memcpy.p0i8.p0i8.i64(i8* %to, i8* bitcast (double* @table to i8*), i64 8, i1 false)
  %q = getelementptr double, double* %y, i64 1
  store double %a, double* %q
  %old = atomicrmw fadd double* %q, double 2.000000e+00 seq_cst
  ret void
}}"""
    y, dy = run(text, [3.0], [0.5], 2)
    assert y.tolist() == [4.0, 5.0] and dy.tolist() == [0.0, 0.5]


def test_bits_that_are_only_copied_keep_their_tangent() -> None:
    """As LLVM copies memory: by integers, through phis and casts of width."""
    text = f"""{HEAD}
  %from = bitcast double* %x to i64*
  %bits = load i64, i64* %from
  %to = bitcast double* %y to i64*
  store i64 %bits, i64* %to
  %again = bitcast i64 %bits to double
  %s = fmul double %again, %again
  %q = getelementptr double, double* %y, i64 1
  store double %s, double* %q
  store i64 0, i64* %from
  %none = load double, double* %x
  %r = getelementptr double, double* %y, i64 2
  store double %none, double* %r
  ret void
}}"""
    y, dy = run(text, [3.0], [0.5], 3)
    assert y.tolist() == [3.0, 9.0, 0.0] and dy.tolist() == [0.5, 3.0, 0.0]


def test_vectors_move_their_tangents() -> None:
    text = f"""{HEAD}
  %p = bitcast double* %x to <2 x double>*
  %v = load <2 x double>, <2 x double>* %p, align 8
  %w = shufflevector <2 x double> %v, <2 x double> undef, <2 x i32> <i32 1, i32 0>
  %m = fmul <2 x double> %v, %w
  %a = extractelement <2 x double> %m, i32 0
  %z = insertelement <2 x double> %w, double %a, i32 1
  %q = bitcast double* %y to <2 x double>*
  store <2 x double> %z, <2 x double>* %q, align 8
  ret void
}}"""
    y, dy = run(text, [2.0, 3.0], [0.5, 0.25], 2)
    assert y.tolist() == [3.0, 6.0] and dy.tolist() == [0.25, 0.5 * 3 + 0.25 * 2]


def test_atomic_sums_and_extrema() -> None:
    text = f"""define double @atomic_max_f64(double* %p, double %v) {{
  %old = load double, double* %p
  %more = fcmp ogt double %v, %old
  %r = select i1 %more, double %v, double %old
  store double %r, double* %p
  ret double %old
}}
{HEAD}
  %a = load double, double* %x
  %s = fmul double %a, %a
  store double 1.000000e+00, double* %y
  %old = atomicrmw fadd double* %y, double %s seq_cst
  %q = getelementptr double, double* %y, i64 1
  store double 2.000000e+00, double* %q
  %one = call double @atomic_max_f64(double* %q, double 1.000000e+00)
  %two = call double @atomic_max_f64(double* %q, double %s)
  ret void
}}"""
    y, dy = run(text, [3.0], [0.5], 2)
    assert y.tolist() == [10.0, 9.0] and dy.tolist() == [3.0, 3.0]
    assert run(text, [1.0], [0.5], 2)[1].tolist() == [1.0, 0.0]


def test_what_does_not_depend_on_the_inputs_costs_nothing() -> None:
    text = """define void @f(double* %x, double* %y, double* %c, double* %dx, double* %dy) {
  %a = load double, double* %c
  %b = fmul double %a, %a
  %d = load double, double* %x
  %e = fadd double %d, %b
  store double %e, double* %y
  ret void
}"""
    done = differentiated(text)
    assert done.count("fmul") == 1 and done.count("fadd") == 1 and done.count("load double") == 3


REFUSED = {
    "the bits of a number, computed": (
        """  %a = load double, double* %x
  %b = bitcast double %a to i64
  %c = and i64 %b, 9223372036854775807
  %d = bitcast i64 %c to double
  store double %d, double* %y""",
        "it makes a number of bits that were computed",
    ),
    "the bits of a number, computed and stored": (
        """  %a = load double, double* %x
  %b = bitcast double %a to i64
  %c = and i64 %b, 9223372036854775807
  %q = bitcast double* %y to i64*
  store i64 %c, i64* %q""",
        "it stores bits that were computed",
    ),
    "loaded bits, computed": (
        """  %p = bitcast double* %x to i64*
  %b = load i64, i64* %p
  %c = and i64 %b, 9223372036854775807
  %d = bitcast i64 %c to double
  store double %d, double* %y""",
        "it makes a number of bits that were computed",
    ),
    "a pointer from an integer": (
        """  %p = inttoptr i64 %n to double*
  %a = load double, double* %p
  store double %a, double* %y""",
        "it makes a pointer of an integer",
    ),
    "an unknown function": (
        """  %a = load double, double* %x
  %b = call double @erf(double %a)
  store double %b, double* %y""",
        "'erf' has no rule",
    ),
    "a function that is given memory": (
        "  call void @sort(double* %y)",
        "'sort' is given memory that has tangents",
    ),
    "a store where there is no tangent": (
        """  %a = load double, double* %x
  store double %a, double* %z""",
        "it stores what has a tangent where there is no room for one",
    ),
    "a copy to where there is no tangent": (
        """  %a = bitcast double* %x to i8*
  %b = bitcast double* %z to i8*
  call void @llvm.memcpy.p0i8.p0i8.i64(i8* %b, i8* %a, i64 8, i1 false)""",
        "it copies what has tangents to where there is no room",
    ),
    "a choice between memory with and without": (
        """  %c = icmp eq i64 %n, 0
  %p = select i1 %c, double* %x, double* %z
  %a = load double, double* %p
  store double %a, double* %y""",
        "it chooses between memory with tangents and memory without",
    ),
    "an exchange": (
        """  %p = bitcast double* %y to i64*
  %a = cmpxchg i64* %p, i64 0, i64 1 seq_cst seq_cst""",
        "it exchanges memory that has tangents",
    ),
    "a pointer without tangents in memory": (
        """  %a = alloca double*
  store double* %z, double** %a""",
        "it stores a pointer to memory that has no tangents",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_it_refuses(what: str) -> None:
    body, why = REFUSED[what]
    text = f"""declare double @erf(double)
declare void @sort(double*)
declare void @llvm.memcpy.p0i8.p0i8.i64(i8*, i8*, i64, i1)
define void @f(double* %x, double* %y, double* %z, double* %dx, double* %dy, i64 %n) {{
{body}
  ret void
}}"""
    with pytest.raises(LoweringError, match=r"\(line \d+ of 'f'\)") as error:
        differentiated(text)
    assert why in str(error.value)


def test_constants_are_spelled_as_llvm_does() -> None:
    assert str(real(t.DOUBLE, 0.5)) == "0x3FE0000000000000"
    assert str(real(t.FLOAT, 0.1)) == "0x3FB99999A0000000"
    assert str(real(t.Vector(2, t.HALF), 1.0)) == "<half 0xH3C00, half 0xH3C00>"
