"""Stacks: where an adjoint keeps the values of a variable that changes in a loop, as LLVM IR text. Knows no kernels.

Taichi's stack has room for 32 values, or for as many as conditions alone can put on it, and does not look. Ours begins
with 32 in place and grows in chunks that double, which never move. Its three parts are variables of their own: the
number of values, which LLVM keeps in a register; the room for the first ones, which it dissolves where it knows how
often a loop runs; and the table of chunks, which is all that the function that grows it is given.
"""

from __future__ import annotations

from ..ir.passes.stacks import TABLE

_CHUNKS = 26  # 32 values, doubled so often: more than 2^31
_TABLE = str(TABLE)  # where to say that there is no memory, the chunks, of which the first is the room in place
TYPE = f"{_TABLE} = type {{ i32*, [{_CHUNKS} x i8*] }}"

# The chunk of the value %index, one that is not in place.
_CHUNK = """  %block = lshr i64 %index, 5
  %up = add i64 %block, 1
  %zeros = call i64 @llvm.ctlz.i64(i64 %up, i1 true)
  %chunk = sub i64 63, %zeros
"""

DEFINITIONS = f"""
declare noalias i8* @malloc(i64)
declare void @free(i8*)
declare i64 @llvm.ctlz.i64(i64, i1)
define internal void @tiaot_stack_create({_TABLE}* %table, %struct.RuntimeContext* %c) alwaysinline {{
  %p = getelementptr %struct.RuntimeContext, %struct.RuntimeContext* %c, i32 0, i32 1
  %r = load %struct.LLVMRuntime*, %struct.LLVMRuntime** %p
  %f = bitcast %struct.LLVMRuntime* %r to %tiaot.frame*
  %q = getelementptr %tiaot.frame, %tiaot.frame* %f, i32 0, i32 2
  %failed = load i32*, i32** %q
  %w = getelementptr {_TABLE}, {_TABLE}* %table, i32 0, i32 0
  store i32* %failed, i32** %w
  %t = getelementptr {_TABLE}, {_TABLE}* %table, i32 0, i32 1
  %raw = bitcast [{_CHUNKS} x i8*]* %t to i8*
  call void @llvm.memset.p0i8.i64(i8* %raw, i8 0, i64 {_CHUNKS * 8}, i1 false)
  ret void
}}
define internal void @tiaot_stack_destroy({_TABLE}* %table) noinline {{
entry:
  br label %loop
loop:
  %i = phi i64 [ 1, %entry ], [ %j, %loop ]
  %p = getelementptr {_TABLE}, {_TABLE}* %table, i32 0, i32 1, i64 %i
  %chunk = load i8*, i8** %p
  call void @free(i8* %chunk)
  %j = add i64 %i, 1
  %more = icmp slt i64 %j, {_CHUNKS}
  br i1 %more, label %loop, label %done
done:
  ret void
}}
define internal void @tiaot_stack_init(i8* %room, i64* %count, {_TABLE}* %table) alwaysinline {{
  store i64 0, i64* %count
  ret void
}}
define internal void @tiaot_stack_pop(i8* %room, i64* %count, {_TABLE}* %table) alwaysinline {{
  %a = load i64, i64* %count
  %b = sub i64 %a, 1
  store i64 %b, i64* %count
  ret void
}}
define internal i8* @tiaot_stack_at(i8* %room, i64 %index, {_TABLE}* %table, i64 %size) alwaysinline {{
  %double = shl i64 %size, 1
  %few = icmp ult i64 %index, 32
  br i1 %few, label %near, label %far
near:
  %near.offset = mul i64 %index, %double
  %near.top = getelementptr i8, i8* %room, i64 %near.offset
  br label %found
far:
{_CHUNK}  %power = shl i64 32, %chunk
  %before = sub i64 %power, 32
  %inside = sub i64 %index, %before
  %pc = getelementptr {_TABLE}, {_TABLE}* %table, i32 0, i32 1, i64 %chunk
  %cc = load i8*, i8** %pc
  %missing = icmp eq i8* %cc, null
  %base = select i1 %missing, i8* %room, i8* %cc
  %place = select i1 %missing, i64 0, i64 %inside
  %far.offset = mul i64 %place, %double
  %far.top = getelementptr i8, i8* %base, i64 %far.offset
  br label %found
found:
  %top = phi i8* [ %near.top, %near ], [ %far.top, %far ]
  ret i8* %top
}}
define internal i8* @tiaot_stack_top_primal(i8* %room, i64* %count, {_TABLE}* %table, i64 %size) alwaysinline {{
  %n = load i64, i64* %count
  %index = sub i64 %n, 1
  %top = call i8* @tiaot_stack_at(i8* %room, i64 %index, {_TABLE}* %table, i64 %size)
  ret i8* %top
}}
define internal i8* @tiaot_stack_top_adjoint(i8* %room, i64* %count, {_TABLE}* %table, i64 %size) alwaysinline {{
  %p = call i8* @tiaot_stack_top_primal(i8* %room, i64* %count, {_TABLE}* %table, i64 %size)
  %a = getelementptr i8, i8* %p, i64 %size
  ret i8* %a
}}
define internal void @tiaot_stack_grow({_TABLE}* %table, i64 %index, i64 %size) noinline cold {{
{_CHUNK}  %p = getelementptr {_TABLE}, {_TABLE}* %table, i32 0, i32 1, i64 %chunk
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
  %w = getelementptr {_TABLE}, {_TABLE}* %table, i32 0, i32 0
  %failed = load i32*, i32** %w
  store atomic i32 1, i32* %failed monotonic, align 4
  br label %done
done:
  ret void
}}
define internal void @tiaot_stack_push(i8* %room, i64* %count, {_TABLE}* %table, i64 %size) alwaysinline {{
  %index = load i64, i64* %count
  %more = add i64 %index, 1
  store i64 %more, i64* %count
  %many = icmp uge i64 %index, 32
  br i1 %many, label %look, label %clear
look:
{_CHUNK}  %pc = getelementptr {_TABLE}, {_TABLE}* %table, i32 0, i32 1, i64 %chunk
  %cc = load i8*, i8** %pc
  %missing = icmp eq i8* %cc, null
  br i1 %missing, label %grow, label %clear
grow:
  call void @tiaot_stack_grow({_TABLE}* %table, i64 %index, i64 %size)
  br label %clear
clear:
  %top = call i8* @tiaot_stack_at(i8* %room, i64 %index, {_TABLE}* %table, i64 %size)
  %double = shl i64 %size, 1
  call void @llvm.memset.p0i8.i64(i8* %top, i8 0, i64 %double, i1 false)
  ret void
}}"""
