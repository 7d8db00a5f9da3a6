"""Build for CUDA: a kernel file's entries, and the images of their kernels."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path

from ..author.declare import Family
from ..author.signature import Signature
from ..cache import Cache
from ..computation import FORWARD, Computation
from ..dtypes import SUMMED
from ..entry.arguments import SEED
from ..entry.device.copies import sum_kernel, sum_name
from ..entry.device.kernels import is_value
from ..entry.device.lower import CudaEntry, lower
from ..ir import LoweringError
from ..module.tables import CudaCode
from ..state import State
from ..taichi.trace import Trace, Traced, TraceError, along_tangents, trace_file
from ..target.model import Cpu
from ..target.nvidia.ptx import Image, assemble, emit_ptx, optimize, ptxas_version
from ..target.nvidia.threads import THREADS
from .standin import CUDA
from .trial import trial_library

Key = tuple[str, str, Computation]  # kernel, variant, what is computed


@dataclasses.dataclass(frozen=True)
class Devices:
    """What a module has for CUDA: its entries, or why there is none; the images; what is linked."""

    entries: dict[Key, CudaEntry | str]
    code: CudaCode | None
    objects: list[bytes]
    trial: bytes = b""  # gate/trial.py's library, where it was asked for


def build_for_cuda(
    source: str | os.PathLike[str],
    traced: Traced,
    target: Cpu,
    architectures: Sequence[int],
    processes: Executor,
    cache: Path | None,
    jobs: int,
    gate: bool,
    say: Callable[[str], None],
) -> Devices:
    """Trace, lower and assemble the kernels of a file for CUDA; `traced` are those for the CPU, which is a `target`.
    With `gate` there is what they are tried with, too.

    Raises:
        CompileError: when there is no ptxas, or it does not take what it is given.
        TraceError: when the file cannot be run.
    """
    version = ptxas_version()  # that there is one is to be known first
    say("tracing for CUDA")
    found = trace_file(source, cache, CUDA, kernels=[family.name for family in traced.families])
    refused = {(key[0], key[1], key[2:]): why for key, why in found.refused.items()}
    entries: dict[Key, CudaEntry | str] = {}
    for family in traced.families:
        for variant in family.variants():
            for each in family.entries:
                basis = () if each.kind == "jvp" else each.wrt
                if each not in family.for_cuda().entries:
                    entries[family.name, variant.name, each] = "its author left it out (cuda_derivatives)"
                elif (why := refused.get((family.name, variant.name, basis))) is not None:
                    entries[family.name, variant.name, each] = why
    if other := [name for name, each in traced.computed.items() if found.computed.get(name, each) != each]:
        raise TraceError(
            f"{source}: {', '.join(other)}: follows from fields or kernels that the file itself used as it ran, which "
            "for CUDA it cannot: compute it with NumPy, or leave --cuda out"
        )
    signatures = {family.name: family.signature for family in traced.families}
    traces = [_on_state(trace, found.state, traced.state) for trace in found.traces]
    traces += along_tangents([family.for_cuda() for family in traced.families], traces)
    primals = {(trace.kernel, trace.variant.name): trace for trace in traces if trace.computation == FORWARD}
    requests = [
        (signatures[trace.kernel], trace, primals[trace.kernel, trace.variant.name], target, cache)
        for trace in traces
        if (trace.kernel, trace.variant.name) in primals
    ]
    results = zip(requests, processes.map(_lower, requests), strict=True)
    for done, ((_, trace, *_), result) in enumerate(results, start=1):
        entries[trace.kernel, trace.variant.name, trace.computation] = result
        say(f"compiling for CUDA {done} of {len(requests)}: {trace.symbol}")
    lowered = [entry for entry in entries.values() if not isinstance(entry, str)]
    if not lowered:
        return Devices(entries, None, [])
    sum_names = [sum_name(dtype) for dtype in SUMMED]
    kernels = [*(kernel for entry in lowered for kernel in entry.kernels), *sum_names]
    extra = optimize("\n".join([THREADS, *(sum_kernel(dtype) for dtype in SUMMED)]))
    say(f"assembling for {len(architectures)} architectures")
    ptx = emit_ptx([*(entry.device for entry in lowered), extra])
    images = _assemble(ptx, architectures, version, cache, jobs)
    code = CudaCode(kernels, images, version)
    library = trial_library(target, lowered, kernels, ptx, traced.state) if gate else b""
    return Devices(entries, code, [entry.object for entry in lowered], library)


def _on_state(trace: Trace, found: State | None, state: State | None) -> Trace:
    """A trace over the fields as they lie in the module's state, which may have more of them.

    Raises:
        TraceError: when Taichi lays them out in another way for CUDA.
    """
    if trace.state is None:
        return trace
    assert found is not None and state is not None
    same = all(
        mine.get(node) == theirs[node]
        for mine, theirs in ((state.inner, found.inner), (state.dense, found.dense))
        for node in theirs
    )
    roots = all(node in state.roots and state.roots[node].bytes == root.bytes for node, root in found.roots.items())
    if not same or not roots:
        raise TraceError(f"{trace.kernel}: Taichi lays its fields out for CUDA as it does not for the CPU")
    return dataclasses.replace(trace, state=state)


def _assemble(ptx: str, architectures: Sequence[int], version: str, folder: Path | None, jobs: int) -> list[Image]:
    cache = Cache(folder)
    key = ("cuda images", version, repr(architectures), ptx)
    if (stored := cache.get(*key)) is not None:
        return [Image(**{**record, "data": base64.b64decode(record["data"])}) for record in json.loads(stored)]
    images = assemble(ptx, architectures, jobs)
    records = [{**vars(image), "data": base64.b64encode(image.data).decode()} for image in images]
    cache.put(json.dumps(records).encode(), *key)
    return images


def _lower(request: tuple[Signature, Trace, Trace, Cpu, Path | None]) -> CudaEntry | str:
    """One entry, or why it cannot be had."""
    signature, trace, primal, target, folder = request
    cache = Cache(folder)
    key = ("cuda lower", target.name, repr(signature), repr(trace), repr(primal))
    if (stored := cache.get(*key)) is not None:
        record = json.loads(stored)
        return CudaEntry(**{**record, "object": base64.b64decode(record["object"])})
    try:
        entry = lower(signature, trace, primal, target)
    except LoweringError as error:
        return str(error).removeprefix(f"{trace.kernel}: ")
    data = {"object": base64.b64encode(entry.object).decode()}
    cache.put(json.dumps({**vars(entry), **data}).encode(), *key)
    return entry


def value_inputs(family: Family, traces: Sequence[Trace]) -> frozenset[str]:
    """Names of the inputs that a kernel takes from the host's memory too."""
    signature = family.signature
    known = {parameter.name for trace in traces for parameter in trace.parameters}
    seed = {argument.name for argument in signature.inputs if argument.name == SEED and SEED not in known}
    return frozenset({p.name for trace in traces for p in trace.parameters if is_value(p, signature)} | seed)
