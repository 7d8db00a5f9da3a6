"""Kernels over Taichi's fields, of a program without a decorator: values, layouts, adjoints."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiaot

pytest.importorskip("taichi")
pytest.importorskip("llvmlite")

SOURCE = Path(__file__).parent / "kernels" / "fields.py"
KERNELS = [
    "advance",
    "measure",
    "scatter",
    "energy",
    "blur",
    "charge",
    "gather",
    "weave",
    "choose",
    "clear",
    "shake",
    "reach",
]
N, STEPS, GRID = 600, 4, 9


def export(source: Path, target: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tiaot", "export", *options, str(source), "-o", str(target)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=target.parent)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[tiaot.Module, str]:
    target = tmp_path_factory.mktemp("fields") / "fields.so"
    done = export(SOURCE, target)
    assert done.returncode == 0, done.stderr
    return tiaot.open(target), done.stderr


@pytest.fixture
def state(exported: tuple[tiaot.Module, str]) -> tiaot.State:
    state = exported[0].state()
    rng = np.random.default_rng(7)
    for field in state.fields.values():
        if field.dtype.kind == "f":
            field[...] = rng.uniform(0.1, 0.9, field.shape)
    state.order[...] = rng.permutation(N)
    return state


def contents(state: tiaot.State) -> dict[str, np.ndarray]:
    return {name: np.array(field) for name, field in state.fields.items()}


def expected_advance(s: dict[str, np.ndarray]) -> None:
    s["x"][2] = s["x"][1] + 0.25 * s["rate"] * np.sin(s["x"][1])


def expected_measure(s: dict[str, np.ndarray]) -> None:
    s["loss"] += (s["x"][2] ** 2).sum() / N


def expected_scatter(s: dict[str, np.ndarray]) -> None:
    scaled = s["pos"] * (GRID - 1)
    cell = scaled.astype(int)
    fraction = scaled - cell
    np.add.at(s["grid"], (cell[:, 0], cell[:, 1]), (1 - fraction[:, 0]) * s["vel"][:, 0])
    np.add.at(s["grid"], (cell[:, 0] + 1, cell[:, 1]), fraction[:, 0] * fraction[:, 1] * s["vel"][:, 1])


def expected_blur(s: dict[str, np.ndarray]) -> None:
    padded = np.pad(s["image"].astype(float), 1)
    plane = s["plane"].astype(float)[:, None]
    s["blurred"][...] = sum(
        padded[1 + di : 6 + di, 1 + dj : 8 + dj] * plane[..., 0, dj + 1] * plane[..., 1, di + 1]
        for di in (-1, 0, 1)
        for dj in (-1, 0, 1)
    )


def expected_charge(s: dict[str, np.ndarray]) -> None:
    s["beads_charge"] += s["beads_spot"] @ [1.0, -2.0, 0.5]
    s["beads_kind"][...] = [1, 2, 3, 4]
    s["count"] += [1 << 33, 1 << 34, 1 << 35]


def expected_gather(s: dict[str, np.ndarray]) -> None:
    s["x"][1] = s["x"][0][s["order"]] * s["x"][0]


def expected_weave(s: dict[str, np.ndarray]) -> None:
    box, power = s["box"], s["power"]
    s["woven"][...] = box + 2 * np.roll(box, -1, 1) + 3 * box[::-1, :, ::-1] * power[:3, [0, 1, 0, 1, 0], :7]
    s["woven"][:, :, 0:6:2] += box[:, :, 1:7:2] + power[[1, 3, 1]][:, [0, 0, 0, 1, 1], 4:7]


def expected_choose(s: dict[str, np.ndarray]) -> None:
    x = s["x"]
    s["y"] += (np.where(x[0] > 0.5, x[1], 2) * np.where(x[2] > 0.4, x[3], 1)) ** 2


def expected_clear(s: dict[str, np.ndarray]) -> None:
    s["grid"][...] = 0
    s["loss"][...] = 0


def expected_reach(s: dict[str, np.ndarray]) -> None:
    total = np.cumsum(s["chain_angle"])
    s["chain_tip"][...] = [np.cos(total).sum(), np.sin(total).sum()]


def nothing(s: dict[str, np.ndarray]) -> None:
    pass


EXPECTED: dict[str, tuple[Callable[[dict[str, np.ndarray]], None], tuple]] = {
    "advance": (expected_advance, (1, 0.25)),
    "measure": (expected_measure, (2,)),
    "scatter": (expected_scatter, ()),
    "energy": (nothing, ()),
    "blur": (expected_blur, ()),
    "charge": (expected_charge, (np.array([1.0, -2.0, 0.5]),)),
    "gather": (expected_gather, ()),
    "weave": (expected_weave, ()),
    "choose": (expected_choose, ()),
    "clear": (expected_clear, ()),
    "reach": (expected_reach, ()),
}
WITH_GRADIENT = ["advance", "measure", "scatter", "blur", "gather", "weave", "choose", "reach"]


def test_a_program_without_a_decorator_is_exported_as_it_is(exported: tuple[tiaot.Module, str]) -> None:
    module, said = exported
    assert list(module.kernels) == KERNELS
    signatures = {each["name"]: each["signature"] for each in module.info()["kernels"]}
    assert signatures["advance"] == "t, dt ->"
    assert signatures["charge"] == "by[3] ->"
    assert signatures["energy"] == "-> result"
    assert signatures["shake"] == "seed ->"
    for left_out in (
        "load: parameter 'source' is an array: give the kernel a signature",
        "fill: parameter 'data' is a template: decorate the kernel",
        "running: asks for a loop over a field that runs in order",
        "scattered: field 'sparse' lies in a pointer node, which is sparse",
    ):
        assert re.search(rf"left out: fields\.py:\d+: {left_out}", said), left_out
    assert "shake has no gradient" in said and "RandStmt" in said
    kinds = {
        each["name"]: [entry["kind"] for entry in each["variants"][0]["entries"]] for each in module.info()["kernels"]
    }
    assert {name for name, each in kinds.items() if each == ["forward", "grad"]} >= set(WITH_GRADIENT)
    for name in ("energy", "charge", "shake"):
        assert kinds[name] == ["forward"], name


def test_the_state_has_the_fields_that_kernels_use(exported: tuple[tiaot.Module, str]) -> None:
    state = exported[0].state()
    shapes = {name: (str(field.dtype), field.shape) for name, field in state.fields.items()}
    assert shapes == {
        "x": ("float64", (STEPS, N)),
        "y": ("float64", (N,)),
        "rate": ("float64", ()),
        "loss": ("float64", ()),
        "pos": ("float64", (N, 2)),
        "vel": ("float64", (N, 2)),
        "mass": ("float32", (N,)),
        "grid": ("float64", (GRID, GRID)),
        "plane": ("float32", (5, 2, 3)),
        "image": ("float32", (5, 7)),
        "blurred": ("float32", (5, 7)),
        "box": ("float64", (3, 5, 7)),
        "woven": ("float64", (3, 5, 7)),
        "power": ("float64", (4, 2, 8)),
        "beads_charge": ("float64", (4,)),
        "beads_kind": ("uint8", (4,)),
        "beads_spot": ("float64", (4, 3)),
        "count": ("int64", (3,)),
        "order": ("int32", (N,)),
        "chain_angle": ("float64", (40,)),
        "chain_tip": ("float64", (2,)),
    }
    assert state.count.grad is None
    assert state.pos.grad.shape == (N, 2)
    assert not any(np.any(field) for field in state.fields.values())


@pytest.mark.parametrize("name", EXPECTED)
def test_values(state: tiaot.State, name: str) -> None:
    change, arguments = EXPECTED[name]
    wanted = contents(state)
    change(wanted)
    state.kernels[name](*arguments)
    for field, array in contents(state).items():
        tolerance = 1e-6 if array.dtype == np.float32 else 1e-12
        np.testing.assert_allclose(array, wanted[field], rtol=tolerance, atol=tolerance, err_msg=field)
    if name == "clear":
        assert state.loss.grad == 1


def test_a_returned_number(state: tiaot.State) -> None:
    energy = state.energy()
    np.testing.assert_allclose(energy, 0.5 * (state.mass * (state.vel**2).sum(1)).sum(), rtol=1e-12)


@pytest.mark.parametrize("name", WITH_GRADIENT)
def test_adjoints_agree_with_finite_differences(state: tiaot.State, name: str) -> None:
    _, arguments = EXPECTED[name]
    rng = np.random.default_rng(3)
    differentiable = [each for each, field in state.fields.items() if field.grad is not None]
    start = contents(state)

    def after(moved: str, step: float, direction: np.ndarray) -> dict[str, np.ndarray]:
        for each, array in start.items():
            state.fields[each][...] = array
        state.fields[moved][...] = start[moved] + step * direction
        state.kernels[name](*arguments)
        return contents(state)

    cotangents = {each: rng.uniform(-1, 1, start[each].shape) for each in differentiable}
    for each, array in start.items():
        state.fields[each][...] = array
    state.kernels[name](*arguments)
    for each, cotangent in cotangents.items():
        state.fields[each].grad[...] = cotangent
    state.kernels[name].grad(*arguments)
    gradients = {each: np.array(state.fields[each].grad, np.float64) for each in differentiable}
    moved_any = False
    for each in differentiable:
        single = start[each].dtype == np.float32
        step = 1e-2 if single else 1e-6
        direction = rng.uniform(-1, 1, start[each].shape)
        ahead, behind = after(each, step, direction), after(each, -step, direction)
        slope = sum((cotangents[k] * (ahead[k].astype(float) - behind[k])).sum() for k in differentiable) / (2 * step)
        scale = np.abs(gradients[each] * direction).sum() + sum(np.abs(c).sum() for c in cotangents.values())
        assert abs((gradients[each] * direction).sum() - slope) <= (2e-4 if single else 1e-8) * scale, each
        moved_any = moved_any or not np.array_equal(gradients[each], cotangents[each])
    assert moved_any


@pytest.mark.parametrize("name", [name for name in EXPECTED if name != "energy"])
def test_results_are_the_same_bits_for_any_number_of_threads(state: tiaot.State, name: str) -> None:
    _, arguments = EXPECTED[name]
    start, found = contents(state), []
    for threads in (1, 2, 7):
        for each, array in start.items():
            state.fields[each][...] = array
            if state.fields[each].grad is not None:
                state.fields[each].grad[...] = 0.5
        state.kernels[name](*arguments, num_threads=threads)
        if name in WITH_GRADIENT:
            state.kernels[name].grad(*arguments, num_threads=threads)
        gradients = [np.array(f.grad).tobytes() for f in state.fields.values() if f.grad is not None]
        found.append([*(array.tobytes() for array in contents(state).values()), *gradients])
    assert found[0] == found[1] == found[2]


def test_loops_that_add_floats_up_are_spread_over_threads_by_copies() -> None:
    from tiaot.export.entry.cpu.whole import WholeEntry
    from tiaot.export.taichi.trace import trace_file
    from tiaot.export.target import native

    traced = trace_file(SOURCE)
    signatures = {family.name: family.signature for family in traced.families}
    copied = {}
    for trace in traced.traces:
        entry = WholeEntry(signatures[trace.kernel], trace, trace, native())
        copied[trace.symbol] = [array.key for arrays in entry.sums.values() for array in arrays]
        if copied[trace.symbol]:
            assert "@tiaot_add_copies_double(" in entry.text("entry"), trace.symbol
    assert len(copied["scatter_float32_dynamic_forward"]) == 1  # into the grid
    assert copied["gather_float32_dynamic_forward"] == []


def test_random_numbers_follow_from_the_seed(state: tiaot.State) -> None:
    state.shake(5)
    first = np.array(state.x[0])
    state.shake(6)
    other = np.array(state.x[0])
    state.shake(5)
    assert np.array_equal(first, state.x[0]) and not np.any(first == other)
    assert abs(first.mean() - 0.5) < 0.1


def test_steps_and_their_gradients_through_a_tape(state: tiaot.State) -> None:
    start = contents(state)

    def run(rate: float) -> float:
        state.rate[...] = rate
        state.x[0] = start["x"][0]
        state.loss[...] = 0
        for t in range(STEPS - 1):
            state.advance(t, 0.25)
        state.measure(STEPS - 1)
        return float(state.loss)

    slope = (run(0.7 + 1e-6) - run(0.7 - 1e-6)) / 2e-6
    state.loss[...] = 0
    with state.tape(state.loss):
        run(0.7)
    np.testing.assert_allclose(state.rate.grad, slope, rtol=1e-8)


def test_what_the_gate_compares_is_recorded(exported: tuple[tiaot.Module, str]) -> None:
    records = {each["name"]: each["verification"] for each in exported[0].info()["kernels"]}
    for name in WITH_GRADIENT:
        assert re.search(r"verified at [2-5] points", records[name]), name
        assert "forward from the JIT" in records[name] and "grad from finite differences" in records[name], name
    assert "grad from the JIT" in records["scatter"]  # no stack of Taichi's in it
    assert "nothing was compared" in records["shake"]


def test_a_module_that_does_something_else_to_the_fields_is_found(
    exported: tuple[tiaot.Module, str], tmp_path: Path
) -> None:
    text = SOURCE.read_text()
    assert "x[0, order[i]] * x[0, i]" in text
    (tmp_path / "fields.py").write_text(text.replace("x[0, order[i]] * x[0, i]", "x[0, order[i]] + x[0, i]"))
    command = [sys.executable, "-m", "tiaot", "verify", exported[0].path, "--against", str(tmp_path / "fields.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert "gather, float32_dynamic: field 'x' beside Taichi's JIT: off by" in done.stderr


def test_whole_numbers_are_tried_as_the_file_left_them() -> None:
    from types import SimpleNamespace

    from tiaot.export.author.declare import Declaration
    from tiaot.export.gate.points import NEAR, SIGNS, _Draw

    indices = np.array([7, 1, 300], np.int32)
    fields = {"index": indices, "value": None}
    about = [
        {"name": name, "shape": [3], "dtype": dtype, "gradient": None}
        for name, dtype in (("index", "int32"), ("value", "float32"), ("own", "float32"))
    ]
    draw = {"own": lambda rng, shape, sizes: np.arange(3.0)}
    declaration = Declaration(SimpleNamespace(name="f"), None, None, draw, True)  # type: ignore[arg-type]
    near, signs = (
        _Draw(declaration, kind, {}, np.random.default_rng(0), {}).state(fields, about) for kind in (NEAR, SIGNS)
    )
    assert np.array_equal(near["state.index"], indices) and np.array_equal(signs["state.index"], indices)
    assert near["state.value"].min() >= 0.25 and near["state.value"].max() <= 0.75
    assert signs["state.value"].min() < 0
    assert np.array_equal(near["state.own"], [0, 1, 2]) and np.array_equal(signs["state.own"], [0, 1, 2])


SEED = """
import taichi as ti
import torch

