"""What the exporter's commands share: the check for its packages, progress, and its errors as they are told."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable

_QUIET = 10.0  # seconds without a line, where standard error is no terminal
_last = time.monotonic()


def say(text: str) -> None:
    """What is being done, on standard error: on a terminal a line that the next overwrites and '' clears; else a line
    now and then."""
    global _last
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
    elif text and time.monotonic() - _last >= _QUIET:
        print(text, file=sys.stderr, flush=True)
        _last = time.monotonic()


def refusals() -> tuple[type[Exception], ...]:
    """The exceptions whose message is for the author."""
    from .export_file import OutputError, SourceError
    from .gate.recorded import RecordError
    from .gate.verify import VerificationError
    from .ir import LoweringError
    from .module.link import LinkError
    from .taichi.trace import TraceError
    from .target.nvidia.ptx import CompileError

    own = (SourceError, OutputError, RecordError, VerificationError)
    return *own, TraceError, LoweringError, LinkError, CompileError


def run(command: str, work: Callable[[], None]) -> int:
    """Does the work of a command. Exit code 1, and the message as it is, with its lines, when the exporter refuses.

    Raises ImportError where the exporter's packages are not installed.
    """
    for package in ("taichi", "llvmlite"):
        if importlib.util.find_spec(package) is None:
            raise ImportError(f'{package} is not installed; tiaot {command} needs: pip install "tiaot[export]"')
    try:
        work()
    except refusals() as error:
        say("")
        print(f"tiaot {command}: {error}", file=sys.stderr)
        return 1
    say("")
    return 0
