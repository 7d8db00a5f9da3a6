"""`tiaot export --cuda`: what is in a module, what is said where something is missing, what goes on a stream."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cuda_export
import numpy as np
import pytest
import tiaot
from cuda_arrays import Driver, Interface, OfLibrary, in_child
from cuda_interpreted import use_interpreter
from kernel_cases import DRAWN, draw
from whole_cases import outputs

pytest.importorskip("taichi")
pytest.importorskip("llvmlite")

FATBIN_MAGIC = struct.pack("<I", 0xBA55ED50)  # what cuModuleLoadData knows a fat binary by
ARCHITECTURES = ["7.5", "8.0", "8.6", "9.0", "10.0", "12.0"]
HEADER = (
    "import taichi as ti\nfrom tiaot.export import family, kernel, written\nreals = ti.types.ndarray(ti.f32, ndim=1)\n"
)
DOUBLE = """
@kernel("x[n] -> y[n]")
@ti.kernel
def double(x: reals, y: reals):
    for i in x:
        y[i] = 2 * x[i]
"""


def run_export(folder: Path, source: str, *options: str, name: str = "made") -> subprocess.CompletedProcess[str]:
    (folder / f"{name}.py").write_text(HEADER + source)
    command = [sys.executable, "-m", "tiaot", "export", "--no-verify", *options, f"{name}.py", "-o", f"{name}.so"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def export(folder: Path, source: str, *options: str) -> dict[str, Any]:
    """What the module says of itself."""
    done = run_export(folder, source, *options)
    assert done.returncode == 0, done.stderr
    with tiaot.open(folder / "made.so") as module:
        return module.info()


def entries(info: dict[str, Any]) -> dict[str, dict[str, Any]]:
    every = [entry for kernel in info["kernels"] for variant in kernel["variants"] for entry in variant["entries"]]
    return {entry["symbol"]: entry for entry in every}


# ---- the module


def test_a_module_has_an_image_for_every_architecture(tmp_path: Path) -> None:
    info = export(tmp_path, DOUBLE, "--cuda")
    cubins = [image["architecture"] for image in info["cuda"]["images"] if image["kind"] == "cubin"]
    assert cubins == ARCHITECTURES
    assert [image["architecture"] for image in info["cuda"]["images"] if image["kind"] == "ptx"] == ["7.5"]
    assert all(image["bytes"] > 0 and image["code_bytes"] > 0 for image in info["cuda"]["images"])
    assert all(2 * image["bytes"] < image["code_bytes"] for image in info["cuda"]["images"])  # compressed
    assert (tmp_path / "made.so").read_bytes().count(FATBIN_MAGIC) == len(ARCHITECTURES) + 1
    assert set(info["cuda"]["kernels"]) >= {"tiaot_sum_float32", "tiaot_sum_float64"}
    assert all(entry["cuda"] and entry["cuda_order"] == "ordered" for entry in entries(info).values())

    said = subprocess.run(
        [sys.executable, "-m", "tiaot", "inspect", "made.so"], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    assert re.search(r"CUDA, \d+ kernels, compiled by ptxas \d+\.\d+", said)
    assert re.search(r"cubin +9\.0 and later 9\.x +[\d,]+ +[\d,]+\n", said)
    assert re.search(r"ptx +7\.5 and later +[\d,]+ +[\d,]+\n", said)
    assert "every entry has CUDA code" in said


def test_the_bytes_do_not_depend_on_when_they_are_made(tmp_path: Path) -> None:
    made = []
    for folder in (tmp_path / "one", tmp_path / "another"):
        folder.mkdir()
        export(folder, DOUBLE, "--no-cache", "--cuda=sm_90,sm_80")
        made.append((folder / "made.so").read_bytes())
    assert made[0] == made[1]
    with tiaot.open(tmp_path / "one" / "made.so") as module:
        images = [(image["kind"], image["architecture"]) for image in module.info()["cuda"]["images"]]
    assert images == [("cubin", "8.0"), ("cubin", "9.0"), ("ptx", "8.0")]


def test_a_module_has_no_cuda_code_unless_told(tmp_path: Path) -> None:
    info = export(tmp_path, DOUBLE)
    assert info["cuda"] is None
    assert not any(entry["cuda"] or entry["cuda_missing"] for entry in entries(info).values())
    assert FATBIN_MAGIC not in (tmp_path / "made.so").read_bytes()


@pytest.mark.parametrize("names", ["sm_99", "sm_80,90", "80", "sm_80,"])
def test_an_architecture_that_is_none(names: str, tmp_path: Path) -> None:
    done = run_export(tmp_path, DOUBLE, f"--cuda={names}")
    assert done.returncode == 2
    assert "argument --cuda: expected some of sm_75, sm_80, sm_86, sm_89, sm_90, sm_100, sm_120, got '" in done.stderr
    assert not (tmp_path / "made.so").exists()


def test_without_ptxas_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "made.py").write_text(HEADER + DOUBLE)
    hidden = """
