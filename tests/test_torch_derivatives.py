"""Forward mode and second derivatives of kernels on tensors, against those of the same formula in torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import module_files
import pytest
import tiaot

torch = pytest.importorskip("torch")
import tiaot.torch  # noqa: E402
from torch.autograd import forward_ad  # noqa: E402
from torch.func import grad, hessian, jacfwd, jacrev, jvp, linearize, vmap  # noqa: E402

# torch itself still uses what it has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")

SIZES = [(3, 8, 4), (5, 7, 3), (1, 4, 8), (0, 8, 4)]  # one of them of open sizes
Function = Callable[..., Any]


@pytest.fixture
def kernel() -> tiaot.torch.Kernel:
    return tiaot.torch.load("dense_tanh")


def layer(x: torch.Tensor, W: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.tanh(x @ W.T + b)


def draw(size: tuple[int, int, int], dtype: torch.dtype = torch.float64) -> tuple[list[Any], list[Any]]:
    """Inputs and tangents of them."""
    B, n, m = size
    generator = torch.Generator().manual_seed(B)
    inputs, tangents = (
        [torch.randn(shape, generator=generator, dtype=dtype) / n**0.5 for shape in ((B, n), (m, n), (m,))]
        for _ in range(2)
    )
    return inputs, tangents


def close(results: Any, expected: Any) -> None:
    results, expected = (torch.utils._pytree.tree_leaves(each) for each in (results, expected))
    for result, value in zip(results, expected, strict=True):
        # Sums of some 10 products of numbers of order 1, twice.
        bound = 200 * torch.finfo(value.dtype).eps
        torch.testing.assert_close(result, value, rtol=bound, atol=bound)


def loss(f: Function) -> Function:
    return lambda *inputs: f(*inputs).square().sum()


def along(f: Function, tangents: Any) -> Function:
    """The sum of squares of f's derivative along the tangents, as a function of the inputs."""
    return lambda *inputs: jvp(f, inputs, tuple(tangents))[1].square().sum()


def leaves_of(inputs: Any) -> list[torch.Tensor]:
    return [each.clone().requires_grad_() for each in inputs]


def dual_numbers(f: Function, a: Any, t: Any) -> Any:
    """The derivatives along all inputs, and along x alone."""
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(each, tangent) for each, tangent in zip(a, t, strict=True)]
        return forward_ad.unpack_dual(f(*duals)), forward_ad.unpack_dual(f(duals[0], *a[1:]))


def dual_numbers_through_the_gradient(f: Function, a: Any, t: Any) -> Any:
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(each, tangent) for each, tangent in zip(leaves_of(a), t, strict=True)]
        gradients = torch.autograd.grad(f(*duals).square().sum(), duals, create_graph=True)
        return [forward_ad.unpack_dual(each).tangent for each in gradients]


def backward_through_dual_numbers(f: Function, a: Any, t: Any) -> Any:
    leaves = leaves_of(a)
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(each, tangent) for each, tangent in zip(leaves, t, strict=True)]
        total = forward_ad.unpack_dual(f(*duals)).tangent.square().sum()
    return torch.autograd.grad(total, leaves)


def backward_through_a_jvp(f: Function, a: Any, t: Any) -> Any:
    leaves = leaves_of((*a, *t))
    total = jvp(f, tuple(leaves[:3]), tuple(leaves[3:]))[1].square().sum()
    return torch.autograd.grad(total, leaves)


