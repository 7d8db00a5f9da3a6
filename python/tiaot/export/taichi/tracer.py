"""The child process that runs Taichi: a kernel file -> the IR of its kernels, in files, and what they are, in JSON.

    python -m tiaot.export.taichi.tracer KERNEL_FILE DIRECTORY CACHE cpu|checked|cuda DERIVATIVES KERNELS

Names have commas between; without DERIVATIVES kernels have those of their decorators, without KERNELS all are traced.
`checked` is the CPU, with an assertion before every access to an array or a field.

`add_kernel` of Taichi's own AOT module exports only the primal, so the adjoint goes through the builder underneath it,
compiled for real ndarrays that have gradients. What `Module.save` would write is already optimised for this CPU;
`print_kernel_llvm_ir` writes the IR before that. What goes wrong stands in `error.txt`; where Taichi ends the process,
`doing.json` says what it was at.
"""

from __future__ import annotations

import dataclasses
import gc
import glob
import json
import os
import sys
import traceback
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from ..author.content import contents, read_fields, were_used
from ..author.declare import LEVELS, Declaration, Family, Implementation, Variant
from ..author.decorate import place_of
from ..author.fields import describe_trees, has_gradient, lay_out, names_of_places, places, real_places, refusals
from ..author.flow import Flow, flow_of, lost_gradients
from ..author.hints import hints, ordered_loops, rounded_numbers
from ..author.kernel_file import KernelFile, KernelFileError, load_kernel_file
from ..author.parameters import Parameter, example_arguments, parameters_of
from ..author.stores import stores
from ..cache import Cache
from ..computation import ALL_FIELDS
from ..derivative.adjoint_tasks import AdjointTasks, adjoint_tasks, may_overwrite
from ..derivative.fields import Fields
from ..ir import LoweringError
from ..ir.passes.repeated import without_repetitions
from ..ir.reader import read
from ..ir.runtime_calls import by_one_thread, draws_random, used_nodes, uses_fields
from ..ir.writer import write
from ..state import State
from .fingerprint import own_modules, source_without_other_kernels, used_values, values
from .trace import INDEX, PIECES


def _main(path: str, directory: str, cache: str, target: str, derivatives: str, kernels: str) -> None:
    path = os.path.abspath(path)
    os.chdir(directory)
    start_taichi(target)
    kind = ""
    if target == "checked":
        target, kind = "cpu", ", checked"
    file, arrays = load(path, target)
    if kernels:
        kept = tuple(each for each in file.declarations if each.family.name in kernels.split(","))
        file = dataclasses.replace(file, declarations=kept)
    if derivatives:
        asked = tuple(derivatives.split(","))
        file = dataclasses.replace(file, declarations=tuple(each.with_derivatives(asked) for each in file.declarations))
    if kind:
        file = _without_unchecked(file)
    write_traces(path, file, arrays, Path(cache) if cache else None, target, kind)


def _without_unchecked(file: KernelFile) -> KernelFile:
    """The file without the entries that are made of others, in which indices are not checked; with a note on them."""
    declarations, left = [], []
    for each in file.declarations:
        family = dataclasses.replace(each.family, derivatives=())
        left += [f"{kind} of {family.name}" for kind in each.family.derivatives]
        if each.derivative == "tiaot" and family.wrt:
            left.append(f"vjp of {family.name}")
            each = dataclasses.replace(each, wrt=())
            family = dataclasses.replace(family, wrt=())
        declarations.append(dataclasses.replace(each, family=family, derivative="taichi"))
    note = f"--check-bounds: left out, since indices are not checked in it: {', '.join(left)}"
    notes = (*file.notes, note) if left else file.notes
    return dataclasses.replace(file, declarations=tuple(declarations), notes=notes)


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
        check_out_of_bound=target == "checked",
    )


