"""Support: what Taichi's IR calls of its runtime and is ours to define, as LLVM IR text. Knows no signatures.

Where Taichi passes a pointer to its runtime, we pass one to a frame of the call: the temporaries that its tasks share,
the state of the random numbers, a word that is set when there is no memory for a stack, and where the fields are.

A stack keeps a variable that changes in a loop, for the adjoint to go back through. Taichi's has room for 32 values and
does not look; ours begins with as many in place and grows in chunks that double, which never move.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from . import math
from .code import Code
from .ir import Function, LoweringError, TracedModule

FRAME = "%tiaot.frame"
_STACK = "%tiaot.stack"  # values on it, where to say that there is no memory, chunks
_CHUNKS = 26  # 32 values, doubled so often: more than 2^31
TYPES = f"""{FRAME} = type {{ i8*, i64, i32*, i8* }}
{_STACK} = type {{ i64, i32*, [{_CHUNKS} x i8*] }}
%tiaot.host = type {{ void (i8*, i64, void (i8*, i64)*, i8*)*, i8* }}"""

_STACK_ALLOCA = re.compile(r"^\s*(%[\w.]+) = alloca \[(\d+) x i8\], align \d+$")
_STACK_NAMES = {"stack_init", "stack_push", "stack_pop", "stack_top_primal", "stack_top_adjoint"}

_OWN = {
    "min_i32": """define internal i32 @min_i32(i32 %a, i32 %b) alwaysinline {
  %c = icmp slt i32 %a, %b
  %r = select i1 %c, i32 %a, i32 %b
  ret i32 %r
}""",
    "max_i32": """define internal i32 @max_i32(i32 %a, i32 %b) alwaysinline {
  %c = icmp sgt i32 %a, %b
  %r = select i1 %c, i32 %a, i32 %b
  ret i32 %r
}""",
    "RuntimeContext_get_runtime": """
define internal %struct.LLVMRuntime* @RuntimeContext_get_runtime(%struct.RuntimeContext* %c) alwaysinline {
  %p = getelementptr %struct.RuntimeContext, %struct.RuntimeContext* %c, i32 0, i32 1
  %r = load %struct.LLVMRuntime*, %struct.LLVMRuntime** %p
  ret %struct.LLVMRuntime* %r
}""",
    "get_temporary_pointer": """
define internal i8* @get_temporary_pointer(%struct.LLVMRuntime* %r, i64 %o) alwaysinline {
  %f = bitcast %struct.LLVMRuntime* %r to %tiaot.frame*
  %p = getelementptr %tiaot.frame, %tiaot.frame* %f, i32 0, i32 0
  %t = load i8*, i8** %p
  %q = getelementptr i8, i8* %t, i64 %o
  ret i8* %q
}""",
    "LLVMRuntime_get_roots": """
define internal i8* @LLVMRuntime_get_roots(%struct.LLVMRuntime* %r, i32 %tree) alwaysinline {
  %f = bitcast %struct.LLVMRuntime* %r to %tiaot.frame*
  %p = getelementptr %tiaot.frame, %tiaot.frame* %f, i32 0, i32 3
  %roots = load i8*, i8** %p
  ret i8* %roots
}""",
    "RuntimeContext_get_result_buffer": """
