"""Lower: an entry's LLVM IR -> an object file for one CPU level. The only file that runs LLVM."""

from __future__ import annotations

import functools
import importlib.util
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm

from . import half
from .declare import LEVELS
from .derivative.differentiate import differentiate
from .entry import Entry
from .ir import LoweringError
from .signature import Signature
from .trace import Trace
from .whole import WholeEntry

TRIPLE = "x86_64-unknown-linux-gnu"
DATA_LAYOUT = "e-m:e-p270:32:32-p271:32:32-p272:64:64-i64:64-f80:128-n8:16:32:64-S128"
_TARGET = f'target datalayout = "{DATA_LAYOUT}"\ntarget triple = "{TRIPLE}"'

# LLVM keeps to 256 bits at x86-64-v4 where it is not told otherwise, for CPUs that clock down with 512.
_FEATURES = {"x86-64-v4": "-prefer-256-bit"}


@dataclass(frozen=True)
class LoweredEntry:
    """One entry at one CPU level. `symbol` is the entry's name without the level."""

    symbol: str
    level: str
    function: str
    workspace: str | None  # the name of its workspace function
    block_rows: int
    code_bytes: int
    object: bytes


def lower(signature: Signature, trace: Trace, primal: Trace, level: str, others: Sequence[Trace] = ()) -> LoweredEntry:
    """Lower one traced entry for a CPU level.

    Args:
        primal: the forward trace of the same variant.
        others: the traces of the same entry for other CPU levels.

    Raises:
        LoweringError: when the kernel uses something that cannot be lowered.
    """
    function = f"{trace.symbol}_{level.rpartition('-')[2]}"
    if signature.batch and Entry.suits(trace, primal):
        entry: Entry | WholeEntry = Entry(signature, trace, primal, level, others)
    elif others:
        raise LoweringError(f"{trace.kernel}: by_level is for kernels with a batch that are written for blocks of rows")
    else:
        entry = WholeEntry(signature, trace, primal)
    text = entry.text(function)
    if trace.along:
        text = differentiate(text, entry.shadows(function), _TARGET)
    workspace = None
    if entry.needs_workspace:
        workspace = function + "_workspace"
        text += "\n" + entry.workspace_function(workspace)
    image = compile_text(text, level, interleaving=not entry.has_many_sums)
    return LoweredEntry(trace.symbol, level, function, workspace, entry.block_rows, code_size(image), image)


@functools.cache
def initialize_llvm() -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    llvm.initialize_native_asmparser()
    # Unrolled kernels are long straight lines of independent chains, longer than a CPU looks ahead. Scheduled for ILP
    # before registers are given out, a layer of 8 x 4 is a fifth faster, and nothing slower.
    llvm.set_option("tiaot", "-pre-RA-sched=list-ilp")
    llvm.set_option("tiaot", "-enable-misched=false")
    # Neighbours are put into one vector up to here. Further it would take the rows of a tile together, which lie apart,
    # load them with gathers, and look for that in time that grows faster than the tile.
    llvm.set_option("tiaot", "-slp-max-vf=16")


def target_machine(level: str) -> Any:
    """LLVM's code generator for a CPU level, whatever the CPU of this machine."""
    initialize_llvm()
    target = llvm.Target.from_triple(TRIPLE)
    return target.create_target_machine(
        cpu=level, features=_FEATURES.get(level, ""), opt=3, reloc="pic", codemodel="small"
    )


def compile_text(text: str, level: str = LEVELS[0], *, interleaving: bool = True) -> bytes:
    """Optimise IR text and emit an object file.

    Args:
        interleaving: whether LLVM may work on several vectors of a loop's iterations at a time.

    Raises:
        LoweringError: when LLVM does not take the text.
    """
    machine = target_machine(level)
    if re.search(r"\bhalf\b", text):
        text += half.DEFINITIONS
    source = f"{_TARGET}\n{_declared_once(text)}\n"
    try:
        module = llvm.parse_assembly(source)
        module.verify()
    except RuntimeError as error:
        raise LoweringError(f"LLVM refused the lowered code: {error}") from error
    _link_runtime(module)
    options = llvm.create_pipeline_tuning_options(3)
    options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = True
    options.loop_interleaving = interleaving
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    for name in undefined(module):
        if name not in _LIBRARY | _hidden(module):
            raise LoweringError(f"the kernel needs {name!r} of Taichi's runtime, which a module does not have")
    return machine.emit_object(module)


