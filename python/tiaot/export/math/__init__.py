"""The functions that Taichi has, as LLVM IR that LLVM can inline and vectorise, in place of calls to libm.

The functions have the names and types by which Taichi's IR calls them: `float @tanh_f32(float)`. float32 results are
within 1.5 ULP for every input, float64 results within 2 ULP (tan and atan2 within 3); NaN, infinities, signed zeros,
subnormals and overflow are as in C. benchmarks/check_math.py checks it. Only pow in float64 is libm's.

The text is complete: its operations carry the fast-math flags that they may have, and a pass that adds flags to other
code must leave it alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from llvmlite import ir

from . import arcs, functions, power
from .values import F32, FORMATS, Format, Value


class Function(NamedTuple):
    """What writes a function, of so many arguments, for a format."""

    write: Callable[..., Value]
    format: Format
    arguments: int


FUNCTIONS: dict[str, Function] = {
    **{
        f"{write.__name__}_{f.name}": Function(write, f, 1)
        for write in (
            functions.tanh,
            functions.exp,
            functions.log,
            functions.sin,
            functions.cos,
            arcs.tan,
            arcs.asin,
            arcs.acos,
        )
        for f in FORMATS.values()
    },
    **{f"atan2_{f.name}": Function(arcs.atan2, f, 2) for f in FORMATS.values()},
    "pow_f32": Function(power.pow, F32, 2),
}


def definitions(names: Iterable[str], declared: Collection[str] = ()) -> str:
    """LLVM IR text (LLVM 15) that defines the named functions and the constant tables that they read, each once.

    Args:
        names: keys of FUNCTIONS. The order and repetitions do not matter: the text depends on the set alone.
        declared: names of functions that the module declares already.

    Returns:
        `define internal float @tanh_f32(float %x) alwaysinline ...` and so on, with the declarations that it needs.

    Raises:
        KeyError: a name is not in FUNCTIONS.
    """
    wanted = sorted(set(names))
    unknown = [name for name in wanted if name not in FUNCTIONS]
    if unknown:
        raise KeyError(f"no math function {', '.join(unknown)}; there are {', '.join(sorted(FUNCTIONS))}")
    module = ir.Module()
    for name in wanted:
        write, f, arguments = FUNCTIONS[name]
        function = ir.Function(module, ir.FunctionType(f.real, [f.real] * arguments), name)
        function.linkage = "internal"
        function.attributes.add("alwaysinline")
        builder = ir.IRBuilder(function.append_basic_block())
        builder.ret(write(*(Value(builder, argument) for argument in function.args), f).value)
    known = [value for value in module.functions if value.is_declaration and value.name in declared]
    return "".join(f"{value}\n" for value in module.global_values if value not in known)