ALL = (0, 1, 2)
TRANSFORMS: dict[str, Callable[[Function, Any, Any], Any]] = {
    "dual numbers": dual_numbers,
    "dual numbers through the gradient": dual_numbers_through_the_gradient,
    "backward through dual numbers": backward_through_dual_numbers,
    "backward through a jvp": backward_through_a_jvp,
    "jvp": lambda f, a, t: jvp(f, tuple(a), tuple(t)),
    "jvp of b": lambda f, a, t: jvp(lambda b: f(*a[:2], b), (a[2],), (t[2],)),
    "jacfwd": lambda f, a, t: jacfwd(f, ALL)(*a),
    "linearize": lambda f, a, t: linearize(f, *a)[1](*t),
    "hessian": lambda f, a, t: hessian(loss(f), ALL)(*a),
    "jacrev of jacrev": lambda f, a, t: jacrev(jacrev(loss(f), (0, 1)), (0, 2))(*a),
    "jacrev of jacfwd": lambda f, a, t: jacrev(jacfwd(f), (0, 1))(*a),
    "grad of grad": lambda f, a, t: grad(lambda *b: (grad(loss(f))(*b) * t[0]).sum(), ALL)(*a),
    "grad of jvp": lambda f, a, t: grad(along(f, t), ALL)(*a),
    "jvp of grad": lambda f, a, t: jvp(grad(loss(f), ALL), tuple(a), tuple(t)),
}


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("size", SIZES)
def test_as_the_formula_has_them(kernel: tiaot.torch.Kernel, name: str, size: tuple[int, int, int]) -> None:
    inputs, tangents = draw(size)
    close(*(TRANSFORMS[name](f, inputs, tangents) for f in (kernel, layer)))


@pytest.mark.parametrize("name", ["dual numbers", "jvp of grad"])
def test_in_single_precision(kernel: tiaot.torch.Kernel, name: str) -> None:
    inputs, tangents = draw((33, 8, 4), torch.float32)
    close(*(TRANSFORMS[name](f, inputs, tangents) for f in (kernel, layer)))


@pytest.mark.parametrize("axes", [(0, None, None), (None, 0, None), (None, None, 0), (0, -1, 0)])
def test_under_vmap(kernel: tiaot.torch.Kernel, axes: tuple[int | None, ...]) -> None:
    """The jvp, the Hessian's product and the gradient of a jvp, mapped over some inputs and all of the tangents."""
    inputs, tangents = draw((3, 8, 4))
    stacked = [a if i is None else torch.stack([a, 2 * a, -a], i) for a, i in zip(inputs, axes, strict=True)]
    moved = [torch.stack([t, -t, 3 * t]) for t in tangents]

    def derivatives(f: Function, x: Any, W: Any, b: Any, *t: Any) -> Any:
        some = jvp(lambda x: f(x, W, b), (x,), (t[0],))
        product = jvp(grad(loss(f), (0, 1)), (x, W, b), t)[1]
        return some, product, grad(along(f, t), (0, 2))(x, W, b)

    mapped = [vmap(lambda *a, f=f: derivatives(f, *a), (*axes, 0, 0, 0)) for f in (kernel, layer)]
    close(*(each(*stacked, *moved) for each in mapped))


