"""Calls on arrays on a CUDA device: how they are read, where the work goes, whose the results are, what is refused.

Each test with a `driver` runs in a child process whose driver is the stand-in; values are what its kernels computed.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import pickle
import re
import subprocess
import sys
import threading
import time
from typing import Any

import cuda_arrays
import numpy as np
import pytest
import tiaot
from cuda_arrays import (
    COPIED,
    MANAGED,
    READ_ONLY,
    Driver,
    Interface,
    OfLibrary,
    OfOldLibrary,
    OnDevice,
    Stream,
    in_child,
)
from cuda_interpreted import use_interpreter
from expecting import expect

K = 3.0


def inputs() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, s and a cotangent; small integers, so that sums are exact in any order."""
    return (
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.array([10, 20, 30], np.float32),
        np.arange(1, 7, dtype=np.float32).reshape(2, 3),
    )


def reference() -> dict[str, np.ndarray]:
    x, s, v = inputs()
    return {"y": np.float32(K) * x + s, "x": np.float32(K) * v, "k": (x * v).sum(), "s": v.sum(0)}


def devices(*arrays: np.ndarray, **keywords: Any) -> list[OnDevice]:
    return [OnDevice(array, **keywords) for array in arrays]


@in_child
def test_every_entry_and_what_is_waited_for(driver: Driver) -> None:
    kernel = cuda_arrays.open_module().affine
    expected = reference()
    x, s, v = devices(*inputs())
    y = OnDevice(np.full((2, 3), 99, np.float32))
    assert kernel(x, K, s, out=y) is y
    np.testing.assert_array_equal(y.array, expected["y"])
    assert [each.streams for each in (x, s, y)] == [[1], [1], [1]]  # the legacy default stream, as DLPack numbers it
    gradients = tuple(OnDevice(np.full_like(expected[name], 99)) for name in ("x", "k", "s"))
    assert kernel.vjp(x, K, s, v, wrt=("x", "k", "s"), out=gradients) is gradients
    for gradient, name in zip(gradients, ("x", "k", "s"), strict=True):
        np.testing.assert_array_equal(gradient.array, expected[name])
    kernel.vjp(x, K, s, v, wrt="s", out=gradients[2])
    jacobian = OnDevice(np.zeros((2, 3, 3), np.float32))
    kernel.jacobian(x, K, s, wrt="s", out=jacobian)
    np.testing.assert_array_equal(jacobian.array, np.broadcast_to(np.eye(3, dtype=np.float32), (2, 3, 3)))
    assert set(driver.streams()) == {"0x0"}
    assert not driver.calls("cuStreamSynchronize", "cuCtxSynchronize", "cuEventSynchronize")
    gc.collect()
    assert cuda_arrays.lent() == 0


@in_child
def test_outputs_and_gradients_from_one_call(driver: Driver) -> None:
    kernel = cuda_arrays.open_module().affine
    expected = reference()
    x, s, v = devices(*inputs())
    y, gs, gx = devices(*(np.full_like(expected[name], 99) for name in ("y", "s", "x")))
    value, gradients = kernel.value_and_vjp(x, s=s, k=K, y_cotangent=v, wrt=["s", "x"], out=(y, (gs, gx)), stream=7)
    assert value is y and gradients[0] is gs
    for got, name in ((y, "y"), (gs, "s"), (gx, "x")):
        np.testing.assert_array_equal(got.array, expected[name])
    assert [each.streams for each in (x, s, v, y, gs, gx)] == [[7]] * 6  # each is read once


@in_child
def test_numbers_by_value_are_taken_from_either_memory(driver: Driver) -> None:
    kernel = cuda_arrays.open_module().affine
    x, s, _ = devices(*inputs())
    number = np.array(K, np.float32)
    for k in (K, int(K), number, OnDevice(number), Interface(number)):
        out = OnDevice(np.zeros((2, 3), np.float32))
        kernel(x, k, s, out=out)
        np.testing.assert_array_equal(out.array, reference()["y"])
    shift = cuda_arrays.open_module().shift  # whose first input it is
    out = OnDevice(np.zeros(3, np.float32))
    for k in (K, number, OnDevice(number)):
        shift(k, s, out=out)
        np.testing.assert_array_equal(out.array, np.float32(K) + s.array)
    # Where every array that is not a value is on the CPU, so is the call.
    np.testing.assert_array_equal(kernel(*inputs()[:1], K, inputs()[1]), reference()["y"])
    assert len(driver.streams()) == 8


