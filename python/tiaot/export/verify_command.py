"""`tiaot verify`: a module against the kernels that it was made of. Imports Taichi when it runs only."""

from __future__ import annotations

import argparse

from . import terminal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("module", help="a module file")
    parser.add_argument("--against", required=True, metavar="SOURCE", help="the Python file that it was exported from")


def run(arguments: argparse.Namespace) -> int:
    """Prints what was compared for each kernel. 1 when something disagrees."""

    def work() -> None:
        from .cache import give_taichi_a_home
        from .verify import verify

        give_taichi_a_home()
        for name, found in verify(arguments.module, arguments.against, say=terminal.say).items():
            terminal.say("")
            print(f"{name}: {found}")

    return terminal.run("verify", work)
