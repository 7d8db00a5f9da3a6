"""The targets: kinds of machines that kernels are compiled for, a file each."""

from __future__ import annotations

import platform

from .aarch64 import AARCH64
from .model import Cpu
from .x86_64 import X86_64

CPUS = (X86_64, AARCH64)


def find_cpu(name: str) -> Cpu:
    """The kind of CPU that a module calls so, "aarch64-linux".

    Raises:
        ValueError: when there is none.
    """
    for cpu in CPUS:
        if cpu.name == name:
            return cpu
    raise ValueError(f"expected {' or '.join(each.name for each in CPUS)}, got {name!r}")


def native() -> Cpu:
    """The kind of CPU of this machine.

    Raises:
        ValueError: when code for it cannot be made.
    """
    machine = platform.machine()
    for cpu in CPUS:
        if machine in cpu.machines:
            return cpu
    raise ValueError(f"this machine's CPU is {machine!r}, expected one of {', '.join(each.gnu for each in CPUS)}")