@in_child
def test_streams_reach_the_launches_and_the_exports(driver: Driver) -> None:
    kernel = cuda_arrays.open_module().affine
    every = {
        0: ("0x0", 1),
        1: ("0x1", 1),
        2: ("0x2", 2),
        0x70: ("0x70", 0x70),
        np.int64(0x71): ("0x71", 0x71),
        2**63 + 8: (hex(2**63 + 8), 2**63 + 8),
        Stream("cuda_stream", 0x72): ("0x72", 0x72),
        Stream("ptr", 0x73): ("0x73", 0x73),
        Stream("__cuda_stream__", (0, 0x74)): ("0x74", 0x74),
        Stream("cuda_stream", 0): ("0x0", 1),
    }
    for stream, (launched, exported) in every.items():
        x, s, _ = devices(*inputs())
        y = OnDevice(np.zeros((2, 3), np.float32))
        kernel(x, K, s, out=y, stream=stream)
        assert driver.streams() == [launched]
        assert [each.streams for each in (x, s, y)] == [[exported]] * 3
        bound = kernel.bind(x, K, s, out=y, stream=stream)
        assert driver.streams() == [] and x.streams == [exported] * 2
        y.array[:] = 0
        assert bound() is y and bound() is y
        assert driver.streams() == [launched] * 2 and x.streams == [exported] * 2
        np.testing.assert_array_equal(y.array, reference()["y"])
    kernel(x, K, s, out=y, stream=None)
    assert driver.streams() == ["0x0"]


@in_child
def test_streams_that_are_none(driver: Driver) -> None:
    kernel = cuda_arrays.open_module().affine
    x, s, _ = inputs()
    there = devices(x, s)
    form = "a CUDA stream: an integer, or an object with __cuda_stream__, cuda_stream or ptr"
    label = "affine.forward: argument 'stream': "
    for stream, exception, message in (
        ("0", TypeError, f"{label}expected {form}, got str"),
        (True, TypeError, f"{label}expected {form}, got bool"),
        (1.0, TypeError, f"{label}expected {form}, got float"),
        (Stream("ptr", "0"), TypeError, f"{label}expected {form}, got cuda_arrays.Stream"),
        (Stream("__cuda_stream__", (0, 1, 2)), TypeError, f"{label}expected {form}, got cuda_arrays.Stream"),
        (-1, ValueError, f"{label}expected a stream's handle, from 0 on and of 64 bits, got -1"),
        (2**64, ValueError, f"{label}expected a stream's handle, from 0 on and of 64 bits, got {2**64}"),
    ):
        for call in (kernel, kernel.bind):
            expect(exception, message, lambda call=call, stream=stream: call(there[0], K, there[1], stream=stream))
    needless = f"{label}expected None for arrays on the CPU, got a CUDA stream"
    expect(ValueError, needless, lambda: kernel(x, K, s, stream=0))
    expect(ValueError, needless, lambda: kernel.bind(x, K, s, out=np.empty_like(x), stream=0x70))
    np.testing.assert_array_equal(kernel(x, K, s, stream=None), reference()["y"])
    assert [each.streams for each in there] == [[], []] and driver.calls() == []


