"""Taichi's tasks: how they are taken apart, what is refused, and which of them only work out the ranges of loops."""

from __future__ import annotations

import pytest
from task_texts import ARRAYS, ELEMENT, TYPES
from tiaot.export.entry.device.ranges import Bounds, find_bounds
from tiaot.export.ir import TracedModule, read_tasks
from tiaot.export.ir.values import LoweringError

POINTER = "%struct.RuntimeContext*"
PART, TURN = f"void ({POINTER}, i8*)*", f"void ({POINTER}, i8*, i32)*"


def cpu_loop(prologue: str = "null", body: str = "@function_body", epilogue: str = "null", begin: int = 0) -> str:
    return (
        f"call void @cpu_parallel_range_for({POINTER} %context, i32 2, i32 {begin}, i32 16, i32 1, i32 1, "
        f"{PART} {prologue}, {TURN} {body}, {PART} {epilogue}, i64 8)"
    )


def gpu_loop(begin: str = "0", end: str = "64", turn: str = "@function_body", epilogue: str = "null") -> str:
    return (
        f"call void @gpu_parallel_range_for({POINTER} %context, i32 {begin}, i32 {end}, {PART} null, {TURN} {turn}, "
        f"{PART} {epilogue}, i64 16)"
    )


def task(lines: str, name: str = "kernel_0", functions: str = "") -> str:
    return (
        f"{TYPES}define void @{name}({POINTER} byval(%struct.RuntimeContext) %context) #0 {{\nentry:\n{lines}\n"
        f"ret void\n}}\n{functions}\ndeclare float @tanh_f32(float noundef) #1\n"
    )


BODY = (
    f"define internal void @function_body({POINTER} noundef %0, i8* %1, i32 %2) #0 {{\nallocs:\n"
    "%3 = call noundef float @tanh_f32(float noundef 1.0) #1\nret void\n}"
)
EPILOGUE = BODY.replace("@function_body", "@function_epilogue").replace(", i32 %2)", ")").replace("%3", "%2")


def test_a_serial_task_is_its_body():
    module = read_tasks([task("%a = call float @tanh_f32(float noundef 1.0) #1")])
    (only,) = module.tasks
    assert only.text("part_0") == (
        "define internal void @part_0_body(%struct.RuntimeContext* %context) alwaysinline {\nentry:\n"
        "  %a = call float @tanh_f32(float 1.0)\n  ret void\n}"
    )
    assert (only.pieces, only.turn) == (0, None)
    assert list(module.declarations) == ["tanh_f32"] and module.type_lines[0] == "%struct.LLVMRuntime = type opaque"


def test_a_parallel_task_is_its_parts():
    module = read_tasks([task(cpu_loop(epilogue="@function_epilogue"), functions=BODY + "\n" + EPILOGUE)])
    (only,) = module.tasks
    assert (only.pieces, only.local_bytes, only.prologue) == (16, 8, None)
    assert module.text("part").count("define internal void @part_0_") == 2
    assert "call float @tanh_f32(float 1.0)\n" in only.text("part_0")


def test_a_loop_on_a_device_calls_its_parts_by_their_names():
    module = read_tasks([task(gpu_loop(epilogue="@function_epilogue"), functions=BODY + "\n" + EPILOGUE)])
    (only,) = module.tasks
    assert only.turn is not None and only.local_bytes == 16 and only.pieces == 0
    text = only.text("part_0")
    assert "@part_0_turn, " in text and "@part_0_epilogue, " in text and "@function_" not in text


REFUSED = {
    task("", "kernel_0_struct_for"): "sparse or mesh",
    task("", functions=BODY): "functions of its own",
    task(cpu_loop(), functions=BODY + "\n" + EPILOGUE): "functions of its own",
    task(cpu_loop() + "\n" + cpu_loop(), functions=BODY): "2 parallel loops",
    task("%a = add i32 1, 1\n" + cpu_loop(), functions=BODY): "does more than run its parallel loop",
    task(cpu_loop(begin=3), functions=BODY): "not cut as was asked for",
    task(cpu_loop(body="null")): "has no body",
    task(cpu_loop(body="@elsewhere"), functions=BODY): "which is not there",
    task(cpu_loop().replace("i32 16", "i32 undef"), functions=BODY): "where a number was expected",
    task("") + "define void @another() {\nret void\n}": "one main function",
    BODY: "one main function, got none",
}


