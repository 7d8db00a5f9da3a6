"""What a child that runs trials works with: its trials, where results and its log go, and arrays moved and compared."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Record = Mapping[str, Any]  # of a trial, as points.py makes it
Arrays = Mapping[str, np.ndarray]

_PERTURBED = 4 * float(np.finfo(np.float32).eps)


class Session:
    """The trials of one child: what there is to run, and where it goes."""

    def __init__(self, mode: str, directory: str, seconds: float) -> None:
        self.mode = mode
        self.folder = Path(directory).absolute()
        self.trials: list[dict[str, Any]] = json.loads(Path(self.folder, f"{mode}.json").read_text())
        self.seconds = seconds
        self.log = Path(self.folder, f"{mode}.log")

    def each(self) -> Iterator[tuple[dict[str, Any], Arrays]]:
        """The trials with their arrays, as long as there is time."""
        for trial in self.trials:
            if not self.in_time():
                return
            with np.load(Path(self.folder, f"{trial['id']}.npz")) as stored:
                yield trial, stored if trial["large"] else dict(stored)  # which reads what is asked for
            self.say(trial, done=True)

    def in_time(self) -> bool:
        """Whether the process has time left: of the CPUs, so that it is as much on a busy machine."""
        return time.process_time() < self.seconds

    def say(self, trial: Record, **what: Any) -> None:
        with self.log.open("a") as log:
            log.write(json.dumps({"trial": trial["id"], **what}) + "\n")

    def keep(self, trial: Record, part: str, results: Arrays) -> None:
        """Writes results down, where they are looked at."""
        if self.mode in ("bounds", "branches"):
            return
        np.savez(Path(self.folder, f"{trial['id']}.{self.mode}.{part}.npz"), **results)


def widened(arrays: Arrays) -> dict[str, np.ndarray]:
    """Copies of arrays, those of real numbers in float64."""
    return {name: array.astype(np.float64) if array.dtype.kind == "f" else array for name, array in arrays.items()}


def perturbed(arrays: Arrays, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Arrays whose real numbers are moved as rounding might in float32, which kernels in float64 may have inside."""
    moved = {}
    for name, array in arrays.items():
        if array.dtype.kind == "f":
            size = max(_PERTURBED, 2 * float(np.finfo(array.dtype).eps))
            array = np.asarray(array * (1 + size * rng.choice([-1.0, 1.0], array.shape)), array.dtype)
        moved[name] = array
    return moved


def spread(results: Arrays, others: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """How far apart results lie, element by element, of points that rounding cannot tell apart."""
    return {key: np.max([_apart(array, other[key]) for other in others], axis=0) for key, array in results.items()}


def _apart(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The differences of two results; infinity where one is a number and the other is not."""
    a, b = one.astype(np.float64), other.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.nan_to_num(np.abs(a - b), nan=np.inf))
