"""Trace: Taichi kernels -> LLVM IR text that does not depend on this machine's CPU. The only file that runs Taichi.

Taichi lives in a child process (`python -m tiaot.export.trace KERNEL_FILE DIRECTORY LEVEL`): it keeps global state,
writes IR into the working directory, and may abort. `add_kernel` of Taichi's own AOT module exports only the primal,
so the adjoint goes through the builder underneath it, compiled for real ndarrays that have gradients. What
`Module.save` would write is already optimised for this CPU; `print_kernel_llvm_ir` writes the IR before that.
"""

from __future__ import annotations

import dataclasses
import glob
import inspect
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from .declare import Family, Implementation, Variant, load_families
from .signature import Signature, parse_signature


class TraceError(Exception):
    """Taichi, or the kernel file, refused; the message is theirs."""


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One array parameter of a traced kernel, in the order of Taichi's argument struct.

    `role` is "input", "output", "cotangent" (of output `name`), "gradient" (of input `name`) or "scratch". Where
    `gradient` is set, Taichi's struct holds a second pointer: the gradient of an input, the cotangent of an output.
    """

    name: str
    role: str
    rank: int
    gradient: bool
    shape: tuple[str, ...] = ()  # scratch: the size of each axis, an expression


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


def trace_file(path: str | os.PathLike[str], level: str) -> tuple[list[Family], list[Trace]]:
    """Trace every entry of every variant of every family in a kernel file, for one CPU level.

    Returns:
        The families that the file declares, and the traces of each, forward first, in the order of `Family.variants`.

    Raises:
        TraceError: with what Taichi or the file said.
    """
    with tempfile.TemporaryDirectory(prefix="tiaot-trace-") as directory:
        command = [sys.executable, "-m", "tiaot.export.trace", os.path.abspath(path), directory, level]
        child = subprocess.run(command, capture_output=True, text=True, check=False)
        index = Path(directory, "index.json")
        if child.returncode != 0 or not index.exists():
            said = child.stderr.strip() or child.stdout.strip() or f"the child ended with status {child.returncode}"
            raise TraceError(f"{path}: tracing for {level} failed:\n{said}")
        content = json.loads(index.read_text())
        return [_read_family(record) for record in content["families"]], [
            _read_trace(record, directory) for record in content["traces"]
        ]


def _read_family(record: dict[str, Any]) -> Family:
    return Family(
        record["name"],
        parse_signature(record["signature"], record["batch"]),
        tuple(record["dtypes"]),
        tuple(record["fixed"]),
        tuple(tuple(names) for names in record["wrt"]),
        record["doc"],
    )


def _read_trace(record: dict[str, Any], directory: str) -> Trace:
    parameters = tuple(
        Parameter(item["name"], item["role"], item["rank"], item["gradient"], tuple(item["shape"]))
        for item in record["parameters"]
    )
    tasks = tuple(Path(directory, file).read_text() for file in record["files"])
    variant = Variant(**record["variant"])
    return Trace(
        record["kernel"],
        variant,
        tuple(record["wrt"]),
        parameters,
        record["autodiff"],
        record["block_rows"],
        tasks,
    )


# ---- the child ----


def _main(path: str, directory: str, level: str) -> None:
    os.chdir(directory)
    import taichi as ti

    # One compile thread and one loop thread: the order and the content of the files then never vary.
    ti.init(
        arch=ti.cpu,
        offline_cache=False,
        cpu_max_num_threads=1,
        num_compile_threads=0,
        fast_math=False,
        print_kernel_llvm_ir=True,
        log_level=ti.ERROR,
    )
    tracer = _Tracer(ti)
    families, traces = [], []
    for declared, make in load_families(path):
        families.append(_describe(declared))
        for variant in declared.variants(level):
            implementation = make(variant)
            if not isinstance(implementation, Implementation):
                raise TypeError(
                    f"{declared.name}: expected the family to return autodiff(...) or written(...), "
                    f"got {type(implementation).__name__}"
                )
            for wrt in ((), *declared.wrt):
                traces.append(tracer.trace(declared, variant, implementation, wrt))
    Path("index.json").write_text(json.dumps({"families": families, "traces": traces}))


def _describe(declared: Family) -> dict[str, Any]:
    return {
        "name": declared.name,
        "signature": declared.signature.text,
        "batch": declared.signature.batch,
        "dtypes": declared.dtypes,
        "fixed": [dict(sizes) for sizes in declared.fixed],
        "wrt": declared.wrt,
        "doc": declared.doc,
    }


class _Tracer:
    def __init__(self, ti: Any) -> None:
        self.ti = ti
        self.builder = ti.aot.Module()._aot_builder
        self.count = 0

    def trace(
        self, declared: Family, variant: Variant, implementation: Implementation, wrt: tuple[str, ...]
    ) -> dict[str, Any]:
        differentiate = bool(wrt) and implementation.autodiff
        kernel = implementation.forward
        if wrt and not differentiate:
            if wrt not in implementation.vjp:
                raise ValueError(f"{declared.name}: variant {variant.name} has no vjp for {' '.join(wrt)!r}")
            kernel = implementation.vjp[wrt]
        if not hasattr(kernel, "_primal"):
            raise TypeError(f"{declared.name}: expected a ti.kernel, got {kernel!r}")
        parameters = _parameters(declared.signature, kernel, implementation, wrt, differentiate)
        taichi_kernel = kernel._adjoint if differentiate else kernel._primal
        # Shapes are no part of the code, but for a kernel that asserts on them: 2 is right wherever 1 would be.
        arrays = [
            self.ti.ndarray(variant.type, (2,) * parameter.rank, needs_grad=parameter.gradient)
            for parameter in parameters
        ]
        # Taichi's own control-flow optimisation frees adjoints of stacks that they do not need. Elsewhere LLVM does it
        # again, and it takes most of the time of a large kernel.
        self.ti.lang.impl.current_cfg().cfg_optimization = implementation.autodiff
        before = set(glob.glob("taichi_kernel_generic_*.ll"))
        taichi_kernel.ensure_compiled(*arrays)
        self.builder.add(f"entry{self.count}", taichi_kernel.kernel_cpp)
        self.count += 1
        files = sorted(set(glob.glob("taichi_kernel_generic_*.ll")) - before)
        if not files:
            raise RuntimeError(f"{declared.name}: Taichi wrote no IR")
        return {
            "kernel": declared.name,
            "variant": {"dtype": variant.dtype, "sizes": dict(variant.sizes), "level": variant.level},
            "wrt": wrt,
            "parameters": [dataclasses.asdict(parameter) for parameter in parameters],
            "autodiff": implementation.autodiff,
            "block_rows": implementation.block_rows,
            "files": files,
        }


def _parameters(
    signature: Signature, kernel: Any, implementation: Implementation, wrt: tuple[str, ...], differentiate: bool
) -> list[Parameter]:
    """What each parameter of a Taichi kernel is, by its name."""
    inputs = {argument.name: argument for argument in signature.inputs}
    outputs = {argument.name: argument for argument in signature.outputs}
    parameters = []
    for name in inspect.signature(kernel._primal.func).parameters:
        plain = name.removeprefix("grad_")
        if name in inputs:
            gradient = differentiate and name in wrt
            parameters.append(Parameter(name, "input", len(inputs[name].dims), gradient))
        elif name in outputs:
            parameters.append(Parameter(name, "output", len(outputs[name].dims), differentiate))
        elif plain != name and plain in outputs:
            parameters.append(Parameter(plain, "cotangent", len(outputs[plain].dims), False))
        elif plain != name and plain in wrt:
            parameters.append(Parameter(plain, "gradient", len(inputs[plain].dims), False))
        elif name in implementation.scratch:
            shape = implementation.scratch[name]
            parameters.append(Parameter(name, "scratch", len(shape), False, shape))
        else:
            raise ValueError(
                f"{kernel.__name__}: parameter {name!r} is none of the signature's arguments {', '.join(inputs)}, "
                f"{', '.join(outputs)}, nor a grad_ of one that this kernel differentiates, nor declared as scratch"
            )
    return parameters


if __name__ == "__main__":
    # What goes wrong here is the author's to read: Taichi's message with its file and line, not our stack.
    try:
        _main(*sys.argv[1:])
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.stderr.flush()
        os._exit(1)
    sys.stdout.flush()
    os._exit(0)
