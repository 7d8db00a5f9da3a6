"""`tiaot verify`: a module against the kernels that it was made of. Imports Taichi when it runs only."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from . import terminal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("module", help="a module file")
    parser.add_argument("--against", required=True, metavar="SOURCE", help="the Python file that it was exported from")
    add_verify_seconds(parser)
    add_strict(parser)
    add_recorded(parser)


def add_verify_seconds(parser: argparse.ArgumentParser) -> None:
    """The option of both commands that says how long kernels may be tried."""
    parser.add_argument(
        "--verify-seconds",
        type=_seconds,
        default=60.0,
        metavar="SECONDS",
        help="how long the module, and Taichi's JIT beside it, may be tried, in CPU time (default: 60); a gradient "
        "that there was no time for is an error",
    )


def add_strict(parser: argparse.ArgumentParser) -> None:
    """The option of both commands that makes an error of what was not tried."""
    parser.add_argument(
        "--strict", action="store_true", help="take it for an error where a branch of a kernel ran at no point"
    )


def add_recorded(parser: Any) -> None:
    """The option of both commands that names a recording."""
    parser.add_argument(
        "--recorded",
        metavar="FOLDER",
        default="",
        help="try the kernels with the launches that `with tiaot.export.recording(FOLDER):` kept, too; kernels over "
        "fields with these alone",
    )


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise argparse.ArgumentTypeError(f"expected a number of seconds above 0, got {text!r}")
    return seconds


def run(arguments: argparse.Namespace) -> int:
    """Prints what was compared for each kernel. 1 when something disagrees."""

    def work() -> None:
        from .cache import give_taichi_a_home
        from .gate.verify import verify

        give_taichi_a_home()
        seconds = arguments.verify_seconds
        done = verify(
            arguments.module,
            arguments.against,
            seconds=seconds,
            strict=arguments.strict,
            recorded=arguments.recorded,
            say=terminal.say,
        )
        terminal.say("")
        for name, found in done.lines.items():
            print(f"{name}: {found}")
        for note in done.notes:
            print(f"tiaot verify: {note}", file=sys.stderr)

    return terminal.run("verify", work)
