"""`python -m tiaot.benchmarks.gradbench`: exports, checks, then times all peers of a problem in turn, on one thread.

What is timed is the time of the processor, so that other processes on the machine show little.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
import timeit
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Before NumPy and the frameworks are imported: one thread each.
for _name in ("TIAOT", "OMP", "OPENBLAS", "MKL"):
    os.environ[f"{_name}_NUM_THREADS"] = "1"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["ENABLE_TAICHI_HEADER_PRINT"] = "0"
os.environ["TI_LOG_LEVEL"] = "error"

from .. import report  # noqa: E402
from ..measure import measure  # noqa: E402
from . import by_hand, numpy_peer, tiaot_peer  # noqa: E402
from .peers import MAY_CRASH, TITLES, check, compute, compute_in_child, prepare  # noqa: E402
from .problems import PROBLEMS, Problem  # noqa: E402


@contextlib.contextmanager
def on_one_cpu() -> Iterator[None]:
    """Keeps this thread, and those that it starts, to one CPU; compilers in children may have all of them again."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(cpus)[-1:])
    try:
        yield
    finally:
        os.sched_setaffinity(0, cpus)


def run(problem: Problem, peers: list[str], arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One row: for each peer microseconds of its primal and its gradient, or why not."""
    report.progress(f"{problem.title}: exporting")
    refused = tiaot_peer.export(problem, folder, arguments.derivative) if "tiaot" in peers else ""
    without = tiaot_peer.export(problem, folder, "none") if refused else ""
    report.progress(f"{problem.title}: checking")
    asked = [each for each in peers if each != "numpy" or problem.name in numpy_peer.PRIMALS]
    inputs = problem.inputs(arguments.quick)
    calls, computed = {}, {}
    for peer in (each for each in asked if each in MAY_CRASH):
        if peer == "tiaot" and without:
            computed[peer] = {"primal": f"refused: {without}"}
        else:
            computed[peer] = compute_in_child(peer, problem, arguments.quick, folder)
    with on_one_cpu():
        for peer in (each for each in asked if each not in MAY_CRASH):
            calls[peer] = prepare(peer, problem, inputs, folder)
            computed[peer] = compute(calls[peer])
        wrong = check(problem, computed)
        timers = {}
        for peer in (each for each in asked if "primal" not in wrong[each]):
            for what, call in (calls.get(peer) or prepare(peer, problem, inputs, folder)).items():
                if what not in wrong[peer]:
                    call()
                    timers[peer, what] = timeit.Timer(call, timer=time.process_time)
        report.progress(f"{problem.title}: timing")
        times = measure(timers, arguments.seconds)
    if refused:
        wrong["tiaot"].setdefault("gradient", f"refused: {refused}")
    row: dict[str, Any] = {"problem": problem.name, "title": problem.title, "peers": {}, "why": wrong}
    for (peer, what), found in times.items():
        row["peers"].setdefault(peer, {})[what] = found
    return row


def text(rows: list[dict[str, Any]], peers: list[str]) -> str:
    """Three tables, and the reasons of gaps."""
    lines, reasons = [], []
    for row in rows:
        for peer, parts in row["why"].items():
            reasons += [f"{row['title']}, {TITLES[peer]}, {what}: {why}" for what, why in parts.items()]
    for head, needed, value in (
        (
            "primal, microseconds of the processor (median)",
            ["primal"],
            lambda found: report.number(found["primal"]["us"]),
        ),
        (
            "gradient, microseconds of the processor (median)",
            ["gradient"],
            lambda found: report.number(found["gradient"]["us"]),
        ),
        (
            "gradient over primal",
            ["primal", "gradient"],
            lambda found: f"{found['gradient']['us'] / found['primal']['us']:.2f}",
        ),
    ):
        shown = [each for each in peers if each != "numpy" or head.startswith("primal")]
        table = [["", *(TITLES[each] for each in shown)]]
        for row in rows:
            cells = []
            for peer in shown:
                found = row["peers"].get(peer, {})
                cells.append(value(found) if set(needed) <= set(found) else "-")
            table.append([row["title"], *cells])
        lines += [f"{head}:", *report.aligned(table), ""]
    return "\n".join([*lines, *reasons])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tiaot.benchmarks.gradbench", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, short times")
    parser.add_argument("--derivative", choices=("taichi", "tiaot"), default="taichi", help="who makes tiaot's adjoint")
    parser.add_argument("--problems", metavar="A,B", help=f"only these of {', '.join(each.name for each in PROBLEMS)}")
    parser.add_argument("--peers", metavar="A,B", help=f"only these of {', '.join(TITLES)}; C++ is always there")
    parser.add_argument("--json", metavar="FILE", help="write every number to FILE")
    arguments = parser.parse_args(argv)
    arguments.seconds = 1.0 if arguments.quick else 8.0
    named = arguments.problems.split(",") if arguments.problems else [each.name for each in PROBLEMS]
    peers = [each for each in TITLES if not arguments.peers or each in ("cpp", *arguments.peers.split(","))]
    rows = []
    with tempfile.TemporaryDirectory(prefix="tiaot-gradbench-") as folder:
        why = by_hand.build(Path(folder))
        if why:
            print(f"C++ by hand cannot be built, which all are held against: {why}", file=sys.stderr)
            return 1
        for problem in PROBLEMS:
            if problem.name in named:
                rows.append(run(problem, peers, arguments, Path(folder)))
    about = report.environment()
    report.progress("")
    packages = [f"{name} {version}" for name, version in about["packages"].items()]
    print(", ".join([about["cpu"], f"Python {about['python']}", *packages]))
    print(f"float64, one thread; the adjoint of tiaot's kernels by {arguments.derivative}\n")
    print(text(rows, peers))
    if arguments.json:
        found = {"environment": about, "derivative": arguments.derivative, "rows": rows}
        Path(arguments.json).write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
