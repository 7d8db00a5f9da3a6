"""The signature of a kernel: its arguments, their symbolic shapes, the batch dimension. Knows no Taichi.

    x[n, 3], v[n, 3], dt -> x[n, 3], energy

`n` is a dimension of any size and `3` one of that size; `dt` is a scalar, a result `energy` too. An argument on both
sides, as `x`, is updated: it goes in as it was and comes out, in memory of its own, as the kernel leaves it. A side may
be empty, for a kernel over fields.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..dtypes import ELEMENT_TYPES

DTYPES = {each.name: each.code for each in ELEMENT_TYPES}
REAL_DTYPES = tuple(each.name for each in ELEMENT_TYPES if each.is_real)
ITEM_SIZES = {each.name: each.item for each in ELEMENT_TYPES}

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_ARGUMENT = re.compile(rf"\s*({_NAME})\s*(?:\[([^\[\]]*)\])?\s*")
_DIMENSION = re.compile(rf"{_NAME}|[1-9][0-9]*")


@dataclass(frozen=True)
class Argument:
    """One array of a signature: its name, the names of its dimensions, and whether the batch is the first of them."""

    name: str
    dims: tuple[str, ...]
    batched: bool

    @property
    def sample_dims(self) -> tuple[str, ...]:
        """The dimensions of what one sample sees: all but the batch."""
        return self.dims[1:] if self.batched else self.dims


@dataclass(frozen=True)
class Signature:
    """A parsed signature. `dims` holds every dimension once, in order of appearance."""

    text: str
    inputs: tuple[Argument, ...]
    outputs: tuple[Argument, ...]
    dims: tuple[str, ...]
    batch: str | None

    @property
    def arguments(self) -> tuple[Argument, ...]:
        return self.inputs + self.outputs

    @property
    def updated(self) -> frozenset[str]:
        """Names of the arguments that stand on both sides."""
        return frozenset(each.name for each in self.inputs) & frozenset(each.name for each in self.outputs)

    @property
    def literal_sizes(self) -> dict[str, int]:
        """The dimensions that are written as numbers, each by its name, which is that number."""
        return {dim: int(dim) for dim in self.dims if dim.isdigit()}

    def argument(self, name: str) -> Argument:
        """The argument of that name; KeyError when there is none."""
        for argument in self.arguments:
            if argument.name == name:
                return argument
        raise KeyError(name)

    def arrays(self, wrt: tuple[str, ...]) -> list[tuple[str, Argument]]:
        """(role, argument) of the arrays of an entry, in the order of module.h; () is the forward entry.

        Roles: "input", "output", "cotangent", "gradient". Outputs and gradients are written.
        """
        inputs = [("input", argument) for argument in self.inputs]
        if not wrt:
            return inputs + [("output", argument) for argument in self.outputs]
        cotangents = [("cotangent", argument) for argument in self.outputs]
        return inputs + cotangents + [("gradient", argument) for argument in self.inputs if argument.name in wrt]

    def wrt_mask(self, names: tuple[str, ...]) -> int:
        """The set of inputs as bits, input i in bit i, as the descriptor holds it."""
        return sum(1 << i for i, argument in enumerate(self.inputs) if argument.name in names)


def parse_signature(text: str, batch: str | None = None) -> Signature:
    """Parse `"x[B, n], W[m, n], b[m] -> y[B, m]"`.

    Args:
        text: arguments as `name[dim, ...]`, or `name` for a scalar, inputs before the arrow, outputs behind it. A
            dimension is a name or a number. A side may be empty.
        batch: the name of the batch dimension. Arguments that have it first are batched, the others are shared. None
            for a kernel that runs whole.

    Raises:
        ValueError: when the text is not of this form, a name appears twice on one side, or on both sides with other
            dimensions, an output's dimension is in no input, the batch dimension stands anywhere but first, or a kernel
            with a batch has an output without it.
    """
    if text.count("->") != 1:
        raise ValueError(f"signature {text!r}: expected 'inputs -> outputs' with one '->'")
    sides = [_parse_side(side, text, batch) for side in text.split("->")]
    inputs, outputs = sides
    for side in sides:
        names = [argument.name for argument in side]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"signature {text!r}: argument {name!r} appears twice")
    known = {argument.name: argument for argument in inputs}
    for argument in outputs:
        if known.get(argument.name, argument) != argument:
            raise ValueError(
                f"signature {text!r}: argument {argument.name!r} is updated, so it must have the same dimensions on "
                "both sides"
            )
    dims = tuple(dict.fromkeys(dim for argument in (*inputs, *outputs) for dim in argument.dims))
    settled = {dim for argument in inputs for dim in argument.dims}
    for argument in outputs:
        for dim in argument.dims:
            if dim not in settled and not dim.isdigit():
                raise ValueError(f"signature {text!r}: dimension {dim!r} of output {argument.name!r} is in no input")
        if batch is not None and not argument.batched:
            raise ValueError(f"signature {text!r}: output {argument.name!r} lacks the batch dimension {batch!r}")
    if batch is not None and batch not in settled:
        raise ValueError(f"signature {text!r}: no input has the batch dimension {batch!r}")
    return Signature(text, inputs, outputs, dims, batch)


def _parse_side(side: str, text: str, batch: str | None) -> tuple[Argument, ...]:
    arguments: list[Argument] = []
    if not side.strip():
        return ()
    position = 0
    while True:
        match = _ARGUMENT.match(side, position)
        if not match:
            raise ValueError(f"signature {text!r}: expected name[dim, ...] at {side[position:].strip()!r}")
        name, inside = match[1], (match[2] or "").strip()
        dims = tuple(dim.strip() for dim in inside.split(",")) if inside else ()
        for dim in dims:
            if not _DIMENSION.fullmatch(dim):
                raise ValueError(f"signature {text!r}: argument {name!r}: {dim!r} is not the name of a dimension")
        if batch in dims[1:]:
            raise ValueError(f"signature {text!r}: argument {name!r}: the batch dimension {batch!r} must come first")
        arguments.append(Argument(name, dims, bool(dims) and dims[0] == batch))
        position = match.end()
        if position == len(side):
            return tuple(arguments)
        if side[position] != ",":
            raise ValueError(f"signature {text!r}: expected ',' at {side[position:].strip()!r}")
        position += 1
