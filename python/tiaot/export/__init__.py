"""The exporter: Taichi kernels -> one module file. Needs taichi and llvmlite; `import tiaot` never comes here."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .author.declare import ExportError, Implementation, Variant, by_level
from .author.decorate import autodiff, family, kernel, written
from .gate.record import recording

if TYPE_CHECKING:
    from .. import Module

__all__ = [
    "ExportError",
    "Implementation",
    "Variant",
    "autodiff",
    "by_level",
    "export",
    "family",
    "kernel",
    "recording",
    "written",
]


def export(
    kernels: Any,
    path: str | os.PathLike[str],
    *,
    verify: bool = True,
    cuda: Sequence[int] | None = None,
    jobs: int | None = None,
) -> Module:
    """Compile kernels of the running session, as of a notebook's cells, into a module, as `tiaot export` does a file.

    What the kernels follow from comes with them: functions, types, numbers, and fields with what they hold now.

    Args:
        kernels: a kernel or a family, or a sequence of them. One without a decorator has no arrays.
        path: the module to write, `NAME.so`; its header `NAME.h` is written beside it.
        verify: whether the module is held against Taichi's JIT and finite differences first.
        cuda: architectures to compile for, too: 90 is compute capability 9.0; None for the CPU alone.
        jobs: processes to use; by default one for each CPU that this process may run on.

    Returns:
        The module, opened. What was made and how it was checked is printed, notes are warnings.

    Raises:
        ExportError: when the kernels cannot be exported; the message says where and why.
        TypeError: when `kernels` is neither a kernel nor a sequence of kernels.
        ValueError: when the text of a kernel is not to be had, or no variable holds it.
    """
    from .. import open as open_module
    from .author.session import export_in_child, write_kernel_file

    chosen = list(kernels) if isinstance(kernels, list | tuple) else [kernels]
    options = [] if verify else ["--no-verify"]
    options += [] if cuda is None else [f"--cuda={','.join(f'sm_{each}' for each in cuda)}"]
    options += [] if jobs is None else [f"--jobs={jobs}"]
    with tempfile.TemporaryDirectory(prefix="tiaot-session-") as folder:
        for note in export_in_child(write_kernel_file(chosen, Path(folder)), path, options):
            warnings.warn(note, stacklevel=2)
    return open_module(path)
