"""The gate's own process: reads the kernel file, draws points, has them tried in children, and says what disagrees.

Its Taichi knows float64 only: it makes the twin, in which gradients are checked (twin.py). The module, the twin and
Taichi's JIT run in children, since any of them may crash.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..author.declare import Declaration
from ..author.kernel_file import KernelFile
from ..computation import DERIVATIVES
from ..taichi.tracer import start_taichi
from .advice import report
from .children import Folder, Outcome
from .coverage import judge_branches, remarks
from .diagnose import diagnose
from .judge import Findings, judge
from .points import ORDINARY, Point, points_of
from .recorded import RecordError, launches_of, read_recording
from .twin import build_twin, load_wide, trace_twin
from .verify import Verification, VerificationError


@dataclass(frozen=True)
class Request:
    """What is to be verified, as `verify` says it; paths are absolute."""

    module: str
    source: str
    cuda_trial: str
    cache: str
    seconds: float
    strict: bool
    recorded: str  # a folder, or ""
    folder: str


def run(request: Request, say: Callable[[str], None]) -> Verification:
    """What was compared for each kernel, and what was not.

    Raises:
        VerificationError: for everything that disagrees.
        TraceError, LoweringError, LinkError: when the twin cannot be made.
        ValueError: when what the author declares for verification cannot be right.
    """
    from ... import open as open_module

    os.chdir(request.folder)  # Taichi writes IR there
    start_taichi()
    file, contents = load_wide(request.source)
    with open_module(request.module) as opened:
        about = opened.info()
    kernels = {each["name"]: each for each in about["kernels"]}
    file = replace(file, declarations=tuple(_with_derivatives(each, kernels) for each in file.declarations))
    cache = Path(request.cache) if request.cache else None
    say("tracing the kernels in float64")
    traced, facts = trace_twin(
        request.source, file, contents, {n: _has_gradient(each) for n, each in kernels.items()}, cache
    )
    declarations = {each.family.name: each for each in _as_exported(file, kernels)}
    fields = _whole_numbers(file, about["state"]["fields"]) if about["state"] else {}
    launches = read_recording(request.recorded) if request.recorded else []
    met = {name: launches_of(each, launches, file.namespace) for name, each in declarations.items()}
    points = _interleaved(
        [
            points_of(
                declaration,
                fields,
                about["state"]["fields"] if declaration.family.state else [],
                facts[name],
                {variant["name"]: variant["autodiff"] for variant in kernels[name]["variants"]},
                met[name],
            )
            for name, declaration in declarations.items()
        ]
    )
    _let_go_of_fields()
    folder = Folder(request.folder, points)
    daring = folder.start("bounds", request.source, [each for each in points if each.daring], request.seconds)
    twin = ""
    if any(point.family.differentiated for point in points):
        say("compiling the kernels in float64")
        twin = str(Path(request.folder, "twin.so"))
        build_twin(traced, Path(twin), cache)
    points = _in_bounds(points, daring.finish())
    say(f"running the module and Taichi's JIT at {len(points)} points")
    # Taichi's own arrays cannot be empty, and its random numbers are others.
    beside = [each for each in points if not each.empty and not declarations[each.family.name].random]
    branching = [each for each in points if each.counted and facts[each.family.name].branches and not each.empty]
    near = [each for each in points if each.kind in ORDINARY and not each.large] if request.cuda_trial else []
    children = []
    for mode, path, chosen, more in (
        ("module", request.module, points, [twin]),
        ("jit", request.source, beside, []),
        ("branches", request.source, branching, []),
        ("cuda", request.cuda_trial, near, []),
    ):
        children.append(folder.start(mode, path, chosen, request.seconds, *more))
        if any(point.large for point in points):  # one after another, so that there are not several states in memory
            children[-1].finish()
    module, jit, branches, cuda = (child.finish() for child in children)
    found = judge(points, declarations, module, jit, cuda, on_cuda=bool(request.cuda_trial))
    judge_branches(found, branching, module, branches)
    _raise_problems(found, points, request)
    first = {point.family.name: point for point in reversed(points)}
    notes = [text for name, findings in found.items() if (text := remarks(name, findings, first[name]))]
    if notes and request.strict:
        raise VerificationError("\n".join([*notes, "--strict takes that for an error."]))
    if request.recorded:
        notes += _untouched(found)
    return Verification({name: findings.line() for name, findings in found.items()}, notes)


def _whole_numbers(file: KernelFile, about: list[dict[str, Any]]) -> dict[str, np.ndarray | None]:
    """What the file left in its fields of whole numbers, by name; None for fields of real ones."""
    whole = {each["name"] for each in about if not each["dtype"].startswith("float")}
    return {name: np.asarray(field.to_numpy()) if name in whole else None for name, field in file.fields.items()}


def _let_go_of_fields() -> None:
    """What Taichi holds in this process is as large as the program's own fields, and all is drawn and traced."""
    import taichi as ti

    ti.reset()


