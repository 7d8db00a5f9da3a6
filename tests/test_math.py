"""The math library: accuracy on a sample, special values, and that loops over it vectorise, at each CPU level."""

import re

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from tiaot.benchmarks import check_math
from tiaot.export.math import FUNCTIONS, definitions

INF, NAN, PI = np.inf, np.nan, np.pi
# y, x and the angle of (x, y), as atan2 has them for y >= 0; the angle has the sign of y.
ARCS = [
    *((0.0, 0.0, 0.0), (0.0, -0.0, PI), (0.0, 1.0, 0.0), (0.0, -1.0, PI), (1.0, 0.0, PI / 2), (1.0, -0.0, PI / 2)),
    *((1.0, INF, 0.0), (1.0, -INF, PI), (INF, 1.0, PI / 2), (INF, -1.0, PI / 2)),
    *((INF, INF, PI / 4), (INF, -INF, 3 * PI / 4)),
]
# Arguments and result, all read as the function's dtype.
SPECIAL = {
    "tanh": [(0.0, 0.0), (-0.0, -0.0), (INF, 1.0), (-INF, -1.0), (NAN, NAN)],
    "exp": [(0.0, 1.0), (-0.0, 1.0), (INF, INF), (-INF, 0.0), (NAN, NAN)],
    "log": [(1.0, 0.0), (0.0, -INF), (-0.0, -INF), (INF, INF), (-INF, NAN), (-1.0, NAN), (-1e-30, NAN), (NAN, NAN)],
    "sin": [(0.0, 0.0), (-0.0, -0.0), (INF, NAN), (-INF, NAN), (NAN, NAN)],
    "cos": [(0.0, 1.0), (-0.0, 1.0), (INF, NAN), (-INF, NAN), (NAN, NAN)],
    "tan": [(0.0, 0.0), (-0.0, -0.0), (INF, NAN), (-INF, NAN), (NAN, NAN)],
    "asin": [(0.0, 0.0), (-0.0, -0.0), (1.0, PI / 2), (-1.0, -PI / 2), (1.5, NAN), (-INF, NAN), (NAN, NAN)],
    "acos": [(1.0, 0.0), (0.0, PI / 2), (-0.0, PI / 2), (-1.0, PI), (-1.5, NAN), (INF, NAN), (NAN, NAN)],
    "atan2": [
        *((sign * y, x, sign * angle) for y, x, angle in ARCS for sign in (1.0, -1.0)),
        (NAN, 1.0, NAN),
        (1.0, NAN, NAN),
        (INF, NAN, NAN),
    ],
    "pow": [
        *((NAN, zero, 1.0) for zero in (0.0, -0.0)),
        *((1.0, y, 1.0) for y in (NAN, INF, -INF)),
        *((-1.0, y, 1.0) for y in (INF, -INF)),
        *((-1.0, NAN, NAN), (NAN, 1.0, NAN), (2.0, NAN, NAN)),
        *((0.0, 3.0, 0.0), (-0.0, 3.0, -0.0), (-0.0, 2.0, 0.0), (-0.0, 0.5, 0.0)),
        *((0.0, -3.0, INF), (-0.0, -3.0, -INF), (-0.0, -2.0, INF), (-0.0, -0.5, INF)),
        *((INF, -0.5, 0.0), (INF, 0.5, INF), (-INF, 3.0, -INF), (-INF, -3.0, -0.0), (-INF, 0.5, INF), (-INF, 2.0, INF)),
        *((0.5, INF, 0.0), (0.5, -INF, INF), (2.0, INF, INF), (-2.0, -INF, 0.0), (0.0, INF, 0.0), (0.0, -INF, INF)),
        *((-2.0, 3.0, -8.0), (-2.0, 0.5, NAN), (-2.0, 2.0**24, INF), (-0.5, 2.0**25, 0.0)),
    ],
}
# Inputs with some of the largest errors that were met.
WORST = {
    "tanh_f32": [0.7626402, 0.7656407],
    "tanh_f64": [0.7630853381675149, -0.7598266300261166],
    "exp_f32": [-5.8438487, -5.862792],
    "exp_f64": [-442.5441832242059, -223.52647344820866],
    "log_f32": [1.4133185, 1.4013005],
    "log_f64": [0.6993999316886809, 0.6994024513195617],
    "sin_f32": [21757.887, 3.963313e23, 1.7613904e23, -4.2072265e36, -7.8325766e30],
    "sin_f64": [2.4189825415928567e23, 3.6900659233440625e291, 6381956970095103 * 2.0**797],
    "cos_f32": [12439.88, 9.7477815e17, -1.1134477e16, -5.8232916e23, 1.1029246e8],
    "cos_f64": [1.9088131949961092e209, -1.1064500911087459e48, 6381956970095103 * 2.0**797],
    "tan_f32": [811.3163],
    "tan_f64": [-69.89933936],
    "asin_f32": [0.532779],
    "asin_f64": [0.53716751],
    "acos_f32": [0.88179916],
    "acos_f64": [0.60471238],
    "atan2_f32": [(-2.2212971e-17, 1.0877746e-16)],
    "atan2_f64": [(9.49834810e-05, 2.24906165e-04)],
    "pow_f32": [(1.5746202, -5.0)],
}


