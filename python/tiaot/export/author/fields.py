"""Fields: which a kernel file has, their names, and how Taichi lays them out. Knows no IR."""

from __future__ import annotations

import math
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..state import ALIGNMENT, Dense, Field, RootMemory, State
from .flow import Place
from .parameters import dtype_name, real_types
from .signature import ITEM_SIZES


@dataclass(frozen=True, eq=False)
class _Node:
    """A node of one of Taichi's trees."""

    id: int
    kind: str  # "root", "dense", "place", or one that cannot be exported
    parent: _Node | None
    offset: int  # in a cell of the parent
    cell_bytes: int
    sizes: Mapping[int, int]  # by axis, of all the elements down to here
    data_type: Any  # of a place: Taichi's

    @property
    def path(self) -> list[_Node]:
        """From the child of the root to this node."""
        above = [] if self.parent is None or self.parent.kind == "root" else self.parent.path
        return [*above, self]

    @property
    def whole_path(self) -> list[_Node]:
        """From the root to this node."""
        return [*([] if self.parent is None else self.parent.whole_path), self]

    @property
    def own_sizes(self) -> dict[int, int]:
        """By axis, of what this node adds to its parent."""
        above = self.parent.sizes if self.parent else {}
        return {axis: size // above.get(axis, 1) for axis, size in sorted(self.sizes.items())}

    @property
    def container_bytes(self) -> int:
        return math.prod(self.own_sizes.values()) * self.cell_bytes


def find_fields(namespace: Mapping[str, Any]) -> dict[str, Any]:
    """Taichi's scalar and matrix fields in a file's namespace, by name.

    Those in a list, a dict, a struct field or an instance of a `ti.data_oriented` class have the name of that in front:
    `solver_x`, `grids_0`.
    """
    found: dict[str, Any] = {}
    seen: set[int] = set()
    for name, value in namespace.items():
        if not name.startswith("__"):
            for path, field in _walk(name, value, 0):
                if id(field) not in seen:
                    seen.add(id(field))
                    found[path] = field
    return found


def _walk(name: str, value: Any, depth: int) -> Iterator[tuple[str, Any]]:
    from taichi.lang.field import Field as TaichiField
    from taichi.lang.struct import StructField

    if depth > 3 or isinstance(value, types.ModuleType | type):
        return
    parts: Mapping[Any, Any] = {}
    if isinstance(value, StructField):
        parts = {key: value.get_member_field(key) for key in value.keys}
    elif isinstance(value, TaichiField):
        yield name, value
    elif isinstance(value, list | tuple):
        parts = dict(enumerate(value))
    elif isinstance(value, dict):
        parts = {key: each for key, each in value.items() if isinstance(key, str) and key.isidentifier()}
    elif is_data_oriented(value):
        parts = vars(value)
    for key, each in parts.items():
        yield from _walk(f"{name}_{key}", each, depth + 1)


def is_data_oriented(value: Any) -> bool:
    """Whether a value is an instance of a `ti.data_oriented` class."""
    return not isinstance(value, type) and getattr(type(value), "_data_oriented", False)


def has_gradient(fields: Mapping[str, Any], used: set[int]) -> bool:
    """Whether any field that a kernel goes through has a gradient."""
    return any(_members(field) & used and _members(field.grad) for field in fields.values())


def real_places(fields: Mapping[str, Any]) -> dict[int, Place]:
    """The places of the named fields of real numbers, by their numbers."""
    real = real_types()
    return {
        number: Place(name, bool(_members(field.grad)))
        for name, field in fields.items()
        if field.dtype in real
        for number in _members(field)
    }


def names_of_places(fields: Mapping[str, Any]) -> dict[int, str]:
    """The names of the fields that places are of, by their numbers."""
    return {number: name for name, field in fields.items() for number in _places(field)}


def places(fields: Mapping[str, Any]) -> tuple[dict[int, Dense], dict[int, tuple[int, ...]], dict[int, int]]:
    """What derivative/fields.py has to know of fields: dense nodes, paths to places, places of gradients."""
    nodes = _nodes()
    gradients = {
        place: gradient
        for each in fields.values()
        for place, gradient in zip(_places(each), _places(each.grad), strict=False)
    }
    named = {place for each in fields.values() for place in _places(each)} | set(gradients.values())
    paths = {place: tuple(each.id for each in nodes[place].whole_path) for place in named}
    return _dense(nodes.values()), paths, gradients


def lay_out(fields: Mapping[str, Any], used: set[int]) -> State:
    """The state of a module whose kernels go through the nodes in `used`, none of which is among `refusals`.

    Args:
        fields: Taichi's fields by name. Those that no kernel uses, itself or its gradient, are left out.

    Raises:
        ValueError: when a used field cannot be seen as one array; it says why and what to write instead.
    """
    nodes = _nodes()
    kept = {name: field for name, field in fields.items() if _members(field) & used or _members(field.grad) & used}
    named = set().union(*(_members(field) | _members(field.grad) for field in kept.values()))
    wanted = [nodes[each] for each in sorted(used | named) if nodes[each].kind == "place"]
    roots: dict[int, RootMemory] = {}
    size = 0
    for root in dict.fromkeys(node.path[0] for node in wanted):
        dtypes = {dtype_name("state", "a field", node.data_type) for node in wanted if node.path[0] is root}
        roots[root.id] = RootMemory(size, root.container_bytes, dtypes.pop() if len(dtypes) == 1 else "")
        size += -(-root.container_bytes // ALIGNMENT) * ALIGNMENT
    laid: list[Field] = []
    for name, field in kept.items():
        place = len(laid)
        laid.append(_view(name, field, nodes, roots))
        if _members(field.grad):
            laid[place] = replace(laid[place], gradient=place + 1)
            laid.append(_view(f"{name}.grad", field.grad, nodes, roots))
    for node in wanted:
        if node.id not in named:
            laid.append(_view(f"field_{node.id}", [node.id], nodes, roots))
    below = {each.id: each for node in wanted for each in node.path}
    return State(
        tuple(laid),
        size,
        roots,
        {node.id: node.offset for node in below.values() if node.id not in roots},
        _dense(below.values()),
    )


def _dense(nodes: Iterable[_Node]) -> dict[int, Dense]:
    return {
        node.id: Dense(node.cell_bytes, tuple(size for size in node.own_sizes.values() if size > 1))
        for node in nodes
        if node.kind == "dense"
    }


def refusals(fields: Mapping[str, Any]) -> dict[int, str]:
    """Why nodes cannot be exported, by their numbers."""
    nodes = _nodes()
    return {node.id: why for node in nodes.values() if (why := _refusal(node, nodes, fields))}


def _nodes() -> dict[int, _Node]:
    """Every node of Taichi's trees, by its number."""
    from taichi.lang import impl

    program = impl.get_runtime().prog
    nodes: dict[int, _Node] = {}

    def add(snode: Any, parent: _Node | None) -> None:
        kind = str(snode.type).rpartition(".")[2]
        places = snode.get_physical_index_position() if parent else []
        sizes = {axis: snode.get_shape_along_axis(virtual) for virtual, axis in enumerate(places) if axis != -1}
        offset = snode.offset_bytes_in_parent_cell if parent else 0
        data_type = snode.data_type() if kind == "place" else None
        node = _Node(snode.id, kind, parent, offset, snode.cell_size_bytes, sizes, data_type)
        nodes[node.id] = node
        for place in range(snode.get_num_ch()):
            add(snode.get_ch(place), node)

    for place in range(program.get_snode_tree_size()):
        add(program.get_snode_root(place), None)
    return nodes


def describe_trees() -> list[tuple[Any, ...]]:
    """All that the code of a kernel over fields follows from of how they lie."""
    return [
        (
            node.id,
            node.kind,
            node.parent.id if node.parent else -1,
            node.offset,
            node.cell_bytes,
            sorted(node.sizes.items()),
        )
        for node in _nodes().values()
    ]


_KINDS = {
    "pointer": "sparse",
    "bitmasked": "sparse",
    "hash": "sparse",
    "dynamic": "of varying length",
    "quant_array": "quantised",
    "bit_struct": "quantised",
}


def _refusal(node: _Node, nodes: Mapping[int, _Node], fields: Mapping[str, Any]) -> str:
    """Why a node cannot be exported; "" when it can."""
    bad = next((each for each in node.path if each.kind not in ("root", "dense", "place")), None)
    if bad is None:
        return ""
    inside = [name for name, field in fields.items() if any(node in nodes[each].path for each in _members(field))]
    who = f"field {inside[0]!r}" if inside else "a field"
    return (
        f"{who} lies in a {bad.kind} node, which is {_KINDS.get(bad.kind, 'not dense')}: only dense fields can be "
        "exported; declare it with shape=, or place it in ti.root.dense(...)"
    )


def _places(field: Any) -> list[int]:
    """Numbers of the places of a field's elements, of those of a vector or matrix all, row-major."""
    return [] if field is None else [member.ptr.snode().id for member in field.vars if member.ptr.snode()]


def _members(field: Any) -> set[int]:
    return set(_places(field))


def _view(name: str, field: Any, nodes: Mapping[int, _Node], roots: Mapping[int, RootMemory]) -> Field:
    """A field as one strided array. `field` is Taichi's, or the numbers of its places."""
    from taichi.lang.matrix import MatrixField

    places = field if isinstance(field, list) else _places(field)
    element: tuple[int, ...] = ()
    if isinstance(field, MatrixField):
        element = (field.n,) if field.ndim == 1 else (field.n, field.m)
    first = nodes[places[0]]
    dtype = dtype_name("state", f"field {name!r}", first.data_type)
    item = ITEM_SIZES[dtype]
    strides: dict[int, int] = dict.fromkeys(first.sizes, 0)
    for node in first.path:
        step = node.cell_bytes
        for axis, size in reversed(node.own_sizes.items()):
            if node.kind == "dense" and size > 1:
                if strides[axis]:
                    raise ValueError(
                        f"field {name!r} is cut into blocks (dense in dense along one axis), which is no strided "
                        "array: give each axis one dense node"
                    )
                strides[axis] = step
                step *= size
    starts = [_start(nodes[place], roots) for place in places]
    shape = [size for _, size in sorted(first.sizes.items())]
    steps = [stride for _, stride in sorted(strides.items())]
    for axis, size in enumerate(element):
        steps.append(starts[math.prod(element[axis + 1 :])] - starts[0] if size > 1 else item)
    expected = [starts[0]]
    for size, step in zip(element, steps[len(shape) :], strict=True):
        expected = [start + step * index for start in expected for index in range(size)]
    if starts != expected or any(step % item or step < 0 for step in steps):
        raise ValueError(
            f"field {name!r} has its elements at irregular places, which is no strided array: place it with layout="
            "ti.Layout.AOS, in a node of its own"
        )
    return Field(name, dtype, (*shape, *element), tuple(step // item for step in steps), starts[0], -1)


def _start(node: _Node, roots: Mapping[int, RootMemory]) -> int:
    """Where in the state the first element of a place lies, in bytes."""
    path = node.path
    return roots[path[0].id].offset + sum(each.offset for each in path[1:])


def find_kernels(namespace: Mapping[str, Any]) -> list[Any]:
    """A file's Taichi kernels: its functions, and the methods of its instances of `ti.data_oriented` classes."""
    found: list[Any] = []
    for value in namespace.values():
        if is_data_oriented(value):
            names = [name for name, each in vars(type(value)).items() if hasattr(each, "_primal")]
            found += [getattr(value, name) for name in names]
        elif hasattr(value, "_primal") and not getattr(value, "_is_classkernel", False):
            found.append(value)
    own = [each for each in found if not each._primal.func.__module__.startswith("taichi.")]
    return list({id(each._primal): each for each in own}.values())
