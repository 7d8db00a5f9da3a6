"""The gate: a module against the kernels that it was made of, before it is written.

The work is a child's (process.py).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Say = Callable[[str], None]

SECONDS = 60.0  # of the CPUs, for the trials of one kind, by default


class VerificationError(Exception):
    """A kernel's compiled code disagrees with Taichi's JIT or with finite differences; the message says where."""


@dataclass(frozen=True)
class Verification:
    """What was found of a module that agrees."""

    lines: dict[str, str]  # for each kernel what was compared and the largest errors, for people
    notes: list[str]  # what of the kernels was not checked, for the author


def verify(
    module: str | os.PathLike[str],
    source: str | os.PathLike[str],
    cuda_trial: bytes = b"",
    *,
    cache: Path | None = None,
    seconds: float = SECONDS,
    strict: bool = False,
    recorded: str | os.PathLike[str] = "",
    say: Say = lambda _: None,
) -> Verification:
    """Hold a module against the kernel file that it was made of, in child processes.

    Args:
        cuda_trial: what its code for CUDA is interpreted with (cuda/trial.py), to be held against the module's own.
        cache: a folder with what was traced and compiled before, for what is compiled here; None for none.
        seconds: how long the module may be tried, and Taichi's JIT beside it, in seconds of the CPUs.
        strict: whether a branch of a kernel that never ran is an error.
        recorded: a folder with recorded launches (record.py), which the kernels are tried with, too.
        say: is told, in a line, what is being done.

    Raises:
        VerificationError: with the kernel, the argument, the sizes and the error, for everything that disagrees.
    """
    with tempfile.TemporaryDirectory(prefix="tiaot-verify-") as folder:
        library = ""
        if cuda_trial:
            library = str(Path(folder, "cuda.so"))
            Path(library).write_bytes(cuda_trial)
        request = {
            "module": os.path.abspath(module),
            "source": os.path.abspath(source),
            "cuda_trial": library,
            "cache": "" if cache is None else os.path.abspath(cache),
            "seconds": seconds,
            "strict": strict,
            "recorded": os.path.abspath(recorded) if recorded else "",
            "folder": folder,
        }
        return _in_child([sys.executable, "-m", "tiaot.export.gate.process", json.dumps(request)], say)


def _in_child(command: list[str], say: Say) -> Verification:
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None and child.stderr is not None
        record: dict[str, Any] = {}
        for line in child.stdout:
            kind, _, text = line.rstrip("\n").partition(" ")
            if kind == "say":
                say(text)
            elif kind == "record":
                record = json.loads(text)
        said = child.stderr.read().strip()
    if child.returncode != 0:
        raise VerificationError(said or f"the verification ended with code {child.returncode}")
    return Verification(**record)
