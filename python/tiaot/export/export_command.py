"""`tiaot export`: a kernel file to a module, checked before it is written. Imports Taichi and LLVM only to run."""

from __future__ import annotations

import argparse

from .. import __version__
from . import terminal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help="a Python file with Taichi kernels")
    parser.add_argument("-o", "--output", required=True, help="the module to write, NAME.so; NAME.h goes beside it")
    parser.add_argument("-j", "--jobs", type=int, help="processes to use (default: one for each CPU)")
    parser.add_argument(
        "--no-verify",
        action="store_true",
        help="do not hold the module against Taichi's JIT and finite differences; it records that",
    )


def run(arguments: argparse.Namespace) -> int:
    """Writes the module and its header. 1, and neither, when something is wrong."""

    def work() -> None:
        from .build import export

        gate = not arguments.no_verify
        output, jobs = arguments.output, arguments.jobs
        export(arguments.source, output, version=__version__, jobs=jobs, gate=gate, say=terminal.say)

    return terminal.run("export", work)
