"""Entries: wraps a kernel's traced tasks into one C function of module.h's `tiaot_code`, as LLVM IR text.

The entry walks over the samples in blocks. For each block it builds Taichi's context and argument struct on the stack,
which inlining and SROA then dissolve. Kernels written to work on a whole block get the caller's arrays. Kernels that
treat sample after sample, and whose adjoint is Taichi's, get copies that stay in the first-level cache, with the batch
along the vector lanes (lanes.py). The copies also hide what Taichi's adjoint does to its arguments: it zeroes the
cotangents as it reads them, and it adds into the gradients. Without a batch the copies are plain.
"""

from __future__ import annotations

import ast
import math as arithmetic
from collections.abc import Mapping

from . import ir, lanes
from .declare import Variant
from .ir import LoweringError
from .signature import ITEM_SIZES, Argument, Signature
from .trace import Parameter, Trace

_LANES_BYTES = 12288  # of a block in lanes: it fits a 32 KiB first-level cache beside the caller's rows
_LANES_ROWS = 64  # of a block in lanes whose size is not known at export
_STACK_BYTES = 16384  # scratch up to this size lies on the stack, larger or dynamic in the caller's workspace
_TYPES = {"float32": "float", "float64": "double"}


class Code:
    """The instructions of a function being written."""

    def __init__(self, sizes: Mapping[str, str]) -> None:
        self.lines: list[str] = []
        self.sizes = dict(sizes)  # a dimension: its value, a constant or a register
        self._count = 0

    def add(self, instruction: str) -> str:
        """Append `instruction` and give the name of its result."""
        name = f"%v{self._count}"
        self._count += 1
        self.lines.append(f"  {name} = {instruction}")
        return name

    def do(self, instruction: str) -> None:
        self.lines.append("  " + instruction)

    def label(self, name: str) -> None:
        self.lines.append(f"{name}:")

    def multiply(self, *factors: str) -> str:
        """The product of i64 values, folded where they are constants."""
        constant = arithmetic.prod(int(factor) for factor in factors if not factor.startswith("%"))
        result = None
        for factor in factors:
            if factor.startswith("%"):
                result = factor if result is None else self.add(f"mul nsw i64 {result}, {factor}")
        if result is None:
            return str(constant)
        return result if constant == 1 else self.add(f"mul nsw i64 {result}, {constant}")

    def round_up(self, value: str, step: int) -> str:
        if not value.startswith("%"):
            return str(-(-int(value) // step) * step)
        return self.add(f"and i64 {self.add(f'add nsw i64 {value}, {step - 1}')}, {-step}")

    def expression(self, text: str) -> str:
        """The value of a size expression over dimensions and `rows`."""
        try:
            return self._evaluate(ast.parse(text, mode="eval").body)
        except (SyntaxError, KeyError) as error:
            raise LoweringError(f"scratch size {text!r}: expected dimensions, `rows`, numbers, + - * // ()") from error

    def _evaluate(self, node: ast.expr) -> str:
        if isinstance(node, ast.Constant) and type(node.value) is int:
            return str(node.value)
        if isinstance(node, ast.Name):
            return self.sizes[node.id]
        operations = {ast.Add: "add nsw", ast.Sub: "sub nsw", ast.Mult: "mul nsw", ast.FloorDiv: "sdiv"}
        if isinstance(node, ast.BinOp) and type(node.op) in operations:
            left, right = self._evaluate(node.left), self._evaluate(node.right)
            if not left.startswith("%") and not right.startswith("%"):
                a, b = int(left), int(right)
                return str({ast.Add: a + b, ast.Sub: a - b, ast.Mult: a * b}.get(type(node.op), b and a // b))
            return self.add(f"{operations[type(node.op)]} i64 {left}, {right}")
        raise KeyError(type(node).__name__)


class Entry:
    """One entry's function, written by `text`."""

    def __init__(self, signature: Signature, trace: Trace, primal: Trace) -> None:
        """`primal` is the forward trace of the same variant: run first where the adjoint reads the primal outputs."""
        self.signature = signature
        self.trace = trace
        self.variant: Variant = trace.variant
        self.item = ITEM_SIZES[self.variant.dtype]
        self.type = _TYPES[self.variant.dtype]
        self.differentiate = trace.autodiff and bool(trace.wrt)
        self.module = ir.parse(trace.tasks)
        self.primal: ir.TracedModule | None = None
        self.primal_trace = primal
        if self.differentiate and self._reads_primal_outputs():
            self.primal = ir.parse(primal.tasks)
        self.in_lanes = trace.autodiff and signature.batch is not None
        self.block_rows = self._block_rows()
        scratch_bytes = self._workspace(Code(self._fixed_sizes()))
        self.on_stack = not scratch_bytes.startswith("%") and int(scratch_bytes) <= _STACK_BYTES

    @property
    def needs_workspace(self) -> bool:
        return not self.on_stack

    # ---- sizes ----

    def _fixed_sizes(self) -> dict[str, str]:
        """Sizes as constants where this variant fixes them, stand-in registers elsewhere."""
        sizes = {dim: str(self.variant.sizes.get(dim, f"%{dim}")) for dim in self.signature.dims}
        return {**sizes, "rows": "%rows"} if self.signature.batch else {**sizes, "rows": "1"}

    def _sample(self, code: Code, argument: Argument) -> str:
        """Number of elements of one sample of an argument, of all of a shared one."""
        return code.multiply(*(code.sizes[dim] for dim in argument.sample_dims))

    def _block_rows(self) -> int:
        if self.trace.block_rows is not None:
            return self.trace.block_rows
        code = Code(self._fixed_sizes())
        sizes = [self._sample(code, self.signature.argument(key.split()[1])) for key in self._copied()]
        if any(size.startswith("%") for size in sizes):
            return _LANES_ROWS
        rows = _LANES_BYTES // (self.item * max(1, sum(int(size) for size in sizes)))
        return min(256, max(16, 1 << (max(1, rows).bit_length() - 1)))

    def _copied(self) -> list[str]:
        """Keys of the arrays that the tasks get a copy of."""
        if not self.trace.autodiff:
            return []
        keys = [f"output {argument.name}" for argument in self.signature.outputs] if self.primal else []
        for key, _ in self._array_keys():
            if self.signature.batch is None:
                copied = key.startswith("cotangent ")
            else:
                copied = self.signature.argument(key.split()[1]).batched
            keys += [key] * copied
        return keys

    def _scratch(self, code: Code) -> list[tuple[str, str]]:
        """(key, number of elements) of every scratch array that one block needs."""
        arrays = []
        rows = str(self.block_rows) if self.signature.batch else "1"
        for key in self._copied():
            arrays.append((key, code.multiply(rows, self._sample(code, self.signature.argument(key.split()[1])))))
        for parameter in self.trace.parameters:
            if parameter.role == "scratch":
                elements = code.multiply(*(code.expression(size) for size in parameter.shape))
                arrays.append((f"scratch {parameter.name}", elements))
        return arrays

    def _workspace(self, code: Code) -> str:
        """Bytes of all scratch arrays, each rounded up to 64."""
        total = "0"
        for _, elements in self._scratch(code):
            size = code.round_up(code.multiply(elements, str(self.item)), 64)
            if total.startswith("%") or size.startswith("%"):
                total = code.add(f"add nsw i64 {total}, {size}")
            else:
                total = str(int(total) + int(size))
        return total

    # ---- the adjoint's reads ----

    def _reads_primal_outputs(self) -> bool:
        outputs = {index for index, parameter in enumerate(self.trace.parameters) if parameter.role == "output"}
        return any(
            index in outputs and field == 1 for _, body in self.module.tasks for index, field in ir.touched_slots(body)
        )

    # ---- text ----

    def text(self, symbol: str) -> str:
        """Everything but the mathematical functions: types, tasks, the entry, its workspace function where needed."""
        tasks = self._prepared(self.module, self.trace, "task")
        calls = set(self.module.calls)
        if self.primal:
            tasks += "\n" + self._prepared(self.primal, self.primal_trace, "primal")
            calls |= set(self.primal.calls)
        return "\n".join(
            [
                *self.module.types,
                ir.contract(tasks),
                lanes.definitions(self.type, self.variant.vector_length, self.block_rows) if self.in_lanes else "",
                self._function(symbol),
                ir.support(calls),
                "declare void @llvm.memcpy.p0i8.p0i8.i64(i8* noalias, i8* noalias, i64, i1)",
                "declare void @llvm.memset.p0i8.i64(i8*, i8, i64, i1)",
            ]
        )

    def workspace_function(self, symbol: str) -> str:
        """`i64 SYMBOL(rows, dims)`, a module.h `tiaot_workspace_size`."""
        code = Code({})
        self._load_sizes(code)
        code.do(f"ret i64 {self._workspace(code)}")
        return "\n".join([f"define hidden i64 @{symbol}(i64 %rows, i64* %dims) {{", *code.lines, "}"])

    def _prepared(self, module: ir.TracedModule, trace: Trace, prefix: str) -> str:
        shared = {argument.name for argument in self.signature.inputs if not argument.batched}
        parameters = trace.parameters

        def is_shared_gradient(index: int, field: int) -> bool:
            parameter = parameters[index]
            gradient = field == 2 if parameter.role == "input" else parameter.role == "gradient"
            return gradient and parameter.name in shared

        def layout(index: int, field: int) -> tuple[int, int | None]:
            parameter = parameters[index]
            return parameter.rank, None if parameter.name in shared or not self.in_lanes else self.block_rows

        for _, body in module.tasks:
            rewritten = ir.widen_offsets(body, layout)
            body[:] = ir.reassociate_sums(rewritten, is_shared_gradient)
        return module.text(prefix)

    def _load_sizes(self, code: Code) -> None:
        for index, dim in enumerate(self.signature.dims):
            if dim in self.variant.sizes:
                code.sizes[dim] = str(self.variant.sizes[dim])
            elif dim != self.signature.batch:
                pointer = code.add(f"getelementptr i64, i64* %dims, i64 {index}")
                code.sizes[dim] = code.add(f"load i64, i64* {pointer}")
        code.sizes["rows"] = "%rows" if self.signature.batch else "1"
        if self.signature.batch:
            code.sizes[self.signature.batch] = "%rows"

    def _function(self, symbol: str) -> str:
        """The entry, which reads `dims` and `arrays`, and the function under it, whose pointers are noalias."""
        keys = self._array_keys()
        code = Code({})
        self._load_sizes(code)
        arguments = ["i64 %rows", "i8* %workspace"]
        formals = ["i64 %rows", "i8* noalias %workspace"]
        for dim in self.signature.dims:
            if dim != self.signature.batch and dim not in self.variant.sizes:
                arguments.append(f"i64 {code.sizes[dim]}")
                formals.append(f"i64 %{dim}")
        for index, (key, writes) in enumerate(keys):
            slot = code.add(f"getelementptr i8*, i8** %arrays, i64 {index}")
            loaded = code.add(f"load i8*, i8** {slot}")
            arguments.append(f"{self.type}* {code.add(f'bitcast i8* {loaded} to {self.type}*')}")
            formals.append(f"{self.type}* noalias {'' if writes else 'readonly '}%{_register(key)}")
        head = f"define hidden void @{symbol}(i64 %rows, i64* %dims, i8** %arrays, i8* %workspace) {{"
        call = f"  call void @{symbol}.body({', '.join(arguments)})"
        wrapper = [head, *code.lines, call, "  ret void", "}"]
        body = [f"define internal void @{symbol}.body({', '.join(formals)}) noinline {{", *self._body(), "}"]
        return "\n".join([*body, *wrapper])

    def _array_keys(self) -> list[tuple[str, bool]]:
        """(key, whether it is written) of the arrays of this entry, in the order of module.h."""
        keys = [(f"input {argument.name}", False) for argument in self.signature.inputs]
        if not self.trace.wrt:
            return [*keys, *((f"output {argument.name}", True) for argument in self.signature.outputs)]
        keys += [(f"cotangent {argument.name}", False) for argument in self.signature.outputs]
        gradients = [argument for argument in self.signature.inputs if argument.name in self.trace.wrt]
        return [*keys, *((f"gradient {argument.name}", True) for argument in gradients)]

    def _body(self) -> list[str]:
        code = Code(self._fixed_sizes())
        code.label("first")
        scratch = self._allocate(code)
        structs = {"task": self._struct(code, self.trace.parameters)}
        if self.primal:
            structs["primal"] = self._struct(code, self.primal_trace.parameters)
        for argument in self.signature.inputs:
            if self.signature.batch and argument.name in self.trace.wrt and not argument.batched:
                self._zero(code, f"%{_register(f'gradient {argument.name}')}", self._sample(code, argument))
        if not self.signature.batch:
            self._block(code, structs, scratch, "0", "1")
            code.do("ret void")
            return code.lines
        code.do("%any = icmp sgt i64 %rows, 0")
        code.do("br i1 %any, label %block, label %done")
        code.label("block")
        code.do("%start = phi i64 [ 0, %first ], [ %next, %block_end ]")
        code.do("%left = sub nsw i64 %rows, %start")
        code.do(f"%full = icmp slt i64 %left, {self.block_rows}")
        code.do(f"%count = select i1 %full, i64 %left, i64 {self.block_rows}")
        self._block(code, structs, scratch, "%start", "%count")
        code.do("br label %block_end")
        code.label("block_end")
        code.do(f"%next = add nsw i64 %start, {self.block_rows}")
        code.do("%more = icmp slt i64 %next, %rows")
        code.do("br i1 %more, label %block, label %done")
        code.label("done")
        code.do("ret void")
        return code.lines

    def _allocate(self, code: Code) -> dict[str, str]:
        """A pointer for every scratch array: on the stack, or one after another in the workspace."""
        pointers = {}
        offset = "0"
        for key, elements in self._scratch(code):
            if self.on_stack:
                array = code.add(f"alloca [{elements} x {self.type}], align 64")
                pointers[key] = code.add(f"bitcast [{elements} x {self.type}]* {array} to {self.type}*")
                continue
            raw = code.add(f"getelementptr i8, i8* %workspace, i64 {offset}")
            pointers[key] = code.add(f"bitcast i8* {raw} to {self.type}*")
            size = code.round_up(code.multiply(elements, str(self.item)), 64)
            offset = code.add(f"add nsw i64 {offset}, {size}")
        return pointers

    def _struct(self, code: Code, parameters: tuple[Parameter, ...]) -> tuple[str, str, str]:
        """Room for one task's arguments and context: (struct type, struct pointer, context pointer)."""
        fields = []
        for parameter in parameters:
            shape = f"{{ {', '.join(['i32'] * parameter.rank)} }}" if parameter.rank else "{ }"
            fields.append(f"{{ {shape}, {self.type}*{f', {self.type}*' if parameter.gradient else ''} }}")
        struct = f"{{ {', '.join(fields)} }}"
        pointer = code.add(f"alloca {struct}")
        context = code.add("alloca %struct.RuntimeContext")
        raw = code.add(f"bitcast {struct}* {pointer} to i8*")
        slot = code.add(f"getelementptr %struct.RuntimeContext, %struct.RuntimeContext* {context}, i32 0, i32 0")
        code.do(f"store i8* {raw}, i8** {slot}")
        return struct, pointer, context

    def _zero(self, code: Code, pointer: str, elements: str) -> None:
        raw = code.add(f"bitcast {self.type}* {pointer} to i8*")
        size = code.multiply(elements, str(self.item))
        code.do(f"call void @llvm.memset.p0i8.i64(i8* {raw}, i8 0, i64 {size}, i1 false)")

    def _block(
        self, code: Code, structs: dict[str, tuple[str, str, str]], scratch: dict[str, str], start: str, count: str
    ) -> None:
        """One block of samples: copy what must be copied in, run the tasks, copy the results out."""
        pointers = dict(scratch)
        results = []
        for key, _ in self._array_keys():
            role, name = key.split()
            argument = self.signature.argument(name)
            size = self._sample(code, argument)
            pointer = f"%{_register(key)}"
            if argument.batched:
                offset = code.multiply(start, size)
                pointer = code.add(f"getelementptr {self.type}, {self.type}* {pointer}, i64 {offset}")
            if key not in scratch:
                if role == "gradient" and self.differentiate and not self.signature.batch:
                    self._zero(code, pointer, size)
                pointers[key] = pointer
            elif not self.in_lanes:
                target = code.add(f"bitcast {self.type}* {scratch[key]} to i8*")
                source = code.add(f"bitcast {self.type}* {pointer} to i8*")
                total = code.multiply(size, str(self.item))
                code.do(f"call void @llvm.memcpy.p0i8.p0i8.i64(i8* {target}, i8* {source}, i64 {total}, i1 false)")
            elif role in ("input", "cotangent"):
                code.do(self._turn("to_lanes", pointer, scratch[key], size, count))
            else:
                results.append(self._turn("from_lanes", scratch[key], pointer, size, count))
                if role == "gradient":
                    code.do(f"call void @zero_lanes({self.type}* {scratch[key]}, i64 {size}, i64 {count})")
        if self.in_lanes and not self._sums_over_batch():
            # Whole vectors only: the rows behind the last repeat it. A sum over the batch must not count them.
            count = code.round_up(count, self.variant.vector_length)
        if self.primal:
            self._run(code, structs["primal"], self.primal_trace.parameters, self.primal, "primal", pointers, count)
        self._run(code, structs["task"], self.trace.parameters, self.module, "task", pointers, count)
        for result in results:
            code.do(result)

    def _sums_over_batch(self) -> bool:
        return any(not self.signature.argument(name).batched for name in self.trace.wrt)

    def _turn(self, function: str, source: str, target: str, size: str, rows: str) -> str:
        return f"call void @{function}({self.type}* {source}, {self.type}* {target}, i64 {size}, i64 {rows})"

    def _run(
        self,
        code: Code,
        struct: tuple[str, str, str],
        parameters: tuple[Parameter, ...],
        module: ir.TracedModule,
        prefix: str,
        pointers: dict[str, str],
        count: str,
    ) -> None:
        kind, base, context = struct
        for index, parameter in enumerate(parameters):
            if parameter.role == "scratch":
                shape = [code.expression(size) for size in parameter.shape]
            else:
                dims = self.signature.argument(parameter.name).dims
                shape = [count if dim == self.signature.batch else code.sizes[dim] for dim in dims]
            for axis, size in enumerate(shape):
                narrow = code.add(f"trunc i64 {size} to i32") if size.startswith("%") else size
                slot = code.add(f"getelementptr {kind}, {kind}* {base}, i32 0, i32 {index}, i32 0, i32 {axis}")
                code.do(f"store i32 {narrow}, i32* {slot}")
            values = [f"{parameter.role} {parameter.name}"]
            if parameter.gradient:
                other = "gradient" if parameter.role == "input" else "cotangent"
                values.append(f"{other} {parameter.name}")
            for place, key in enumerate(values, start=1):
                slot = code.add(f"getelementptr {kind}, {kind}* {base}, i32 0, i32 {index}, i32 {place}")
                # An adjoint that never reads the primal outputs still has a place for them.
                code.do(f"store {self.type}* {pointers.get(key, 'null')}, {self.type}** {slot}")
        for index in range(len(module.tasks)):
            code.do(f"call void @{prefix}_{index}(%struct.RuntimeContext* {context})")


def _register(key: str) -> str:
    return key.replace(" ", "_")
