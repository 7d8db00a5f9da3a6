"""What can be counted of CUDA code without a device: `python -m benchmarks.gpu_count [FILE.py]`, in a checkout.

For each kernel what ptxas says for one architecture (registers, local memory, spills), and what one turn of its main
loop does, by its PTX: multiply-adds, loads and stores of global memory, and how many of those move several numbers. The
main loop is, of the innermost ones, the one with the most multiply-adds. What a loop holds in registers is no load.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .report import aligned

_ROOT = Path(__file__).resolve().parents[1]
_SAID = re.compile(
    r"Compiling entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores.*?Used (\d+) registers", re.S
)


@dataclass(frozen=True)
class Count:
    """Of one kernel. `fmas` and the rest are of one turn of its main loop; of all of it, where it has no loop."""

    kernel: str
    registers: int
    local_bytes: int
    spilled_bytes: int
    fmas: int
    loads: int
    wide_loads: int
    stores: int
    wide_stores: int
    branches: int

    @property
    def fmas_per_load(self) -> float:
        return self.fmas / self.loads if self.loads else float("inf")


def main_loop(lines: list[str]) -> list[str]:
    """The lines of a kernel's main loop; all of them where it has none."""
    labels = {match[1]: at for at, line in enumerate(lines) if (match := re.match(r"(\$\w+):", line))}
    loops = []
    for at, line in enumerate(lines):
        found = re.search(r"\bbra(?:\.uni)?\s+(\$\w+);", line)
        if found and labels[found[1]] <= at:
            loops.append(range(labels[found[1]], at + 1))
    inner = [loop for loop in loops if not any(each[0] in loop and each[-1] in loop and each != loop for each in loops)]
    return max(([lines[at] for at in loop] for loop in inner), key=lambda loop: (_fmas(loop), len(loop)), default=lines)


def _fmas(lines: list[str]) -> int:
    return sum(bool(re.search(r"\bfma\.rn\.", line)) for line in lines)


def count(ptx: str, architecture: str) -> list[Count]:
    """Of every kernel in a text."""
    from tiaot.export.target.nvidia.ptx import _tool

    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "kernels.ptx").write_text(ptx)
        command = [_tool("ptxas"), "-v", f"-arch={architecture}", "kernels.ptx", "-o", "kernels.cubin"]
        said = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stderr
    found = []
    for kernel, local, spilled, registers in _SAID.findall(said):
        body = ptx.split(f".entry {kernel}(")[1].split("\n}\n")[0].splitlines()
        loop = main_loop(body)

        def lines(pattern: str, of: list[str] = loop) -> int:
            return sum(bool(re.search(pattern, line)) for line in of)

        loads, stores = r"\bld\.(?:volatile\.)?(?:global\.)?(?:nc\.)?", r"\bst\.(?:volatile\.)?(?:global\.)?"
        found.append(
            Count(
                kernel,
                int(registers),
                int(local),
                int(spilled),
                _fmas(loop),
                lines(loads + r"(?:v\d\.)?[bfsu]\d"),
                lines(loads + r"v\d\."),
                lines(stores + r"(?:v\d\.)?[bfsu]\d"),
                lines(stores + r"v\d\."),
                lines(r"\bbra\b"),
            )
        )
    return found


def ptx_of(source: Path) -> str:
    """The PTX of the kernels of a file."""
    from tiaot.export.cuda.standin import CUDA
    from tiaot.export.entry.device.lower import lower
    from tiaot.export.ir import LoweringError
    from tiaot.export.taichi.trace import trace_file
    from tiaot.export.target import native
    from tiaot.export.target.nvidia.ptx import emit_ptx

    traced = trace_file(source, None, CUDA)
    signatures = {family.name: family.signature for family in traced.families}
    primals = {(trace.kernel, trace.variant.name): trace for trace in traced.traces if not trace.wrt}
    device = []
    for trace in traced.traces:
        try:
            primal = primals[trace.kernel, trace.variant.name]
            device.append(lower(signatures[trace.kernel], trace, primal, native()).device)
        except LoweringError as error:
            print(f"{trace.symbol}: {error}", file=sys.stderr)
    return emit_ptx(device)


def table(counts: list[Count]) -> str:
    rows = [
        ["kernel", "registers", "local", "spilled", "FMAs", "loads", "wide", "stores", "wide", "branches", "FMAs/load"]
    ]
    for each in counts:
        ratio = f"{each.fmas_per_load:.1f}" if each.loads and each.fmas else "-"
        numbers = (each.registers, each.local_bytes, each.spilled_bytes, each.fmas, each.loads, each.wide_loads)
        rows.append([each.kernel, *map(str, (*numbers, each.stores, each.wide_stores, each.branches)), ratio])
    return "\n".join(aligned(rows))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_count", description=__doc__.splitlines()[0])
    parser.add_argument("source", nargs="?", type=Path, default=_ROOT / "kernels" / "dense_tanh.py")
    parser.add_argument("--architecture", default="sm_90")
    arguments = parser.parse_args()
    print(table(count(ptx_of(arguments.source), arguments.architecture)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
