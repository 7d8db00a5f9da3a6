"""What Taichi's IR calls of its runtime on a device and is ours to define, as LLVM IR text. Knows no signatures.

Every kernel goes over its work with a grid's stride, with no barrier and nothing shared between the threads of a block,
so that any grid gives the same results.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...ir import TracedModule
from ...ir.passes.stacks import OVERFLOW
from .. import support
from ..code import Code
from ..support import FRAME

# What a frame holds, in front as on the CPU (entry/support.py): the temporaries that the tasks of a call share; the
# state of the random numbers; nothing; the roots of the fields; then the temporaries of this thread, where it adds
# shared ones up, and what the task's random numbers follow from.
TYPES = f"{FRAME} = type {{ i8*, i64, i32*, i8*, i8*, i8*, i64 }}"
_FIELDS = ("i8*", "i64", "i32*", "i8*", "i8*", "i8*", "i64")


def make_frame(code: Code, temporaries: str, private: str, summed: str, seed: str, roots: str) -> str:
    """A frame on the stack of the function being written, as the pointer to Taichi's runtime that a context holds."""
    frame = code.add(f"alloca {FRAME}")
    for place, value in ((0, temporaries), (1, seed), (3, roots), (4, private), (5, summed), (6, seed)):
        slot = code.add(f"getelementptr {FRAME}, {FRAME}* {frame}, i32 0, i32 {place}")
        code.do(f"store {_FIELDS[place]} {value}, {_FIELDS[place]}* {slot}")
    return code.add(f"bitcast {FRAME}* {frame} to %struct.LLVMRuntime*")


def _from_frame(name: str, parameters: str, place: int, body: str) -> str:
    return f"""define internal i8* @{name}(%struct.LLVMRuntime* %r, {parameters}) alwaysinline {{
  %f = bitcast %struct.LLVMRuntime* %r to {FRAME}*
  %p = getelementptr {FRAME}, {FRAME}* %f, i32 0, i32 {place}
  %t = load i8*, i8** %p
{body}
  %q = getelementptr i8, i8* %t, i64 %o
  ret i8* %q
}}"""


POINTERS = "\n".join(
    [
        _from_frame("tiaot_private_pointer", "i64 %o", 4, ""),
        _from_frame(
            "tiaot_summed_pointer",
            "i64 %index, i64 %item",
            5,
            """  %n = call i64 @tiaot_threads()
  %t0 = call i64 @tiaot_thread()
  %a = mul nsw i64 %index, %n
  %b = mul nsw i64 %a, 8
  %c = mul nsw i64 %t0, %item
  %o = add nsw i64 %b, %c""",
        ),
    ]
)


# Where a thread has its copy of what a pointer points to in a root of fields: as many times further from the start of
# its copies as there are threads, since those of all threads lie side by side.
COPIED = f"""
define internal i8* @tiaot_copied(%struct.RuntimeContext* %context, i8* %pointer, i64 %place) alwaysinline {{
  %runtime.slot = getelementptr %struct.RuntimeContext, %struct.RuntimeContext* %context, i32 0, i32 1
  %runtime = load %struct.LLVMRuntime*, %struct.LLVMRuntime** %runtime.slot
  %frame = bitcast %struct.LLVMRuntime* %runtime to {FRAME}*
  %roots.slot = getelementptr {FRAME}, {FRAME}* %frame, i32 0, i32 3
  %roots = load i8*, i8** %roots.slot
  %children = bitcast i8* %roots to i8**
  %slot = getelementptr i8*, i8** %children, i64 %place
  %root = load i8*, i8** %slot
  %at = ptrtoint i8* %pointer to i64
  %start = ptrtoint i8* %root to i64
  %offset = sub i64 %at, %start
  %threads = call i64 @tiaot_threads()
  %apart = mul nsw i64 %offset, %threads
  %copied = getelementptr i8, i8* %root, i64 %apart
  ret i8* %copied
}}"""


SERIAL_LOOP = "tiaot_serial_range_for"  # a parallel loop that runs on one thread


