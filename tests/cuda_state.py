"""Kernels over fields on a device beside the same state on the CPU: on the stand-in for the driver, which interprets
them, or, run as a script, on a real GPU:

    python cuda_state.py FOLDER      with fields.so and state_along.so, of tests/kernels, in the folder
"""

from __future__ import annotations

import copy
import ctypes
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tiaot

if TYPE_CHECKING:
    from cuda_arrays import Driver

N = 600  # of fields.py
ALONG: dict[str, tuple[Any, ...]] = {"advance": (1, 0.1), "measure": (2,)}  # of state_along.py
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "advance": (1, 0.1),
    "measure": (2,),
    "charge": (np.array([0.1, 0.2, 0.3]),),
}

# What the order of additions, and functions of the device's own, may change: as a part of the largest number.
CLOSE = {"float16": 2e-3, "float32": 2e-6, "float64": 1e-13}


def draw(state: Any, seed: int = 7) -> None:
    """Fills every field of fields.py, gradients too."""
    rng = np.random.default_rng(seed)
    for field in [*state.fields.values(), *(each.grad for each in state.fields.values() if each.grad is not None)]:
        if np.dtype(field.dtype).kind == "f":
            field[...] = rng.uniform(0.1, 0.9, field.shape)
    if "order" in state.fields:
        state.order[...] = rng.permutation(N)


def contents(state: Any, along: bool = False) -> dict[str, np.ndarray]:
    """Copies of all fields, gradients too, and of their tangents with `along`."""
    found = {}
    for name, field in state.fields.items():
        for part, each in ((name, field), (f"{name}.grad", field.grad)):
            if each is not None:
                found[part] = each.numpy() if hasattr(each, "numpy") else np.array(each)
            if along and each is not None and each.tangent is not None:
                tangent = each.tangent
                found[f"{part}.tangent"] = tangent.numpy() if hasattr(tangent, "numpy") else np.array(tangent)
    return found


def differences(ours: Any, theirs: Any, along: bool = False) -> list[str]:
    """Where two states differ by more than rounding."""
    wrong = []
    mine, other = contents(ours, along), contents(theirs, along)
    assert mine.keys() == other.keys()
    for name, array in mine.items():
        bound = CLOSE.get(str(array.dtype), 0.0) * max(float(np.abs(other[name]).max(initial=0)), 1.0)
        apart = float(np.abs(array.astype(np.float64) - other[name].astype(np.float64)).max(initial=0))
        if not apart <= bound:
            wrong.append(f"{name}: {apart} apart, {bound} allowed")
    return wrong


def compared(
    module: tiaot.Module, before: Callable[[Any], None] = lambda state: None
) -> Iterator[tuple[str, str, list[str]]]:
    """Of each kernel of fields.py, but for random numbers and results: its name, "forward" or "grad", and how the
    fields on the device then differ from those on the CPU. `before` is called with each state on the device.
    """
    for name in sorted(set(module.kernels) - {"shake", "energy"}):
        start, state = module.state(), module.state(device="cuda:0")
        draw(start)
        before(state)
        state.copy_from(start)
        expected = copy.copy(start)
        for kind in ("forward", "grad"):
            if kind == "grad" and not hasattr(state.kernels[name], "grad"):
                continue
            for each in (expected, state):
                kernel = each.kernels[name]
                (kernel if kind == "forward" else kernel.grad)(*ARGUMENTS.get(name, ()))
            wrong = differences(state, expected)
            yield name, kind, wrong or ([] if differences(state, start) else ["nothing has changed"])


def compared_along(
    module: tiaot.Module, before: Callable[[Any], None] = lambda state: None
) -> Iterator[tuple[str, str, list[str]]]:
    """As `compared`, of the kernels of state_along.py: "jvp" or "hvp", and the tangents of the fields too."""
    for name, arguments in ALONG.items():
        start, state = module.state(), module.state(device="cuda:0")
        draw(start)
        tangents = {}
        rng = np.random.default_rng(8)
        for field, each in contents(start).items():
            tangents[field] = rng.uniform(-1, 1, each.shape)
        before(state)
        for kind in ("jvp", "hvp"):
            expected = copy.copy(start)
            state.copy_from(start)
            for one in (expected, state):
                for field, value in tangents.items():
                    plain = one.fields[field.removesuffix(".grad")]
                    tangent = (plain.grad if field.endswith(".grad") else plain).tangent
                    if tangent is not None:
                        tangent[...] = value
                getattr(one.kernels[name], kind)(*arguments)
            same = differences(expected, start, True)
            yield name, kind, differences(state, expected, True) or ([] if same else ["nothing has changed"])


def describe(driver: Driver, state: Any) -> None:
    """Lets the interpreter tell the state from workspace: all of it holds values, whatever is done to workspace."""
    first = min(state._memory.described(each["name"])[0] for each in state.module.info()["state"]["fields"])
    bytes_ = state.module.info()["state"]["bytes"]
    driver.describe_memory(ctypes.c_void_p(first), ctypes.c_int64(bytes_), b"the state", 1, 1, 1)


def describe_tangents(driver: Driver, state: Any) -> None:
    """The same of the memory of its tangents, which is made here."""
    fields = state.module.info()["state"]["fields"]
    real = [each for each in fields if state._memory.described(each["name"])[4].startswith("float")]
    first, offset = state._memory.described(f"{real[0]['name']}.tangent")[:2]
    bytes_ = state.module.info()["state"]["bytes"]
    at = ctypes.c_void_p(first - (offset - bytes_))
    driver.describe_memory(at, ctypes.c_int64(bytes_), b"the tangents of the state", 1, 1, 1)


def check_findings(driver: Driver) -> None:
    said = driver.findings().decode()
    assert said == "", said


def main(folder: str) -> int:
    checked = failed = 0
    on_fields = compared(tiaot.open(Path(folder, "fields.so")))
    for name, kind, wrong in [*on_fields, *compared_along(tiaot.open(Path(folder, "state_along.so")))]:
        checked, failed = checked + 1, failed + bool(wrong)
        for each in wrong:
            print(f"{name}.{kind}: {each}")
    print(f"{checked} entries over fields checked, {failed} failed")
    return 1 if failed or not checked else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