ti.init(arch=ti.cpu)
torch.manual_seed(42)
batch, n, m = 2, 8, 4
W_values, b_values, x_values, v_values = (torch.randn(*shape) for shape in ((m, n), (m,), (batch, n), (batch, m)))
x = ti.field(ti.f32, shape=(batch, n), needs_grad=True)
W = ti.field(ti.f32, shape=(m, n), needs_grad=True)
b = ti.field(ti.f32, shape=m, needs_grad=True)
v = ti.field(ti.f32, shape=(batch, m))
y = ti.field(ti.f32, shape=(batch, m), needs_grad=True)


@ti.kernel
def forward():
    for i, j in y:
        total = b[j]
        for k in range(n):
            total += W[j, k] * x[i, k]
        y[i, j] = ti.tanh(total)


@ti.kernel
def seed_cotangent():
    for i, j in y:
        y.grad[i, j] = v[i, j]


x.from_torch(x_values)
W.from_torch(W_values)
b.from_torch(b_values)
v.from_torch(v_values)
forward()
seed_cotangent()
forward.grad()
print(x.grad.to_numpy())
"""


def test_the_seed_program_as_it_is(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    (tmp_path / "seed.py").write_text(SEED)
    done = export(tmp_path / "seed.py", tmp_path / "seed.so")
    assert done.returncode == 0, done.stderr
    torch.manual_seed(42)
    with tiaot.open(tmp_path / "seed.so") as module:
        state = module.state()
        for name, shape in (("W", (4, 8)), ("b", (4,)), ("x", (2, 8)), ("v", (2, 4))):
            state.fields[name][...] = torch.randn(*shape).numpy()
        state.forward()
        state.seed_cotangent()
        state.forward.grad()
        wanted = [
            [0.40772447, 0.85730678, 0.18844506, 0.31153518, -0.23295417, -0.08521497, -0.24905279, 0.5076037],
            [-1.31211734, 0.4779858, -0.65214491, -1.96736133, -0.38303438, -0.48829293, -0.42431751, -0.01537222],
        ]
        np.testing.assert_allclose(state.x.grad, wanted, rtol=0, atol=5e-6)
        assert not np.any(state.y.grad)  # as Taichi's own adjoint leaves it


DECLARED = """
import taichi as ti
from tiaot.export import kernel

