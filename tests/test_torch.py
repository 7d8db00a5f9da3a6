"""Kernels on torch's tensors: values and gradients, each of torch's systems, and what cannot be right."""

from __future__ import annotations

import copy
import io
import itertools
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import module_files
import numpy as np
import pytest
import tiaot
from cases import CASES, Case

torch = pytest.importorskip("torch")
import tiaot.torch  # noqa: E402

DTYPES = [np.dtype(np.float32), np.dtype(np.float64)]
# torch itself still uses what it has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


def tensors(arrays: list[np.ndarray], requires_grad: bool = False) -> list[torch.Tensor]:
    return [torch.from_numpy(array.copy()).requires_grad_(requires_grad) for array in arrays]


def small(case: Case) -> tuple[int, ...]:
    """The largest size of the table that has a batch of three or more and at most a hundred elements."""
    sizes = [s for s in case.sizes if s[0] >= 2 and sum(a.size for a in case.draw(s, DTYPES[1])[0]) <= 100]
    return max(sizes, key=lambda size: np.prod(size))


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture
def kernel(case: Case) -> tiaot.torch.Kernel:
    return tiaot.torch.load(case.name)


@pytest.fixture
def double(case: Case) -> list[torch.Tensor]:
    return tensors(case.draw(small(case), DTYPES[1])[0])


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    yield
    torch._dynamo.reset()


