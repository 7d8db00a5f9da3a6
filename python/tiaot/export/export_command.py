"""`tiaot export`: a kernel file to a module, checked before it is written. Imports Taichi and LLVM only to run."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from .. import __version__
from . import terminal
from .computation import check_derivatives
from .target import CPUS, find_cpu
from .target.model import Cpu
from .target.nvidia import read_architectures
from .verify_command import add_recorded, add_strict, add_verify_seconds

if TYPE_CHECKING:
    from .export_file import Exported


def _architectures(text: str) -> tuple[int, ...]:
    try:
        return read_architectures(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _cpu(text: str) -> Cpu:
    try:
        return find_cpu(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _derivatives(text: str) -> tuple[str, ...]:
    try:
        return check_derivatives(text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("source", nargs="?", help="a Python file with Taichi kernels")
    what.add_argument("-m", "--module", metavar="PACKAGE.MODULE", help="the module of that name in its place")
    parser.add_argument(
        "-o", "--output", help="the module to write (default: SOURCE.tiaot.so, in this folder); NAME.h goes beside it"
    )
    parser.add_argument("-j", "--jobs", type=int, help="processes to use (default: one for each CPU)")
    parser.add_argument(
        "--target",
        type=_cpu,
        metavar="|".join(cpu.name for cpu in CPUS),
        help="the CPUs to compile for (default: this machine's kind); for others, with their C compiler as the linker",
    )
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
    parser.add_argument(
        "--check-bounds",
        action="store_true",
        help="make a form for debugging, in which an index out of range is an error with its line, and not memory that "
        "is read or overwritten: slow, for CPUs alone",
    )
    parser.add_argument(
        "--derivatives",
        type=_derivatives,
        default=(),
        metavar="jvp[,hvp]",
        help="compile these too, for every kernel that can have them and whose decorator does not say what to compile",
    )
    add_verify_seconds(parser)
    add_strict(parser)
    recording = parser.add_mutually_exclusive_group()
    add_recorded(recording)
    recording.add_argument(
        "--record",
        action="store_true",
        help="run the program first, with the arguments behind --, and try its kernels with what they were given, too; "
        "kernels over fields with that alone",
    )
    parser.set_defaults(program_arguments=[])  # cli.py sets them
    parser.add_argument(
        "--no-cache",
        action="store_true",
        help="trace and compile everything anew, instead of taking unchanged kernels from TIAOT_CACHE_DIR "
        "(default: ~/.cache/tiaot)",
    )


def find_module(name: str) -> str:
    """The file of a module, from the current folder and the import path; nothing is imported.

    Raises:
        SourceError: when there is none.
    """
    from .export_file import SourceError

    parts = name.split(".")
    for folder in (".", *sys.path):
        for path in (Path(folder, *parts).with_suffix(".py"), Path(folder, *parts, "__init__.py")):
            if path.is_file():
                return str(path)
    raise SourceError(f"-m {name}: no such module in this folder and on the import path (PYTHONPATH)")


def run(arguments: argparse.Namespace) -> int:
    """Writes the module and its header. 1, and neither, when something is wrong."""

    def work() -> None:
        from .cache import default_folder, give_taichi_a_home
        from .export_file import export

        gate = not arguments.no_verify
        source = arguments.source or find_module(arguments.module)
        output, jobs = arguments.output or f"{Path(source).stem}.tiaot.so", arguments.jobs
        cache = None if arguments.no_cache else default_folder()
        give_taichi_a_home()
        start = time.monotonic()
        with _recorded(arguments) as recorded:
            made = export(
                source,
                output,
                version=__version__,
                cpu=arguments.target,
                jobs=jobs,
                gate=gate,
                gate_seconds=arguments.verify_seconds,
                strict=arguments.strict,
                recorded=recorded,
                cache=cache,
                cuda=arguments.cuda,
                checked=arguments.check_bounds,
                derivatives=arguments.derivatives,
                say=terminal.say,
            )
        terminal.say("")
        for note in made.notes:
            print(f"tiaot export: {note}", file=sys.stderr)
        _tell(made, output, time.monotonic() - start)

    return terminal.run("export", work)


@contextlib.contextmanager
def _recorded(arguments: argparse.Namespace) -> Iterator[str]:
    """A folder with recorded launches, of the program where it is to be run; "" for none."""
    if not arguments.record:
        if arguments.program_arguments:
            raise ValueError("arguments behind -- are for the program that --record runs")
        yield arguments.recorded
        return
    from .gate.recorded import record_program

    program = [arguments.source] if arguments.source else ["-m", arguments.module]
    with tempfile.TemporaryDirectory(prefix="tiaot-recorded-") as folder:
        terminal.say("running the program")
        terminal.say("")
        record_program([*program, *arguments.program_arguments], Path(folder))
        yield folder


def _tell(made: Exported, output: str, seconds: float) -> None:
    """What was made and how it was checked, on standard output."""
    from .build import module_name

    size = os.path.getsize(output) / 1024
    print(f"wrote {output} ({size:,.0f} KiB) and {module_name(output)}.h in {seconds:.0f} s")
    for family in made.families:
        entries = [each.text for each in family.entries]
        print(f"  {family.name}: {family.signature.text}")
        print(f"    {', '.join(entries)}")
        print(f"    {made.verification.get(family.name, 'not verified')}")
