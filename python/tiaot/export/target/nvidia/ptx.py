"""Device code: the kernels' IR -> PTX -> an image for each architecture. The only file that runs ptxas."""

from __future__ import annotations

import functools
import importlib.util
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import llvmlite.binding as llvm

from ...ir.passes.stacks import OVERFLOW
from .. import compile
from . import BY_DEFAULT
from .target import NVIDIA
from .threads import BLOCK

_LOWEST = NVIDIA.forms[0]  # what LLVM 15 plans for; it knows none beyond sm_86, and ptxas plans again


class CompileError(Exception):
    """No ptxas, or it failed; the message says what was looked for or what it said."""


class MissingToolError(CompileError):
    """No such program."""


@dataclass(frozen=True)
class Image:
    """All kernels of a module for one architecture: 75 is compute capability 7.5."""

    architecture: int
    kind: str  # "cubin", or "ptx"
    data: bytes  # as cuModuleLoadData takes it
    code_bytes: int  # of what it holds, uncompressed


def optimize(text: str) -> str:
    """Link what kernels call and optimise them: IR text to IR text.

    Raises:
        LoweringError: when LLVM does not take the text, or a function is not to be had on a device.
    """
    return str(compile.optimize(text, NVIDIA, _LOWEST))


def overflows(optimized: str) -> bool:
    """Whether a stack of optimised kernels may have too little room."""
    return f"@{OVERFLOW}(" in optimized


def emit_ptx(texts: Sequence[str]) -> str:
    """PTX of optimised kernels, each text a module of its own."""
    machine = compile.target_machine(NVIDIA, _LOWEST)
    module = llvm.parse_assembly(texts[0])
    for text in texts[1:]:
        module.link_in(llvm.parse_assembly(text))
    ptx = machine.emit_assembly(module)
    # What a block has at most, so that ptxas knows how many registers a thread may take.
    return re.sub(r"(\.visible \.entry \w+\([^)]*\))", rf"\1\n.maxntid {BLOCK}, 1, 1", ptx).rstrip("\0")


@functools.cache
def _tool(name: str) -> str:
    """A program of PyPI's nvidia-cuda-nvcc, or of a CUDA toolkit on the PATH. Where nvidia-cuda-nvcc-cu12 is there too,
    its ptxas comes first: drivers from before CUDA 13 can load what it writes.

    Raises:
        MissingToolError: when there is neither.
    """
    spec = importlib.util.find_spec("nvidia")
    for root in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(root).glob(f"*/bin/{name}"), reverse=True):
            return str(path)
    if path := shutil.which(name):
        return path
    raise MissingToolError(
        f'no {name}: looked in the package nvidia-cuda-nvcc and on the PATH; pip install "tiaot[cuda]"'
    )


def ptxas_version() -> str:
    """The version of ptxas, "13.0.88"."""
    said = subprocess.run([_tool("ptxas"), "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"V(\d+(?:\.\d+)*)", said)
    return found[1] if found else said.strip().splitlines()[-1]


def assemble(ptx: str, architectures: Sequence[int] = BY_DEFAULT, jobs: int = 2) -> list[Image]:
    """An image for each architecture, compressed, and the PTX itself for others.

    Raises:
        CompileError: when there is no ptxas, or it does not take the PTX.
    """
    with tempfile.TemporaryDirectory(prefix="tiaot-cuda-") as folder:
        Path(folder, "kernels.ptx").write_text(ptx)
        with ThreadPoolExecutor(jobs) as threads:
            images = list(threads.map(lambda architecture: _assemble(folder, architecture), architectures))
        lowest = min(architectures)
        data = _pack(folder, "kernels.ptx", f"kind=ptx,sm={lowest}")
        return [*images, Image(lowest, "ptx", data, len(ptx))]


def _assemble(folder: str, architecture: int) -> Image:
    name = f"sm_{architecture}.cubin"
    _run(folder, "ptxas", f"-arch=sm_{architecture}", "-O3", "kernels.ptx", "-o", name)
    size = Path(folder, name).stat().st_size
    return Image(architecture, "cubin", _pack(folder, name, f"kind=elf,sm={architecture}"), size)


def _pack(folder: str, name: str, what: str) -> bytes:
    """A file as a fat binary of its own, which the driver decompresses as it loads it; as it is without fatbinary."""
    target = f"{name}.fatbin"
    try:
        # Of the ways to compress, the one that every driver knows.
        options = ["--64", "--compress-all", "--compress-mode=speed", f"--create={target}"]
        _run(folder, "fatbinary", *options, f"--image3={what},file={name}")
    except MissingToolError:
        data = Path(folder, name).read_bytes()
        return data + b"\0" if name.endswith(".ptx") else data  # text that the driver compiles ends with a NUL
    return Path(folder, target).read_bytes()


def _run(folder: str, tool: str, *arguments: str) -> None:
    done = subprocess.run([_tool(tool), *arguments], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CompileError(f"{tool} failed:\n{(done.stderr or done.stdout).strip()}")
