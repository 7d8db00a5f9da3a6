"""Trace: Taichi kernels -> LLVM IR text that does not depend on this machine's CPU. The only file that runs Taichi.

Taichi lives in a child process (`python -m tiaot.export.trace KERNEL_FILE DIRECTORY`): it keeps global state, writes IR
into the working directory, and may abort. `add_kernel` of Taichi's own AOT module exports only the primal, so the
adjoint goes through the builder underneath it, compiled for real ndarrays that have gradients. What `Module.save` would
write is already optimised for this CPU; `print_kernel_llvm_ir` writes the IR before that.
"""

from __future__ import annotations

import dataclasses
import glob
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from .declare import Declaration, Family, Implementation, Variant, load_declarations
from .parameters import Parameter, example_arguments, parameters_of
from .signature import parse_signature

# How many pieces an outermost loop is cut into, of at least 512 turns each: Taichi bakes the number in. The runtime
# hands the batch out itself, so that a kernel with a batch gets one.
_PIECES = 16


class TraceError(Exception):
    """Taichi, or the kernel file, refused; the message is theirs."""


@dataclasses.dataclass(frozen=True)
class Trace:
    """One traced entry of one variant. `wrt` is empty for forward."""

    kernel: str
    variant: Variant
    wrt: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    autodiff: bool
    block_rows: int | None
    tasks: tuple[str, ...]  # IR of each top-level loop or stretch of statements, in the order that they run

    @property
    def symbol(self) -> str:
        entry = f"vjp_{'_'.join(self.wrt)}" if self.wrt else "forward"
        return f"{self.kernel}_{self.variant.name}_{entry}"


def trace_file(path: str | os.PathLike[str]) -> tuple[list[Family], list[Trace]]:
    """Trace every entry of every variant of every kernel that a file declares.

    Returns:
        What the file declares, and the traces of each, forward first, in the order of `Family.variants`.

    Raises:
        TraceError: with what Taichi or the file said.
    """
    with tempfile.TemporaryDirectory(prefix="tiaot-trace-") as directory:
        command = [sys.executable, "-m", "tiaot.export.trace", os.path.abspath(path), directory]
        child = subprocess.run(command, capture_output=True, text=True, check=False)
        index = Path(directory, "index.json")
        if child.returncode != 0 or not index.exists():
            said = child.stderr.strip() or child.stdout.strip() or f"the child ended with status {child.returncode}"
            raise TraceError(f"{path}: tracing failed:\n{said}")
        content = json.loads(index.read_text())
        return [_read_family(record) for record in content["families"]], [
            _read_trace(record, directory) for record in content["traces"]
        ]


def _read_family(record: dict[str, Any]) -> Family:
    return Family(
        record["name"],
        parse_signature(record["signature"], record["batch"]),
        tuple(record["dtypes"]),
        record["argument_dtypes"],
        tuple(record["fixed"]),
        tuple(tuple(names) for names in record["wrt"]),
        record["doc"],
    )


def _read_trace(record: dict[str, Any], directory: str) -> Trace:
    return Trace(
        record["kernel"],
        Variant(**record["variant"]),
        tuple(record["wrt"]),
        tuple(Parameter.read(item) for item in record["parameters"]),
        record["autodiff"],
        record["block_rows"],
        tuple(Path(directory, file).read_text() for file in record["files"]),
    )


# ---- the child ----


def _main(path: str, directory: str) -> None:
    path = os.path.abspath(path)
    os.chdir(directory)
    import taichi as ti

    # One compile thread: the order and the content of the files then never vary.
    ti.init(
        arch=ti.cpu,
        offline_cache=False,
        cpu_max_num_threads=1,
        num_compile_threads=0,
        fast_math=False,
        print_kernel_llvm_ir=True,
        log_level=ti.ERROR,
    )
    declarations = load_declarations(path)
    tracer = _Tracer(ti)
    families, traces = [], []
    for declaration in declarations:
        family = declaration.family
        families.append(_describe(family))
        for variant in family.variants():
            implementation = declaration.make(variant)
            if not isinstance(implementation, Implementation):
                raise TypeError(
                    f"{family.name}: expected the family to return autodiff(...) or written(...), "
                    f"got {type(implementation).__name__}"
                )
            for wrt in ((), *family.wrt):
                traces.append(tracer.trace(declaration, variant, implementation, wrt))
    Path("index.json").write_text(json.dumps({"families": families, "traces": traces}))


