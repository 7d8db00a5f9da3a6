"""What is empty in the file of Taichi's device runtime, because Taichi puts code into it when it loads it: operations
of a warp, a block or the grid. Its reductions, which are made of such, are ours here; everything else of the kind is
refused. Knows no signatures.

Taichi reduces a loop's local number (`s += x[i]`) within each thread, then within a warp, then by an atomic operation.
Here each thread's part is reduced atomically: a sum of floating-point numbers like any other, so that it is made on
copies in a fixed order; everything else in an order that does not show.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable

from ...ir import LoweringError
from ..compile import runtime_text

RUNTIME = "runtime_cuda.bc"

_WARP = "works on the threads of a warp (ti.simt.warp): give each turn of the loop its own work, and add up with +="
_BLOCK = "works on the threads of a block (ti.simt.block): split the loop in two where its threads wait for each other"
_PLACE = "asks for the number of its thread (ti.simt): use the index of the loop"
_FENCE = "orders memory between threads (ti.simt): split the loop in two where one reads what another has written"
_BITS = "counts leading or trailing zeros: count them in a loop over the bits"

# By the names of Taichi's runtime: what a kernel does that calls it, and what to write instead.
PATCHED = {
    **dict.fromkeys(("thread_idx", "block_idx", "block_dim", "grid_dim", "warp_idx", "linear_thread_idx"), _PLACE),
    **dict.fromkeys(("block_memfence", "grid_memfence", "system_memfence"), _FENCE),
    **dict.fromkeys(
        ("block_barrier", "block_barrier_and_i32", "block_barrier_or_i32", "block_barrier_count_i32"), _BLOCK
    ),
    **dict.fromkeys(
        (
            "warp_barrier",
            "cuda_active_mask",
            "cuda_all_sync",
            "cuda_any_sync",
            "cuda_uni_sync",
            "cuda_ballot",
            "cuda_ballot_sync",
            "cuda_match_all_sync_i32",
            "cuda_match_any_sync_i32",
            "cuda_match_any_sync_i64",
            "cuda_shfl_down_i32",
            "cuda_shfl_down_f32",
            "cuda_shfl_down_sync_i32",
            "cuda_shfl_down_sync_f32",
            "cuda_shfl_sync_i32",
            "cuda_shfl_sync_f32",
            "cuda_shfl_up_sync_i32",
            "cuda_shfl_up_sync_f32",
            "cuda_shfl_xor_sync_i32",
        ),
        _WARP,
    ),
    **dict.fromkeys(("ctlz_i32", "cttz_i32"), _BITS),
    "cuda_clock_i64": "reads the device's clock: measure around the call",
    "cuda_compute_capability": "asks for the device's compute capability: make a family, with variant.target",
    "cuda_vprintf": "prints: remove the print",
}

_REDUCTION = re.compile(
    r"call (?P<kind>\w+) @reduce_(?P<operation>\w+)_(?:f32|i32)\(\w+\* (?P<to>[^,]+), \w+ (?P<of>.+)\)$"
)

# Of floating-point numbers by atomic operations on their bits, which are ordered like the numbers where the sign is +,
# and the other way round where it is -. A thread's number is never NaN, for it starts from one that is none; the first
# thread that finds a NaN in the place puts its own number there.
_REDUCE_FLOAT = """
define internal float @tiaot_reduce_{name}(float* %to, float %of) alwaysinline {{
  %bits.to = bitcast float* %to to i32*
  %bits = bitcast float %of to i32
  %old.bits = load atomic volatile i32, i32* %bits.to monotonic, align 4
  %old = bitcast i32 %old.bits to float
  %unordered = fcmp uno float %old, 0.0
  br i1 %unordered, label %replace, label %look
replace:
  %replaced = cmpxchg i32* %bits.to, i32 %old.bits, i32 %bits monotonic monotonic, align 4
  br label %look
look:
  %positive = icmp sge i32 %bits, 0
  br i1 %positive, label %plus, label %minus
plus:
  %p = atomicrmw {plus} i32* %bits.to, i32 %bits monotonic, align 4
  br label %done
minus:
  %m = atomicrmw {minus} i32* %bits.to, i32 %bits monotonic, align 4
  br label %done
done:
  ret float %of
}}"""


def complete(kernel: str, tasks: Iterable[str], *, along: bool) -> list[str]:
    """The tasks of a kernel with their reductions as atomic operations, and with loops around a compare-and-exchange
    that see what others wrote. With `along` they are to be differentiated.

    Raises:
        LoweringError: when the kernel has memory for the threads of a block.
    """
    tasks = list(tasks)
    if any("addrspace(3)" in task for task in tasks):
        raise LoweringError(
            f"{kernel}: keeps memory for the threads of a block (ti.simt.block.SharedArray), which its code for "
            "CUDA cannot have: read from the array itself"
        )
    return [_see_others(_without_reductions(task, along)) for task in tasks]


def definitions(text: str) -> str:
    """Definitions of what `complete` has put in place of reductions and a text calls."""
    orders = {"min_f32": ("min", "umax"), "max_f32": ("max", "umin")}
    return "\n".join(
        _REDUCE_FLOAT.format(name=name, plus=plus, minus=minus)
        for name, (plus, minus) in orders.items()
        if f"@tiaot_reduce_{name}(" in text
    )


def refuse(called: Iterable[str]) -> None:
    """Look for what is empty among functions of Taichi's device runtime, and what these call.

    Raises:
        LoweringError: when there is some.
    """
    callees = _callees()
    reached: set[str] = set()
    waiting = list(called)
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += callees.get(name, ())
    for name in sorted(reached & PATCHED.keys()):
        raise LoweringError(f"the kernel {PATCHED[name]}")


def _without_reductions(task: str, along: bool) -> str:
    lines = [line for line in task.splitlines() if not re.match(r"declare .*@reduce_\w+\(", line)]
    text = "\n".join(_REDUCTION.sub(functools.partial(_atomic, along=along), line) for line in lines)
    for name in ("atomic_min_f32", "atomic_max_f32"):
        if f"call float @{name}(" in text and f"declare float @{name}(" not in text:
            text += f"\ndeclare float @{name}(float*, float)\n"
    return text


def _atomic(match: re.Match[str], along: bool) -> str:
    kind, operation, to, of = match["kind"], match["operation"], match["to"], match["of"]
    if kind == "float" and operation != "add":
        if along:  # the forward mode knows it by this name, and lets one thread at a time do it
            return f"call float @atomic_{operation}_f32(float* {to}, float {of})"
        return f"call float @tiaot_reduce_{operation}_f32(float* {to}, float {of})"
    return f"atomicrmw {'fadd' if kind == 'float' else operation} {kind}* {to}, {kind} {of} seq_cst, align 4"


def _see_others(task: str) -> str:
    """Let what a compare-and-exchange expects be read from where all threads see it: a plain load may be answered by a
    multiprocessor's own cache, which need not know what others have written, and the loop would go on for ever."""
    parts = []
    for text in re.split(r"^(?=define )", task, flags=re.MULTILINE):
        for value in re.findall(r"cmpxchg \w+\* %[\w.]+, \w+ (%[\w.]+),", text):
            cast = re.search(rf"^\s*{re.escape(value)} = bitcast \w+ (%[\w.]+) to ", text, flags=re.MULTILINE)
            loaded = re.escape(cast[1] if cast else value)
            text = re.sub(rf"^(\s*{loaded} = load )(?!volatile )", r"\1volatile ", text, flags=re.MULTILINE)
        parts.append(text)
    return "".join(parts)


@functools.cache
def _callees() -> dict[str, frozenset[str]]:
    """What each function of Taichi's device runtime calls."""
    found = {}
    for text in re.split(r"^(?=define )", runtime_text(RUNTIME, frozenset()), flags=re.MULTILINE):
        if match := re.match(r"define [^\n]*?@([\w.]+)\(", text):
            found[match[1]] = frozenset(re.findall(r"call [^\n]*?@([\w.]+)\(", text))
    return found
