"""aarch64: one level, ARMv8-A with the vectors that all of its CPUs have (NEON).

Taichi's functions are those of its bitcode for x86-64: what of it kernels call is LLVM IR with nothing of that CPU in
it, and both have 64-bit pointers, the same byte order and the same layout of structs.
"""

from __future__ import annotations

from .model import C_LIBRARY, Cpu, Form

AARCH64 = Cpu(
    name="aarch64-linux",
    triple="aarch64-unknown-linux-gnu",
    data_layout="e-m:e-i8:8:32-i16:16:32-i64:64-i128:128-n32:64-S128",
    forms=(Form("aarch64-neon", "generic", 16, implementation="x86-64-v2"),),  # whose vectors are as long
    libraries=("runtime_x64.bc",),
    scheduling=("-pre-RA-sched=default", "-enable-misched=true"),  # list-ilp crashes at some kernels
    vectorizes=True,
    stacks_grow=True,
    provided=C_LIBRARY,
    relocation="pic",
    code_model="small",
    baseline=Form("aarch64", "generic", 16),
    detection="""@tiaot_plain_level = internal global i32 1
define internal i32 @tiaot_detect_level() {
  ret i32 1
}""",
    gnu="aarch64-linux-gnu",
    machines=("aarch64", "arm64"),
)
