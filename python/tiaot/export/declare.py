"""What the author of a kernel writes. Knows nothing of LLVM or files.

A working Taichi kernel needs a decorator with its signature, and nothing else:

    @kernel("x[n, 3], v[n, 3], dt -> x[n, 3]")
    @ti.kernel
    def step(x: ti.types.ndarray(ti.math.vec3, ndim=1), v: ti.types.ndarray(ti.math.vec3, ndim=1), dt: ti.f32): ...

A kernel over fields needs no signature where it has no arrays. A file that decorates none exports all of its kernels.

A family makes several kernels of one: for other element types, or unrolled for sizes that are fixed. It is a function
that is given a `Variant` and returns the Taichi kernels for it:

    @family("x[B, n], W[m, n], b[m] -> y[B, m]", batch="B", fixed=[{"n": 8, "m": 4}])
    def dense_tanh(variant):
        @ti.kernel
        def forward(x: variant.array(2), W: variant.array(2), b: variant.array(1), y: variant.array(2)): ...
        return autodiff(forward)

A kernel's parameters say what they are by their names: an argument of the signature by its own name, the cotangent of
an output `y` and the gradient of an input `x` as `grad_y` and `grad_x`, and anything declared in `scratch`.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .signature import REAL_DTYPES, Signature, parse_signature

STATE = ("*",)  # stands for the fields, in place of the names of inputs that a vjp differentiates
LEVELS = ("x86-64-v2", "x86-64-v3", "x86-64-v4")


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
    constants: Mapping[str, Any] = field(default_factory=dict)  # template parameters
    # The kernels write every element of outputs, of batched gradients and of what they read of their scratch.
    overwrites: bool = False
    higher: Mapping[str, Implementation] = field(default_factory=dict)  # others, by the CPU level that each begins at

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


def autodiff(forward: Any) -> Implementation:
    """An implementation whose vjp is made by Taichi's autodiff of `forward`, once for each set of inputs in `wrt`."""
    return Implementation(forward, {}, {}, None)


