"""An operator under torch.func, forward-mode differentiation and double backward: itself and each derivative.

For inputs x, tangents t and cotangents v, each Function is linear in all but x, and they are each other's derivatives:

    Forward(x)     the kernel
    Jvp(x, t)      the derivative of Forward; backward in t it is Vjp, in x Hvp
    Vjp(x, v)      the backward of Forward; its derivative along x is Hvp; backward in v it is Jvp, in x Hvp
    Hvp(x, v, t)   the derivative of <v, Jvp(x, t)> along x; backward in t it is itself, by symmetry

What is left is refused: derivatives of Hvp along x, which are third ones, and the derivative of Jvp along x, which
takes a second derivative that no module has. Knows nothing of the dispatcher.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor

if TYPE_CHECKING:
    from ._torch_operator import Operator

Names = tuple[str, ...]


class Forward(torch.autograd.Function):
    """forward(operator, *inputs): the outputs."""

    @staticmethod
    def forward(operator: Operator, *tensors: Tensor) -> Any:
        return operator.forward(*tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.operator, *tensors = inputs
        _keep(ctx, tensors)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Any, ...]:
        operator: Operator = ctx.operator
        needed, inputs = ctx.needs_input_grad[1:], ctx.saved_tensors
        gradients = vjp(operator, needed, (*inputs, *_of_outputs(operator, inputs, cotangents)))
        return None, *operator.scatter(needed, gradients)

    @staticmethod
    def jvp(ctx: Any, _: Any, *tangents: Tensor | None) -> Any:
        operator: Operator = ctx.operator
        results = _jvp(operator, ctx.saved_tensors, _given(operator.signature.inputs, tangents))
        return results[0] if operator.single else results

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], operator: Operator, *tensors: Tensor) -> tuple[Any, Any]:
        def call(*each: Tensor) -> tuple[Tensor, ...]:
            return as_tuple(_apply(Forward, operator, *each))

        results = operator.map_forward(info, in_dims[1:], tensors, call)
        return (results[0], 0) if operator.single else (results, tuple(0 for _ in results))


class Vjp(torch.autograd.Function):
    """forward(operator, needed, *inputs, *cotangents): the gradients of the inputs that are needed."""

    @staticmethod
    def forward(operator: Operator, needed: tuple[bool, ...], *operands: Tensor) -> tuple[Tensor, ...]:
        return tuple(operator.vjp(needed, operands))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.operator, ctx.needed, *operands = inputs
        _keep(ctx, operands)

    @staticmethod
    def backward(ctx: Any, *tangents: Tensor | None) -> tuple[Any, ...]:
        operator: Operator = ctx.operator
        inputs, cotangents = _parted(operator, ctx.saved_tensors)
        of_inputs, of_cotangents = _parted(operator, ctx.needs_input_grad[2:])
        given = _given(_chosen(operator, ctx.needed), tangents)
        second = _hvp(operator, inputs, cotangents, given, _chosen(operator, of_inputs))
        changes: Sequence[Tensor | None] = [None] * len(cotangents)
        if any(of_cotangents):
            moved = _jvp(operator, inputs, given)
            changes = [each if wanted else None for each, wanted in zip(moved, of_cotangents, strict=True)]
        return None, None, *(second.get(name) for name in operator.signature.inputs), *changes

    @staticmethod
    def jvp(ctx: Any, _: Any, __: Any, *tangents: Tensor | None) -> tuple[Tensor, ...]:
        operator: Operator = ctx.operator
        inputs, cotangents = _parted(operator, ctx.saved_tensors)
        moved, turned = _parted(operator, tangents)
        names = _chosen(operator, ctx.needed)
        second = _hvp(operator, inputs, cotangents, _given(operator.signature.inputs, moved), names)
        first = vjp(operator, ctx.needed, (*inputs, *_whole(turned, cotangents))) if _any(turned) else ()
        return _sum([second[name] for name in names] if second else (), first)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], operator: Operator, needed: tuple[bool, ...], *operands: Tensor
    ) -> tuple[Any, Any]:
        results = operator.map_vjp(info, in_dims[2:], needed, operands, lambda *each: vjp(operator, needed, each))
        return results, tuple(0 for _ in results)


class Jvp(torch.autograd.Function):
    """forward(operator, wrt, *inputs, *tangents of those in wrt): the tangents of the outputs."""

    @staticmethod
    def forward(operator: Operator, wrt: Names, *operands: Tensor) -> tuple[Tensor, ...]:
        return tuple(operator.along("jvp", wrt, operands))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.operator, ctx.wrt, *operands = inputs
        _keep(ctx, operands)

    @staticmethod
    def backward(ctx: Any, *given_cotangents: Tensor | None) -> tuple[Any, ...]:
        operator: Operator = ctx.operator
        inputs, tangents = _parted(operator, ctx.saved_tensors)
        cotangents = _of_outputs(operator, inputs, given_cotangents)
        of_inputs, of_tangents = _parted(operator, ctx.needs_input_grad[2:])
        given = dict(zip(ctx.wrt, tangents, strict=True))
        second = _hvp(operator, inputs, cotangents, given, _chosen(operator, of_inputs))
        wanted = tuple(itertools.compress(ctx.wrt, of_tangents))
        needed = tuple(name in wanted for name in operator.signature.inputs)
        first: dict[str, Tensor] = {}
        if wanted:
            operator.check_gradients(needed)
            first = dict(zip(_chosen(operator, needed), vjp(operator, needed, (*inputs, *cotangents)), strict=True))
        names = operator.signature.inputs
        return None, None, *(second.get(name) for name in names), *(first.get(name) for name in ctx.wrt)

    @staticmethod
    def jvp(ctx: Any, _: Any, __: Any, *tangents: Tensor | None) -> tuple[Tensor, ...]:
        operator: Operator = ctx.operator
        inputs, own = _parted(operator, ctx.saved_tensors)
        moved, turned = _parted(operator, tangents)
        if _any(moved):
            _refuse_twice(operator)
        changes: tuple[Tensor, ...] = _apply(Jvp, operator, ctx.wrt, *inputs, *_whole(turned, own))
        return changes

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], operator: Operator, wrt: Names, *operands: Tensor) -> tuple[Any, Any]:
        results = operator.map_along(
            "jvp", info, in_dims[2:], wrt, operands, lambda *each: _apply(Jvp, operator, wrt, *each)
        )
        return results, tuple(0 for _ in results)


class Hvp(torch.autograd.Function):
    """forward(operator, wrt, *inputs, *cotangents, *tangents of the inputs in wrt): the tangents of the gradients of
    these inputs.
    """

    @staticmethod
    def forward(operator: Operator, wrt: Names, *operands: Tensor) -> tuple[Tensor, ...]:
        return tuple(operator.along("hvp", wrt, operands))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.operator, ctx.wrt, *operands = inputs
        _keep(ctx, operands)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Any, ...]:
        operator: Operator = ctx.operator
        inputs, rest = _parted(operator, ctx.saved_tensors)
        of_inputs, of_rest = _parted(operator, ctx.needs_input_grad[2:])
        count = len(operator.signature.outputs)
        if any(of_inputs):
            _refuse_third(operator)
        if any(of_rest[:count]):
            _refuse_twice(operator)
        changes = _whole(cotangents, rest[count:])
        products = _apply(Hvp, operator, ctx.wrt, *inputs, *rest[:count], *changes)
        return *(None for _ in (operator, ctx.wrt, *inputs, *rest[:count])), *products

    @staticmethod
    def jvp(ctx: Any, _: Any, __: Any, *tangents: Tensor | None) -> tuple[Tensor, ...]:
        operator: Operator = ctx.operator
        inputs, rest = _parted(operator, ctx.saved_tensors)
        moved, turned = _parted(operator, tangents)
        if _any(moved):
            _refuse_third(operator)
        count = len(operator.signature.outputs)
        parts: list[Sequence[Tensor]] = []
        for own in (slice(0, count), slice(count, None)):
            if _any(turned[own]):
                operands = list(rest)
                operands[own] = _whole(turned[own], rest[own])
                parts.append(_apply(Hvp, operator, ctx.wrt, *inputs, *operands))
        return _sum(*parts)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], operator: Operator, wrt: Names, *operands: Tensor) -> tuple[Any, Any]:
        results = operator.map_along(
            "hvp", info, in_dims[2:], wrt, operands, lambda *each: _apply(Hvp, operator, wrt, *each)
        )
        return results, tuple(0 for _ in results)


def vjp(operator: Operator, needed: Sequence[bool], operands: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The gradients of the inputs that are needed, which have derivatives of their own."""
    gradients: tuple[Tensor, ...] = _apply(Vjp, operator, tuple(needed), *operands)
    return gradients


