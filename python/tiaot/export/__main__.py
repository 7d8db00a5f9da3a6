"""`python -m tiaot.export KERNELS.py -o MODULE.so`: what the build of the wheel calls."""

from __future__ import annotations

import argparse
import sys

from tiaot import __version__

from .build import export
from .ir import LoweringError
from .link import LinkError
from .trace import TraceError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tiaot.export", description="Compile Taichi kernels into a module.")
    parser.add_argument("source", help="a Python file with kernels declared by tiaot.export.family")
    parser.add_argument("-o", "--output", required=True, help="the module to write, NAME.so; NAME.h goes beside it")
    parser.add_argument("-j", "--jobs", type=int, help="processes to use (default: one for each CPU)")
    options = parser.parse_args()
    try:
        export(options.source, options.output, version=__version__, jobs=options.jobs)
    except (TraceError, LoweringError, LinkError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