def range_for(stride: str, local_bytes: int, on_turn: str = "", name: str = "gpu_parallel_range_for") -> str:
    """`gpu_parallel_range_for`: the turns of a loop, shared out over the threads of the grid ("grid"), or all of them
    on each thread ("thread"). `on_turn` are instructions before each turn, in which %i is its index."""
    first, step = {"grid": ("%t", "%n"), "thread": ("0", "1")}[stride]
    return f"""
define internal void @{name}(%struct.RuntimeContext* %context, i32 %begin, i32 %end,
    void (%struct.RuntimeContext*, i8*)* %prologue, void (%struct.RuntimeContext*, i8*, i32)* %turn,
    void (%struct.RuntimeContext*, i8*)* %epilogue, i64 %bytes) alwaysinline {{
entry:
  %room = alloca [{max(local_bytes, 1)} x i8], align 16
  %local = bitcast [{max(local_bytes, 1)} x i8]* %room to i8*
  %t = call i64 @tiaot_thread()
  %n = call i64 @tiaot_threads()
  %no.prologue = icmp eq void (%struct.RuntimeContext*, i8*)* %prologue, null
  br i1 %no.prologue, label %start, label %before
before:
  call void %prologue(%struct.RuntimeContext* %context, i8* %local)
  br label %start
start:
  %b = sext i32 %begin to i64
  %e = sext i32 %end to i64
  %first = add nsw i64 %b, {first}
  %any = icmp slt i64 %first, %e
  br i1 %any, label %loop, label %end.loop
loop:
  %i = phi i64 [ %first, %start ], [ %next, %loop ]
  %index = trunc i64 %i to i32
{on_turn}
  call void %turn(%struct.RuntimeContext* %context, i8* %local, i32 %index)
  %next = add nsw i64 %i, {step}
  %more = icmp slt i64 %next, %e
  br i1 %more, label %loop, label %end.loop
end.loop:
  %no.epilogue = icmp eq void (%struct.RuntimeContext*, i8*)* %epilogue, null
  br i1 %no.epilogue, label %done, label %after
after:
  call void %epilogue(%struct.RuntimeContext* %context, i8* %local)
  br label %done
done:
  ret void
}}"""


# Random numbers start anew at each turn, from the turn's index, so that they do not depend on the grid.
SEED_TURN = f"""  %runtime.slot = getelementptr %struct.RuntimeContext, %struct.RuntimeContext* %context, i32 0, i32 1
  %runtime = load %struct.LLVMRuntime*, %struct.LLVMRuntime** %runtime.slot
  %frame = bitcast %struct.LLVMRuntime* %runtime to {FRAME}*
  %state = getelementptr {FRAME}, {FRAME}* %frame, i32 0, i32 1
  %base.slot = getelementptr {FRAME}, {FRAME}* %frame, i32 0, i32 6
  %base = load i64, i64* %base.slot
  %stretched = mul i64 %i, {0x2545F4914F6CDD1D}
  %mixed = xor i64 %stretched, %base
  %drawn = call i64 @tiaot_mix(i64 %mixed)
  store i64 %drawn, i64* %state"""


# ---- stacks: in the thread's own memory, as large as is known before the kernel runs ----


def stack_definitions(values: int) -> str:
    return f"""
declare void @{OVERFLOW}()
define internal void @tiaot_stack_init(i8* %room, i64* %count) alwaysinline {{
  store i64 0, i64* %count
  ret void
}}
define internal void @tiaot_stack_pop(i8* %room, i64* %count) alwaysinline {{
  %n = load i64, i64* %count
  %less = sub i64 %n, 1
  store i64 %less, i64* %count
  ret void
}}
define internal i8* @tiaot_stack_top_primal(i8* %room, i64* %count, i64 %size) alwaysinline {{
  %n = load i64, i64* %count
  %index = sub i64 %n, 1
  %double = shl i64 %size, 1
  %offset = mul i64 %index, %double
  %top = getelementptr i8, i8* %room, i64 %offset
  ret i8* %top
}}
define internal i8* @tiaot_stack_top_adjoint(i8* %room, i64* %count, i64 %size) alwaysinline {{
  %top = call i8* @tiaot_stack_top_primal(i8* %room, i64* %count, i64 %size)
  %a = getelementptr i8, i8* %top, i64 %size
  ret i8* %a
}}
define internal void @tiaot_stack_push(i8* %room, i64* %count, i64 %size) alwaysinline {{
  %n = load i64, i64* %count
  %full = icmp uge i64 %n, {values}
  br i1 %full, label %overflow, label %room.left
overflow:
  call void @{OVERFLOW}()
  br label %room.left
room.left:
  %more = add i64 %n, 1
  store i64 %more, i64* %count
  %top = call i8* @tiaot_stack_top_primal(i8* %room, i64* %count, i64 %size)
  %double = shl i64 %size, 1
  call void @llvm.memset.p0i8.i64(i8* %top, i8 0, i64 %double, i1 false)
  ret void
}}"""


def definitions(modules: Sequence[TracedModule], stack_values: int, *, mathematical: bool = True) -> str:
    """What the tasks call and we define, with declarations of what is left to be linked. `mathematical` as
    `support.own_definitions` takes it."""
    own, rest = support.own_definitions(modules, stack_definitions(stack_values), mathematical=mathematical)
    memory = "declare void @llvm.memset.p0i8.i64(i8*, i8, i64, i1)"
    return "\n".join([own, *rest, memory])
