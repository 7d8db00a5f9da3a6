"""Build: a kernel file -> a module file and its C header: trace, lower, describe, link. Does not try what it builds."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import multiprocessing
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import llvmlite.binding as llvm

from .author.declare import Family, Variant
from .author.signature import Signature
from .cache import Cache
from .computation import FORWARD, Computation
from .cuda.build import Devices, Key, build_for_cuda, value_inputs
from .entry.bounds import RECORD
from .entry.cpu.lower import LoweredEntry, lower
from .entry.device.lower import CudaEntry
from .ir import LoweringError
from .module.link import link
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
    doubts: list[str]  # what the gate is to find out, for an author that leaves it out
    makers: Mapping[str, list[str]]  # who made the adjoints of each kernel: "vjp by tiaot"
    checked: bool  # every index is
    cuda: CudaCode | None
    cuda_trial: bytes  # what the code for CUDA is tried with, where there is some and it was asked for


def _makers(traces: Iterable[Trace]) -> dict[str, list[str]]:
    """Who made the adjoints of each kernel, in words."""
    found: dict[str, dict[str, None]] = {}
    for trace in traces:
        if trace.wrt and not trace.along:
            maker = {"tiaot": "tiaot", "taichi": "Taichi"}[trace.derivative] if trace.autodiff else "its author"
            found.setdefault(trace.kernel, {})[f"{'gradient' if trace.on_state else 'vjp'} by {maker}"] = None
    return {name: list(makers) for name, makers in found.items()}


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
        traced.doubts,
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
