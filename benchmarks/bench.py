"""`tiaot bench`: starts the measuring processes, collects what they say, and hands it to the table, JSON and plot."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from . import cold_start, report
from .build_cpp import build
from .cases import SIZES, TASKS, Case, parse_size
from .peers import PEERS

_THREAD_VARIABLES = tuple(f"{name}_NUM_THREADS" for name in ("TIAOT", "OMP", "OPENBLAS", "MKL", "NUMBA", "HL"))
# What keeps the peers to the level that TIAOT_CPU_LEVEL asks for; without it all choose by themselves. build_cpp.py has
# the compiler's.
_BELOW_AVX512 = {
    "OPENBLAS_CORETYPE": "Haswell",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
    "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
}
_QUICK_SIZES = ((2, 8, 4), (1024, 8, 4))


def _available_cpus() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _peer_names(text: str) -> list[str]:
    names = _listed(text)
    for name in names:
        if name not in PEERS:
            raise argparse.ArgumentTypeError(f"no peer '{name}'; there are {', '.join(PEERS)}")
    return [name for name in PEERS if name in names]


def _sizes(text: str) -> list[tuple[int, int, int]]:
    try:
        return [parse_size(part) for part in _listed(text)]
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _threads(text: str) -> list[int]:
    counts = _listed(text)
    if not all(count.isdigit() and int(count) for count in counts):
        raise argparse.ArgumentTypeError(f"expected counts such as 1,2, not '{text}'")
    most = len(_available_cpus())
    if any(int(count) > most for count in counts):
        raise argparse.ArgumentTypeError(f"this process may use {most} CPUs only")
    return [int(count) for count in counts]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", metavar="FILE", help="write every number to FILE, '-' for standard output")
    parser.add_argument("--plot", metavar="FILE.png", help="draw the numbers (needs matplotlib)")
    parser.add_argument("--quick", action="store_true", help="two small sizes, short times, no cold start")
    parser.add_argument("--peers", type=_peer_names, metavar="A,B", help=f"only these of {', '.join(PEERS)}")
    parser.add_argument("--sizes", type=_sizes, metavar="BxNxM,...", help="other sizes, such as 2x8x4,1024x8x4")
    parser.add_argument("--threads", type=_threads, metavar="1,2", help="numbers of threads (default: 1 and 2)")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")


def _measure_cases(
    threads: int, peers: list[str], cases: list[Case], seconds: float, cpp_folder: str
) -> Iterator[dict[str, Any]]:
    """The messages of one measuring process; the last is of kind 'died' when it ended early."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "ENABLE_TAICHI_HEADER_PRINT": "0"}
    environment.update(dict.fromkeys(_THREAD_VARIABLES, str(threads)))
    if os.environ.get("TIAOT_CPU_LEVEL") == "x86-64-v3":
        environment.update(_BELOW_AVX512)
    request = {
        "threads": threads,
        "peers": peers,
        "cases": [asdict(case) for case in cases],
        "seconds": seconds,
        "cpp_folder": cpp_folder,
    }
    cpus = _available_cpus()[:threads]

    def pin() -> None:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, cpus)

    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
            preexec_fn=pin,
        )
        try:
            process.stdin.write(json.dumps(request))
            process.stdin.close()
            for line in process.stdout:
                yield json.loads(line)
            code = process.wait()
        finally:
            process.kill()
            process.wait()
        if code:
            log.seek(0)
            last = (log.read().strip().splitlines() or [""])[-1]
            yield {"kind": "died", "why": f"the measuring process ended with code {code}: {last[:160]}"}


def run(arguments: argparse.Namespace) -> int:
    """Measures and reports. 0, or 1 when a peer gave a wrong result or a measuring process died."""
    out = sys.stderr if arguments.json == "-" else sys.stdout
    if arguments.plot:
        from .plot import draw  # before the long part, so that a missing matplotlib is known at once
    cpus = len(_available_cpus())
    threads = arguments.threads or ([1] if cpus < 2 else [1, 2])
    sizes = arguments.sizes or (_QUICK_SIZES if arguments.quick else SIZES)
    peers = arguments.peers or list(PEERS)
    cases = [Case(*size, task, arguments.dtype) for task in TASKS for size in sizes]
    found: dict[str, Any] = {"environment": report.environment(), "unavailable": {}, "problems": []}
    found |= {"cases": [], "peaks": []}
    with tempfile.TemporaryDirectory(prefix="tiaot-bench-") as folder:
        if "cpp" in peers:
            why = build(Path(folder))
            if why:
                found["unavailable"]["cpp"] = why
        for count in threads:
            report.progress(f"{count} thread{'s' if count > 1 else ''}: starting")
            for message in _measure_cases(count, peers, cases, 0.5 if arguments.quick else 5.0, folder):
                kind = message.pop("kind")
                if kind == "unavailable":
                    found["unavailable"].setdefault(message["peer"], message["why"])
                elif kind == "from_c":
                    found["from_c"] = message["peers"]
                    if "why" in message:
                        found["problems"].append(f"called from C: {message['why']}")
                elif kind == "peak":
                    found["peaks"].append(message)
                elif kind == "died":
                    found["problems"].append(message["why"])
                else:
                    found["cases"].append(message)
                    report.progress(f"{count} thread(s): {len(found['cases'])} of {len(cases) * len(threads)} cases")
    for case in found["cases"]:
        for name, outcome in case["peers"].items():
            if "failed" in outcome:
                where = f"{case['B']}x{case['n']}x{case['m']} {case['task']}, {case['threads']} thread(s)"
                found["problems"].append(f"{PEERS[name].title} at {where}: {outcome['failed']}")
    if not arguments.quick and "TIAOT_CPU_LEVEL" not in os.environ:
        found["cold_start"] = cold_start.measure(7, report.progress)
    report.progress("")
    titles = {name: PEERS[name].title for name in peers}
    print(report.text(found, titles), file=out)
    if arguments.json:
        document = json.dumps(found, indent=1)
        if arguments.json == "-":
            print(document)
        else:
            Path(arguments.json).write_text(document + "\n")
    if arguments.plot:
        draw(found, titles, arguments.plot)
    return 1 if found["problems"] else 0


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tiaot bench", description="Measure tiaot against its peers.")
    add_arguments(parser)
    return run(parser.parse_args(argv))