@in_child
def test_the_interface_of_arrays_without_dlpack(driver: Driver) -> None:
    kernel = cuda_arrays.open_module().affine
    x, s, v = inputs()
    y = Interface(np.zeros((2, 3), np.float32))
    assert kernel(Interface(x, strides=(12, 4)), K, Interface(s, strides=None), out=y) is y
    np.testing.assert_array_equal(y.array, reference()["y"])
    old = Interface(x)
    del old.interface["strides"], old.interface["version"]
    gx = Interface(np.zeros((2, 3), np.float32))
    kernel.vjp(old, K, OnDevice(s), Interface(v), out=gx)
    np.testing.assert_array_equal(gx.array, reference()["x"])
    read_only = Interface(x, data=(x.ctypes.data, True))
    kernel(read_only, K, Interface(s), out=y)
    assert driver.calls("cuEventRecord", "cuStreamWaitEvent") == []

    def order(stream: Any, ours: Any) -> list[str]:
        kernel(Interface(x, stream=stream), K, Interface(s), out=y, stream=ours)
        lines = driver.calls("cuEventRecord", "cuStreamWaitEvent", "cuLaunchKernel")
        return [f"{line.split()[0]} {line.split('stream=')[1].split()[0]}" for line in lines]

    assert order(None, 0x70) == ["cuLaunchKernel 0x70"]
    assert order(1, None) == ["cuLaunchKernel 0x0"]
    assert order(0x70, 0x70) == ["cuLaunchKernel 0x70"]
    assert order(0x71, 0x70) == ["cuEventRecord 0x71", "cuStreamWaitEvent 0x70", "cuLaunchKernel 0x70"]
    assert order(2, None) == ["cuEventRecord 0x2", "cuStreamWaitEvent 0x0", "cuLaunchKernel 0x0"]
    empty = Interface(np.zeros((0, 3), np.float32), data=(0, False))
    kernel(empty, K, Interface(s), out=Interface(np.zeros((0, 3), np.float32), data=(0, False)))


@in_child
def test_interfaces_that_are_refused(driver: Driver) -> None:
    kernel = cuda_arrays.open_module().affine
    x, s, _ = inputs()
    fine = Interface(s)
    broken = Interface(x)
    broken.interface = []  # type: ignore[assignment]
    of = "__cuda_array_interface__ with "
    dense = "expected strides [3, 1] (dense, row-major), got [1, 2] for float32[2, 3]"
    for bad, exception, message in (
        (broken, TypeError, "expected a dict as __cuda_array_interface__, got list"),
        (Interface(x, mask=x), TypeError, "expected an array without a mask, got one with a mask"),
        (Interface(x, data=None), TypeError, f"expected {of}a pair as 'data', got none"),
        (Interface(x, data=("p", False)), TypeError, f"expected {of}an address in 'data', got p"),
        (Interface(x, typestr=None), TypeError, f"expected {of}a 'typestr', got none"),
        (Interface(x, typestr="|V4"), TypeError, "expected an array of float32, got |V4"),
        (Interface(x, typestr=">f4"), TypeError, "expected an array in native byte order, got one of >f4"),
        (Interface(x, typestr="<f8"), TypeError, "expected float32[B, n], got float64[2, 3]"),
        (Interface(x, shape=[2, 3]), TypeError, f"expected {of}a tuple as 'shape', got [2, 3]"),
        (Interface(x, shape=(2, "n")), TypeError, f"expected {of}integers in 'shape', got (2, 'n')"),
        (Interface(x, strides=(4,)), TypeError, f"expected {of}'strides' as long as 'shape', got (4,)"),
        (Interface(x, strides=(4, 8)), ValueError, dense),
        (
            Interface(x, strides=(13, 4)),
            ValueError,
            "expected a dense row-major array, got one with a stride of 13 bytes for elements of 4",
        ),
        (Interface(x, stream=0), TypeError, f"expected {of}a 'stream' that is None or from 1 on, got 0"),
    ):
        out = Interface(np.zeros((2, 3), np.float32))
        expect(
            exception,
            "affine.forward: argument 'x': " + message,
            lambda bad=bad, out=out: kernel(bad, K, fine, out=out),
        )
        assert not out.array.any()
    read_only = Interface(np.zeros((2, 3), np.float32))
    read_only.interface["data"] = (read_only.interface["data"][0], True)
    expect(
        ValueError,
        "affine.forward: output 'y': expected a writable array, got a read-only one",
        lambda: kernel(Interface(x), K, fine, out=read_only),
    )
    assert driver.streams() == []


