"""`tiaot doctor`: what this machine and installation offer, each part tried out. Finds faults; mends nothing."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from . import Module, __version__, _core, cpu_level, get_num_threads
from . import open as open_module
from .export.module.link import LinkError, find_linker
from .export.target import native
from .inspect_module import needed_driver

_VARIABLES = ("TIAOT_CPU_LEVEL", "TIAOT_CUDA_PTX", "TIAOT_NUM_THREADS", "TIAOT_SPIN")
_PACKAGES = ("numpy", "torch", "jax", "taichi", "llvmlite", "matplotlib")
_KNOWN_ANSWER = "from tiaot.demo import difference; print(difference())"
_MODULES = Path(_core.__file__).parent / "modules"
_REINSTALL = "install tiaot again: pip install --force-reinstall tiaot"


@dataclass
class Finding:
    """One line: what was looked at, what was found, and what to do when that is a fault ('' when it is none)."""

    subject: str
    found: str
    remedy: str = ""


def _name(module: Path) -> str:
    return module.name.removesuffix(".tiaot.so")


def _one_line(error: object) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()


def _machine() -> list[Finding]:
    level = cpu_level()
    findings = [Finding("CPU", _cpu_name())]
    if level is None:
        findings.append(Finding("CPU level", "below x86-64-v2", "tiaot needs SSE4.2 and POPCNT: run it on a newer CPU"))
    else:
        findings.append(Finding("CPU level", level))
    cpus = f"{os.cpu_count()} in the machine"
    if hasattr(os, "sched_getaffinity"):
        cpus += f", {len(os.sched_getaffinity(0))} in this process's affinity mask"
    findings.append(Finding("CPUs", cpus))
    try:
        findings.append(Finding("threads by default", str(get_num_threads())))
    except (ValueError, RuntimeError) as error:
        findings.append(Finding("threads by default", _one_line(error), "set TIAOT_NUM_THREADS to a number from 1 on"))
    return findings


def _cuda() -> list[Finding]:
    """The driver and its devices, and what each shipped module runs on each. A machine without CUDA is no fault."""
    try:
        count = _core.cuda_device_count()
    except RuntimeError as error:
        return [Finding("CUDA driver", _one_line(error).removeprefix("tiaot_cuda_device_count: "))]
    findings = [Finding("CUDA driver", f"{count} device{'' if count == 1 else 's'}")]
    for path in sorted(_MODULES.glob("*.tiaot.so")):
        try:
            with open_module(path) as module:
                for device in range(count):
                    findings.append(Finding(f"{_name(path)} on cuda:{device}", _image(module, device)))
        except (OSError, ValueError, NotImplementedError):
            continue  # told with the modules
    return findings


def _image(module: Module, device: int) -> str:
    try:
        image = module._cuda_image(device)
    except (NotImplementedError, RuntimeError) as error:
        return _one_line(error)
    if image is None:
        return "no CUDA code: runs on the CPU only"
    said = f"{image['kind']} for compute capability {image['architecture']}, {image['bytes']:,} bytes"
    return (
        f"{said}; needs {needed_driver(module.info()['cuda']['ptxas_version'])}" if image["kind"] == "cubin" else said
    )


def _environment() -> list[Finding]:
    findings = []
    for name, value in sorted(os.environ.items()):
        if name in _VARIABLES:
            findings.append(Finding(name, value))
        elif name.startswith("TIAOT_"):
            findings.append(Finding(name, f"{value} (tiaot reads no variable of this name)"))
    return findings


def _software() -> list[Finding]:
    findings = [
        Finding("tiaot", f"{__version__} in {os.path.dirname(_core.__file__)}"),
        Finding("Python", f"{platform.python_version()}, {platform.platform()}"),
    ]
    for name in _PACKAGES:
        try:
            findings.append(Finding(name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            findings.append(Finding(name, "not installed"))
    try:
        findings.append(Finding("linker for tiaot.export", find_linker(native())[0]))
    except LinkError as error:
        findings.append(Finding("linker for tiaot.export", _one_line(error)))
    return findings


def _run_known_answer(level: str) -> Finding:
    """The demo's inputs through the shipped layer at one CPU level, in a process of its own: it may crash."""
    subject = f"dense_tanh at {level}"
    environment = {**os.environ, "TIAOT_CPU_LEVEL": level}
    environment.pop("TIAOT_NUM_THREADS", None)
    try:
        done = subprocess.run(
            [sys.executable, "-c", _KNOWN_ANSWER],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding(subject, _one_line(error), "run it by hand: python -m tiaot demo")
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"ended with code {done.returncode}"])[-1]
        return Finding(subject, last, _REINSTALL)
    error = float(done.stdout.split()[-1])
    if not error <= 5e-6:
        return Finding(subject, f"off by {error:.1e} from float64", _REINSTALL)
    return Finding(subject, f"right to {error:.1e}")


def _modules() -> list[Finding]:
    files = sorted(_MODULES.glob("*.tiaot.so"))
    if not files:
        return [Finding("modules", f"none in {_MODULES}", _REINSTALL)]
    findings, levels = [], []
    for path in files:
        try:
            with open_module(path) as module:
                info = module.info()
            entries = [e for kernel in info["kernels"] for variant in kernel["variants"] for e in variant["entries"]]
            levels = list(entries[0]["code_bytes"]) if _name(path) == "dense_tanh" else levels
            findings.append(Finding(f"module {_name(path)}", f"{path.stat().st_size:,} bytes, checksum right"))
        except (NotImplementedError, ValueError) as error:
            remedy = "unset TIAOT_CPU_LEVEL, or set it to a level that this machine has"
            findings.append(Finding(f"module {_name(path)}", _one_line(error), remedy))
        except (OSError, RuntimeError, LookupError) as error:
            findings.append(Finding(f"module {_name(path)}", _one_line(error), _REINSTALL))
    highest = cpu_level()
    if highest in levels:
        findings += [_run_known_answer(level) for level in levels[: levels.index(highest) + 1]]
    return findings


def examine() -> dict[str, list[Finding]]:
    """Every finding, in sections."""
    return {
        "machine": _machine(),
        "cuda": _cuda(),
        "environment": _environment(),
        "software": _software(),
        "modules": _modules(),
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="the findings as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Prints the findings. 1 when one of them is a fault, otherwise 0."""
    sections = examine()
    faults = [finding for findings in sections.values() for finding in findings if finding.remedy]
    if arguments.json:
        document = {name: [asdict(finding) for finding in findings] for name, findings in sections.items()}
        print(json.dumps({"healthy": not faults, **document}, indent=1))
        return 1 if faults else 0
    width = max(len(finding.subject) for findings in sections.values() for finding in findings)
    for name, findings in sections.items():
        if findings:
            print(name)
        for finding in findings:
            advice = f"  FAULT: {finding.remedy}" if finding.remedy else ""
            print(f"  {finding.subject:<{width}}  {finding.found}{advice}")
    print(f"\n{len(faults)} fault{'s' if len(faults) != 1 else ''} found" if faults else "\nno fault found")
    return 1 if faults else 0