ti.init(arch=ti.cpu, default_fp=ti.f64)
table = ti.field(ti.f64, shape=(3, 50), needs_grad=True)
total = ti.field(ti.f64, shape=(), needs_grad=True)
other = ti.field(ti.f64, shape=50, needs_grad=True)


@kernel("source[n], scale -> mean[3]", wrt=[])
@ti.kernel
def load(source: ti.types.ndarray(ti.f64, ndim=1), scale: ti.f64, mean: ti.types.ndarray(ti.f64, ndim=1)):
    for i in source:
        table[1, i] = scale * source[i]
    for r in mean:
        for i in range(50):
            mean[r] += table[r, i] / 50


@kernel("weight[n] ->")
@ti.kernel
def weigh(weight: ti.types.ndarray(ti.f64, ndim=1)):
    for i in weight:
        total[None] += weight[i] * table[1, i] ** 2


@kernel(constants={"data": other, "power": 3}, draw={"other": lambda rng, shape, sizes: rng.uniform(1, 2, shape)})
@ti.kernel
def rise(data: ti.template(), power: ti.template()):
    for i in data:
        total[None] += data[i] ** power


@kernel(wrt=[])
@ti.kernel
def reset():
    for i in other:
        other[i] = 0


@ti.kernel
def not_declared():
    total[None] = 0
