"""On a real GPU, with torch or JAX for it, and a shipped module that has CUDA code: the case table, streams, graphs.

Skipped elsewhere; what goes before the device is tested by test_cuda_call.py, test_cuda_torch.py and test_cuda_jax.py.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import tiaot
from cases import CASES, Case

torch = pytest.importorskip("torch")
import tiaot.torch  # noqa: E402

DEVICE = "cuda"
DTYPES = [np.dtype(np.float32), np.dtype(np.float64)]
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU, and torch for it")


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    module = tiaot.load(request.param.name).module
    if module.info()["cuda"] is None:
        pytest.skip("the shipped module has no CUDA code")
    return request.param


def tensors(arrays: list[np.ndarray], requires_grad: bool = False) -> list[torch.Tensor]:
    return [torch.from_numpy(array.copy()).to(DEVICE).requires_grad_(requires_grad) for array in arrays]


def drawn(case: Case) -> tuple[list[torch.Tensor], torch.Tensor]:
    size = next(size for size in case.sizes if size[0] >= 3)
    arrays, cotangent = case.draw(size, DTYPES[1])
    return tensors(arrays), tensors([cotangent])[0]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_values_and_gradients_lie_within_the_bounds(case: Case, dtype: np.dtype) -> None:
    kernel = tiaot.torch.load(case.name)
    for size in case.sizes:
        arrays, cotangent = case.draw(size, dtype)
        inputs = tensors(arrays, requires_grad=True)
        y = kernel(*inputs)
        assert y.device == inputs[0].device
        case.forward(arrays).check(y.detach().cpu().numpy(), f"{size}")
        y.backward(tensors([cotangent])[0])
        for tensor, array, (name, reference) in zip(inputs, arrays, case.vjp(arrays, cotangent).items(), strict=True):
            reference.check(tensor.grad.cpu().numpy(), f"{size}: gradient of {name}")
            assert tensor.detach().cpu().numpy().tobytes() == array.tobytes()


def test_plain_and_bound_calls(case: Case) -> None:
    kernel = tiaot.load(case.name)
    inputs, v = drawn(case)
    y = kernel(*inputs)
    assert isinstance(y, torch.Tensor) and y.device == inputs[0].device
    out = torch.empty_like(y)
    assert kernel(*inputs, out=out) is out
    assert torch.equal(out, y)
    gradient = kernel.vjp(*inputs, v)
    call = kernel.vjp.bind(*inputs, v)
    assert torch.equal(call(), gradient) and call() is call()
    jacobian = kernel.jacobian(*inputs)
    expected = kernel.jacobian(*(tensor.cpu().numpy() for tensor in inputs))
    np.testing.assert_allclose(jacobian.cpu().numpy(), expected, rtol=1e-12, atol=1e-12)


def test_another_stream(case: Case) -> None:
    kernel = tiaot.torch.load(case.name)
    inputs, _ = drawn(case)
    expected = kernel(*inputs)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        late = inputs[0]
        for _ in range(100):  # work that the kernel has to wait for
            late = late * 1.0
        y = kernel(late, *inputs[1:])
    stream.synchronize()
    assert torch.equal(y, expected)
    plain = tiaot.load(case.name)
    for _ in range(20):
        late = inputs[0]
        for _ in range(100):
            late = late * 1.0
        y = plain(late, *inputs[1:], stream=stream)
        stream.synchronize()
        assert torch.equal(y, expected)


def test_a_graph(case: Case) -> None:
    kernel = tiaot.torch.load(case.name)
    inputs, v = drawn(case)
    raw = tiaot.load(case.name)
    kernel(*inputs)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = kernel(*inputs)
        gradient = raw.vjp(*inputs, v)
    inputs[0].mul_(0.5)
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(y, kernel(*inputs))
    assert torch.equal(gradient, raw.vjp(*inputs, v))


def test_compiled_and_under_transforms(case: Case) -> None:
    kernel = tiaot.torch.load(case.name)
    inputs, v = drawn(case)
    compiled = torch.compile(lambda *each: kernel(*each).square().sum(), fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(*inputs), kernel(*inputs).square().sum())
    pull_back = torch.func.vjp(kernel, *inputs)[1]
    gradients = tiaot.load(case.name).vjp(*inputs, v, wrt=kernel._operator.signature.differentiable)
    assert all(torch.equal(ours, plain) for ours, plain in zip(pull_back(v), gradients, strict=True))
    torch.library.opcheck(kernel._operator.forward, inputs)


def test_jax(case: Case) -> None:
    jax = pytest.importorskip("jax")
    try:
        device = jax.devices("cuda")[0]
    except RuntimeError:
        pytest.skip("needs JAX for the GPU")
    import tiaot.jax

    kernel = tiaot.jax.load(case.name)
    size = next(size for size in case.sizes if size[0] >= 3)
    arrays, cotangent = case.draw(size, DTYPES[0])
    inputs = [jax.device_put(array, device) for array in arrays]
    y, pull_back = jax.vjp(jax.jit(kernel), *inputs)
    case.forward(arrays).check(np.asarray(y), "value")
    gradients = pull_back(jax.device_put(cotangent, device))
    for gradient, (name, reference) in zip(gradients, case.vjp(arrays, cotangent).items(), strict=True):
        reference.check(np.asarray(gradient), f"gradient of {name}")


def test_compiled_by_inductor(case: Case) -> None:
    kernel = tiaot.torch.load(case.name)
    inputs, v = drawn(case)
    leaves = [each.requires_grad_() for each in inputs]

    def loss(*each: torch.Tensor) -> torch.Tensor:
        return (kernel(*each) * 2 * v).sum()

    found = torch.autograd.grad(torch.compile(loss, fullgraph=True)(*leaves), leaves)
    for ours, plain in zip(found, torch.autograd.grad(loss(*leaves), leaves), strict=True):
        torch.testing.assert_close(ours, plain)


@pytest.mark.parametrize("size", [(5000, 8, 4), (3000, 40, 30)])
def test_the_same_bits_on_every_stream_at_a_time(case: Case, size: tuple[int, ...]) -> None:
    """Each stream has working memory of its own."""
    kernel = tiaot.load(case.name)
    arrays, cotangent = case.draw(size, DTYPES[0])
    given = tensors([*arrays, cotangent])
    wrt = ("x", "W", "b")
    expected = kernel.vjp(*given, wrt=wrt)
    torch.cuda.synchronize()
    streams = [torch.cuda.Stream() for _ in range(4)]
    found: list[Any] = []
    for _ in range(10):
        for stream in streams:
            with torch.cuda.stream(stream):
                found.append(kernel.vjp(*given, wrt=wrt))
    torch.cuda.synchronize()
    for results in found:
        assert all(torch.equal(one, other) for one, other in zip(results, expected, strict=True))


def test_cupy(case: Case) -> None:
    cupy = pytest.importorskip("cupy")
    kernel = tiaot.load(case.name)
    size = next(size for size in case.sizes if size[0] >= 3)
    arrays, cotangent = case.draw(size, DTYPES[0])
    given = [cupy.asarray(each) for each in arrays]
    v = cupy.asarray(cotangent)
    y = kernel(*given)
    assert isinstance(y, cupy.ndarray)
    case.forward(arrays).check(y.get(), "value")
    # On CuPy's current stream, behind the work there.
    stream = cupy.cuda.Stream(non_blocking=True)
    cupy.cuda.Device().synchronize()
    with stream:
        late = given[0]
        for _ in range(100):
            late = late * 1
        gradient = kernel.vjp(late, *given[1:], v)
    stream.synchronize()
    case.vjp(arrays, cotangent)["x"].check(gradient.get(), "gradient of x")
    out = cupy.empty_like(y)
    assert kernel(*given, out=out, stream=stream) is out
    stream.synchronize()
    assert (out == y).all()


def test_arrays_of_the_host_among_those_of_the_device(case: Case) -> None:
    kernel = tiaot.load(case.name)
    inputs, _ = drawn(case)
    with pytest.raises(TypeError, match="argument 'W': expected an array on cuda:0, where 'x' is, got one on the CPU"):
        kernel(inputs[0], inputs[1].cpu(), *inputs[2:])
    assert kernel(*inputs).device == inputs[0].device  # nothing is left of it


def test_an_illegal_access_ends_the_use_of_the_device() -> None:
    """In a process of its own, which cannot use the device any more and is told so."""
    script = """
import tiaot, torch
kernel = tiaot.load("dense_tanh")
x, W, b, y = (torch.zeros(shape, device="cuda") for shape in ((1000, 8), (4, 8), (4,), (1000, 4)))
kernel(x, W, b, out=y)
torch.cuda.synchronize()

class Nowhere:
    __cuda_array_interface__ = {"shape": (1000, 8), "typestr": "<f4", "data": (16, False), "version": 3}

kernel(Nowhere(), W, b, out=y)
try:
    torch.cuda.synchronize()
except RuntimeError:
    pass
for _ in range(2):
    try:
        kernel(x, W, b, out=y)
    except RuntimeError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120)
    said = done.stdout.splitlines()
    assert len(said) == 2, done.stdout + done.stderr
    assert all("cuda:0" in line and "has to be restarted" in line for line in said), done.stdout