@pytest.fixture(scope="module", params=check_math.available_levels())
def library(request: pytest.FixtureRequest) -> check_math.Library:
    return check_math.Library(list(FUNCTIONS), request.param)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_accuracy(library: check_math.Library, name: str) -> None:
    dtype = check_math.DTYPES[name[-3:]]
    x = np.concatenate([np.array(WORST[name], dtype).T, check_math.sample(name, 1 << 16)], axis=-1)
    error = check_math.error_in_ulp(library(name, x), check_math.reference(name, x))
    worst = error.argmax()
    assert error[worst] <= check_math.BOUND[name], f"{name}({x[..., worst]!r})"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_special_values(library: check_math.Library, name: str) -> None:
    *x, expected = np.array(SPECIAL[name[:-4]], check_math.DTYPES[name[-3:]]).T.copy()
    result = library(name, np.array(x))
    np.testing.assert_array_equal(result, expected)
    number = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(result)[number], np.signbit(expected)[number])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_place_in_the_array_does_not_matter(library: check_math.Library, name: str) -> None:
    """A value in a vector and one in the remainder of the loop have the same bits."""
    x = np.atleast_2d(check_math.sample(name, 1 << 8))[:, -200:]
    alone = np.concatenate([library(name, x[:, k : k + 1]) for k in range(x.shape[1])])
    assert library(name, x).tobytes() == alone.tobytes()


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("level", check_math.LEVELS)
def test_loops_vectorise(level: str, name: str) -> None:
    assembly = check_math.compile_loops([name], level)[1]
    packed = re.findall(r"\bv?(?:mul|fn?m(?:add|sub)\d+)p[sd]\b", assembly)
    assert len(packed) >= 5
    assert not re.search(r"\bcall", assembly)


def test_definitions_are_complete_and_in_one_order() -> None:
    text = definitions(["sin_f64", "tanh_f32", "sin_f64", "cos_f64"])
    assert text == definitions(["tanh_f32", "cos_f64", "sin_f64"])
    assert re.findall(r"define internal (\w+) @\"?(\w+)", text) == [
        ("double", "cos_f64"),
        ("double", "sin_f64"),
        ("float", "tanh_f32"),
    ]
    assert text.count('tiaot_two_over_pi_f64" = internal constant') == 1
    assert not re.search(r"\b(call|br|declare)\b", text)
    assert "two_over_pi" not in definitions(["tanh_f32", "exp_f64", "log_f64"])
    assert definitions([]) == ""


def test_unknown_name() -> None:
    with pytest.raises(KeyError, match="no math function erf_f64, pow_f64; there are acos_f32, acos_f64, asin_f32"):
        definitions(["pow_f64", "tanh_f32", "erf_f64"])
