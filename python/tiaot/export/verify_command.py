"""`tiaot verify`: a module against the kernels that it was made of. Imports Taichi when it runs only."""

from __future__ import annotations

import argparse

from . import terminal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("module", help="a module file")
    parser.add_argument("--against", required=True, metavar="SOURCE", help="the Python file that it was exported from")
    add_verify_seconds(parser)


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
        from .verify import verify

        give_taichi_a_home()
        seconds = arguments.verify_seconds
        for name, found in verify(arguments.module, arguments.against, seconds=seconds, say=terminal.say).items():
            terminal.say("")
            print(f"{name}: {found}")

    return terminal.run("verify", work)
