"""Which kernels with a batch treat it sample by sample. The others get all samples of a call at once: whole kernels."""

from __future__ import annotations

from ..author.parameters import Parameter
from ..dtypes import SAMPLED
from ..taichi.trace import Trace


def by_samples(*traces: Trace) -> bool:
    """Whether traces of a kernel with a batch are lowered by a rows.py: those for blocks of rows are, at any rate."""
    return any(trace.block_rows is not None for trace in traces) or not any(
        obstacle(trace, parameter) for trace in traces for parameter in trace.parameters
    )


def obstacle(trace: Trace, parameter: Parameter) -> str:
    """What keeps a parameter from being an array of samples in lanes or rows, "" when nothing does."""
    if parameter.dtype != trace.variant.dtype or parameter.dtype not in SAMPLED:
        return f"has the element type {parameter.dtype} beside {trace.variant.dtype}"
    if parameter.element:
        return "has vectors or matrices for elements"
    if parameter.by_value:
        return "is passed by value"
    if parameter.role == "updated":
        return "is updated in place"
    if parameter.role == "result":
        return "is returned"
    if parameter.role == "kept":
        return "is a copy that the adjoint keeps"
    if parameter.role == "scratch" and trace.autodiff:
        return "is scratch of a kernel that Taichi differentiates"
    return ""
