"""Build: a kernel file -> a module file and its C header. The whole path: trace, lower, describe, link."""

from __future__ import annotations

import hashlib
import importlib.metadata
import multiprocessing
import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import llvmlite.binding as llvm

from .declare import LEVELS, Family
from .link import link
from .lower import LoweredEntry, compile_text, lower
from .plain import header, plain_functions
from .signature import Signature
from .tables import VariantEntries, Versions, descriptor
from .trace import Trace, trace_file


def export(
    source: str | os.PathLike[str], target: str | os.PathLike[str], *, version: str, jobs: int | None = None
) -> None:
    """Compile every kernel of a file into one module.

    Args:
        source: a Python file with families of Taichi kernels (`tiaot.export.family`).
        target: the module to write, `NAME.so`; its header `NAME.h` is written beside it.
        version: the version of tiaot to record.
        jobs: processes to use; by default one for each CPU that this process may run on.

    Raises:
        TraceError, LoweringError, LinkError: when the kernels or the machine do not allow it; the message says why.
        ValueError: when the file declares no kernel, or a declaration cannot be right.
    """
    jobs = jobs or len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(jobs) as threads:
        levels = list(threads.map(lambda level: trace_file(source, level), LEVELS))
    families = levels[0][0]
    traces = [trace for _, level in levels for trace in level]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as processes:
        lowered = list(processes.map(_lower, _requests(families, traces)))
    kernels = [(family, _variants(family, traces, lowered)) for family in families]
    name = Path(target).stem
    taichi = importlib.metadata.version("taichi")
    versions = Versions(version, taichi, ".".join(str(part) for part in llvm.llvm_version_info))
    objects = [entry.object for entry in lowered]
    objects.append(compile_text(plain_functions(kernels)))
    # The hash covers all that is linked: the tables too, as they are without it.
    digest = hashlib.sha256()
    for data in (*objects, descriptor(name, "", versions, kernels).encode()):
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    objects.append(compile_text(descriptor(name, digest.hexdigest(), versions, kernels)))
    link(objects, digest.hexdigest(), target)
    Path(target).with_suffix(".h").write_text(header(name, kernels))


def _requests(families: list[Family], traces: list[Trace]) -> Iterable[tuple[Signature, Trace, Trace]]:
    signatures = {family.name: family.signature for family in families}
    primals = {(trace.kernel, trace.variant.name, trace.variant.level): trace for trace in traces if not trace.wrt}
    for trace in traces:
        yield signatures[trace.kernel], trace, primals[trace.kernel, trace.variant.name, trace.variant.level]


def _lower(request: tuple[Signature, Trace, Trace]) -> LoweredEntry:
    return lower(*request)


def _variants(family: Family, traces: list[Trace], lowered: list[LoweredEntry]) -> list[VariantEntries]:
    by_entry: dict[tuple[str, tuple[str, ...]], list[LoweredEntry]] = {}
    autodiff = {}
    for trace, entry in zip(traces, lowered, strict=True):
        if trace.kernel == family.name:
            by_entry.setdefault((trace.variant.name, trace.wrt), []).append(entry)
            autodiff[trace.variant.name] = trace.autodiff
    variants = []
    for variant in family.variants(LEVELS[0]):
        entries = [(wrt, by_entry[variant.name, wrt]) for wrt in ((), *family.wrt)]
        variants.append(
            VariantEntries(variant.name, variant.dtype, dict(variant.sizes), autodiff[variant.name], entries)
        )
    return variants
