"""NVIDIA's GPUs: an architecture is a form. LLVM compiles for the lowest, to PTX; ptxas compiles that for each."""

from __future__ import annotations

from collections.abc import Iterable

from ...ir.passes.stacks import OVERFLOW
from ..model import FOR_ILP, Form, Gpu
from . import ARCHITECTURES, patched
from .loads import plain_loads
from .mathematics import approximate_divisions, use_own_tanh
from .threads import BLOCK, THREADS


class _Nvidia(Gpu):
    def refuse(self, called: Iterable[str]) -> None:
        patched.refuse(called)

    def adapt(self, kernel: str, tasks: Iterable[str], *, along: bool) -> tuple[str, ...]:
        completed = patched.complete(kernel, tasks, along=along)
        return tuple(plain_loads(use_own_tanh(task)) for task in completed)

    def complete(self, text: str) -> str:
        return approximate_divisions(text + patched.definitions(text))


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
    block=BLOCK,
    threads=THREADS,
)