def _with_derivatives(declaration: Declaration, kernels: Mapping[str, Any]) -> Declaration:
    """With the derivatives that the module has: they may have been asked for of all kernels."""
    kernel = kernels.get(declaration.family.name, {"variants": ()})
    kinds = {entry["kind"] for variant in kernel["variants"] for entry in variant["entries"]}
    has = tuple(each for each in DERIVATIVES if each in kinds)
    return replace(declaration, family=replace(declaration.family, derivatives=has))


def _has_gradient(kernel: Mapping[str, Any]) -> bool:
    return any(entry["kind"] in ("vjp", "grad") for variant in kernel["variants"] for entry in variant["entries"])


def _as_exported(file: KernelFile, kernels: Mapping[str, Any]) -> list[Declaration]:
    """The declarations of a file with what the exporter found out about them, and the element types of the module."""
    declarations = []
    for declaration in file.declarations:
        name = declaration.family.name
        if name not in kernels:
            if declaration.implicit:
                continue
            raise VerificationError(f"the module has no kernel {name!r}")
        kernel = kernels[name]
        if kernel["signature"] != declaration.family.signature.text and declaration.derived:
            declaration = declaration.with_seed()
        family = declaration.family
        if kernel["signature"] != family.signature.text:
            raise VerificationError(
                f"{name}: the module has the signature {kernel['signature']!r}, the file {family.signature.text!r}"
            )
        variants = kernel["variants"]
        dtypes = tuple(dict.fromkeys(each["name"].partition("_")[0] for each in variants))
        types = {each: variants[0]["dtypes"][each] for each in family.argument_dtypes}
        kinds = {entry["kind"] for variant in variants for entry in variant["entries"]}
        wrt = family.wrt if "vjp" in kinds else ()
        family = replace(family, dtypes=dtypes, argument_dtypes=types, wrt=wrt)
        declaration = replace(declaration, family=family)
        if kernel["state"]:
            declaration = declaration.with_state(_has_gradient(kernel))
        declarations.append(declaration)
    return declarations


def _interleaved(by_kernel: list[list[Point]]) -> list[Point]:
    """The points of all kernels, each one's most telling first, so that none is left out where time is short."""
    most = max((len(each) for each in by_kernel), default=0)
    return [each[place] for place in range(most) for each in by_kernel if place < len(each)]


def _untouched(found: Mapping[str, Findings]) -> list[str]:
    """A note on the kernels that the recording has nothing of."""
    without = [name for name, findings in found.items() if not findings.recorded]
    return [f"the recording has no launch of {', '.join(without)}: values were drawn"] if without else []


def _in_bounds(points: list[Point], found: Outcome) -> list[Point]:
    """Without those at which an index is out of range, of the points that were drawn at a venture."""
    return [each for each in points if not each.daring or (each.id in found.done and each.id not in found.failures)]


def _raise_problems(found: Mapping[str, Findings], points: list[Point], request: Request) -> None:
    for point in points:
        findings = found[point.family.name]
        if findings.points == 0 and not findings.problems:
            raise VerificationError(
                f"{point.family.name}: not one point was tried in {request.seconds:.0f} seconds: declare smaller sizes "
                "(sizes=), or give more time (--verify-seconds)"
            )
    if problems := [problem for findings in found.values() for problem in findings.problems]:
        raise VerificationError(report(problems, diagnose(problems, request.source, request.folder, request.seconds)))


def _main(request: str) -> int:
    from ..ir import LoweringError
    from ..module.link import LinkError
    from ..taichi.trace import TraceError

    try:
        verification = run(Request(**json.loads(request)), lambda text: print("say", text, flush=True))
    except (VerificationError, RecordError, TraceError, LoweringError, LinkError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    print("record", json.dumps(asdict(verification)))
    return 0


if __name__ == "__main__":
    code = _main(*sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
