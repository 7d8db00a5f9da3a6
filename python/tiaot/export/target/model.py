"""What a target is: a kind of machine that kernels are compiled for. Knows no kernels, and no LLVM.

Most of a target is data. What its forms have in common stands in the target, what differs between them in the forms.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from . import half


@dataclass(frozen=True)
class Form:
    """One of the forms that the code for a target comes in: a level of its CPUs, or an architecture."""

    name: str
    cpu: str  # as LLVM calls it
    vector_bytes: int
    features: str = ""  # for LLVM, beside what the CPU has
    implementation: str = ""  # of a CPU level: whose implementation of `by_level` it takes


# Unrolled kernels are long straight lines of independent chains, longer than a CPU looks ahead. Scheduled for ILP
# before registers are given out, a layer of 8 x 4 is a fifth faster on x86-64, and nothing slower.
FOR_ILP = ("-pre-RA-sched=list-ilp", "-enable-misched=false")


@dataclass(frozen=True)
class Target:
    """A kind of machine. `forms` are in ascending order."""

    name: str  # as a module records it
    triple: str
    data_layout: str
    forms: tuple[Form, ...]
    libraries: tuple[str, ...]  # files of Taichi's package that functions are linked from, in this order
    scheduling: tuple[str, ...]  # LLVM's options for it; each target sets the same ones
    vectorizes: bool  # whether LLVM is to find vectors in loops and in straight lines
    stacks_grow: bool  # whether code for it can ask for memory
    provided: frozenset[str] = frozenset()  # functions that code for it may leave undefined
    relocation: str = "default"
    code_model: str = "jitdefault"

    @property
    def header(self) -> str:
        """LLVM's lines for the target."""
        return f'target datalayout = "{self.data_layout}"\ntarget triple = "{self.triple}"'

    def refuse(self, called: Iterable[str]) -> None:
        """Look at the names of the functions that a kernel calls, before they are linked.

        Raises:
            LoweringError: for one that code for the target cannot have, though a library has it.
        """

    def support(self, text: str) -> str:
        """Functions that LLVM calls in code for the target and no library has, as IR text; `text` is the code."""
        return ""


@dataclass(frozen=True)
class Gpu(Target):
    """A kind of GPU. Its forms are its architectures: LLVM compiles for the lowest, what comes after it for each."""

    block: int = 0  # threads that run side by side: numbers of threads are multiples of it
    threads: str = ""  # IR text that defines @tiaot_thread, the number of a thread, and @tiaot_threads, of how many

    def adapt(self, kernel: str, tasks: Iterable[str], *, along: bool) -> tuple[str, ...]:
        """Taichi's tasks for it, without what only Taichi itself completes; `along` tells that there will be tangents.

        Raises:
            LoweringError: for a kernel that cannot be had.
        """
        return tuple(tasks)

    def complete(self, text: str) -> str:
        """The text of an entry's kernels, with what `adapt` has put calls of."""
        return text


@dataclass(frozen=True)
class Cpu(Target):
    """A kind of CPU, under Linux. Its forms are its levels: a module has code for each, and runs the highest that a
    machine has."""

    baseline: Form = Form("", "", 0)  # what every CPU of the kind has: of code that finds the level out
    detection: str = ""  # IR text that defines @tiaot_plain_level, and @tiaot_detect_level, which sets it
    half_in_software: bool = False  # whether LLVM calls functions for float16
    gnu: str = ""  # the prefix of the GNU tools that build for it elsewhere
    machines: tuple[str, ...] = ()  # what platform.machine() says there

    def support(self, text: str) -> str:
        return half.DEFINITIONS if self.half_in_software and re.search(r"\bhalf\b", text) else ""

    def level(self, name: str) -> Form:
        """The level of that name."""
        return next(form for form in self.forms if form.name == name)


# What the C and the mathematical library have, of all that Taichi's runtime and LLVM call.
C_LIBRARY = frozenset({"malloc", "calloc", "free", "memcpy", "memset", "memmove", "aligned_alloc"}) | {
    name + suffix
    for name in [
        "acos",
        "acosh",
        "asin",
        "asinh",
        "atan",
        "atan2",
        "cbrt",
        "ceil",
        "copysign",
        "cos",
        "cosh",
        "erf",
        "exp",
        "exp2",
        "expm1",
        "fabs",
        "floor",
        "fma",
        "fmax",
        "fmin",
        "fmod",
        "hypot",
        "ldexp",
        "log",
        "log10",
        "log1p",
        "log2",
        "nearbyint",
        "pow",
        "rint",
        "round",
        "roundeven",
        "sin",
        "sinh",
        "sqrt",
        "tan",
        "tanh",
        "trunc",
    ]
    for suffix in ("", "f")
}
