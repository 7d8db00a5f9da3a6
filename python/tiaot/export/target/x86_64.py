"""x86-64: the levels of its psABI, and how code finds out which of them a CPU has."""

from __future__ import annotations

from .model import C_LIBRARY, FOR_ILP, Cpu, Form

# LLVM keeps to 256 bits at x86-64-v4 where it is not told otherwise, for CPUs that clock down with 512.
_LEVELS = (
    Form("x86-64-v2", "x86-64-v2", 16, implementation="x86-64-v2"),
    Form("x86-64-v3", "x86-64-v3", 32, implementation="x86-64-v3"),
    Form("x86-64-v4", "x86-64-v4", 64, "-prefer-256-bit", implementation="x86-64-v4"),
)

# EAX, EBX, ECX, EDX of CPUID: what the x86-64 psABI lists for each level, as (leaf, register, bits). Each level has all
# of those before it too. Register state that the OS does not save (XGETBV) rules a level out.
_FEATURES = {
    "x86-64-v2": [
        (1, "ecx", (0, 9, 13, 19, 20, 23)),  # SSE3 SSSE3 CMPXCHG16B SSE4.1 SSE4.2 POPCNT
        (0x80000001, "ecx", (0,)),  # LAHF-SAHF
    ],
    "x86-64-v3": [
        (1, "ecx", (12, 22, 27, 28, 29)),  # FMA MOVBE OSXSAVE AVX F16C
        (7, "ebx", (3, 5, 8)),  # BMI1 AVX2 BMI2
        (0x80000001, "ecx", (5,)),  # LZCNT
    ],
    "x86-64-v4": [(7, "ebx", (16, 17, 28, 30, 31))],  # AVX512 F DQ CD BW VL
}
_STATE = {"x86-64-v2": 0, "x86-64-v3": 0x6, "x86-64-v4": 0xE6}

_DETECT = """
@tiaot_plain_level = internal global i32 0
define internal i32 @tiaot_detect_level() noinline {
  %basic = call { i32, i32, i32, i32 } asm "cpuid", "={ax},={bx},={cx},={dx},{ax},{cx}"(i32 0, i32 0)
  %extended = call { i32, i32, i32, i32 } asm "cpuid", "={ax},={bx},={cx},={dx},{ax},{cx}"(i32 -2147483648, i32 0)
  %highest = extractvalue { i32, i32, i32, i32 } %basic, 0
  %highest.e = extractvalue { i32, i32, i32, i32 } %extended, 0
  %r1 = call { i32, i32, i32, i32 } asm "cpuid", "={ax},={bx},={cx},={dx},{ax},{cx}"(i32 1, i32 0)
  %l1.ecx = extractvalue { i32, i32, i32, i32 } %r1, 2
  %r7 = call { i32, i32, i32, i32 } asm "cpuid", "={ax},={bx},={cx},={dx},{ax},{cx}"(i32 7, i32 0)
  %r7.ebx = extractvalue { i32, i32, i32, i32 } %r7, 1
  %has7 = icmp uge i32 %highest, 7
  %l7.ebx = select i1 %has7, i32 %r7.ebx, i32 0
  %re = call { i32, i32, i32, i32 } asm "cpuid", "={ax},={bx},={cx},={dx},{ax},{cx}"(i32 -2147483647, i32 0)
  %re.ecx = extractvalue { i32, i32, i32, i32 } %re, 2
  %hase = icmp ugt i32 %highest.e, -2147483648
  %l2147483649.ecx = select i1 %hase, i32 %re.ecx, i32 0
  %osxsave = and i32 %l1.ecx, 134217728
  %saves = icmp ne i32 %osxsave, 0
  br i1 %saves, label %read, label %decide
read:
  %xcr = call { i32, i32 } asm "xgetbv", "={ax},={dx},{cx}"(i32 0)
  %xcr0 = extractvalue { i32, i32 } %xcr, 0
  br label %decide
decide:
  %state = phi i32 [ 0, %0 ], [ %xcr0, %read ]
"""


def _decide() -> list[str]:
    """The level's number, 1 for the lowest; -1 where there is not even that."""
    lines, level = [], "-1"
    passed = "true"
    for number, name in enumerate(_FEATURES, start=1):
        for place, (leaf, register, bits) in enumerate(_FEATURES[name]):
            mask = sum(1 << bit for bit in bits)
            lines.append(f"  %m{number}{place} = and i32 %l{leaf}.{register}, {mask}")
            lines.append(f"  %h{number}{place} = icmp eq i32 %m{number}{place}, {mask}")
            lines.append(f"  %p{number}{place} = and i1 {passed}, %h{number}{place}")
            passed = f"%p{number}{place}"
        lines.append(f"  %s{number} = and i32 %state, {_STATE[name]}")
        lines.append(f"  %t{number} = icmp eq i32 %s{number}, {_STATE[name]}")
        lines.append(f"  %q{number} = and i1 {passed}, %t{number}")
        passed = f"%q{number}"
        lines.append(f"  %level{number} = select i1 {passed}, i32 {number}, i32 {level}")
        level = f"%level{number}"
    store = f"  store atomic i32 {level}, i32* @tiaot_plain_level monotonic, align 4"
    return [*lines, store, f"  ret i32 {level}", "}"]


X86_64 = Cpu(
    name="x86_64-linux",
    triple="x86_64-unknown-linux-gnu",
    data_layout="e-m:e-p270:32:32-p271:32:32-p272:64:64-i64:64-f80:128-n8:16:32:64-S128",
    forms=_LEVELS,
    libraries=("runtime_x64.bc",),
    scheduling=FOR_ILP,
    vectorizes=True,
    stacks_grow=True,
    provided=C_LIBRARY,
    relocation="pic",
    code_model="small",
    baseline=Form("x86-64", "x86-64", 16),
    detection="\n".join([_DETECT.strip(), *_decide()]),
    half_in_software=True,  # x86-64-v2 has no instructions for it
    gnu="x86_64-linux-gnu",
    machines=("x86_64", "AMD64"),
)