def close(results, expected) -> None:
    results, expected = ([each] if torch.is_tensor(each) else list(each) for each in (results, expected))
    assert len(results) == len(expected)
    for result, value in zip(results, expected, strict=True):
        torch.testing.assert_close(result, value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_values_and_gradients_lie_within_the_bounds(case: Case, kernel: tiaot.torch.Kernel, dtype: np.dtype) -> None:
    for size in case.sizes:
        arrays, cotangent = case.draw(size, dtype)
        inputs = tensors(arrays, requires_grad=True)
        y = kernel(*inputs)
        case.forward(arrays).check(y.detach().numpy(), f"{size}")
        y.backward(torch.from_numpy(cotangent))
        references = case.vjp(arrays, cotangent)
        for tensor, (name, reference) in zip(inputs, references.items(), strict=True):
            reference.check(tensor.grad.numpy(), f"{size}: gradient of {name}")
        for tensor, array in zip(inputs, arrays, strict=True):
            assert tensor.detach().numpy().tobytes() == array.tobytes()


def test_every_set_of_gradients(case: Case, kernel: tiaot.torch.Kernel) -> None:
    arrays, cotangent = case.draw(small(case), DTYPES[1])
    references = case.vjp(arrays, cotangent)
    for wanted in itertools.product([False, True], repeat=len(arrays)):
        inputs = tensors(arrays)
        for tensor, want in zip(inputs, wanted, strict=True):
            tensor.requires_grad_(want)
        y = kernel(*inputs)
        assert y.requires_grad == any(wanted)
        if not any(wanted):
            continue
        y.backward(torch.from_numpy(cotangent))
        for tensor, want, (name, reference) in zip(inputs, wanted, references.items(), strict=True):
            assert (tensor.grad is not None) == want
            if want:
                reference.check(tensor.grad.numpy(), f"{wanted}: gradient of {name}")


def test_the_plain_call_gives_what_numpy_gets(case: Case, kernel: tiaot.torch.Kernel) -> None:
    for size in case.sizes[:8]:
        arrays, _ = case.draw(size, DTYPES[0])
        assert kernel(*tensors(arrays)).numpy().tobytes() == tiaot.load(case.name)(*arrays).tobytes()


# torch's own checks


def test_gradcheck(kernel: tiaot.torch.Kernel, double: list[torch.Tensor]) -> None:
    inputs = [tensor.requires_grad_() for tensor in double]
    assert torch.autograd.gradcheck(kernel, inputs, check_batched_grad=True)


def test_opcheck(case: Case, kernel: tiaot.torch.Kernel, double: list[torch.Tensor]) -> None:
    operator = kernel._operator
    cotangent = torch.from_numpy(case.draw(small(case), DTYPES[1])[1])
    torch.library.opcheck(operator.forward, double)
    torch.library.opcheck(operator.forward, [tensor.clone().requires_grad_() for tensor in double])
    for needed in itertools.product([False, True], repeat=len(double)):
        if any(needed):
            torch.library.opcheck(operator.vjp_op, (*double, cotangent, list(needed)))


# torch.func


def test_func_grad_and_vjp(case: Case, kernel: tiaot.torch.Kernel, double: list[torch.Tensor]) -> None:
    arrays, cotangent = case.draw(small(case), DTYPES[1])
    references = case.vjp(arrays, cotangent)
    v = torch.from_numpy(cotangent)
    everything = tuple(range(len(double)))
    y, pull_back = torch.func.vjp(kernel, *double)
    case.forward(arrays).check(y.numpy(), "forward")
    by_grad = torch.func.grad(lambda *inputs: (kernel(*inputs) * v).sum(), argnums=everything)(*double)
    for gradients in (pull_back(v), by_grad):
        for gradient, reference in zip(gradients, references.values(), strict=True):
            reference.check(gradient.numpy(), "gradient")


def test_func_jacrev(case: Case, kernel: tiaot.torch.Kernel, double: list[torch.Tensor]) -> None:
    jacobians = torch.func.jacrev(kernel, argnums=tuple(range(len(double))))(*double)
    names = kernel._operator.signature.inputs
    expected = tiaot.load(case.name).jacobian(*(tensor.numpy() for tensor in double), wrt=names)
    for name, jacobian, value in zip(names, jacobians, expected, strict=True):
        if name in kernel._operator.signature.batched:  # ours is the diagonal over the batch, all else is zero
            diagonal = torch.diagonal(jacobian, dim1=0, dim2=len(jacobian.shape) - len(value.shape) + 1)
            assert torch.count_nonzero(jacobian) == torch.count_nonzero(diagonal)
            jacobian = diagonal.movedim(-1, 0)
        close(jacobian, torch.from_numpy(value))


def test_func_vmap(kernel: tiaot.torch.Kernel, double: list[torch.Tensor]) -> None:
    """Every set of mapped inputs, at the first and the last dimension, against call by call; gradients too."""
    count = 3

    def value_and_gradients(*inputs: torch.Tensor) -> list[torch.Tensor]:
        y, pull_back = torch.func.vjp(kernel, *inputs)
        return [y, *pull_back(torch.ones_like(y))]

    for mapped in itertools.product([None, 0, -1], repeat=len(double)):
        if all(dim is None for dim in mapped):
            continue
        stacked = [
            tensor if dim is None else torch.stack([tensor * (i + 1) for i in range(count)], dim)
            for tensor, dim in zip(double, mapped, strict=True)
        ]
        each = [
            value_and_gradients(*(t if d is None else t.select(d, i) for t, d in zip(stacked, mapped, strict=True)))
            for i in range(count)
        ]
        close(torch.func.vmap(value_and_gradients, mapped)(*stacked), map(torch.stack, zip(*each, strict=True)))


def test_func_vmap_nested_and_empty(kernel: tiaot.torch.Kernel, double: list[torch.Tensor]) -> None:
    first, *rest = double
    outer, inner = torch.stack([first, 2 * first]), [torch.stack([tensor, -tensor, 3 * tensor]) for tensor in rest]
    each = torch.func.vmap(kernel, (None, *(0 for _ in inner)))
    expected = torch.stack([each(tensor, *inner) for tensor in outer])
    close(torch.func.vmap(each, (0, *(None for _ in inner)))(outer, *inner), expected)
    y = kernel(*double)
    for place, tensor in enumerate(double):
        nothing = [tensor.new_empty((0, *tensor.shape)) if i == place else t for i, t in enumerate(double)]
        dims = tuple(0 if i == place else None for i in range(len(double)))
        assert torch.func.vmap(kernel, dims)(*nothing).shape == (0, *y.shape)


def test_gradients_of_a_mapped_call(kernel: tiaot.torch.Kernel, double: list[torch.Tensor]) -> None:
    first, *rest = double
    stacked = torch.stack([first, 2 * first, 3 * first])
    dims = (0, *(None for _ in rest))
    by_func = torch.func.grad(lambda *inputs: torch.func.vmap(kernel, dims)(stacked, *inputs).sum())(*rest)
    leaves = [tensor.clone().requires_grad_() for tensor in rest]
    torch.func.vmap(kernel, dims)(stacked, *leaves).sum().backward()
    once = [tensor.clone().requires_grad_() for tensor in rest]
    sum(kernel(tensor, *once).sum() for tensor in stacked).backward()
    close([by_func, leaves[0].grad], [once[0].grad, once[0].grad])


# compile, export, tracing


def loss(kernel: tiaot.torch.Kernel, *inputs: torch.Tensor) -> torch.Tensor:
    return (kernel(*inputs) * 2).square().sum()


def test_compile(case: Case, kernel: tiaot.torch.Kernel) -> None:
    compiled = torch.compile(loss, fullgraph=True)
    for size in [small(case), *(s for s in case.sizes if s[0] in (0, 7, 9))][:4]:  # recompiled for symbolic sizes
        arrays = case.draw(size, DTYPES[1])[0]
        ours, theirs = tensors(arrays, requires_grad=True), tensors(arrays, requires_grad=True)
        value, expected = compiled(kernel, *ours), loss(kernel, *theirs)
        value.backward()
        expected.backward()
        close([value, *(t.grad for t in ours)], [expected, *(t.grad for t in theirs)])


@pytest.mark.parametrize("strict", [False, True])
def test_export(strict: bool) -> None:
    layer = tiaot.torch.DenseTanh(8, 4, dtype=torch.float64)
    x = torch.randn(6, 8, dtype=torch.float64)
    dims = ({0: torch.export.Dim("B")},)
    program = torch.export.export(layer, (x[:3],), dynamic_shapes=dims, strict=strict)
    assert any("tiaot.dense_tanh" in str(node.target) for node in program.graph.nodes)
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    for each in (program, torch.export.load(file)):
        close(each.module()(x), layer(x))


def test_make_fx(kernel: tiaot.torch.Kernel, double: list[torch.Tensor]) -> None:
    from torch.fx.experimental.proxy_tensor import make_fx

    for mode in ("real", "fake", "symbolic"):
        traced = make_fx(lambda *inputs: loss(kernel, *inputs), tracing_mode=mode)(*double)
        assert "tiaot" in traced.code
        close(traced(*double), loss(kernel, *double))


def test_fake_and_meta_tensors(kernel: tiaot.torch.Kernel, double: list[torch.Tensor]) -> None:
    from torch._subclasses import FakeTensorMode

    expected = kernel(*double)
    for requires_grad in (False, True):
        meta = kernel(*(tensor.to("meta").requires_grad_(requires_grad) for tensor in double))
        assert (meta.device.type, meta.shape, meta.dtype) == ("meta", expected.shape, expected.dtype)
        leaves = [tensor.clone().requires_grad_(requires_grad) for tensor in double]
        with FakeTensorMode() as mode:
            fake = kernel(*map(mode.from_tensor, leaves))
        assert (fake.shape, fake.dtype, fake.requires_grad) == (expected.shape, expected.dtype, requires_grad)
    with FakeTensorMode() as mode, pytest.raises(ValueError, match=kernel.name):
        kernel(*(mode.from_tensor(tensor)[None] for tensor in double))


# tensors of every kind


def variants_of(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """Tensors of the same values that lie in memory in other ways."""
    yield tensor.t().contiguous().t() if tensor.ndim == 2 else tensor
    yield torch.stack([tensor, tensor], -1)[..., 1]
    yield torch.stack([tensor, tensor])[1]
    yield tensor.flip(0).flip(0)
    yield torch._neg_view(-tensor)
    yield torch.complex(torch.zeros_like(tensor), -tensor).conj().imag
    yield torch.nn.Parameter(tensor)


@pytest.mark.parametrize("requires_grad", [False, True])
def test_tensors_that_lie_in_memory_in_any_way(
    kernel: tiaot.torch.Kernel, double: list[torch.Tensor], requires_grad: bool
) -> None:
    expected = kernel(*double)
    for place, tensor in enumerate(double):
        for other in variants_of(tensor):
            inputs = [other if i == place else t.clone().requires_grad_(requires_grad) for i, t in enumerate(double)]
            y = kernel(*inputs)
            close(y.detach(), expected)
            if requires_grad:
                y.backward(torch.stack([expected, expected], -1)[..., 0])
    expanded = double[0][:1].expand(double[0].shape)
    close(kernel(expanded, *double[1:]), kernel(expanded.contiguous(), *double[1:]))


# What stands for x, made of a good one.
REFUSED = {
    "sparse": (lambda x: x.to_sparse(), TypeError, "sparse_coo"),
    "compressed": (lambda x: x.to_sparse_csr(), TypeError, "sparse_csr"),
    "mkldnn": (lambda x: x.to_mkldnn(), TypeError, "mkldnn"),
    "nested": (lambda x: torch.nested.nested_tensor([x[0], x[1]]), TypeError, "nested"),
    "quantised": (lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.quint8), TypeError, "quint8"),
    "half": (lambda x: x.half(), TypeError, "expected float32 or float64, got float16"),
    "integers": (lambda x: x.int(), TypeError, "expected float32 or float64, got int32"),
    "complex": (lambda x: torch.complex(x, x).conj(), TypeError, "complex64"),
    "double": (lambda x: x.double(), TypeError, "'W': expected float64, got float32"),
    "rank": (lambda x: x[0], ValueError, "'x': expected float32"),
    "size": (lambda x: x[:, :7], ValueError, "'W': expected float32"),
    "NumPy": (lambda x: x.numpy(), TypeError, "'x': expected a torch.Tensor, got numpy.ndarray"),
    "number": (lambda x: 3, TypeError, "'x': expected a torch.Tensor, got int"),
    "None": (lambda x: None, TypeError, "'x': expected a torch.Tensor, got NoneType"),
}


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.parametrize("requires_grad", [False, True])
def test_tensors_that_are_refused(what: str, requires_grad: bool) -> None:
    make, exception, message = REFUSED[what]
    bad = make(torch.randn(3, 8))
    kernel = tiaot.torch.load("dense_tanh")
    W, b = torch.randn(4, 8, requires_grad=requires_grad), torch.randn(4)
    with pytest.raises(exception, match=message) as raised:
        kernel(bad, W, b)
    assert str(raised.value).startswith("dense_tanh")


def test_calls_that_are_refused() -> None:
    kernel = tiaot.torch.load("dense_tanh")
    x, W = torch.randn(3, 8), torch.randn(4, 8)
    with pytest.raises(TypeError, match=r"expected 3 arrays \(x, W, b\), got 2"):
        kernel(x, W)
    with pytest.raises(TypeError, match=r"expected a tiaot\.Kernel, got int"):
        tiaot.torch.wrap(3)
    with pytest.raises(ValueError, match="expected one of"):
        tiaot.torch.load("nothing")


def test_a_tensor_without_memory_ends_well() -> None:
    """Zeros that torch has not written down, and a wrapper that has outlived its transform."""
    kernel = tiaot.torch.load("dense_tanh")
    W, b = torch.randn(4, 8), torch.randn(4)
    zeros = torch._efficientzerotensor((3, 8))
    close(kernel(zeros, W, b), kernel(torch.zeros(3, 8), W, b))
    kept = []
    torch.func.vmap(lambda x: kept.append(x) or x)(torch.randn(2, 3, 8))
    with pytest.raises(TypeError, match="'x': expected a tensor that holds its values, got one that has left"):
        kernel(kept[0], W, b)


class Subclass(torch.Tensor):
    pass


class Seen(torch.overrides.TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def test_subclasses_and_modes_see_the_call(kernel: tiaot.torch.Kernel, double: list[torch.Tensor]) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    expected = kernel(*double)
    first = double[0].as_subclass(Subclass).requires_grad_()
    y = kernel(first, *double[1:])
    assert type(y) is Subclass
    y.sum().backward()
    assert first.grad is not None
    with Seen() as seen:
        close(kernel(*double), expected)
    assert any("tiaot" in name for name in seen.names)
    with FlopCounterMode(display=False):
        close(kernel(*double), expected)


def test_modes_of_autograd(kernel: tiaot.torch.Kernel, double: list[torch.Tensor]) -> None:
    leaves = [tensor.clone().requires_grad_() for tensor in double]
    with torch.no_grad():
        assert not kernel(*leaves).requires_grad
    with torch.inference_mode():
        assert kernel(*double).is_inference()
        assert kernel(*leaves).is_inference()
        made = double[-1].clone()
    assert not kernel(*double[:-1], made).is_inference()
    with pytest.raises(RuntimeError, match="Inference tensors cannot be saved"):
        kernel(*leaves[:-1], made)
    y = kernel(*leaves)
    y.mul_(2)  # in place on a result
    y.sum().backward()
    again = [tensor.clone().requires_grad_() for tensor in double]
    (kernel(*again) * 2).sum().backward()
    close([t.grad for t in leaves], [t.grad for t in again])
    changed = [tensor.clone().requires_grad_() * 1 for tensor in double]
    y = kernel(*changed)
    with torch.no_grad():
        changed[-1].add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_gradients_in_batches(kernel: tiaot.torch.Kernel, double: list[torch.Tensor]) -> None:
    leaves = [tensor.clone().requires_grad_() for tensor in double]
    y = kernel(*leaves)
    cotangents = torch.stack([torch.ones_like(y), torch.full_like(y, 2)])
    batched = torch.autograd.grad(y, leaves, cotangents, is_grads_batched=True, retain_graph=True)
    each = [torch.autograd.grad(y, leaves, v, retain_graph=True) for v in cotangents]
    close(batched, map(torch.stack, zip(*each, strict=True)))


@pytest.mark.parametrize("wanted", [(0,), (1, 2), (0, 1, 2), (0, 2)])
def test_second_derivatives_under_autograd(
    kernel: tiaot.torch.Kernel, double: list[torch.Tensor], wanted: tuple[int, ...]
) -> None:
    leaves = [tensor.clone().requires_grad_(i in wanted) for i, tensor in enumerate(double)]
    assert torch.autograd.gradgradcheck(kernel, leaves)


def test_a_gradient_penalty_is_torchs(kernel: tiaot.torch.Kernel, double: list[torch.Tensor]) -> None:
    found = []
    for layer in (kernel, lambda x, W, b: torch.tanh(x @ W.T + b)):
        x, W, b = leaves = [tensor.clone().requires_grad_() for tensor in double]
        (gradient,) = torch.autograd.grad(layer(*leaves).square().sum(), x, create_graph=True)
        (gradient.square().sum() + layer(x, W, b).sum()).backward()
        found.append([leaf.grad for leaf in leaves])
    close(*found)


# handles


def test_handles_pickle_and_close() -> None:
    kernel = tiaot.torch.load("dense_tanh")
    x, W, b = torch.randn(3, 8), torch.randn(4, 8), torch.randn(4)
    close(pickle.loads(pickle.dumps(kernel))(x, W, b), kernel(x, W, b))
    module = tiaot.open(kernel.module.path)
    other = tiaot.torch.wrap(module.dense_tanh)
    close(other(x, W, b), kernel(x, W, b))
    assert other.signature == kernel.signature and "dense_tanh" in repr(other)
    module.close()
    with pytest.raises(tiaot.ModuleError, match="is closed"):
        other(x, W, b)
    dynamic = tiaot.load("dense_tanh").restrict("float32_dynamic")
    close(tiaot.torch.wrap(dynamic)(x, W, b), torch.from_numpy(dynamic(x.numpy(), W.numpy(), b.numpy())))


def test_a_module_that_is_opened_again(tmp_path: Path) -> None:
    path = module_files.write_small(tmp_path / "small.so", hash="12ab" * 16)
    for _ in range(2):
        with tiaot.open(path) as module:
            x, s = torch.randn(2, 3, requires_grad=True), torch.randn(3)
            p, _ = tiaot.torch.wrap(module.pair)(x, s)
            p.sum().backward()
            torch.testing.assert_close(x.grad, s.expand(2, 3))


def test_layers() -> None:
    layer = tiaot.torch.DenseTanh(8, 4)
    assert {name: tuple(p.shape) for name, p in layer.named_parameters()} == {"W": (4, 8), "b": (4,)}
    x = torch.randn(5, 8)
    expected = torch.tanh(torch.nn.functional.linear(x, layer.W, layer.b))
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-6)
    twin = copy.deepcopy(layer)
    assert twin.W is not layer.W
    twin.load_state_dict(layer.state_dict())
    close(pickle.loads(pickle.dumps(twin))(x), layer(x))
    partial = tiaot.torch.Layer(tiaot.torch.load("dense_tanh"), b=torch.zeros(4))
    close(partial(x, layer.W), layer.kernel(x, layer.W, torch.zeros(4)))
    for each, arguments in ((layer, (x,)), (partial, (x, layer.W))):
        close(torch.compile(each, fullgraph=True)(*arguments), each(*arguments))
    with pytest.raises(TypeError, match=r"expected 2 tensors \(x, W\), got 1"):
        partial(x)
    with pytest.raises(ValueError, match="expected names of inputs, x, W, b, got 'weight'"):
        tiaot.torch.Layer(tiaot.torch.load("dense_tanh"), weight=torch.zeros(4))


def test_layers_of_other_things() -> None:
    """A kernel for NumPy, NumPy's arrays, and what cannot be right."""
    W, b = np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32), np.zeros(4, np.float32)
    layer = tiaot.torch.Layer(tiaot.load("dense_tanh"), W=W, b=b)
    W_before = W.copy()
    x = torch.randn(5, 8)
    layer(x).sum().backward()
    with torch.no_grad():
        layer.W.add_(1)
    assert layer.W.grad.shape == (4, 8) and np.array_equal(W, W_before)
    for parameters, exception, message in (
        ({"W": [1.0]}, TypeError, "argument 'W': expected a tensor or a NumPy array, got list"),
        ({"W": W[0]}, ValueError, r"argument 'W': expected float32\[m, n\], got float32\[8\]"),
        ({"W": W, "b": b[:3]}, ValueError, r"argument 'b': expected float32\[m=4\], got float32\[3\]"),
        ({"W": W.astype(np.int32)}, TypeError, "argument 'W': expected float32 or float64, got int32"),
        ({"W": W, "b": b.astype(np.float64)}, TypeError, "argument 'b': expected float32, got float64"),
    ):
        with pytest.raises(exception, match=message):
            tiaot.torch.Layer(layer.kernel, **parameters)
    with pytest.raises(TypeError, match="Layer: argument 'kernel': expected a Kernel, got int"):
        tiaot.torch.Layer(3)


