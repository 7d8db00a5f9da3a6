"""What the author of a kernel writes: a family of Taichi kernels behind one signature. Knows nothing of LLVM or files.

A family is a function that is given a `Variant` (an element type, the sizes that are fixed, the CPU level) and returns
the Taichi kernels for it:

    @family("x[B, n], W[m, n], b[m] -> y[B, m]", batch="B", fixed=[{"n": 8, "m": 4}])
    def dense_tanh(variant):
        @ti.kernel
        def forward(x: variant.array(2), W: variant.array(2), b: variant.array(1), y: variant.array(2)): ...
        return autodiff(forward)

A kernel's parameters say what they are by their names: an argument of the signature by its own name, the cotangent of
an output `y` and the gradient of an input `x` as `grad_y` and `grad_x`, and anything declared in `scratch`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .signature import DTYPES, ITEM_SIZES, Signature, parse_signature

LEVELS = ("x86-64-v2", "x86-64-v3", "x86-64-v4")
_VECTOR_BYTES = {"x86-64-v2": 16, "x86-64-v3": 32, "x86-64-v4": 32}  # v4 is planned as v3, see lower.py


@dataclass(frozen=True)
class Variant:
    """What one compiled form of a kernel is made for."""

    dtype: str
    sizes: Mapping[str, int]  # the dimensions that are fixed; empty for the dynamic variant
    level: str

    @property
    def name(self) -> str:
        fixed = "".join(f"_{dim}{size}" for dim, size in self.sizes.items())
        return self.dtype + (fixed or "_dynamic")

    @property
    def vector_length(self) -> int:
        """Number of elements in one vector register of this CPU level."""
        return _VECTOR_BYTES[self.level] // ITEM_SIZES[self.dtype]

    @property
    def type(self) -> Any:
        """The element type as Taichi names it: ti.f32 or ti.f64."""
        import taichi as ti

        return {"float32": ti.f32, "float64": ti.f64}[self.dtype]

    def array(self, rank: int) -> Any:
        """The annotation of a parameter: an ndarray of `rank` dimensions with this variant's element type."""
        import taichi as ti

        return ti.types.ndarray(dtype=self.type, ndim=rank)


@dataclass(frozen=True)
class Implementation:
    """The kernels of one variant. `vjp` is empty where Taichi's autodiff is to make it from `forward`."""

    forward: Any
    vjp: Mapping[tuple[str, ...], Any]
    scratch: Mapping[str, tuple[str, ...]]
    block_rows: int | None

    @property
    def autodiff(self) -> bool:
        return not self.vjp


def autodiff(forward: Any) -> Implementation:
    """An implementation whose vjp is made by Taichi's autodiff of `forward`, once for each set of inputs in `wrt`."""
    return Implementation(forward, {}, {}, None)


def written(
    forward: Any,
    vjp: Mapping[str, Any],
    *,
    scratch: Mapping[str, Sequence[str | int]] | None = None,
    block_rows: int,
) -> Implementation:
    """An implementation with backward kernels written by the author.

    Args:
        forward: the primal kernel; writes every element of every output.
        vjp: backward kernels by the inputs that they differentiate: `{"x": ..., "x W b": ...}`. A backward kernel
            writes every element of a batched gradient and *adds* to a shared one, which it finds zeroed or holding the
            sum of earlier blocks. It writes to nothing else but scratch.
        scratch: arrays that the kernels work in, by parameter name: their sizes, each a number or an expression of
            dimensions and `rows` in +, -, *, // and parentheses. Their content is undefined when a kernel starts.
        block_rows: the kernels are given at most this many samples at a time, and a batch is cut between threads at
            multiples of it.
    """
    shapes = {name: tuple(str(size) for size in sizes) for name, sizes in (scratch or {}).items()}
    return Implementation(forward, {tuple(names.split()): kernel for names, kernel in vjp.items()}, shapes, block_rows)


@dataclass(frozen=True)
class Family:
    """A kernel as declared. `make` is not part of it, so that it can be read where there is no Taichi."""

    name: str
    signature: Signature
    dtypes: tuple[str, ...]
    fixed: tuple[Mapping[str, int], ...]
    wrt: tuple[tuple[str, ...], ...]
    doc: str

    def variants(self, level: str) -> list[Variant]:
        """Every variant, for each element type the most specific first, as the descriptor wants them."""
        ordered = sorted(self.fixed, key=lambda sizes: -len(sizes))
        return [Variant(dtype, sizes, level) for dtype in self.dtypes for sizes in ordered]


Make = Callable[[Variant], Implementation]
_registered: list[tuple[Family, Make]] = []


def family(
    signature: str,
    *,
    batch: str | None = None,
    dtypes: Sequence[str] = ("float32", "float64"),
    fixed: Sequence[Mapping[str, int]] = ({},),
    wrt: Sequence[str] | None = None,
) -> Callable[[Make], Make]:
    """Declare a family of kernels; its name is the function's.

    Args:
        signature: the arguments and their shapes, `"x[B, n], W[m, n], b[m] -> y[B, m]"`.
        batch: the batch dimension, None for a kernel that runs whole.
        dtypes: the element types to make; all arrays of one call have the same.
        fixed: the variants of each element type, as the sizes that are fixed: `{}` is the one for any size.
        wrt: the sets of inputs that a vjp is compiled for, each as names with spaces between; another set is run by the
            smallest of these that contains it. By default each input alone, and all together.

    Raises:
        ValueError: when the signature or an option cannot be right; it names which.
    """
    parsed = parse_signature(signature, batch)
    inputs = tuple(argument.name for argument in parsed.inputs)
    if wrt is None:
        sets = tuple(dict.fromkeys([*((name,) for name in inputs), inputs]))
    else:
        sets = tuple(tuple(names.split()) for names in wrt)
    for names in sets:
        if not names or any(name not in inputs for name in names):
            raise ValueError(f"wrt: expected names of inputs {', '.join(inputs)}, got {' '.join(names)!r}")
    for dtype in dtypes:
        if dtype not in DTYPES:
            raise ValueError(f"dtypes: expected some of {', '.join(DTYPES)}, got {dtype!r}")
    for sizes in fixed:
        for dim, size in sizes.items():
            if dim not in parsed.dims or dim == batch:
                raise ValueError(f"fixed: {dim!r} is not a dimension of {signature!r} that can be fixed")
            if not isinstance(size, int) or size < 1:
                raise ValueError(f"fixed: {dim!r}: expected a whole number of at least 1, got {size!r}")

    def declare(make: Make) -> Make:
        declared = Family(make.__name__, parsed, tuple(dtypes), tuple(fixed), sets, inspect.getdoc(make) or "")
        _registered.append((declared, make))
        return make

    return declare


def load_families(path: str) -> list[tuple[Family, Make]]:
    """Run a kernel file and return the families that it declares, in order, each with what makes its kernels.

    Raises:
        ValueError: when it declares none, or two of one name.
    """
    import runpy

    start = len(_registered)
    runpy.run_path(path)
    families = _registered[start:]
    del _registered[start:]
    names = [declared.name for declared, _ in families]
    if not families:
        raise ValueError(f"{path}: declares no kernel: decorate one with tiaot.export.family")
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{path}: declares two kernels of the name {name!r}")
    return families
