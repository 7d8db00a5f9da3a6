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

from .cache import Cache
from .declare import STATE, Declaration, Family, Implementation, KernelFile, Variant, load_kernel_file
from .fields import describe_trees, has_gradient, lay_out, refusals
from .fingerprint import own_modules, source_without_other_kernels, values
from .parameters import Parameter, example_arguments, parameters_of
from .signature import parse_signature
from .state import State, used_nodes, uses_state
from .support import draws_random

# How many pieces an outermost loop is cut into, of at least 512 turns each: Taichi bakes the number in. The runtime
# hands the batch out itself, so that a kernel with a batch gets one.
PIECES = 16
_INDEX = "index.json"


class TraceError(Exception):
    """Taichi, or the kernel file, refused; the message is theirs."""


@dataclasses.dataclass(frozen=True)
class Trace:
    """One traced entry of one variant. `wrt` is empty for forward, and STATE for the adjoint of a kernel on state."""

    kernel: str
    variant: Variant
    wrt: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    autodiff: bool
    block_rows: int | None
    overwrites: bool  # it writes every element of outputs, of batched gradients and of what it reads of its scratch
    tasks: tuple[str, ...]  # IR of each top-level loop or stretch of statements, in the order that they run
    state: State | None = None  # what its fields are, of a kernel on state

    @property
    def on_state(self) -> bool:
        """Whether it is the adjoint of a kernel on state, in place."""
        return self.wrt == STATE

    @property
    def symbol(self) -> str:
        entry = "grad" if self.on_state else f"vjp_{'_'.join(self.wrt)}" if self.wrt else "forward"
        return f"{self.kernel}_{self.variant.name}_{entry}"


@dataclasses.dataclass(frozen=True)
class Traced:
    """What a kernel file declares, traced."""

    families: list[Family]
    traces: list[Trace]  # of each family forward first, in the order of `Family.variants` and `Family.entries`
    state: State | None
    notes: list[str]  # what was left out, for the author
    reused: list[str]  # names of the kernels whose traces the cache had
    refused: dict[tuple[str, ...], str]  # for CUDA: why there is no trace, by kernel, variant and names of the wrt


def trace_file(path: str | os.PathLike[str], cache: Path | None = None, target: str = "cpu") -> Traced:
    """Trace every entry of every variant of every kernel that a file declares.

    Args:
        cache: the folder with what was traced before, from where unchanged kernels are taken.
        target: "cpu", or "cuda": then kernels over fields are left out, and what Taichi refuses is told in `refused`.

    Raises:
        TraceError: with what Taichi or the file said.
    """
    with tempfile.TemporaryDirectory(prefix="tiaot-trace-") as directory:
        command = [sys.executable, "-m", "tiaot.export.trace", os.path.abspath(path), directory, str(cache or "")]
        environment = dict(os.environ)
        if target == "cuda":
            from .cuda.standin import write_driver  # which needs LLVM, as nothing else here

            write_driver(Path(directory))
            environment["LD_LIBRARY_PATH"] = os.pathsep.join([directory, environment.get("LD_LIBRARY_PATH", "")])
        child = subprocess.run([*command, target], capture_output=True, text=True, check=False, env=environment)
        if child.returncode != 0 or not Path(directory, _INDEX).exists():
            said = child.stderr.strip() or child.stdout.strip() or f"the child ended with status {child.returncode}"
            raise TraceError(f"{path}: tracing failed:\n{said}")
        return read_traced(directory)


def read_traced(directory: str) -> Traced:
    """What `write_traces` has written into a directory."""
    content = json.loads(Path(directory, _INDEX).read_text())
    state = None if content["state"] is None else State.read(content["state"])
    families = [_read_family(record) for record in content["families"]]
    on_state = {family.name for family in families if family.state}
    traces = [
        _read_trace(record, directory, state if record["kernel"] in on_state else None) for record in content["traces"]
    ]
    refused = {tuple(key.split("|")): why for key, why in content["refused"].items()}
    return Traced(families, traces, state, content["notes"], content["reused"], refused)


def _read_family(record: dict[str, Any]) -> Family:
    return Family(
        record["name"],
        parse_signature(record["signature"], record["batch"]),
        tuple(record["dtypes"]),
        record["argument_dtypes"],
        tuple(record["fixed"]),
        tuple(tuple(names) for names in record["wrt"]),
        record["doc"],
        record["state"],
        record["gradient"],
    )


def _read_trace(record: dict[str, Any], directory: str, state: State | None) -> Trace:
    return Trace(
        record["kernel"],
        Variant(**record["variant"]),
        tuple(record["wrt"]),
        tuple(Parameter.read(item) for item in record["parameters"]),
        record["autodiff"],
        record["block_rows"],
        record["overwrites"],
        tuple(Path(directory, file).read_text() for file in record["files"]),
        state,
    )


