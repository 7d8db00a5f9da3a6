"""A kernel as it is declared: its signature, its variants, what makes its Taichi kernels. Knows no files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..computation import ALL_FIELDS, DERIVATIVES, FORWARD, GRAD, Computation, sets_along
from ..dtypes import ELEMENT_TYPES
from ..target.x86_64 import X86_64
from .signature import REAL_DTYPES, Signature, parse_signature


class ExportError(Exception):
    """Kernels of a session cannot be exported; the message says where and why."""


# Those that an implementation may be for: x86-64's. A level of another CPU takes what one of these takes.
LEVELS = tuple(level.name for level in X86_64.forms)


@dataclass(frozen=True)
class Variant:
    """What one compiled form of a kernel is made for."""

    dtype: str
    sizes: Mapping[str, int]  # the dimensions that are fixed; empty for the dynamic variant
    target: str = "cpu"  # or "cuda": what its code is to run on

    @property
    def name(self) -> str:
        fixed = "".join(f"_{dim}{size}" for dim, size in self.sizes.items() if not dim.isdigit())
        return self.dtype + (fixed or "_dynamic")

    @property
    def type(self) -> Any:
        """The element type as Taichi names it: ti.f32 or ti.f64."""
        import taichi as ti

        return getattr(ti, next(each.taichi for each in ELEMENT_TYPES if each.name == self.dtype))

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
    constants: Mapping[str, Any] = field(default_factory=dict)  # template parameters
    # The kernels write every element of outputs, of batched gradients and of what they read of their scratch.
    overwrites: bool = False
    higher: Mapping[str, Implementation] = field(default_factory=dict)  # others, by the CPU level that each begins at
    along: Implementation | None = None  # what entries with tangents are made of instead

    @property
    def autodiff(self) -> bool:
        return not self.vjp

    def by_levels(self) -> list[tuple[tuple[str, ...], Implementation]]:
        """The implementations, each with the CPU levels that it is for."""
        chosen: list[tuple[tuple[str, ...], Implementation]] = [((), self)]
        for level in LEVELS:
            if level in self.higher:
                chosen.append(((), self.higher[level]))
            levels, implementation = chosen[-1]
            chosen[-1] = ((*levels, level), implementation)
        return chosen


def scratch_shapes(scratch: Mapping[str, Sequence[str | int]] | None) -> dict[str, tuple[str, ...]]:
    """The sizes of scratch arrays as expressions, by parameter name."""
    return {name: tuple(str(size) for size in sizes) for name, sizes in (scratch or {}).items()}


def by_level(implementations: Mapping[str, Implementation]) -> Implementation:
    """An implementation that depends on the CPU level, as one with the sizes of register tiles as parameters does.

        return by_level({"x86-64-v2": tiled(variant, rows=4), "x86-64-v4": tiled(variant, rows=8)})

    Args:
        implementations: what `written` gave, by the lowest level that it is for; "x86-64-v2" is one of these.

    Raises:
        ValueError: for another level, for an implementation that is not `written`, and where they differ in the vjps
            that they have or in `block_rows`.
    """
    lowest = implementations.get(LEVELS[0])
    if lowest is None or not set(implementations) <= set(LEVELS):
        raise ValueError(
            f"by_level: expected implementations by some of {', '.join(LEVELS)}, the first of which is needed; got "
            f"{', '.join(map(repr, implementations)) or 'none'}"
        )
    for level, each in implementations.items():
        if each.autodiff or each.higher:
            raise ValueError(f"by_level: {level}: expected what 'written' gave")
        if set(each.vjp) != set(lowest.vjp) or each.block_rows != lowest.block_rows:
            raise ValueError(f"by_level: {level}: has another block_rows or other vjps than {LEVELS[0]}")
    return replace(lowest, higher={level: implementations[level] for level in LEVELS[1:] if level in implementations})


@dataclass(frozen=True)
class Family:
    """A kernel as declared. How it is made is not part of it, so that it can be read where there is no Taichi."""

    name: str
    signature: Signature
    dtypes: tuple[str, ...]
    argument_dtypes: Mapping[str, str]  # of arguments whose element type is not the variant's
    fixed: tuple[Mapping[str, int], ...]
    wrt: tuple[tuple[str, ...], ...]
    doc: str
    state: bool = False  # it works on the module's state, Taichi's fields
    gradient: bool = False  # and has an adjoint there
    gradient_refused: bool = False  # or it was to have one, and cannot
    derivatives: tuple[str, ...] = ()  # beside vjps: some of computation.DERIVATIVES
    cuda_derivatives: tuple[str, ...] | None = None  # those that the code for CUDA has; None: all

    def for_cuda(self) -> Family:
        """The family as the code for CUDA has it: with some of its derivatives."""
        return self if self.cuda_derivatives is None else replace(self, derivatives=self.cuda_derivatives)

    @property
    def differentiated_along(self) -> list[tuple[str, ...]]:
        """What is differentiated along tangents, by its `wrt`: the primal for jvps, the vjps for hvps."""
        return [()] * ("jvp" in self.derivatives) + [*self.wrt] * ("hvp" in self.derivatives)

    @property
    def entries(self) -> tuple[Computation, ...]:
        """What its entries compute, forward first."""
        if self.state:  # the adjoint is differentiated along tangents that the jvp brings to it
            jvp, hvp = ([Computation(kind, ALL_FIELDS)] for kind in DERIVATIVES)
            return (
                FORWARD,
                *([GRAD] if self.gradient else []),
                *(jvp if self.derivatives else []),
                *(hvp if "hvp" in self.derivatives else []),
            )
        vjps = [Computation("vjp", names) for names in self.wrt]
        jvps = [Computation("jvp", names) for names in self.along if "jvp" in self.derivatives]
        hvps = [Computation("hvp", names) for names in self.wrt if "hvp" in self.derivatives]
        return (FORWARD, *vjps, *jvps, *hvps)

    @property
    def differentiated(self) -> bool:
        """Whether it has a derivative of any kind."""
        return bool(self.wrt or self.gradient or self.derivatives)

    @property
    def along(self) -> tuple[tuple[str, ...], ...]:
        """The sets of inputs that a jvp has tangents of."""
        if self.state:
            return (ALL_FIELDS,)
        dtypes = (self.argument_dtypes.get(each.name, self.dtypes[0]) for each in self.signature.inputs)
        able = [each.name for each, dtype in zip(self.signature.inputs, dtypes, strict=True) if dtype in REAL_DTYPES]
        return sets_along(self.wrt, tuple(able))

    def variants(self) -> list[Variant]:
        """Every variant, for each element type the most specific first, as the descriptor wants them."""
        ordered = sorted(self.fixed, key=lambda sizes: -len(sizes))
        literal = self.signature.literal_sizes
        return [Variant(dtype, {**sizes, **literal}) for dtype in self.dtypes for sizes in ordered]

    def dtype(self, argument: str, variant: Variant) -> str:
        """The element type of an argument in a variant."""
        return self.argument_dtypes.get(argument, variant.dtype)


Make = Callable[[Variant], Implementation]
Draw = Callable[[Any, tuple[int, ...], Mapping[str, int]], Any]


@dataclass(frozen=True)
class Declaration:
    """A family, what makes its kernels, and what it is tried on before a module is written."""

    family: Family
    make: Make
    sizes: tuple[Mapping[str, int], ...] | None  # None: sizes that find mistakes
    draw: Mapping[str, Draw]
    finite_differences: bool
    kernel: Any = None  # the Taichi kernel, where the declaration is of one
    wrt: tuple[str, ...] | None = None  # as the author gave it
    place: str = ""  # where it stands: "springs.py:9"
    derived: bool = False  # its signature is made of its parameters
    implicit: bool = False  # no decorator asked for it
    able: bool = False  # its derivatives were asked for of all kernels: those that it can have
    derivative: str | None = None  # who makes its vjps, one of computation.MAKERS; None: tiaot where it can

    def with_seed(self) -> Declaration:
        """The declaration of a kernel with a derived signature that turned out to draw random numbers."""
        inputs, _, outputs = self.family.signature.text.partition("->")
        signature = parse_signature(f"{inputs.strip()}{', ' if inputs.strip() else ''}seed ->{outputs}")
        types = {**self.family.argument_dtypes, "seed": "int64"}
        return replace(self, family=replace(self.family, signature=signature, argument_dtypes=types))

    def with_derivatives(self, asked: tuple[str, ...]) -> Declaration:
        """The declaration with derivatives that are asked for of all kernels, where it says none itself."""
        family = self.family
        types = [family.argument_dtypes.get(each.name, family.dtypes[0]) for each in family.signature.outputs]
        if family.derivatives or any(each not in REAL_DTYPES for each in types):
            return self
        return replace(self, family=replace(family, derivatives=asked), able=True)

    def with_state(self, gradient: bool, refused: bool = False) -> Declaration:
        """The declaration of a kernel that turned out to work on fields; `refused`: its gradient was.

        Raises:
            ValueError: for what such a kernel cannot have.
        """
        family = self.family
        if family.signature.batch:
            raise ValueError(
                f"{family.name}: works on fields, which the samples of a batch would share: leave batch out"
            )
        if self.wrt or self.make(family.variants()[0]).vjp:
            raise ValueError(
                f"{family.name}: works on fields: its gradient is that of the fields, which are no inputs: leave "
                "wrt and vjp out"
            )
        if "hvp" in family.derivatives and not gradient:
            if self.able:
                return replace(self, family=replace(family, derivatives=("jvp",))).with_state(gradient, refused)
            raise ValueError(
                f"{family.name}: works on fields and has no gradient there, whose derivative an hvp would be: leave "
                "'hvp' out of derivatives"
            )
        return replace(self, family=replace(family, wrt=(), state=True, gradient=gradient, gradient_refused=refused))

    def drawn(self, name: str, rng: Any, shape: tuple[int, ...], sizes: Mapping[str, int]) -> Any:
        """What the author's `draw` gives for an input or a field, as an array; None where there is no such.

        Raises:
            ValueError: for an array of another shape.
        """
        if name not in self.draw:
            return None
        import numpy as np

        who = f"{self.place}: {self.family.name}: draw for {name!r}"
        try:
            array = np.asarray(self.draw[name](rng, shape, sizes))
        except Exception as error:
            named = ", ".join(f"{dim}={size}" for dim, size in sizes.items() if not dim.isdigit())
            raise ValueError(
                f"{who} raised {type(error).__name__}: {error}; it was asked for an array of shape {shape}"
                + (f" at {named}: sizes are tried from 0 on, unless sizes= names others" if named else "")
            ) from error
        if array.shape != shape or array.dtype.kind not in "fiub":
            raise ValueError(
                f"{who}: expected an array of numbers of shape {shape}, got {array.dtype} of shape {array.shape}"
            )
        return array

    @property
    def random(self) -> bool:
        """Whether the kernel draws random numbers: its signature then has a seed, which Taichi knows nothing of."""
        inputs = {argument.name for argument in self.family.signature.inputs}
        return self.kernel is not None and bool(inputs - {each.name for each in self.kernel._primal.arguments})
