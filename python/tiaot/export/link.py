"""Link: objects -> one shared library with the trailer behind it. Runs the system's linker; knows no kernels."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import tempfile
import zlib
from pathlib import Path

from .tables import ABI_VERSION

_TRAILER = struct.Struct("<8sIIQ64sQ")  # tiaot_trailer of module.h
_DRIVERS = ("cc", "gcc", "clang")  # compilers know where libm lies and with which linker to link
_LINKERS = ("ld.lld", "ld")
_FLAGS = ("--build-id=none", "--hash-style=gnu", "--as-needed", "-z,relro", "-z,now", "-z,noexecstack", "-z,defs")


class LinkError(Exception):
    """No linker, or it failed; the message says what was looked for or what it said."""


def find_linker() -> list[str]:
    """The command that links, without its arguments: a C compiler's driver, or a bare linker.

    Raises:
        LinkError: when there is none.
    """
    for name in _DRIVERS:
        if path := shutil.which(name):
            return [path, "-shared", "-nostdlib", *(f"-Wl,{flag}" for flag in _FLAGS)]
    for name in _LINKERS:
        if path := shutil.which(name):
            return [path, "-shared", *(word for flag in _FLAGS for word in flag.split(","))]
    raise LinkError(
        f"no linker: looked for {', '.join((*_DRIVERS, *_LINKERS))} on the PATH; install one "
        "(Debian: apt install gcc, or binutils for ld alone)"
    )


def link_library(objects: list[bytes]) -> bytes:
    """Link objects into a shared library.

    Args:
        objects: relocatable objects, in the order in which they are to lie in the file.

    Raises:
        LinkError: when there is no linker or it fails.
    """
    command = find_linker()
    with tempfile.TemporaryDirectory(prefix="tiaot-link-") as directory:
        names = []
        for index, data in enumerate(objects):
            name = f"{index:04}.o"
            Path(directory, name).write_bytes(data)
            names.append(name)
        # Relative names: an absolute one could end up in the file.
        done = subprocess.run(
            [*command, "-o", "module.so", *names, "-lm", "-lc"],
            cwd=directory,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise LinkError(f"{command[0]} failed:\n{done.stderr.strip()}")
        return Path(directory, "module.so").read_bytes()


def link(objects: list[bytes], digest: str, path: str | os.PathLike[str]) -> None:
    """Link objects into the module file `path`, which appears whole or not at all.

    Args:
        objects: relocatable objects, in the order in which they are to lie in the file.
        digest: the module's hash, 64 hexadecimal digits.
        path: where to write. A file that is there is replaced, not written into: it may be mapped by a process.

    Raises:
        LinkError: when there is no linker or it fails.
    """
    target = Path(path).absolute()
    image = link_library(objects)
    image += b"\0" * (-len(image) % 8)
    trailer = _TRAILER.pack(b"TIAOTMOD", ABI_VERSION, zlib.crc32(image), len(image), digest.encode(), 0)
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    partial.write_bytes(image + trailer)
    partial.chmod(0o755)
    partial.replace(target)
