"""Whether a change of the exporter leaves the code alone: exports all kernel files before and after, and compares.

    python tests/same_bytes.py write FOLDER [--cuda] [--texts] [--traces FILE] [FILE...]
    python tests/same_bytes.py compare BEFORE AFTER

`write` exports each kernel file of the project without the gate. With `--texts` it writes what LLVM is given instead of
modules, in some seconds; `--traces FILE` keeps what Taichi makes of the kernels in FILE, for the next run of a later
exporter. `compare` prints the names of the files that differ, and ends with status 1 where there are any.
"""

from __future__ import annotations

import argparse
import filecmp
import pickle
import re
import sys
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [path for folder in ("kernels", "examples/kernels", "tests/kernels") for path in (ROOT / folder).glob("*.py")]

_NUMBERED = re.compile(r"(%(?:tiaot|struct)\.\w+)\.\d+\b")  # a type as LLVM names it when another has its name


def write_modules(sources: list[Path], folder: Path, cuda: bool) -> None:
    """Writes the module of each file, as `NAME.so` and `NAME.h`."""
    from tiaot.export.export_file import export
    from tiaot.export.target.nvidia import BY_DEFAULT

    for source in sources:
        print(source.stem, flush=True)
        target = folder / f"{source.stem}.so"
        export(source, target, version="0", gate=False, cuda=BY_DEFAULT if cuda else None)


def write_texts(sources: list[Path], folder: Path, cuda: bool, traces: Path | None) -> None:
    """Writes the text of each entry that LLVM is given, or why there is none."""
    known: dict[tuple[str, str], Any] = {}
    if traces is not None and traces.exists():
        known = pickle.loads(traces.read_bytes())
    for source in sources:
        for target in ("cpu", "cuda") if cuda else ("cpu",):
            key = (source.stem, target)
            if key not in known:
                known[key] = _traced(source, target)
                if traces is not None:
                    traces.write_bytes(pickle.dumps(known))
            _write_texts(known[key], folder / source.stem, target)


def _traced(source: Path, target: str) -> Any:
    from tiaot.export.cuda.standin import CUDA
    from tiaot.export.taichi.trace import CPU, trace_file

    print(f"tracing {source.stem} for {target}", flush=True)
    return trace_file(source, None, CUDA if target == "cuda" else CPU)


def _write_texts(traced: Any, folder: Path, target: str) -> None:
    from tiaot.export.entry.cpu import lower
    from tiaot.export.entry.device import lower as cuda_lower
    from tiaot.export.ir import LoweringError
    from tiaot.export.taichi.trace import along_tangents
    from tiaot.export.target import native

    folder.mkdir(parents=True, exist_ok=True)
    signatures = {family.name: family.signature for family in traced.families}
    primals = {(trace.kernel, trace.variant.name): trace for trace in traced.traces if not trace.wrt}
    texts: list[str] = []
    cpu = native()
    nothing = lower.compile_text("", cpu)

    def compile_text(text: str, *_: Any, **how: Any) -> bytes:
        texts.append(f"{text}\n;{how}")
        return nothing

    def optimize(text: str) -> str:
        texts.append(text)
        return ""

    with (
        mock.patch.object(lower, "compile_text", compile_text),
        mock.patch.object(cuda_lower, "compile_text", compile_text),
        mock.patch.object(cuda_lower, "optimize", optimize),
    ):
        for trace in [*traced.traces, *along_tangents(traced.families, traced.traces)]:
            if trace.kernel not in signatures:
                continue
            given = (signatures[trace.kernel], trace, primals[trace.kernel, trace.variant.name])
            for level in cpu.forms if target == "cpu" else (None,):
                if level and level.implementation not in trace.levels:
                    continue
                texts.clear()
                try:
                    entry = lower.lower(*given, cpu, level) if level else cuda_lower.lower(*given, cpu)
                    texts.append(repr({**vars(entry), "object": b""}))
                except LoweringError as error:
                    texts.append(f"LoweringError: {error}")
                written = _NUMBERED.sub(r"\1", "\n;\n".join(texts))
                (folder / f"{trace.symbol}_{level.name if level else target}.txt").write_text(written)


def compare(before: Path, after: Path) -> list[str]:
    """The files that are not the same in both folders."""
    names = sorted({str(path.relative_to(root)) for root in (before, after) for path in root.rglob("*.*")})
    return [
        name
        for name in names
        if not ((before / name).exists() and (after / name).exists())
        or not filecmp.cmp(before / name, after / name, shallow=False)
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    writing = commands.add_parser("write")
    writing.add_argument("folder", type=Path)
    writing.add_argument("files", nargs="*", type=Path, help="kernel files, instead of all")
    writing.add_argument("--cuda", action="store_true")
    writing.add_argument("--texts", action="store_true")
    writing.add_argument("--traces", type=Path)
    comparing = commands.add_parser("compare")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "compare":
        different = compare(arguments.before, arguments.after)
        print("\n".join(different) or "all the same")
        return bool(different)
    sources = arguments.files or sorted(SOURCES)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if arguments.texts:
        write_texts(sources, arguments.folder, arguments.cuda, arguments.traces)
    else:
        write_modules(sources, arguments.folder, arguments.cuda)
    return 0


if __name__ == "__main__":
    sys.exit(main())