def test_inputs_without_a_gradient_are_buffers(small: tiaot.Module) -> None:
    kernel = small.kernels["close"]  # of x and k, an array of int32
    layer = tiaot.torch.Layer(kernel, k=np.zeros(3, np.int32))
    assert not list(layer.parameters()) and [name for name, _ in layer.named_buffers()] == ["k"]
    close(layer(torch.ones(3)), torch.full((3,), 2.0))


@pytest.mark.parametrize("bias", [True, False])
def test_dense_tanh_takes_what_linear_takes(bias: bool) -> None:
    layer, linear = (make(8, 4, bias=bias, dtype=torch.float64) for make in (tiaot.torch.DenseTanh, torch.nn.Linear))
    assert {name for name, _ in layer.named_parameters()} == ({"W", "b"} if bias else {"W"}) == set(layer.state_dict())
    assert repr(layer) == repr(linear).replace("Linear", "DenseTanh")
    with torch.no_grad():
        for own, other in zip(layer.parameters(), linear.parameters(), strict=True):
            other.copy_(own)
    for shape in ((8,), (0, 8), (5, 8), (2, 3, 8), (2, 0, 3, 8), (2, 3, 1, 8)):
        for each in (layer, linear):
            each.zero_grad()
        x, twin = (torch.ones(shape, dtype=torch.float64).cumsum(-1).requires_grad_() for _ in range(2))
        y, expected = layer(x), torch.tanh(linear(twin))
        close(y, expected)
        y.square().sum().backward()
        expected.square().sum().backward()
        close([x.grad, *(p.grad for p in layer.parameters())], [twin.grad, *(p.grad for p in linear.parameters())])
    x = torch.randn(2, 3, 8, dtype=torch.float64)
    close(torch.compile(layer, fullgraph=True, backend="aot_eager")(x), layer(x))
    assert tiaot.torch.DenseTanh(8, 4, bias, device="meta").W.is_meta
    before = layer.W.detach().clone()
    layer.reset_parameters()
    assert not torch.equal(layer.W, before) and layer.W.abs().max() <= 8**-0.5
    with pytest.raises(ValueError, match="expected float64"):
        layer(x[..., :7])