import importlib.util, shutil, sys
find_spec, which = importlib.util.find_spec, shutil.which
importlib.util.find_spec = lambda name, *rest: None if name == "nvidia" else find_spec(name, *rest)
shutil.which = lambda name, *rest, **options: None if name == "ptxas" else which(name, *rest, **options)
from tiaot.cli import main
sys.exit(main(["export", "--no-verify", "--cuda", "made.py", "-o", "made.so"]))
"""
    done = subprocess.run([sys.executable, "-c", hidden], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    message = 'no ptxas: looked in the package nvidia-cuda-nvcc and on the PATH; pip install "tiaot[cuda]"'
    assert message in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "made.so").exists()


# ---- what has no code, and what a family gives CUDA

FORMS = (
    """
field = ti.field(ti.f32, shape=4)

@kernel("x[4] -> y[4]", wrt=[])
@ti.kernel
def on_field(x: reals, y: reals):
    for i in x:
        y[i] = x[i] + field[i]

@kernel("x[n], turns -> y[n]")
@ti.kernel
def grown(x: reals, turns: ti.i32, y: reals):
    for i in x:
        p = x[i]
        for _ in range(turns):
            p = ti.sin(p) * p
        y[i] = p

def layer(variant, block_rows):
    @ti.kernel
    def forward(x: variant.array(1), y: variant.array(1)):
        for i in x:
            y[i] = ti.static(3 if variant.target == "cuda" else 2) * x[i]
    @ti.kernel
    def backward(x: variant.array(1), grad_y: variant.array(1), grad_x: variant.array(1)):
        for i in x:
            grad_x[i] = 2 * grad_y[i]
    return written(forward, {"x": backward}, block_rows=block_rows)

@family("x[B] -> y[B]", batch="B", dtypes=["float32"])
def in_blocks(variant):
    return layer(variant, 64)

@family("x[B] -> y[B]", batch="B", dtypes=["float32"])
def for_both(variant):
    return layer(variant, None if variant.target == "cuda" else 64)
