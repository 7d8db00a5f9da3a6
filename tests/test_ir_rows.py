"""Loops over rows, made of ones over all elements: where the pass may make them, where not, and, by running both forms,
that they find the same indices."""

from __future__ import annotations

import ctypes

import pytest
from task_texts import TYPES
from test_ir_indices import LOOP as ONE_AXIS
from tiaot.export.ir.model import Function
from tiaot.export.ir.passes.divisions import define_divisions
from tiaot.export.ir.passes.rows import loop_over_rows
from tiaot.export.ir.passes.variables import loop_variables
from tiaot.export.ir.reader import read_function
from tiaot.export.ir.writer import write_function

llvm = pytest.importorskip("llvmlite.binding")

# Writes the two indices of each element to `local`.
NOTE = """
  %out = bitcast i8* %local to i32*
  %twice = mul i32 %now, 2
  %first = getelementptr i32, i32* %out, i32 %twice
  %second = getelementptr i32, i32* %first, i32 1
  store i32 %row, i32* %first, align 4
  store i32 %column, i32* %second, align 4
"""
SIZE = "  %again = load i32, i32* %other.at, align 4\n"
TRUNCATED = f"{SIZE}  %column = srem i32 %now, %again\n  %row = sdiv i32 %now, %again\n{NOTE}"
FLOORED = f"""{SIZE}
  %plain = sdiv i32 %now, %again
  %negative = icmp slt i32 %now, 0
  %negative.size = icmp slt i32 %again, 0
  %back = mul i32 %again, %plain
  %signs = icmp ne i1 %negative, %negative.size
  %some = icmp ne i32 %now, 0
  %rounded = icmp ne i32 %back, %now
  %signs.too = icmp ne i1 %signs, false
  %both = and i1 %signs.too, %some
  %all = and i1 %both, %rounded
  %less = zext i1 %all to i32
  %row = sub i32 %plain, %less
  %start = mul i32 %row, %again
  %column = sub i32 %now, %start
{NOTE}"""
BODY = "  %again = load i32, i32* %size.at, align 4\n  %index = srem i32 %now, %again\n"
# The same loop with its variable as a value, as in an adjoint.
AS_VALUE = """
define void @body(%struct.RuntimeContext* %context, i8* %local, i32 %number) {
entry:
  %runtime = call %struct.LLVMRuntime* @RuntimeContext_get_runtime(%struct.RuntimeContext* %context)
  %raw = call i8* @get_temporary_pointer(%struct.LLVMRuntime* %runtime, i64 0)
  %size.at = bitcast i8* %raw to i32*
  %size = load i32, i32* %size.at, align 4
  %raw4 = call i8* @get_temporary_pointer(%struct.LLVMRuntime* %runtime, i64 4)
  %other.at = bitcast i8* %raw4 to i32*
  %more = sub i32 %size, -15
  %quotient = sdiv i32 %more, 16
  %inexact.share = icmp ne i32 %more, 0
  %bit = zext i1 %inexact.share to i32
  %share = sub i32 %quotient, %bit
  %length = call i32 @max_i32(i32 %share, i32 512)
  %begin = mul i32 %length, %number
  %next = add i32 %begin, %length
  %limit = call i32 @min_i32(i32 %size, i32 %next)
  br label %test

turn:
BODY  br label %step

step:
  %following = add i32 %now, 1
  br label %test

done:
  ret void

test:
  %now = phi i32 [ %begin, %entry ], [ %following, %step ]
  %is.less = icmp slt i32 %now, %limit
  br i1 %is.less, label %turn, label %done
}
"""


def in_memory(body: str) -> str:
    return ONE_AXIS.replace(BODY, body)


def as_value(body: str) -> str:
    return AS_VALUE.replace("BODY", body)


def parsed(text: str) -> Function:
    return read_function(TYPES + text)


RUNTIME = """
define internal %struct.LLVMRuntime* @RuntimeContext_get_runtime(%struct.RuntimeContext* %context) {
  %raw = bitcast %struct.RuntimeContext* %context to %struct.LLVMRuntime*
  ret %struct.LLVMRuntime* %raw
}
define internal i8* @get_temporary_pointer(%struct.LLVMRuntime* %runtime, i64 %offset) {
  %raw = bitcast %struct.LLVMRuntime* %runtime to i8*
  %pointer = getelementptr i8, i8* %raw, i64 %offset
  ret i8* %pointer
}
define internal i32 @max_i32(i32 %a, i32 %b) {
  %c = icmp sgt i32 %a, %b
  %r = select i1 %c, i32 %a, i32 %b
  ret i32 %r
}
define internal i32 @min_i32(i32 %a, i32 %b) {
  %c = icmp slt i32 %a, %b
  %r = select i1 %c, i32 %a, i32 %b
  ret i32 %r
}
"""