"""


def test_declared_kernels_mix_fields_and_arrays(tmp_path: Path) -> None:
    (tmp_path / "declared.py").write_text(
        DECLARED.replace('"source[n], ', '"source[50], ').replace("weight[n]", "weight[50]")
    )
    done = export(tmp_path / "declared.py", tmp_path / "declared.so")
    assert done.returncode == 0, done.stderr
    with tiaot.open(tmp_path / "declared.so") as module:
        assert list(module.kernels) == ["load", "weigh", "rise", "reset"]
        state = module.state()
        rng = np.random.default_rng(1)
        source, weight = rng.uniform(0, 1, (2, 50))
        np.testing.assert_allclose(state.load(source, 2.0), [0, 2 * source.mean(), 0], rtol=1e-14)
        np.testing.assert_array_equal(state.table[1], 2 * source)
        state.weigh(weight)
        np.testing.assert_allclose(state.total, (weight * state.table[1] ** 2).sum(), rtol=1e-14)
        state.total.grad[...] = 1.5
        state.weigh.grad(weight)
        np.testing.assert_allclose(state.table.grad[1], 3 * weight * state.table[1], rtol=1e-14)
        state.other[...] = source
        state.rise.grad()
        np.testing.assert_allclose(state.other.grad, 4.5 * source**2, rtol=1e-14)
        state.reset()
        assert not np.any(state.other)
        for name in ("load", "reset"):
            with pytest.raises(AttributeError):
                state.kernels[name].grad  # noqa: B018


HEADER = "import taichi as ti\nfrom tiaot.export import kernel\n"
REFUSED = {
    "a sparse field": (
        """
