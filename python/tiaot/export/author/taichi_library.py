"""Taichi's own library as kernels are to find it. Where it differs from Taichi's, it is exacter or has a gradient.

- `ti.math.isnan` and `isinf` look at a number's bits, after a cast to the default type: a double beyond float32 would
  be infinite, and bits have no gradient. Comparisons tell the same, of any type.
- `ti.math.sign` and `step` cast to the default type: a double's sign would be a float32, and so would be what follows.
- Asserts of the library's own, as in `ti.solve`, are left out, as the JIT does without `debug=True`.
"""

from __future__ import annotations

import functools
from typing import Any

from ..dtypes import ELEMENT_TYPES


def mend_library() -> None:
    """Changes Taichi in this process, a child of the exporter's."""
    import taichi as ti

    for name, function in _functions().items():
        setattr(ti.math, name, function)
    _leave_out_asserts()


@functools.cache
def _functions() -> dict[str, Any]:
    import taichi as ti

    def real_type(x: Any) -> Any:
        """The type of a number or of the elements of a matrix, where it is real; else the default one."""
        type_ = x.ptr.get_rvalue_type() if hasattr(x, "ptr") else None
        if type_ is not None and hasattr(type_, "element_type"):
            type_ = type_.element_type()
        real = [getattr(ti, each.taichi) for each in ELEMENT_TYPES if each.is_real]  # now: gate/twin.py changes them
        return type_ if type_ in real else ti.lang.impl.get_runtime().default_fp

    real_type.__module__ = "taichi.math"  # Taichi warns of functions that it does not know

    @ti.func
    def isnan(x):  # type: ignore[no-untyped-def]
        return ((x < 0.0) | (x >= 0.0)) == 0  # Taichi takes x != x to be false

    @ti.func
    def isinf(x):  # type: ignore[no-untyped-def]
        return (x == ti.math.inf) | (x == -ti.math.inf)

    @ti.func
    def sign(x):  # type: ignore[no-untyped-def]
        return ti.cast(x >= 0.0, real_type(x)) - ti.cast(x <= 0.0, real_type(x))

    @ti.func
    def step(edge, x):  # type: ignore[no-untyped-def]
        return ti.cast(x >= edge, real_type(x - edge))

    return {"isnan": isnan, "isinf": isinf, "sign": sign, "step": step}


def _leave_out_asserts() -> None:
    import taichi
    from taichi.lang.ast.ast_transformer import ASTTransformer
    from taichi.lang.exception import TaichiCompilationError

    folder = taichi.__path__[0]
    original = ASTTransformer.build_Assert

    def build_assert(ctx: Any, node: Any) -> None:
        if not str(ctx.file).startswith(folder):
            original(ctx, node)
        elif _built(ctx, node.test) is False:
            raise TaichiCompilationError(ctx.get_pos_info(node) + "this does not hold for what it is given")

    ASTTransformer.build_Assert = staticmethod(build_assert)


def _built(ctx: Any, test: Any) -> bool | None:
    """Whether a condition holds, where that is known when a kernel is compiled."""
    from taichi.lang.ast.ast_transformer import build_stmt

    built = build_stmt(ctx, test)
    return bool(built) if isinstance(built, bool | int) else None