def write_traces(
    path: str,
    file: KernelFile,
    arrays: Mapping[str, Any] | None,
    cache: Path | None,
    target: str = "cpu",
    kind: str = "",
) -> None:
    """Trace what a kernel file declares, into files of the working directory that `read_traced` reads.

    Args:
        arrays: what the file wrote into its fields; None where it touched none.
        kind: tells traces that are made of the same text in another way apart in the cache.
    """
    import taichi as ti

    tracer = _Tracer(ti, file, target)
    known = Cache(cache)
    common = _common(file, ti) if cache else ""
    source = Path(path).read_text()
    found, reused = [], []
    flows: dict[str, Flow] = {}
    refused = refusals(file.fields)
    for declaration in file.declarations:
        name = declaration.family.name
        asked = json.dumps([_describe(declaration.family), declaration.wrt, declaration.derivative])  # whatever says so
        key = ("trace", target + kind, name, common, source_without_other_kernels(source, name), asked)
        stored = known.get(*key)
        if stored is not None:
            content = json.loads(stored)
            reused.append(name)
            for place, record in enumerate(content["traces"]):
                record["files"] = _write(f"{name}.{place}", [content["texts"][file] for file in record["files"]])
        else:
            content = tracer.trace_all(declaration)
        texts = _texts(content)
        if stored is None:
            known.put(json.dumps({**content, "texts": texts}).encode(), *key)
        nodes = used_nodes(texts.values())
        why = next((refused[node] for node in sorted(nodes) if node in refused), None)
        if why is None:
            found.append((content, nodes))
            if content["family"] and content["family"]["state"] and declaration.wrt != ():
                flows[name] = flow_of(texts[each] for each in content["traces"][0]["files"])
        elif declaration.implicit:
            tracer.notes.append(f"left out: {declaration.place}: {name}: {why}")
        else:
            raise KernelFileError(f"{declaration.place}: {name}: {why}")
    families = [content["family"] for content, _ in found if content["family"]]
    notes = [*tracer.notes, *(note for content, _ in found for note in content["notes"])]
    notes += lost_gradients(flows, real_places(file.fields))
    if not families and target == "cpu":
        raise KernelFileError("\n".join([f"{path}: has no kernel that can be exported", *notes]))
    used = set().union(*(nodes for _, nodes in found))
    try:
        state = lay_out(file.fields, used) if any(family["state"] for family in families) else None
        pieces = [] if state is None or arrays is None else contents(state, arrays)
    except ValueError as error:
        raise KernelFileError(f"{path}: {error}") from error
    for piece in pieces:
        Path(f"content.{piece.offset}").write_bytes(piece.data)
    notes += [] if state is None or arrays is None else _on_content(state, file, arrays)
    index = {
        "contents": [piece.offset for piece in pieces],
        "families": families,
        "traces": [record for content, _ in found for record in content["traces"]],
        "state": None if state is None else dataclasses.asdict(state),
        "notes": notes,
        "doubts": [doubt for content, _ in found for doubt in content["doubts"]],
        "reused": reused,
        "computed": _computed(file, source) if target == "cuda" or arrays is not None else {},
        "refused": {key: why for content, _ in found for key, why in content["refused"].items()},
    }
    Path(INDEX).write_text(json.dumps(index))


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


def _computed(file: KernelFile, source: str) -> dict[str, str]:
    """What the names that kernels may use stand for, of the file and of those of its own that it imports, as hashes."""
    modules = own_modules()
    sources = [source, *(Path(module.__file__ or "").read_text() for module in modules)]
    found = {}
    for namespace, prefix in ((file.namespace, ""), *((vars(module), f"{module.__name__}.") for module in modules)):
        found |= {f"{prefix}{name}": each for name, each in used_values(namespace, sources).items()}
    return found


def _on_content(state: State, file: KernelFile, arrays: Mapping[str, Any]) -> list[str]:
    """What a state starts with, for the author."""
    names = [field.name for field in state.fields]
    notes = []
    if kept := [name for name in names if name in arrays]:
        notes.append(f"a state starts with what the file wrote into {', '.join(kept)}; the other fields are zeros")
    unknown = [name for name in names if name not in file.fields and not name.endswith(".grad")]
    if unknown:
        notes.append(
            f"{', '.join(unknown)}: no variable of the file holds this field, so that its content cannot be read: a "
            "state starts with zeros there; give it a variable"
        )
    return notes


