"""Sums on copies: adds up the copies that the pieces of a loop have added to, as LLVM IR text. Knows no kernels."""

from __future__ import annotations

from collections.abc import Iterable

from ..code import IR_TYPES


def add_copies(dtypes: Iterable[str]) -> str:
    """`tiaot_add_copies_T(target, copies, stride, count, pieces)`: adds the copies to the target, in their order."""
    return "\n".join(_add_copies(IR_TYPES[dtype]) for dtype in sorted(set(dtypes)))


def _add_copies(kind: str) -> str:
    return f"""
define internal void @tiaot_add_copies_{kind}(i8* noalias %target, i8* noalias %copies, i64 %stride, i64 %count,
                                             i64 %pieces) noinline {{
entry:
  %to = bitcast i8* %target to {kind}*
  br label %piece
piece:
  %p = phi i64 [ 0, %entry ], [ %next.p, %done ]
  %more.p = icmp slt i64 %p, %pieces
  br i1 %more.p, label %start, label %end
start:
  %offset = mul i64 %p, %stride
  %copy = getelementptr i8, i8* %copies, i64 %offset
  %from = bitcast i8* %copy to {kind}*
  br label %element
element:
  %e = phi i64 [ 0, %start ], [ %next.e, %add ]
  %more.e = icmp slt i64 %e, %count
  br i1 %more.e, label %add, label %done
add:
  %pt = getelementptr {kind}, {kind}* %to, i64 %e
  %pf = getelementptr {kind}, {kind}* %from, i64 %e
  %a = load {kind}, {kind}* %pt
  %b = load {kind}, {kind}* %pf
  %sum = fadd {kind} %a, %b
  store {kind} %sum, {kind}* %pt
  %next.e = add nsw i64 %e, 1
  br label %element
done:
  %next.p = add nsw i64 %p, 1
  br label %piece
end:
  ret void
}}"""
