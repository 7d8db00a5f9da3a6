"""Checks of indices as branches, and names in place of numbers: texts in, texts out. Without Taichi."""

from __future__ import annotations

import re

import pytest
from task_texts import TYPES
from tiaot.export.ir.passes.bounds import check_bounds, not_after_a_failure
from tiaot.export.ir.passes.names import with_names
from tiaot.export.ir.reader import read, read_function
from tiaot.export.ir.values import LoweringError
from tiaot.export.ir.writer import write_function

SAID = (
    "(kernel=step_c4_0) Out of bound access to ndarray at arg 0 with indices [%d, %d]\\0A"
    "File \\22/home/springs.py\\22, line 9, in step:\\0A    x[i, 3] = 1\\0A    ^^^^^^^\\0A\\00"
)
SIZE = len(SAID) - 2 * SAID.count("\\")
CHECK = (
    "  call void @taichi_assert_format(%struct.LLVMRuntime* %runtime, i1 %e, i8* getelementptr inbounds "
    f"([{SIZE} x i8], [{SIZE} x i8]* @said, i32 0, i32 0), i32 2, i64* %p0)\n"
)
TASK = f"""{TYPES}
@said = private unnamed_addr constant [{SIZE} x i8] c"{SAID}", align 1
declare void @taichi_assert_format(%struct.LLVMRuntime*, i1, i8*, i32, i64*)
define void @body(%struct.LLVMRuntime* %runtime, i32 %i, i32 %n, i32 %m) {{
entry:
  %room = alloca [2 x i64], align 8
  %a = icmp sge i32 %i, 0
  %b = icmp slt i32 %i, %n
  %c = and i1 %a, %b
  %d = icmp slt i32 3, %m
  %e = and i1 %c, %d
  %p0 = getelementptr [2 x i64], [2 x i64]* %room, i64 0, i64 0
  %w = sext i32 %i to i64
  store i64 %w, i64* %p0, align 8
  %p1 = getelementptr [2 x i64], [2 x i64]* %room, i64 0, i64 1
  store i64 3, i64* %p1, align 8
{CHECK}  br label %next
next:
  %phi = phi i32 [ 1, %entry ]
  ret void
}}
"""


def test_a_check_of_an_index_is_a_branch_that_leaves():
    changed, strings = check_bounds(read(TASK))
    lines = write_function(next(each for each in changed.definitions if each.name == "body"))
    assert "br i1 %e, label %in_range, label %out_of_range\nin_range:\n" in lines
    assert "%phi = phi i32 [ 1, %in_range ]" in lines  # it comes from the block that the check has cut off
    outside = lines.partition("out_of_range:\n")[2]
    assert "sext i32 %i to i64" in outside and "sext i32 %n to i64" in outside and "sext i32 3 to i64" in outside
    (name,) = strings
    assert (
        f"@tiaot_out_of_range(%struct.LLVMRuntime* %runtime, i8* getelementptr inbounds ([86 x i8], [86 x i8]* @{name}"
        in lines
    )
    assert outside.endswith("ret void\n}")
    said = "springs.py:9: step: x[i, 3] is out of range: the index is (%d, %d), its size (%d, %d)\\00"
    assert strings[name].endswith(f'constant [86 x i8] c"{said}"')


def test_other_assertions_stay():
    module = read(TASK.replace("Out of bound access", "Out of luck, access"))
    changed, strings = check_bounds(module)
    assert changed is module and strings == {}


@pytest.mark.parametrize(
    "before, after, what",
    [
        ("store i64 3, i64* %p1, align 8", "store i64 %w, i64* %p0, align 8", "which indices are checked"),
        ("i32 2, i64* %p0)", "i32 %n, i64* %p0)", "which indices are checked"),
        ("%p0 = getelementptr [2 x i64], [2 x i64]* %room, i64 0, i64 0", "%p0 = bitcast [2 x i64]* %room to i64*",
         "which indices are checked"),
        ("store i64 %w, i64* %p0, align 8", "%x = mul i64 %w, 2\n  store i64 %x, i64* %p0, align 8",
         "which indices are checked"),
    ],
)  # fmt: skip
def test_checks_that_are_not_known_are_refused(before: str, after: str, what: str):
    assert TASK.count(before) == 1
    with pytest.raises(LoweringError, match=what):
        check_bounds(read(TASK.replace(before, after)))


def test_a_function_with_a_result_cannot_be_left():
    text = TASK.replace("define void @body", "define i32 @body").replace("  ret void\n}", "  ret i32 0\n}")
    with pytest.raises(LoweringError, match="where the kernel cannot be left"):
        check_bounds(read(text))


def test_a_loop_is_not_run_after_a_failure():
    blocks = "entry:\n  br label %loop\nloop:\n  br label %loop\n"
    loop = f"{TYPES}define void @f(%struct.RuntimeContext* %context) {{\n{blocks}}}"
    assert write_function(not_after_a_failure(read_function(loop))).splitlines()[1:] == [
        "entry:",
        "  %bounds = call %struct.LLVMRuntime* @RuntimeContext_get_runtime(%struct.RuntimeContext* %context)",
        "  %bounds.1 = call i1 @tiaot_has_failed(%struct.LLVMRuntime* %bounds)",
        "  br i1 %bounds.1, label %over, label %loop",
        "loop:",
        "  br label %loop",
        "over:",
        "  ret void",
        "}",
    ]
    straight = read_function(loop.replace(blocks, "entry:\n  ret void\n"))
    assert not_after_a_failure(straight) is straight


def test_numbers_become_names():
    text = """define i32 @f(i32 %A, i32 %x) {
B:
  %C = add i32 %A, %x
  br label %D
D:
  %E = phi i32 [ %C, %B ]
  ret i32 %E
}"""
    numbers, words = text, text
    for number, letter in enumerate("ABCDE"):
        numbers = re.sub(rf"(%|\b){letter}\b", rf"\g<1>{number}", numbers)
        words = re.sub(rf"(%|\b){letter}\b", rf"\g<1>v{number}", words)
    assert write_function(with_names(read_function(numbers))) == words
