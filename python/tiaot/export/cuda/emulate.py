"""Device code on the CPU: the kernels of entries for CUDA, compiled for x86-64 to be called thread after thread.

They have no barriers and share nothing within a block, so that one thread at a time, in any order, gives what a device
would: what the exporter itself does for CUDA can be held against the code for the CPU on a machine without a GPU. What
is not tried that way is LLVM's back end for NVIDIA, ptxas and libdevice, for whose functions the C library's stand in.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..link import link_library
from ..lower import compile_text
from ..tables import CUDA_CODE_TYPE, WORKSPACE_TYPE, index_name
from .copies import sum_kernel
from .device import BLOCK, OVERFLOW, THREADS
from .lower import STACKS, CudaEntry, device_text
from .rows import CudaRowsEntry
from .whole import CudaWholeEntry

_TAICHIS = {"sgn": "sgn_f64", "sgnf": "sgn_f32"}  # what libdevice does not have and Taichi adds to it
_PLACE = re.compile(r"declare i32 @llvm\.nvvm\.read\.ptx\.sreg\.(\w+)\.x\(\)")
_KERNEL = re.compile(r"define ptx_kernel void @(\w+)\(([^)]*)\)")


def emulate(entry: CudaRowsEntry | CudaWholeEntry) -> bytes:
    """The object with the functions of an entry's kernels."""
    return _emulate(device_text(entry, STACKS[-1]))


def emulated_library(entries: Sequence[CudaEntry], kernels: Sequence[str], emulated: Sequence[bytes]) -> bytes:
    """A shared library with the kernels by their names, each a function
    `void NAME(void **parameters, int64_t thread, int64_t threads)` that is not for several threads at a time; pointers
    to them in `kernel_pointers`, their number in `kernel_count`; for each entry pointers to its two functions,
    FUNCTION_pointer and FUNCTION_workspace_pointer; and `void run(kernel, void **parameters, int64_t threads)`, which
    calls a kernel for all threads."""
    kind = "void (i8**, i64, i64)"
    pointers = ", ".join(f"{kind}* @{kernel}" for kernel in kernels)
    text = [_RUN, f"@kernel_count = constant i32 {len(kernels)}"]
    text.append(f"@kernel_pointers = constant [{len(kernels)} x {kind}*] [{pointers}]")
    for number, kernel in enumerate(kernels):
        text.append(f"declare hidden void @emulated.{kernel}(i8**, i64, i64)")
        text.append(f"define void @{kernel}(i8** %p, i64 %thread, i64 %threads) {{")
        text.append(f"  tail call void @emulated.{kernel}(i8** %p, i64 %thread, i64 %threads)\n  ret void\n}}")
        text.append(f"@{index_name(kernel)} = hidden constant i32 {number}")
    for entry in entries:
        for kind, name in ((CUDA_CODE_TYPE, entry.function), (WORKSPACE_TYPE, entry.workspace)):
            result, _, formals = kind.partition(" ")
            text.append(f"declare hidden {result} @{name}{formals}")
            text.append(f"@{name}_pointer = constant i8* bitcast ({kind}* @{name} to i8*)")
    objects = [*emulated, *(entry.object for entry in entries), _emulate(_SUMS), compile_text("\n".join(text))]
    return link_library(objects)


_SUMS = "\n".join([THREADS, *(sum_kernel(dtype) for dtype in ("float32", "float64"))])
_RUN = """
define void @run(void (i8**, i64, i64)* %kernel, i8** %parameters, i64 %threads) {
entry:
  %any = icmp sgt i64 %threads, 0
  br i1 %any, label %each, label %end
each:
  %t = phi i64 [ 0, %entry ], [ %next, %each ]
  call void %kernel(i8** %parameters, i64 %t, i64 %threads)
  %next = add i64 %t, 1
  %more = icmp slt i64 %next, %threads
  br i1 %more, label %each, label %end
end:
  ret void
}"""


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
        f"define hidden void @emulated.{name}(i8** %parameters, i64 %thread, i64 %threads) {{",
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