def test_arguments_by_name(kernel: tiaot.torch.Kernel, double: list[torch.Tensor]) -> None:
    names = kernel._operator.signature.inputs
    expected = kernel(*double)
    close(kernel(**dict(reversed(list(zip(names, double, strict=True))))), expected)
    close(kernel(*double[:-1], **{names[-1]: double[-1]}), expected)
    for arguments, named, message in (
        (double[:-1], {}, f"got {len(names) - 1}: missing '{names[-1]}'"),
        (double[:-1], {names[0]: double[0]}, f"'{names[0]}': given by position and by name"),
        (double[1:2], {}, f"missing '{names[1]}'"),
        ((), dict(zip(names[1:], double[1:], strict=True)), f"missing '{names[0]}'"),
        (double, {"other": double[0]}, "expected names of inputs, .*, got 'other'"),
    ):
        with pytest.raises(TypeError, match=message):
            kernel(*arguments, **named)


def test_too_few_tensors_of_a_kernel_without_all_gradients(small: tiaot.Module) -> None:
    kernel = tiaot.torch.wrap(small.kernels["close"])
    with pytest.raises(TypeError, match=r"expected 2 arrays \(x, k\), got 1: missing 'k'"):
        kernel(torch.randn(3, requires_grad=True))


# half precision