def _apply(function: Any, *arguments: Any) -> Any:
    """A Function's `apply`, which torch declares no types of."""
    return function.apply(*arguments)


def _jvp(operator: Operator, inputs: Sequence[Tensor], given: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    """The tangents of the outputs, along those that are given."""
    wrt = operator.signature.needed("jvp", given)
    results: tuple[Tensor, ...] = _apply(Jvp, operator, wrt, *inputs, *_spread(operator, inputs, given, wrt))
    return results


def _hvp(
    operator: Operator,
    inputs: Sequence[Tensor],
    cotangents: Sequence[Tensor],
    given: Mapping[str, Tensor],
    names: Iterable[str],
) -> dict[str, Tensor]:
    """The tangents of the gradients of the named inputs, by name; none where nothing is given, or named."""
    asked = set(names)
    if not given or not asked:
        return {}
    wrt = operator.signature.needed("hvp", {*given, *asked})
    results = _apply(Hvp, operator, wrt, *inputs, *cotangents, *_spread(operator, inputs, given, wrt))
    return {name: result for name, result in zip(wrt, results, strict=True) if name in asked}


def _spread(operator: Operator, inputs: Sequence[Tensor], given: Mapping[str, Tensor], wrt: Names) -> list[Tensor]:
    """A tangent for each name in `wrt`: what is given for it, or zeros."""
    of_name = dict(zip(operator.signature.inputs, inputs, strict=True))
    return [given[name] if name in given else torch.zeros_like(of_name[name]) for name in wrt]


def _given(names: Names, tangents: Sequence[Tensor | None]) -> dict[str, Tensor]:
    return {name: tangent for name, tangent in zip(names, tangents, strict=True) if tangent is not None}


def _chosen(operator: Operator, wanted: Sequence[bool]) -> Names:
    return tuple(itertools.compress(operator.signature.inputs, wanted))


def _parted(operator: Operator, operands: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any]]:
    """Those of the inputs, and the rest."""
    count = len(operator.signature.inputs)
    return operands[:count], operands[count:]


