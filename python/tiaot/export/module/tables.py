"""The descriptor of a module: module.h's tables as LLVM IR constants, which the loader relocates and nobody parses.

The order and the width of every field here is that of runtime/include/tiaot/module.h; a test holds the two together.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..abi import index_name
from ..author.declare import Family
from ..author.signature import DTYPES, Argument, Signature
from ..computation import Computation
from ..state import Content, Field, State
from ..target.model import Cpu

if TYPE_CHECKING:  # what needs LLVM; `tiaot doctor` comes here without it
    from ..entry.cpu.lower import LoweredEntry
    from ..entry.device.lower import CudaEntry
    from ..target.nvidia.ptx import Image

ABI_VERSION = 5
DESCRIPTOR_SYMBOL = "tiaot_module_descriptor"
NOTE_SECTION = ".note.tiaot"
_NOTE_BYTES = 264  # sizeof(tiaot_note)
LEVEL_COUNT = 3  # TIAOT_LEVEL_COUNT: the places for code of a table's entry
CODE_TYPE = "i32 (i64, i64*, i8**, i8*, i8*)"
WORKSPACE_TYPE = "i64 (i64, i64*)"
CUDA_CODE_TYPE = "i32 (i64, i64*, i8**, i64, i8*, i8*)"
_BATCHED, _DIFFERENTIABLE, _VALUE, _TANGENT = 1, 2, 4, 8
_NO_GRADIENT = 2  # TIAOT_STATE_WITHOUT_GRADIENT
_KINDS = {"forward": 0, "vjp": 1, "grad": 3, "jvp": 4, "hvp": 5}
_IMAGE_KINDS = {"cubin": 0, "ptx": 1}


@dataclass(frozen=True)
class Versions:
    """What made a module."""

    tiaot: str
    taichi: str
    llvm: str


@dataclass(frozen=True)
class VariantEntries:
    """One variant of a kernel: for every entry, forward first, its lowered form at each level in ascending order."""

    name: str
    dtype: str
    dtypes: dict[str, str]  # of every argument
    sizes: dict[str, int]
    autodiff: bool
    entries: list[tuple[Computation, list[LoweredEntry]]]
    cuda: dict[Computation, CudaEntry | str]  # or why there is none, "" where none was asked for
    values: frozenset[str] = frozenset()  # inputs that CUDA takes from the host's memory too


@dataclass(frozen=True)
class CudaCode:
    """A module's code for CUDA."""

    kernels: list[str]  # in the order of their numbers
    images: list[Image]
    ptxas_version: str


def descriptor(
    name: str,
    target: Cpu,
    digest: str,
    versions: Versions,
    kernels: list[tuple[Family, list[VariantEntries]]],
    state: State | None,
    verification: Mapping[str, str],
    cuda: CudaCode | None = None,
    contents: Sequence[Content] = (),
) -> str:
    """IR text of the descriptor; `digest` is the module's hash, `verification` how each kernel was checked, `contents`
    what a state starts with."""
    tables = _Tables(target)
    for entry in [each for _, variants in kernels for v in variants for each in v.cuda.values()]:
        if not isinstance(entry, str):
            tables.lines.append(f"declare hidden {_function_type(CUDA_CODE_TYPE, entry.function)}")
            tables.lines.append(f"declare hidden {_function_type(WORKSPACE_TYPE, entry.workspace)}")
    for declaration in sorted(
        {lowered.function for _, variants in kernels for v in variants for _, ls in v.entries for lowered in ls}
    ):
        tables.lines.append(f"declare hidden {_function_type(CODE_TYPE, declaration)}")
    for declaration in sorted(
        {ls[0].workspace for _, variants in kernels for v in variants for _, ls in v.entries if ls[0].workspace}
    ):
        tables.lines.append(f"declare hidden {_function_type(WORKSPACE_TYPE, declaration)}")
    for each in contents:
        tables.lines.append(f"@{each.symbol} = external hidden constant [{len(each.data)} x i8]")
    rows = [_kernel(tables, family, variants, verification.get(family.name, "")) for family, variants in kernels]
    module = [
        f"i32 {ABI_VERSION}",
        "i32 112",  # sizeof(tiaot_module_desc)
        *(tables.string(text) for text in (name, digest, target.name, versions.tiaot, versions.taichi, versions.llvm)),
        f"i32 {len(rows)}",
        f"i32 {len(state.fields) if state else 0}",
        tables.array(rows),
        tables.array([_field(tables, field) for field in state.fields] if state else []),
        f"i64 {state.bytes if state else 0}",
        "i8* null" if cuda is None else _cuda(tables, cuda),
        tables.array([_content(each) for each in contents]),
        f"i32 {len(contents)}",
        "i32 0",
    ]
    tables.define(f"@{DESCRIPTOR_SYMBOL} = constant", module)
    # The linker gives the note its place, link.py its content.
    tables.lines.append(
        f'@tiaot_module_note = hidden constant [{_NOTE_BYTES} x i8] zeroinitializer, section "{NOTE_SECTION}", align 8'
    )
    return "\n".join(tables.lines)


