"""Plain C functions: one for each entry and element type, for programs that have no runtime of ours. IR and a header.

Such a function picks the variant by its sizes and the code by this CPU's level, and runs on the calling thread.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ..author.declare import Family
from ..author.signature import Argument
from ..computation import Computation
from ..dtypes import ELEMENT_TYPES
from ..entry.code import IR_TYPES, Code
from ..state import Content, State
from ..target.model import Cpu
from .tables import CODE_TYPE, WORKSPACE_TYPE, VariantEntries, function_pointer

_C_TYPES = {each.name: each.c for each in ELEMENT_TYPES}
_BITS = frozenset(each.name for each in ELEMENT_TYPES if not each.has_c_type)


def plain_functions(target: Cpu, kernels: list[tuple[Family, list[VariantEntries]]]) -> str:
    """IR text of the plain functions of all kernels. They are for every CPU of the target: they find its level out."""
    lines = [target.detection, "declare i8* @aligned_alloc(i64, i64)", "declare void @free(i8*)"]
    functions, codes, workspaces = [], set(), set()
    for family, variants in kernels:
        for dtype in family.dtypes:
            chosen = [variant for variant in variants if variant.dtype == dtype]
            for place, (computation, _) in enumerate(chosen[0].entries):
                functions.append(_function(target, family, dtype, computation, chosen, place))
        for variant in variants:
            for _, lowered in variant.entries:
                codes |= {entry.function for entry in lowered}
                workspaces |= {lowered[0].workspace} - {None}
    lines += [f"declare hidden i32 @{name}(i64, i64*, i8**, i8*, i8*)" for name in sorted(codes)]
    lines += [f"declare hidden i64 @{name}(i64, i64*)" for name in sorted(workspaces)]
    return "\n".join([*lines, *functions])


def state_function(module: str, state: State, contents: Sequence[Content]) -> str:
    """IR text of the plain function that makes a state ready, and of the contents that it starts with."""
    code = Code({})
    code.do(f"call void @llvm.memset.p0i8.i64(i8* %state, i8 0, i64 {state.bytes}, i1 false)")
    for each in contents:
        source = f"i8* bitcast ([{len(each.data)} x i8]* @{each.symbol} to i8*)"
        to = code.add(f"getelementptr i8, i8* %state, i64 {each.offset}")
        code.do(f"call void @llvm.memcpy.p0i8.p0i8.i64(i8* {to}, {source}, i64 {len(each.data)}, i1 false)")
    return "\n".join(
        [
            "declare void @llvm.memset.p0i8.i64(i8*, i8, i64, i1)",
            "declare void @llvm.memcpy.p0i8.p0i8.i64(i8*, i8*, i64, i1)",
            *(each.text for each in contents),
            f"define void @{_prefix(module)}_init_state(i8* %state) {{",
            *code.lines,
            "  ret void",
            "}",
        ]
    )


def plain_name(family: Family, computation: Computation, dtype: str) -> str:
    return f"{family.name}_{computation.name}" + ("" if family.state else f"_{dtype}")


def _arrays(family: Family, computation: Computation) -> list[tuple[str, bool, Argument]]:
    """(parameter name, whether it is written, argument), in the order of module.h's `arrays`."""
    updated = family.signature.updated
    prefixes = {"input": "", "output": "", "cotangent": "cotangent_", "gradient": "grad_"}
    arrays: list[tuple[str, bool, Argument]] = []
    # A kernel with an adjoint on state has no outputs.
    backward = computation.kind in ("vjp", "hvp") and not family.state
    roles = family.signature.arrays(computation.wrt if backward else ())
    for role, argument in roles:
        prefix = "new_" if role == "output" and argument.name in updated else prefixes[role]
        arrays.append((prefix + argument.name, role in ("output", "gradient"), argument))
    if not computation.forward_mode:
        return arrays
    results = [each for each in arrays if each[1]]
    tangents = [(f"tangent_{a.name}", False, a) for a in family.signature.inputs if a.name in computation.wrt]
    return [
        *(each for each in arrays if not each[1]),
        *tangents,
        *results,
        *((f"tangent_{name}", True, argument) for name, _, argument in results),
    ]


def _by_value(written: bool, argument: Argument, dtype: str) -> bool:
    """Whether a plain function takes an argument itself, not a pointer to it: an input without dimensions.

    Not what C has no numbers of, as float16.
    """
    return not written and not argument.dims and dtype not in _BITS