@in_child
def test_arrays_on_several_devices_are_refused_and_nothing_waits(driver: Driver) -> None:
    driver.set_device_count(2)
    kernel = cuda_arrays.open_module().affine
    x, s, v = inputs()
    y = OnDevice(np.zeros((2, 3), np.float32))
    label = "affine.forward: argument 's': expected an array on cuda:0, where 'x' is, got one on "
    for other, place in ((OnDevice(s, 1), "cuda:1"), (s, "the CPU"), (OnDevice(s, 1, kind=MANAGED), "cuda:1")):
        first = OnDevice(x)
        expect(TypeError, label + place, lambda first=first, other=other: kernel(first, K, other, out=y))
        assert first.streams == [-1] and getattr(other, "streams", [-1]) == [-1]  # no one was made to wait
    other = OnDevice(s)
    message = "affine.forward: argument 's': expected an array on the CPU, got one on cuda:0"
    expect(TypeError, message, lambda: kernel(x, K, other, out=y))
    assert other.streams == [-1]
    fine = devices(x, s)
    for out, place in ((OnDevice(y.array, 1), "cuda:1"), (y.array, "the CPU")):
        message = f"affine.forward: output 'y': expected an array on cuda:0, where 'x' is, got one on {place}"
        expect(TypeError, message, lambda out=out: kernel(fine[0], K, fine[1], out=out))
    message = "affine.vjp: cotangent of 'y': expected an array on cuda:0, where 'x' is, got one on the CPU"
    expect(TypeError, message, lambda: kernel.vjp(fine[0], K, fine[1], v, out=y))
    far = devices(x, s, device=1)
    kernel(far[0], K, far[1], out=OnDevice(y.array, 1))
    np.testing.assert_array_equal(y.array, reference()["y"])
    assert [line.split()[1] for line in driver.calls("cuLaunchKernel")] == ["device=1"]
    managed = devices(x, s, kind=MANAGED)
    y.array[:] = 0
    kernel(managed[0], K, fine[1], out=y)
    np.testing.assert_array_equal(y.array, reference()["y"])


@in_child
def test_what_may_not_be_written_to(driver: Driver) -> None:
    kernel = cuda_arrays.open_module().affine
    x, s, _ = devices(*inputs(), flags=READ_ONLY)
    y = OnDevice(np.zeros((2, 3), np.float32))
    kernel(x, K, s, out=y)
    np.testing.assert_array_equal(y.array, reference()["y"])
    refused = "cuda_arrays.OnDevice, which DLPack does not give out for writing"
    for flags, expected in ((READ_ONLY, refused), (COPIED, "cuda_arrays.OnDevice, whose export is a copy")):
        y = OnDevice(np.zeros((2, 3), np.float32), flags=flags)
        message = f"affine.forward: output 'y': expected a writable array, got {expected}"
        expect(ValueError, message, lambda y=y: kernel(x, K, s, out=y))
        assert not y.array.any()
    old = OfOldLibrary(np.zeros((2, 3), np.float32))
    assert kernel(x, K, s, out=old) is old and old.streams == [1]
    np.testing.assert_array_equal(old.array, reference()["y"])
    old = OfOldLibrary(np.zeros((2, 3), np.float32), flags=READ_ONLY)
    message = (
        "affine.forward: output 'y': expected a writable array, got cuda_arrays.OfOldLibrary, which DLPack does not "
        "give out for writing"
    )
    expect(ValueError, message, lambda: kernel(x, K, s, out=old))
    gc.collect()
    assert cuda_arrays.lent() == 0
    shared = np.zeros((2, 3), np.float32)
    message = "affine.forward: output 'y': overlaps argument 'x'"
    expect(ValueError, message, lambda: kernel(OnDevice(shared), K, s, out=OnDevice(shared)))


