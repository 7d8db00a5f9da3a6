"""Functions that entries bring along, compiled and called: transposed blocks, sums of copies, stacks that grow, steps
through fields. Without Taichi."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

llvm = pytest.importorskip("llvmlite.binding")

from test_ir_arithmetic import engine_of  # noqa: E402
from tiaot.export.entry import fields, stacks  # noqa: E402
from tiaot.export.entry.cpu import lanes, sums  # noqa: E402
from tiaot.export.entry.support import TYPES  # noqa: E402
from tiaot.export.ir import read_tasks  # noqa: E402
from tiaot.export.state import Dense, RootMemory, State  # noqa: E402

STRIDE = 16
CONTEXT = "%struct.LLVMRuntime = type opaque\n%struct.RuntimeContext = type { i8*, %struct.LLVMRuntime*, i32, i64* }\n"


def function_of(engine: Any, name: str, parameters: int) -> Callable[..., int]:
    """A compiled function of 64-bit numbers and pointers."""
    return ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * parameters)(engine.get_function_address(name))


def called(lines: str, *arguments: np.ndarray | int) -> int:
    """What the function `f` of these lines gives."""
    engine = engine_of(lines, 2)
    numbers = [each.ctypes.data if isinstance(each, np.ndarray) else each for each in arguments]
    return function_of(engine, "f", len(numbers))(*numbers)


@pytest.mark.parametrize(
    "kind, vector, few", [("float", 4, []), ("float", 16, [4, 8]), ("double", 2, []), ("double", 8, [2, 4])]
)
def test_a_block_is_transposed_and_back(kind: str, vector: int, few: list[int]):
    """Rows behind the last repeat it, up to a whole vector; what lies around a block stays."""
    text = lanes.definitions(kind, vector, STRIDE, few)
    ways = [("", 0, STRIDE, vector), *((f"_few{length}", 1, length, length) for length in few)]
    arguments = f"{kind}* %s, {kind}* %t, i64 %size, i64 %rows"
    for name in (f"{way}{suffix}" for way in ("to_lanes", "from_lanes") for suffix, *_ in ways):
        text += f"\ndefine i64 @f_{name}({arguments}) {{\ncall void @{name}({arguments})\nret i64 0\n}}"
    engine = engine_of(text, 2)
    dtype = np.dtype({"float": np.float32, "double": np.float64}[kind])
    rng = np.random.default_rng(1)
    for suffix, least, most, step in ways:
        to, back = (function_of(engine, f"f_{way}{suffix}", 4) for way in ("to_lanes", "from_lanes"))
        for rows, size in itertools.product(range(least, most + 1), (0, 1, 3, 4, 7)):
            block = rng.random((rows, size)).astype(dtype)
            inside = np.full((size + 1, STRIDE), -1, dtype)
            to(block.ctypes.data, inside.ctypes.data, size, rows)
            whole = -(-rows // step) * step
            expected = np.full((size + 1, STRIDE), -1, dtype)
            if rows:
                expected[:size, :whole] = block[np.minimum(np.arange(whole), rows - 1)].T
            assert np.array_equal(inside, expected), (suffix, rows, size)
            found = np.full((rows + 1, size), -1, dtype)
            back(inside.ctypes.data, found.ctypes.data, size, rows)
            assert np.array_equal(found[:rows], block) and (found[rows:] == -1).all()


def test_copies_are_added_to_the_target_in_their_order():
    text = sums.add_copies(["float32"])
    text += """
define i64 @f(i8* %to, i8* %copies, i64 %stride, i64 %count, i64 %pieces) {
  call void @tiaot_add_copies_float(i8* %to, i8* %copies, i64 %stride, i64 %count, i64 %pieces)
  ret i64 0
}"""
    target = np.array([1, 2, 3, 99], np.float32)
    copies = np.full((4, 16), 50, np.float32)  # the last is another loop's
    copies[:3, :3] = [[1e8, 1, 1], [-1e8, 2, 1], [1, 3, 1]]
    called(text, target, copies, copies.strides[0], 3, 3)
    first = np.float32(np.float32(np.float32(1) + np.float32(1e8)) - np.float32(1e8)) + np.float32(1)
    assert target.tolist() == [first, 8, 6, 99]


def test_a_stack_keeps_what_does_not_fit_in_place():
    """The sum of what was pushed, of values and of their adjoints, which start as zeros, for more than two chunks."""
    text = (
        CONTEXT
        + TYPES
        + stacks.DEFINITIONS
        + """
