"""The command `tiaot`: reads the command line, imports only the command asked for, turns errors into one line."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from . import __version__

# Each module has add_arguments(parser) and run(arguments) -> exit code.
_COMMANDS = {
    "demo": (".demo", "run the shipped layer and compare it with torch and NumPy"),
    "export": (".export.export_command", "compile Taichi kernels into a module"),
    "verify": (".export.verify_command", "hold a module against the kernels that it was made of"),
    "inspect": (".inspect_module", "what a module file holds"),
    "config": (".config_command", "how to build C and C++ programs with the library"),
    "doctor": (".doctor", "what this machine and installation offer, and what is broken"),
    "bench": (".benchmarks.bench", "measure tiaot against its peers"),
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def _parser(command: str | None) -> argparse.ArgumentParser:
    """The parser, with the arguments of `command` only: the others stay unimported."""
    parser = _Parser(prog="tiaot", description="Differentiable Taichi kernels, compiled ahead of time.")
    parser.add_argument("--version", action="version", version=f"tiaot {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    for name, (module, summary) in _COMMANDS.items():
        subparser = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        if name == command:
            implementation = importlib.import_module(module, __package__)
            implementation.add_arguments(subparser)
            subparser.set_defaults(run=implementation.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `tiaot ARGV...`. The exit code: 0 done, 1 failed or something is wrong, 2 not understood."""
    argv = list(sys.argv[1:] if argv is None else argv)
    command = argv[0] if argv and argv[0] in _COMMANDS else None
    own, behind = argv, []
    if command == "export" and "--" in argv:  # what follows is for a program that it runs
        own, behind = argv[: argv.index("--")], argv[argv.index("--") + 1 :]
    if isinstance(sys.stdout, io.TextIOWrapper):  # whose encoding may lack what paths and the environment bring
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        # argparse would take what is behind an option whose value can be left out for that value.
        arguments = _parser(command).parse_args(["--cuda=" if each == "--cuda" else each for each in own])
        if behind:
            arguments.program_arguments = behind
        code = int(arguments.run(arguments))
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader of a pipe has left; so that the interpreter's own flush at exit is silent:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    except (OSError, ValueError, ImportError, NotImplementedError, RuntimeError, MemoryError) as error:
        print(f"tiaot {command}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
