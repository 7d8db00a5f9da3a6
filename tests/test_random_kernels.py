"""A few random kernels: `python tests/random_kernels.py` tries more. And what tries them, on kernels that are wrong."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import field_kernels
import numpy as np
import pytest
import random_kernels
from hyperdual import TI, Number, Run
from kernel_generator import generate
from kernel_points import point
from kernel_reduction import reduced
from kernel_text import Argument, Kernel, Statement
from random_kernels import Trial, cases, export, failures_of, options_of, try_kernels

pytest.importorskip("taichi")
pytest.importorskip("llvmlite")


@pytest.mark.parametrize(("dtype", "numbers"), [("f64", range(6)), ("f32", range(100, 104))])
def test_forward_and_jvp_of_random_kernels(dtype: str, numbers: range) -> None:
    chosen = cases(1, numbers, dtype)
    assert len(chosen) >= len(numbers) - 1
    found, refused = try_kernels(Trial(1, dtype, "taichi", with_vjp=False), chosen)
    assert not found and not refused


def test_vjp_and_hvp_of_random_kernels() -> None:
    """By the exporter's own reverse mode."""
    chosen = cases(1, range(8), "f64")
    found, refused = try_kernels(Trial(1, "f64", "tiaot", with_vjp=True), chosen)
    assert not found and not refused


def test_adjoints_of_random_kernels_over_fields() -> None:
    chosen = field_kernels.chosen_of(1, range(16))
    assert len(chosen) > 1
    found, refused = field_kernels.try_kernels(chosen)
    assert not found and not refused


def test_a_seed_gives_the_same_kernels() -> None:
    assert [generate(3, i).text() for i in range(20)] == [generate(3, i).text() for i in range(20)]
    assert generate(3, 0).text() != generate(4, 0).text()


def test_the_kernels_have_what_they_are_to_have() -> None:
    text = "\n".join(generate(1, i).declared("wrt=[]") for i in range(200))
    wanted = ["while ", "break", "continue", "ti.func", "ti.Matrix", "ti.Vector", "atomic_max", "atomic_min", " @ "]
    wanted += [
        "serialize=True",
        "ti.ndrange",
        "ti.static",
        'batch="n"',
        "else:",
        "ti.atomic_add",
        "*=",
        "in range(turns)",
    ]
    assert [each for each in wanted if each not in text] == []


def squares(name: str, statement: str) -> Kernel:
    """y[i] = x[i]^2, and a statement more."""
    arguments = [
        Argument("x", "real", ("n",)),
        Argument("w", "real", ("m",)),
        Argument("y", "real", ("n",), is_input=False, is_output=True),
    ]
    lines = ["a = x[i]", "b = a * w[0]", "b += 1.0", statement, "y[i] = a * a"]
    loop = Statement("for i in range(x.shape[0]):", [Statement(each) for each in lines])
    return Kernel(name, arguments, [], [loop], batch=False)


def test_a_wrong_number_a_write_beside_and_a_crash_are_found(tmp_path: Path) -> None:
    """What is exported are other kernels than those that are interpreted."""
    statements = {
        "right": "b *= 2.0",
        "value": "a *= 1.0 + 1e-12",
        "slope": "a = ti.floor(a) + ti.sqrt((a - ti.floor(a)) ** 2)",
        "beside": "w[w.shape[0] + i] = 1.0",
        "crash": "y[100000000] = 1.0",
    }
    exported = [squares(name, statement) for name, statement in statements.items()]
    assert export([(each, options_of(each, False, "taichi")) for each in exported], "f64", tmp_path) == ""
    chosen = [(squares(name, "b *= 2.0"), point(squares(name, "b *= 2.0"), 1, "f64")) for name in statements]
    found = failures_of(tmp_path, [(kernel, at) for kernel, at in chosen if at is not None], "f64", False)
    assert list(found) == ["value", "beside", "crash"]
    assert found["value"][0].startswith("forward: output 'y' is off by")
    assert any(each.startswith("jvp: tangent of 'y' is off by") for each in found["value"])
    assert "an entry wrote to, or beside, input 'w'" in found["beside"][0]
    assert found["crash"][0].startswith("crash")


