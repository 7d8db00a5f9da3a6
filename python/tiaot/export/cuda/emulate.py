"""Device code on the CPU: the kernels of entries for CUDA, compiled for x86-64 to be called thread after thread.

They have no barriers and share nothing within a block, so that one thread at a time, in any order, gives what a device
would: what the exporter itself does for CUDA can be held against the code for the CPU on a machine without a GPU. What
is not tried that way is LLVM's back end for NVIDIA, ptxas and libdevice, for whose functions the C library's stand in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..link import link_library
from ..lower import compile_text
from .device import BLOCK, OVERFLOW, THREADS, sum_kernel
from .lower import STACKS
from .rows import CudaRowsEntry
from .whole import CudaWholeEntry

_TAICHIS = {"sgn": "sgn_f64", "sgnf": "sgn_f32"}  # what libdevice does not have and Taichi adds to it
_PLACE = re.compile(r"declare i32 @llvm\.nvvm\.read\.ptx\.sreg\.(\w+)\.x\(\)")
_KERNEL = re.compile(r"define ptx_kernel void @(\w+)\(([^)]*)\)")


def emulated_image(entries: Iterable[CudaRowsEntry | CudaWholeEntry]) -> bytes:
    """A shared library with a function `void NAME(void **parameters, int64_t thread, int64_t threads)` for each kernel
    of some entries and for those that all modules have. It is not for several threads at a time."""
    sums = "\n".join([THREADS, *(sum_kernel(dtype) for dtype in ("float32", "float64"))])
    return link_library([*(_emulate(entry.text(STACKS[-1])) for entry in entries), _emulate(sums)])


def _emulate(text: str) -> bytes:
    text = _PLACE.sub(
        lambda m: f"define internal i32 @place.{m[1]}() {{\n  %v = load i32, i32* @now.{m[1]}\n  ret i32 %v\n}}", text
    )
    text = re.sub(r"@llvm\.nvvm\.read\.ptx\.sreg\.(\w+)\.x", r"@place.\1", text)
    text = re.sub(r"@__nv_(\w+)", lambda match: f"@{_TAICHIS.get(match[1], match[1])}", text)
    extra = [f"@now.{name} = internal global i32 0" for name in ("tid", "ctaid", "nctaid")]
    if f"declare void @{OVERFLOW}()" in text:
        text = text.replace(
            f"declare void @{OVERFLOW}()",
            f"define internal void @{OVERFLOW}() {{\n  call void @llvm.trap()\n  ret void\n}}",
        )
        extra.append("declare void @llvm.trap()")
    for name, formals in _KERNEL.findall(text):
        extra.append(_caller(name, [formal.split()[0] for formal in formals.split(",") if formal.strip()]))
    text = re.sub(r"define ptx_kernel void @(\w+)\(", r"define internal void @kernel.\1(", text)
    return compile_text("\n".join([text, *extra]))


def _caller(name: str, kinds: list[str]) -> str:
    lines = [
        f"define void @{name}(i8** %parameters, i64 %thread, i64 %threads) {{",
        f"  %ctaid = udiv i64 %thread, {BLOCK}",
        f"  %tid = urem i64 %thread, {BLOCK}",
        f"  %nctaid = udiv i64 %threads, {BLOCK}",
    ]
    for place in ("ctaid", "tid", "nctaid"):
        lines.append(f"  %{place}.narrow = trunc i64 %{place} to i32")
        lines.append(f"  store i32 %{place}.narrow, i32* @now.{place}")
    for number, kind in enumerate(kinds):
        lines.append(f"  %slot{number} = getelementptr i8*, i8** %parameters, i64 {number}")
        lines.append(f"  %raw{number} = load i8*, i8** %slot{number}")
        lines.append(f"  %typed{number} = bitcast i8* %raw{number} to {kind}*")
        lines.append(f"  %value{number} = load {kind}, {kind}* %typed{number}")
    given = ", ".join(f"{kind} %value{number}" for number, kind in enumerate(kinds))
    return "\n".join([*lines, f"  call void @kernel.{name}({given})", "  ret void", "}"])