_DECLARATION = re.compile(r'declare [^@]*@"?([\w.]+)"?\(')


def _declared_once(text: str) -> str:
    """The text without the second declaration of a function, which another writer of a part of it needed, too."""
    lines, declared = [], set()
    for line in text.splitlines():
        if match := _DECLARATION.match(line):
            if match[1] in declared:
                continue
            declared.add(match[1])
        lines.append(line)
    return "\n".join(lines)


# What the C and the mathematical library have, of all that Taichi's runtime and LLVM call.
_LIBRARY = {"malloc", "calloc", "free", "memcpy", "memset", "memmove", "aligned_alloc"} | {
    name + suffix
    for name in [
        "acos",
        "acosh",
        "asin",
        "asinh",
        "atan",
        "atan2",
        "cbrt",
        "ceil",
        "copysign",
        "cos",
        "cosh",
        "erf",
        "exp",
        "exp2",
        "expm1",
        "fabs",
        "floor",
        "fma",
        "fmax",
        "fmin",
        "fmod",
        "hypot",
        "ldexp",
        "log",
        "log10",
        "log1p",
        "log2",
        "nearbyint",
        "pow",
        "rint",
        "round",
        "roundeven",
        "sin",
        "sinh",
        "sqrt",
        "tan",
        "tanh",
        "trunc",
    ]
    for suffix in ("", "f")
}


def undefined(module: Any) -> list[str]:
    """Names of the functions that a module calls and does not have, without LLVM's own."""
    return [each.name for each in module.functions if each.is_declaration and not each.name.startswith("llvm.")]


def _link_runtime(module: Any) -> None:
    """Adds those functions of Taichi's runtime that a module calls and we do not define ourselves."""
    wanted = set(undefined(module)) - _LIBRARY - _hidden(module)
    if not wanted:
        return
    module.link_in(llvm.parse_assembly(runtime_text("runtime_x64.bc", frozenset(wanted))))
    for each in module.functions:
        if each.name in wanted and not each.is_declaration:
            each.linkage = "internal"


def _hidden(module: Any) -> set[str]:
    """Functions that are declared as hidden: another object of the same module has them."""
    return {each.name for each in module.functions if each.is_declaration and "hidden" in str(each).split("@")[0]}


@functools.cache
def runtime_text(file: str, wanted: frozenset[str]) -> str:
    """A file of Taichi's runtime, as its package has it, with all but the wanted functions internal.

    Without the marks of the machine that it was compiled for, and without the groups that tie it to other objects.
    """
    package = importlib.util.find_spec("taichi")
    assert package is not None and package.origin is not None
    bitcode = Path(package.origin).parent.joinpath("_lib", "runtime", file).read_bytes()
    lines = []
    for line in str(llvm.parse_bitcode(bitcode)).splitlines():
        if line.startswith("$"):
            continue
        if line.startswith("attributes #"):
            # It was compiled without optimisation, which its functions also ask to be left without.
            line = re.sub(r' "[^"]*"(="[^"]*")?| noinline| optnone', "", line).replace("{ }", "{ nounwind }")
        elif line.startswith("define "):
            name = re.search(r"@([\w.$]+)\(", line)
            kind = "define" if name and name[1] in wanted else "define internal"
            line = re.sub(r"^define (linkonce_odr |weak_odr |internal |weak |dso_local |hidden )*", f"{kind} ", line)
            line = re.sub(r" comdat(\(\$[\w.]+\))?", "", line)
        elif line.startswith("@"):
            line = re.sub(
                r" = (linkonce_odr |weak_odr |internal |weak |private |dso_local |hidden )*", " = internal ", line
            )
            line = re.sub(r", comdat(\(\$[\w.]+\))?", "", line)
        lines.append(line)
    return "\n".join(lines)


def code_size(image: bytes) -> int:
    """Bytes of code and constants in an object file."""
    sections = llvm.ObjectFileRef.from_data(image).sections()
    return sum(section.size() for section in sections if re.match(rb"\.(text|rodata)", section.name() or b""))