"""
    + DOUBLE
)


def test_entries_without_cuda_code_have_a_reason(tmp_path: Path) -> None:
    found = entries(export(tmp_path, FORMS, "--cuda=sm_90"))
    reasons = {symbol: entry["cuda_missing"] for symbol, entry in found.items() if not entry["cuda"]}
    assert {symbol.split("_float32")[0] for symbol in reasons} == {"grown", "in_blocks"}
    by_name = {symbol.partition("_float32_dynamic_")[::2]: reason for symbol, reason in reasons.items()}
    assert by_name["grown", "vjp_x"].startswith("a variable that changes in a loop keeps all of its values for the gra")
    assert ("grown", "forward") not in by_name
    for entry in ("forward", "vjp_x"):
        assert by_name["in_blocks", entry].startswith("is written for blocks of rows: give the family a form for varia")
    said = subprocess.run(
        [sys.executable, "-m", "tiaot", "inspect", "made.so"], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    assert "entries without CUDA code, and why:" in said
    assert "    in_blocks_float32_dynamic_forward: is written for blocks of rows" in said


def test_derivatives_that_the_author_left_out(tmp_path: Path) -> None:
    """`cuda_derivatives` says which of `derivatives` the code for CUDA has; that for CPUs has all."""
    source = DOUBLE.replace('y[n]"', "y[n]\", derivatives=['jvp', 'hvp'], cuda_derivatives=['jvp']")
    found = {
        symbol.partition("dynamic_")[2]: entry
        for symbol, entry in entries(export(tmp_path, source, "--cuda=sm_90")).items()
    }
    assert {symbol: entry["cuda"] for symbol, entry in found.items()} == {
        "forward": True,
        "vjp_x": True,
        "jvp_x": True,
        "hvp_x": False,
    }
    assert found["hvp_x"]["cuda_missing"] == "its author left it out (cuda_derivatives)"


# ---- the trace


def test_numbers_that_follow_from_fields_are_refused(tmp_path: Path) -> None:
    """Fields hold nothing where Taichi compiles for a GPU that is not there."""
    (tmp_path / "made.py").write_text(
        "import taichi as ti\nti.init(arch=ti.cpu)\nx = ti.field(ti.f32, shape=4)\n"
        "x[1] = 3\ntotal = float(x.to_numpy().sum())\nseen = x.to_numpy()\n"
        "@ti.kernel\ndef scale():\n    for i in range(4):\n        x[i] *= ti.static(total)\n"
    )
    command = [sys.executable, "-m", "tiaot", "export", "--cuda=sm_75", "--no-verify", "made.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "made.py: total: follows from fields or kernels that the file itself" in done.stderr


@pytest.mark.parametrize("byte", ["255", "1"])  # glibc fills new memory with the complement
def test_the_trace_does_not_follow_from_what_memory_held(tmp_path: Path, byte: str) -> None:
    from tiaot.export.cuda.standin import CUDA
    from tiaot.export.taichi.trace import trace_file

    (tmp_path / "kernels.py").write_text(HEADER + "released = ti.ndarray(ti.f32, 4)\ndel released\n" + DOUBLE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MALLOC_PERTURB_", byte)
        found = trace_file(tmp_path / "kernels.py", None, CUDA).traces
    plain = trace_file(tmp_path / "kernels.py", None, CUDA).traces
    assert len(found) == 2 and [each.tasks for each in found] == [each.tasks for each in plain]


# ---- registers and memory


@pytest.fixture(scope="module")
def dense_tanh() -> Any:
    """What the tracer gives of it."""
    from tiaot.export.cuda.standin import CUDA
    from tiaot.export.taichi.trace import trace_file

    return trace_file(cuda_export.SOURCES["dense_tanh"], None, CUDA)


def test_small_layers_stay_in_registers(dense_tanh: Any, tmp_path: Path) -> None:
    """No local memory: the arrays of a sample, Taichi's context and its argument struct are dissolved."""
    from tiaot.export.entry.device.lower import lower
    from tiaot.export.target import native
    from tiaot.export.target.nvidia.ptx import _tool, emit_ptx

    signature = dense_tanh.families[0].signature
    traces = [trace for trace in dense_tanh.traces if trace.variant.name == "float32_n8_m4"]
    primal = next(trace for trace in traces if not trace.wrt)
    lowered = [lower(signature, trace, primal, native()) for trace in traces]
    kernels = [kernel for entry in lowered for kernel in entry.kernels]
    assert len(lowered) == 4 and len(kernels) == 8  # and for arrays that lie right, to move four numbers at a time
    (tmp_path / "kernels.ptx").write_text(emit_ptx([entry.device for entry in lowered]))
    command = [_tool("ptxas"), "-v", "-arch=sm_90", "kernels.ptx", "-o", "kernels.cubin"]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stderr
    assert (tmp_path / "kernels.cubin").read_bytes()[:4] == b"\x7fELF"
    frames = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", said)
    # ptxas may spill a few of the 36 sums of one thread; an array, a context or a struct would take hundreds of bytes.
    assert len(frames) == len(kernels) and all(int(size) <= 32 for frame in frames for size in frame), said
    registers = [int(count) for count in re.findall(r"Used (\d+) registers", said)]
    assert len(registers) == len(kernels) and max(registers) <= 128, said


