"""The twin: the kernels of a file with all of their real numbers in float64, through the exporter's own path.

The gate holds gradients against slopes in it, where these are exact to some ten digits: a module in float32 has the
same derivative up to rounding, which its slopes would drown in. It is made in the process that calls this, whose Taichi
then knows float64 only.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..author.declare import Declaration
from ..author.kernel_file import KernelFile
from ..author.parameters import is_template, real_types, taichi_type
from ..author.signature import REAL_DTYPES
from ..computation import FORWARD
from ..dtypes import ELEMENT_TYPES
from ..taichi.trace import Traced, TraceError, along_tangents, read_traced
from ..taichi.tracer import load, write_traces

_WHOLE_FROM_REAL = re.compile(r"\bfpto[su]i\b")
# As Taichi names the blocks of a condition and of the body of a loop; it makes selections of some conditions.
_BRANCH = re.compile(r"label %(true_block|while_|for_loop_body\d)|= select ")


@dataclass(frozen=True)
class Facts:
    """What only the code of a kernel tells."""

    casts: bool  # it makes whole numbers of real ones: any real number may be an index
    branches: bool  # it goes several ways: conditions, or loops within loops
    stacks: bool  # its adjoint keeps values on Taichi's stack
    in_place: bool  # Taichi made the adjoint, and the kernel updates arrays or fields


def widen_taichi() -> None:
    """From here on Taichi's names for real types all mean float64, for files that are run later."""
    import taichi as ti
    from taichi.math import mathimpl

    for each in ELEMENT_TYPES:
        if each.is_real:
            setattr(ti, each.taichi, ti.f64)
            setattr(ti, each.name, ti.f64)
    for size in (2, 3, 4):
        vector, matrix = ti.types.vector(size, ti.f64), ti.types.matrix(size, size, ti.f64)
        for module in (ti.math, mathimpl):
            setattr(module, f"vec{size}", vector)
            setattr(module, f"mat{size}", matrix)


def load_wide(path: str) -> tuple[KernelFile, dict[str, Any] | None]:
    """Run a kernel file with float64 in place of every real type: in annotations, fields and numbers without a type."""
    import taichi as ti

    widen_taichi()
    with _wide_fields():
        file, contents = load(path)
    ti.lang.impl.get_runtime().set_default_fp(ti.f64)  # whatever the file asked for
    ti.lang.impl.current_cfg().default_fp = ti.f64
    return replace(file, declarations=tuple(map(_widened, file.declarations))), contents


@contextlib.contextmanager
def _wide_fields() -> Iterator[None]:
    import taichi as ti
    from taichi.lang import impl

    narrow = (*real_types(), float)
    original = impl.create_field_member

    def create(dtype: Any, *arguments: Any, **options: Any) -> Any:
        return original(ti.f64 if dtype in narrow else dtype, *arguments, **options)

    impl.create_field_member = create
    try:
        yield
    finally:
        impl.create_field_member = original


def _widened(declaration: Declaration) -> Declaration:
    family = declaration.family
    types = {name: "float64" if dtype in REAL_DTYPES else dtype for name, dtype in family.argument_dtypes.items()}
    if declaration.kernel is not None:
        implementation = declaration.make(family.variants()[0])
        whole = {name for name, dtype in types.items() if dtype not in REAL_DTYPES}
        for kernel in (implementation.forward, *implementation.vjp.values()):
            _widen_annotations(kernel, whole)
    return replace(declaration, family=replace(family, dtypes=("float64",), argument_dtypes=types))


def _widen_annotations(kernel: Any, whole: set[str]) -> None:
    """Makes float64 of the real types in a kernel's annotations, before it is compiled; not of the names in `whole`."""
    import taichi as ti
    from taichi.lang.matrix import MatrixType
    from taichi.types.ndarray_type import NdarrayType

    real = (*real_types(), float)

    def wide(type_: Any) -> Any:
        if isinstance(type_, MatrixType):
            if type_.dtype is not None and type_.dtype not in real:
                return type_
            return taichi_type("float64", (type_.n,) if type_.ndim == 1 else (type_.n, type_.m))
        return ti.f64 if type_ is None or type_ in real else type_

    for argument in kernel._primal.arguments:
        if is_template(argument) or argument.name in whole or argument.name.removeprefix("grad_") in whole:
            continue
        if isinstance(argument.annotation, NdarrayType):
            argument.annotation.dtype = wide(argument.annotation.dtype)
        else:
            argument.annotation = wide(argument.annotation)