def _describe(family: Family) -> dict[str, Any]:
    return {
        "name": family.name,
        "signature": family.signature.text,
        "batch": family.signature.batch,
        "dtypes": family.dtypes,
        "argument_dtypes": dict(family.argument_dtypes),
        "fixed": [dict(sizes) for sizes in family.fixed],
        "wrt": family.wrt,
        "doc": family.doc,
    }


class _Refused(Exception):
    """Taichi refused a kernel."""


class _Tracer:
    def __init__(self, ti: Any) -> None:
        self.ti = ti
        self.builder = ti.aot.Module()._aot_builder
        self.count = 0
        self.traced: dict[Any, list[str]] = {}
        self.by_code: dict[Any, list[list[str]]] = {}

    def trace(
        self, declaration: Declaration, variant: Variant, implementation: Implementation, wrt: tuple[str, ...]
    ) -> dict[str, Any]:
        family = declaration.family
        differentiate = bool(wrt) and implementation.autodiff
        kernel = implementation.forward
        if wrt and not differentiate:
            if wrt not in implementation.vjp:
                raise ValueError(f"{family.name}: variant {variant.name} has no vjp for {' '.join(wrt)!r}")
            kernel = implementation.vjp[wrt]
        if not hasattr(kernel, "_primal"):
            raise TypeError(f"{family.name}: expected a ti.kernel, got {kernel!r}")
        dtypes = {each.name: family.dtype(each.name, variant) for each in family.signature.arguments}
        parameters = parameters_of(family.signature, kernel, implementation, wrt, differentiate, dtypes)
        return {
            "kernel": family.name,
            "variant": {"dtype": variant.dtype, "sizes": dict(variant.sizes)},
            "wrt": wrt,
            "parameters": [dataclasses.asdict(parameter) for parameter in parameters],
            "autodiff": implementation.autodiff,
            "block_rows": implementation.block_rows,
            "files": self._files(family, kernel, implementation, parameters, differentiate),
        }

    def _files(
        self,
        family: Family,
        kernel: Any,
        implementation: Implementation,
        parameters: list[Parameter],
        differentiate: bool,
    ) -> list[str]:
        """Names of the files with the IR of the kernel's tasks. Taichi compiles a kernel once for its types."""
        key = (kernel, differentiate, *parameters)
        if key not in self.traced:
            config = self.ti.lang.impl.current_cfg()
            # Taichi's own control-flow optimisation frees adjoints of stacks that they do not need. Elsewhere LLVM does
            # it again, and it takes most of the time of a large kernel.
            config.cfg_optimization = implementation.autodiff
            config.cpu_max_num_threads = 1 if family.signature.batch else _PIECES
            before = set(glob.glob("taichi_kernel_generic_*.ll"))
            taichi_kernel = kernel._adjoint if differentiate else kernel._primal
            try:
                taichi_kernel.ensure_compiled(*example_arguments(kernel, parameters, implementation.constants))
                self.builder.add(f"entry{self.count}", taichi_kernel.kernel_cpp)
            except Exception as error:
                what = f"the gradient of kernel {kernel.__name__}" if differentiate else f"kernel {kernel.__name__}"
                raise _Refused(f"Taichi does not compile {what}:\n{type(error).__name__}: {error}") from error
            self.count += 1
            files = sorted(set(glob.glob("taichi_kernel_generic_*.ll")) - before)
            # Taichi does not compile again what it knows: a variant whose code is that of another one.
            same = self.by_code.setdefault((kernel._primal.func.__code__, differentiate, *parameters), [])
            if not files and len(same) != 1:
                raise _Refused(
                    f"{family.name}: two variants give the same code, which then cannot be told from that of a third: "
                    "leave sizes out of 'fixed' that the kernel does not use"
                )
            same += [files] if files else []
            self.traced[key] = files or same[0]
        return self.traced[key]


if __name__ == "__main__":
    # What goes wrong here is the author's to read: Taichi's message with its file and line, not our stack.
    try:
        _main(*sys.argv[1:])
    except Exception as error:
        print(error if isinstance(error, _Refused) else f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.stderr.flush()
        os._exit(1)
    sys.stdout.flush()
    os._exit(0)
