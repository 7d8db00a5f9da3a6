"""LLVM IR: the model, its reader and writer, the passes on it; and Taichi's tasks, as lines of text."""

from .lines import (
    Definitions,
    Function,
    Task,
    TracedModule,
    contract,
    depends_on_order,
    parse,
    peel_constant,
    plain_additions,
    reassociate_sums,
    widen_offsets,
)
from .values import LoweringError

__all__ = [
    "Definitions",
    "Function",
    "LoweringError",
    "Task",
    "TracedModule",
    "contract",
    "depends_on_order",
    "parse",
    "peel_constant",
    "plain_additions",
    "reassociate_sums",
    "widen_offsets",
]