def _function_type(kind: str, name: str) -> str:
    result, _, parameters = kind.partition(" ")
    return f"{result} @{name}{parameters}"


def _cuda(tables: _Tables, cuda: CudaCode) -> str:
    images = [
        [
            f"i32 {image.architecture}",
            f"i32 {_IMAGE_KINDS[image.kind]}",
            tables.data(image.data),
            f"i64 {len(image.data)}",
            f"i64 {image.code_bytes}",
        ]
        for image in cuda.images
    ]
    for number, kernel in enumerate(cuda.kernels):
        tables.lines.append(f"@{index_name(kernel)} = hidden constant i32 {number}")
    row = [
        f"i32 {len(images)}",
        f"i32 {len(cuda.kernels)}",
        tables.array(images),
        tables.array([[tables.string(kernel)] for kernel in cuda.kernels]),
        tables.string(cuda.ptxas_version),
    ]
    return tables.array([row])


def _kernel(tables: _Tables, family: Family, variants: list[VariantEntries], verification: str) -> list[str]:
    signature = family.signature
    dims = signature.dims
    differentiable = {name for names in family.wrt for name in names}
    tangents = {name for each in family.entries if each.forward_mode for name in each.wrt}
    values = frozenset().union(*(variant.values for variant in variants))
    return [
        tables.string(family.name),
        tables.string(signature.text),
        tables.string(family.doc),
        tables.string(verification),
        f"i32 {dims.index(signature.batch) if signature.batch else -1}",
        f"i32 {len(dims)}",
        tables.array([[tables.string(dim)] for dim in dims]),
        f"i32 {len(signature.inputs)}",
        f"i32 {len(signature.outputs)}",
        tables.array(
            [_argument(tables, argument, dims, differentiable, tangents, values) for argument in signature.arguments]
        ),
        f"i32 {len(variants)}",
        f"i32 {_NO_GRADIENT if family.gradient_refused else int(family.state)}",
        tables.array([_variant(tables, family, variant) for variant in variants]),
    ]


def _argument(
    tables: _Tables,
    argument: Argument,
    dims: Sequence[str],
    differentiable: set[str],
    tangents: set[str],
    values: frozenset[str],
) -> list[str]:
    flags = _BATCHED * argument.batched + _DIFFERENTIABLE * (argument.name in differentiable)
    flags += _VALUE * (argument.name in values) + _TANGENT * (argument.name in tangents)
    axes = tables.array([[f"i32 {dims.index(dim)}"] for dim in argument.dims])
    return [tables.string(argument.name), f"i32 {flags}", f"i32 {len(argument.dims)}", axes]


def _variant(tables: _Tables, family: Family, variant: VariantEntries) -> list[str]:
    signature = family.signature
    return [
        tables.string(variant.name),
        tables.array([[f"i32 {DTYPES[variant.dtypes[argument.name]]}"] for argument in signature.arguments]),
        tables.array([[f"i64 {variant.sizes.get(dim, -1)}"] for dim in signature.dims]),
        f"i32 {int(variant.autodiff)}",
        f"i32 {len(variant.entries)}",
        tables.array(
            [_entry(tables, signature, each, lowered, variant.cuda.get(each, "")) for each, lowered in variant.entries]
        ),
    ]