declare void @llvm.memset.p0i8.i64(i8*, i8, i64, i1)
define i64 @f(i64 %n) {
entry:
  %failed = alloca i32
  store i32 0, i32* %failed
  %frame = alloca %tiaot.frame
  %slot = getelementptr %tiaot.frame, %tiaot.frame* %frame, i32 0, i32 2
  store i32* %failed, i32** %slot
  %context = alloca %struct.RuntimeContext
  %r = getelementptr %struct.RuntimeContext, %struct.RuntimeContext* %context, i32 0, i32 1
  %raw = bitcast %tiaot.frame* %frame to %struct.LLVMRuntime*
  store %struct.LLVMRuntime* %raw, %struct.LLVMRuntime** %r
  %table = alloca %tiaot.stack
  %count = alloca i64
  %array = alloca [512 x i8], align 8
  %room = bitcast [512 x i8]* %array to i8*
  call void @tiaot_stack_create(%tiaot.stack* %table, %struct.RuntimeContext* %context)
  call void @tiaot_stack_init(i8* %room, i64* %count, %tiaot.stack* %table)
  br label %push
push:
  %i = phi i64 [ 0, %entry ], [ %i.next, %push ]
  call void @tiaot_stack_push(i8* %room, i64* %count, %tiaot.stack* %table, i64 8)
  %top = call i8* @tiaot_stack_top_primal(i8* %room, i64* %count, %tiaot.stack* %table, i64 8)
  %to = bitcast i8* %top to i64*
  store i64 %i, i64* %to
  %i.next = add i64 %i, 1
  %more = icmp slt i64 %i.next, %n
  br i1 %more, label %push, label %pop
pop:
  %j = phi i64 [ 0, %push ], [ %j.next, %pop ]
  %sum = phi i64 [ 0, %push ], [ %sum.next, %pop ]
  %top.2 = call i8* @tiaot_stack_top_primal(i8* %room, i64* %count, %tiaot.stack* %table, i64 8)
  %from = bitcast i8* %top.2 to i64*
  %value = load i64, i64* %from
  %top.3 = call i8* @tiaot_stack_top_adjoint(i8* %room, i64* %count, %tiaot.stack* %table, i64 8)
  %from.2 = bitcast i8* %top.3 to i64*
  %adjoint = load i64, i64* %from.2
  %order = mul i64 %value, %j
  %both = add i64 %order, %adjoint
  %sum.next = add i64 %sum, %both
  call void @tiaot_stack_pop(i8* %room, i64* %count, %tiaot.stack* %table)
  %j.next = add i64 %j, 1
  %left = icmp slt i64 %j.next, %n
  br i1 %left, label %pop, label %end
end:
  call void @tiaot_stack_destroy(%tiaot.stack* %table)
  %wrong = load i32, i32* %failed
  %wide = sext i32 %wrong to i64
  %result = sub i64 %sum.next, %wide
  ret i64 %result
}"""
    )
    for count in (1, 32, 33, 96, 97, 1000):
        assert called(text, count) == sum(j * (count - 1 - j) for j in range(count)), count


STEPS = """
%struct.RuntimeContext = type { i8*, %struct.LLVMRuntime*, i32, i64* }
%struct.LLVMRuntime = type opaque
declare i8* @get_ch_S0_to_S5(i8*)
declare i8* @get_ch_S5_to_S6(i8*)
declare i8* @LLVMRuntime_get_roots(%struct.LLVMRuntime*, i32)
define void @training_kernel_0(%struct.RuntimeContext* %context) {
entry:
  %roots = call i8* @LLVMRuntime_get_roots(%struct.LLVMRuntime* null, i32 0)
  %root = call i8* @get_ch_S0_to_S5(i8* %roots)
  %element = call i8* @get_ch_S5_to_S6(i8* %root)
  ret void
}
"""


def test_steps_through_fields_are_loads_of_roots_and_additions():
    state = State(
        (), 64, {3: RootMemory(0, 32, "float32"), 5: RootMemory(32, 32, "float32")}, {6: 12}, {5: Dense(16, (2,))}
    )
    module = read_tasks([STEPS])
    text = fields.definitions([module], state)
    assert "define internal i8* @get_ch_S0_to_S5(i8* %node)" in text and "i8** %children, i64 1" in text
    assert "getelementptr inbounds i8, i8* %node, i64 12" in text
    placed = fields.place_lookups(module, state)
    assert sorted(module.declarations) == ["LLVMRuntime_get_roots", "get_ch_S0_to_S5", "get_ch_S5_to_S6"]
    assert sorted(placed.declarations) == ["LLVMRuntime_get_roots"]
    at = np.array([100, 7000], np.int64)  # the addresses of the roots
    harness = """
define i64 @f(i8* %roots) {
  %root = call i8* @get_ch_S0_to_S5(i8* %roots)
  %element = call i8* @get_ch_S5_to_S6(i8* %root)
  %address = ptrtoint i8* %element to i64
  ret i64 %address
}"""
    assert called(text + harness, at) == 7012
