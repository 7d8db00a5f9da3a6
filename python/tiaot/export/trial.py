"""Trials: runs kernels on given arrays and writes down what comes out. In a child process, since any of them may crash.

    python -m tiaot.export.trial module MODULE DIRECTORY SECONDS [TWIN]   the module, and its gradients in the twin
    python -m tiaot.export.trial cuda LIBRARY DIRECTORY SECONDS           its code for CUDA, interpreted
    python -m tiaot.export.trial jit KERNEL_FILE DIRECTORY SECONDS        Taichi's own JIT, forward and gradients
    python -m tiaot.export.trial bounds KERNEL_FILE DIRECTORY SECONDS     the same, forward, with its indices checked

DIRECTORY holds what children.py has written: `MODE.json`, the trials, and `ID.npz`, the arrays of each. Here
`ID.MODE.*.npz` are written, and the log `MODE.log`, a line of JSON for each step: what is about to run, so that it is
known where a child died.
"""

from __future__ import annotations

import json
import os
import sys
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


def main(mode: str, path: str, directory: str, seconds: str, twin: str = "") -> None:
    path = os.path.abspath(path)
    session = Session(mode, directory, float(seconds))
    os.chdir(directory)  # Taichi may write there
    if mode == "module":
        from .trial_module import run_module

        run_module(session, path, twin)
    elif mode == "cuda":
        from .trial_cuda import run_interpreted

        run_interpreted(session, path)
    else:
        from .trial_jit import run_taichi

        run_taichi(session, path, mode == "bounds")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.stderr.flush()
        os._exit(1)
    sys.stdout.flush()
    os._exit(0)
