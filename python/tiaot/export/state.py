"""State: Taichi's fields as named arrays in memory of the module's, and the IR that finds their elements.

Taichi keeps fields in trees, whose inner nodes say how the elements lie. Every child of a root that a kernel uses gets
a place in the state's memory, the rest of a tree none. Taichi's IR walks from the root down, with a call for each step:
the steps are defined here, as additions of constants, and the tasks find the children of the roots in their frame.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .ir import Definitions, Function, TracedModule, peel_constant

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
_DROPPED = re.compile(r"^\s*call void @(StructMeta_set_|DenseMeta_set_)")
_FORGOTTEN = re.compile(r"(StructMeta|DenseMeta)_set_\w+|Dense_\w+|S\d+_refine_coordinates|get_ch_S\d+_to_S\d+")
_SNODE = re.compile(r"^\s*call void @StructMeta_set_snode_id\(%struct\.StructMeta\* (%[\w.]+), i32 (\d+)\)$")
_META = re.compile(r"^\s*(%[\w.]+) = bitcast %struct\.DenseMeta\* (%[\w.]+) to (?:%struct\.StructMeta|i8)\*$")
_LOOKUP = re.compile(r"^\s*(%[\w.]+) = call i8\* @Dense_lookup_element\(i8\* (%[\w.]+), i8\* (%[\w.]+), i32 (\S+)\)$")


def uses_state(text: str) -> bool:
    """Whether a task's IR reaches into a field."""
    return f"@{_ROOTS}(" in text


def used_nodes(texts: Iterable[str]) -> set[int]:
    """Numbers of the nodes that tasks go through."""
    return {int(match[2]) for text in texts for match in _CHILD.finditer(text)}


def place_lookups(module: TracedModule, state: State) -> None:
    """Rewrites the steps to an element of a dense node as sums in 64 bits, as `ir.widen_offsets` does for arrays."""
    for task in module.tasks:
        for function in task.functions:
            _place_lookups(function, state)


def _place_lookups(function: Function, state: State) -> None:
    definitions = Definitions(function.body)
    metas: dict[str, str] = {}  # what points to a node's description: the description itself
    nodes: dict[str, int] = {}
    for line in function.body:
        if match := _META.match(line):
            metas[match[1]] = match[2]
        elif match := _SNODE.match(line):
            nodes[metas[match[1]]] = int(match[2])
    lines: list[str] = []
    for line in function.body:
        if _DROPPED.match(line):
            continue
        match = _LOOKUP.match(line)
        if match is None:
            lines.append(line)
            continue
        name, meta, container, index = match.groups()
        dense = state.dense[nodes[metas[meta]]]
        tag = "%at" + name[1:]
        new, total = _element(definitions, dense, index, tag)
        lines += new
        lines.append(f"  {tag} = mul nsw i64 {total}, {dense.cell_bytes}")
        lines.append(f"  {name} = getelementptr inbounds i8, i8* {container}, i64 {tag}")
    function.body[:] = lines


def _element(definitions: Definitions, dense: Dense, index: str, tag: str) -> tuple[list[str], str]:
    """Instructions for an element's number in its node, in i64, and that number."""
    strides = [1]
    for size in dense.sizes[:0:-1]:
        strides.insert(0, strides[0] * size)
    rest = index
    terms: list[tuple[str, int]] = []  # an axis' index, its stride
    for stride in strides[:-1]:
        found = _split(definitions, rest, stride)
        if found is not None:
            rest, scaled = found
            terms.append((scaled, stride))
    terms.append((rest, 1))
    constant = 0
    plain: list[tuple[str, int]] = []
    for value, stride in terms:
        leaf, offset = peel_constant(definitions, value)
        constant += offset * stride
        if leaf is not None:
            plain.append((leaf, stride))
    flat = _flat(definitions, plain, strides)
    if flat is not None:
        plain = [(flat, 1)]
    lines: list[str] = []
    total = str(constant)
    for place, (leaf, stride) in enumerate(plain):
        lines.append(f"  {tag}.p{place} = sext i32 {leaf} to i64")
        lines.append(f"  {tag}.m{place} = mul nsw i64 {tag}.p{place}, {stride}")
        lines.append(f"  {tag}.t{place} = add nsw i64 {tag}.m{place}, {total}")
        total = f"{tag}.t{place}"
    return lines, total


_PAIR = re.compile(r"^(?:nsw |nuw |exact )*i32 (\S+), (\S+)$")


def _operation(definitions: Definitions, value: str) -> tuple[str, str, str]:
    opcode, rest = definitions.operation(value)
    match = _PAIR.match(rest)
    return (opcode, match[1], match[2]) if match else ("", "", "")


def _split(definitions: Definitions, value: str, stride: int) -> tuple[str, str] | None:
    """value = rest + scaled * stride, as (rest, scaled)."""
    opcode, left, right = _operation(definitions, value)
    if opcode == "add":
        for rest, product in ((left, right), (right, left)):
            scaled = _scaled(definitions, product, stride)
            if scaled is not None:
                return rest, scaled
    scaled = _scaled(definitions, value, stride)
    return None if scaled is None else ("0", scaled)


def _scaled(definitions: Definitions, value: str, stride: int) -> str | None:
    """x, where value = x * stride."""
    opcode, left, right = _operation(definitions, value)
    if opcode == "mul" and right == str(stride):
        return left
    if opcode == "shl" and right.isdigit() and 1 << int(right) == stride:
        return left
    return None


def _flat(definitions: Definitions, terms: list[tuple[str, int]], strides: list[int]) -> str | None:
    """v, where the indices are those that v stands for in a loop over all elements, so that v is the sum again."""
    if len(terms) != len(strides) or len(terms) < 2:
        return None

    def quotient(value: str, by: int) -> str | None:
        opcode, left, right = _operation(definitions, value)
        if (opcode == "sdiv" and right == str(by)) or (
            opcode in ("lshr", "ashr") and right.isdigit() and 1 << int(right) == by
        ):
            return left
        return None

    def remainder(value: str, by: int) -> str | None:
        opcode, left, right = _operation(definitions, value)
        if (opcode == "srem" and right == str(by)) or (opcode == "and" and right == str(by - 1)):
            return left
        return None

    whole = quotient(terms[0][0], strides[0])
    if whole is None:
        return None
    for place in range(1, len(strides)):
        value, above, own = terms[place][0], strides[place - 1], strides[place]
        if own == 1:
            found = remainder(value, above)
        else:  # (v mod above) div own, or (v div own) mod (above div own)
            inner = quotient(value, own)
            found = None if inner is None else remainder(inner, above)
            if found is None:
                inner = remainder(value, above // own)
                found = None if inner is None else quotient(inner, own)
        if found != whole:
            return None
    return whole


def definitions(modules: Iterable[TracedModule], state: State) -> str:
    """The steps from node to node that the tasks of some modules call; they no longer declare them then."""
    texts: dict[str, str] = {}
    places = {node: place for place, node in enumerate(state.roots)}
    for module in modules:
        for name in list(module.declarations):
            match = _CHILD.search(f"@{name}(")
            if match:
                node = int(match[2])
                texts[name] = _step(name, places.get(node), state.inner.get(node))
            if match or _FORGOTTEN.fullmatch(name):
                del module.declarations[name]
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
