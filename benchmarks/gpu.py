"""tiaot on a GPU: whether its results are right there, and how fast it is. In two steps, since the machine that has the
GPU need not have what exports kernels:

    python -m benchmarks.gpu pack DIR       in a checkout, with what `pip install "tiaot[cuda]"` brings
    DIR/run.sh [--rehearse]                 on the machine with the GPU: builds, checks, measures, in eight minutes

Each step is a process with a time limit. What fails is reported and the rest goes on. `--rehearse` measures on the CPU,
to try the script itself.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .report import aligned, environment, number, versions

_PACKAGES = ("nanobind", "cupy-cuda13x", "cupy-cuda12x", "triton", "jax-cuda13-plugin", "pytest")
_QUICK_SIZES = ((2, 8, 4), (1024, 8, 4), (256, 64, 64))  # of a rehearsal


@dataclass(frozen=True)
class Step:
    """A process: what it runs, for how many seconds at most, and whether it is of use without a GPU."""

    name: str
    command: list[str]
    limit: float
    needs_gpu: bool = True
    environment: tuple[tuple[str, str], ...] = ()


def plan(folder: Path, out: Path, seconds: float, rehearse: bool) -> list[Step]:
    """The steps, the most telling first."""
    python, tests = sys.executable, folder / "tests"
    here = [python, "-m", "tiaot.benchmarks.gpu"]
    numbers = [python, str(tests / "cuda_numerics.py")]
    kernels = str(folder / "kernels")
    device = "cpu" if rehearse else "cuda"
    pytest = [python, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "--import-mode=importlib"]
    steps = [
        Step("device", [*here, "device"], 60, needs_gpu=False),
        Step("numbers, torch", [*numbers, "check", "torch", kernels], 120),
        Step("torch, JAX, CuPy, streams, graphs, errors", [*pytest, str(tests / "test_cuda_device.py")], 120),
        Step("fields", [python, str(tests / "cuda_state.py"), kernels], 60),
        Step("first calls", [*here, "first-calls", device], 40, needs_gpu=not rehearse),
        Step(
            "measure",
            [*here, "measure", device, "--seconds", str(seconds / 3), "--out", str(out)],
            seconds / 2,
            needs_gpu=not rehearse,
        ),
        Step("numbers, CuPy", [*numbers, "check", "cupy", kernels], 90),
        Step("bits, torch", [*numbers, "digests", "torch", kernels], 40),
        Step("bits, CuPy", [*numbers, "digests", "cupy", kernels], 40),
    ]
    if sanitizer := shutil.which("compute-sanitizer") or next(
        (str(path) for path in Path("/usr/local").glob("cuda*/bin/compute-sanitizer")), None
    ):
        memcheck = [sanitizer, "--tool", "memcheck", "--error-exitcode", "9"]
        some = [*numbers, "check", "torch", kernels, "--only", "device", "--sizes", "33", "129"]
        steps.append(
            Step("memory checker", [*memcheck, *some], 60, environment=(("PYTORCH_NO_CUDA_MEMORY_CACHING", "1"),))
        )
    return steps


def run_step(step: Step, limit: float, out: Path) -> dict[str, Any]:
    """How it went: status "ok", "failed" or "timed out", its seconds, the end of what it printed."""
    started = time.monotonic()
    log = out / f"{step.name.replace(', ', '-').replace(' ', '-')}.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            step.command,
            stdout=file,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false", **dict(step.environment)},
            start_new_session=True,
        )
        try:
            code = process.wait(limit)
            status = "ok" if code == 0 else f"failed ({code})"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()
            status = f"timed out after {limit:.0f} s"
    return {
        "step": step.name,
        "status": status,
        "seconds": round(time.monotonic() - started, 1),
        "tail": log.read_text(errors="replace")[-6000:],
    }


def run(folder: Path, out: Path, seconds: float, rehearse: bool) -> int:
    """Runs all steps and reports. 1 when one failed, 0 also where there is no GPU."""
    deadline = time.monotonic() + seconds
    out.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {"environment": environment(), "rehearsal": rehearse, "steps": []}
    found["environment"]["packages"] |= versions(_PACKAGES)
    has_gpu = False
    for step in plan(folder, out, seconds, rehearse):
        left = deadline - time.monotonic()
        if step.needs_gpu and not has_gpu:
            outcome: dict[str, Any] = {"step": step.name, "status": "no GPU", "seconds": 0.0, "tail": ""}
        elif left < 5:
            outcome = {"step": step.name, "status": "no time left", "seconds": 0.0, "tail": ""}
        else:
            outcome = run_step(step, min(step.limit, left), out)
        if step.name == "device" and outcome["status"] == "ok":
            found["device"] = json.loads(outcome["tail"].strip().splitlines()[-1])
            has_gpu = bool(found["device"].get("name"))
        if step.name == "first calls" and outcome["status"] == "ok":
            found["first_calls_ms"] = json.loads(outcome["tail"].strip().splitlines()[-1])
        found["steps"].append(outcome)
        print(f"{step.name}: {outcome['status']}, {outcome['seconds']} s", flush=True)
        if outcome["status"].startswith(("failed", "timed out")):
            print(outcome["tail"][-3000:], flush=True)
        elif step.name.startswith(("numbers", "torch, JAX")) and outcome["tail"]:
            print("  " + "\n  ".join(outcome["tail"].strip().splitlines()[-4:]), flush=True)
    found["same_bits"] = same_bits(out)
    if (measured := out / "measured.json").exists():
        found["measured"] = [json.loads(line) for line in measured.read_text().splitlines()]
    (out / "gpu.json").write_text(json.dumps(found, indent=1) + "\n")
    print("\n" + text(found))
    return 1 if any(step["status"].startswith(("failed", "timed out")) for step in found["steps"]) else 0


def same_bits(out: Path) -> str:
    """Whether the same calls gave the same bits in two processes, with arrays of torch and of CuPy."""
    every = []
    for name in ("torch", "CuPy"):
        try:
            every.append(json.loads((out / f"bits-{name}.log").read_text().strip().splitlines()[-1]))
        except (OSError, ValueError, IndexError):
            return "unknown"
    other = sorted(key for key in every[0] if every[0][key] != every[1].get(key))
    return f"of {len(every[0])} entries" if not other else f"not of {', '.join(other)}"


# ---- what was found, as text


def text(found: dict[str, Any]) -> str:
    """The report."""
    about = found["environment"]
    device = found.get("device", {})
    lines = [f"== {device.get('name') or 'no GPU'}; {about['cpu']}; Python {about['python']}"]
    lines.append(", ".join(f"{name} {version}" for name, version in about["packages"].items()))
    lines += [f"{key}: {value}" for key, value in device.items() if key != "name"]
    lines += [
        "",
        *aligned([["step", "outcome", "s"], *([s["step"], s["status"], str(s["seconds"])] for s in found["steps"])]),
    ]
    lines.append(f"the same bits in two processes: {found['same_bits']}")
    if times := found.get("first_calls_ms"):
        lines.append(
            "milliseconds of dense_tanh: " + ", ".join(f"{name} {number(value)}" for name, value in times.items())
        )
    cases = [case for case in found.get("measured", []) if "peers" in case]
    for task in dict.fromkeys(case["task"] for case in cases):
        of_task = [case for case in cases if case["task"] == task]
        title = "forward" if task == "forward" else f"vjp with respect to {', '.join(task)}"
        for key, what in (
            ("host_us", "host, microseconds a call"),
            ("gpu_us", "GPU, microseconds a call"),
            ("us", "both"),
        ):
            if rows := table(of_task, key):
                lines += ["", f"== {title}: {what}", *rows]
        if rows := rates(of_task):
            lines += ["", f"== {title}: GB/s of arrays / TFLOP/s of products, from the GPU's time", *rows]
    for case in found.get("measured", []):
        for name, outcome in case.get("peers", {}).items():
            if "failed" in outcome:
                lines.append(f"failed: {name} {case['task']} {size_of(case)}: {outcome['failed']}")
        if "skipped" in case:
            lines.append(f"skipped: {case['task']} {size_of(case)}: {case['skipped']}")
    return "\n".join(lines)


def size_of(case: dict[str, Any]) -> str:
    return f"({case['B']}, {case['n']}, {case['m']})"


def columns(cases: list[dict[str, Any]], key: str) -> dict[str, str]:
    """The contenders that have such a time in some case, with their titles."""
    from .gpu_measure import CONTENDERS

    return {
        name: title for name, (title, _) in CONTENDERS.items() if any(key in c["peers"].get(name, {}) for c in cases)
    }


def table(cases: list[dict[str, Any]], key: str) -> list[str]:
    """One kind of time of every contender, the least of each size marked; empty where there is none."""
    names = columns(cases, key)
    if not names:
        return []
    rows = [["(B, n, m)", *names.values()]]
    for case in cases:
        times = {name: case["peers"].get(name, {}).get(key) for name in names}
        best = min((time for time in times.values() if time is not None), default=None)
        rows.append(
            [size_of(case), *("-" if t is None else number(t) + ("*" if t == best else "") for t in times.values())]
        )
    return aligned(rows)


def rates(cases: list[dict[str, Any]]) -> list[str]:
    """What the GPU moved and computed in its time."""
    from .gpu_measure import work

    names = columns(cases, "gpu_us")
    if not names:
        return []
    rows = [["(B, n, m)", *names.values()]]
    for case in cases:
        moved, operations = work((case["B"], case["n"], case["m"]), case["task"])
        cells = []
        for name in names:
            us = case["peers"].get(name, {}).get("gpu_us")
            cells.append("-" if not us else f"{number(moved / us * 1e-3)} / {number(operations / us * 1e-6)}")
        rows.append([size_of(case), *cells])
    return aligned(rows)


def device_facts() -> dict[str, Any]:
    """The first GPU, its driver, and which of the shipped module's images runs there; without a name, no GPU."""
    import tiaot
    from tiaot import _core

    facts: dict[str, Any] = {"name": "", "cpu_level": tiaot.cpu_level()}
    try:
        smi = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,clocks.max.sm", "--format=csv,noheader"]
        facts["nvidia-smi"] = subprocess.run(smi, capture_output=True, text=True, timeout=30).stdout.strip()
    except (OSError, subprocess.TimeoutExpired) as error:
        facts["nvidia-smi"] = str(error)
    try:
        facts["devices"] = _core.cuda_device_count()
    except (RuntimeError, NotImplementedError) as error:
        facts["driver"] = " ".join(str(error).split())
        return facts
    try:
        import torch

        if facts["devices"] and torch.cuda.is_available():
            facts["name"] = torch.cuda.get_device_name(0)
            facts["capability"] = ".".join(map(str, torch.cuda.get_device_capability(0)))
            facts["torch_cuda"] = torch.version.cuda
        module = tiaot.load("dense_tanh").module
        facts["image"] = str(module._cuda_image(0)) if facts["devices"] else "none"
    except (ImportError, RuntimeError, NotImplementedError, ValueError) as error:
        facts["problem"] = " ".join(str(error).split())
    return facts


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tiaot.benchmarks.gpu", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    pack = commands.add_parser("pack", help="make a folder for the machine with the GPU")
    pack.add_argument("folder", type=Path)
    pack.add_argument(
        "--cuda", default="", metavar="ARCHITECTURES", help="sm_80,sm_90; those of a plain --cuda by default"
    )
    everything = commands.add_parser("run", help="all steps; run.sh calls it")
    everything.add_argument("--folder", type=Path, required=True)
    everything.add_argument("--out", type=Path, required=True)
    everything.add_argument("--seconds", type=float, default=420, help="for all steps together")
    everything.add_argument("--rehearse", action="store_true", help="measure on the CPU, to try the script")
    commands.add_parser("device", help="a step: the facts, as JSON")
    first = commands.add_parser("first-calls", help="a step")
    times = commands.add_parser("measure", help="a step")
    for each in (first, times):
        each.add_argument("device", choices=("cuda", "cpu"))
    times.add_argument("--seconds", type=float, required=True)
    times.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args(argv)
    if arguments.command == "pack":
        from .gpu_pack import pack as fill

        try:
            size = fill(arguments.folder, f"--cuda={arguments.cuda}")
        except (ValueError, RuntimeError) as error:
            parser.error(str(error))
        print(f"{arguments.folder}: {size / (1 << 20):.1f} MiB; on the machine with the GPU: {arguments.folder}/run.sh")
        return 0
    if arguments.command == "run":
        return run(arguments.folder, arguments.out, arguments.seconds, arguments.rehearse)
    if arguments.command == "device":
        print(json.dumps(device_facts()))
        return 0
    from . import gpu_measure

    if arguments.command == "first-calls":
        print(json.dumps(gpu_measure.first_calls(arguments.device)))
        return 0
    sizes = gpu_measure.SIZES if arguments.device == "cuda" else _QUICK_SIZES
    with (arguments.out / "measured.json").open("w") as file:
        for case in gpu_measure.measure(arguments.device, arguments.seconds, sizes):
            print(json.dumps(case), file=file, flush=True)  # what there is, should the time be over
            print(json.dumps(case), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
