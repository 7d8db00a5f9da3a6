"""Lower for CUDA: an entry's trace -> its kernels, optimised, and the object that launches them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from ...author.signature import Signature
from ...derivative.differentiate import differentiate
from ...ir import LoweringError
from ...taichi.trace import Trace
from ...target.compile import compile_text
from ...target.model import Cpu
from ...target.nvidia.ptx import optimize, overflows
from ...target.nvidia.target import NVIDIA
from ..samples import by_samples
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
    trace, primal = _adapted(trace), _adapted(primal)
    if signature.batch and trace.autodiff and by_samples(trace, primal):
        return CudaRowsEntry(signature, trace, primal, trace.symbol)
    return CudaWholeEntry(signature, trace, primal, trace.symbol)


def _adapted(trace: Trace) -> Trace:
    tasks = NVIDIA.adapt(trace.kernel, trace.tasks, along=bool(trace.along))
    return dataclasses.replace(trace, tasks=tasks)


def lower(signature: Signature, trace: Trace, primal: Trace, target: Cpu) -> CudaEntry:
    """Lower one traced entry, for devices beside CPUs of the target.

    Raises:
        LoweringError: when the kernel uses something that cannot be lowered.
    """
    entry = make_entry(signature, trace, primal)
    for values in STACKS:
        text = entry.text(values)
        if trace.along:
            text = differentiate(text, entry.shadows(), NVIDIA.header, inlined=True)
        device = optimize(NVIDIA.complete(text))
        if not overflows(device):
            break
    else:
        raise LoweringError(
            f"{trace.kernel}: a variable that changes in a loop keeps all of its values for the gradient, and how many "
            f"is not known at export, or more than {STACKS[-1]}: fix the loop's length (fixed=, or a literal), or "
            "write the gradient (vjp=)"
        )
    function = f"{trace.symbol}_cuda"
    host = compile_text(entry.host_text(function), target)
    names = entry.kernel_names()
    return CudaEntry(function, names, entry.any_rows, entry.order, device, host)