# ---- the child ----


def _main(path: str, directory: str, cache: str, target: str) -> None:
    path = os.path.abspath(path)
    os.chdir(directory)
    start_taichi(target)
    write_traces(path, load(path), Path(cache) if cache else None, target)


def start_taichi(target: str = "cpu") -> None:
    """Set Taichi up for tracing. It writes IR into the working directory."""
    import taichi as ti

    # One compile thread: the order and the content of the files then never vary.
    ti.init(
        arch=ti.cuda if target == "cuda" else ti.cpu,
        offline_cache=False,
        cpu_max_num_threads=1,
        num_compile_threads=0,
        fast_math=False,
        print_kernel_llvm_ir=True,
        log_level=ti.ERROR,
    )


def write_traces(path: str, file: KernelFile, cache: Path | None, target: str = "cpu", kind: str = "") -> None:
    """Trace what a kernel file declares, into files of the working directory that `read_traced` reads.

    Args:
        kind: tells traces that are made of the same text in another way apart in the cache.
    """
    import taichi as ti

    tracer = _Tracer(ti, file, target)
    known = Cache(cache)
    common = _common(file, ti) if cache else ""
    source = Path(path).read_text()
    found, reused = [], []
    refused = refusals(file.fields)
    for declaration in file.declarations:
        name = declaration.family.name
        key = ("trace", target + kind, name, common, source_without_other_kernels(source, name))
        stored = known.get(*key)
        if stored is not None:
            content = json.loads(stored)
            reused.append(name)
            for place, record in enumerate(content["traces"]):
                record["files"] = _write(f"{name}.{place}", [content["texts"][file] for file in record["files"]])
        else:
            content = tracer.trace_all(declaration)
            known.put(json.dumps({**content, "texts": _texts(content)}).encode(), *key)
        nodes = used_nodes(_texts(content).values())
        why = next((refused[node] for node in sorted(nodes) if node in refused), None)
        if why is None:
            found.append((content, nodes))
        elif declaration.implicit:
            tracer.notes.append(f"left out: {name}: {why}")
        else:
            raise ValueError(f"{name}: {why}")
    families = [content["family"] for content, _ in found if content["family"]]
    notes = [*tracer.notes, *(note for content, _ in found for note in content["notes"])]
    if not families and target == "cpu":
        raise ValueError("\n".join([f"{path}: has no kernel that can be exported", *notes]))
    used = set().union(*(nodes for _, nodes in found))
    state = lay_out(file.fields, used) if any(family["state"] for family in families) else None
    index = {
        "families": families,
        "traces": [record for content, _ in found for record in content["traces"]],
        "state": None if state is None else dataclasses.asdict(state),
        "notes": notes,
        "reused": reused,
        "refused": {key: why for content, _ in found for key, why in content["refused"].items()},
    }
    Path(_INDEX).write_text(json.dumps(index))


def _texts(content: dict[str, Any]) -> dict[str, str]:
    """The IR of a kernel's traces, by the names of the files that hold it."""
    return {name: Path(name).read_text() for record in content["traces"] for name in record["files"]}


def _write(stem: str, texts: list[str]) -> list[str]:
    names = [f"{stem}.{place}.txt" for place in range(len(texts))]
    for name, text in zip(names, texts, strict=True):
        Path(name).write_text(text)
    return names


def _common(file: KernelFile, ti: Any) -> str:
    """What all kernels of a file follow from beside its text: the files that it imports, its values, its trees."""
    modules = own_modules()
    config = ti.lang.impl.current_cfg()
    parts = [
        *(
            f"{module.__name__}\n{Path(module.__file__ or '').read_text()}\n{values(vars(module))}"
            for module in modules
        ),
        values(file.namespace),
        repr(describe_trees()),
        f"{config.default_fp} {config.default_ip}",
    ]
    return "\n".join(parts)


def load(path: str) -> KernelFile:
    """Run the kernel file. What it runs itself is compiled in another way, so that Taichi compiles it again for us."""
    import taichi as ti

    config = ti.lang.impl.current_cfg()
    config.fast_math, config.print_kernel_llvm_ir = True, False
    file = load_kernel_file(path)
    config.fast_math, config.print_kernel_llvm_ir = False, True
    for declaration in file.declarations:
        if declaration.kernel is not None:
            declaration.kernel._primal.reset()
            declaration.kernel._adjoint.reset()
    ti.lang.impl.get_runtime().materialize()
    return file


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
        "state": family.state,
        "gradient": family.gradient,
    }


class _Refused(Exception):
    """Taichi refused a kernel."""


