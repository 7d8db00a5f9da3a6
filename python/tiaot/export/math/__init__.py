"""tanh, exp, log, sin and cos as LLVM IR that LLVM can inline and vectorise, in place of calls to libm.

The functions have the names and types by which Taichi's IR calls them: `float @tanh_f32(float)`. float32 results are
within 1.5 ULP for every input, float64 results within 2 ULP; NaN, infinities, signed zeros, subnormals and overflow are
as in C. benchmarks/check_math.py checks it.

The text is complete: its operations carry the fast-math flags that they may have, and a pass that adds flags to other
code must leave it alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from llvmlite import ir

from . import functions
from .values import FORMATS, Format, Value

FUNCTIONS: dict[str, tuple[Callable[[Value, Format], Value], Format]] = {
    f"{function.__name__}_{f.name}": (function, f)
    for function in (functions.tanh, functions.exp, functions.log, functions.sin, functions.cos)
    for f in FORMATS.values()
}


def definitions(names: Iterable[str]) -> str:
    """LLVM IR text (LLVM 15) that defines the named functions and the constant tables that they read, each once.

    Args:
        names: keys of FUNCTIONS. The order and repetitions do not matter: the text depends on the set alone.

    Returns:
        `define internal float @tanh_f32(float %x) alwaysinline ...` and so on; it needs no declaration.

    Raises:
        KeyError: a name is not in FUNCTIONS.
    """
    wanted = sorted(set(names))
    unknown = [name for name in wanted if name not in FUNCTIONS]
    if unknown:
        raise KeyError(f"no math function {', '.join(unknown)}; there are {', '.join(sorted(FUNCTIONS))}")
    module = ir.Module()
    for name in wanted:
        write, f = FUNCTIONS[name]
        function = ir.Function(module, ir.FunctionType(f.real, [f.real]), name)
        function.linkage = "internal"
        function.attributes.add("alwaysinline")
        builder = ir.IRBuilder(function.append_basic_block())
        builder.ret(write(Value(builder, function.args[0]), f).value)
    return "".join(f"{value}\n" for value in module.global_values)
