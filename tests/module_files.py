"""Makes module files for tests: compiles one of fixtures/*.c and appends trailers, right ones and wrong ones."""

import os
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import pytest
from tiaot import _core

FIXTURES = Path(__file__).parent / "fixtures"
INCLUDE = os.path.join(os.path.dirname(_core.__file__), "include")
HASH = "0" * 63 + "1"
OTHER_HASH = "0" * 63 + "2"


def compile_source(source: str, path: Path, **defines: str) -> bytes:
    """The shared library made from a file of fixtures/, without a trailer; leaves it at `path`."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    options = [f"-D{name}={value}" for name, value in defines.items()]
    command = [compiler, "-shared", "-fPIC", "-O1", f"-I{INCLUDE}", *options, str(FIXTURES / source), "-o", str(path)]
    subprocess.run(command, check=True)
    return path.read_bytes()


def trailer(
    payload: bytes,
    *,
    magic: bytes = b"TIAOTMOD",
    abi: int = 5,
    crc: int | None = None,
    size: int | None = None,
    hash: str = HASH,
    reserved: int = 0,
) -> bytes:
    """The 96 bytes that end a module file; right for `payload` unless told otherwise."""
    crc = zlib.crc32(payload) if crc is None else crc
    size = len(payload) if size is None else size
    return struct.pack("<8sIIQ64sQ", magic, abi, crc, size, hash.encode(), reserved)


def write_small(path: Path, *, hash: str = HASH, **defines: str) -> Path:
    """A module file at `path`, with the kernels of fixtures/small.c."""
    return write_module("small.c", path, hash=hash, **defines)


def write_module(source: str, path: Path, *, hash: str = HASH, **defines: str) -> Path:
    """A module file at `path`, with the kernels of a file of fixtures/."""
    payload = compile_source(source, path.with_suffix(".tmp"), HASH=f'"{hash}"', **defines)
    path.with_suffix(".tmp").unlink()
    # A new file beside the old one: a module that is still open keeps what it has mapped.
    fresh = path.with_suffix(".new")
    fresh.write_bytes(payload + trailer(payload, hash=hash))
    fresh.replace(path)
    return path
