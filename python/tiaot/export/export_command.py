"""`tiaot export`: a kernel file to a module, checked before it is written. Imports Taichi and LLVM only to run."""

from __future__ import annotations

import argparse
import sys

from .. import __version__
from . import terminal
from .cuda import read_architectures
from .verify_command import add_verify_seconds


def _architectures(text: str) -> tuple[int, ...]:
    try:
        return read_architectures(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help="a Python file with Taichi kernels")
    parser.add_argument("-o", "--output", required=True, help="the module to write, NAME.so; NAME.h goes beside it")
    parser.add_argument("-j", "--jobs", type=int, help="processes to use (default: one for each CPU)")
    parser.add_argument(
        "--cuda",
        type=_architectures,
        metavar="[=ARCHITECTURES]",
        help="compile for NVIDIA GPUs too: for sm_75 to sm_120, or for those that are named, as --cuda=sm_80,sm_90",
    )
    parser.add_argument(
        "--no-verify",
        action="store_true",
        help="do not hold the module against Taichi's JIT and finite differences; it records that",
    )
    add_verify_seconds(parser)
    parser.add_argument(
        "--no-cache",
        action="store_true",
        help="trace and compile everything anew, instead of taking unchanged kernels from TIAOT_CACHE_DIR "
        "(default: ~/.cache/tiaot)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Writes the module and its header. 1, and neither, when something is wrong."""

    def work() -> None:
        from .build import export
        from .cache import default_folder

        gate = not arguments.no_verify
        output, jobs = arguments.output, arguments.jobs
        cache = None if arguments.no_cache else default_folder()
        notes = export(
            arguments.source,
            output,
            version=__version__,
            jobs=jobs,
            gate=gate,
            gate_seconds=arguments.verify_seconds,
            cache=cache,
            cuda=arguments.cuda,
            say=terminal.say,
        )
        terminal.say("")
        for note in notes:
            print(f"tiaot export: {note}", file=sys.stderr)

    return terminal.run("export", work)
