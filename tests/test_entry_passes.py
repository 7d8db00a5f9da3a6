"""The order of the passes on each target: texts of functions in, texts out. Without Taichi."""

from __future__ import annotations

import pytest
from task_texts import ARRAYS, ELEMENT, body, function
from tiaot.export.entry.passes import Atomics, Copies, Plan, prepare, prepare_range
from tiaot.export.ir.passes.temporaries import Private
from tiaot.export.target import AARCH64, X86_64
from tiaot.export.target.nvidia.target import NVIDIA

SUM = ARRAYS + ELEMENT + "%old = atomicrmw fadd float* %dp, float 1.0 seq_cst, align 4\n%n = fptosi float %old to i32"
WHOLE = "%w = atomicrmw add i32* %k, i32 1 seq_cst, align 4"
LEAST = "%l = call float @atomic_min_f32(float* %x, float 1.0)"
STACK = """%s = alloca [264 x i8], align 4
%c = bitcast [264 x i8]* %s to i8*
call void @stack_init(i8* %c)
call void @stack_push(i8* %c, i64 32, i64 4)"""


def rows_first(index: int, field: int) -> tuple[int, None]:
    return (2 if index == 0 else 1), None


def is_gradient(index: int, field: int) -> bool:
    return (index, field) == (0, 2)


@pytest.mark.parametrize("target", [X86_64, AARCH64])
def test_a_function_that_one_thread_runs_on_a_cpu(target):
    lines = body(prepare(function(SUM), Plan(rows_first, Atomics.PLAIN_SUMS), target), ARRAYS)
    assert "%dp = getelementptr float, float* %widedp.place, i64 0" in lines  # in steps
    assert "%old = load float, float* %dp, align 4\n%sumold = fadd contract float %old, 1.0\nstore" in lines
    assert lines.endswith("%n = select i1 %n.high, i32 2147483647, i32 %n.plain")  # conversions are defined last


def test_a_function_that_threads_of_a_device_share():
    lines = body(prepare(function(SUM), Plan(rows_first, Atomics.STAY), NVIDIA), ARRAYS)
    assert "%dp = getelementptr float, float* %dx, i64 %widedp\n%old = atomicrmw fadd float* %dp, float 1.0" in lines
    assert "%n.plain = fptosi float %n.given to i32" in lines


def test_sums_on_copies_are_made_of_wide_offsets():
    plan = Plan(rows_first, Atomics.SUMS_APART, copies=Copies(is_gradient, {}))
    lines = body(prepare(function(SUM + "\n" + WHOLE), plan, NVIDIA), ARRAYS)
    assert "%apartdp = mul nsw i64 %widedp, %apartdp.n\n%dp = getelementptr float, float* %dx, i64 %apartdp\n" in lines
    assert "%sumold = fadd contract float %old, 1.0" in lines and "%w = atomicrmw add i32* %k, i32 1" in lines


@pytest.mark.parametrize(
    "atomics, sums, extrema",
    [
        (Atomics.STAY, 2, 1),
        (Atomics.SUMS_APART, 1, 1),
        (Atomics.PLAIN_SUMS, 0, 1),
        (Atomics.PLAIN, 0, 0),
    ],
)
def test_what_becomes_of_atomic_operations(atomics: Atomics, sums: int, extrema: int):
    lines = body(prepare(function(f"{SUM}\n{WHOLE}\n{LEAST}"), Plan(rows_first, atomics), X86_64), ARRAYS)
    assert lines.count("atomicrmw") == sums and lines.count("@atomic_min_f32") == extrema


def test_numbers_are_added_in_any_order_once_the_additions_are_plain():
    plan = Plan(rows_first, Atomics.PLAIN_SUMS, reassociated=is_gradient)
    assert "fadd reassoc contract float %old, 1.0" in body(prepare(function(SUM), plan, X86_64), ARRAYS)


def test_stacks_grow_where_there_is_memory_to_be_had():
    plan = Plan(rows_first, Atomics.STAY, stack_values=8)
    assert "%tiaot.stack* %stacks.table" in body(prepare(function(STACK), plan, X86_64))
    assert "%s = alloca [64 x i8], align 4" in body(prepare(function(STACK), plan, NVIDIA))  # values and adjoints


def test_temporaries_of_a_thread():
    call = "%q = call i8* @get_temporary_pointer(%struct.LLVMRuntime* %runtime, i64 8)"
    own = "%q = call i8* @tiaot_private_pointer(%struct.LLVMRuntime* %runtime, i64 8)"
    plan = Plan(rows_first, Atomics.STAY, {8: Private()})
    assert body(prepare(function(ARRAYS + call), plan, NVIDIA), ARRAYS) == own
    divided = prepare_range(function(f"{ARRAYS}{call}\n%d = sdiv i32 %rows, %columns"), {8: Private()})
    assert own in body(divided, ARRAYS) and "icmp eq i32 %columns, 0" in body(divided, ARRAYS)
