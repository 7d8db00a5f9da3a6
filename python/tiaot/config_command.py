"""`tiaot config`: the flags that compile and link C and C++ programs with the library of this installation."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from . import _core

_PREFIX = Path(_core.__file__).parent


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cflags", action="store_true", help="flags to compile with")
    parser.add_argument("--libs", action="store_true", help="flags to link with, for g++ and clang++ as for gcc")
    parser.add_argument("--static", action="store_true", help="with --libs: link the library into the program")
    parser.add_argument("--cmakedir", action="store_true", help="what CMake finds it by: -Dtiaot_DIR=...")
    parser.add_argument("--pkgconfigdir", action="store_true", help="for PKG_CONFIG_PATH")


def flags(*, cflags: bool = False, libs: bool = False, static: bool = False) -> list[str]:
    """What a compiler's command line needs, word for word."""
    library = _PREFIX / "lib"
    words = [f"-I{_PREFIX / 'include'}"] if cflags else []
    if libs and static:
        words += [str(library / "libtiaot.a"), "-lstdc++", "-lm", "-ldl", "-pthread"]
    elif libs:
        words += [f"-L{library}", f"-Wl,-rpath,{library}", "-ltiaot"]
    return words


def run(arguments: argparse.Namespace) -> int:
    """Prints what was asked for, on one line. 2 when nothing was."""
    words = flags(cflags=arguments.cflags, libs=arguments.libs, static=arguments.static)
    if arguments.cmakedir:
        words.append(str(_PREFIX / "lib" / "cmake" / "tiaot"))
    if arguments.pkgconfigdir:
        words.append(str(_PREFIX / "lib" / "pkgconfig"))
    if not words:
        print("tiaot config: say what for: --cflags, --libs, --cmakedir or --pkgconfigdir")
        return 2
    print(shlex.join(words))
    return 0
