"""Lower: an entry's trace -> its LLVM IR and an object file for one CPU level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...author.signature import Signature
from ...derivative.differentiate import differentiate
from ...ir import LoweringError
from ...taichi.trace import Trace
from ...target.compile import code_size, compile_text
from ...target.model import Cpu, Form
from ..samples import by_samples
from .rows import RowsEntry
from .whole import WholeEntry


@dataclass(frozen=True)
class LoweredEntry:
    """One entry at one CPU level. `symbol` is the entry's name without the level."""

    symbol: str
    level: str
    function: str
    workspace: str | None  # the name of its workspace function
    block_rows: int
    code_bytes: int
    object: bytes


def lower(
    signature: Signature, trace: Trace, primal: Trace, target: Cpu, level: Form, others: Sequence[Trace] = ()
) -> LoweredEntry:
    """Lower one traced entry for a CPU level.

    Args:
        primal: the forward trace of the same variant.
        level: one of the target's.
        others: the traces of the same entry for the target's other levels.

    Raises:
        LoweringError: when the kernel uses something that cannot be lowered.
    """
    function = f"{trace.symbol}_{level.name.rpartition('-')[2]}"
    if signature.batch and by_samples(trace, primal):
        entry: RowsEntry | WholeEntry = RowsEntry(signature, trace, primal, target, level.vector_bytes, others)
    elif others:
        raise LoweringError(f"{trace.kernel}: by_level is for kernels with a batch that are written for blocks of rows")
    else:
        entry = WholeEntry(signature, trace, primal, target)
    text = entry.text(function)
    if trace.along:
        text = differentiate(text, entry.shadows(function), target.header)
    workspace = None
    if entry.needs_workspace:
        workspace = function + "_workspace"
        text += "\n" + entry.workspace_function(workspace)
    twice = isinstance(entry, RowsEntry) and entry.in_registers
    image = compile_text(text, target, level, interleaving=not entry.has_many_sums, twice=twice)
    return LoweredEntry(trace.symbol, level.name, function, workspace, entry.block_rows, code_size(image), image)
