"""What Taichi puts code into when it loads its device runtime: its reductions are ours, everything else is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("taichi")
pytest.importorskip("llvmlite")

from tiaot.export.cuda.standin import CUDA
from tiaot.export.entry.device.lower import CudaEntry, lower
from tiaot.export.ir import LoweringError
from tiaot.export.taichi.trace import trace_file
from tiaot.export.target import native
from tiaot.export.target.compile import runtime_text
from tiaot.export.target.nvidia.patched import PATCHED, RUNTIME
from tiaot.export.target.nvidia.ptx import optimize

HEADER = """
import taichi as ti
from tiaot.export import family, kernel, written
f32_0, f32_1 = ti.types.ndarray(ti.f32, ndim=0), ti.types.ndarray(ti.f32, ndim=1)
i32_0, i32_1 = ti.types.ndarray(ti.i32, ndim=0), ti.types.ndarray(ti.i32, ndim=1)
"""
REDUCTIONS = (
    HEADER
    + """
@kernel("x[n] -> least, most", wrt=[])
@ti.kernel
def extent(x: f32_1, least: f32_0, most: f32_0):
    a, b = 1e30, -1e30
    for i in x:
        ti.atomic_min(a, x[i])
        ti.atomic_max(b, x[i])
    least[None] = a
    most[None] = b

@kernel("x[n] -> most, every", wrt=[])
@ti.kernel
def latest(x: i32_1, most: i32_0, every: i32_0):
    a, b = -2147483648, -1
    for i in x:
        ti.atomic_max(a, x[i])
        ti.atomic_and(b, x[i])
    most[None] = a
    every[None] = b

@kernel("x[n] -> total", wrt=[])
@ti.kernel
def total(x: f32_1, total: f32_0):
    s = 0.0
    for i in x:
        s += x[i]
    total[None] = s
"""
)
# A statement on the device, of a loop over i, and what is said of it.
FORMS = {
    "y[i] = ti.simt.warp.shfl_down_f32(ti.u32(0xFFFFFFFF), x[i], 1)": "works on the threads of a warp",
    "y[i] = ti.simt.warp.ballot(ti.cast(x[i] > 0, ti.i32))": "works on the threads of a warp",
    "y[i] = ti.simt.warp.all_nonzero(ti.u32(0xFFFFFFFF), ti.cast(x[i], ti.i32))": "works on the threads of a warp",
    "ti.simt.block.sync()": "works on the threads of a block",
    "ti.simt.grid.memfence()": "orders memory between threads",
    "y[i] = ti.simt.block.global_thread_idx()": "asks for the number of its thread",
}


def lowered(folder: Path, source: str) -> dict[str, CudaEntry | str]:
    """The forward entry of every kernel of a source, or why there is none."""
    (folder / "made.py").write_text(source)
    traced = trace_file(folder / "made.py", None, CUDA)
    signatures = {family.name: family.signature for family in traced.families}
    found: dict[str, CudaEntry | str] = {key[0]: why for key, why in traced.refused.items()}
    for trace in traced.traces:
        try:
            found[trace.kernel] = lower(signatures[trace.kernel], trace, trace, native())
        except LoweringError as error:
            found[trace.kernel] = str(error)
    return found


def test_reductions_are_atomic_operations_of_ours(tmp_path: Path) -> None:
    found = lowered(tmp_path, REDUCTIONS)
    code = {}
    for name, entry in found.items():
        assert isinstance(entry, CudaEntry), entry
        assert entry.order == 0, name  # ordered: sums on copies, the others whatever the order
        code[name] = entry.device
    assert {"min i32", "umax i32", "max i32", "umin i32"} <= operations(code["extent"])
    assert operations(code["latest"]) == {"max i32", "and i32"}
    total = found["total"]
    assert isinstance(total, CudaEntry) and any(kernel.endswith("_copies") for kernel in total.kernels)
    copies = code["total"].split("_task_1_copies(")[1].split("\n}\n")[0]
    assert "fadd" in copies and "atomicrmw" not in copies and "cmpxchg" not in copies


def operations(text: str) -> set[str]:
    return {f"{what} {kind}" for what, kind in re.findall(r"atomicrmw (\w+) (\w+)", text)}


def test_what_taichi_completes_at_load_is_refused(tmp_path: Path) -> None:
    forms = [
        f"""
@family("x[B] -> y[B]", batch="B", dtypes=["float32"], wrt=[])
def form{number}(variant):
    @ti.kernel
    def plain(x: variant.array(1), y: variant.array(1)):
        for i in x:
            y[i] = x[i]
    @ti.kernel
    def on_device(x: variant.array(1), y: variant.array(1)):
        for i in x:
            {form}
    cuda = variant.target == "cuda"
    return written(on_device if cuda else plain, {{}}, block_rows=None if cuda else 64)
"""
        for number, form in enumerate(FORMS)
    ]
    found = lowered(tmp_path, HEADER + "".join(forms))
    assert len(found) == len(FORMS)
    for number, (form, said) in enumerate(FORMS.items()):
        assert str(found[f"form{number}"]).startswith(f"the kernel {said}"), (form, found[f"form{number}"])


def test_memory_of_a_block_is_refused(tmp_path: Path) -> None:
    source = """
@kernel("x[n] -> y[n]", wrt=[])
@ti.kernel
def shared(x: f32_1, y: f32_1):
    ti.loop_config(block_dim=128)
    for i in x:
        pad = ti.simt.block.SharedArray((128,), ti.f32)
        pad[i % 128] = x[i]
        y[i] = pad[(i + 1) % 128]
"""
    found = lowered(tmp_path, HEADER + source)
    assert str(found["shared"]).startswith("shared: keeps memory for the threads of a block (ti.simt.block.Shared")


def test_a_function_that_reaches_an_empty_one_is_refused() -> None:
    text = """
declare float @reduce_min_f32(float*, float)
define ptx_kernel void @k(float* %p) {
  %r = call float @reduce_min_f32(float* %p, float 1.0)
  ret void
}"""
    with pytest.raises(LoweringError, match=r"works on the threads of a warp|asks for the number of its thread"):
        optimize(text)


def test_the_list_has_every_empty_function_of_the_runtime() -> None:
    """Functions that look at none of their arguments and give a constant, or nothing."""
    known = {  # constants in truth: what a dense node always is; marks of the profiler and the compiler
        *("warp_size", "Dense_activate", "Dense_is_active", "Root_activate", "Root_is_active", "Root_get_num_elements"),
        *("get_func_type_host_printf", "mark_force_no_inline", "do_nothing", "refresh_counter"),
    }
    empty = set()
    for text in re.split(r"^(?=define )", runtime_text(RUNTIME, frozenset()), flags=re.MULTILINE)[1:]:
        name = re.match(r"define [^\n]*?@([\w.]+)\(", text)
        returned = re.findall(r"^  ret (.*)$", text, flags=re.MULTILINE)
        stored = {line.split(", ")[1].split()[-1] for line in text.splitlines() if line.startswith("  store ")}
        rooms = set(re.findall(r"(%\d+) = alloca", text))
        constant = all(re.fullmatch(r"void|\w+ (?:-?\d+|0\.0+e\+00|null|true|false)", each) for each in returned)
        if name and constant and stored <= rooms and not re.search(r" (?:call|load|atomicrmw|cmpxchg) ", text):
            empty.add(name[1])
    assert "thread_idx" in empty and "cuda_shfl_down_sync_f32" in empty
    assert empty - PATCHED.keys() == known
