"""A process that runs a program as it is, and records its kernels.

python -m tiaot.export.gate.run_recorded FOLDER [-m] PROGRAM ARGUMENTS...
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

from .record import recording


def main(folder: str, *command: str) -> None:
    as_module = command[0] == "-m"
    program, *rest = command[as_module:]
    sys.argv = [program, *rest]
    sys.path[0] = os.getcwd() if as_module else str(Path(program).resolve().parent)
    with recording(folder):
        if as_module:
            runpy.run_module(program, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    main(*sys.argv[1:])