def test_autocast_computes_in_float32() -> None:
    """Tensors of half precision are cast in and the results out; those of float32 stay, and so do gradients' types."""
    kernel = tiaot.torch.load("dense_tanh")
    x, W, b = torch.randn(5, 8), torch.randn(4, 8, requires_grad=True), torch.randn(4)
    low = x.bfloat16().requires_grad_()
    with pytest.raises(TypeError, match="'x': expected float32 or float64, got bfloat16"):
        kernel(low, W, b)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = kernel(low, W, b)
        assert kernel(x, W, b).dtype == torch.float32
        compiled = torch.compile(lambda x: kernel(x, W, b), fullgraph=True, backend="aot_eager")(low)
    close(y, kernel(low.float(), W, b).bfloat16())
    close(compiled, y)
    y.float().sum().backward()
    assert low.grad.dtype == torch.bfloat16 and W.grad.dtype == torch.float32
    wide = x.bfloat16().float().requires_grad_()
    (gx,) = torch.autograd.grad(kernel(wide, W, b).sum(), wide)
    close(low.grad, gx.bfloat16())


def test_upcast() -> None:
    plain, kernel = (tiaot.torch.load("dense_tanh", upcast=upcast) for upcast in (False, True))
    x, W, b = torch.randn(5, 8), torch.randn(4, 8), torch.randn(4)
    for low in (torch.bfloat16, torch.float16):
        expected = plain(x.to(low).float(), W, b)
        for each in (kernel, pickle.loads(pickle.dumps(kernel)), copy.deepcopy(kernel)):
            close(each(x.to(low), W, b), expected.to(low))
    assert kernel(x.bfloat16(), W, b.half()).dtype == torch.float32  # the smallest type that holds both
    close(kernel(x.double(), W.double(), b.double()), plain(x.double(), W.double(), b.double()))
    close(torch.func.vmap(kernel, (0, None, None))(x[:, None].bfloat16(), W, b), kernel(x.bfloat16(), W, b)[:, None])
    layer = tiaot.torch.DenseTanh(8, 4).bfloat16()
    y = layer(x.bfloat16())
    y.sum().backward()
    assert y.dtype == layer.W.grad.dtype == torch.bfloat16