def _function(
    target: Cpu, family: Family, dtype: str, computation: Computation, variants: list[VariantEntries], place: int
) -> str:
    signature = family.signature
    name = plain_name(family, computation, dtype)
    arrays = _arrays(family, computation)
    kinds = [IR_TYPES[variants[0].dtypes[argument.name]] for _, _, argument in arrays]
    values = [_by_value(written, argument, variants[0].dtypes[argument.name]) for _, written, argument in arrays]
    if family.state:
        kinds += ["i8"] * (1 + computation.forward_mode)  # the state, and its tangents
        values += [False] * (1 + computation.forward_mode)
    open_dims = [i for i, dim in enumerate(signature.dims) if not dim.isdigit()]
    entries = [variant.entries[place][1] for variant in variants]
    table = [function_pointer(CODE_TYPE, entry.function) for lowered in entries for entry in lowered]
    sizes = [
        function_pointer(WORKSPACE_TYPE, lowered[0].workspace) if lowered[0].workspace else "i8* null"
        for lowered in entries
    ]
    formals = [f"i64 %d{i}" for i in open_dims]
    formals += [
        f"{kind}{'' if value else '*'} %a{i}" for i, (kind, value) in enumerate(zip(kinds, values, strict=True))
    ]
    count, rank = len(kinds), len(signature.dims)
    code = Code({})
    code.do(f"%dims = alloca [{rank} x i64]")
    code.do(f"%arrays = alloca [{count} x i8*]")
    for i, dim in enumerate(signature.dims):
        slot = code.add(f"getelementptr [{rank} x i64], [{rank} x i64]* %dims, i64 0, i64 {i}")
        code.do(f"store i64 {f'%d{i}' if i in open_dims else dim}, i64* {slot}")
    for i, kind in enumerate(kinds):
        pointer = f"%a{i}"
        if values[i]:
            pointer = code.add(f"alloca {kind}")
            code.do(f"store {kind} %a{i}, {kind}* {pointer}")
        slot = code.add(f"getelementptr [{count} x i8*], [{count} x i8*]* %arrays, i64 0, i64 {i}")
        code.do(f"store i8* {code.add(f'bitcast {kind}* {pointer} to i8*')}, i8** {slot}")
    choice = "-1"
    for index in reversed(range(len(variants))):
        fits = "true"
        for axis, dim in enumerate(signature.dims):
            if dim in variants[index].sizes and axis in open_dims:
                same = code.add(f"icmp eq i64 %d{axis}, {variants[index].sizes[dim]}")
                fits = code.add(f"and i1 {fits}, {same}")
        choice = code.add(f"select i1 {fits}, i64 {index}, i64 {choice}")
    lines = [
        f"@{name}.code = internal constant [{len(table)} x i8*] [{', '.join(table)}]",
        f"@{name}.size = internal constant [{len(sizes)} x i8*] [{', '.join(sizes)}]",
        f"define i32 @{name}({', '.join(formals)}) {{",
        *code.lines,
    ]
    rows = f"%d{signature.dims.index(signature.batch)}" if signature.batch else "1"
    lines += f"""
  %known = load atomic i32, i32* @tiaot_plain_level monotonic, align 4
  %first = icmp eq i32 %known, 0
  br i1 %first, label %detect, label %choose
detect:
  %detected = call i32 @tiaot_detect_level()
  br label %choose
choose:
  %level = phi i32 [ %known, %0 ], [ %detected, %detect ]
  %able = icmp sgt i32 %level, 0
  br i1 %able, label %match, label %unable
unable:
  ret i32 2
match:
  %fitting = icmp sge i64 {choice}, 0
  br i1 %fitting, label %run, label %unfit
unfit:
  ret i32 3
run:
  %wide = sext i32 %level to i64
  %base = mul i64 {choice}, {len(target.forms)}
  %above = add i64 %base, %wide
  %index = sub i64 %above, 1
  %pc = getelementptr [{len(table)} x i8*], [{len(table)} x i8*]* @{name}.code, i64 0, i64 %index
  %rc = load i8*, i8** %pc
  %code = bitcast i8* %rc to {CODE_TYPE}*
  %pdims = getelementptr [{rank} x i64], [{rank} x i64]* %dims, i64 0, i64 0
  %parrays = getelementptr [{count} x i8*], [{count} x i8*]* %arrays, i64 0, i64 0
  %ps = getelementptr [{len(sizes)} x i8*], [{len(sizes)} x i8*]* @{name}.size, i64 0, i64 {choice}
  %rs = load i8*, i8** %ps
  %none = icmp eq i8* %rs, null
  br i1 %none, label %bare, label %measure
bare:
  %bare.outcome = call i32 %code(i64 {rows}, i64* %pdims, i8** %parrays, i8* null, i8* null)
  ret i32 %bare.outcome
measure:
  %measurer = bitcast i8* %rs to {WORKSPACE_TYPE}*
  %needed = call i64 %measurer(i64 {rows}, i64* %pdims)
  %empty = icmp eq i64 %needed, 0
  %bytes = select i1 %empty, i64 64, i64 %needed
  %workspace = call i8* @aligned_alloc(i64 64, i64 %bytes)
  %lacking = icmp eq i8* %workspace, null
  br i1 %lacking, label %fail, label %work
fail:
  ret i32 1
work:
  %outcome = call i32 %code(i64 {rows}, i64* %pdims, i8** %parrays, i8* %workspace, i8* null)
  call void @free(i8* %workspace)
  ret i32 %outcome
}}""".splitlines()
    return "\n".join(lines)


