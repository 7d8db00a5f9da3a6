"""The state of a module: Taichi's fields as named arrays in one piece of memory. Knows no kernels.

Taichi keeps fields in trees, whose inner nodes say how the elements lie. Every child of a root that a kernel uses gets
a place in the state's memory, the rest of a tree none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

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
class RootMemory:
    """Where a child of a root lies in the state. `dtype` is that of all numbers in it, "" where there are several."""

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
    roots: Mapping[int, RootMemory]  # by the number of the child
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
            {key: RootMemory(**each) for key, each in numbered(record["roots"]).items()},
            numbered(record["inner"]),
            {key: Dense(each["cell_bytes"], tuple(each["sizes"])) for key, each in numbered(record["dense"]).items()},
        )
