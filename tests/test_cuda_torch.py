"""tiaot.torch on CUDA devices: with a stand-in for torch whose tensors are NumPy's memory, and with torch's own meta
and fake tensors, which need no device. What is left are torch.empty and the current stream of a real device.
"""

from __future__ import annotations

import ctypes
import itertools
import re
import types
from collections.abc import Iterator
from typing import Any, ClassVar

import cuda_arrays
import numpy as np
import pytest
from cuda_arrays import CPU, CUDA, Driver, OnDevice, in_child

K = 3.0


class Tensor(OnDevice):
    """As much of torch.Tensor as the binding asks for; on the CPU, too."""

    current: ClassVar[dict[int, int]] = {0: 0x80, 1: 0x90}
    requires_grad = False
    is_neg = False  # torch's is a method, of a C type; what is none of one is taken for the answer
    __dlpack_c_exchange_api__ = cuda_arrays.exchange_table(lambda device: Tensor.current[device])

    @property
    def device(self) -> tuple[int, int]:
        return self.place

    def resolve_neg(self) -> Tensor:
        return self

    def contiguous(self) -> Tensor:
        return Tensor(np.ascontiguousarray(self.array), self.place[1], kind=self.place[0])


made: list[Tensor] = []


def stand_in_for_torch() -> Any:
    """The package that prepare_torch looks into."""
    space = types.SimpleNamespace

    def empty(shape: tuple[int, ...], *, dtype: Any, device: tuple[int, int]) -> Tensor:
        made.append(Tensor(np.full(shape, 99, dtype), device[1], kind=device[0]))
        return made[-1]

    return space(
        Tensor=Tensor,
        nn=space(Parameter=type("Parameter", (Tensor,), {})),
        autograd=space(forward_ad=space(_current_level=-1)),
        is_grad_enabled=lambda: False,
        _C=space(
            _are_functorch_transforms_active=lambda: False,
            _len_torch_dispatch_stack=lambda: 0,
            _len_torch_function_stack=lambda: 0,
            _autograd=space(_profiler_enabled=lambda: False),
        ),
        empty=empty,
        **{name: np.dtype(name) for name in ("float16", "float32", "float64", "int32", "int64", "uint8")},
    )


@in_child
def test_tensors_on_a_device(driver: Driver) -> None:
    from tiaot import _core

    _core.prepare_torch(stand_in_for_torch())
    driver.set_device_count(2)
    kernel = _core.for_tensors(cuda_arrays.open_module().affine)
    x, s = np.arange(6, dtype=np.float32).reshape(2, 3), np.array([10, 20, 30], np.float32)
    v = np.ones((2, 3), np.float32)
    for device, stream in Tensor.current.items():
        on = [Tensor(x, device), Tensor(np.array(K, np.float32), kind=CPU), Tensor(s, device)]
        y = kernel(*on)  # the number has stayed on the CPU
        assert y is made[-1] and y.place == (CUDA, device)
        np.testing.assert_array_equal(y.array, np.float32(K) * x + s)
        gs, gx = kernel.vjp(*on, Tensor(v, device), wrt=("s", "x"))
        np.testing.assert_array_equal(gs.array, v.sum(0))
        np.testing.assert_array_equal(gx.array, np.float32(K) * v)
        lines = driver.calls("cuLaunchKernel", "cuEventRecord", "cuStreamWaitEvent")
        assert [line.split()[:3] for line in lines] == [
            ["cuLaunchKernel", f"device={device}", f"stream={hex(stream)}"]
        ] * 2
        assert all(each.streams == [] for each in (*on, y))  # its __dlpack__ was not asked
    strided = Tensor(np.repeat(x, 2, 1)[:, ::2])
    np.testing.assert_array_equal(kernel(strided, *on[1:2], Tensor(s)).array, np.float32(K) * x + s)
    with pytest.raises(TypeError, match=r"argument 's': expected an array on cuda:0, where 'x' is, got one on cuda:1"):
        kernel(Tensor(x), on[1], Tensor(s, 1))
    with pytest.raises(TypeError, match=r"argument 's': expected an array on cuda:0, where 'x' is, got one on the CPU"):
        kernel(Tensor(x), on[1], Tensor(s, kind=CPU))
    with pytest.raises(TypeError, match=r"a dense tensor on the CPU or a CUDA device, got one on \(10, 0\)"):
        kernel(Tensor(x, kind=10), on[1], Tensor(s))
    assert len(driver.streams()) == 1


