"""Compile: LLVM IR text -> optimised IR, and an object file. The only file that runs LLVM's code generators; what it is
told of the machine is a Target."""

from __future__ import annotations

import functools
import importlib.util
import re
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm

from ..ir import LoweringError
from .model import Form, Target


@functools.cache
def initialize_llvm() -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    llvm.initialize_native_asmparser()
    # Neighbours are put into one vector up to here. Further it would take the rows of a tile together, which lie apart,
    # load them with gathers, and look for that in time that grows faster than the tile.
    llvm.set_option("tiaot", "-slp-max-vf=16")


def target_machine(target: Target, form: Form) -> Any:
    """LLVM's code generator for a form of a target, whatever the CPU of this machine."""
    initialize_llvm()
    for option in target.scheduling:  # of the whole process, and looked at when code is emitted
        llvm.set_option("tiaot", option)
    return llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=form.cpu, features=form.features, opt=3, reloc=target.relocation, codemodel=target.code_model
    )


def optimize(text: str, target: Target, form: Form, *, interleaving: bool = True, twice: bool = False) -> Any:
    """Link what IR text calls and optimise it: a module of llvmlite's.

    Args:
        interleaving: whether LLVM may work on several vectors of a loop's iterations at a time.
        twice: whether what it makes is optimised again: local memory that vectors are read from may become registers.

    Raises:
        LoweringError: when LLVM does not take the text, or it calls a function that there is not on the target.
    """
    machine = target_machine(target, form)
    source = _declared_once(text + target.support(text))
    try:
        module = llvm.parse_assembly(f"{target.header}\n{source}\n")
        module.verify()
    except RuntimeError as error:
        raise LoweringError(f"LLVM refused the lowered code: {error}") from error
    target.refuse(undefined(module))
    for file in target.libraries:
        _link(module, target, file)
    options = llvm.create_pipeline_tuning_options(3)
    options.loop_unrolling = True
    options.loop_vectorization = options.slp_vectorization = target.vectorizes
    options.loop_interleaving = interleaving
    if re.search(r"\bhalf\b", text):
        # Vectors of float16 numbers that lie some steps apart become shuffles that LLVM 15 has no code for: it ends
        # the process.
        options.loop_vectorization = False
    builder = llvm.create_pass_builder(machine, options)
    for _ in range(2 if twice else 1):
        builder.getModulePassManager().run(module, builder)
    for name in undefined(module):
        if name not in target.provided | _hidden(module):
            raise LoweringError(f"the kernel needs {name!r} of Taichi's runtime, which there is not on {target.name}")
    return module


def compile_text(
    text: str, target: Target, form: Form | None = None, *, interleaving: bool = True, twice: bool = False
) -> bytes:
    """Optimise IR text, as `optimize` does, and emit an object file: for the lowest form where none is given.

    Raises:
        LoweringError: when LLVM does not take the text, or it calls a function that there is not on the target.
    """
    form = form or target.forms[0]
    return target_machine(target, form).emit_object(
        optimize(text, target, form, interleaving=interleaving, twice=twice)
    )


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


def undefined(module: Any) -> list[str]:
    """Names of the functions that a module calls and does not have, without LLVM's own."""
    return [each.name for each in module.functions if each.is_declaration and not each.name.startswith("llvm.")]


def _link(module: Any, target: Target, file: str) -> None:
    """Adds those functions of a library of Taichi's that a module calls and we do not define ourselves."""
    wanted = frozenset(undefined(module)) - target.provided - _hidden(module)
    if not wanted:
        return
    module.link_in(llvm.parse_assembly(_for_target(runtime_text(file, wanted), target)))
    for each in module.functions:
        if each.name in wanted and not each.is_declaration:
            each.linkage = "internal"


def _for_target(text: str, target: Target) -> str:
    lines = [line for line in text.splitlines() if not line.startswith(("target datalayout", "target triple"))]
    return "\n".join([target.header, *lines])


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
