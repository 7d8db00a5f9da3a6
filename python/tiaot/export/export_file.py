"""Export: a kernel file -> a module file whose results are right. The whole path: build it, try it, write it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .author.declare import Family
from .build import Say, build, write
from .computation import check_derivatives
from .gate.verify import SECONDS, Verification, VerificationError, verify
from .module.link import find_linker
from .target import native
from .target.model import Cpu


@dataclass(frozen=True)
class Exported:
    """A module that was written, as it is told to its author."""

    families: list[Family]
    verification: Mapping[str, str]  # of each kernel how it was checked
    notes: list[str]  # what of the file is not in the module, and what else to know of it


def export(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    version: str,
    cpu: Cpu | None = None,
    jobs: int | None = None,
    gate: bool = True,
    gate_seconds: float = SECONDS,
    strict: bool = False,
    recorded: str | os.PathLike[str] = "",
    cache: Path | None = None,
    cuda: Sequence[int] | None = None,
    checked: bool = False,
    derivatives: Sequence[str] = (),
    say: Say = lambda _: None,
) -> Exported:
    """Compile every kernel of a file into one module, and write it when its results are right.

    Args:
        source: a Python file with Taichi kernels (`tiaot.export.kernel`, `tiaot.export.family`).
        target: the module to write, `NAME.tiaot.so` by custom; its header `NAME.h` is written beside it.
        version: the version of tiaot to record.
        cpu: what to compile for; by default this machine's kind of CPU. The code for another does not run here: what is
            held against the kernels is then the code for this machine that the same traces give.
        jobs: processes to use; by default one for each CPU that this process may run on.
        gate: whether the module is held against Taichi's JIT and finite differences first; what was found, or that it
            was not, is recorded in it.
        gate_seconds: how long the module, and Taichi's JIT beside it, may be tried for that.
        strict: whether a branch of a kernel that never ran meanwhile is an error.
        recorded: a folder with recorded launches (gate/record.py), which the kernels are tried with, too.
        cache: a folder with what was traced and compiled before, which is read and written; None for none.
        cuda: architectures to compile the kernels for, too: 90 is compute capability 9.0; None for the CPU alone.
        checked: whether an index out of range is an error of the call, for debugging: slow, and for CPUs alone.
        derivatives: some of computation.py's DERIVATIVES, for kernels that ask for none in their decorator and can have
            them.
        say: is told, in a line, what is being done.

    Raises:
        OutputError: when the module cannot be written there; before anything else is done.
        TraceError, LoweringError, LinkError, CompileError: when the kernels or the machine do not allow it; the
            message says why.
        VerificationError: when results disagree.
        ValueError: when the file declares no kernel, or a declaration cannot be right.
    """
    check_output(target)
    here = native()
    cpu = cpu or here
    find_linker(cpu)  # that there is one is to be known first
    asked = check_derivatives(derivatives)
    how = {"jobs": jobs, "cache": cache, "cuda": cuda, "checked": checked, "derivatives": asked, "say": say}
    built = build(source, cpu=cpu, gate=gate and cpu == here, **how)
    say("linking")
    verification = Verification({family.name: "not verified" for family in built.families}, [])
    if gate:
        with tempfile.TemporaryDirectory(prefix="tiaot-export-") as directory:
            candidate = Path(directory, Path(target).name)
            tried = built
            if cpu != here:
                tried = build(source, cpu=here, gate=True, **how)
            write(tried, candidate, version=version, verification={})
            try:
                verification = verify(
                    candidate,
                    source,
                    tried.cuda_trial,
                    cache=cache,
                    seconds=gate_seconds,
                    strict=strict,
                    recorded=recorded,
                    say=say,
                )
            except VerificationError as error:
                raise VerificationError(f"no module was written: {error}") from None
            if cpu != here:
                lines = {name: f"as code for {here.name}: {line}" for name, line in verification.lines.items()}
                verification = Verification(lines, verification.notes)
    lines = {name: "; ".join([line, *built.makers.get(name, [])]) for name, line in verification.lines.items()}
    write(built, target, version=version, verification=lines)
    notes = [*built.notes, *verification.notes, *([] if gate else built.doubts)]
    return Exported(built.families, lines, notes)


class SourceError(Exception):
    """There is no such kernel file or module."""


class OutputError(Exception):
    """The module cannot be written where it is to go; the message says why."""


def check_output(target: str | os.PathLike[str]) -> None:
    """Raises OutputError where a module cannot be written."""
    path = Path(target)
    if path.suffix != ".so":
        raise OutputError(f"{path}: expected the name of a module, NAME.so")
    if path.is_dir():
        raise OutputError(f"{path}: is a folder")
    folder = path.parent
    if not folder.is_dir():
        raise OutputError(f"{path}: there is no folder {str(folder)!r}: make it first (mkdir -p {folder})")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"{path}: the folder {str(folder)!r} cannot be written to")
