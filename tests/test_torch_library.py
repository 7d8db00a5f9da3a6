"""tiaot_torch_library: a module's operators for torch's dispatcher in C++, in a process where Python's tiaot is not.

`reliability.py torch` runs a program without Python on it, and a package of AOTInductor's."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiaot
from tiaot import _core

torch = pytest.importorskip("torch")
if not shutil.which("c++") or not shutil.which("cmake"):
    pytest.skip("needs a C++ compiler and CMake", allow_module_level=True)

KEPT = Path(__file__).parent / "modules" / "abi5.tiaot.so"
PROJECT = """
cmake_minimum_required(VERSION 3.18)
project(operators LANGUAGES C CXX)
find_package(tiaot REQUIRED)
tiaot_torch_library(operators MODULES ${MODULES})
"""
CHECKS = """
import json, sys, threading
import torch

torch.ops.load_library(sys.argv[1])
dense, square = (getattr(torch.ops.tiaot, name).default for name in sys.argv[2:4])
torch.manual_seed(0)
shapes = (5, 3), (4, 3), (4,)


def reference(x, W, b):
    return torch.tanh(x @ W.T + b)


def refused(kind, words, call):
    try:
        call()
    except kind as error:
        assert words in str(error), error
    else:
        raise AssertionError(words)


for dtype in (torch.float32, torch.float64):
    x, W, b = (torch.randn(shape, dtype=dtype) for shape in shapes)
    torch.testing.assert_close(dense(x, W, b), reference(x, W, b))
    assert not dense(x, W, b).requires_grad

# Gradients, in all orders that there are.
inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
assert torch.autograd.gradcheck(dense, inputs) and torch.autograd.gradgradcheck(dense, inputs)
x, W, b = inputs
some = [x.detach(), W, b.detach()]
[gW] = torch.autograd.grad(dense(*some).square().sum(), [W])
torch.testing.assert_close(gW, torch.autograd.grad(reference(*some).square().sum(), [W])[0])
[first] = torch.autograd.grad(dense(*inputs).sum(), [x], create_graph=True)
[second] = torch.autograd.grad(first.square().sum(), [x], create_graph=True)
refused(NotImplementedError, "which no module has", lambda: torch.autograd.grad(second.sum(), [x]))

# Tensors that are not what lies in memory.
plain = [each.detach() for each in inputs]
right = dense(*plain)
torch.testing.assert_close(dense(plain[0].T.contiguous().T, *plain[1:]), right, rtol=0, atol=0)
negated = torch.complex(torch.zeros(5, 3, dtype=torch.float64), -plain[0]).conj().imag
assert negated.is_neg() and torch.equal(negated, plain[0])
torch.testing.assert_close(dense(negated, *plain[1:]), right, rtol=0, atol=0)
negated.requires_grad_()
torch.testing.assert_close(dense(negated, *plain[1:]), right, rtol=0, atol=0)
assert dense(torch.empty(0, 3, dtype=torch.float64), *plain[1:]).shape == (0, 4)
with torch.inference_mode():
    assert torch.equal(dense(*plain), right)

# What is refused: never a wrong number.
refused(TypeError, "argument 'W': expected float64", lambda: dense(plain[0], plain[1].float(), plain[2]))
refused(ValueError, "argument 'b': expected float64[4]", lambda: dense(*plain[:2], plain[2][:3].clone()))
refused(NotImplementedError, "Meta tensors", lambda: dense(*[each.to("meta") for each in plain]))
with torch.autograd.forward_ad.dual_level():
    dual = torch.autograd.forward_ad.make_dual(plain[0], plain[0])
    refused(RuntimeError, "jvp is not implemented", lambda: dense(dual, *plain[1:]))
refused(RuntimeError, "with functorch transforms", lambda: torch.func.jacrev(dense)(*plain))
named = getattr(torch.ops.tiaot, sys.argv[2] + "_vjp").default
refused(ValueError, "expected 3 values in needed, got 1", lambda: named(*plain, right, [True]))