def _field(tables: _Tables, field: Field) -> list[str]:
    return [
        tables.string(field.name),
        f"i32 {DTYPES[field.dtype]}",
        f"i32 {len(field.shape)}",
        tables.array([[f"i64 {size}"] for size in field.shape]),
        tables.array([[f"i64 {stride}"] for stride in field.strides]),
        f"i64 {field.offset}",
        f"i32 {field.gradient}",
        "i32 0",
    ]


def _content(content: Content) -> list[str]:
    kind = f"[{len(content.data)} x i8]"
    return [f"i64 {content.offset}", f"i64 {len(content.data)}", f"i8* bitcast ({kind}* @{content.symbol} to i8*)"]


def _entry(
    tables: _Tables, signature: Signature, computation: Computation, lowered: list[LoweredEntry], cuda: CudaEntry | str
) -> list[str]:
    first = lowered[0]
    assert [entry.level for entry in lowered] == [level.name for level in tables.target.forms]
    assert len({(entry.block_rows, bool(entry.workspace)) for entry in lowered}) == 1
    return [
        f"i32 {_KINDS[computation.kind]}",
        f"i32 {signature.wrt_mask(computation.wrt)}",
        tables.string(first.symbol),
        f"i64 {first.block_rows}",
        function_pointer(WORKSPACE_TYPE, first.workspace) if first.workspace else "i8* null",
        *(function_pointer(CODE_TYPE, entry.function) for entry in lowered),
        *["i8* null"] * (LEVEL_COUNT - len(lowered)),
        *(f"i64 {entry.code_bytes}" for entry in lowered),
        *["i64 0"] * (LEVEL_COUNT - len(lowered)),
        "i8* null" if isinstance(cuda, str) else function_pointer(CUDA_CODE_TYPE, cuda.function),
        "i8* null" if isinstance(cuda, str) else function_pointer(WORKSPACE_TYPE, cuda.workspace),
        tables.string(cuda if isinstance(cuda, str) else ""),
        f"i32 {0 if isinstance(cuda, str) else int(cuda.any_rows)}",
        f"i32 {0 if isinstance(cuda, str) else cuda.order}",
    ]


def function_pointer(kind: str, name: str) -> str:
    """A function as a constant of type i8*."""
    return f"i8* bitcast ({kind}* @{name} to i8*)"


class _Tables:
    """Constant arrays of structs; every pointer is an i8*."""

    def __init__(self, target: Cpu) -> None:
        self.target = target
        self.lines: list[str] = []
        self._strings: dict[str, str] = {}

    def string(self, text: str) -> str:
        if text not in self._strings:
            data = text.encode() + b"\0"
            escaped = re.sub(rb"[^ !#-\[\]-~]", lambda match: b"\\%02X" % match[0][0], data).decode()
            name = f"@string.{len(self._strings)}"
            kind = f"[{len(data)} x i8]"
            self.lines.append(f'{name} = private constant {kind} c"{escaped}"')
            self._strings[text] = f"i8* bitcast ({kind}* {name} to i8*)"
        return self._strings[text]

    def data(self, data: bytes) -> str:
        """A pointer to bytes, as a fat binary wants them: aligned to 16."""
        escaped = "".join(f"\\{byte:02X}" for byte in data)
        name = f"@data.{len(self.lines)}"
        self.lines.append(f'{name} = private constant [{len(data)} x i8] c"{escaped}", align 16')
        return f"i8* bitcast ([{len(data)} x i8]* {name} to i8*)"

    def array(self, rows: list[list[str]]) -> str:
        """A pointer to an array with one struct of fields, each `type value`, a row."""
        if not rows:
            return "i8* null"
        name = f"@table.{len(self.lines)}"
        row = _struct_type(rows[0])
        values = ", ".join(f"{row} {{ {', '.join(fields)} }}" for fields in rows)
        self.lines.append(f"{name} = private constant [{len(rows)} x {row}] [{values}]")
        return f"i8* bitcast ([{len(rows)} x {row}]* {name} to i8*)"

    def define(self, head: str, fields: list[str]) -> None:
        self.lines.append(f"{head} {_struct_type(fields)} {{ {', '.join(fields)} }}")


def _struct_type(fields: list[str]) -> str:
    return f"{{ {', '.join(field.split(' ', 1)[0] for field in fields)} }}"