@in_child
def test_results_are_of_the_callers_library(driver: Driver) -> None:
    kernel = cuda_arrays.open_module().affine
    x, s, v = inputs()
    here = [OfLibrary(x), K, OnDevice(s)]
    y = kernel(*here)
    assert type(y) is OfLibrary and y.place == (2, 0)
    np.testing.assert_array_equal(y.array, reference()["y"])
    assert y.streams == [1]  # what its library did with the memory before is waited for too
    gs, gx = kernel.vjp(*here, OfLibrary(v), wrt=("s", "x"))
    np.testing.assert_array_equal(gs.array, reference()["s"])
    np.testing.assert_array_equal(gx.array, reference()["x"])
    (jacobian,) = kernel.jacobian(*here, wrt=("x",))
    np.testing.assert_array_equal(jacobian.array, np.broadcast_to(np.float32(K) * np.eye(3, dtype="f4"), (2, 3, 3)))
    bound = kernel.bind(*here, stream=0x70)
    result = bound()
    assert bound() is result and result.streams == [0x70]
    np.testing.assert_array_equal(result.array, reference()["y"])
    assert len(OfLibrary.made) == 5

    class Entered(OfLibrary):
        """As CuPy: its namespace makes arrays on the current device, and a device can be entered."""

        entered = 0

        @property
        def device(self) -> Any:
            return self

        def __enter__(self) -> None:
            Entered.entered += 1

        def __exit__(self, *_: object) -> None:
            pass

        def __array_namespace__(self) -> Any:
            library = super().__array_namespace__()
            made = library.empty
            library.empty = lambda shape, *, dtype: made(shape, dtype=dtype, device=0)
            return library

    np.testing.assert_array_equal(kernel(Entered(x), K, OnDevice(s)).array, reference()["y"])
    assert Entered.entered == 1
    for other in (OnDevice(x), Interface(x)):
        message = (
            "affine.forward: output 'y': expected an array on cuda:0 passed as out=, got none, and "
            f"cuda_arrays.{type(other).__name__} has no way to make one"
        )
        expect(TypeError, message, lambda other=other: kernel(other, K, OnDevice(s)))


@in_child
def test_arrays_of_cupy_bring_its_current_stream(driver: Driver) -> None:
    asked = []

    def get_current_stream(device: int) -> Stream:
        asked.append(device)
        return Stream("ptr", 0x75)

    cupy = type(sys)("cupy")
    cupy.cuda = type(sys)("cupy.cuda")
    cupy.cuda.get_current_stream = get_current_stream
    sys.modules["cupy"] = cupy
    array_type = type("ndarray", (OfLibrary,), {"__module__": "cupy"})
    kernel = cuda_arrays.open_module().affine
    x, s, _ = inputs()
    other = OnDevice(s)
    y = kernel(array_type(x), K, other)
    assert driver.streams() == ["0x75"] and other.streams == [0x75] and y.streams == [0x75] and asked == [0]
    kernel(array_type(x), K, other, out=y, stream=0x76)
    assert driver.streams() == ["0x76"] and asked == [0]
    kernel(OnDevice(x), K, array_type(s), out=y)  # the first array on the device decides
    assert driver.streams() == ["0x0"] and asked == [0]

    class Old(OfOldLibrary):  # its arrays have no namespace, its module makes them on the device that was entered
        __module__ = "cupy._core.core"
        device = contextlib.nullcontext()

    cupy.empty = lambda shape, dtype: Old(np.full(shape, 99, dtype))
    cupy.float32 = np.dtype("float32")
    y = kernel(Old(x), K, OnDevice(s))
    assert type(y) is Old and driver.streams() == ["0x75"]
    np.testing.assert_array_equal(y.array, reference()["y"])


