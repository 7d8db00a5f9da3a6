"""Kernels over fields on a device that the stand-in for the driver interprets, beside the same state on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
from cuda_arrays import Driver

# What the order of additions, and functions of the device's own, may change: as a part of the largest number.
CLOSE = {"float16": 2e-3, "float32": 2e-6, "float64": 1e-13}


def draw(state: Any, order: int, seed: int = 7) -> None:
    """Fills every field, gradients too; `order` is how many there are to choose from in a field of that name."""
    rng = np.random.default_rng(seed)
    for field in [*state.fields.values(), *(each.grad for each in state.fields.values() if each.grad is not None)]:
        if np.dtype(field.dtype).kind == "f":
            field[...] = rng.uniform(0.1, 0.9, field.shape)
    if "order" in state.fields:
        state.fields["order"][...] = rng.permutation(order)


def contents(state: Any) -> dict[str, np.ndarray]:
    """Copies of all fields, gradients too."""
    found = {}
    for name, field in state.fields.items():
        for part, each in ((name, field), (f"{name}.grad", field.grad)):
            if each is not None:
                found[part] = each.numpy() if hasattr(each, "numpy") else np.array(each)
    return found


def differences(ours: Any, theirs: Any) -> list[str]:
    """Where two states differ by more than rounding."""
    wrong = []
    mine, other = contents(ours), contents(theirs)
    assert mine.keys() == other.keys()
    for name, array in mine.items():
        bound = CLOSE.get(str(array.dtype), 0.0) * max(float(np.abs(other[name]).max(initial=0)), 1.0)
        apart = float(np.abs(array.astype(np.float64) - other[name].astype(np.float64)).max(initial=0))
        if not apart <= bound:
            wrong.append(f"{name}: {apart} apart, {bound} allowed")
    return wrong


def describe(driver: Driver, state: Any) -> None:
    """Lets the interpreter tell the state from workspace: all of it holds values, whatever is done to workspace."""
    first = min(state._memory.described(each["name"])[0] for each in state.module.info()["state"]["fields"])
    bytes_ = state.module.info()["state"]["bytes"]
    driver.describe_memory(_pointer(first), _long(bytes_), b"the state", 1, 1, 1)


def _pointer(address: int) -> Any:
    import ctypes

    return ctypes.c_void_p(address)


def _long(value: int) -> Any:
    import ctypes

    return ctypes.c_int64(value)


def check_findings(driver: Driver) -> None:
    said = driver.findings().decode()
    assert said == "", said
