"""What kernels over fields cost, forward and backward, beside the same program in Taichi's JIT.

    python -m tiaot.benchmarks.fields [--json FILE] [--threads N]

The program is fields_program.py, exported as it is. Results are checked first; the statements of one kernel are timed
in turn, in one process.
"""

from __future__ import annotations

import argparse
import json
import runpy
import timeit
from pathlib import Path
from typing import Any

import numpy as np
import tiaot

from .beside_taichi import HEAD, exported, row, start
from .measure import measure
from .report import aligned

_SECONDS = 4.0
_PROGRAM = Path(__file__).parent / "fields_program.py"
_CLOSE = 1e-3  # float32, sums of up to 262,144 squares, in different orders


def _fill(state: tiaot.State, program: dict[str, Any]) -> None:
    """The same numbers for both; the gradients of all fields too."""
    rng = np.random.default_rng(0)
    for name, field in state.fields.items():
        for ours, theirs in ((field, program[name]), (field.grad, program[name].grad)):
            if ours is None:
                continue
            values = rng.uniform(-0.5, 0.5, ours.shape).astype(np.float32)
            ours[...] = values
            if ours.shape:
                theirs.from_numpy(values)
            else:
                theirs[None] = float(values)


def _check(state: tiaot.State, program: dict[str, Any], kernel: str) -> None:
    """Raises RuntimeError where the kernel or its adjoint leave other numbers than Taichi's."""
    for name, field in state.fields.items():
        for what, ours, theirs in (("", field, program[name]), (".grad", field.grad, program[name].grad)):
            if ours is not None and not np.allclose(ours, theirs.to_numpy(), rtol=_CLOSE, atol=_CLOSE):
                raise RuntimeError(f"{kernel}: {name}{what} is not what Taichi computes")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tiaot.benchmarks.fields", description=__doc__.splitlines()[0])
    parser.add_argument("--json", metavar="FILE", help="write every number to FILE")
    parser.add_argument("--threads", type=int, default=1, help="threads for both (default: 1)")
    arguments = parser.parse_args(argv)
    found: dict[str, Any] = start(arguments.threads)
    program = runpy.run_path(str(_PROGRAM))
    rows = [HEAD]
    state = exported(_PROGRAM).state()
    for name, ours in state.kernels.items():
        theirs = program[name]
        _fill(state, program)
        theirs(), ours(), theirs.grad(), ours.grad()
        _check(state, program, name)
        names = {"theirs": theirs, "ours": ours}
        statements = {
            "jit": "theirs()",
            "tiaot": "ours()",
            "jit adjoint": "theirs.grad()",
            "tiaot adjoint": "ours.grad()",
        }
        timers = {title: timeit.Timer(statement, globals=names) for title, statement in statements.items()}
        found[name] = times = measure(timers, _SECONDS)
        rows.append(row(name, times))
    print("", "microseconds a call, medians:", *aligned(rows), sep="\n")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
