"""What a child that runs trials works on: its trials with their arrays, and where results and its log go."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Record = Mapping[str, Any]  # of a trial, as points.py makes it
Arrays = Mapping[str, np.ndarray]


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
                yield trial, dict(stored)
            self.say(trial, done=True)

    def in_time(self) -> bool:
        """Whether the process has time left: of the CPUs, so that it is as much on a busy machine."""
        return time.process_time() < self.seconds

    def say(self, trial: Record, **what: Any) -> None:
        with self.log.open("a") as log:
            log.write(json.dumps({"trial": trial["id"], **what}) + "\n")

    def keep(self, trial: Record, part: str, results: Arrays) -> None:
        np.savez(Path(self.folder, f"{trial['id']}.{self.mode}.{part}.npz"), **results)