def indices(function: Function, elements: int, size: int) -> list[int]:
    """What all pieces of the loop write: two numbers for each element."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module = llvm.parse_assembly(TYPES + write_function(define_divisions(function)) + RUNTIME)
    module.verify()
    builder = llvm.create_pass_manager_builder()
    builder.opt_level = 2
    manager = llvm.create_module_pass_manager()
    builder.populate(manager)
    manager.run(module)
    engine = llvm.create_mcjit_compiler(module, llvm.Target.from_default_triple().create_target_machine())
    body = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32)(engine.get_function_address("body"))
    temporaries = (ctypes.c_int32 * 4)(elements, size)
    out = (ctypes.c_int32 * (2 * max(elements, 1)))(*[7] * (2 * max(elements, 1)))
    for piece in range(16):
        body(ctypes.addressof(temporaries), ctypes.addressof(out), piece)
    return list(out)


@pytest.mark.parametrize("form", [in_memory, as_value])
@pytest.mark.parametrize("body", [TRUNCATED, FLOORED], ids=["truncated", "floored"])
def test_a_loop_over_rows_finds_the_same_indices(form, body: str) -> None:
    before = parsed(form(body))
    after = loop_over_rows(loop_variables(before))
    turn = next(block for block in after.blocks if block.label == "turn")
    assert "sdiv" not in str(turn) and "srem" not in str(turn)
    for elements, size in (
        (0, 3),
        (1, 1),
        (12, 4),
        (13, 4),
        (1030, 1),
        (2100, 600),
        (9000, 7),
        (6, 0),
        (6, -1),
        (700, -4),
    ):
        assert indices(after, elements, size) == indices(before, elements, size), (elements, size)
    assert indices(after, 13, 4)[-4:] == [2, 3, 3, 0]


NOT_SO = {
    "no division": (TRUNCATED, f"  %row = add i32 %now, 0\n  %column = add i32 %now, 1\n{NOTE}"),
    "unsigned": (TRUNCATED, TRUNCATED.replace("srem", "urem").replace("sdiv", "udiv")),
    "of another number": (
        TRUNCATED,
        TRUNCATED.replace("m i32 %now", "m i32 %begin").replace("v i32 %now", "v i32 %begin"),
    ),
    "by another number": (TRUNCATED, TRUNCATED.replace("%again\n", "%number\n")),
    "by two sizes": (TRUNCATED, TRUNCATED.replace("%column = srem i32 %now, %again", "%column = srem i32 %now, %size")),
    "the size changes": (TRUNCATED, TRUNCATED + "  store i32 5, i32* %other.at, align 4\n"),
    "a step of 2": ("%following = add i32 %last, 1", "%following = add i32 %last, 2"),
    "a begin below 0": ("store i32 %begin, i32* %i,", "store i32 %share, i32* %i,"),
}


@pytest.mark.parametrize("why", NOT_SO)
def test_other_loops_stay(why: str) -> None:
    text = in_memory(TRUNCATED)
    assert NOT_SO[why][0] in text
    function = parsed(text.replace(*NOT_SO[why]))
    assert loop_over_rows(function) is function


def test_what_looks_like_floor_division_is_none() -> None:
    """Without the signs the correction is not that of floor division, and stays in the body."""
    text = in_memory(FLOORED.replace("and i1 %signs.too, %some", "and i1 %some, %some"))
    after = loop_over_rows(parsed(text))
    for size in (4, -4):
        assert indices(after, 13, size) == indices(parsed(text), 13, size)


OTHER_FORMS = {
    "it is used behind the loop": ("done:\n", "done:\n  %last = add i32 %now, 0\n"),
    "another comparison": ("icmp slt i32 %now, %limit", "icmp sle i32 %now, %limit"),
    "no step": ("%following = add i32 %now, 1", "%following = mul i32 %now, 1"),
}


@pytest.mark.parametrize("why", OTHER_FORMS)
def test_other_variables_stay_values(why: str) -> None:
    text = as_value(TRUNCATED)
    assert OTHER_FORMS[why][0] in text
    function = parsed(text.replace(*OTHER_FORMS[why]))
    assert loop_variables(function) is function