x = ti.field(ti.f32)
ti.root.pointer(ti.i, 4).dense(ti.i, 4).place(x)
@ti.kernel
def sparse():
    for i in range(16):
        x[i] = i
""",
        "sparse: field 'x' lies in a pointer node, which is sparse: only dense fields can be exported",
    ),
    "a field of bits": (
        """
kind = ti.types.quant.int(bits=5)
x = ti.field(kind)
ti.root.dense(ti.i, 4).quant_array(ti.i, 4, max_num_bits=32).place(x)
@ti.kernel
def small():
    for i in range(16):
        x[i] = i
""",
        "small: .*quant_array node, which is quantised",
    ),
    "a field in blocks": (
        """
x = ti.field(ti.f32)
ti.root.dense(ti.i, 4).dense(ti.i, 4).place(x)
@ti.kernel
def blocked():
    for i in range(16):
        x[i] = i
""",
        "field 'x' is cut into blocks",
    ),
    "a batch": (
        """
f = ti.field(ti.f32, shape=4)
@kernel("x[B] -> y[B]", batch="B")
@ti.kernel
def shared(x: ti.types.ndarray(ti.f32, ndim=1), y: ti.types.ndarray(ti.f32, ndim=1)):
    for i in x:
        y[i] = x[i] + f[0]
""",
        "shared: works on fields, which the samples of a batch would share: leave batch out",
    ),
    "a gradient of an argument": (
        """
f = ti.field(ti.f32, shape=4)
@kernel("x[n] -> y[n]", wrt=["x"])
@ti.kernel
def both(x: ti.types.ndarray(ti.f32, ndim=1), y: ti.types.ndarray(ti.f32, ndim=1)):
    for i in x:
        y[i] = x[i] + f[0]