def test_open_sizes_load_little_for_each_multiplication(dense_tanh: Any) -> None:
    """16 fused multiplications and additions for each load of the loop, where rows are aligned, and no local memory."""
    from tiaot.benchmarks import gpu_count
    from tiaot.export.entry.device.lower import lower
    from tiaot.export.target import native
    from tiaot.export.target.nvidia.ptx import emit_ptx

    signature = dense_tanh.families[0].signature
    traces = [trace for trace in dense_tanh.traces if trace.variant.name == "float32_dynamic"]
    primal = next(trace for trace in traces if not trace.wrt)
    most = next(trace for trace in traces if trace.wrt == ("x", "W", "b"))
    found = gpu_count.count(emit_ptx([lower(signature, most, primal, native()).device]), "sm_90")
    assert all(each.local_bytes == each.spilled_bytes == 0 for each in found)
    products = [each for each in found if each.fmas >= 64 and each.kernel.endswith("_aligned")]
    assert len(products) == 3 and all(each.fmas_per_load >= 16 for each in products)
    others = [each for each in found if each.fmas >= 64 and not each.kernel.endswith("_aligned")]
    assert len(others) == 3 and all(each.fmas_per_load >= 4 for each in others)


# ---- what is put on a stream


def opened(driver: Driver, file: str, multiprocessors: int = 2) -> tiaot.Module:
    """A module whose kernels are not run, only written down."""
    os.environ["TIAOT_CUDA_PTX"] = "1"
    use_interpreter(driver, multiprocessors)
    driver.skip_work(1)
    return tiaot.open(cuda_export.exported_path(file))


def launches(driver: Driver, call: Callable[[], Any]) -> list[tuple[str, int]]:
    """(kernel, blocks) of each launch of a call."""
    driver.calls()
    call()
    lines = driver.calls("cuLaunchKernel")
    return [(line.split("kernel=")[1].split()[0], int(line.split("grid=")[1].split()[0])) for line in lines]


def dense(rows: int, n: int, m: int) -> list[OfLibrary]:
    rng = np.random.default_rng(0)
    return [OfLibrary(rng.standard_normal(s).astype(np.float32)) for s in ((rows, n), (m, n), (m,), (rows, m))]


@in_child
def test_a_batch_is_one_kernel_and_sums_are_added_up_in_order(driver: Driver) -> None:
    kernel = opened(driver, "dense_tanh").dense_tanh
    name = "dense_tanh_float32_n8_m4"
    x, W, b, v = dense(300, 8, 4)
    assert launches(driver, lambda: kernel(x, W, b)) == [(f"{name}_forward_aligned", 3)]
    assert launches(driver, lambda: kernel.vjp(x, W, b, v)) == [(f"{name}_vjp_x_aligned", 3)]
    # What moves several numbers at a time needs arrays that lie right for it.
    memory = np.zeros(2401, np.float32)
    assert launches(driver, lambda: kernel(OfLibrary(memory[1:].reshape(300, 8)), W, b)) == [(f"{name}_forward", 3)]
    found = launches(driver, lambda: kernel.vjp(x, W, b, v, wrt=("x", "W", "b")))
    assert found[0] == (f"{name}_vjp_x_W_b_aligned", 3)
    assert len(found) > 1 and {each for each, _ in found[1:]} == {"tiaot_sum_float32"}
    # As many partial sums as the size says, whatever the device.
    many = dense(5000, 8, 4)
    assert launches(driver, lambda: kernel.vjp(*many, wrt=("W", "b")))[0][1] == 40