@in_child
def test_arrays_with_a_table_of_functions(driver: Driver) -> None:
    """As torch's: read without their __dlpack__, and ordered behind their library's current stream where that is not
    the one that the work goes to.
    """
    current = {0: 0x80}

    class Tensor(OnDevice):
        requires_grad = False
        __dlpack_c_exchange_api__ = cuda_arrays.exchange_table(lambda device: current[device])

    kernel = cuda_arrays.open_module().affine
    x, s, _ = inputs()
    tensors = [Tensor(x), Tensor(s), Tensor(np.zeros((2, 3), np.float32))]

    def order(**keywords: Any) -> list[str]:
        tensors[2].array[:] = 0
        kernel(tensors[0], K, tensors[1], out=tensors[2], **keywords)
        np.testing.assert_array_equal(tensors[2].array, reference()["y"])
        lines = driver.calls("cuEventRecord", "cuStreamWaitEvent", "cuLaunchKernel")
        return [f"{line.split()[0]} {line.split('stream=')[1].split()[0]}" for line in lines]

    assert order() == ["cuLaunchKernel 0x80"]
    assert order(stream=0x80) == ["cuLaunchKernel 0x80"]
    waits = ["cuEventRecord 0x80", "cuStreamWaitEvent 0x81"] * 3
    assert order(stream=0x81) == [*waits, "cuLaunchKernel 0x81"]
    current[0] = 0
    assert order() == ["cuLaunchKernel 0x0"] and order(stream=1) == ["cuLaunchKernel 0x1"]
    assert [tensor.streams for tensor in tensors] == [[], [], []]
    gc.collect()
    assert cuda_arrays.lent() == 0
    tensors[0].requires_grad = True
    message = (
        "affine.forward: argument 'x': expected a tensor that requires no gradient, got one that does; pass its "
        "detach(), or use tiaot.torch"
    )
    expect(BufferError, message, lambda: kernel(tensors[0], K, tensors[1], out=tensors[2]))


@in_child
def test_results_that_a_table_of_functions_allocates(driver: Driver) -> None:
    class Tensor(OnDevice):
        __dlpack_c_exchange_api__ = cuda_arrays.exchange_table(lambda device: 0, lambda *a: Tensor(*a))

    kernel = cuda_arrays.open_module().affine
    x, s, _ = inputs()
    y = kernel(Tensor(x), K, Tensor(s))
    assert type(y) is Tensor and y.place == (2, 0)
    np.testing.assert_array_equal(y.array, reference()["y"])
    with pytest.raises(MemoryError, match=r"^MemoryError: a thousand rows is all there is$"):
        kernel(Tensor(np.zeros((1001, 3), np.float32)), K, Tensor(s))
    gc.collect()
    assert cuda_arrays.lent() == 0 and driver.streams() == ["0x0"]


@in_child
def test_the_lock_of_python_is_free_while_the_driver_works(driver: Driver) -> None:
    kernel = cuda_arrays.open_module().affine
    x, s, _ = devices(*inputs())
    y = OnDevice(np.zeros((2, 3), np.float32))
    ticks: list[float] = []
    stop = threading.Event()

    def tick() -> None:
        while not stop.wait(0.01):
            ticks.append(time.monotonic())

    other = threading.Thread(target=tick)
    other.start()
    slow = 12345.0
    bound = kernel.bind(x, slow, s, out=y)
    driver.set_load_time(300)  # a module's code is loaded when it is first needed
    fresh = [cuda_arrays.open_module().affine for _ in range(2)]
    for take_time in (
        lambda: fresh[0](x, K, s, out=y),
        lambda: fresh[1].bind(x, K, s, out=y)(),
        lambda: kernel(x, slow, s, out=y),
        bound,
    ):
        start = time.monotonic()
        take_time()
        end = time.monotonic()
        assert end - start >= 0.3
        assert sum(start < each < end for each in ticks) > 5
    stop.set()
    other.join()
    kernel(x, K, s, out=y)
    np.testing.assert_array_equal(y.array, reference()["y"])


@in_child
def test_failures_of_the_driver(driver: Driver) -> None:
    module = cuda_arrays.open_module()
    x, s, _ = devices(*inputs())
    y = OnDevice(np.zeros((2, 3), np.float32))
    bound = module.affine.bind(x, K, s, out=y)
    bound()
    for call in (lambda: module.affine(x, K, s, out=y), bound):
        driver.fail(b"cuLaunchKernel", 1, 0, 1)
        with pytest.raises(RuntimeError, match=r"^affine\.forward: .*cuLaunchKernel.*CUDA_ERROR_INVALID_VALUE"):
            call()
        call()
    driver.fail(b"cuLaunchKernel", 719, 0, 1)
    with pytest.raises(RuntimeError, match=r"CUDA_ERROR_LAUNCH_FAILED"):
        bound()
    with pytest.raises(RuntimeError, match=r"cuda:0 cannot be used since CUDA_ERROR_LAUNCH_FAILED"):
        module.affine(x, K, s, out=y)
    with pytest.raises(RuntimeError, match=r"cuda:0 cannot be used since"):  # to order streams needs the device too
        module.affine(Interface(inputs()[0], stream=0x70), K, s, out=y)
    assert cuda_arrays.lent() == 3  # the bound call's


