"""Fields: how tasks find the elements of a state's fields, as LLVM IR text. Knows no signatures.

Taichi's IR walks from the root of a tree down, with a call for each step: the steps are defined here, as additions of
constants, and the tasks find the children of the roots in their frame.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable

from ..ir import TracedModule
from ..ir.passes import lookups
from ..ir.runtime_calls import STEP
from ..state import State

_FORGOTTEN = re.compile(r"(StructMeta|DenseMeta)_set_\w+|Dense_\w+|S\d+_refine_coordinates|get_ch_S\d+_to_S\d+")


def place_lookups(module: TracedModule, state: State) -> TracedModule:
    """The module with the steps to elements of dense nodes as sums in 64 bits, and with its declarations of such steps
    left out, which `definitions` defines where there is something to define."""
    declarations = {
        name: function
        for name, function in module.declarations.items()
        if not STEP.search(f"@{name}(") and not _FORGOTTEN.fullmatch(name)
    }
    changed = module.changed(lambda function: lookups.place_lookups(function, state.dense))
    return dataclasses.replace(changed, declarations=declarations)


def definitions(modules: Iterable[TracedModule], state: State) -> str:
    """The steps from node to node that the tasks of some modules call."""
    places = {node: place for place, node in enumerate(state.roots)}
    texts: dict[str, str] = {}
    for module in modules:
        for name in module.declarations:
            if match := STEP.search(f"@{name}("):
                node = int(match[2])
                texts[name] = _step(name, places.get(node), state.inner.get(node))
    return "\n".join(texts.values())


def _step(name: str, place: int | None, offset: int | None) -> str:
    head = f"define internal i8* @{name}(i8* %node) alwaysinline {{"
    if place is None:
        return f"{head}\n  %child = getelementptr inbounds i8, i8* %node, i64 {offset}\n  ret i8* %child\n}}"
    return f"""{head}
  %children = bitcast i8* %node to i8**
  %slot = getelementptr i8*, i8** %children, i64 {place}
  %child = load i8*, i8** %slot
  ret i8* %child
}}"""