define internal i64* @RuntimeContext_get_result_buffer(%struct.RuntimeContext* %c) alwaysinline {
  %p = getelementptr %struct.RuntimeContext, %struct.RuntimeContext* %c, i32 0, i32 3
  %r = load i64*, i64** %p
  ret i64* %r
}""",
}

# SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
_RANDOM = """
define internal i64 @tiaot_mix(i64 %x) alwaysinline {
  %a0 = lshr i64 %x, 30
  %a1 = xor i64 %x, %a0
  %a = mul i64 %a1, -4658895280553007687
  %b0 = lshr i64 %a, 27
  %b1 = xor i64 %a, %b0
  %b = mul i64 %b1, -7723592293110705685
  %c0 = lshr i64 %b, 31
  %c = xor i64 %b, %c0
  ret i64 %c
}
define internal i64 @rand_u64(%struct.RuntimeContext* %c) alwaysinline {
  %p = getelementptr %struct.RuntimeContext, %struct.RuntimeContext* %c, i32 0, i32 1
  %r = load %struct.LLVMRuntime*, %struct.LLVMRuntime** %p
  %f = bitcast %struct.LLVMRuntime* %r to %tiaot.frame*
  %s = getelementptr %tiaot.frame, %tiaot.frame* %f, i32 0, i32 1
  %old = load i64, i64* %s
  %new = add i64 %old, -7046029254386353131
  store i64 %new, i64* %s
  %m = call i64 @tiaot_mix(i64 %new)
  ret i64 %m
}
define internal i64 @rand_i64(%struct.RuntimeContext* %c) alwaysinline {
  %m = call i64 @rand_u64(%struct.RuntimeContext* %c)
  ret i64 %m
}
define internal i32 @rand_u32(%struct.RuntimeContext* %c) alwaysinline {
  %m = call i64 @rand_u64(%struct.RuntimeContext* %c)
  %h = lshr i64 %m, 32
  %t = trunc i64 %h to i32
  ret i32 %t
}
define internal i32 @rand_i32(%struct.RuntimeContext* %c) alwaysinline {
  %m = call i32 @rand_u32(%struct.RuntimeContext* %c)
  ret i32 %m
}
""" + "\n".join(
    f"""define internal {kind} @rand_{suffix}(%struct.RuntimeContext* %c) alwaysinline {{
  %m = call i64 @rand_u64(%struct.RuntimeContext* %c)
  %h = lshr i64 %m, {64 - bits}
  %f = uitofp i64 %h to {kind}
  %r = fmul {kind} %f, 0x{1023 - bits:03X}0000000000000
  ret {kind} %r
}}"""
    for kind, suffix, bits in (("float", "f32", 24), ("double", "f64", 53))  # as many as the mantissa, times 2^-bits
)
_RANDOM_NAMES = {f"rand_{kind}" for kind in ("u64", "i64", "u32", "i32", "f32", "f64")}

_STACKS = f"""
declare noalias i8* @malloc(i64)
declare void @free(i8*)
declare i64 @llvm.ctlz.i64(i64, i1)
define internal void @tiaot_stack_create(i8* %s, i8* %first, %struct.RuntimeContext* %c) alwaysinline {{
  %it = bitcast i8* %s to {_STACK}*
  %n = getelementptr {_STACK}, {_STACK}* %it, i32 0, i32 0
  store i64 0, i64* %n
  %p = getelementptr %struct.RuntimeContext, %struct.RuntimeContext* %c, i32 0, i32 1
  %r = load %struct.LLVMRuntime*, %struct.LLVMRuntime** %p
  %f = bitcast %struct.LLVMRuntime* %r to %tiaot.frame*
  %q = getelementptr %tiaot.frame, %tiaot.frame* %f, i32 0, i32 2
  %failed = load i32*, i32** %q
  %w = getelementptr {_STACK}, {_STACK}* %it, i32 0, i32 1
  store i32* %failed, i32** %w
  %t = getelementptr {_STACK}, {_STACK}* %it, i32 0, i32 2
  %raw = bitcast [{_CHUNKS} x i8*]* %t to i8*
  call void @llvm.memset.p0i8.i64(i8* %raw, i8 0, i64 {_CHUNKS * 8}, i1 false)
  %zero = getelementptr {_STACK}, {_STACK}* %it, i32 0, i32 2, i64 0
  store i8* %first, i8** %zero
  ret void
}}
define internal void @tiaot_stack_destroy(i8* %s) noinline {{
entry:
  %it = bitcast i8* %s to {_STACK}*
  br label %loop
loop:
  %i = phi i64 [ 1, %entry ], [ %j, %loop ]
  %p = getelementptr {_STACK}, {_STACK}* %it, i32 0, i32 2, i64 %i
  %chunk = load i8*, i8** %p
  call void @free(i8* %chunk)
  %j = add i64 %i, 1
  %more = icmp slt i64 %j, {_CHUNKS}
  br i1 %more, label %loop, label %done
done:
  ret void
}}
define internal void @stack_init(i8* %s) alwaysinline {{
  %n = bitcast i8* %s to i64*
  store i64 0, i64* %n
  ret void
}}
define internal void @stack_pop(i8* %s) alwaysinline {{
  %n = bitcast i8* %s to i64*
  %a = load i64, i64* %n
  %b = sub i64 %a, 1
  store i64 %b, i64* %n
  ret void
}}
define internal i8* @stack_top_primal(i8* %s, i64 %size) alwaysinline {{
  %it = bitcast i8* %s to {_STACK}*
  %n = bitcast i8* %s to i64*
  %count = load i64, i64* %n
  %index = sub i64 %count, 1
  %few = icmp ult i64 %index, 32
  br i1 %few, label %near, label %far
near:
  %p0 = getelementptr {_STACK}, {_STACK}* %it, i32 0, i32 2, i64 0
  %c0 = load i8*, i8** %p0
  br label %found
far:
  %block = lshr i64 %index, 5
  %up = add i64 %block, 1
  %zeros = call i64 @llvm.ctlz.i64(i64 %up, i1 true)
  %chunk = sub i64 63, %zeros
  %power = shl i64 32, %chunk
  %before = sub i64 %power, 32
  %inside = sub i64 %index, %before
  %pc = getelementptr {_STACK}, {_STACK}* %it, i32 0, i32 2, i64 %chunk
  %cc = load i8*, i8** %pc
  %missing = icmp eq i8* %cc, null
  br i1 %missing, label %lost, label %found
lost:
  %p1 = getelementptr {_STACK}, {_STACK}* %it, i32 0, i32 2, i64 0
  %c1 = load i8*, i8** %p1
  br label %found
found:
  %base = phi i8* [ %c0, %near ], [ %cc, %far ], [ %c1, %lost ]
  %place = phi i64 [ %index, %near ], [ %inside, %far ], [ 0, %lost ]
  %double = shl i64 %size, 1
  %offset = mul i64 %place, %double
  %top = getelementptr i8, i8* %base, i64 %offset
  ret i8* %top
}}
define internal i8* @stack_top_adjoint(i8* %s, i64 %size) alwaysinline {{
  %p = call i8* @stack_top_primal(i8* %s, i64 %size)
  %a = getelementptr i8, i8* %p, i64 %size
  ret i8* %a
}}
define internal void @tiaot_stack_grow(i8* %s, i64 %index, i64 %size) noinline {{
  %it = bitcast i8* %s to {_STACK}*
  %block = lshr i64 %index, 5
  %up = add i64 %block, 1
  %zeros = call i64 @llvm.ctlz.i64(i64 %up, i1 true)
  %chunk = sub i64 63, %zeros
  %p = getelementptr {_STACK}, {_STACK}* %it, i32 0, i32 2, i64 %chunk
  %old = load i8*, i8** %p
  %missing = icmp eq i8* %old, null
  br i1 %missing, label %make, label %done
make:
  %values = shl i64 32, %chunk
  %double = shl i64 %size, 1
  %bytes = mul i64 %values, %double
  %new = call i8* @malloc(i64 %bytes)
  store i8* %new, i8** %p
  %none = icmp eq i8* %new, null
  br i1 %none, label %fail, label %done
fail:
  %w = getelementptr {_STACK}, {_STACK}* %it, i32 0, i32 1
  %failed = load i32*, i32** %w
  store atomic i32 1, i32* %failed monotonic, align 4
  br label %done
done:
  ret void
}}
define internal void @stack_push(i8* %s, i64 %limit, i64 %size) alwaysinline {{
  %n = bitcast i8* %s to i64*
  %index = load i64, i64* %n
  %count = add i64 %index, 1
  store i64 %count, i64* %n
  %many = icmp uge i64 %index, 32
  br i1 %many, label %grow, label %clear
grow:
  call void @tiaot_stack_grow(i8* %s, i64 %index, i64 %size)
  br label %clear
clear:
  %top = call i8* @stack_top_primal(i8* %s, i64 %size)
  %double = shl i64 %size, 1
  call void @llvm.memset.p0i8.i64(i8* %top, i8 0, i64 %double, i1 false)
  ret void
}}"""

_REFUSED = {
    "LLVMRuntime_get_host_printf": "it prints; remove the print",
    "taichi_assert_format": "it asserts; check the arguments before the call",
}


def uses_random(modules: Iterable[TracedModule]) -> bool:
    """Whether a kernel draws random numbers."""
    return any(name in _RANDOM_NAMES for module in modules for name in module.declarations)


def draws_random(text: str) -> bool:
    """Whether a task's IR draws random numbers."""
    return any(f"@{name}(" in text for name in _RANDOM_NAMES)


