"""States on CUDA devices: kernels over fields, their adjoints and tapes, beside the CPU's, on the stand-in for the
driver, which interprets their PTX; fields as arrays for others; what is refused."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import cuda_export
import cuda_state
import numpy as np
import pytest
import tiaot
from cuda_arrays import Driver, in_child
from cuda_interpreted import Described, use_interpreter

pytest.importorskip("taichi")
pytest.importorskip("llvmlite")

EXAMPLES = Path(__file__).parents[1] / "examples"
ROUNDS = 30


# The field that comes first does not lie first.
PLACED = """
import taichi as ti

x, y = ti.field(ti.f64), ti.field(ti.f32)
ti.root.dense(ti.i, 3).place(y)
ti.root.dense(ti.i, 3).place(x)

@ti.kernel
def step():
    for i in x:
        x[i] = 2 * x[i] + y[i]

alone = ti.field(ti.f64, shape=4)  # of a kernel that is left out

@ti.kernel
def running():
    ti.loop_config(serialize=True)
    for i in alone:
        alone[i] = i
"""


@pytest.fixture(scope="module", autouse=True)
def said(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the gate says of springs.py. Modules are made here, for the children that open them."""
    fields = cuda_export.exported_path("fields")
    cuda_export.exported_path("state_along")
    placed = tmp_path_factory.mktemp("placed") / "placed.py"
    placed.write_text(PLACED)
    command = [sys.executable, "-m", "tiaot", "export", "--cuda=sm_75", "--no-verify", str(placed)]
    subprocess.run([*command, "-o", str(fields.with_name("placed.so"))], check=True, capture_output=True)
    springs = fields.with_name("springs.so")
    command = [sys.executable, "-m", "tiaot", "export", "--cuda=sm_75", str(EXAMPLES / "programs" / "springs.py")]
    done = subprocess.run([*command, "-o", str(springs)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def opened(driver: Driver, name: str) -> tiaot.Module:
    os.environ["TIAOT_CUDA_PTX"] = "1"
    use_interpreter(driver)
    return tiaot.open(cuda_export.exported_path(name))


@in_child
def test_kernels_and_adjoints_are_those_of_the_cpu(driver: Driver) -> None:
    """All kernels of fields.py, with the warps of a grid in order and shuffled."""
    module = opened(driver, "fields")
    for order in (0, 2):
        driver.set_interpreter(order, 1, 0)
        found = list(cuda_state.compared(module, lambda state: cuda_state.describe(driver, state)))
        assert [each for each in found if each[2]] == []
        assert len(found) == 18
    cuda_state.check_findings(driver)


@in_child
def test_derivatives_along_tangents_are_those_of_the_cpu(driver: Driver) -> None:
    module = opened(driver, "state_along")

    def describe(state: Any) -> None:
        cuda_state.describe(driver, state)
        cuda_state.describe_tangents(driver, state)

    for order in (0, 2):
        driver.set_interpreter(order, 1, 0)
        found = list(cuda_state.compared_along(module, describe))
        assert [each for each in found if each[2]] == []
        assert len(found) == 4
    state = module.state(device="cuda:0")
    describe(state)
    state.mass[...] = state.mass.tangent[...] = 4.0
    value, tangent = (Described(np.zeros((), np.float64)) for _ in range(2))
    for each in (value, tangent):
        each.describe(driver, "a result", writable=True)
    state.relax.jvp(out=(value, tangent))  # the square root of 4, and its derivative, times 4
    assert (value.array, tangent.array) == pytest.approx((2, 1), rel=1e-12)
    assert state.mass.tangent.numpy() == pytest.approx(1, rel=1e-12)
    assert state.calls.tangent is None and state.mass.tangent.tangent is None
    cuda_state.check_findings(driver)


@in_child
def test_sums_are_the_same_bits_for_any_grid(driver: Driver) -> None:
    module = opened(driver, "fields")
    orders = {
        (kernel["name"], entry["kind"]): entry["cuda_order"]
        for kernel in module.info()["kernels"]
        for entry in kernel["variants"][0]["entries"]
    }
    assert orders["measure", "forward"] == orders["scatter", "forward"] == orders["choose", "grad"] == "ordered"
    assert orders["gather", "grad"] == "unordered"  # it reads the gradients that it adds to
    found = []
    for multiprocessors, order in ((1, 0), (2, 2), (64, 1)):
        use_interpreter(driver, multiprocessors)
        driver.set_interpreter(order, 0, 0)
        state = module.state(device="cuda")
        cuda_state.draw(state)
        state.measure(2)
        state.scatter()
        state.choose.grad()
        found.append({name: array.tobytes() for name, array in cuda_state.contents(state).items()})
    assert found[0] == found[1] == found[2]


@in_child
def test_results_and_random_numbers(driver: Driver) -> None:
    module = opened(driver, "fields")
    state, twin = module.state(device="cuda:0"), module.state(device="cuda:0")
    with pytest.raises(
        TypeError, match=r"energy.forward: output 'result': expected an array on cuda:0 passed as out=, got none"
    ):
        state.energy()
    state.mass[...], state.vel[...] = 2, 3
    result = Described(np.zeros((), np.float64))
    result.describe(driver, "the result", writable=True)
    assert state.energy(out=result) is result
    assert result.array == pytest.approx(cuda_state.N * 18, rel=1e-6)
    state.shake(5), twin.shake(5)
    drawn = state.x.numpy()[0]
    assert drawn.min() >= 0 and drawn.max() < 1 and len(np.unique(drawn)) == cuda_state.N
    assert (drawn == twin.x.numpy()[0]).all()
    twin.shake(6)
    assert (drawn != twin.x.numpy()[0]).any()


@in_child
def test_fields_are_arrays_for_others(driver: Driver) -> None:
    module = opened(driver, "fields")
    state, host = module.state(device="cuda:0"), module.state()
    assert type(state) is not tiaot.State and isinstance(state, tiaot.State) and state.device == "cuda:0"
    values = np.random.default_rng(3).uniform(0, 1, state.pos.shape)
    state.pos[...] = host.pos[...] = values  # between other fields, in one struct
    state.vel[...] = host.vel[...] = 4
    for name in ("pos", "vel", "mass"):
        field, plain = state.fields[name], host.fields[name]
        assert (field.shape, field.strides, field.dtype) == (plain.shape, plain.strides, plain.dtype)
        interface = field.__cuda_array_interface__
        assert interface["strides"] == plain.strides and interface["stream"] == 1
        assert (field.numpy() == plain).all()
        # The stand-in's device is the host.
        for version in (None, (1, 0)):
            capsule = field.__dlpack__(stream=1, max_version=version)
            assert ("versioned" in repr(capsule)) == (version is not None)
    assert state.pos.__dlpack_device__() == (2, 0)
    assert state.pos.grad.numpy().any() == 0 and state.count.grad is None
    assert state.count.dtype == np.int64 and state.loss.item() == 0.0
    state.count[...] = [1, 2**60 + 1, -3]
    assert state.count.numpy().tolist() == [1, 2**60 + 1, -3]
    state.count[:] = 2**60 + 1
    assert state.count.numpy().tolist() == [2**60 + 1] * 3
    driver.calls()
    state.stream = 0x200
    assert driver.calls("cuStreamWaitEvent") == ["cuStreamWaitEvent device=0 stream=0x200"]
    state.x.__dlpack__(stream=0x300)
    assert driver.calls("cuStreamWaitEvent") == ["cuStreamWaitEvent device=0 stream=0x300"]
    state.x.__dlpack__(stream=-1)
    assert driver.calls("cuStreamWaitEvent") == []


@in_child
def test_content_goes_to_the_fields_place(driver: Driver) -> None:
    state = opened(driver, "placed").state(device="cuda")
    state.x[...], state.y[...] = np.array([1.0, 2.0, 3.0]), np.array([0.5, 0.25, 0.125])
    assert state.x.numpy().tolist() == [1, 2, 3] and state.y.numpy().tolist() == [0.5, 0.25, 0.125]
    state.step()
    assert state.x.numpy().tolist() == [2.5, 4.25, 6.125]


@in_child
def test_copies_and_pickles(driver: Driver) -> None:
    module = opened(driver, "fields")
    state = module.state(device="cuda:0")
    cuda_state.draw(state)
    others = [copy.copy(state), copy.deepcopy(state), pickle.loads(pickle.dumps(state)), module.state()]
    others[3].copy_from(state)
    state.x[...] = 0
    for other in others:
        assert cuda_state.differences(state, other) != []
        other.x[...] = 0
        assert cuda_state.differences(state, other) == []
    assert [getattr(each, "device", "cpu") for each in others] == ["cuda:0"] * 3 + ["cpu"]
    assert type(pickle.loads(pickle.dumps(state.x))) is np.ndarray
    fresh = module.state(zeros=True, device="cuda:0")
    assert all(not array.any() for array in cuda_state.contents(fresh).values())
    del state, others, other, fresh
    assert driver.calls("cuMemFree") != []


@in_child
def test_calls_go_on_the_states_stream(driver: Driver) -> None:
    """A new stream waits for the one before, whichever way it comes."""
    module = opened(driver, "fields")
    state = module.state(device="cuda:0")
    state.clear()
    driver.calls()
    state.clear(stream=0x100)
    log = driver.calls("cuStreamWaitEvent", "cuLaunchKernel")
    assert [line.split()[0] for line in log] == ["cuStreamWaitEvent", "cuLaunchKernel", "cuLaunchKernel"]
    assert all("stream=0x100" in line for line in log) and state.stream == 0x100
    bound = state.clear.bind()
    state.stream = 0x200
    driver.calls()
    bound()
    assert driver.calls("cuStreamWaitEvent") == ["cuStreamWaitEvent device=0 stream=0x100"]
    assert state.stream == 0x100
    state.loss[...] = 1
    state.zero_grad()
    log = driver.calls("cuMemsetD8Async", "cuMemsetD2D32Async")
    assert log and all("stream=0x100" in line for line in log)
    driver.capture(0x300, 1)
    with pytest.raises(ValueError, match="is being captured and would have to wait for the stream 0x100"):
        state.clear(stream=0x300)


def example() -> dict[str, Any]:
    """The names of graph_springs.py."""
    names: dict[str, Any] = {"__name__": "graph_springs"}
    path = EXAMPLES / "graph_springs.py"
    exec(compile(path.read_text(), str(path), "exec"), names)
    return names


@in_child
def test_an_optimisation_is_one_captured_graph(driver: Driver) -> None:
    """The example's: each round the launches that were captured once, with the CPU's results."""
    descend, steps = example()["descend"], example()["STEPS"]
    module = opened(driver, "springs")
    host, state = module.state(), module.state(device="cuda:0")
    cuda_state.describe(driver, state)
    losses = example()["on_cpu"](module, ROUNDS)
    for _ in range(ROUNDS):
        descend(host)
    assert losses[-1] < 0.02 * losses[0]
    state.stream = 0x100
    driver.record(0x100)
    descend(state)
    driver.capture(0x100, 0)
    assert (state.v.numpy() == 0).all(), "what is captured does not run"
    found = []
    for _ in range(ROUNDS):
        assert driver.replay(0x100) > 2 * steps
        found.append(state.loss.item())
    np.testing.assert_allclose(found, losses, rtol=1e-9)
    np.testing.assert_allclose(state.v.numpy(), host.v, rtol=1e-9, atol=1e-12)
    cuda_state.check_findings(driver)


@in_child
def test_what_a_field_on_a_device_does_not_do(driver: Driver) -> None:
    module = opened(driver, "springs")
    state, host = module.state(device="cuda:0"), module.state()
    for expression, message in {
        "state.x[0]": r"field 'x' is on cuda:0: expected an array over its memory to be indexed, as torch.from_dlpack",
        "np.asarray(state.x)": r"field 'x' is on cuda:0: expected field.numpy\(\) where a copy is meant",
        "state.x.__setitem__(0, 1)": r"expected field\[...\] = values, got the index 0",
        "state.x.__setitem__(..., state.v)": r"expected a number or an array of the host's, got CudaField, on a device",
        "state.tape(host.loss)": r"argument 'loss': expected a field of the state, got Field",
        "state.move(np.zeros(3), 0.1)": r"move.forward: argument 't': expected",
        "state.copy_from(3)": "copy_from: expected a state, got int",
    }.items():
        with pytest.raises(TypeError, match=message):
            eval(expression)
    with pytest.raises(ValueError, match="argument 'device': expected 'cpu', 'cuda' or 'cuda:N', got 'gpu'"):
        module.state(device="gpu")
    with pytest.raises(RuntimeError, match="there is no device cuda:3"):
        module.state(device="cuda:3")
    with pytest.raises(BufferError, match="expected a view on cuda:0"):
        state.x.__dlpack__(dl_device=(1, 0))
    with pytest.raises(TypeError, match="expected keywords t, dt or num_threads, got 'stream'"):
        host.move(0, 0.1, stream=0)
    assert type(module.state(device="cpu")) is tiaot.State


def test_the_gate_interprets_kernels_over_fields(said: str) -> None:
    assert said.count("CUDA from the CPU") == 3
