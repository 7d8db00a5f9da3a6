"""The pass that leaves out the remainder of a loop's index by the array's size: where it may, and where it may not."""

from __future__ import annotations

import pytest
from task_texts import TYPES
from tiaot.export.ir.passes.indices import plain_indices
from tiaot.export.ir.reader import read_function
from tiaot.export.ir.writer import write_function

LOOP = """
define void @body(%struct.RuntimeContext* %context, i8* %local, i32 %number) {
entry:
  %piece = alloca i32, align 4
  %i = alloca i32, align 4
  store i32 %number, i32* %piece, align 4
  %piece.0 = load i32, i32* %piece, align 4
  %runtime = call %struct.LLVMRuntime* @RuntimeContext_get_runtime(%struct.RuntimeContext* %context)
  %raw = call i8* @get_temporary_pointer(%struct.LLVMRuntime* %runtime, i64 0)
  %size.at = bitcast i8* %raw to i32*
  %size = load i32, i32* %size.at, align 4
  %raw4 = call i8* @get_temporary_pointer(%struct.LLVMRuntime* %runtime, i64 4)
  %other.at = bitcast i8* %raw4 to i32*
  %more = sub i32 %size, -15
  %quotient = sdiv i32 %more, 16
  %inexact = icmp ne i32 %more, 0
  %bit = zext i1 %inexact to i32
  %share = sub i32 %quotient, %bit
  %length = call i32 @max_i32(i32 %share, i32 512)
  %begin = mul i32 %length, %piece.0
  %next = add i32 %begin, %length
  %limit = call i32 @min_i32(i32 %size, i32 %next)
  store i32 %begin, i32* %i, align 4
  br label %test

turn:
  %now = load i32, i32* %i, align 4
  %again = load i32, i32* %size.at, align 4
  %index = srem i32 %now, %again
  br label %step

step:
  %last = load i32, i32* %i, align 4
  %following = add i32 %last, 1
  store i32 %following, i32* %i, align 4
  br label %test

done:
  ret void

test:
  %value = load i32, i32* %i, align 4
  %is.less = icmp slt i32 %value, %limit
  br i1 %is.less, label %turn, label %done
}
"""
READ = "  %now2 = load i32, i32* %i, align 4\n"
REMAINDER = "  %index = srem i32 %now, %again\n"


def changed(text: str, beside: str = "") -> str:
    others = [read_function(TYPES + beside)] if beside else []
    return write_function(plain_indices(read_function(TYPES + text), others))


def test_the_remainder_is_left_out() -> None:
    assert "%index = add i32 %now, 0" in changed(LOOP)
    swapped = LOOP.replace("@min_i32(i32 %size, i32 %next)", "@min_i32(i32 %next, i32 %size)")
    swapped = swapped.replace("mul i32 %length, %piece.0", "mul i32 %piece.0, %length")
    assert "%index = add i32 %now, 0" in changed(swapped)


NOT_SO = {
    "a quotient": (REMAINDER, REMAINDER.replace("srem", "sdiv")),
    "unsigned": (REMAINDER, REMAINDER.replace("srem", "urem")),
    "another number": ("srem i32 %now,", "srem i32 %begin,"),
    "another temporary": ("%again = load i32, i32* %size.at", "%again = load i32, i32* %other.at"),
    "another limit": ("%limit = call i32 @min_i32(i32 %size,", "%limit = call i32 @min_i32(i32 %share,"),
    "the larger limit": ("%limit = call i32 @min_i32", "%limit = call i32 @max_i32"),
    "a comparison that lets the limit in": ("icmp slt", "icmp sle"),
    "a comparison of another number": ("icmp slt i32 %value", "icmp slt i32 %begin"),
    "a comparison of another variable": ("%value = load i32, i32* %i", "%value = load i32, i32* %piece"),
    "a comparison of what was read before": ("icmp slt i32 %value", "icmp slt i32 %last"),
    "another way to the division": ("done:\n  ret void", "done:\n  br label %turn"),
    "the other way round": ("label %turn, label %done\n", "label %done, label %turn\n"),
    "steps of two": ("add i32 %last, 1", "add i32 %last, 2"),
    "steps from elsewhere": ("add i32 %last, 1", "add i32 %share, 1"),
    "a begin that may be negative": ("store i32 %begin, i32* %i", "store i32 %share, i32* %i"),
    "a piece that may be negative": ("@max_i32(i32 %share, i32 512)", "@max_i32(i32 %share, i32 -1)"),
    "a piece of any length": ("@max_i32(i32 %share, i32 512)", "@max_i32(i32 %size, i32 512)"),
    "a piece that is the smaller": ("@max_i32(i32 %share, i32 512)", "@min_i32(i32 %share, i32 512)"),
    "a piece with more taken away": ("sub i32 %quotient, %bit", "sub i32 %quotient, %size"),
    "a piece of an eighth": ("sdiv i32 %more, 16", "sdiv i32 %more, 8"),
    "another number of a piece": ("store i32 %number, i32* %piece", "store i32 %share, i32* %piece"),
    "another write": (REMAINDER, "  store i32 7, i32* %i, align 4\n" + REMAINDER),
    "an address that is handed on": (REMAINDER, "  call void @f(i32* %i)\n" + REMAINDER),
    "a temporary that is written": (REMAINDER, "  store i32 7, i32* %other.at, align 4\n" + REMAINDER),
    "a pointer that is unknown": (REMAINDER, "  store i32 7, i32* inttoptr (i64 8 to i32*), align 4\n" + REMAINDER),
    "a volatile read": ("%now = load i32,", "%now = load volatile i32,"),
    "a read before the comparison": ("  %value = load", f"{READ}  %value = load"),
    "a read after the step": ("align 4\n  br label %test\n\ndone", f"align 4\n{READ}  br label %test\n\ndone"),
    "a read after the loop": ("done:\n", f"done:\n{READ}"),
    "a step that goes on elsewhere": ("align 4\n  br label %test\n\ndone", "align 4\n  br label %turn\n\ndone"),
}  # fmt: skip


@pytest.mark.parametrize("what", NOT_SO)
def test_the_remainder_stays(what: str) -> None:
    before, after = NOT_SO[what]
    text = LOOP.replace(before, after)
    assert text != LOOP
    if "%now2" in after:  # what is read there is divided, instead
        divided = "  %again2 = load i32, i32* %size.at, align 4\n  %index = srem i32 %now2, %again2\n"
        text = text.replace(REMAINDER, "").replace(READ, READ + divided)
    assert changed(text) == write_function(read_function(TYPES + text))


def test_what_other_threads_run_may_write_no_temporary() -> None:
    beside = """
define void @epilogue(%struct.RuntimeContext* %context, i8* %local) {
entry:
  %runtime = call %struct.LLVMRuntime* @RuntimeContext_get_runtime(%struct.RuntimeContext* %context)
  %raw = call i8* @get_temporary_pointer(%struct.LLVMRuntime* %runtime, i64 8)
  store i8 1, i8* %raw, align 1
  ret void
}
"""
    assert "srem" in changed(LOOP, beside)
    assert "srem" not in changed(LOOP, beside.replace("  store i8 1, i8* %raw, align 1\n", ""))
