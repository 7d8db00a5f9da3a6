"""Link: objects -> one shared library, whose note is then filled in. Runs the system's linker; knows no kernels."""

from __future__ import annotations

import os
import platform
import shutil
import struct
import subprocess
import tempfile
import zlib
from pathlib import Path

from ..target.model import Cpu
from .elf import Section, read_sections
from .tables import ABI_VERSION, NOTE_SECTION

_NOTE = struct.Struct("<III12sIIIIIIQ16s64s16Q")  # tiaot_note of module.h
_RANGES = 8
_SUMS = 32  # where file_crc and note_crc lie in it
_DRIVERS = ("cc", "gcc", "clang")  # compilers know where libm lies and with which linker to link
_LINKERS = ("ld.lld", "ld")
_DEBIAN = {"x86_64-linux-gnu": "x86-64-linux-gnu"}  # as its packages are called, where that is not the prefix
_FLAGS = ("--hash-style=gnu", "--as-needed", "-z,relro", "-z,now", "-z,noexecstack", "-z,defs")


class LinkError(Exception):
    """No linker, or it failed; the message says what was looked for or what it said."""


def find_linker(target: Cpu) -> list[str]:
    """The command that links for a target, without its arguments: a C compiler's driver, or a bare linker.

    Raises:
        LinkError: when there is none.
    """
    drivers, linkers = _DRIVERS, _LINKERS
    if platform.machine() not in target.machines:
        drivers, linkers = (f"{target.gnu}-gcc",), (f"{target.gnu}-ld",)
    for name in drivers:
        if path := shutil.which(name):
            return [path, "-shared", "-nostdlib", *(f"-Wl,{flag}" for flag in _FLAGS)]
    for name in linkers:
        if path := shutil.which(name):
            return [path, "-shared", *(word for flag in _FLAGS for word in flag.split(","))]
    if linkers is not _LINKERS:
        package = f"gcc-{_DEBIAN.get(target.gnu, target.gnu)}"
        raise LinkError(
            f"no linker for {target.name}: looked for {', '.join((*drivers, *linkers))} on the PATH; install one "
            f"(Debian: apt install {package})"
        )
    raise LinkError(
        f"no linker: looked for {', '.join((*_DRIVERS, *_LINKERS))} on the PATH; install one "
        "(Debian: apt install gcc, or binutils for ld alone)"
    )


def link_library(objects: list[bytes], target: Cpu, name: str = "", build_id: str = "") -> bytes:
    """Link objects into a shared library.

    Args:
        objects: relocatable objects, in the order in which they are to lie in the file.
        target: what they are compiled for.
        name: its SONAME, what a program that is linked with it will look for; "" for none.
        build_id: hexadecimal digits, which profilers know the library by; "" for none.

    Raises:
        LinkError: when there is no linker or it fails.
    """
    command = find_linker(target)
    with tempfile.TemporaryDirectory(prefix="tiaot-link-") as directory:
        names = []
        for index, data in enumerate(objects):
            each = f"{index:04}.o"
            Path(directory, each).write_bytes(data)
            names.append(each)
        own = ["-soname", name] if name else []
        own += [f"--build-id={f'0x{build_id}' if build_id else 'none'}"]
        if "-nostdlib" in command:  # a compiler's driver
            own = [f"-Wl,{','.join(own)}"]
        # Relative names: an absolute one could end up in the file.
        done = subprocess.run(
            [*command, *own, "-o", "module.so", *names, "-lm", "-lc"],
            cwd=directory,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise LinkError(f"{command[0]} failed:\n{done.stderr.strip()}")
        return Path(directory, "module.so").read_bytes()


def link(objects: list[bytes], target: Cpu, digest: str, version: str, path: str | os.PathLike[str]) -> None:
    """Link objects into the module file `path`, which appears whole or not at all.

    Args:
        objects: relocatable objects, in the order in which they are to lie in the file; one has the note's section.
        target: what they are compiled for.
        digest: the module's hash, 64 hexadecimal digits.
        version: the version of tiaot to record.
        path: where to write. A file that is there is replaced, not written into: it may be read by a process.

    Raises:
        LinkError: when there is no linker or it fails.
    """
    file = Path(path).absolute()
    image = fill_note(link_library(objects, target, file.name, digest[:40]), digest, version)
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    partial.write_bytes(image)
    partial.chmod(0o755)
    partial.replace(file)


def fill_note(image: bytes, digest: str, version: str, abi_version: int = ABI_VERSION) -> bytes:
    """A linked library with its note filled in: what the file has to be is written down in the file itself."""
    sections = read_sections(image)
    note = next(section for section in sections if section.name == NOTE_SECTION)
    ranges = _content(sections)
    content = 0
    for each in ranges:
        content = zlib.crc32(image[each.offset : each.offset + each.size], content)
    numbers = [number for each in ranges for number in (each.address, each.size)]
    numbers += [0] * (2 * _RANGES - len(numbers))

    def pack(file_crc: int, note_crc: int) -> bytes:
        return _NOTE.pack(12, _NOTE.size - 24, 1, b"TiaotModule", abi_version, len(ranges), file_crc, note_crc,
                          content, 0, len(image), version.encode()[:15], digest.encode(), *numbers)  # fmt: skip

    whole = bytearray(image)
    whole[note.offset : note.offset + _NOTE.size] = pack(0, 0)
    file_crc = zlib.crc32(whole)
    whole[note.offset : note.offset + _NOTE.size] = pack(file_crc, zlib.crc32(pack(file_crc, 0)))
    return bytes(whole)


def _content(sections: list[Section]) -> list[Section]:
    """The parts of the file that no tool has a reason to change: code, constants, tables and relocations.

    `strip` and `patchelf` rewrite headers, the dynamic section, symbols and their names, and move notes.
    """
    parts: list[Section] = []
    between = True  # whether something else lies behind the last part
    for section in sorted((each for each in sections if each.allocated), key=lambda each: each.address):
        ours = (
            section.in_file
            and section.kind in ("PROGBITS", "RELA")
            and not section.name.startswith((".got", ".interp"))
        )
        if ours and parts and not between and parts[-1].segment == section.segment:
            first = parts[-1]
            parts[-1] = first.with_size(section.address + section.size - first.address)
        elif ours:
            parts.append(section)
        between = not ours
    if not 0 < len(parts) <= _RANGES:
        raise LinkError(f"the linker made a file in {len(parts)} parts, expected 1 to {_RANGES}; use another linker")
    return parts