@pytest.mark.parametrize("text", REFUSED, ids=REFUSED.values())
def test_tasks_that_are_not_known_are_refused(text: str):
    with pytest.raises(LoweringError, match=REFUSED[text]):
        read_tasks([text])


def test_types_of_one_name_are_the_same_in_all_tasks():
    with pytest.raises(LoweringError, match="different types of the name"):
        read_tasks([task(""), task("").replace("{ i32, i64 }", "{ i32, i32 }")])


# ---- what is touched ----


def touching(lines: str) -> TracedModule:
    lines = f"%i = add i32 0, 0\n%j = add i32 0, 0\n{ARRAYS}{ELEMENT}{lines}"
    return read_tasks([task(lines)])


def test_it_is_known_which_arrays_are_touched():
    module = touching("store float 1.0, float* %p")
    assert module.may_touch(0, 1) and not module.may_touch(0, 2) and not module.may_touch(1, 1)
    assert not touching("").may_touch(0, 1)
    assert touching("%v = call float @peek(float* %p)").may_touch(0, 1)


def test_what_is_reached_by_an_unknown_pointer_may_be_any_array():
    module = touching("%u = inttoptr i64 8 to float*\nstore float 1.0, float* %u")
    assert module.may_touch(0, 1) and module.may_touch(0, 2) and module.may_touch(1, 1)


# ---- which tasks only work out the ranges of loops ----


def temporary(offset: int) -> str:
    return (
        f"%t{offset} = call i8* @get_temporary_pointer(%struct.LLVMRuntime* %runtime, i64 {offset})\n"
        f"%f{offset} = bitcast i8* %t{offset} to i32*\n"
    )


def device_tasks(*texts: str) -> TracedModule:
    return read_tasks(
        [task(f"{ARRAYS}{text}", functions=BODY if "gpu_parallel_range_for" in text else "") for text in texts]
    )


RANGE = temporary(0) + "store i32 %rows, i32* %f0"
LOOP = temporary(0) + "%n = load i32, i32* %f0\n" + gpu_loop(end="%n")


def test_a_task_that_computes_a_range_runs_on_each_thread():
    module = device_tasks(RANGE, LOOP)
    bounds = find_bounds(module)
    assert bounds == Bounds(frozenset({0}), frozenset(), frozenset({0}))
    assert bounds.known(module.tasks[1])


NO_RANGES = {
    temporary(0) + "%e = load i32, i32* %k\nstore i32 %e, i32* %f0": "an array is read",
    temporary(0) + "%e = call i32 @hash(i32 1)\nstore i32 %e, i32* %f0": "a function is called",
    temporary(0) + "%e = atomicrmw add i32* %f0, i32 1 seq_cst": "it is atomic",
    temporary(0) + "%u = inttoptr i64 8 to i32*\nstore i32 1, i32* %u\nstore i32 1, i32* %f0": "a pointer is unknown",
}


@pytest.mark.parametrize("text", NO_RANGES, ids=NO_RANGES.values())
def test_other_tasks_run_once(text: str):
    module = device_tasks(text, LOOP)
    bounds = find_bounds(module)
    assert not bounds.prelude and not bounds.private and not bounds.known(module.tasks[1])


def test_a_temporary_that_a_loop_writes_is_shared():
    module = device_tasks(RANGE, LOOP + "\nstore i32 1, i32* %f0")
    assert not find_bounds(module).prelude


def test_a_pointer_that_may_be_to_a_temporary_leaves_no_ranges():
    module = device_tasks(RANGE, LOOP + "\n%u = inttoptr i64 8 to i32*\nstore i32 1, i32* %u")
    assert not find_bounds(module).prelude