class _Tracer:
    def __init__(self, ti: Any, file: KernelFile, target: str) -> None:
        self.ti = ti
        self.target = target
        self.fields = file.fields
        self.notes = list(file.notes)
        self.builder = ti.aot.Module()._aot_builder
        self.count = 0
        self.traced: dict[Any, list[str]] = {}

    def trace_all(self, declaration: Declaration) -> dict[str, Any]:
        """The family, with what only its code tells, the traces of all its entries, and notes for the author."""
        traces: list[dict[str, Any]] = []
        notes: list[str] = []
        if self.target == "cuda":
            return self._trace_for_cuda(declaration)
        for variant in declaration.family.variants():
            implementation = declaration.make(variant)
            if not isinstance(implementation, Implementation):
                raise TypeError(
                    f"{declaration.family.name}: expected the family to return autodiff(...) or written(...), "
                    f"got {type(implementation).__name__}"
                )
            forward = self.trace(declaration, variant, implementation, ())
            texts = [Path(name).read_text() for name in forward["files"]]
            if declaration.derived and any(map(draws_random, texts)):
                declaration = declaration.with_seed()
            traces.append(forward)
            if any(map(uses_state, texts)):
                adjoint = self._adjoint(declaration, variant, implementation, texts, notes)
                declaration = declaration.with_state(adjoint is not None)
                traces += [] if adjoint is None else [adjoint]
            elif not declaration.family.signature.outputs:
                if declaration.implicit:
                    left = f"left out: {declaration.family.name}: uses no field and returns nothing"
                    return {"family": None, "traces": [], "notes": [left], "refused": {}}
                raise ValueError(f"{declaration.family.name}: has no output and uses no field")
            for wrt in declaration.family.wrt:
                traces.append(self.trace(declaration, variant, implementation, wrt))
        self._check_draw(declaration)
        return {"family": _describe(declaration.family), "traces": traces, "notes": notes, "refused": {}}

    def _trace_for_cuda(self, declaration: Declaration) -> dict[str, Any]:
        """The traces of all entries that Taichi compiles for CUDA, of a kernel that works on no field."""
        family = declaration.family
        traces, refused = [], {}
        for place, variant in enumerate(family.variants()):
            variant = dataclasses.replace(variant, target="cuda")
            implementation = declaration.make(variant)
            for wrt in ((), *family.wrt):
                try:
                    trace = self.trace(declaration, variant, implementation, wrt)
                except _Refused as error:
                    refused["|".join([family.name, variant.name, *wrt])] = str(error)
                    continue
                if place == 0 and not wrt and any(uses_state(Path(name).read_text()) for name in trace["files"]):
                    return {"family": None, "traces": [], "notes": [], "refused": {}}
                traces.append(trace)
        return {"family": _describe(family), "traces": traces, "notes": [], "refused": refused}

    def _adjoint(
        self,
        declaration: Declaration,
        variant: Variant,
        implementation: Implementation,
        texts: list[str],
        notes: list[str],
    ) -> dict[str, Any] | None:
        """The trace of the adjoint of a kernel on state; None where it has none."""
        if declaration.wrt == () or declaration.family.signature.outputs:
            return None
        if not has_gradient(self.fields, used_nodes(texts)):
            return None
        try:
            return self.trace(declaration, variant, implementation, STATE)
        except _Refused as error:
            if not declaration.implicit:
                raise
            notes.append(f"{declaration.family.name} has no gradient: {error}")
            return None

    def _check_draw(self, declaration: Declaration) -> None:
        family = declaration.family
        known = [argument.name for argument in family.signature.inputs]
        known += list(self.fields) if family.state else []
        for name in declaration.draw:
            if name not in known:
                raise ValueError(f"{family.name}: draw: expected names of {', '.join(known)}, got {name!r}")

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
            "variant": {"dtype": variant.dtype, "sizes": dict(variant.sizes), "target": variant.target},
            "wrt": wrt,
            "parameters": [dataclasses.asdict(parameter) for parameter in parameters],
            "autodiff": implementation.autodiff,
            "block_rows": implementation.block_rows,
            "overwrites": implementation.overwrites,
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
            config.cpu_max_num_threads = 1 if family.signature.batch else PIECES
            # Taichi does not compile again what it has compiled under the same settings, in a kernel of any name.
            config.random_seed = self.count
            before = set(glob.glob("taichi_kernel_generic_*.ll"))
            taichi_kernel = kernel._adjoint if differentiate else kernel._primal
            try:
                taichi_kernel.ensure_compiled(*example_arguments(kernel, parameters, implementation.constants))
                self.builder.add(f"entry{self.count}", taichi_kernel.kernel_cpp)
            except Exception as error:
                what = f"the gradient of kernel {kernel.__name__}" if differentiate else f"kernel {kernel.__name__}"
                raise _Refused(f"Taichi does not compile {what}:\n{type(error).__name__}: {error}") from error
            self.count += 1
            # None at all: the kernel does nothing.
            self.traced[key] = sorted(set(glob.glob("taichi_kernel_generic_*.ll")) - before)
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