def load(path: str, target: str = "cpu") -> tuple[KernelFile, dict[str, Any] | None]:
    """Run the kernel file: what it declares, and the fields that it wrote to, None where it touched none.

    What it runs itself is compiled in another way, so that Taichi compiles it again for us.
    """
    import taichi as ti

    config = ti.lang.impl.current_cfg()
    config.fast_math, config.print_kernel_llvm_ir = True, False
    file = load_kernel_file(path)
    arrays = read_fields(file.fields) if target == "cpu" and were_used() else None
    config.fast_math, config.print_kernel_llvm_ir = False, True
    for declaration in file.declarations:
        if declaration.kernel is not None:
            declaration.kernel._primal.reset()
            declaration.kernel._adjoint.reset()
    ti.lang.impl.get_runtime().materialize()
    return file, arrays


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
        "gradient_refused": family.gradient_refused,
        "derivatives": family.derivatives,
        "cuda_derivatives": family.cuda_derivatives,
    }


def _not_in_order(kernel: Any, texts: list[str]) -> str:
    """Why a kernel cannot be exported that runs a loop over a field in order, "" where it has none.

    Taichi cuts such a loop into pieces as any other, and gives them to one thread. On a machine with one CPU it does so
    with every loop: only the kernel's text tells.
    """
    if not any(map(by_one_thread, texts)) or not (lines := ordered_loops(kernel)):
        return ""
    return (
        f"asks for a loop over a field that runs in order ({', '.join(lines)}), where exported loops over fields are "
        "parallel: write `for i in range(n)`, or `ti.ndrange` with the sizes, for the loop; these run in order"
    )


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
        self.adjoints = 0
        self.doubts: list[str] = []  # of the kernel that is traced: what its gate is to find out
        self.arguments: list[Any] = []  # Taichi's arrays, kept from being released
        self.traced: dict[Any, list[str]] = {}

    def trace_all(self, declaration: Declaration) -> dict[str, Any]:
        """The family, with what only its code tells, the traces of all its entries, and notes for the author.

        Raises:
            KernelFileError: with the kernel's file and line.
        """
        try:
            return self._trace_all(declaration)
        except (_Refused, ValueError, TypeError) as error:
            raise KernelFileError(f"{declaration.place}: {error}") from error

    def _trace_all(self, declaration: Declaration) -> dict[str, Any]:
        traces: list[dict[str, Any]] = []
        notes: list[str] = []
        self.doubts = []
        if self.target == "cuda":
            return self._trace_for_cuda(declaration)
        for variant in declaration.family.variants():
            implementation = declaration.make(variant)
            if not isinstance(implementation, Implementation):
                raise TypeError(
                    f"{declaration.family.name}: expected the family to return autodiff(...) or written(...), "
                    f"got {type(implementation).__name__}"
                )
            start = len(traces)
            forward = self.trace(declaration, variant, implementation, ())
            texts = [Path(name).read_text() for name in forward["files"]]
            if declaration.derived and any(map(draws_random, texts)):
                declaration = declaration.with_seed()
            traces.append(forward)
            on_fields = any(map(uses_fields, texts))
            why = _not_in_order(implementation.forward, texts)
            if not on_fields and not declaration.family.signature.outputs:
                why = "uses no field and has no output"
            if why and declaration.implicit:
                left = f"left out: {declaration.place}: {declaration.family.name}: {why}"
                return {"family": None, "traces": [], "notes": [left], "doubts": [], "refused": {}}
            if why:
                raise ValueError(f"{declaration.family.name}: {why}")
            if on_fields:
                adjoint, why = self._adjoint(declaration, variant, implementation, texts)
                declaration = declaration.with_state(adjoint is not None, bool(why))
                traces += [] if adjoint is None else [adjoint]
                notes += [f"{declaration.family.name} has no gradient: {why}"] if why else []
            for wrt in declaration.family.wrt:
                traces.append(self.trace(declaration, variant, implementation, wrt))
            lowest, *higher = implementation.by_levels()
            for record in traces[start:]:
                record["levels"] = lowest[0]
            for levels, chosen in higher:
                for wrt in ((), *declaration.family.wrt):
                    traces.append({**self.trace(declaration, variant, chosen, wrt), "levels": levels})
            for levels, chosen in (lowest, *higher):
                if chosen.along is None:
                    continue
                for wrt in declaration.family.differentiated_along:
                    record = self.trace(declaration, variant, chosen.along, wrt)
                    traces.append({**record, "levels": levels, "for_tangents": True})
        self._check_draw(declaration)
        notes += self._rounded(declaration)
        return {
            "family": _describe(declaration.family),
            "traces": traces,
            "notes": notes,
            "doubts": list(dict.fromkeys(self.doubts)),
            "refused": {},
        }

    def _trace_for_cuda(self, declaration: Declaration) -> dict[str, Any]:
        """The traces of all entries that Taichi compiles for CUDA."""
        traces: list[dict[str, Any]] = []
        refused = {}
        for variant in declaration.family.variants():
            variant = dataclasses.replace(variant, target="cuda")
            implementation = declaration.make(variant)
            asked: list[tuple[str, ...]] = [(), *declaration.family.wrt]
            for wrt in asked:
                try:
                    if wrt and implementation.autodiff and declaration.derivative == "tiaot":
                        raise _Refused('the reverse mode of derivative="tiaot" makes no code for CUDA')
                    trace = self.trace(declaration, variant, implementation, wrt)
                    if implementation.along is not None and wrt in declaration.family.for_cuda().differentiated_along:
                        along = self.trace(declaration, variant, implementation.along, wrt)
                        traces.append({**along, "for_tangents": True})
                except _Refused as error:
                    refused["|".join([declaration.family.name, variant.name, *wrt])] = str(error)
                    continue
                traces.append(trace)
                if wrt:
                    continue
                texts = [Path(name).read_text() for name in trace["files"]]
                if declaration.derived and any(map(draws_random, texts)):
                    declaration = declaration.with_seed()
                if any(map(uses_fields, texts)):
                    on_state = declaration.wrt != () and not declaration.family.signature.outputs
                    has_adjoint = on_state and has_gradient(self.fields, used_nodes(texts))
                    declaration = declaration.with_state(has_adjoint)
                    asked += [ALL_FIELDS] if has_adjoint else []
        return {
            "family": _describe(declaration.family),
            "traces": traces,
            "notes": [],
            "doubts": [],
            "refused": refused,
        }

    def _adjoint(
        self,
        declaration: Declaration,
        variant: Variant,
        implementation: Implementation,
        texts: list[str],
    ) -> tuple[dict[str, Any] | None, str]:
        """The trace of the adjoint of a kernel on state, None where it has none; why it cannot have one, "" where it is
        to have none, or has it."""
        if declaration.wrt == () or declaration.family.signature.outputs:
            return None, ""
        if not has_gradient(self.fields, used_nodes(texts)):
            return None, ""
        try:
            return self.trace(declaration, variant, implementation, ALL_FIELDS), ""
        except _Refused as error:
            if not declaration.implicit:
                raise _Refused(f"{declaration.family.name}: {error}") from error
            return None, str(error)

    def _rounded(self, declaration: Declaration) -> list[str]:
        """A note on numbers that Taichi rounds to float32, its default, in a kernel that works in float64."""
        family = declaration.family
        arguments = family.signature.arguments
        double = [v for v in family.variants() if any(family.dtype(each.name, v) == "float64" for each in arguments)]
        if self.ti.lang.impl.current_cfg().default_fp != self.ti.f32 or not double:
            return []
        found = rounded_numbers(declaration.make(double[0]).forward)
        if not found:
            return []
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        return [
            f"{declaration.place}: {family.name} works in float64, but these numbers are float32, as is Taichi's "
            f"default: {', '.join(found[:5])}{more}; for float64 write ti.init(default_fp=ti.f64) into the file"
        ]

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
        files, refused, added = None, "", ()
        on_fields = wrt == ALL_FIELDS
        if differentiate and self.target == "cpu" and (on_fields or declaration.derivative != "taichi"):
            names = self._files(family, kernel, implementation, parameters, False, with_gradients=True)
            texts = [Path(name).read_text() for name in names]
            made, refused = self._our_adjoint(family, parameters, wrt, texts)
            if on_fields:
                self._check_overwritten(declaration, implementation, texts, made)
            if declaration.derivative == "taichi":
                refused = ""
            elif made is not None:
                self.adjoints += 1
                files, added = _write(f"adjoint.{self.adjoints}", list(made.texts)), made.added
            elif declaration.derivative == "tiaot":
                what = "the gradient" if on_fields else f"the vjp of {' '.join(wrt)}"
                raise _Refused(f"{what}: {refused}")
        maker = "taichi" if files is None else "tiaot"
        if files is None:
            try:
                files = self._files(family, kernel, implementation, parameters, differentiate)
            except _Refused as error:
                if not refused:
                    raise
                raise _Refused(f"{error}\ntiaot's own reverse mode does not take it: {refused}") from error
        return {
            "kernel": family.name,
            "variant": {"dtype": variant.dtype, "sizes": dict(variant.sizes), "target": variant.target},
            "wrt": wrt,
            "parameters": [dataclasses.asdict(parameter) for parameter in (*parameters, *added)],
            "autodiff": implementation.autodiff,
            "block_rows": implementation.block_rows,
            "overwrites": implementation.overwrites,
            "levels": LEVELS,
            "for_tangents": False,
            "derivative": maker,
            "files": files,
        }

    def _our_adjoint(
        self, family: Family, parameters: list[Parameter], wrt: tuple[str, ...], texts: list[str]
    ) -> tuple[AdjointTasks | None, str]:
        """The adjoint that our reverse mode makes, or None, and why it makes none. `texts` have room for gradients."""
        shapes = {each.name: each.dims for each in family.signature.arguments}
        known = [
            each
            if each.role == "scratch" or each.by_value
            else dataclasses.replace(each, shape=tuple(shapes[each.name][: each.rank]))
            for each in parameters
        ]
        try:
            return adjoint_tasks(texts, known, wrt, self._state if wrt == ALL_FIELDS else None), ""
        except LoweringError as error:
            return None, str(error)

    @cached_property
    def _state(self) -> Fields:
        return Fields(*places(self.fields))

    def _check_overwritten(
        self,
        declaration: Declaration,
        implementation: Implementation,
        texts: list[str],
        made: AdjointTasks | None,
    ) -> None:
        """Refuses an adjoint, whoever makes it, that needs what a field held before its kernel overwrites that; a doubt
        where it may."""
        surely, maybe = set[int](), set[int]()
        if made is not None:
            surely = {each.place for each in made.overwritten if each.surely}
            maybe = {each.place for each in made.overwritten} - surely
        else:
            try:
                maybe = set(may_overwrite(texts, self._state))
            except LoweringError:
                flow = flow_of(texts)
                maybe = set(flow.reads & flow.writes)
        if surely:
            raise _Refused(
                f"its gradient needs what {self._overwritten(surely, implementation)}: an adjoint finds fields as the "
                "kernel leaves them. Write to another field, or to another index (x[t + 1] from x[t]); wrt=[] leaves "
                "the gradient out"
            )
        if maybe:
            self.doubts.append(
                f"WARNING: {declaration.place}: {declaration.family.name}: its gradient is wrong where it needs what "
                f"{self._overwritten(maybe, implementation)}: an adjoint finds fields as the kernel leaves them. The "
                "check of the module tells, which --no-verify leaves out"
            )

    def _overwritten(self, found: set[int], implementation: Implementation) -> str:
        """Places of fields, and where the kernel overwrites them, in words."""
        names = names_of_places(self.fields)
        fields = list(dict.fromkeys(names[each] for each in sorted(found) if each in names))
        kernel, given = implementation.forward, implementation.constants
        lines = [line for name in fields for line in stores(kernel, self.fields[name], given)]
        who = " and ".join(f"field {name!r}" for name in fields) or "a field"
        where = f" ({', '.join(dict.fromkeys(lines))})" if lines else ""
        return f"{who} held before it was overwritten{where}"

    def _at(self, what: str, known: list[str], gradient: bool) -> None:
        """Writes down what is being compiled, for the case that Taichi ends the process."""
        otherwise = ", or give wrt=[] for a module without this gradient" if gradient else ""
        Path("doing.json").write_text(json.dumps({"what": what, "hints": known, "otherwise": otherwise}))

    def _files(
        self,
        family: Family,
        kernel: Any,
        implementation: Implementation,
        parameters: list[Parameter],
        differentiate: bool,
        *,
        with_gradients: bool = False,
    ) -> list[str]:
        """Names of the files with the IR of the kernel's tasks, or of its adjoint's. Taichi compiles a kernel once for
        its types. `with_gradients`: the kernel's own, with room for gradients, to be differentiated here."""
        key = (kernel, differentiate, with_gradients, *parameters)
        if key not in self.traced:
            config = self.ti.lang.impl.current_cfg()
            # Taichi's own control-flow optimisation frees adjoints of stacks that they do not need. Elsewhere LLVM does
            # it again, and it takes most of the time of a large kernel.
            config.cfg_optimization = implementation.autodiff
            # Blocks of rows are written as tiles: thousands of statements, on which Taichi's simplification, whose time
            # is quadratic in them, takes minutes; LLVM does all of it again.
            in_tiles = implementation.block_rows is not None
            config.advanced_optimization = not in_tiles
            # A reduction in memory of each thread's own is one more thing to differentiate.
            config.make_thread_local = not with_gradients
            config.cpu_max_num_threads = 1 if family.signature.batch else PIECES
            # Taichi does not compile again what it has compiled under the same settings, in a kernel of any name.
            config.random_seed = self.count
            before = set(glob.glob("taichi_kernel_generic_*.ll"))
            taichi_kernel = kernel._adjoint if differentiate else kernel._primal
            if with_gradients:
                taichi_kernel.reset()  # a kernel without arrays is the same with room for gradients
            arguments = example_arguments(kernel, parameters, implementation.constants)
            self.arguments += arguments
            what = f"the gradient of kernel {kernel.__name__}" if differentiate else f"kernel {kernel.__name__}"
            self._at(f"{what} ({place_of(kernel)})", hints(kernel, differentiate), differentiate)
            try:
                taichi_kernel.ensure_compiled(*arguments)
                self.builder.add(f"entry{self.count}", taichi_kernel.kernel_cpp)
            except Exception as error:
                known = [] if 'File "' in str(error) else hints(kernel, differentiate)
                said = f"{type(error).__name__}: {_without_stack(str(error))}"
                raise _Refused("\n".join([f"Taichi does not compile {what}:", *known, said])) from error
            self.count += 1
            # None at all: the kernel does nothing.
            files = self.traced[key] = sorted(set(glob.glob("taichi_kernel_generic_*.ll")) - before)
            if in_tiles:
                for name in files:
                    Path(name).write_text(_without_repetitions(Path(name).read_text()))
        return self.traced[key]


def _without_repetitions(text: str) -> str:
    module = read(text)
    return write(module.with_functions(*map(without_repetitions, module.definitions)))


def _without_stack(text: str) -> str:
    """What Taichi says, without the stack of Python's that it may hold."""
    said, _, stack = text.partition("Traceback (most recent call last):")
    return said + (stack.strip().splitlines()[-1] if stack.strip() else "")


def _describe_error(error: BaseException) -> str:
    """What went wrong, for the author: the kernel's file and line; our own stack where it is our fault."""
    if isinstance(error, KernelFileError):
        return str(error)
    return "".join(traceback.format_exception(error))


if __name__ == "__main__":
    # Nothing of Taichi's is released before the results are written, nor on the way out: it aborts in its teardown.
    gc.disable()
    folder = Path(sys.argv[2])
    try:
        _main(*sys.argv[1:])
    except BaseException as error:
        Path(folder, "error.txt").write_text(_describe_error(error))
        os._exit(1)
    sys.stdout.flush()
    os._exit(0)