def written(
    forward: Any,
    vjp: Mapping[str, Any],
    *,
    scratch: Mapping[str, Sequence[str | int]] | None = None,
    block_rows: int | None,
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
            multiples of it. None: they are given all samples at once and their own loops are parallel, as CUDA wants
            it (`variant.target`); they then find shared gradients zeroed.
    """
    shapes = {name: tuple(str(size) for size in sizes) for name, sizes in (scratch or {}).items()}
    backward = {tuple(names.split()): kernel for names, kernel in vjp.items()}
    return Implementation(forward, backward, shapes, block_rows, overwrites=True)


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

    @property
    def entries(self) -> tuple[tuple[str, ...], ...]:
        """Its entries by the inputs that they differentiate: () is forward, STATE the adjoint on the state."""
        return ((), *self.wrt, *((STATE,) if self.gradient else ()))

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
    derived: bool = False  # its signature is made of its parameters
    implicit: bool = False  # no decorator asked for it

    def with_seed(self) -> Declaration:
        """The declaration of a kernel with a derived signature that turned out to draw random numbers."""
        inputs, _, outputs = self.family.signature.text.partition("->")
        signature = parse_signature(f"{inputs.strip()}{', ' if inputs.strip() else ''}seed ->{outputs}")
        types = {**self.family.argument_dtypes, "seed": "int64"}
        return replace(self, family=replace(self.family, signature=signature, argument_dtypes=types))

    def with_state(self, gradient: bool) -> Declaration:
        """The declaration of a kernel that turned out to work on fields.

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
        return replace(self, family=replace(family, wrt=(), state=True, gradient=gradient))

    def drawn(self, name: str, rng: Any, shape: tuple[int, ...], sizes: Mapping[str, int]) -> Any:
        """What the author's `draw` gives for an input or a field, as an array; None where there is no such.

        Raises:
            ValueError: for an array of another shape.
        """
        if name not in self.draw:
            return None
        import numpy as np

        array = np.asarray(self.draw[name](rng, shape, sizes))
        if array.shape != shape:
            raise ValueError(
                f"{self.family.name}: draw for {name!r}: expected an array of shape {shape}, got {array.shape}"
            )
        return array

    @property
    def random(self) -> bool:
        """Whether the kernel draws random numbers: its signature then has a seed, which Taichi knows nothing of."""
        inputs = {argument.name for argument in self.family.signature.inputs}
        return self.kernel is not None and bool(inputs - {each.name for each in self.kernel._primal.arguments})


_registered: list[Declaration] = []


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


def family(
    signature: str,
    *,
    batch: str | None = None,
    dtypes: Sequence[str] = ("float32", "float64"),
    fixed: Sequence[Mapping[str, int]] = ({},),
    wrt: Sequence[str] | None = None,
    sizes: Sequence[Mapping[str, int]] | None = None,
    draw: Mapping[str, Draw] | None = None,
    finite_differences: bool = True,
) -> Callable[[Make], Make]:
    """Declare a family of kernels; its name is the function's.

    Args:
        signature: the arguments and their shapes, `"x[B, n], W[m, n], b[m] -> y[B, m]"`.
        batch: the batch dimension, None for a kernel that runs whole.
        dtypes: the element types to make; all arrays of one call have the same.
        fixed: the variants of each element type, as the sizes that are fixed: `{}` is the one for any size.
        wrt: the sets of inputs that a vjp is compiled for, each as names with spaces between; another set is run by the
            smallest of these that contains it. By default each input alone, and all together.
        sizes: the dimensions that the kernel is verified at, `[{"B": 3, "n": 8}]`.
        draw: for an input, what draws it for verification: `draw(rng, shape, sizes)` with a `numpy.random.Generator`.
        finite_differences: whether the gradients must be the kernel's slopes; False for one that is meant to differ.

    Raises:
        ValueError: when the signature or an option cannot be right; it names which.
    """
    parsed = parse_signature(signature, batch)
    sets = _sets_of_inputs(parsed, wrt, [argument.name for argument in parsed.inputs])
    for dtype in dtypes:
        if dtype not in ("float32", "float64"):
            raise ValueError(f"dtypes: expected some of float32, float64, got {dtype!r}")
    _check_fixed(parsed, fixed)
    _check_names("draw", tuple(draw or ()), parsed)

    def declare(make: Make) -> Make:
        declared = Family(make.__name__, parsed, tuple(dtypes), {}, tuple(fixed), sets, inspect.getdoc(make) or "")
        chosen = None if sizes is None else tuple(sizes)
        _registered.append(Declaration(declared, make, chosen, dict(draw or {}), finite_differences))
        return make

    return declare


def kernel(
    signature: str | None = None,
    *,
    batch: str | None = None,
    wrt: Sequence[str] | None = None,
    fixed: Sequence[Mapping[str, int]] = ({},),
    constants: Mapping[str, Any] | None = None,
    dtypes: Mapping[str, str] | None = None,
    vjp: Mapping[str, Any] | None = None,
    scratch: Mapping[str, Sequence[str | int]] | None = None,
    sizes: Sequence[Mapping[str, int]] | None = None,
    draw: Mapping[str, Draw] | None = None,
    finite_differences: bool = True,
) -> Callable[[Any], Any]:
    """Declare one Taichi kernel as it is; its name is the function's.

    Args:
        signature: the arguments and their shapes as NumPy sees them, `"x[n, 3], dt -> y[n]"`: the axes of a vector or
            matrix element come last, as numbers. A scalar parameter has no brackets. An argument on both sides is
            updated in place by the kernel; a result that is no parameter is what the kernel returns. Outputs start as
            zeros. None where the kernel has no arrays: its numbers are then its inputs, and `result` what it returns.
        batch: a dimension along which samples do not depend on each other, first wherever it occurs; None for a kernel
            that runs whole, whose own parallel loops are then spread over threads.
        wrt: the sets of inputs that a vjp is compiled for, each as names with spaces between; `[]` for a kernel without
            gradient. By default each array of real numbers alone, and all of them together. Fields are no inputs: a
            kernel over fields has their gradient unless this is `[]`.
        fixed: variants with sizes that are fixed, faster for those: `[{"n": 8}, {}]`, `{}` for the one of any size.
        constants: values of the kernel's `ti.template()` parameters.
        dtypes: element types, by name, of arrays whose annotation has none. By default float32.
        vjp: backward kernels written by hand, by the inputs that they differentiate, as for `written`.
        scratch: arrays that the kernel works in, by parameter name: their sizes, each a number or an expression of
            dimensions in +, -, *, // and parentheses.
        sizes: the dimensions that the kernel is verified at, `[{"n": 3}, {"n": 33}]`.
        draw: for an input or a field, what draws it for verification: `draw(rng, shape, sizes)` with a
            `numpy.random.Generator`.
        finite_differences: whether the gradients must be the kernel's slopes; False for one that is meant to differ.

    Raises:
        ValueError: when the signature or an option cannot be right, or does not fit the kernel; it names which.
        TypeError: when what is decorated is no Taichi kernel.
    """
    shapes = {name: tuple(str(size) for size in axes) for name, axes in (scratch or {}).items()}
    if signature is not None:
        _check_fixed(parse_signature(signature, batch), fixed)

    def declare(decorated: Any) -> Any:
        from .parameters import argument_dtypes, derive_signature

        if not hasattr(decorated, "_primal"):
            raise TypeError(f"expected a function decorated with ti.kernel, got {decorated!r}")
        parsed = parse_signature(derive_signature(decorated) if signature is None else signature, batch)
        types = argument_dtypes(decorated, parsed, dtypes or {})
        able = [
            each.name
            for each in parsed.inputs
            if types[each.name] in REAL_DTYPES and not _without_gradient(decorated, each.name, vjp)
        ]
        real = [types[each.name] for each in parsed.arguments if types[each.name] in REAL_DTYPES]
        written_sets = list(vjp) if vjp and wrt is None else wrt
        sets = _sets_of_inputs(parsed, written_sets, able)
        if sets:
            parameters = {each.name for each in decorated._primal.arguments}
            if any(each.name not in parameters for each in parsed.outputs):
                raise ValueError(
                    f"{decorated.__name__}: returns a value, which has no gradient: write it to an output array, or "
                    "give wrt=[]"
                )
            for each in parsed.outputs:
                if types[each.name] not in REAL_DTYPES:
                    raise ValueError(
                        f"{decorated.__name__}: output {each.name!r} has whole numbers and so no cotangent: a kernel "
                        "with such an output has no vjp; give wrt=[], or compute it in a kernel of its own"
                    )
        family = Family(
            decorated.__name__,
            parsed,
            (real[0] if real else "float32",),
            types,
            tuple(fixed),
            sets,
            inspect.getdoc(decorated._primal.func) or "",
        )
        given = dict(constants or {})
        if hasattr(decorated, "_kernel_owner"):  # a method: Taichi takes its instance for a template
            given[decorated._primal.arguments[0].name] = decorated._kernel_owner
        backward = {tuple(names.split()): each for names, each in (vjp or {}).items()}
        implementation = Implementation(decorated, backward, shapes, None, given)
        _registered.append(
            Declaration(
                family,
                lambda variant: implementation,
                None if sizes is None else tuple(sizes),
                dict(draw or {}),
                finite_differences,
                decorated,
                None if wrt is None else tuple(wrt),
                signature is None,
            )
        )
        return decorated

    return declare


def _without_gradient(decorated: Any, name: str, vjp: Mapping[str, Any] | None) -> bool:
    """Whether Taichi gives an argument no gradient: one passed by value, or an array that is annotated so.

    A kernel written by hand may give one.
    """
    from .parameters import is_array

    return not vjp and any(
        each.name == name and (not is_array(each) or each.annotation.needs_grad is False)
        for each in decorated._primal.arguments
    )


@contextlib.contextmanager
def _without_init() -> Iterator[None]:
    """While a kernel file runs, `ti.init` only says which types its numbers have: Taichi is set up already."""
    import taichi as ti

    def init(*_: Any, default_fp: Any = None, default_ip: Any = None, **__: Any) -> None:
        runtime, config = ti.lang.impl.get_runtime(), ti.lang.impl.current_cfg()
        if default_fp is not None:
            runtime.set_default_fp(default_fp)
            config.default_fp = default_fp
        if default_ip is not None:
            runtime.set_default_ip(default_ip)
            config.default_ip = default_ip

    original = ti.init
    ti.init = init
    try:
        yield
    finally:
        ti.init = original


@dataclass(frozen=True)
class KernelFile:
    """What a kernel file declares, in order, and its fields by name, Taichi's."""

    declarations: tuple[Declaration, ...]
    fields: Mapping[str, Any]
    notes: tuple[str, ...]  # what was left out, for the author
    namespace: Mapping[str, Any]


def _check_templates(declaration: Declaration) -> None:
    """ValueError for a template parameter without a value, which only a decorator can give it."""
    from .parameters import is_template

    given = declaration.make(declaration.family.variants()[0]).constants
    for each in declaration.kernel._primal.arguments:
        if is_template(each) and each.name not in given:
            raise ValueError(
                f"{declaration.family.name}: parameter {each.name!r} is a template: decorate the kernel with "
                "tiaot.export.kernel, and its value in constants={...}"
            )


def load_kernel_file(path: str) -> KernelFile:
    """Run a kernel file and see what it declares: where it decorates no kernel, all that it has.

    Raises:
        ValueError: when there is no kernel, or there are two of one name.
    """
    import runpy

    from .fields import find_fields, find_kernels

    start = len(_registered)
    with _without_init():
        namespace = runpy.run_path(path)
    declarations = _registered[start:]
    del _registered[start:]
    notes: list[str] = []
    if not declarations:
        for each in find_kernels(namespace):
            try:
                kernel()(each)
                _check_templates(_registered[start])
                declarations.append(replace(_registered[start], implicit=True))
            except ValueError as error:
                notes.append(f"left out: {error}")
            del _registered[start:]
    names = [each.family.name for each in declarations]
    if not declarations:
        left = "".join(f"\n{note}" for note in notes)
        raise ValueError(
            f"{path}: declares no kernel: decorate one with tiaot.export.kernel or tiaot.export.family{left}"
        )
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{path}: declares two kernels of the name {name!r}")
    return KernelFile(tuple(declarations), find_fields(namespace), tuple(notes), namespace)
