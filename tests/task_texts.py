"""Small functions of tasks as Taichi writes them, for the tests of the passes."""

from __future__ import annotations

import textwrap

from tiaot.export.ir.model import Function
from tiaot.export.ir.reader import read_function
from tiaot.export.ir.writer import write_function

TYPES = """
%struct.LLVMRuntime = type opaque
%struct.RuntimeContext = type { i8*, %struct.LLVMRuntime*, i32, i64* }
%struct.StructMeta = type { i32, i64 }
%struct.DenseMeta = type { %struct.StructMeta, i32 }
"""
STRUCT = "{ { { i32, i32 }, float*, float* }, { { i32 }, i32* }, float* }"

# %x and %dx: elements and gradient of the matrix 0, %k those of the array of integers 1; %rows, %columns: its sizes.
ARRAYS = f"""
%slot = getelementptr %struct.RuntimeContext, %struct.RuntimeContext* %context, i32 0, i32 0
%cast = bitcast i8** %slot to {STRUCT}**
%args = load {STRUCT}*, {STRUCT}** %cast, align 8
%a0 = getelementptr {STRUCT}, {STRUCT}* %args, i32 0, i32 0
%x.at = getelementptr {{ {{ i32, i32 }}, float*, float* }}, {{ {{ i32, i32 }}, float*, float* }}* %a0, i32 0, i32 1
%x = load float*, float** %x.at, align 8
%dx.at = getelementptr {{ {{ i32, i32 }}, float*, float* }}, {{ {{ i32, i32 }}, float*, float* }}* %a0, i32 0, i32 2
%dx = load float*, float** %dx.at, align 8
%k.at = getelementptr {STRUCT}, {STRUCT}* %args, i32 0, i32 1, i32 1
%k = load i32*, i32** %k.at, align 8
%columns.at = getelementptr {STRUCT}, {STRUCT}* %args, i32 0, i32 0, i32 0, i32 1
%columns = load i32, i32* %columns.at, align 4
%rows.at = getelementptr {STRUCT}, {STRUCT}* %args, i32 0, i32 0, i32 0, i32 0
%rows = load i32, i32* %rows.at, align 4
%runtime = call %struct.LLVMRuntime* @RuntimeContext_get_runtime(%struct.RuntimeContext* %context)
"""
# %p: the element [%i, %j] of the matrix, %dp that of its gradient.
ELEMENT = """
%o0 = mul i32 0, %rows
%o1 = add i32 %o0, %i
%o2 = mul i32 %o1, %columns
%o3 = add i32 %o2, %j
%p = getelementptr float, float* %x, i32 %o3
%dp = getelementptr float, float* %dx, i32 %o3
"""


def function(lines: str, parameters: str = "%struct.RuntimeContext* %context, i8* %local, i32 %i, i32 %j") -> Function:
    """A function of one block of these lines, and `ret void`."""
    return read_function(f"{TYPES}define void @body({parameters}) {{\nentry:\n{lines}\nret void\n}}")


def body(changed: Function, before: str = "") -> str:
    """The lines of the first block of a function behind those of `before`, and without `ret void`."""
    lines = [line.strip() for line in write_function(changed).splitlines()[2:-2]]
    skipped = [line for line in before.splitlines() if line]
    assert lines[: len(skipped)] == skipped
    return "\n".join(lines[len(skipped) :])


def text(lines: str) -> str:
    return textwrap.dedent(lines).strip()
