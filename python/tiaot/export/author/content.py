"""Content: what a kernel file wrote into its fields as it ran, which is what a state of the module starts with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..state import Content, Field, State

_MOST_BYTES = 64 << 20  # of a module; what is larger belongs into a file of its own


def were_used() -> bool:
    """Whether a field was read or written, or a kernel ran, since Taichi was set up."""
    from taichi.lang import impl

    return bool(impl.get_runtime().materialized)


def read_fields(fields: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The fields that hold anything but zeros, by name. Runs kernels of Taichi's."""
    arrays = {name: np.asarray(field.to_numpy()) for name, field in fields.items()}
    return {name: array for name, array in arrays.items() if array.any()}


def contents(state: State, arrays: Mapping[str, np.ndarray]) -> list[Content]:
    """The pieces of a state's memory that hold the content of its fields.

    Raises:
        ValueError: when it is too much for a module; it names the largest field.
    """
    filled = [(field, arrays[field.name]) for field in state.fields if field.name in arrays]
    total = sum(array.nbytes for _, array in filled)
    if total > _MOST_BYTES:
        field, array = max(filled, key=lambda each: each[1].nbytes)
        raise ValueError(
            f"field {field.name!r} holds {array.nbytes >> 20} MB that the file wrote, and all fields {total >> 20} MB; "
            f"a module keeps up to {_MOST_BYTES >> 20} MB: write it from your program, state.{field.name}[...] = "
            'values, and keep what fills it here under if __name__ == "__main__":'
        )
    pieces = []
    for root in sorted(state.roots.values(), key=lambda each: each.offset):
        inside = [each for each in filled if root.offset <= each[0].offset < root.offset + root.bytes]
        if not inside:
            continue
        image = np.zeros(root.bytes, np.uint8)
        for field, array in inside:
            _view(image, field, root.offset)[...] = array
        used = np.flatnonzero(image)
        first = int(used[0])
        pieces.append(Content(root.offset + first, image[first : int(used[-1]) + 1].tobytes()))
    return pieces


def _view(image: np.ndarray, field: Field, start: int) -> np.ndarray:
    dtype = np.dtype(field.dtype)
    strides = tuple(stride * dtype.itemsize for stride in field.strides)
    return np.ndarray(field.shape, dtype, image, field.offset - start, strides)