@in_child
def test_kernels_and_devices_without_cuda_code(driver: Driver) -> None:
    module = cuda_arrays.open_module(ARCHITECTURE="75")
    x, s, _ = devices(*inputs())
    y = OnDevice(np.zeros((2, 3), np.float32))
    with pytest.raises(NotImplementedError, match=r"host_only.*it was left out for a test"):
        module.host_only(OnDevice(inputs()[1]), out=OnDevice(np.zeros(3, np.float32)))
    with pytest.raises(NotImplementedError, match=r"affine.*9\.0|affine.*cuda:0"):
        module.affine(x, K, s, out=y)
    dense_tanh = tiaot.load("dense_tanh")
    if dense_tanh.module.info()["cuda"] is None:
        W = OnDevice(np.zeros((4, 3), np.float32))
        with pytest.raises(NotImplementedError, match="exported without CUDA code"):
            dense_tanh(x, W, OnDevice(np.zeros(4, np.float32)))


@in_child
def test_no_driver_at_all() -> None:
    module = cuda_arrays.open_module()
    x, s, _ = devices(*inputs())
    try:
        tiaot._core.cuda_device_count()
    except RuntimeError:
        pass
    else:
        return  # a machine that has one
    with pytest.raises(RuntimeError, match=r"affine.*libcuda\.so\.1"):
        module.affine(x, K, s, out=OnDevice(np.zeros((2, 3), np.float32)))
    np.testing.assert_array_equal(module.affine(inputs()[0], K, inputs()[1]), reference()["y"])
    message = r"'x': expected memory that the CUDA driver knows, got address 0x"
    with pytest.raises(ValueError, match=message):
        module.affine(Interface(inputs()[0]), K, s)


@in_child
def test_handles_pickle_and_close_as_ever(driver: Driver) -> None:
    kernel = tiaot.load("dense_tanh")
    assert repr(pickle.loads(pickle.dumps(kernel))) == repr(kernel)
    module = cuda_arrays.open_module()
    x, s, _ = devices(*inputs())
    y = OnDevice(np.zeros((2, 3), np.float32))
    bound = module.affine.bind(x, K, s, out=y)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(bound)
    bound()
    module.close()
    with pytest.raises(tiaot.ModuleError, match="is closed"):
        bound()
    del bound
    gc.collect()
    assert cuda_arrays.lent() == 0


@in_child
def test_nothing_leaks(driver: Driver) -> None:
    kernel = cuda_arrays.open_module().affine
    x, s, v = inputs()
    there, out, stream = OfLibrary(x), OnDevice(np.zeros((2, 3), np.float32)), Stream("ptr", 0x70)
    other, address = OfOldLibrary(s), Interface(v, stream=0x71)
    objects: list[Any] = [there, out, stream, other, address, address.interface, x, s, v, kernel]

    def everything() -> None:
        kernel(there, K, other, out=out, stream=stream)
        kernel(there, K, other)
        kernel.vjp(there, K, other, address, wrt=("k", "x"), stream=stream)
        kernel.bind(there, K, other)()
        for bad in (lambda: kernel(there, K, s), lambda: kernel(there, K, other, out=address, stream="")):
            with contextlib.suppress(TypeError):
                bad()
        OfLibrary.made = ()

    everything()
    gc.collect()
    before = [sys.getrefcount(each) for each in objects]
    for _ in range(50):
        everything()
    gc.collect()
    after = [sys.getrefcount(each) for each in objects]
    assert all(abs(now - then) < 20 for now, then in zip(after, before, strict=True)), (before, after)
    assert cuda_arrays.lent() == 0
    assert driver.allocated() < 1 << 20


