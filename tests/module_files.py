"""Makes module files for tests: exports kernels, or compiles one of fixtures/*.c and fills in the note, rightly or
wrongly."""

import os
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from tiaot import _core
from tiaot.export.module.elf import read_sections
from tiaot.export.module.link import fill_note

FIXTURES = Path(__file__).parent / "fixtures"
INCLUDE = os.path.join(os.path.dirname(_core.__file__), "include")
HASH = "0" * 63 + "1"
OTHER_HASH = "0" * 63 + "2"
_NOTE_BYTES = 264
_NOTE_FIELDS = {"abi_version": 24, "file_crc": 32, "content_crc": 40, "tiaot_version": 56, "hash": 72}


def exported(source: Path, target: Path, *options: str) -> Path:
    """The module that `tiaot export` makes of a kernel file at `target`."""
    command = [sys.executable, "-m", "tiaot", "export", source, "-o", target, *options]
    done = subprocess.run(command, cwd=target.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


def export_text(folder: Path, text: str, *options: str) -> subprocess.CompletedProcess[str]:
    """What `tiaot export` says of a kernel file made.py of this text, in a folder."""
    (folder / "made.py").write_text(text)
    command = [sys.executable, "-m", "tiaot", "export", "made.py", *options]
    environment = {**os.environ, "ENABLE_TAICHI_HEADER_PRINT": "0"}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment)


def compile_source(source: str, path: Path, **defines: str) -> bytes:
    """The shared library made from a file of fixtures/, with an empty note; leaves it at `path`."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    options = [f"-D{name}={value}" for name, value in defines.items()]
    command = [compiler, "-shared", "-fPIC", "-O1", f"-I{INCLUDE}", *options, str(FIXTURES / source)]
    command += [str(FIXTURES / "note.c"), "-o", str(path)]
    subprocess.run(command, check=True)
    return path.read_bytes()


def write_small(path: Path, *, hash: str = HASH, **defines: str) -> Path:
    """A module file at `path`, with the kernels of fixtures/small.c."""
    return write_module("small.c", path, hash=hash, **defines)


def write_module(source: str, path: Path, *, hash: str = HASH, **defines: str) -> Path:
    """A module file at `path`, with the kernels of a file of fixtures/."""
    library = compile_source(source, path.with_suffix(".tmp"), HASH=f'"{hash}"', **defines)
    path.with_suffix(".tmp").unlink()
    # A new file beside the old one: what is being read is not written into.
    fresh = path.with_suffix(".new")
    fresh.write_bytes(fill_note(library, hash, "0"))
    fresh.replace(path)
    return path


def with_note(image: bytes, **fields: int | bytes) -> bytes:
    """A module file with other values in its note, whose own checksum is right."""
    offset = next(section.offset for section in read_sections(image) if section.name == ".note.tiaot")
    note = bytearray(image[offset : offset + _NOTE_BYTES])
    for name, value in fields.items():
        data = value if isinstance(value, bytes) else struct.pack("<I", value)
        place = _NOTE_FIELDS[name]
        note[place : place + len(data)] = data
    note[36:40] = bytes(4)
    note[36:40] = struct.pack("<I", zlib.crc32(note))
    return image[:offset] + bytes(note) + image[offset + _NOTE_BYTES :]
