"""What the exporter's commands share: the check for its packages, progress, and its errors as they are told."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable


def say(text: str) -> None:
    """One line on a terminal's standard error, overwritten by the next; '' clears it."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def run(command: str, work: Callable[[], None]) -> int:
    """Does the work of a command. Exit code 1, and the message as it is, with its lines, when the exporter refuses.

    Raises ImportError where the exporter's packages are not installed.
    """
    for package in ("taichi", "llvmlite"):
        if importlib.util.find_spec(package) is None:
            raise ImportError(f'{package} is not installed; tiaot {command} needs: pip install "tiaot[export]"')
    from .cuda.compile import CompileError
    from .ir import LoweringError
    from .link import LinkError
    from .trace import TraceError
    from .verify import VerificationError

    try:
        work()
    except (TraceError, LoweringError, LinkError, CompileError, VerificationError) as error:
        say("")
        print(f"tiaot {command}: {error}", file=sys.stderr)
        return 1
    say("")
    return 0