@in_child
def test_pinned_memory_of_the_host_is_no_devices(driver: Driver) -> None:
    """The driver knows of which device it is, and the kernel would run on it, at the speed of the bus."""
    module = cuda_arrays.open_module()
    x, s, _ = inputs()
    driver.set_pinned(ctypes.c_void_p(x.ctypes.data))
    expect(
        ValueError,
        "affine.forward: argument 'x': expected memory of a CUDA device, got pinned memory of the host",
        lambda: module.affine(Interface(x), K, Interface(s), out=OnDevice(np.zeros((2, 3), np.float32))),
    )


@in_child
def test_what_is_kept_is_released_when_asked(driver: Driver) -> None:
    tiaot.cuda.release()  # nothing yet
    os.environ["TIAOT_CUDA_PTX"] = "1"
    use_interpreter(driver)
    driver.skip_work(1)
    kernel = tiaot.load("dense_tanh")
    rng = np.random.default_rng(0)
    given = [OfLibrary(rng.standard_normal(s).astype(np.float32)) for s in ((300, 5), (6, 5), (6,), (300, 6))]
    kernel.vjp(*given, wrt=("W", "b"))
    assert driver.allocated() > 0
    tiaot.cuda.release(0)
    assert driver.allocated() == 0
    kernel.vjp(*given, wrt=("W", "b"))
    assert driver.allocated() > 0
    tiaot.cuda.release()
    assert driver.allocated() == 0
    expect(
        ValueError, "tiaot.cuda.release: expected a device from 0 on, or None, got -1", lambda: tiaot.cuda.release(-1)
    )
    with pytest.raises(RuntimeError, match="there is no device cuda:7: the driver has 1 device"):
        tiaot.cuda.release(7)


@in_child
def test_numpy_calls_leave_the_driver_alone(driver: Driver) -> None:
    kernel = cuda_arrays.open_module().affine
    x, s, v = inputs()
    kernel(x, K, s)
    kernel.vjp(x, K, s, v, wrt=("x", "k"))
    kernel.bind(x, K, s)()
    with pytest.raises(TypeError):
        kernel(x, K, [1.0])
    assert driver.calls() == []


@in_child
def test_the_commands_tell_of_cuda(driver: Driver) -> None:
    from tiaot import doctor, inspect_module

    module = cuda_arrays.open_module()
    info = module.info()
    assert info["cuda"]["ptxas_version"] == "13.0.0" and info["cuda"]["kernels"] == ["affine", "affine_vjp", "shift"]
    assert [(image["kind"], image["architecture"]) for image in info["cuda"]["images"]] == [
        ("cubin", "9.0"),
        ("ptx", "9.0"),
    ]
    text = inspect_module.text({**info, "file_bytes": 1, "checksum": "verified", "machine_cpu_level": "x86-64-v2"})
    assert "CUDA, 3 kernels, compiled by ptxas 13.0.0:\n  machine code needs a driver of CUDA 13 or later\n" in text
    assert re.search(r"cubin\s+9\.0 and later 9\.x\s+16\s+640\n", text)
    assert re.search(r"ptx\s+9\.0 and later\s+16\s+1,280\n", text)
    assert "    host_only: it was left out for a test\n" in text
    assert module._cuda_image(0) == info["cuda"]["images"][0]
    findings = {each.subject: each.found for each in doctor.examine()["cuda"]}
    assert findings["CUDA driver"] == "1 device"
    assert re.search("cubin .* bytes; needs a driver of CUDA 1[23] or later$", findings["dense_tanh on cuda:0"])
    with pytest.raises(RuntimeError, match="cuda:7"):
        module._cuda_image(7)


def test_doctor_without_a_driver_finds_no_fault_in_that() -> None:
    code = (
        "from tiaot import doctor; found = doctor.examine()['cuda']; "
        "assert found[0].subject == 'CUDA driver' and found[0].found and not any(f.remedy for f in found), found"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
