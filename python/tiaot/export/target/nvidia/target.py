"""NVIDIA's GPUs: an architecture is a form. LLVM compiles for the lowest, to PTX; ptxas compiles that for each."""

from __future__ import annotations

from collections.abc import Iterable

from ...ir.passes.stacks import OVERFLOW
from ..model import FOR_ILP, Form, Target
from . import ARCHITECTURES, patched


class _Nvidia(Target):
    def refuse(self, called: Iterable[str]) -> None:
        patched.refuse(called)


NVIDIA = _Nvidia(
    name="CUDA",
    triple="nvptx64-nvidia-cuda",
    data_layout="e-i64:64-i128:128-v16:16-v32:32-n16:32:64",
    forms=tuple(Form(f"sm_{each}", f"sm_{each}", 16, "+ptx75") for each in ARCHITECTURES),
    libraries=(patched.RUNTIME, "slim_libdevice.10.bc"),
    scheduling=FOR_ILP,
    vectorizes=False,
    stacks_grow=False,
    provided=frozenset({OVERFLOW}),
)
