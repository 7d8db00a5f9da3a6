"""Lower for CUDA: an entry's trace -> its kernels, optimised, and the object that launches them."""

from __future__ import annotations

from dataclasses import dataclass

from ..entry import Entry
from ..ir import LoweringError
from ..lower import compile_text
from ..signature import Signature
from ..trace import Trace
from . import patched
from .compile import optimize, overflows
from .rows import CudaRowsEntry
from .whole import CudaWholeEntry

STACKS = (32, 128, 512)  # values that a stack may get room for: the least that is enough


@dataclass(frozen=True)
class CudaEntry:
    """One entry for CUDA. `kernels` are the names of its own kernels, `device` these as optimised IR."""

    function: str
    kernels: list[str]
    any_rows: bool
    order: int  # TIAOT_CUDA_ORDERED... of module.h
    device: str
    object: bytes

    @property
    def workspace(self) -> str:
        return f"{self.function}_workspace"


def make_entry(signature: Signature, trace: Trace, primal: Trace) -> CudaRowsEntry | CudaWholeEntry:
    """What writes an entry's code; `primal` is the forward trace of the same variant.

    Raises:
        LoweringError: when the kernel uses something that cannot be lowered.
    """
    if trace.block_rows is not None:
        raise LoweringError(
            f"{trace.kernel}: is written for blocks of rows: give the family a form for variant.target == 'cuda' with "
            "block_rows=None, whose loops are parallel"
        )
    trace, primal = patched.complete(trace), patched.complete(primal)
    if signature.batch and trace.autodiff and Entry.suits(trace, primal):
        return CudaRowsEntry(signature, trace, primal, trace.symbol)
    return CudaWholeEntry(signature, trace, primal, trace.symbol)


def device_text(entry: CudaRowsEntry | CudaWholeEntry, stack_values: int) -> str:
    """The kernels of an entry, with room for so many values in each stack, and what they call that is not Taichi's."""
    text = entry.text(stack_values)
    return text + patched.definitions(text)


def lower(signature: Signature, trace: Trace, primal: Trace) -> tuple[CudaEntry, CudaRowsEntry | CudaWholeEntry]:
    """Lower one traced entry; beside it, what wrote it.

    Raises:
        LoweringError: when the kernel uses something that cannot be lowered.
    """
    entry = make_entry(signature, trace, primal)
    for values in STACKS:
        device = optimize(device_text(entry, values))
        if not overflows(device):
            break
    else:
        raise LoweringError(
            f"{trace.kernel}: a variable that changes in a loop keeps all of its values for the gradient, and how many "
            f"is not known at export, or more than {STACKS[-1]}: fix the loop's length (fixed=, or a literal), or "
            "write the gradient (vjp=)"
        )
    function = f"{trace.symbol}_cuda"
    host = compile_text(entry.host_text(function))
    names = entry.kernel_names()
    return CudaEntry(function, names, entry.any_rows, entry.order, device, host), entry
