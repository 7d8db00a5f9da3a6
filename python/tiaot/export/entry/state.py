"""State: Taichi's fields as named arrays in memory of the module's, and the IR that finds their elements.

Taichi keeps fields in trees, whose inner nodes say how the elements lie. Every child of a root that a kernel uses gets
a place in the state's memory, the rest of a tree none. Taichi's IR walks from the root down, with a call for each step:
the steps are defined here, as additions of constants, and the tasks find the children of the roots in their frame.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..ir import TracedModule
from ..ir.passes import lookups

ALIGNMENT = 64


@dataclass(frozen=True)
class Field:
    """A named array of the state. A vector's or matrix's axes come last, as NumPy sees them."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in elements
    offset: int  # in bytes
    gradient: int  # the index of the field that holds its gradient, -1 for none


@dataclass(frozen=True)
class Dense:
    """A dense node: the bytes of a cell, and the sizes of the axes that it adds, row-major."""

    cell_bytes: int
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class Root:
    """The place of a child of a root in the state. `dtype` is that of all numbers in it, "" where there are several."""

    offset: int
    bytes: int
    dtype: str


@dataclass(frozen=True)
class Content:
    """A piece of what a state holds when it is made: where it lies in the state, in bytes."""

    offset: int
    data: bytes

    @property
    def symbol(self) -> str:
        return f"tiaot_content_{self.offset}"

    @property
    def text(self) -> str:
        """IR of its constant."""
        escaped = np.full((len(self.data), 3), ord("\\"), np.uint8)  # \\XX for each byte
        escaped[:, 1:] = np.frombuffer(self.data.hex().encode(), np.uint8).reshape(-1, 2)
        text = escaped.tobytes().decode()
        return f'@{self.symbol} = hidden constant [{len(self.data)} x i8] c"{text}", align 64'


@dataclass(frozen=True)
class State:
    """The fields that a module's kernels use, and the nodes of Taichi's trees that they lie in, by Taichi's numbers."""

    fields: tuple[Field, ...]
    bytes: int
    roots: Mapping[int, Root]  # by the number of the child
    inner: Mapping[int, int]  # any other node: its offset in a cell of its parent
    dense: Mapping[int, Dense]

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> State:
        """A state from its fields as JSON has them."""

        def numbered(values: Mapping[str, Any]) -> dict[int, Any]:
            return {int(key): value for key, value in values.items()}

        return cls(
            tuple(
                Field(**{**each, "shape": tuple(each["shape"]), "strides": tuple(each["strides"])})
                for each in record["fields"]
            ),
            record["bytes"],
            {key: Root(**each) for key, each in numbered(record["roots"]).items()},
            numbered(record["inner"]),
            {key: Dense(each["cell_bytes"], tuple(each["sizes"])) for key, each in numbered(record["dense"]).items()},
        )


_CHILD = re.compile(r"@get_ch_S(\d+)_to_S(\d+)\(")
_ROOTS = "LLVMRuntime_get_roots"
_FORGOTTEN = re.compile(r"(StructMeta|DenseMeta)_set_\w+|Dense_\w+|S\d+_refine_coordinates|get_ch_S\d+_to_S\d+")


def uses_state(text: str) -> bool:
    """Whether a task's IR reaches into a field."""
    return f"@{_ROOTS}(" in text


def used_nodes(texts: Iterable[str]) -> set[int]:
    """Numbers of the nodes that tasks go through."""
    return {int(match[2]) for text in texts for match in _CHILD.finditer(text)}


def place_lookups(module: TracedModule, state: State) -> TracedModule:
    """The module with the steps to elements of dense nodes as sums in 64 bits, and with its declarations of such steps
    left out, which `definitions` defines where there is something to define."""
    declarations = {
        name: function
        for name, function in module.declarations.items()
        if not _CHILD.search(f"@{name}(") and not _FORGOTTEN.fullmatch(name)
    }
    changed = module.changed(lambda function: lookups.place_lookups(function, state.dense))
    return dataclasses.replace(changed, declarations=declarations)


def definitions(modules: Iterable[TracedModule], state: State) -> str:
    """The steps from node to node that the tasks of some modules call."""
    places = {node: place for place, node in enumerate(state.roots)}
    texts: dict[str, str] = {}
    for module in modules:
        for name in module.declarations:
            if match := _CHILD.search(f"@{name}("):
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
