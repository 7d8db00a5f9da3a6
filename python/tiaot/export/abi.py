"""Names and types that both the tables of a module and its code go by. See module.h."""

from __future__ import annotations

# The order of the additions of an entry for CUDA: TIAOT_CUDA_ORDERED...
ORDERED, ORDERED_IF_SMALL, UNORDERED = 0, 1, 2


def index_name(kernel: str) -> str:
    """The symbol of the number that a module gives a kernel of its code for CUDA."""
    return f"tiaot_cuda_index_{kernel}"
