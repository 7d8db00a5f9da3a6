"""Kernels without a batch, declared by a decorator: values, gradients against finite differences, threads, messages."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import module_files
import numpy as np
import pytest
import tiaot
from whole_cases import DRAWN, GRADIENTS, draw, expected, outputs

pytest.importorskip("taichi")
pytest.importorskip("llvmlite")

SOURCE = Path(__file__).parent / "kernels" / "whole.py"
SIZES = [0, 1, 2, 31, 32, 33, 511, 513, 5000]  # Taichi cuts loops into pieces of at least 512


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tiaot.Module:
    return tiaot.open(module_files.exported(SOURCE, tmp_path_factory.mktemp("whole") / "whole.so", "--no-verify"))


@pytest.mark.parametrize("name", [name for name in DRAWN if name != "noise"])
def test_values(whole: tiaot.Module, name: str) -> None:
    for n in SIZES:
        inputs, _ = draw(name, n)
        before = [np.copy(each) for each in inputs]
        for result, value in zip(outputs(whole.kernels[name], inputs), expected(name, inputs), strict=True):
            assert result.shape == value.shape, n
            # Sums of up to 5000 terms of order 1, in the kernel's type.
            tolerance = (5000 if result.size < n else 100) * (1e-7 if name == "windowed" else 2.3e-16)
            np.testing.assert_allclose(
                result, value, rtol=tolerance, atol=tolerance * max(1, np.abs(value).max(initial=0))
            )
        for each, copy in zip(inputs, before, strict=True):
            assert np.array_equal(each, copy)


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_agree_with_finite_differences(whole: tiaot.Module, name: str) -> None:
    kernel, wrt = whole.kernels[name], GRADIENTS[name]
    names = [each["name"] for each in next(k for k in whole.info()["kernels"] if k["name"] == name)["inputs"]]
    for n in SIZES:
        inputs, rng = draw(name, n)
        cotangents = [rng.standard_normal(each.shape) for each in outputs(kernel, inputs)]
        copies = [each.copy() for each in cotangents]
        gradients = kernel.vjp(*inputs, *cotangents, wrt=wrt)
        again = kernel.vjp(*inputs, *cotangents, wrt=wrt)  # what one call leaves behind must not show in the next
        for one, two in zip(gradients, again, strict=True):
            assert one.tobytes() == two.tobytes()
        for each, copy in zip(cotangents, copies, strict=True):
            assert np.array_equal(each, copy)
        for argument, gradient in zip(wrt, gradients, strict=True):
            alone = kernel.vjp(*inputs, *cotangents, wrt=argument)
            np.testing.assert_allclose(alone, gradient, rtol=1e-13, atol=1e-13)
            place = names.index(argument)
            direction = rng.standard_normal(gradient.shape)
            sides = []
            for sign in (1, -1):
                moved = [each + sign * 1e-6 * direction if i == place else each for i, each in enumerate(inputs)]
                sides.append(sum((v * y).sum() for v, y in zip(cotangents, outputs(kernel, moved), strict=True)))
            slope = (sides[0] - sides[1]) / 2e-6
            scale = np.abs(gradient * direction).sum() + sum(np.abs(v).sum() for v in cotangents)
            assert abs((gradient * direction).sum() - slope) <= 1e-8 * scale, (n, argument)


@pytest.mark.parametrize("name", DRAWN)
def test_results_are_the_same_bits_for_any_number_of_threads(whole: tiaot.Module, name: str) -> None:
    kernel = whole.kernels[name]
    inputs, rng = draw(name, 20000)
    once = outputs(kernel, inputs, num_threads=1)
    cotangents = [rng.standard_normal(each.shape).astype(each.dtype) for each in once]
    for threads in (2, 7):
        for one, many in zip(once, outputs(kernel, inputs, num_threads=threads), strict=True):
            assert one.tobytes() == many.tobytes()
        if name in GRADIENTS:
            pairs = (kernel.vjp(*inputs, *cotangents, wrt=GRADIENTS[name], num_threads=t) for t in (1, threads))
            for one, many in zip(*pairs, strict=True):
                assert one.tobytes() == many.tobytes()


@pytest.mark.parametrize("turns", [0, 1, 30, 31, 32, 33, 63, 64, 65, 1000, 40000])
def test_the_adjoint_goes_back_through_a_loop_of_any_length(whole: tiaot.Module, turns: int) -> None:
    x = np.array([-0.3, 0.1, 0.4])
    p, tangent = x, np.ones(3)
    for _ in range(turns):
        p, tangent = np.sin(p) + x * p, np.cos(p) * tangent + p + x * tangent
    gradient = whole.recurrence.vjp(x, turns, np.ones(3))
    np.testing.assert_allclose(
        gradient, tangent, rtol=1e-9, atol=1e-300
    )  # the map contracts, so rounding does not grow


def test_random_numbers_follow_from_the_seed(whole: tiaot.Module) -> None:
    zeros = np.zeros(20000)
    one, again, other = whole.noise(zeros, 1), whole.noise(zeros, 1), whole.noise(zeros, 2)
    assert np.array_equal(one, again)
    assert not np.any(one == other)
    assert len(np.unique(one)) == len(one)  # no two pieces draw the same
    assert abs(one.mean()) < 5 / np.sqrt(20000) and abs(one.std() - 1) < 5 / np.sqrt(40000)
    assert abs(np.corrcoef(one, other)[0, 1]) < 5 / np.sqrt(20000)


def test_a_gradient_written_by_hand_is_taken(whole: tiaot.Module) -> None:
    x = np.array([-3, -1.5, 0, 1.5, 3])
    np.testing.assert_array_equal(whole.clipped.vjp(x, np.ones(5)), [0, 1, 1, 1, 0])


def test_numbers_as_arguments(whole: tiaot.Module) -> None:
    x, v = np.ones((2, 3)), np.ones((2, 3))
    for dt in (0.5, np.array(0.5), np.float64(0.5)):
        np.testing.assert_array_equal(whole.step(x, v, dt)[0], x + 0.5)
    np.testing.assert_array_equal(whole.step(x, v, 1)[0], x + 1)
    call = whole.step.bind(x, v, 0.25)
    np.testing.assert_array_equal(call()[0], x + 0.25)
    values = np.zeros(3)
    for bad, exception, message in (
        (1.5, TypeError, "argument 'turns': expected an integer, got float"),
        (2**31, ValueError, "argument 'turns': expected an integer that fits int32, got 2147483648"),
        (True, TypeError, "argument 'turns': expected a number or an array of int32, got bool"),
        ("3", TypeError, "argument 'turns': expected a number or an array of int32, got str"),
        (np.array([3], np.int32), ValueError, "argument 'turns': expected int32"),
        (np.array(3), TypeError, "argument 'turns': expected int32"),
    ):
        with pytest.raises(exception, match=message):
            whole.recurrence(values, bad)


def test_numbers_as_arguments_of_torch(whole: tiaot.Module) -> None:
    torch = pytest.importorskip("torch")
    step, recurrence = tiaot.torch.wrap(whole.step), tiaot.torch.wrap(whole.recurrence)
    x, v = torch.randn(2, 5, 3, dtype=torch.float64)
    x.requires_grad_()
    moved, _ = step(x, v, 0.25)
    torch.testing.assert_close(moved, x + 0.25 * v)
    moved.sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))
    assert torch.equal(step(x, v, 1)[0], step(x, v, torch.tensor(1.0, dtype=torch.float64))[0])
    compiled = torch.compile(lambda x, v: step(x, v, 0.25)[0], fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, v), moved)
    values = torch.zeros(3, dtype=torch.float64)
    assert recurrence(values, 3).shape == (3,)
    for bad, exception, message in (
        (1.5, TypeError, "recurrence: argument 'turns': expected an integer, got float"),
        (2**31, ValueError, "recurrence: argument 'turns': expected an integer that fits int32, got 2147483648"),
        (True, TypeError, "argument 'turns'"),
        ("3", TypeError, "argument 'turns'"),
    ):
        with pytest.raises(exception, match=message):
            recurrence(values, bad)


def test_numbers_as_arguments_of_jax(whole: tiaot.Module) -> None:
    jax = pytest.importorskip("jax")
    with jax.enable_x64(True):
        step, recurrence = tiaot.jax.wrap(whole.step), tiaot.jax.wrap(whole.recurrence)
        x, v = jax.numpy.asarray(np.random.default_rng(0).standard_normal((2, 5, 3)))
        np.testing.assert_allclose(step(x, v, 0.25)[0], x + 0.25 * v)
        np.testing.assert_allclose(jax.jit(lambda x, v: step(x, v, 1)[0])(x, v), x + v)
        gradient = jax.grad(lambda v: step(x, v, 0.25)[0].sum())(v)
        np.testing.assert_allclose(gradient, np.full((5, 3), 0.25))
        with pytest.raises(TypeError, match="recurrence: argument 'turns': expected an integer, got float"):
            recurrence(jax.numpy.zeros(3), 1.5)
        with pytest.raises(ValueError, match=r"step: argument 'x': expected float64\[n, 3\], got float64\[5, 4\]"):
            step(jax.numpy.zeros((5, 4)), v, 1.0)


def test_jacobians(whole: tiaot.Module) -> None:
    x = np.array([0.2, -0.4, 0.6])
    jacobian = whole.folded.jacobian(x)
    columns = [(outputs(whole.folded, [x + h])[0] - outputs(whole.folded, [x - h])[0]) / 2e-6 for h in 1e-6 * np.eye(3)]
    np.testing.assert_allclose(jacobian, np.stack(columns, 1), atol=1e-9)


def test_the_plain_functions_have_the_signatures_types(whole: tiaot.Module) -> None:
    header = Path(whole.path).with_suffix(".h").read_text()
    for prototype in (
        "int step_forward_float64(int64_t n, const double *x, const double *v, double dt, double *new_x, ",
        "int recurrence_vjp_x_float64(int64_t n, const double *x, int32_t turns, const double *cotangent_y,",
        "int histogram_forward_float32(int64_t n, const uint8_t *bin, int32_t *count);",
    ):
        assert prototype.strip() in header


def test_ti_init_in_a_kernel_file_says_which_types_numbers_have(tmp_path: Path) -> None:
    source = """