def _identifier(name: str) -> str:
    """A name as a part of a C identifier: what C does not allow becomes its code, as `my-kernel` is `my_2D_kernel`."""
    return re.sub(r"\W", lambda match: f"_{ord(match[0]):X}_", name, flags=re.ASCII)


def _prefix(module: str) -> str:
    """What the names of a module's own functions and constants start with."""
    name = _identifier(module)
    return f"module_{name}" if name[:1].isdigit() else name


def header(
    module: str, file: str, target: Cpu, kernels: list[tuple[Family, list[VariantEntries]]], state: State | None
) -> str:
    """The C header of the plain functions of a module, which is in a file of that name."""
    guard = f"TIAOT_{_identifier(module)}_H"
    parts = [
        f"/* {module}.h: the entries of {file} as plain C functions, for programs that link or load it",
        " * without tiaot's runtime. Made by tiaot's exporter.",
        " *",
        " * Arrays are dense, row-major and aligned to their element; no size is negative. A function overwrites every",
        " * element of its last, non-const arrays, which overlap no other array, and writes to nothing else but state.",
        " * It runs on the calling thread and is thread-safe. The gradient of an array without the batch dimension is",
        " * the sum over the batch. Returns 0, or why the results are not valid: 1 no memory for workspace, 2 this CPU",
        f" * is below {target.forms[0].name}, 3 no variant was compiled for these sizes, 4 an index is out of range, "
        "where these are",
        " * checked. A float16 is its bits as uint16_t. Where floating-point exceptions trap, switch that off around a",
        " * call: vectors are calculated whole, also where only some of their lanes are of use. */",
        f"#ifndef {guard}",
        f"#define {guard}",
        "",
        "#include <stdint.h>",
        "",
        "#ifdef __cplusplus",
        'extern "C" {',
        "#endif",
    ]
    parts += _state_lines(module, state) if state else []
    for family, variants in kernels:
        doc = f" {family.doc.splitlines()[0]}" if family.doc else ""
        batch = f"; batch dimension {family.signature.batch}" if family.signature.batch else ""
        parts += ["", f"/* {family.name}:{doc}", f" * {family.signature.text}{batch} */"]
        for dtype in family.dtypes:
            first = next(variant for variant in variants if variant.dtype == dtype)
            for computation, _ in first.entries:
                parts += ["", _prototype(family, computation, dtype, first.dtypes)]
    parts += ["", "#ifdef __cplusplus", "}", "#endif", "", f"#endif /* {guard} */", ""]
    return "\n".join(parts)


def _state_lines(module: str, state: State) -> list[str]:
    """What a program needs to know of the state: how much memory, and where in it the fields lie."""
    prefix = _prefix(module).upper()
    lines = [
        "",
        f"/* The state, which functions with a parameter `state` work on: {prefix}_STATE_BYTES bytes, aligned to 64,",
        f" * which {_prefix(module)}_init_state makes ready. A function reads and writes it in place; one call at a",
        " * time. A parameter `tangents` is as much memory again, zeros at first, each field's tangent",
        " * where the field lies here. Where that is, in bytes, with its shape and its strides in elements: */",
        f"#define {prefix}_STATE_BYTES {state.bytes}",
        f"void {_prefix(module)}_init_state(void *state);",
    ]
    for field in state.fields:
        shape, strides = (", ".join(map(str, numbers)) for numbers in (field.shape, field.strides))
        lines += [
            f"/* {_C_TYPES[field.dtype]} {field.name}[{shape}], strides [{strides}] */",
            f"#define {prefix}_OFFSET_{field.name.replace('.', '_')} {field.offset}",
        ]
    return lines


def _prototype(family: Family, computation: Computation, dtype: str, dtypes: Mapping[str, str]) -> str:
    sizes = [f"int64_t {dim}" for dim in family.signature.dims if not dim.isdigit()]
    arrays = []
    shapes = []
    for name, written, argument in _arrays(family, computation):
        kind = _C_TYPES[dtypes[argument.name]]
        if _by_value(written, argument, dtypes[argument.name]):
            arrays.append(f"{kind} {name}")
            continue
        arrays.append(f"{'' if written else 'const '}{kind} *{name}")
        half = f" of {dtypes[argument.name]}" if dtypes[argument.name] in _BITS else ""
        shapes.append(f"{name} ({', '.join(argument.dims)}){half}")
    if family.state:
        arrays += ["void *state", *(["void *tangents"] if computation.forward_mode else [])]
    lines = [f"/* {', '.join(shapes)} */"] if shapes else []
    line = f"int {plain_name(family, computation, dtype)}("
    indent = " " * len(line)
    for index, formal in enumerate([*sizes, *arrays]):
        piece = formal + (", " if index + 1 < len(sizes) + len(arrays) else ");")
        if len(line) + len(piece.rstrip()) > 120:
            lines.append(line.rstrip())
            line = indent
        line += piece
    return "\n".join([*lines, line])
