"""Sums in an order that does not depend on the grid: each thread adds to a copy of its own, and other kernels add the
copies up. Knows no signatures.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from ...author.signature import ITEM_SIZES
from ...target.nvidia.target import NVIDIA
from ..code import IR_TYPES
from .host import HostCode

MOST_COPIES = 16384  # threads of a loop that adds to copies
FEWEST_COPIES = 1024  # fewer keep too little of a device busy
COPIES_BYTES = 64 << 20  # of copies that are never much
SUM_LANES = 32  # threads that add up the copies of one element, the first time


def sum_kernel(dtype: str) -> str:
    """The kernel `tiaot_sum_T(source, copies, elements, lanes, target, add)`: thread (e, j) adds up the copies j, j +
    lanes, ... of element e, which lie one after another in `source`, in this order. The sum is stored, or added, at
    target[e * lanes + j]."""
    kind = IR_TYPES[dtype]
    return f"""
define ptx_kernel void @{sum_name(dtype)}({kind}* noalias readonly %source, i64 %copies, i64 %elements, i64 %lanes,
                                         {kind}* noalias %target, i32 %add) {{
entry:
  %t = call i64 @tiaot_thread()
  %n = call i64 @tiaot_threads()
  %all = mul i64 %elements, %lanes
  %adds = icmp ne i32 %add, 0
  %any = icmp slt i64 %t, %all
  br i1 %any, label %each, label %end
each:
  %k = phi i64 [ %t, %entry ], [ %next.k, %store ]
  %e = udiv i64 %k, %lanes
  %b = mul i64 %e, %lanes
  %j = sub i64 %k, %b
  %row = mul i64 %e, %copies
  %more.copies = icmp slt i64 %j, %copies
  br i1 %more.copies, label %loop, label %summed
loop:
  %c = phi i64 [ %j, %each ], [ %next.c, %loop ]
  %sum = phi {kind} [ 0.0, %each ], [ %next.sum, %loop ]
  %at = add i64 %row, %c
  %p = getelementptr {kind}, {kind}* %source, i64 %at
  %v = load {kind}, {kind}* %p
  %next.sum = fadd {kind} %sum, %v
  %next.c = add i64 %c, %lanes
  %more.c = icmp slt i64 %next.c, %copies
  br i1 %more.c, label %loop, label %summed
summed:
  %total = phi {kind} [ 0.0, %each ], [ %next.sum, %loop ]
  %q = getelementptr {kind}, {kind}* %target, i64 %k
  br i1 %adds, label %add.up, label %store
add.up:
  %old = load {kind}, {kind}* %q
  %new = fadd {kind} %old, %total
  br label %store
store:
  %value = phi {kind} [ %total, %summed ], [ %new, %add.up ]
  store {kind} %value, {kind}* %q
  %next.k = add i64 %k, %n
  %more.k = icmp slt i64 %next.k, %all
  br i1 %more.k, label %each, label %end
end:
  ret void
}}"""


def sum_name(dtype: str) -> str:
    return f"tiaot_sum_{dtype}"


def add_up(
    code: HostCode,
    dtype: str,
    source: str,
    copies: str,
    targets: Sequence[tuple[str, str]],
    scratch: str,
    *,
    add: bool,
) -> None:
    """Launches what adds copies up, in their order: in two passes where they are many. `targets` are (array, number of
    its elements), whose copies lie one behind the other in `source`."""
    kind = f"{IR_TYPES[dtype]}*"

    def launch(source: str, copies: str, elements: str, lanes: int, target: str, add: bool) -> None:
        threads = code.multiply(elements, str(lanes))
        parameters = [
            (kind, code.add(f"bitcast i8* {source} to {kind}")),
            ("i64", copies),
            ("i64", elements),
            ("i64", str(lanes)),
            (kind, code.add(f"bitcast i8* {target} to {kind}")),
            ("i32", str(int(add))),
        ]
        code.launch(sum_name(dtype), threads, exact=False, parameters=parameters)

    def launch_each(source: str, copies: str) -> None:
        for target, elements in targets:
            launch(source, copies, elements, 1, target, add)
            size = code.multiply(copies, elements, str(ITEM_SIZES[dtype]))
            source = code.add(f"getelementptr i8, i8* {source}, i64 {size}")

    few = code.add(f"icmp sle i64 {copies}, {4 * SUM_LANES}")
    with code.when(few):
        launch_each(source, copies)
    with code.when(code.add(f"xor i1 {few}, true")):
        total = functools.reduce(code.add_up, [elements for _, elements in targets])
        launch(source, copies, total, SUM_LANES, scratch, False)
        launch_each(scratch, str(SUM_LANES))


# copies(largest, one, data): threads, from the elements of the largest array, the bytes of one thread's copies, and the
# bytes of all arrays. As many as the largest array has elements, up to a bound and to what memory they may take.
COUNT_COPIES = f"""
define internal i64 @tiaot_copies(i64 %largest, i64 %one, i64 %data) alwaysinline {{
  %up0 = add i64 %largest, {NVIDIA.block - 1}
  %up = and i64 %up0, {-NVIDIA.block}
  %some = icmp sgt i64 %up, {NVIDIA.block}
  %least = select i1 %some, i64 %up, i64 {NVIDIA.block}
  %many = icmp sgt i64 %least, {MOST_COPIES}
  %wanted = select i1 %many, i64 {MOST_COPIES}, i64 %least
  %data4 = shl i64 %data, 2
  %big = icmp sgt i64 %data4, {COPIES_BYTES}
  %limit = select i1 %big, i64 %data4, i64 {COPIES_BYTES}
  %none = icmp eq i64 %one, 0
  %each = select i1 %none, i64 1, i64 %one
  %fit0 = udiv i64 %limit, %each
  %fit = and i64 %fit0, {-NVIDIA.block}
  %less = icmp slt i64 %fit, %wanted
  %threads = select i1 %less, i64 %fit, i64 %wanted
  %enough0 = icmp slt i64 %wanted, {FEWEST_COPIES}
  %enough = select i1 %enough0, i64 %wanted, i64 {FEWEST_COPIES}
  %too_few = icmp slt i64 %threads, %enough
  %result = select i1 %too_few, i64 0, i64 %threads
  ret i64 %result
}}"""