# threads and the profiler


def test_num_threads(monkeypatch) -> None:
    """The limit reaches the kernel in a call and in its gradient; the results are the same."""
    kernel = tiaot.torch.load("dense_tanh")
    x, W, b = torch.randn(3000, 8, requires_grad=True), torch.randn(4, 8), torch.randn(4)
    seen = []
    limited = type(kernel._operator).limited

    def spy(operator, num_threads):
        twin = limited(operator, num_threads)
        raw = twin.raw._kernel

        class Spy:
            def __call__(self, *tensors, **keywords):
                seen.append(("forward", keywords))
                return raw(*tensors, **keywords)

            def vjp(self, *tensors, **keywords):
                seen.append(("vjp", keywords))
                return raw.vjp(*tensors, **keywords)

        twin.raw._kernel = Spy()
        return twin

    monkeypatch.setattr(type(kernel._operator), "limited", spy)
    y = kernel(x, W, b, num_threads=1)
    close(y, kernel(x, W, b))
    y.sum().backward()
    assert seen == [("forward", {"num_threads": 1}), ("vjp", {"wrt": ("x",), "num_threads": 1})]
    for wrong, exception in ((0, ValueError), (-1, ValueError), ("1", TypeError)):
        with pytest.raises(exception, match="'num_threads': expected"):
            kernel(x, W, b, num_threads=wrong)
    with pytest.raises(TypeError, match="'W': expected float32, got float64"):
        kernel(x, W.double(), b, num_threads=1)
    with pytest.raises(NotImplementedError, match="num_threads: expected plain tensors"):
        torch.func.grad(lambda x: kernel(x, W, b, num_threads=1).sum())(x.detach())