def test_what_the_exporter_refuses_is_told_and_the_rest_is_tried() -> None:
    good, bad = squares("good", "b *= 2.0"), squares("drawn", "a += ti.random(real)")
    at = point(good, 1, "f64")
    assert at is not None
    trial = Trial(1, "f64", "taichi", with_vjp=True)
    found, refused = try_kernels(trial, [(good, at), (bad, at)])
    assert not found and list(refused) == ["drawn"] and "RandStmt" in refused["drawn"]


def test_a_kernel_is_reduced_to_what_it_takes_to_fail() -> None:
    kernel = squares("square", "b *= 2.0")
    small = reduced(kernel, lambda each: all(line in each.text() for line in ("for i", "y[i] =", "a = x[i]")))
    assert [statement.text for statement in small.body[0].body or []] == ["a = x[i]", "y[i] = a * a"]


FUNCTIONS: dict[str, tuple[Callable, Callable, Callable, Callable]] = {
    "sin": (TI.sin, math.sin, math.cos, lambda a: -math.sin(a)),
    "cos": (TI.cos, math.cos, lambda a: -math.sin(a), lambda a: -math.cos(a)),
    "exp": (TI.exp, math.exp, math.exp, math.exp),
    "log": (TI.log, math.log, lambda a: 1 / a, lambda a: -(a**-2)),
    "sqrt": (TI.sqrt, math.sqrt, lambda a: 0.5 * a**-0.5, lambda a: -0.25 * a**-1.5),
    "tanh": (TI.tanh, math.tanh, lambda a: math.cosh(a) ** -2, lambda a: -2 * math.tanh(a) * math.cosh(a) ** -2),
    "asin": (TI.asin, math.asin, lambda a: (1 - a * a) ** -0.5, lambda a: a * (1 - a * a) ** -1.5),
    "atan2": (
        lambda a: TI.atan2(a, 2.0),
        lambda a: math.atan2(a, 2),
        lambda a: 2 / (4 + a * a),
        lambda a: -4 * a / (4 + a * a) ** 2,
    ),
    "cube": (lambda a: a**3, lambda a: a**3, lambda a: 3 * a**2, lambda a: 6 * a),
    "power": (lambda a: TI.pow(a, 2.5), lambda a: a**2.5, lambda a: 2.5 * a**1.5, lambda a: 3.75 * a**0.5),
    "quotient": (lambda a: 2.0 / a, lambda a: 2 / a, lambda a: -2 / a**2, lambda a: 4 / a**3),
    "product": (lambda a: a * a * (1.0 - a), lambda a: a * a - a**3, lambda a: 2 * a - 3 * a * a, lambda a: 2 - 6 * a),
    "maximum": (lambda a: TI.max(a, 0.1) * TI.min(a, 9.0), lambda a: a * a, lambda a: 2 * a, lambda a: 2.0),
    "absolute": (lambda a: abs(-a) * a, lambda a: a * a, lambda a: 2 * a, lambda a: 2.0),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_reference_has_first_and_second_derivatives(name: str) -> None:
    ours, value, slope, bend = FUNCTIONS[name]
    a, first, along = 0.6, np.array([1.0, -2.0]), 0.5
    result = ours(Number(Run(), a, first, along, np.array([0.0, 3.0])))
    assert result.value == pytest.approx(value(a), rel=1e-14)
    assert result.along == pytest.approx(slope(a) * along, rel=1e-14)
    assert result.first == pytest.approx(slope(a) * first, rel=1e-14)
    assert result.second == pytest.approx(bend(a) * along * first + slope(a) * np.array([0.0, 3.0]), rel=1e-13)


def test_decisions_and_noise_are_noted() -> None:
    run = Run()
    a = Number(run, 0.5, np.zeros(0), 0.0, np.zeros(0))
    assert a < 0.75 and run.margin == 0.25 and a > 0.4375 and run.margin == 0.0625
    assert not a < a and run.margin == 0.0625
    noisy = Number(Run(1e-3), 0.5, np.zeros(0), 0.0, np.zeros(0)) * 1.0
    assert 0 < abs(noisy.value - 0.5) < 1e-3
    assert random_kernels.THREADS == (2, 3, 7)
