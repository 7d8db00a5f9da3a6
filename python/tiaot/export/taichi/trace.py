"""Trace: Taichi kernels -> LLVM IR text that does not depend on this machine's CPU. Knows no Taichi.

Taichi lives in a child process (tracer.py): it keeps global state, writes IR into the working directory, and may abort.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..author.declare import LEVELS, Family, Variant
from ..author.parameters import Parameter
from ..author.signature import parse_signature
from ..computation import ALL_FIELDS, Computation, of_trace
from ..state import Content, State

# How many pieces an outermost loop is cut into, of at least 512 turns each: Taichi bakes the number in. The runtime
# hands the batch out itself, so that a kernel with a batch gets one.
PIECES = 16
INDEX = "index.json"  # what a traced file has, in the folder of its traces


class TraceError(Exception):
    """Taichi, or the kernel file, refused; the message is theirs."""


@dataclasses.dataclass(frozen=True)
class Trace:
    """One traced entry of one variant. `wrt` is empty for forward, and ALL_FIELDS for the adjoint of a kernel on state.

    Where `along` names inputs, the entry computes the derivative along tangents of these, too.
    """

    kernel: str
    variant: Variant
    wrt: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    autodiff: bool
    block_rows: int | None
    overwrites: bool  # it writes every element of outputs, of batched gradients and of what it reads of its scratch
    tasks: tuple[str, ...]  # IR of each top-level loop or stretch of statements, in the order that they run
    state: State | None = None  # what its fields are, of a kernel on state
    along: tuple[str, ...] = ()
    levels: tuple[str, ...] = LEVELS  # the CPU levels that it is for
    # Who made it, where it is an adjoint that its author has not written: one of computation.MAKERS. Taichi's finds
    # arrays as the kernel leaves them, ours as it finds them; both find fields as it leaves them.
    derivative: str = "taichi"
    for_tangents: Trace | None = None  # what the entry with tangents is made of instead

    @property
    def on_state(self) -> bool:
        """Whether it is the adjoint of a kernel on state, in place."""
        return self.wrt == ALL_FIELDS

    @property
    def symbol(self) -> str:
        return f"{self.kernel}_{self.variant.name}_{self.computation.name}"

    @property
    def computation(self) -> Computation:
        return of_trace(self.wrt, self.along)


@dataclasses.dataclass(frozen=True)
class Traced:
    """What a kernel file declares, traced."""

    families: list[Family]
    # Of each family in the order of `Family.variants`, of what is for the same CPU levels, and of `Family.entries`.
    traces: list[Trace]
    state: State | None
    contents: list[Content]  # what a state starts with
    notes: list[str]  # what was left out, for the author
    doubts: list[str]  # what the gate is to find out, for an author that leaves it out
    reused: list[str]  # names of the kernels whose traces the cache had
    computed: dict[str, str]  # of a file that used fields or kernels itself: what names stand for, as hashes
    refused: dict[tuple[str, ...], str]  # for CUDA: why there is no trace, by kernel, variant and names of the wrt


@dataclasses.dataclass(frozen=True)
class Mode:
    """How kernels are traced: what Taichi compiles for. `prepare` puts what it needs for that into a folder, and gives
    variables of its environment."""

    name: str  # "cpu", "cuda", or "checked": the CPU, with indices checked
    prepare: Callable[[Path], Mapping[str, str]] = lambda _: {}


CPU, CHECKED = Mode("cpu"), Mode("checked")


def trace_file(
    path: str | os.PathLike[str],
    cache: Path | None = None,
    mode: Mode = CPU,
    derivatives: Sequence[str] = (),
    kernels: Sequence[str] = (),
) -> Traced:
    """Trace every entry of every variant of every kernel that a file declares.

    Args:
        cache: the folder with what was traced before, from where unchanged kernels are taken.
        mode: what to compile for. What Taichi refuses for another than the CPU is told in `refused`.
        derivatives: those of kernels that ask for none themselves, where they can have them.
        kernels: the names of those to trace; all, where there are none.

    Raises:
        TraceError: with what Taichi or the file said.
    """
    with tempfile.TemporaryDirectory(prefix="tiaot-trace-") as directory:
        command = [
            sys.executable,
            "-m",
            "tiaot.export.taichi.tracer",
            os.path.abspath(path),
            directory,
            str(cache or ""),
        ]
        environment = {**os.environ, **mode.prepare(Path(directory))}
        command += [mode.name, ",".join(derivatives), ",".join(kernels)]
        child = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if child.returncode != 0 or not Path(directory, INDEX).exists():
            raise TraceError(_why(child, Path(directory)) or f"{path}: tracing failed")
        return read_traced(directory)


def read_traced(directory: str) -> Traced:
    """What tracer.py has written into a directory."""
    content = json.loads(Path(directory, INDEX).read_text())
    state = None if content["state"] is None else State.read(content["state"])
    families = [_read_family(record) for record in content["families"]]
    on_state = {family.name for family in families if family.state}
    read = [
        (record["for_tangents"], _read_trace(record, directory, state if record["kernel"] in on_state else None))
        for record in content["traces"]
    ]
    for_tangents = {_place(trace): trace for flag, trace in read if flag}
    traces = [
        dataclasses.replace(trace, for_tangents=for_tangents.get(_place(trace))) for flag, trace in read if not flag
    ]
    refused = {tuple(key.split("|")): why for key, why in content["refused"].items()}
    contents = [Content(offset, Path(directory, f"content.{offset}").read_bytes()) for offset in content["contents"]]
    return Traced(
        families,
        traces,
        state,
        contents,
        content["notes"],
        content["doubts"],
        content["reused"],
        content["computed"],
        refused,
    )


def _read_family(record: dict[str, Any]) -> Family:
    return Family(
        record["name"],
        parse_signature(record["signature"], record["batch"]),
        tuple(record["dtypes"]),
        record["argument_dtypes"],
        tuple(record["fixed"]),
        tuple(tuple(names) for names in record["wrt"]),
        record["doc"],
        record["state"],
        record["gradient"],
        record["gradient_refused"],
        tuple(record["derivatives"]),
        None if record["cuda_derivatives"] is None else tuple(record["cuda_derivatives"]),
    )


def _read_trace(record: dict[str, Any], directory: str, state: State | None) -> Trace:
    return Trace(
        record["kernel"],
        Variant(**record["variant"]),
        tuple(record["wrt"]),
        tuple(Parameter.read(item) for item in record["parameters"]),
        record["autodiff"],
        record["block_rows"],
        record["overwrites"],
        tuple(Path(directory, file).read_text() for file in record["files"]),
        state,
        levels=tuple(record["levels"]),
        derivative=record["derivative"],
    )


def _place(trace: Trace) -> tuple[str, str, tuple[str, ...], tuple[str, ...]]:
    """What tells the traces of one kind apart."""
    return trace.kernel, trace.variant.name, trace.wrt, trace.levels


def _why(child: subprocess.CompletedProcess[str], directory: Path) -> str:
    """Why a child did not trace: what it said, or what it was at when Taichi ended it."""
    told, doing = Path(directory, "error.txt"), Path(directory, "doing.json")
    if told.exists():
        return told.read_text()
    said = child.stderr.strip() or child.stdout.strip()
    status = f"signal {signal.Signals(-child.returncode).name}" if child.returncode < 0 else f"code {child.returncode}"
    if not doing.exists():
        return f"tracing ended with {status}:\n{said}"
    record = json.loads(doing.read_text())
    unknown = ["no reason is known: try with parts of the kernel left out" + record["otherwise"], "It said:", said]
    known = record["hints"] or unknown
    return "\n".join([f"Taichi's compiler ended ({status}) at {record['what']}:", *known])


def along_tangents(families: list[Family], traces: list[Trace]) -> list[Trace]:
    """The traces of the entries with tangents that the families ask for: those of the primal and the vjps, again."""
    asked = {(family.name, each) for family in families for each in family.entries if each.forward_mode}
    sets = {family.name: family.along for family in families}
    found = []
    for trace in traces:
        for along in (trace.wrt,) if trace.wrt else sets[trace.kernel]:
            again = dataclasses.replace(trace.for_tangents or trace, along=along)
            if (trace.kernel, again.computation) in asked:
                found.append(again)
    return found
