"""Device code on the CPU: the exporter's kernels for CUDA, compiled for x86-64 to be called thread after thread.

The kernels have no barriers and share nothing within a block, so that one thread at a time, in any order, gives what a
device would. What is not tried that way is LLVM's back end for NVIDIA and ptxas.
"""

import re

from tiaot.export.cuda.device import BLOCK, OVERFLOW, THREADS, sum_kernel
from tiaot.export.lower import compile_text

# libdevice's functions by the name that the C library has for them, and those that LLVM has.
_NAMES = {"sgn": "sgn_f64", "sgnf": "sgn_f32"}
_SREGS = re.compile(r"declare i32 @llvm\.nvvm\.read\.ptx\.sreg\.(\w+)\.x\(\)")
_KERNEL = re.compile(r"define ptx_kernel void @(\w+)\(([^)]*)\)")


def emulate(text: str) -> bytes:
    """An object with a function `void NAME(void **parameters, int64_t thread, int64_t threads)` for each kernel."""
    text = _SREGS.sub(
        lambda match: (
            f"define internal i32 @sreg.{match[1]}() {{\n  %v = load i32, i32* @emulated.{match[1]}\n  ret i32 %v\n}}"
        ),
        text,
    )
    text = re.sub(r"@llvm\.nvvm\.read\.ptx\.sreg\.(\w+)\.x", r"@sreg.\1", text)
    text = re.sub(r"@__nv_(\w+)", lambda match: f"@{_NAMES.get(match[1], match[1])}", text)
    wrappers = [f"@emulated.{name} = internal global i32 0" for name in ("tid", "ctaid", "nctaid")]
    if f"@{OVERFLOW}()" in text:
        text = text.replace(
            f"declare void @{OVERFLOW}()",
            f"define internal void @{OVERFLOW}() {{\n  call void @llvm.trap()\n  ret void\n}}",
        )
        text += "\ndeclare void @llvm.trap()"
    for name, formals in _KERNEL.findall(text):
        wrappers.append(_wrapper(name, [formal.split()[0] for formal in formals.split(",") if formal.strip()]))
    text = re.sub(r"define ptx_kernel void @(\w+)\(", r"define internal void @kernel.\1(", text)
    return compile_text("\n".join([text, *wrappers]))


def _wrapper(name: str, kinds: list[str]) -> str:
    lines = [
        f"define void @{name}(i8** %parameters, i64 %thread, i64 %threads) {{",
        f"  %b = udiv i64 %thread, {BLOCK}",
        f"  %t = urem i64 %thread, {BLOCK}",
        f"  %n = udiv i64 %threads, {BLOCK}",
    ]
    for register, place in (("b", "ctaid"), ("t", "tid"), ("n", "nctaid")):
        lines.append(f"  %{register}n = trunc i64 %{register} to i32")
        lines.append(f"  store i32 %{register}n, i32* @emulated.{place}")
    for place, kind in enumerate(kinds):
        lines.append(f"  %s{place} = getelementptr i8*, i8** %parameters, i64 {place}")
        lines.append(f"  %r{place} = load i8*, i8** %s{place}")
        lines.append(f"  %c{place} = bitcast i8* %r{place} to {kind}*")
        lines.append(f"  %v{place} = load {kind}, {kind}* %c{place}")
    given = ", ".join(f"{kind} %v{place}" for place, kind in enumerate(kinds))
    return "\n".join([*lines, f"  call void @kernel.{name}({given})", "  ret void", "}"])


def emulated_sums() -> bytes:
    """The kernels that add up copies."""
    return emulate("\n".join([THREADS, sum_kernel("float32"), sum_kernel("float64")]))
