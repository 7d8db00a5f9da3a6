"""The process that measures, one for each number of threads: checks every peer, then times them in turn.

Started by bench.py with the environment and CPU affinity already set; reads a request (JSON) on stdin and writes one
JSON object a line on what was stdout. Knows nothing about tables.
"""

from __future__ import annotations

import json
import os
import sys
import timeit
from typing import Any, TextIO

import numpy as np

from .cases import Case, check, make_inputs, reference
from .measure import measure, quartiles
from .peers import PEERS, Cpp, Peer, Tiaot


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else text[:157] + "..."


def _start(names: list[str], threads: int, channel: TextIO) -> dict[str, Peer]:
    peers = {}
    for name in names:
        try:
            peers[name] = PEERS[name](threads)
        except Exception as error:  # whatever a foreign package raises: it is reported, the others are measured
            _send(channel, kind="unavailable", peer=name, why=_one_line(error))
    return peers


def _send(channel: TextIO, **message: Any) -> None:
    print(json.dumps(message), file=channel, flush=True)


def run_case(case: Case, peers: dict[str, Peer], seconds: float, threads: int) -> dict[str, dict[str, Any]]:
    """For each peer its times, or {'skipped': why} or {'failed': why}."""
    inputs = make_inputs(case)
    expected = reference(case, inputs)
    outcome: dict[str, dict[str, Any]] = {}
    prepared = {}
    for name, peer in peers.items():
        why = peer.skip(case)
        if why:
            outcome[name] = {"skipped": why}
            continue
        try:
            ready = peer.prepare(case, inputs)
            wrong = check(case, ready.results(eval(ready.expression, ready.names)), expected)
        except Exception as error:  # as above
            outcome[name] = {"failed": _one_line(error)}
            continue
        if wrong:
            outcome[name] = {"failed": wrong}
        else:
            prepared[name] = ready
    timers = {name: timeit.Timer(ready.expression, globals=ready.names) for name, ready in prepared.items()}
    return {**outcome, **measure(timers, seconds, threads)}


def from_c(tiaot: Tiaot, cpp: Cpp) -> dict[str, dict[str, Any]]:
    """Quartiles of microseconds of a call from C with two samples: tiaot's C function and the one by hand, in turn."""
    case = Case(2, 8, 4, "x")
    inputs = make_inputs(case)
    gx = np.empty_like(inputs.x)
    paths: dict[str, str] = {"tiaot": tiaot.module_path, "cpp": ""}
    samples: dict[str, list[float]] = {name: [] for name in paths}
    expected = reference(case, inputs)
    for name, path in paths.items():
        gx.fill(np.nan)
        cpp.microseconds_from_c(path, 1, *vars(inputs).values(), gx)
        if wrong := check(case, (gx,), expected):
            raise RuntimeError(f"{name}: {wrong}")
    for _ in range(100):
        for name, path in paths.items():
            samples[name].append(cpp.microseconds_from_c(path, 10000, *vars(inputs).values(), gx))
    return {name: dict(zip(("us_q1", "us", "us_q3"), quartiles(times), strict=True)) for name, times in samples.items()}


def main() -> int:
    request = json.load(sys.stdin)
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # packages that greet on stdout do so on stderr
    Cpp.folder = request["cpp_folder"]
    threads = request["threads"]
    peers = _start(request["peers"], threads, channel)
    for values in request["cases"]:
        case = Case(**values)
        outcome = run_case(case, peers, request["seconds"], threads)
        _send(channel, kind="case", threads=threads, **values, peers=outcome)
    if "cpp" in peers:
        for dtype in dict.fromkeys(values["dtype"] for values in request["cases"]):
            _send(channel, kind="peak", threads=threads, dtype=dtype, gflops=peers["cpp"].fma_gflops(dtype))
    lower = "TIAOT_CPU_LEVEL" in os.environ  # the plain C functions run the machine's level all the same
    if threads == 1 and "tiaot" in peers and "cpp" in peers and not lower:
        try:
            _send(channel, kind="from_c", peers=from_c(peers["tiaot"], peers["cpp"]))
        except (OSError, RuntimeError) as error:
            _send(channel, kind="from_c", peers={}, why=_one_line(error))
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # several runtimes with threads of their own share this process: leave without their teardown
