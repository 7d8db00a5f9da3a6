"""Trials: runs kernels on given arrays and writes down what comes out. In a child process, since any of them may crash.

    python -m tiaot.export.gate.trial module MODULE DIRECTORY SECONDS [TWIN]   the module, and its gradients in the twin
    python -m tiaot.export.gate.trial cuda LIBRARY DIRECTORY SECONDS           its code for CUDA, interpreted
    python -m tiaot.export.gate.trial jit KERNEL_FILE DIRECTORY SECONDS        Taichi's own JIT, forward and gradients
    python -m tiaot.export.gate.trial bounds KERNEL_FILE DIRECTORY SECONDS     the same, forward, its indices checked
    python -m tiaot.export.gate.trial branches KERNEL_FILE DIRECTORY SECONDS   the same, with its branches counted

DIRECTORY holds what children.py has written: `MODE.json`, the trials, and `ID.npz`, the arrays of each. Here
`ID.MODE.*.npz` are written, and the log `MODE.log`, a line of JSON for each step: what is about to run, so that it is
known where a child died.
"""

from __future__ import annotations

import os
import sys

from .trial_session import Session


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

        run_taichi(session, path)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.stderr.flush()
        os._exit(1)
    sys.stdout.flush()
    os._exit(0)