@in_child
def test_sizes_whose_sum_is_beyond_32_bits(driver: Driver) -> None:
    """W of 2^30 + 4 rows and one column: its gradient and that of b together have more than 2^31 elements."""
    m = (1 << 30) + 4
    kernel = opened(driver, "dense_tanh").dense_tanh

    places = iter(range(1 << 40, 1 << 44, 1 << 40))  # at which nothing looks

    def there(*shape: int) -> Interface:
        return Interface(np.zeros(1, np.float32), shape=shape, strides=None, data=(next(places), False))

    given = there(1, 1), there(m, 1), there(m), there(1, m)
    found = launches(driver, lambda: kernel.vjp(*given, wrt=("W", "b"), out=(there(m, 1), there(m))))
    most = max(grid for _, grid in found)
    assert len(found) == 6 and [grid for name, grid in found if grid == most] == [most] * 6


@in_child
def test_a_grid_follows_from_the_size(driver: Driver) -> None:
    module = opened(driver, "device")
    for n, blocks in ((1, 1), (128, 1), (129, 2), (1000, 8)):
        x = OfLibrary(np.ones(n, np.float32))
        assert [grid for _, grid in launches(driver, lambda x=x: module.in_blocks(x))] == [blocks]
    assert launches(driver, lambda: module.in_blocks(OfLibrary(np.ones(0, np.float32)))) == []
    # From numbers that the host has; from the device's, it fills the device, whose two multiprocessors take 2048 each.
    x = OfLibrary(np.ones(5000, np.float32))
    assert [grid for _, grid in launches(driver, lambda: module.part(x, 1000, 1300))] == [3]
    assert launches(driver, lambda: module.part(x, 1300, 1000)) == []
    there = [OfLibrary(np.array(number, np.int32)) for number in (1000, 1300)]
    (filled,) = [grid for _, grid in launches(driver, lambda: module.part(x, *there))]
    (half,) = [grid for _, grid in launches(driver, lambda: module.part(x, 1000, there[1]))]
    assert filled == half > 3


@in_child
def test_nothing_is_copied_from_the_host_and_nothing_waits(driver: Driver) -> None:
    """What every entry puts on a stream: kernels, and fills and copies on the device."""
    work = {"cuLaunchKernel", "cuMemsetD8Async", "cuMemcpyDtoDAsync"}
    for file in ("whole", "rows", "device", "dense_tanh"):
        module = opened(driver, file)
        for name in DRAWN[file]:
            inputs = [OfLibrary(each) if isinstance(each, np.ndarray) else each for each in draw(file, name, 300)]
            kernel = module.kernels[name]
            about = next(each for each in module.info()["kernels"] if each["name"] == name)
            wanted = {tuple(e["wrt"]) for variant in about["variants"] for e in variant["entries"] if e["cuda"]}
            plain = draw(file, name, 300)
            primals = outputs(kernel, plain)
            cotangents = [OfLibrary(np.ones_like(each)) for each in primals]
            results = [OfLibrary(np.empty_like(each)) for each in primals]
            gradients = {
                wrt: tuple(OfLibrary(each) for each in kernel.vjp(*plain, *(c.array for c in cotangents), wrt=wrt))
                for wrt in wanted - {()}
            }
            for _ in range(2):
                driver.calls()
                kernel(*inputs, out=tuple(results) if len(results) > 1 else results[0])
                for wrt, out in gradients.items():
                    kernel.vjp(*inputs, *cotangents, wrt=wrt, out=out)
                used = {line.split()[0] for line in driver.calls()}
            assert used - {"cuCtxPushCurrent", "cuCtxPopCurrent"} <= work, f"{name}: {used}"
            assert "cuLaunchKernel" in used, name