def test_torchs_own_checks(kernel: tiaot.torch.Kernel) -> None:
    leaves = leaves_of(draw((3, 5, 2))[0])
    assert torch.autograd.gradcheck(kernel, leaves, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(kernel, leaves, check_fwd_over_rev=True)


def test_traced(kernel: tiaot.torch.Kernel) -> None:
    """What make_fx writes down is the operator, and no formula."""
    from torch.fx.experimental.proxy_tensor import make_fx

    inputs, tangents = draw((3, 8, 4))
    f = lambda *a: jvp(grad(loss(kernel), (0, 1)), a[:3], a[3:])[1]  # noqa: E731
    for mode in ("real", "fake"):
        program = make_fx(f, tracing_mode=mode)(*inputs, *tangents)
        names = [str(node.target) for node in program.graph.nodes if "tiaot" in str(node.target)]
        assert sum("_hvp" in name for name in names) == 1 and sum("_jvp" in name for name in names) == 1
        close(program(*inputs, *tangents), f(*inputs, *tangents))


def test_the_operator_itself_is_no_constant(kernel: tiaot.torch.Kernel) -> None:
    """Torch takes an operator without a rule for one. Where it compiles, it does so around a jvp."""
    (x, W, b), (t, *_) = draw((3, 8, 4))
    message = "dense_tanh: there is no forward-mode derivative under torch.compile and of the operator itself"
    with pytest.raises(NotImplementedError, match=message):
        jvp(lambda x: kernel._op(x, W, b), (x,), (t,))
    with forward_ad.dual_level(), pytest.raises(NotImplementedError, match=message):
        kernel._op(forward_ad.make_dual(x, t), W, b)
    f = lambda x: jvp(lambda x: kernel(x, W, b), (x,), (t,))  # noqa: E731
    close(torch.compile(f, backend="aot_eager")(x), f(x))


def test_several_outputs_and_a_vector_of_parameters(tmp_path: Path) -> None:
    """A kernel without a batch, updated in place, with a number by value that a jvp has a tangent of."""
    pytest.importorskip("taichi")
    pytest.importorskip("llvmlite")
    source = tmp_path / "push.py"
    source.write_text(PUSH)
    path = module_files.exported(source, tmp_path / "push.so", "--no-verify")
    kernel = tiaot.torch.wrap(tiaot.open(path).push)
    f = lambda x, v, dt: (x + dt * torch.sin(v), torch.sin(v) * v)  # noqa: E731
    x, v, tx, tv = torch.randn(4, 6, dtype=torch.float64)
    dt = torch.tensor(0.5, dtype=torch.float64)
    close(*(jvp(each, (x, v, dt), (tx, tv, 2 * dt)) for each in (kernel, f)))
    close(*(jacfwd(lambda dt, f=each: f(x, v, dt))(dt) for each in (kernel, f)))
    total = lambda f: lambda x, v: (f(x, v, dt)[0] ** 2).sum() + f(x, v, dt)[1].sum()  # noqa: E731
    close(*(hessian(total(each), (0, 1))(x, v) for each in (kernel, f)))
    with pytest.raises(NotImplementedError, match="the module has no gradient for argument 'dt'"):
        grad(lambda dt: jvp(lambda dt: kernel(x, v, dt), (dt,), (dt,))[1][0].sum())(dt)


PUSH = """
import taichi as ti
from tiaot.export import kernel
f64_1 = ti.types.ndarray(ti.f64, ndim=1)

@kernel("x[n], v[n], dt -> x[n], y[n]", wrt=["x v"], derivatives=["jvp", "hvp"])
@ti.kernel
def push(x: f64_1, v: f64_1, dt: ti.f64, y: f64_1):
    for i in x:
        x[i] += dt * ti.sin(v[i])
    for i in v:
        y[i] = ti.sin(v[i]) * v[i]
"""


def test_what_no_module_has(kernel: tiaot.torch.Kernel) -> None:
    (x, W, b), _ = draw((3, 8, 4))
    f = lambda x: kernel(x, W, b)  # noqa: E731
    with pytest.raises(NotImplementedError, match="dense_tanh: a forward-mode derivative of a forward-mode derivative"):
        jacfwd(jacfwd(f))(x)
    third = r"dense_tanh: a third derivative was asked for"
    with pytest.raises(NotImplementedError, match=third):
        grad(lambda x: jvp(grad(loss(f)), (x,), (x,))[1].sum())(x)
    leaf = x.clone().requires_grad_()
    (first,) = torch.autograd.grad(f(leaf).square().sum(), leaf, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), leaf, create_graph=True)
    with pytest.raises(NotImplementedError, match=third):
        second.sum().backward()


def test_what_the_module_lacks(small: tiaot.Module) -> None:
    kernel = tiaot.torch.wrap(small.pair)
    x, s = torch.ones(5, 3), torch.ones(3)
    total = lambda x: kernel(x, s)[1].sum()  # noqa: E731
    message = (
        r"pair: a derivative along tangents was asked for; it takes a jvp with respect to \(x\), which the module "
        r"lacks: export it with derivatives=\['jvp'\]"
    )
    with pytest.raises(NotImplementedError, match=message):
        jacfwd(total)(x)
    with forward_ad.dual_level(), pytest.raises(NotImplementedError, match=message):
        total(forward_ad.make_dual(x.clone().requires_grad_(), x))
    message = r"a derivative of its gradient .* an hvp with respect to \(x\).*derivatives=\['jvp', 'hvp'\]"
    with pytest.raises(NotImplementedError, match=message):
        grad(lambda x: grad(total)(x).sum())(x)
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(total(leaf), leaf, create_graph=True)
    with pytest.raises(NotImplementedError, match=message):
        gradient.sum().backward()