import taichi as ti
ti.init(arch=ti.cpu, default_fp=ti.f64, offline_cache=True, fast_math=True)
from tiaot.export import kernel

@kernel("x[n] -> y[n]", dtypes={"x": "float64", "y": "float64"})
@ti.kernel
def tenth(x: ti.types.ndarray(), y: ti.types.ndarray()):
    for i in x:
        y[i] = 0.1 * x[i]

if __name__ == "__main__":
    raise SystemExit("not run")
"""
    (tmp_path / "own.py").write_text(source)
    with tiaot.open(module_files.exported(tmp_path / "own.py", tmp_path / "own.so")) as module:
        x = np.arange(40.0)
        assert np.array_equal(module.tenth(x), 0.1 * x)
        assert np.array_equal(module.tenth.vjp(x, x), 0.1 * x)


def test_an_array_that_is_annotated_so_has_no_gradient(tmp_path: Path) -> None:
    source = """
import taichi as ti
from tiaot.export import kernel
array = ti.types.ndarray(ti.f32, ndim=1)

@kernel("x[n], w[n] -> y[n]")
@ti.kernel
def scaled(x: array, w: ti.types.ndarray(ti.f32, ndim=1, needs_grad=False), y: array):
    for i in x:
        y[i] = ti.acos(x[i]) * w[i]
