"""From the text of an entry to that of one that computes a derivative along a direction, too. Knows no kernels.

LLVM simplifies the text first: calls are inlined, and memory becomes values. The passes are chosen so that numbers stay
numbers: none of them turns arithmetic on floating-point numbers into arithmetic on their bits, as instcombine does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import llvmlite.binding as llvm

from .. import math
from ..ir.model import Function
from ..ir.reader import read
from ..ir.values import LoweringError
from ..ir.writer import write
from .tangent import tangent


def differentiate(text: str, shadows: Mapping[str, Mapping[str, str]], target: str, *, inlined: bool = False) -> str:
    """The text with some functions differentiated, and with the functions of math/ that it calls.

    Args:
        text: IR, in which the functions of math/ are declared only.
        target: LLVM's lines for the target, data layout and triple.
        shadows: for each function to differentiate, by its name, what `tangent` is given. They are noinline.
        inlined: whether they are inlined afterwards.

    Raises:
        LoweringError: for what cannot be differentiated.
    """
    try:
        parsed = llvm.parse_assembly(f"{target}\n{text}")
        parsed.verify()
    except RuntimeError as error:
        raise LoweringError(f"LLVM refused the lowered code: {error}") from error
    simplify(parsed)
    module = read(str(parsed))
    called: dict[str, Function] = {}
    done = [tangent(module.functions[name], pairs, module.types, called) for name, pairs in shadows.items()]
    if inlined:
        done = [dataclasses.replace(function, after=("alwaysinline",)) for function in done]
    new = [function for name, function in called.items() if name not in module.functions]
    module = module.with_functions(*new, *done)
    ours = sorted(function.name for function in module.declarations if function.name in math.FUNCTIONS)
    kept = {name: function for name, function in module.functions.items() if name not in ours}
    return f"{write(type(module)(module.types, kept, module.globals, module.attributes, module.comdats))}\n" + (
        math.definitions(ours)
    )


def simplify(module: Any) -> None:
    """Inlines what may be inlined and brings local memory into values, in place. `module` is llvmlite's."""
    passes = llvm.create_module_pass_manager()
    passes.add_function_inlining_pass(1 << 20)
    passes.add_sroa_pass()
    passes.add_cfg_simplification_pass()
    passes.add_gvn_pass()
    passes.add_sroa_pass()  # once more: pointers that went through a variable are plain by now
    passes.add_dead_code_elimination_pass()
    passes.add_cfg_simplification_pass()
    passes.run(module)
