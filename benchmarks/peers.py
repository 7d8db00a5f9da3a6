"""Who is measured: one small class a peer, and the table of them all. Prepares statements; does not time them.

Every peer starts with its inputs in arrays of its own kind and ends with the gradients in arrays of its own kind:
nobody pays for a conversion.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .cases import Case, Inputs

# The full Jacobian takes one reverse pass for each of the B * m outputs.
_MOST_PASSES = 4096
_MOST_JACOBIAN = 1 << 26


def _as_arrays(value: Any) -> tuple[NDArray, ...]:
    """One array or a tuple of them, of any kind that NumPy can read, as a tuple of NumPy arrays."""
    return tuple(np.asarray(a) for a in (value if isinstance(value, (tuple, list)) else (value,)))


@dataclass
class Prepared:
    """An expression to time, the names in it, and how to make a tuple of NumPy arrays of its value."""

    expression: str
    names: dict[str, Any]
    results: Callable[[Any], tuple[NDArray, ...]] = field(default=_as_arrays)


class Peer(Protocol):
    """A way to compute the vjp. Constructing it raises ImportError or RuntimeError when it cannot run here."""

    name: str
    title: str

    def __init__(self, threads: int) -> None: ...

    def skip(self, case: Case) -> str:
        """Why the case is not run, '' when it is."""

    def prepare(self, case: Case, inputs: Inputs) -> Prepared: ...


class _Everything:
    """A peer that runs every case."""

    def skip(self, case: Case) -> str:
        return ""


def _empty_gradients(case: Case, inputs: Inputs) -> tuple[NDArray, ...]:
    return tuple(np.empty_like(getattr(inputs, name)) for name in case.wrt)


class Tiaot(_Everything):
    name, title = "tiaot", "tiaot"

    def __init__(self, threads: int) -> None:
        import tiaot

        tiaot.set_num_threads(threads)
        self._kernel = tiaot.load("dense_tanh")
        self.module_path = self._kernel.module.path

    def prepare(self, case: Case, inputs: Inputs) -> Prepared:
        out = _empty_gradients(case, inputs)
        names = {"dense_tanh": self._kernel, "out": out[0] if len(out) == 1 else out, **vars(inputs)}
        if case.wrt == ("x",):
            return Prepared("dense_tanh.vjp(x, W, b, v, out=out)", names)
        return Prepared("dense_tanh.vjp(x, W, b, v, wrt=wrt, out=out)", {**names, "wrt": case.wrt})


class TiaotNew(Tiaot):
    """The results are new arrays in each call, as those of NumPy, torch and JAX are."""

    name, title = "tiaot-new", "tiaot, new arrays"

    def prepare(self, case: Case, inputs: Inputs) -> Prepared:
        names = {"dense_tanh": self._kernel, **vars(inputs)}
        if case.wrt == ("x",):
            return Prepared("dense_tanh.vjp(x, W, b, v)", names)
        return Prepared("dense_tanh.vjp(x, W, b, v, wrt=wrt)", {**names, "wrt": case.wrt})


class TiaotBound(Tiaot):
    name, title = "tiaot-bound", "tiaot, bound"

    def prepare(self, case: Case, inputs: Inputs) -> Prepared:
        out = _empty_gradients(case, inputs)
        wrt = case.wrt if len(out) > 1 else case.wrt[0]
        call = self._kernel.vjp.bind(*vars(inputs).values(), wrt=wrt, out=out if len(out) > 1 else out[0])
        return Prepared("call()", {"call": call}, lambda _: out)


class Cpp(_Everything):
    """The folder of the built extension comes from the process that started this one."""

    name, title = "cpp", "C++ by hand"
    folder: str | None = None

    def __init__(self, threads: int) -> None:
        built = sorted(Path(self.folder).glob("dense_tanh_cpp*.so")) if self.folder else []
        if not built:
            raise ImportError("the C++ function was not built")
        spec = importlib.util.spec_from_file_location("dense_tanh_cpp", built[0])
        self._module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self._module)
        self._module.set_num_threads(threads)
        self.microseconds_from_c = self._module.microseconds_from_c
        self.fma_gflops = self._module.fma_gflops

    def prepare(self, case: Case, inputs: Inputs) -> Prepared:
        out = _empty_gradients(case, inputs)
        names = {
            "vjp": self._module.vjp,
            **vars(inputs),
            **{f"g{name}": a for name, a in zip(case.wrt, out, strict=True)},
        }
        expression = "vjp(x, W, b, v, gx)" if len(out) == 1 else "vjp(x, W, b, v, gx, gW, gb)"
        return Prepared(expression, names, lambda _: out)


class Numpy(_Everything):
    name, title = "numpy", "NumPy by hand"

    def __init__(self, threads: int) -> None:
        pass  # the BLAS reads its thread count from the environment, before it is loaded

    @staticmethod
    def _all(x: NDArray, W: NDArray, b: NDArray, v: NDArray) -> tuple[NDArray, ...]:
        g = (1 - np.tanh(x @ W.T + b) ** 2) * v
        return g @ W, g.T @ x, g.sum(0)

    def prepare(self, case: Case, inputs: Inputs) -> Prepared:
        if case.wrt == ("x",):
            return Prepared("((1 - np.tanh(x @ W.T + b) ** 2) * v) @ W", {"np": np, **vars(inputs)})
        return Prepared("vjp(x, W, b, v)", {"vjp": self._all, **vars(inputs)})


class Torch(_Everything):
    name, title = "torch", "torch by hand"

    def __init__(self, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self._torch = torch

    def _tensors(self, inputs: Inputs) -> dict[str, Any]:
        return {name: self._torch.from_numpy(a.copy()) for name, a in vars(inputs).items()}

    def prepare(self, case: Case, inputs: Inputs) -> Prepared:
        torch = self._torch

        def vjp_x(x, W, b, v):
            y = torch.tanh(torch.addmm(b, x, W.t()))
            return (1 - y * y).mul_(v) @ W

        def vjp_all(x, W, b, v):
            y = torch.tanh(torch.addmm(b, x, W.t()))
            g = (1 - y * y).mul_(v)
            return g @ W, g.t() @ x, g.sum(0)

        run = vjp_x if case.wrt == ("x",) else vjp_all
        return Prepared("vjp(x, W, b, v)", {"vjp": run, **self._tensors(inputs)})


class TorchAutograd(Torch):
    name, title = "torch-autograd", "torch autograd"

    def prepare(self, case: Case, inputs: Inputs) -> Prepared:
        torch, tensors = self._torch, self._tensors(inputs)
        wanted = [tensors[name].requires_grad_() for name in case.wrt]

        def vjp(x, W, b, v):
            return torch.autograd.grad(torch.tanh(torch.nn.functional.linear(x, W, b)), wanted, v)

        return Prepared("vjp(x, W, b, v)", {"vjp": vjp, **tensors})


class TorchJacobian(Torch):
    """The full Jacobian (B, m, B, n), one reverse pass an output, contracted with v."""

    name, title = "torch-jacobian", "torch, full Jacobian"

    def skip(self, case: Case) -> str:
        if case.wrt != ("x",):
            return "gives the gradient of x only"
        if case.B * case.m > _MOST_PASSES or case.work * case.B > _MOST_JACOBIAN:
            return "too slow"
        return ""

    def prepare(self, case: Case, inputs: Inputs) -> Prepared:
        torch = self._torch

        def vjp(x, W, b, v):
            jacobian = torch.autograd.functional.jacobian(lambda x: torch.tanh(x @ W.T + b), x)
            return torch.einsum("im,imkn->kn", v, jacobian)

        return Prepared("vjp(x, W, b, v)", {"vjp": vjp, **self._tensors(inputs)})


class Jax(_Everything):
    name, title = "jax", "jax.jit"

    def __init__(self, threads: int) -> None:
        import jax

        self._jax = jax  # XLA takes its thread count from the CPU affinity

    def prepare(self, case: Case, inputs: Inputs) -> Prepared:
        jax = self._jax
        jax.config.update("jax_enable_x64", case.dtype == "float64")

        def vjp(x, W, b, v):
            gradients = jax.vjp(lambda *primals: jax.numpy.tanh(primals[0] @ primals[1].T + primals[2]), x, W, b)[1](v)
            return gradients[: len(case.wrt)]

        names = {name: jax.numpy.asarray(a) for name, a in vars(inputs).items()}
        return Prepared("ready(vjp(x, W, b, v))", {"vjp": jax.jit(vjp), "ready": jax.block_until_ready, **names})


class TaichiAot:
    name, title = "taichi-aot", "Taichi AOT"

    def __init__(self, threads: int) -> None:
        from .taichi_aot import Runtime

        self._runtime = Runtime()

    def skip(self, case: Case) -> str:
        if case.wrt != ("x",):
            return "gives the gradient of x only"
        return "too slow" if case.work > 1 << 26 else ""

    def prepare(self, case: Case, inputs: Inputs) -> Prepared:
        from .taichi_aot import Backward

        backward = Backward(self._runtime, *vars(inputs).values())
        return Prepared("launch()", {"launch": backward.launch}, lambda _: (backward.result(),))


class TaichiJit:
    name, title = "taichi-jit", "Taichi JIT, ndarrays"

    def __init__(self, threads: int) -> None:
        from . import taichi_jit

        taichi_jit.start(threads)
        self._peers = taichi_jit

    def skip(self, case: Case) -> str:
        return "too slow" if case.work > 1 << 26 else ""

    def prepare(self, case: Case, inputs: Inputs) -> Prepared:
        run, results = self._peers.prepare_ndarrays(case.wrt, inputs)
        return Prepared("run()", {"run": run}, lambda _: results())


class TaichiJacobian(TaichiJit):
    name, title = "taichi-jacobian", "Taichi JIT, full Jacobian"

    def skip(self, case: Case) -> str:
        if case.wrt != ("x",):
            return "gives the gradient of x only"
        return "too slow" if case.B * case.m > _MOST_PASSES or case.n * case.m > 256 else ""

    def prepare(self, case: Case, inputs: Inputs) -> Prepared:
        return Prepared("run()", {"run": self._peers.prepare_jacobian(inputs)})


class Numba(_Everything):
    name, title = "numba", "numba"

    def __init__(self, threads: int) -> None:
        from .numba_peer import compiled

        self._vjp_x, self._vjp_all = compiled(threads)

    def prepare(self, case: Case, inputs: Inputs) -> Prepared:
        out = _empty_gradients(case, inputs)
        run = self._vjp_x if len(out) == 1 else self._vjp_all
        names = {"vjp": run, "out": out, **vars(inputs)}
        return Prepared("vjp(x, W, b, v, *out)", names, lambda _: out)


class Halide:
    name, title = "halide", "Halide"

    def __init__(self, threads: int) -> None:
        from . import halide_peer

        self._pipeline, self._threads = halide_peer.pipeline, threads

    def skip(self, case: Case) -> str:
        return "" if case.wrt == ("x",) else "gives the gradient of x only"

    def prepare(self, case: Case, inputs: Inputs) -> Prepared:
        out = _empty_gradients(case, inputs)
        run = self._pipeline(*vars(inputs).values(), out[0], self._threads)
        return Prepared("run()", {"run": run}, lambda _: out)


# In the order of the table's columns.
PEERS: dict[str, type[Peer]] = {
    peer.name: peer
    for peer in (
        Tiaot,
        TiaotNew,
        TiaotBound,
        Cpp,
        Jax,
        Numpy,
        Torch,
        TorchAutograd,
        Numba,
        Halide,
        TaichiAot,
        TaichiJit,
        TaichiJacobian,
        TorchJacobian,
    )
}