@in_child
def test_the_short_way_and_the_others(driver: Driver) -> None:
    from tiaot import _core

    torch = stand_in_for_torch()
    _core.prepare_torch(torch)
    kernel = _core.for_tensors(cuda_arrays.open_module().affine)
    taken: list[str] = []
    call = _core.TensorCall(
        kernel, lambda *_: taken.append("recorded"), "subject", lambda *_, **__: taken.append("general")
    )
    x, k, s = Tensor(np.ones((2, 3), np.float32)), Tensor(np.array(K, np.float32)), Tensor(np.ones(3, np.float32))
    np.testing.assert_array_equal(call(x, k, s).array, np.full((2, 3), K + 1))
    assert taken == [] and driver.streams() == ["0x80"]
    call(x, k, Tensor(s.array, 1))  # what is refused here is left to the dispatcher to refuse
    assert taken == ["general"]
    driver.fail(b"cuLaunchKernel", 1, 0, 1)
    with pytest.raises(RuntimeError, match="CUDA_ERROR_INVALID_VALUE"):  # no other way would do better
        call(x, k, s)
    torch.is_grad_enabled.__code__ = (lambda: True).__code__
    s.requires_grad = True
    call(x, k, s)
    assert taken == ["general", "recorded"] and driver.streams() == ["0x80"]


@in_child
def test_plain_kernels_give_tensors_back(driver: Driver) -> None:
    """As tiaot.load's kernels: results are made by torch.empty, ordered like any of the caller's tensors."""
    import sys

    torch = stand_in_for_torch()
    sys.modules["torch"] = torch
    kernel = cuda_arrays.open_module().affine
    x, s = np.arange(6, dtype=np.float32).reshape(2, 3), np.array([10, 20, 30], np.float32)
    y = kernel(Tensor(x), K, Tensor(s))
    assert y is made[-1]
    np.testing.assert_array_equal(y.array, np.float32(K) * x + s)
    assert driver.calls("cuEventRecord") == []
    kernel(Tensor(x), K, Tensor(s), stream=0x70)
    lines = driver.calls("cuEventRecord", "cuStreamWaitEvent", "cuLaunchKernel")
    names = [f"{line.split()[0]} {line.split('stream=')[1].split()[0]}" for line in lines]
    assert names == ["cuEventRecord 0x80", "cuStreamWaitEvent 0x70"] * 3 + ["cuLaunchKernel 0x70"]


# torch's own tensors


def test_the_table_of_functions_is_torchs() -> None:
    """The one that the tests make has the fields of torch's, in its order."""
    torch = pytest.importorskip("torch")
    pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
    pointer_of.restype, pointer_of.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    address = pointer_of(torch.Tensor.__dlpack_c_exchange_api__, b"dlpack_exchange_api")
    table = cuda_arrays.ExchangeTable.from_address(address)
    assert table.major == 1
    tensor, stream, export = torch.ones(2, 3), ctypes.c_void_p(99), ctypes.c_void_p()
    borrowed = cuda_arrays.DLTensor()
    assert table.borrow(tensor, ctypes.byref(borrowed)) == 0
    assert borrowed.data == tensor.data_ptr() and borrowed.shape[:2] == [2, 3] and borrowed.bits == 32
    assert table.current(CPU, 0, ctypes.byref(stream)) == 0 and stream.value is None
    assert table.export(tensor, ctypes.byref(export)) == 0
    managed = cuda_arrays.ManagedTensor.from_address(export.value)
    assert (managed.major, managed.flags, managed.tensor.data) == (1, 0, tensor.data_ptr())
    managed.deleter(managed)


def fake(*shapes: tuple[int, ...], device: str = "cuda") -> list[Any]:
    import torch

    return [torch.empty(shape, device=device) for shape in shapes]


@pytest.fixture
def fakes() -> Iterator[Any]:
    """torch, while its tensors are fake: of any device, without memory."""
    torch = pytest.importorskip("torch")
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode():
        yield torch


@pytest.fixture(scope="module")
def affine() -> Any:
    pytest.importorskip("torch")
    import tiaot.torch

    return tiaot.torch.wrap(cuda_arrays.open_module().affine)


SHAPES = ((2, 3), (), (3,))