# The vjp, the jvp and the hvp by themselves.
x, W, b = (each.detach() for each in inputs)
v, t = torch.randn(5, 4, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
gx, gW, gb = named(x, W, b, v, [True, False, True])
expected = torch.autograd.functional.vjp(lambda x, b: reference(x, W, b), (x, b), v)[1]
torch.testing.assert_close((gx, gb), expected)
assert gW.shape == (0,)
[dy] = getattr(torch.ops.tiaot, sys.argv[2] + "_jvp")([x, W, b, t], ["x"])
torch.testing.assert_close(dy, torch.autograd.functional.jvp(lambda x: reference(x, W, b), x, t)[1])
[dgx] = getattr(torch.ops.tiaot, sys.argv[2] + "_hvp")([x, W, b, v, t], ["x"])
hvp = torch.autograd.functional.hvp(lambda x: (reference(x, W, b) * v).sum(), x, t)[1]
torch.testing.assert_close(dgx, hvp)

# A kernel with a number by value and without second derivatives.
z, scale = torch.randn(3, 2, dtype=torch.float64, requires_grad=True), torch.tensor(1.5, dtype=torch.float64)
torch.testing.assert_close(square(z, scale), 1.5 * z * z)
assert torch.autograd.gradcheck(square, (z, scale))
refused(NotImplementedError, "argument 'scale': requires grad", lambda: square(z, scale.clone().requires_grad_()))
[gz] = torch.autograd.grad(square(z, scale).sum(), [z], create_graph=True)
refused(NotImplementedError, "square: a derivative of its gradient was asked for, which takes an hvp that the module",
        lambda: torch.autograd.grad(gz.sum(), [z]))

# From many threads, forward and backward.
weights = [each.clone().requires_grad_() for each in plain]
expected = torch.autograd.grad(reference(*weights).square().sum(), weights)
wrong = []


def run():
    for _ in range(50):
        found = torch.autograd.grad(dense(*weights).square().sum(), weights)
        wrong.extend(f for f, e in zip(found, expected) if not torch.allclose(f, e))


threads = [threading.Thread(target=run) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not wrong
assert "tiaot" not in sys.modules
names = [sys.argv[2] + ending for ending in ("", "_vjp", "_jvp", "_hvp")] + [sys.argv[3], sys.argv[3] + "_vjp"]
print(json.dumps([str(getattr(torch.ops.tiaot, name).default._schema) for name in names]))
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("operators")
    (folder / "CMakeLists.txt").write_text(PROJECT)
    modules = f"{tiaot.load('dense_tanh').module.path};{KEPT}"
    configured = ["cmake", "-S", folder, "-B", folder / "build", f"-DMODULES={modules}",
                  f"-Dtiaot_DIR={Path(_core.__file__).parent / 'lib/cmake/tiaot'}",
                  f"-DTorch_DIR={torch.utils.cmake_prefix_path}/Torch", "-DCMAKE_CXX_FLAGS=-Wall -Wextra"]  # fmt: skip
    for command in (configured, ["cmake", "--build", folder / "build"]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "operators.cpp:" not in done.stdout + done.stderr, "a warning of our file"
    return folder / "build" / "liboperators.so"


def test_the_operators_are_those_of_python(library: Path) -> None:
    kernel, kept = tiaot.load("dense_tanh"), tiaot.open(KEPT)
    name, square = f"dense_tanh_{kernel.module.hash[:12]}", f"square_{kept.hash[:12]}_float64_dynamic"
    command = [sys.executable, "-c", CHECKS, library, name, square]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    for each in (kernel, kept.square):
        tiaot.torch.wrap(each)
    expected = [f"{name}{ending}" for ending in ("", "_vjp", "_jvp", "_hvp")] + [square, f"{square}_vjp"]
    assert found == [str(getattr(torch.ops.tiaot, each).default._schema) for each in expected]


def test_the_library_is_alone_with_torch(library: Path) -> None:
    needed = subprocess.run(["readelf", "-d", library], capture_output=True, text=True, check=True).stdout
    assert "libtiaot.so" not in needed and "NODELETE" in needed
    symbols = subprocess.run(["nm", "-D", "--defined-only", "-C", library], capture_output=True, text=True, check=True)
    assert "register_torch_operators" in symbols.stdout and "tiaot_module_open" not in symbols.stdout


def test_a_module_that_is_not_there_is_told(tmp_path: Path) -> None:
    (tmp_path / "CMakeLists.txt").write_text(PROJECT)
    done = subprocess.run(["cmake", "-S", tmp_path, "-B", tmp_path / "build", "-DMODULES=/nowhere.so",
                           f"-Dtiaot_DIR={Path(_core.__file__).parent / 'lib/cmake/tiaot'}",
                           f"-DTorch_DIR={torch.utils.cmake_prefix_path}/Torch"],
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode != 0 and "there is no module '/nowhere.so'" in done.stderr
