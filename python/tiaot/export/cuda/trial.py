"""What the gate tries code for CUDA with, on a machine without a GPU: the functions that launch the kernels, as they
are in the module, beside the kernels' PTX, which it interprets."""

from __future__ import annotations

import json
from collections.abc import Sequence

from ..abi import index_name
from ..entry.device.lower import CudaEntry
from ..module.link import link_library
from ..module.tables import CUDA_CODE_TYPE, WORKSPACE_TYPE
from ..state import State
from ..target.compile import compile_text
from ..target.model import Cpu


def trial_library(
    target: Cpu, entries: Sequence[CudaEntry], kernels: Sequence[str], ptx: str, state: State | None
) -> bytes:
    """A shared library with the strings `ptx`, `kernel_names`, a name a line, and `state`, the fields as JSON, and for
    each entry, an object for the target, pointers to its two functions, FUNCTION_pointer and
    FUNCTION_workspace_pointer."""
    text = [_string("ptx", ptx), _string("kernel_names", "\n".join(kernels)), _string("state", _described(state))]
    text += [f"@{index_name(kernel)} = hidden constant i32 {number}" for number, kernel in enumerate(kernels)]
    for entry in entries:
        for kind, name in ((CUDA_CODE_TYPE, entry.function), (WORKSPACE_TYPE, entry.workspace)):
            result, _, formals = kind.partition(" ")
            text.append(f"declare hidden {result} @{name}{formals}")
            text.append(f"@{name}_pointer = constant i8* bitcast ({kind}* @{name} to i8*)")
    return link_library([*(entry.object for entry in entries), compile_text("\n".join(text), target)], target)


def _described(state: State | None) -> str:
    if state is None:
        return "null"
    fields = [(each.name, each.dtype, each.shape, each.strides, each.offset) for each in state.fields]
    return json.dumps({"bytes": state.bytes, "fields": fields})


def _string(name: str, value: str) -> str:
    data = value.encode() + b"\0"
    content = "".join(chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:02X}" for byte in data)
    return f'@{name} = constant [{len(data)} x i8] c"{content}"'