def test_the_operators_are_registered_for_cuda(affine: Any) -> None:
    import torch

    for op in (affine._operator.forward, affine._operator.vjp_op):
        for key in ("CPU", "CUDA"):
            assert torch._C._dispatch_has_kernel_for_dispatch_key(op.name(), key)


def test_fake_tensors_on_a_device(affine: Any, fakes: Any) -> None:
    x, k, s = fake(*SHAPES)
    y = affine(x, k, s)
    assert (y.device.type, tuple(y.shape), y.dtype) == ("cuda", (2, 3), fakes.float32)
    assert affine(x, 3.0, s).device.type == "cuda"
    on_host = fake((), device="cpu")[0]
    assert affine(x, on_host, s).device.type == "cuda"
    import tiaot.torch

    shift = tiaot.torch.wrap(affine.module.shift)  # whose first input is the value
    assert shift(on_host, s).device.type == "cuda"
    for needed in itertools.product([True, False], repeat=3):
        gradients = affine._operator.vjp_op(x, on_host, s, y, list(needed))
        assert [tuple(g.shape) if want else g.numel() for g, want in zip(gradients, needed, strict=True)] == [
            shape if want else 0 for shape, want in zip(SHAPES, needed, strict=True)
        ]
        # Each where its input is; what stands for none is with the results.
        assert [g.device.type for g in gradients] == ["cuda", "cpu" if needed[1] else "cuda", "cuda"]


def test_fake_tensors_on_several_devices_are_refused(affine: Any, fakes: Any) -> None:
    x, k, s = fake(*SHAPES)
    there, here = fake((3,), device="cuda:1")[0], fake((3,), device="cpu")[0]
    for other, place in ((there, "cuda:1"), (here, "cpu")):
        message = f"affine: argument 's': expected a tensor on cuda:0, where 'x' is, got one on {place}"
        with pytest.raises(TypeError, match="^" + re.escape(message)):
            affine(x, k, other)
    message = "affine: argument 'x': expected a tensor on cuda:0, where 's' is, got one on cpu"
    with pytest.raises(TypeError, match="^" + re.escape(message)):
        affine(fake((2, 3), device="cpu")[0], fake((), device="cpu")[0], s)
    message = "affine: cotangent of 'y': expected a tensor on cuda:0, where 'x' is, got one on cpu"
    with pytest.raises(TypeError, match=re.escape(message)):
        affine._operator.vjp_op(x, k, s, fake((2, 3), device="cpu")[0], [True] * 3)
    with pytest.raises(TypeError, match="expected a tensor on the CPU or a CUDA device, got one on xpu:0"):
        affine(fake((2, 3), device="xpu")[0], k, s)


def test_programs_are_traced_for_a_device(affine: Any, fakes: Any) -> None:
    from torch.fx.experimental.proxy_tensor import make_fx

    traced = make_fx(lambda x, s: affine(x, 3.0, s) * 2)(*fake((2, 3), (3,)))
    nodes = [node for node in traced.graph.nodes if "tiaot.affine" in str(node.target)]
    assert len(nodes) == 1 and nodes[0].meta["val"].device.type == "cuda"


def test_gradients_of_values_are_where_the_values_are(affine: Any) -> None:
    """With a kernel in place of the module's whose results are elsewhere, as those of a CUDA device are."""
    import torch

    operator = affine._operator
    x, k, s = torch.ones(2, 3), torch.tensor(3.0), torch.ones(3)

    def vjp(*operands: torch.Tensor, wrt: tuple[str, ...]) -> tuple[torch.Tensor, ...]:
        of = dict(zip(operator.signature.inputs, operands, strict=False))
        return tuple(torch.empty_like(of[name], device="meta") for name in wrt)

    raw, operator.raw = operator.raw, types.SimpleNamespace(vjp=vjp)
    try:
        moved = [each.to("meta") if each is not k else each for each in (x, k, s)]
        with pytest.raises(NotImplementedError, match="meta"):  # it was copied: torch cannot from this device
            operator.run_vjp((True, True, True), (*moved, torch.ones(2, 3, device="meta")))
        gradients = operator.run_vjp((True, False, True), (*moved, torch.ones(2, 3, device="meta")))
        assert [g.device.type for g in gradients] == ["meta", "meta"]
    finally:
        operator.raw = raw
