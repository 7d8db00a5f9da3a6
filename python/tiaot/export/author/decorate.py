"""What the author of a kernel writes. Knows nothing of Taichi: a decorated kernel stays what it was, in a program too.

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

The decorators only write down what they are given, and where. It is read when a module is exported (kernel_file.py).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .declare import Draw, Implementation, Make, scratch_shapes

MARK = "__tiaot__"  # the attribute of what is decorated that holds its `Request`


@dataclass(frozen=True)
class Request:
    """What a decorator was given, for a Taichi kernel or for the function of a family."""

    decorated: Any
    options: Mapping[str, Any]
    place: str  # "springs.py:9"
    is_family: bool = False


_collected: list[Request] | None = None


@contextlib.contextmanager
def collecting() -> Iterator[list[Request]]:
    """A list that gets the request of every decorator that runs meanwhile."""
    global _collected
    before, _collected = _collected, []
    try:
        yield _collected
    finally:
        _collected = before


def place_of(function: Any) -> str:
    """Where a function, or a Taichi kernel, is defined: "springs.py:9"."""
    plain = function._primal.func if hasattr(function, "_primal") else function
    return f"{Path(plain.__code__.co_filename).name}:{plain.__code__.co_firstlineno}"


def _request(decorated: Any, options: Mapping[str, Any], is_family: bool) -> None:
    request = Request(decorated, options, place_of(decorated), is_family)
    setattr(decorated, MARK, request)
    if _collected is not None:
        _collected.append(request)


def _check_called(decorator: str, signature: Any) -> None:
    """TypeError where a decorator stands without its parentheses, and so is handed what it decorates."""
    if callable(signature):
        name = getattr(signature, "__name__", "?")
        raise TypeError(
            f'@{decorator} above {name!r} has no parentheses: write @{decorator}("x[n] -> y[n]") with the signature of '
            f"{name}" + (f", or @{decorator}() where it has no arrays" if decorator == "kernel" else "")
        )
    if signature is not None and not isinstance(signature, str):
        raise TypeError(
            f"{decorator}: expected the signature as text, as 'x[n] -> y[n]', got {type(signature).__name__}"
        )


def check_is_kernel(decorated: Any) -> None:
    """Raises TypeError for what is no Taichi kernel."""
    if not hasattr(decorated, "_primal"):
        what = getattr(decorated, "__name__", None)
        raise TypeError(
            f"kernel: expected a Taichi kernel, got {type(decorated).__name__}"
            + (f" {what!r}: write @ti.kernel between @kernel(...) and it" if what else "")
        )


def autodiff(forward: Any, *, scratch: Mapping[str, Sequence[str | int]] | None = None) -> Implementation:
    """An implementation whose vjp is made of `forward`, once for each set of inputs in `wrt`; see `derivative`.

    Args:
        forward: the primal kernel; writes every element of every output.
        scratch: arrays that the kernel works in, by parameter name: their sizes, each a number or an expression of
            dimensions and `rows` in +, -, *, // and parentheses. Their content is undefined when the kernel starts.
    """
    return Implementation(forward, {}, scratch_shapes(scratch), None)


def written(
    forward: Any,
    vjp: Mapping[str, Any],
    *,
    scratch: Mapping[str, Sequence[str | int]] | None = None,
    block_rows: int | None,
    along: Implementation | None = None,
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
        along: what this function gave for the kernels that jvps and hvps are made of instead of these. Beside each
            number they hold its tangent, so that register tiles want to be half as large.

    Raises:
        ValueError: where `along` has other vjps or another `block_rows`.
    """
    backward = {tuple(names.split()): kernel for names, kernel in vjp.items()}
    if along is not None and (along.autodiff or set(along.vjp) != set(backward) or along.block_rows != block_rows):
        raise ValueError("written: argument 'along': expected what 'written' gave for the same vjps and block_rows")
    return Implementation(forward, backward, scratch_shapes(scratch), block_rows, overwrites=True, along=along)


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
    derivatives: Sequence[str] = (),
    cuda_derivatives: Sequence[str] | None = None,
    derivative: str | None = None,
) -> Callable[[Make], Make]:
    """Declare a family of kernels; its name is the function's. What is wrong in it is told at the export.

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
        derivatives: what is compiled beside the vjps: "jvp", the derivative along tangents of inputs, and "hvp", that
            of the vjp (Hessian-vector products).
        cuda_derivatives: those of `derivatives` that the code for CUDA has, too; each makes it larger. None: all.
        derivative: who makes the vjps of `autodiff` kernels: "tiaot", by the exporter's own reverse mode, which takes
            loops of any kind and arrays that are updated in place; or "taichi", by Taichi's autodiff. None: tiaot where
            it takes the kernel, else Taichi.

    Raises:
        TypeError: when it is used without parentheses, or decorates a Taichi kernel.
    """
    options = dict(locals())
    _check_called("family", signature)

    def declare(make: Make) -> Make:
        if hasattr(make, "_primal") or not callable(make):
            raise TypeError(
                "family: expected a function of a variant that returns autodiff(...) or written(...), got a "
                f"{'Taichi kernel' if hasattr(make, '_primal') else type(make).__name__}; for one Taichi kernel, write "
                "@kernel(...)"
            )
        _request(make, options, is_family=True)
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
    derivatives: Sequence[str] = (),
    cuda_derivatives: Sequence[str] | None = None,
    derivative: str | None = None,
) -> Callable[[Any], Any]:
    """Declare one Taichi kernel as it is; its name is the function's. What is wrong in it is told at the export.

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
        derivatives: what is compiled beside the vjps: "jvp", the derivative along tangents of inputs, numbers by value
            among them, and "hvp", that of the vjp (Hessian-vector products). Of a kernel over fields "jvp" is along the
            tangents of the fields, and "hvp" is that of its adjoint, which brings the jvp with it.
        cuda_derivatives: those of `derivatives` that the code for CUDA has, too; each makes it larger. None: all.
        derivative: who makes the vjps: "tiaot", by the exporter's own reverse mode, which takes loops of any kind and
            arrays that are updated in place; or "taichi", by Taichi's autodiff. None: tiaot where it takes the kernel,
            else Taichi. The code for CUDA of a kernel over fields has the adjoint that Taichi makes.

    Raises:
        TypeError: when it is used without parentheses, or what is decorated is no Taichi kernel.
    """
    options = dict(locals())
    _check_called("kernel", signature)

    def declare(decorated: Any) -> Any:
        check_is_kernel(decorated)
        _request(decorated, options, is_family=False)
        return decorated

    return declare
