"""tanh of float32 on a device: ours (math/), in a straight line. Knows no signatures.

libdevice's has branches. Behind each of them LLVM can neither join the stores of a sample's results, nor hold in
registers what a loop over samples reads anew.
"""

from __future__ import annotations

import re

_TANH = re.compile(r"^define internal float @\"tanh_f32\"\(.*?^}", re.MULTILINE | re.DOTALL)
_DIVISION = re.compile(r"= fdiv (?:\w+ )*?float (\S+), (\S+)$", re.MULTILINE)


def use_own_tanh(task: str) -> str:
    """A task's IR, with our tanh in place of libdevice's."""
    return task.replace("@__nv_tanhf(", "@tanh_f32(")


def approximate_divisions(text: str) -> str:
    """Kernels whose tanh divides as a device does in one step, to within 2 ULP: of a quotient of at most 0.37 that is
    taken from 1, which leaves half of one."""
    if "@tanh_f32(" not in text:
        return text
    found = _TANH.search(text)
    assert found is not None
    divided = _DIVISION.sub(r"= call float @llvm.nvvm.div.approx.f(float \1, float \2)", found[0])
    declaration = "declare float @llvm.nvvm.div.approx.f(float, float)\n"
    return declaration + text[: found.start()] + divided + text[found.end() :]
