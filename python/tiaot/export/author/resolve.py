"""What a decorator was given -> the declaration of a kernel, held against the Taichi kernel. Runs no file."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from ..computation import check_cuda_derivatives, check_derivative, check_derivatives
from ..dtypes import SAMPLED
from .declare import Declaration, Family, Implementation, scratch_shapes
from .decorate import Request
from .parameters import argument_dtypes, derive_signature, is_array, is_template
from .signature import REAL_DTYPES, Signature, parse_signature


def resolve(request: Request) -> Declaration:
    """The declaration that a decorator asked for.

    Raises:
        ValueError: when the signature or an option cannot be right, or does not fit the kernel; it names which.
    """
    return (_family if request.is_family else _kernel)(request, **request.options)


def _family(
    request: Request,
    signature: str,
    batch: str | None,
    dtypes: Sequence[str],
    fixed: Sequence[Mapping[str, int]],
    wrt: Sequence[str] | None,
    sizes: Sequence[Mapping[str, int]] | None,
    draw: Mapping[str, Any] | None,
    finite_differences: bool,
    derivatives: Sequence[str],
    cuda_derivatives: Sequence[str] | None,
    derivative: str | None,
) -> Declaration:
    make = request.decorated
    parsed = parse_signature(signature, batch)
    sets = _sets_of_inputs(parsed, wrt, [argument.name for argument in parsed.inputs])
    for dtype in dtypes:
        if dtype not in SAMPLED:
            raise ValueError(f"dtypes: expected some of {', '.join(SAMPLED)}, got {dtype!r}")
    _check_fixed(parsed, fixed)
    _check_sizes(parsed, sizes)
    _check_names("draw", tuple(draw or ()), parsed)
    asked = check_derivatives(derivatives)
    on_cuda = check_cuda_derivatives(cuda_derivatives, asked)
    doc = inspect.getdoc(make) or ""
    family = Family(
        make.__name__,
        parsed,
        tuple(dtypes),
        {},
        tuple(fixed),
        sets,
        doc,
        derivatives=asked,
        cuda_derivatives=on_cuda,
    )
    chosen = None if sizes is None else tuple(sizes)
    return Declaration(
        family,
        make,
        chosen,
        dict(draw or {}),
        finite_differences,
        place=request.place,
        derivative=check_derivative(derivative),
    )


def _kernel(
    request: Request,
    signature: str | None,
    batch: str | None,
    wrt: Sequence[str] | None,
    fixed: Sequence[Mapping[str, int]],
    constants: Mapping[str, Any] | None,
    dtypes: Mapping[str, str] | None,
    vjp: Mapping[str, Any] | None,
    scratch: Mapping[str, Sequence[str | int]] | None,
    sizes: Sequence[Mapping[str, int]] | None,
    draw: Mapping[str, Any] | None,
    finite_differences: bool,
    derivatives: Sequence[str],
    cuda_derivatives: Sequence[str] | None,
    derivative: str | None,
) -> Declaration:
    decorated = request.decorated
    parsed = parse_signature(derive_signature(decorated) if signature is None else signature, batch)
    _check_fixed(parsed, fixed)
    _check_sizes(parsed, sizes)
    types = argument_dtypes(decorated, parsed, dtypes or {})
    able = [
        each.name
        for each in parsed.inputs
        if types[each.name] in REAL_DTYPES and not _without_gradient(decorated, each.name, vjp)
    ]
    real = [types[each.name] for each in parsed.arguments if types[each.name] in REAL_DTYPES]
    sets = _sets_of_inputs(parsed, list(vjp) if vjp and wrt is None else wrt, able)
    if sets:
        _check_cotangents(decorated, parsed, types)
    asked = check_derivatives(derivatives)
    on_cuda = check_cuda_derivatives(cuda_derivatives, asked)
    if asked:
        _check_tangents(decorated, parsed, types)
    family = Family(
        decorated.__name__,
        parsed,
        (real[0] if real else "float32",),
        types,
        tuple(fixed),
        sets,
        inspect.getdoc(decorated._primal.func) or "",
        derivatives=asked,
        cuda_derivatives=on_cuda,
    )
    given = dict(constants or {})
    if hasattr(decorated, "_kernel_owner"):  # a method: Taichi takes its instance for a template
        given[decorated._primal.arguments[0].name] = decorated._kernel_owner
    backward = {tuple(names.split()): each for names, each in (vjp or {}).items()}
    implementation = Implementation(decorated, backward, scratch_shapes(scratch), None, given)
    return Declaration(
        family,
        lambda variant: implementation,
        None if sizes is None else tuple(sizes),
        dict(draw or {}),
        finite_differences,
        decorated,
        None if wrt is None else tuple(wrt),
        place=request.place,
        derived=signature is None,
        derivative=check_derivative(derivative),
    )


def _check_tangents(decorated: Any, signature: Signature, types: Mapping[str, str]) -> None:
    """ValueError for an output of a kernel that is to have derivatives along tangents, and cannot."""
    for each in signature.outputs:
        if types[each.name] not in REAL_DTYPES:
            raise ValueError(
                f"{decorated.__name__}: output {each.name!r} has whole numbers and so no tangent: leave derivatives "
                "out, or compute it in a kernel of its own"
            )


def _check_cotangents(decorated: Any, parsed: Signature, types: Mapping[str, str]) -> None:
    """ValueError for an output of a kernel with a gradient that can have no cotangent."""
    parameters = {each.name for each in decorated._primal.arguments}
    if any(each.name not in parameters for each in parsed.outputs):
        raise ValueError(
            f"{decorated.__name__}: returns a value, which has no gradient: write it to an output array, or give wrt=[]"
        )
    for each in parsed.outputs:
        if types[each.name] not in REAL_DTYPES:
            raise ValueError(
                f"{decorated.__name__}: output {each.name!r} has whole numbers and so no cotangent: a kernel "
                "with such an output has no vjp; give wrt=[], or compute it in a kernel of its own"
            )


def _sets_of_inputs(
    signature: Signature, wrt: Sequence[str] | None, able: Sequence[str]
) -> tuple[tuple[str, ...], ...]:
    """The sets of inputs to compile a vjp for; `able` are the inputs that can have a gradient."""
    if wrt is None:
        return tuple(dict.fromkeys([*((name,) for name in able), tuple(able)])) if able else ()
    sets = tuple(tuple(names.split()) for names in wrt)
    for names in sets:
        if not names or any(name not in able for name in names):
            raise ValueError(
                f"wrt: expected names of inputs that can have a gradient ({', '.join(able)}), got {' '.join(names)!r}"
            )
        if list(names) != [argument.name for argument in signature.inputs if argument.name in names]:
            raise ValueError(f"wrt: expected each name once, in the order of the signature, got {' '.join(names)!r}")
    return sets


def _check_fixed(signature: Signature, fixed: Sequence[Mapping[str, int]]) -> None:
    for sizes in fixed:
        for dim, size in sizes.items():
            if dim not in signature.dims or dim == signature.batch or dim.isdigit():
                raise ValueError(f"fixed: {dim!r} is not a dimension of {signature.text!r} that can be fixed")
            if not isinstance(size, int) or size < 1:
                raise ValueError(f"fixed: {dim!r}: expected a whole number of at least 1, got {size!r}")


def _check_names(option: str, names: Sequence[str], signature: Signature) -> None:
    known = [argument.name for argument in signature.inputs]
    for name in names:
        if name not in known:
            raise ValueError(f"{option}: expected names of inputs {', '.join(known)}, got {name!r}")


def _check_sizes(signature: Signature, sizes: Sequence[Mapping[str, int]] | None) -> None:
    named = [dim for dim in signature.dims if not dim.isdigit()]
    for each in sizes or ():
        for dim in named:
            if not isinstance(each.get(dim), int) or each[dim] < 0:
                raise ValueError(f"sizes: expected a whole number for each of {', '.join(named)}, got {dict(each)!r}")


def _without_gradient(decorated: Any, name: str, vjp: Mapping[str, Any] | None) -> bool:
    """Whether Taichi gives an argument no gradient: one passed by value, or an array that is annotated so.

    A kernel written by hand may give one.
    """
    return not vjp and any(
        each.name == name and (not is_array(each) or each.annotation.needs_grad is False)
        for each in decorated._primal.arguments
    )


def check_templates(declaration: Declaration) -> None:
    """ValueError for a template parameter without a value, which only a decorator can give it."""
    given = declaration.make(declaration.family.variants()[0]).constants
    for each in declaration.kernel._primal.arguments:
        if is_template(each) and each.name not in given:
            raise ValueError(
                f"{declaration.family.name}: parameter {each.name!r} is a template: decorate the kernel with "
                "tiaot.export.kernel, and its value in constants={...}"
            )