def _whole(tangents: Sequence[Tensor | None], like: Sequence[Tensor]) -> list[Tensor]:
    return [torch.zeros_like(each) if t is None else t for t, each in zip(tangents, like, strict=True)]


def _of_outputs(operator: Operator, inputs: Sequence[Tensor], given: Sequence[Tensor | None]) -> Sequence[Tensor]:
    """The cotangents of all outputs: zeros for those of which there is none."""
    some = [each for each in given if each is not None]
    return some if len(some) == len(given) else _whole(given, operator.outputs_like(inputs))


def _any(tangents: Sequence[Tensor | None]) -> bool:
    return any(tangent is not None for tangent in tangents)


def _sum(*parts: Sequence[Tensor]) -> tuple[Tensor, ...]:
    some = [part for part in parts if part]
    return tuple(sum(each[1:], each[0]) for each in zip(*some, strict=True))


def _keep(ctx: Any, tensors: Sequence[Tensor]) -> None:
    ctx.set_materialize_grads(False)  # what does not move is told from zeros, which an entry might be missing for
    ctx.save_for_backward(*tensors)
    ctx.save_for_forward(*tensors)


def as_tuple(results: Any) -> tuple[Tensor, ...]:
    return results if isinstance(results, tuple) else (results,)


def _refuse_twice(operator: Operator) -> NoReturn:
    raise NotImplementedError(
        f"{operator.signature.label}: a forward-mode derivative of a forward-mode derivative was asked for, which no "
        "module has: take that of the gradient instead, as torch.func.hessian does, or the gradient of a jvp"
    )


def _refuse_third(operator: Operator) -> NoReturn:
    raise NotImplementedError(
        f"{operator.signature.label}: a third derivative was asked for; there are first and second ones"
    )