def own_definitions(modules: Iterable[TracedModule]) -> tuple[str, list[str]]:
    """(definitions of what the tasks call and we define, declarations of what is left to be linked).

    Raises:
        LoweringError: for what no module can have.
    """
    declared: dict[str, str] = {}
    for module in modules:
        declared.update(module.declarations)
    texts: list[str] = []
    rest: list[str] = []
    mathematical = []
    for name, line in sorted(declared.items()):
        if name in _REFUSED:
            raise LoweringError(f"the kernel cannot be exported: {_REFUSED[name]}")
        if name in math.FUNCTIONS:
            mathematical.append(name)
        elif name in _OWN:
            texts.append(_OWN[name])
        elif name in _RANDOM_NAMES or name in _STACK_NAMES or name == "cpu_parallel_range_for":
            continue
        else:
            rest.append(line)
    if _RANDOM_NAMES & set(declared):
        texts.append(_RANDOM)
    if _STACK_NAMES & set(declared):
        texts.append(_STACKS)
    return "\n".join([*texts, math.definitions(mathematical)]), rest


_TEMPORARY = re.compile(r"call i8\* @get_temporary_pointer\(.*, i64 (\d+)\)$")


def make_frame(code: Code, temporaries: str, state: str, failed: str, roots: str = "null") -> str:
    """A frame on the stack of the function being written, as the pointer to Taichi's runtime that a context holds.

    `temporaries` is an i8*, `state` the i64 that random numbers start from, `failed` an i32*, `roots` an i8* to the
    array of what Taichi's trees of fields have at their roots.
    """
    frame = code.add(f"alloca {FRAME}")
    for place, (kind, value) in enumerate((("i8*", temporaries), ("i64", state), ("i32*", failed), ("i8*", roots))):
        slot = code.add(f"getelementptr {FRAME}, {FRAME}* {frame}, i32 0, i32 {place}")
        code.do(f"store {kind} {value}, {kind}* {slot}")
    return code.add(f"bitcast {FRAME}* {frame} to %struct.LLVMRuntime*")