"""
    (tmp_path / "fixed.py").write_text(source)
    with tiaot.open(module_files.exported(tmp_path / "fixed.py", tmp_path / "fixed.so")) as module:
        differentiable = [each["differentiable"] for each in module.info()["kernels"][0]["inputs"]]
    assert differentiable == [True, False]


HEADER = """
import taichi as ti
from tiaot.export import kernel
array = ti.types.ndarray(ti.f32, ndim=1)
"""
REFUSED = {
    "a texture": (
        """
@kernel("-> y[4]", wrt=[])
@ti.kernel
def look(picture: ti.types.texture(num_dimensions=2), y: array):
    for i in y:
        y[i] = picture.fetch(ti.Vector([0, 0]), 0)[0]
""",
        "look: parameter 'picture' is a texture, which cannot be exported: pass its data as an array",
    ),
    "a print": (
        """
@kernel("x[n] -> y[n]", wrt=[])
@ti.kernel
def talking(x: array, y: array):
    for i in x:
        y[i] = x[i]
        print(x[i])
""",
        "talking: the kernel cannot be exported: it prints; remove the print",
    ),
    "random numbers without a seed": (
        """
@kernel("x[n] -> y[n]", wrt=[])
@ti.kernel
def unseeded(x: array, y: array):
    for i in x:
        y[i] = x[i] + ti.random()
