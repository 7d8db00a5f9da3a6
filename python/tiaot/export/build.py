"""Build: a kernel file -> a module file and its C header. The whole path: trace, lower, describe, link."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import llvmlite.binding as llvm

from .author.declare import Family, Variant
from .author.signature import Signature
from .cache import Cache
from .computation import FORWARD, Computation, check_derivatives
from .cuda.build import Devices, Key, build_for_cuda, value_inputs
from .entry.bounds import RECORD
from .entry.cpu.lower import LoweredEntry, lower
from .entry.device.lower import CudaEntry
from .gate.verify import SECONDS, Verification, VerificationError, verify
from .ir import LoweringError
from .module.link import find_linker, link
from .module.plain import header, plain_functions, state_function
from .module.tables import CudaCode, VariantEntries, Versions, descriptor
from .state import Content, State
from .taichi.trace import CHECKED, CPU, Trace, along_tangents, trace_file
from .target import native
from .target.compile import compile_text
from .target.model import Cpu, Form

Say = Callable[[str], None]


@dataclass(frozen=True)
class Built:
    """What a kernel file declares, compiled: all that a module is linked from."""

    cpu: Cpu  # what it is compiled for
    families: list[Family]
    kernels: list[tuple[Family, list[VariantEntries]]]
    objects: list[bytes]
    state: State | None
    contents: list[Content]  # what a state starts with
    notes: list[str]  # what was left out, for the author
    makers: Mapping[str, list[str]]  # who made the adjoints of each kernel: "vjp by tiaot"
    checked: bool  # every index is
    cuda: CudaCode | None
    cuda_trial: bytes  # what the code for CUDA is tried with, where there is some and it was asked for


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
        derivatives: "jvp", "hvp" or both, for kernels that ask for neither in their decorator and can have them.
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
    return Exported(built.families, lines, [*built.notes, *verification.notes])


def _makers(traces: Iterable[Trace]) -> dict[str, list[str]]:
    """Who made the adjoints of each kernel, in words."""
    found: dict[str, dict[str, None]] = {}
    for trace in traces:
        if trace.wrt and not trace.along:
            maker = {"tiaot": "tiaot", "taichi": "Taichi"}[trace.derivative] if trace.autodiff else "its author"
            found.setdefault(trace.kernel, {})[f"{'gradient' if trace.on_state else 'vjp'} by {maker}"] = None
    return {name: list(makers) for name, makers in found.items()}


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


def build(
    source: str | os.PathLike[str],
    *,
    cpu: Cpu | None = None,
    jobs: int | None = None,
    cache: Path | None = None,
    cuda: Sequence[int] | None = None,
    gate: bool = False,
    checked: bool = False,
    derivatives: Sequence[str] = (),
    say: Say = lambda _: None,
) -> Built:
    """Trace and lower every kernel of a file; `export` says what is raised. `cpu` is this machine's kind where none is
    given."""
    cpu = cpu or native()
    if checked and cuda is not None:
        raise ValueError("--check-bounds is for CPUs: leave --cuda out")
    jobs = jobs or len(os.sched_getaffinity(0))
    say("tracing")
    traced = trace_file(source, cache, CHECKED if checked else CPU, derivatives)
    families, traces = traced.families, traced.traces
    signatures = {family.name: family.signature for family in families}
    traces = [*traces, *along_tangents(families, traces)]
    of_entry: dict[tuple[str, str, Computation], list[Trace]] = {}  # one for each stretch of CPU levels
    taken = {level.implementation for level in cpu.forms}
    traces = [trace for trace in traces if taken & set(trace.levels)]
    for trace in traces:
        of_entry.setdefault((trace.kernel, trace.variant.name, trace.computation), []).append(trace)
    requests = []
    for level in cpu.forms:
        for trace in traces:
            if level.implementation not in trace.levels:
                continue
            primals = of_entry[trace.kernel, trace.variant.name, FORWARD]
            primal = next(each for each in primals if each.levels == trace.levels)
            others = [
                each for each in of_entry[trace.kernel, trace.variant.name, trace.computation] if each is not trace
            ]
            requests.append((signatures[trace.kernel], trace, primal, others, cpu, level, cache))
    lowered = []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(requests)), mp_context=context) as processes:
        for entry in processes.map(_lower, requests):
            lowered.append(entry)
            say(f"compiling {len(lowered)} of {len(requests)}: {entry.function}")
        devices = Devices({}, None, [])
        if cuda is not None:
            devices = build_for_cuda(source, traced, cpu, cuda, processes, cache, jobs, gate, say)
    Cache(cache).prune()
    kernels = [
        (family, variants_of(family, [trace for _, trace, *_ in requests], lowered, devices.entries))
        for family in families
    ]
    objects = [*(entry.object for entry in lowered), *devices.objects]
    return Built(
        cpu,
        families,
        kernels,
        objects,
        traced.state,
        traced.contents,
        traced.notes,
        _makers(traces),
        checked,
        devices.code,
        devices.trial,
    )


def write(built: Built, target: str | os.PathLike[str], *, version: str, verification: Mapping[str, str]) -> None:
    """Link what was built into the module `target`, and write its header beside it.

    Args:
        verification: for each kernel how it was checked, for people; no part of the module's hash.

    Raises:
        LinkError: when there is no linker, or it fails.
    """
    name, cpu = module_name(target), built.cpu
    taichi = importlib.metadata.version("taichi")
    versions = Versions(version, taichi, ".".join(str(part) for part in llvm.llvm_version_info))
    objects = [*built.objects, compile_text(plain_functions(cpu, built.kernels), cpu, cpu.baseline)]
    if built.checked:
        objects.append(compile_text(RECORD, cpu, cpu.baseline))
    if built.state:
        objects.append(compile_text(state_function(name, built.state, built.contents), cpu, cpu.baseline))

    def described(digest: str, verified: Mapping[str, str]) -> str:
        return descriptor(name, cpu, digest, versions, built.kernels, built.state, verified, built.cuda, built.contents)

    # The hash covers all that is linked: the tables too, as they are without it.
    digest = hashlib.sha256()
    for data in (*objects, described("", {}).encode()):
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    hexadecimal = digest.hexdigest()
    objects.append(compile_text(described(hexadecimal, verification), cpu))
    link(objects, cpu, hexadecimal, version, target)
    file = Path(target)
    file.with_name(f"{name}.h").write_text(header(name, file.name, cpu, built.kernels, built.state))


def module_name(target: str | os.PathLike[str]) -> str:
    """The name of a module by its file: `springs` for `springs.tiaot.so`, and for `springs.so`."""
    return Path(target).name.removesuffix(".so").removesuffix(".tiaot")


def _lower(request: tuple[Signature, Trace, Trace, list[Trace], Cpu, Form, Path | None]) -> LoweredEntry:
    signature, trace, primal, others, cpu, level, folder = request
    return lower_cached(signature, trace, primal, cpu, level, folder, others)


def lower_cached(
    signature: Signature,
    trace: Trace,
    primal: Trace,
    cpu: Cpu,
    level: Form,
    folder: Path | None,
    others: Sequence[Trace] = (),
) -> LoweredEntry:
    """`lower`, but for what the cache in `folder` has.

    Raises:
        LoweringError: with the kernel's name, when it uses something that cannot be lowered.
    """
    cache = Cache(folder)
    key = ("lower", cpu.name, level.name, repr(signature), repr(trace), repr(primal), repr(list(others)))
    if (stored := cache.get(*key)) is not None:
        record, _, image = stored.partition(b"\n")
        return LoweredEntry(**json.loads(record), object=image)
    try:
        entry = lower(signature, trace, primal, cpu, level, others)
        record = {name: value for name, value in vars(entry).items() if name != "object"}
        cache.put(json.dumps(record).encode() + b"\n" + entry.object, *key)
        return entry
    except LoweringError as error:
        text = str(error)
        raise LoweringError(text if text.startswith(trace.kernel) else f"{trace.kernel}: {text}") from None


def _cuda_entry(
    on_cuda: Mapping[Key, CudaEntry | str], family: Family, variant: Variant, computation: Computation
) -> CudaEntry | str:
    """The code for CUDA of an entry, or why there is none; "" where none was asked for."""
    return on_cuda.get((family.name, variant.name, computation), "")


def variants_of(
    family: Family, traces: list[Trace], lowered: list[LoweredEntry], on_cuda: Mapping[Key, CudaEntry | str]
) -> list[VariantEntries]:
    """What the tables say of a family's variants. `lowered` has what became of each of `traces`, level after level."""
    by_entry: dict[tuple[str, Computation], list[LoweredEntry]] = {}
    autodiff = {}
    values = (
        value_inputs(family, [trace for trace in traces if trace.kernel == family.name]) if on_cuda else frozenset()
    )
    for trace, entry in zip(traces, lowered, strict=True):
        if trace.kernel == family.name:
            by_entry.setdefault((trace.variant.name, trace.computation), []).append(entry)
            autodiff[trace.variant.name] = trace.autodiff
    variants = []
    for variant in family.variants():
        entries = [(computation, by_entry[variant.name, computation]) for computation in family.entries]
        dtypes = {argument.name: family.dtype(argument.name, variant) for argument in family.signature.arguments}
        cuda = {each: _cuda_entry(on_cuda, family, variant, each) for each in family.entries}
        sizes = dict(variant.sizes)
        variants.append(
            VariantEntries(variant.name, variant.dtype, dtypes, sizes, autodiff[variant.name], entries, cuda, values)
        )
    return variants