def covering(sets: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
    """Of sets of inputs those that no other contains: Taichi's adjoint for more inputs has that for fewer in it."""
    kept: list[tuple[str, ...]] = []
    for names in sorted(sets, key=len, reverse=True):
        if not any(set(names) <= set(each) for each in kept):
            kept.append(names)
    return tuple(kept)


def trace_twin(
    path: str,
    file: KernelFile,
    contents: Mapping[str, Any] | None,
    differentiated: Mapping[str, bool],
    cache: Path | None,
) -> tuple[Traced, dict[str, Facts]]:
    """Trace a file that `load_wide` has loaded, into the working directory.

    Args:
        differentiated: for each kernel of the module whether it has a gradient; for others only the forward is traced.

    Raises:
        TraceError: when a kernel is not to be had in float64.
    """
    declarations = []
    for declaration in file.declarations:
        family = declaration.family
        if family.name not in differentiated:
            continue
        if not differentiated[family.name]:
            declarations.append(replace(declaration, family=replace(family, wrt=()), wrt=()))
        elif family.derivatives or any(declaration.make(variant).vjp for variant in family.variants()):
            declarations.append(declaration)
        else:
            declarations.append(replace(declaration, family=replace(family, wrt=covering(family.wrt))))
    try:
        write_traces(path, replace(file, declarations=tuple(declarations)), contents, cache, kind=" in float64")
    except Exception as error:
        raise TraceError(
            f"{path}: its kernels do not compile with float64 for every real number, in which their gradients are "
            f"checked: {error}\nLet them take their types from the arguments, or export with --no-verify."
        ) from error
    traced = read_traced(os.getcwd())
    return traced, {family.name: _facts(family.name, traced) for family in traced.families}


def _facts(name: str, traced: Traced) -> Facts:
    traces = [trace for trace in traced.traces if trace.kernel == name]
    forward = [text for trace in traces if not trace.wrt for text in trace.tasks]
    backward = [text for trace in traces if trace.wrt for text in trace.tasks]
    written = any(not trace.autodiff for trace in traces)
    return Facts(
        any(_WHOLE_FROM_REAL.search(text) for text in forward),
        any(_BRANCH.search(text) for text in [*forward, *(backward if written else [])]),
        any("@stack_init(" in text for text in backward),
        any(trace.on_state or any(each.role == "updated" for each in trace.parameters) for trace in traces),
    )


def build_twin(traced: Traced, target: Path, cache: Path | None) -> None:
    """Compile and link the kernels that have a derivative into the module file `target`.

    Raises:
        LoweringError, LinkError: when that cannot be.
    """
    from ..build import lower_cached, variants_of
    from ..module.link import link
    from ..module.tables import Versions, descriptor
    from ..target import native
    from ..target.compile import compile_text

    cpu = native()
    level = cpu.forms[0]  # every machine runs it, and without FMA, as x86-64-v2 is, its rounding is the simplest
    families = [family for family in traced.families if family.differentiated]
    names = {family.name for family in families}
    traces = [trace for trace in traced.traces if trace.kernel in names and level.implementation in trace.levels]
    traces += along_tangents(families, traces)
    signatures = {family.name: family.signature for family in families}
    primals = {(trace.kernel, trace.variant.name): trace for trace in traces if trace.computation == FORWARD}
    lowered = [
        lower_cached(signatures[trace.kernel], trace, primals[trace.kernel, trace.variant.name], cpu, level, cache)
        for trace in traces
    ]
    # The tables have a place for each level: all are the one that there is.
    entries = [replace(entry, level=each.name) for each in cpu.forms for entry in lowered]
    kernels = [(family, variants_of(family, traces * len(cpu.forms), entries, {})) for family in families]
    digest = "0" * 64
    described = descriptor(target.stem, cpu, digest, Versions("", "", ""), kernels, traced.state, {}, None)
    link([*(entry.object for entry in lowered), compile_text(described, cpu)], cpu, digest, "", target)
