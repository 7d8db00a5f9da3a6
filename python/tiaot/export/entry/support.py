"""Support: what Taichi's IR calls of its runtime and is ours to define, as LLVM IR text. Knows no signatures.

Where Taichi passes a pointer to its runtime, we pass one to a frame of the call: the temporaries that its tasks share,
the state of the random numbers, a word that is set when the call has failed, and where the fields are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .. import math
from ..ir import LoweringError, TracedModule
from ..ir.passes import temporaries
from ..ir.passes.bounds import FAILED, OUT_OF_RANGE
from ..ir.passes.stacks import NAMES as STACKS
from ..ir.runtime_calls import RANDOM
from ..ir.tasks import CPU_LOOP, GPU_LOOP
from ..ir.writer import write_function
from . import bounds, stacks
from .code import Code

FRAME = "%tiaot.frame"
TYPES = f"""{FRAME} = type {{ i8*, i64, i32*, i8* }}
{stacks.TYPE}
%tiaot.host = type {{ void (i8*, i64, void (i8*, i64)*, i8*)*, i8* }}"""

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

_REFUSED = {
    "LLVMRuntime_get_host_printf": "it prints; remove the print",
    "taichi_assert_format": "it asserts; check the arguments before the call",
}


def uses_random(modules: Iterable[TracedModule]) -> bool:
    """Whether a kernel draws random numbers."""
    return any(name in RANDOM for module in modules for name in module.declarations)


def refuse_random(kernel: str, modules: Iterable[TracedModule]) -> None:
    """Look for random numbers in a kernel with a batch.

    Raises:
        LoweringError: when it draws some.
    """
    if uses_random(modules):
        raise LoweringError(f"{kernel}: draws random numbers, which a kernel with a batch cannot: leave batch out")


def own_texts(names: Iterable[str]) -> str:
    """Definitions of some functions that we define."""
    return "\n".join(_OWN[name] for name in names)


def own_definitions(
    modules: Iterable[TracedModule], stack_definitions: str = stacks.DEFINITIONS, *, mathematical: bool = True
) -> tuple[str, list[str]]:
    """(definitions of what the tasks call and we define, declarations of what is left to be linked).

    Without `mathematical` the functions of math/ are left declared: what differentiates the text knows them by name.

    Raises:
        LoweringError: for what no module can have.
    """
    declared = {name: function for module in modules for name, function in module.declarations.items()}
    texts: list[str] = []
    rest: list[str] = []
    functions = []
    for name, function in sorted(declared.items()):
        if name in _REFUSED:
            raise LoweringError(f"the kernel cannot be exported: {_REFUSED[name]}")
        if name in math.FUNCTIONS and mathematical:
            functions.append(name)
        elif name in _OWN:
            texts.append(_OWN[name])
        elif name in RANDOM or name in STACKS or name in (CPU_LOOP, GPU_LOOP, FAILED, OUT_OF_RANGE):
            continue
        else:
            rest.append(write_function(function))
    if RANDOM & set(declared):
        texts.append(_RANDOM)
    if STACKS & set(declared):
        texts.append(stack_definitions)
    if OUT_OF_RANGE in declared:
        lines = {name: line for module in modules for name, line in module.strings.items()}
        texts += [bounds.DEFINITIONS, *lines.values()]
    return "\n".join([*texts, math.definitions(functions, declared)]), rest


def make_frame(code: Code, temporaries: str, seed: str, failed: str, roots: str = "null") -> str:
    """A frame on the stack of the function being written, as the pointer to Taichi's runtime that a context holds.

    `temporaries` is an i8*, `seed` the i64 that random numbers start from, `failed` an i32*, `roots` an i8* to the
    array of what Taichi's trees of fields have at their roots.
    """
    frame = code.add(f"alloca {FRAME}")
    for place, (kind, value) in enumerate((("i8*", temporaries), ("i64", seed), ("i32*", failed), ("i8*", roots))):
        slot = code.add(f"getelementptr {FRAME}, {FRAME}* {frame}, i32 0, i32 {place}")
        code.do(f"store {kind} {value}, {kind}* {slot}")
    return code.add(f"bitcast {FRAME}* {frame} to %struct.LLVMRuntime*")


def fill_context(code: Code, context: str, members: Mapping[int, tuple[str, str]]) -> None:
    """Stores members of Taichi's context, (type, value) by their places."""
    for place, (kind, value) in members.items():
        slot = code.add(f"getelementptr %struct.RuntimeContext, %struct.RuntimeContext* {context}, i32 0, i32 {place}")
        code.do(f"store {kind} {value}, {kind}* {slot}")


def temporaries_bytes(modules: Iterable[TracedModule]) -> int:
    """The size of the buffer that the tasks of a call share."""
    return temporaries.temporaries_bytes(function for module in modules for function in module.functions)