""",
        "both: works on fields: its gradient is that of the fields",
    ),
    "a wrong name in draw": (
        """
f = ti.field(ti.f32, shape=4)
@kernel("a ->", draw={"g": None})
@ti.kernel
def drawn(a: ti.f32):
    f[0] = a
""",
        "drawn: draw: expected names of a, f, got 'g'",
    ),
    "nothing that a module could give back": (
        """
@kernel("a ->")
@ti.kernel
def idle(a: ti.f32):
    pass
""",
        "idle: uses no field and has no output",
    ),
    "a loop over a field in order": (
        """
f = ti.field(ti.f32, shape=4)
@kernel()
@ti.kernel
def running():
    ti.loop_config(serialize=True)
    for i in f:
        f[i] = f[i - 1] + 1 if i > 0 else 0.0
""",
        r"running: asks for a loop over a field that runs in order \(faulty\.py:\d+\).*write `for i in range\(n\)`",
    ),
    "a kernel that Taichi refuses": (
        """
f = ti.field(ti.f32, shape=4)
@ti.kernel
def broken():
    f[0] = nothing
""",
        'Taichi does not compile kernel broken(.|\\n)*Name "nothing" is not defined',
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_exported_is_named(what: str, tmp_path: Path) -> None:
    source, message = REFUSED[what]
    (tmp_path / "faulty.py").write_text(HEADER + source)
    done = export(tmp_path / "faulty.py", tmp_path / "faulty.so", "--no-verify")
    assert done.returncode == 1
    assert re.search(message, done.stderr), done.stderr
    assert not (tmp_path / "faulty.so").exists()


def test_loops_that_are_to_run_in_order_do(tmp_path: Path) -> None:
    """Loops over arrays and ranges."""
    (tmp_path / "ordered.py").write_text(
        f"""{HEADER}
n = 200000
g = ti.field(ti.f64, shape=n)
array = ti.types.ndarray(ti.f64, ndim=1)

@kernel()
@ti.kernel
def over_range():
    ti.loop_config(serialize=True)
    for i, j in ti.ndrange(n // 100, 100):
        k = i * 100 + j
        g[k] = g[k - 1] + 1 if k > 0 else 0.0

@kernel("x[n] -> y[n]", wrt=[])
@ti.kernel
def over_array(x: array, y: array):
    ti.loop_config(serialize=True)
    for i in ti.grouped(x):
        y[i] = y[i - 1] + x[i] if i[0] > 0 else x[i]
"""
    )
    done = export(tmp_path / "ordered.py", tmp_path / "ordered.so", "--no-verify")
    assert done.returncode == 0, done.stderr
    with tiaot.open(tmp_path / "ordered.so") as module:
        assert set(module.kernels) == {"over_range", "over_array"}
        for _ in range(5):  # threads do not always meet
            state = module.state()
            state.over_range()
            np.testing.assert_array_equal(state.g, np.arange(200000.0))
            np.testing.assert_array_equal(module.kernels["over_array"](np.ones(200000)), np.arange(1, 200001.0))


def test_a_loop_is_in_order_where_its_kernel_says_so() -> None:
    """On a machine with one CPU Taichi gives every loop to one thread."""
    import taichi as ti
    from tiaot.export.author.hints import ordered_loops

    @ti.kernel
    def plain():
        for _ in range(4):
            pass

    @ti.kernel
    def parallel():
        ti.loop_config(serialize=False)
        for _ in range(4):
            pass

    @ti.kernel
    def in_order():
        ti.loop_config(parallelize=1)
        for _ in range(4):
            pass

    assert [len(ordered_loops(each)) for each in (plain, parallel, in_order)] == [0, 0, 1]


def test_a_wrong_adjoint_writes_no_module(tmp_path: Path) -> None:
    """An adjoint sees fields as the kernel leaves them, so that one which overwrites what it reads is wrong."""
    (tmp_path / "wrong.py").write_text("""
import taichi as ti
x = ti.field(ti.f32, shape=20, needs_grad=True)
@ti.kernel
def overwrite():
    for i in x:
        if x[i] < 0.5:
            x[i] = 1.0
""")
    done = export(tmp_path / "wrong.py", tmp_path / "wrong.so")
    assert done.returncode == 1
    assert "overwrite" in done.stderr and "gradient of field 'x' beside finite differences in float64" in done.stderr
    assert not (tmp_path / "wrong.so").exists()
    assert export(tmp_path / "wrong.py", tmp_path / "wrong.so", "--no-verify").returncode == 0