def temporaries_bytes(modules: Iterable[TracedModule]) -> int:
    """The size of the buffer that the tasks of a call share."""
    offsets = [int(match[1]) for module in modules for line in module.lines if (match := _TEMPORARY.search(line))]
    return max(offsets) + 64 if offsets else 0  # the last one holds a number


def grow_stacks(function: Function) -> None:
    """Give the stacks of a function, which Taichi makes for 32 values, room that grows."""
    stacks: dict[str, str] = {}  # its type
    used = {
        match[1]
        for line in function.body
        if (match := re.match(r"^\s*%[\w.]+ = bitcast \[\d+ x i8\]\* (%[\w.]+) to i8\*$", line))
    }
    lines: list[str] = []
    pending: list[str] = []
    context = function.parameters.split()[1].rstrip(",")
    for line in function.body:
        match = _STACK_ALLOCA.match(line)
        if match and match[1] in used and int(match[2]) % 64 == 4:
            name, room = match[1], int(match[2]) - 4
            kind, own = f"{{ {_STACK}, [{room} x i8] }}", f"%stack{name[1:]}"
            stacks[name] = kind
            lines.append(f"  {name} = alloca i8")  # keeps the numbers of the unnamed values in their order
            lines.append(f"  {own} = alloca {kind}, align 16")
            pending += [
                f"  {own}.raw = bitcast {kind}* {own} to i8*",
                f"  {own}.first = getelementptr {kind}, {kind}* {own}, i32 0, i32 1, i64 0",
                f"  call void @tiaot_stack_create(i8* {own}.raw, i8* {own}.first, %struct.RuntimeContext* {context})",
            ]
            continue
        if pending and " alloca " not in line:
            lines += pending
            pending = []
        cast = re.match(r"^(\s*%[\w.]+) = bitcast \[\d+ x i8\]\* (%[\w.]+) to i8\*$", line)
        if cast and cast[2] in stacks:
            lines.append(f"{cast[1]} = bitcast {stacks[cast[2]]}* %stack{cast[2][1:]} to i8*")
        elif line.strip() == "ret void":
            lines += [f"  call void @tiaot_stack_destroy(i8* %stack{name[1:]}.raw)" for name in stacks]
            lines.append(line)
        else:
            lines.append(line)
    function.body[:] = lines