""",
        "unseeded: draws random numbers: add 'seed' to the inputs of its signature",
    ),
    "random numbers in a gradient": (
        """
@kernel("x[n], seed -> y[n]")
@ti.kernel
def rough(x: array, y: array):
    for i in x:
        y[i] = x[i] * ti.random()
""",
        "Taichi does not compile the gradient of kernel rough(.|\\n)*RandStmt not supported",
    ),
    "a template without its value": (
        """
@kernel("x[n] -> y[n]", wrt=[])
@ti.kernel
def general(x: array, y: array, power: ti.template()):
    for i in x:
        y[i] = x[i] ** power
""",
        r"parameter 'power' is a template: give its value in constants=\{...\}",
    ),
    "a parameter that is not in the signature": (
        """
@kernel("x[n] -> y[n]", wrt=[])
@ti.kernel
def more(x: array, z: array, y: array):
    for i in x:
        y[i] = x[i] + z[i]
""",
        "parameter 'z' is none of the signature's arguments x, y",
    ),
    "an argument that is no parameter": (
        """
@kernel("x[n], z[n] -> y[n]", wrt=[])
@ti.kernel
def less(x: array, y: array):
    for i in x:
        y[i] = x[i]
""",
        "less: the signature's argument 'z' is not a parameter of the kernel, whose parameters are x, y",
    ),
    "another rank": (
        """
@kernel("x[n, 3] -> y[n]", wrt=[])
@ti.kernel
def flat(x: array, y: array):
    for i in y:
        y[i] = x[i]
""",
        "flat: parameter 'x': has 1 axes with those of its elements, but 2 in the signature",
    ),
    "a gradient of whole numbers": (
        """
@kernel("x[n] -> y[n]")
@ti.kernel
def counted(x: array, y: ti.types.ndarray(ti.i32, ndim=1)):
    for i in x:
        y[i] = ti.cast(x[i], ti.i32)
""",
        "counted: output 'y' has whole numbers and so no cotangent",
    ),
    "a returned value with a gradient": (
        """
@kernel("x[n] -> total")
@ti.kernel
def summed(x: array) -> ti.f32:
    total = 0.0
    for i in x:
        total += x[i]
    return total
""",
        "summed: returns a value, which has no gradient: write it to an output array",
    ),
    "the gradient of an argument": (
        """
@kernel("x[n] -> y[n]", wrt=[])
@ti.kernel
def peeking(x: ti.types.ndarray(ti.f32, ndim=1, needs_grad=True), y: array):
    for i in x:
        y[i] = x.grad[i]
""",
        "peeking: uses the gradient x.grad itself, which only the adjoint may",
    ),
    "an assertion": (
        """
@kernel("x[n] -> y[n]", wrt=[])
@ti.kernel
def sure(x: array, y: array):
    for i in x:
        assert x[i] > 0
        y[i] = x[i]
""",
        "sure: the kernel cannot be exported: it asserts; check the arguments before the call",
    ),
    "a function of its own": (
        """
@ti.experimental.real_func
def twice(x: ti.f32) -> ti.f32:
    return 2 * x
@kernel("x[n] -> y[n]", wrt=[])
@ti.kernel
def calling(x: array, y: array):
    for i in x:
        y[i] = twice(x[i])
""",
        "calling: .*calls functions of its own",
    ),
    "no Taichi kernel": (
        """
@kernel("x[n] -> y[n]")
def plain(x, y):
    pass
""",
        r"faulty.py:\d+ .*expected a Taichi kernel, got function .plain.: write @ti.kernel between",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_exported_is_named(what: str, tmp_path: Path) -> None:
    source, message = REFUSED[what]
    (tmp_path / "faulty.py").write_text(HEADER + source)
    command = [sys.executable, "-m", "tiaot", "export", "--no-verify", "faulty.py", "-o", "faulty.so"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert re.search(message, done.stderr), done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "faulty.so").exists()