def test_the_profiler_shows_the_kernel() -> None:
    kernel = tiaot.torch.load("dense_tanh")
    x, W, b = torch.randn(3, 8, requires_grad=True), torch.randn(4, 8), torch.randn(4)
    with torch.profiler.profile() as profile:
        kernel(x, W, b).sum().backward()
    names = {event.key for event in profile.key_averages()}
    assert {f"tiaot::{kernel._operator.name}", f"tiaot::{kernel._operator.name}_vjp"} <= names


def test_several_outputs(small: tiaot.Module) -> None:
    kernel = tiaot.torch.wrap(small.pair)  # p = x * s, q = the sum of p over n
    arguments = [torch.randn(5, 3, requires_grad=True), torch.randn(3, requires_grad=True)]

    def reference(x: torch.Tensor, s: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x * s, (x * s).sum(-1)

    def near(results, expected) -> None:
        for result, value in zip(results, expected, strict=True):
            torch.testing.assert_close(result, value, rtol=1e-5, atol=1e-5)

    near(kernel(*arguments), reference(*arguments))
    near(
        torch.autograd.grad(kernel(*arguments)[1].sum(), arguments),
        torch.autograd.grad(reference(*arguments)[1].sum(), arguments),
    )
    for argnums in (0, 1):
        plain = [tensor.detach() for tensor in arguments]
        near(torch.func.jacrev(kernel, argnums)(*plain), torch.func.jacrev(reference, argnums)(*plain))
    stacked = torch.stack([plain[0], 2 * plain[0]])
    near(torch.func.vmap(kernel, (0, None))(stacked, plain[1]), reference(stacked, plain[1]))
    near(torch.compile(lambda x, s: kernel(x, s), fullgraph=True)(*arguments), reference(*arguments))
    torch.library.opcheck(kernel._operator.forward, arguments)
    cotangents = (torch.randn(5, 3), torch.randn(5))
    torch.library.opcheck(kernel._operator.vjp_op, (*plain, *cotangents, [True, True]))


def test_a_kernel_without_gradients(small: tiaot.Module) -> None:
    kernel = tiaot.torch.wrap(small.kernels["close"])  # has no vjp; k is an array of int32
    x, k = torch.randn(3), torch.zeros(3, dtype=torch.int32)
    close(kernel(x, k), 2 * x)
    close(torch.func.vmap(kernel)(torch.stack([x, -x]), torch.stack([k, k])), torch.stack([2 * x, -2 * x]))
    with pytest.raises(NotImplementedError, match=r"argument 'x': requires grad, but the module has no gradient"):
        kernel(x.requires_grad_(), k)
    with pytest.raises(TypeError, match="'k': expected int32, got float32"):
        kernel(x.detach(), x.detach())


def test_importing_tiaot_imports_no_framework() -> None:
    code = "import sys, tiaot; print([name for name in ('torch', 'jax') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="has no attribute 'tensorflow'"):
        tiaot.tensorflow  # noqa: B018
