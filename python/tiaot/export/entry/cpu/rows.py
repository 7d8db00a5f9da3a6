"""Entries of kernels with a batch: wraps the traced tasks into one C function of module.h's `tiaot_code`, as IR text.

The entry walks over the samples in blocks. For each block it builds Taichi's context and argument struct on the stack,
which inlining and SROA then dissolve. Kernels written to work on a whole block get the caller's arrays. Kernels that
treat sample after sample, and whose adjoint is Taichi's, get copies that stay in the first-level cache, with the batch
along the vector lanes (lanes.py). The copies also hide what Taichi's adjoint does to its arguments: it zeroes the
cotangents as it reads them, and it adds into the gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...author.declare import Variant
from ...author.parameters import Parameter
from ...author.signature import ITEM_SIZES, Argument, Signature
from ...ir import LoweringError, TracedModule, read_tasks
from ...ir.passes.atomics import plain_additions
from ...ir.passes.reassociation import only_adds
from ...ir.passes.stacks import grow_stacks
from ...keys import Key, Role, with_tangents
from ...taichi.trace import Trace
from ...target.model import Cpu
from .. import support
from ..arguments import store_pointers, store_shape, struct_type
from ..code import IR_TYPES, Code
from ..passes import Atomics, Plan, prepare
from ..samples import obstacle
from . import lanes

_LANES_BYTES = 12288  # of a block in lanes: it fits a 32 KiB first-level cache beside the caller's rows
_LANES_ROWS = 64  # of a block in lanes whose size is not known at export
_STACK_BYTES = 16384  # scratch up to this size lies on the stack, larger or dynamic in the caller's workspace
_LEAST_VECTOR_BYTES = 16
_REGISTERS = 32  # numbers of a sample up to which a vector of samples goes through without a copy in memory
_MOST_COPIED_SUMS = 128  # numbers that samples add to, of which each lane then has a copy: 8 KiB
_MANY_SUMS = 8  # additions that are under way at a time: two a cycle, four cycles each


class RowsEntry:
    """One entry's function, written by `text`."""

    def __init__(
        self,
        signature: Signature,
        trace: Trace,
        primal: Trace,
        target: Cpu,
        vector_bytes: int,
        others: Sequence[Trace] = (),
    ) -> None:
        """`primal` is the forward trace of the same variant: run first where the adjoint reads the primal outputs.

        `vector_bytes` is how long the CPU's vectors are. `others` are the traces of the same entry for other CPU
        levels, with which it shares its workspace function.
        """
        self.target = target
        self.signature = signature
        self.along = trace.along
        self.trace = trace
        self.others = others
        self.variant: Variant = trace.variant
        for each in (trace, primal):
            for parameter in each.parameters:
                if what := obstacle(each, parameter):
                    raise LoweringError(
                        f"{trace.kernel}: parameter {parameter.name!r} {what}, which a kernel that is written for "
                        "blocks of rows cannot take: declare it with tiaot.export.kernel"
                    )
        self.item = ITEM_SIZES[self.variant.dtype]
        self.type = IR_TYPES[self.variant.dtype]
        self.vector_length = vector_bytes // self.item
        self.differentiate = trace.autodiff and bool(trace.wrt)
        self.module = read_tasks(trace.tasks)
        self.primal: TracedModule | None = None
        self.primal_trace = primal
        self.reads_outputs = self.differentiate and self._reads_primal_outputs()
        if self.reads_outputs and trace.derivative == "taichi":
            self.primal = read_tasks(primal.tasks)
        self.in_lanes = trace.autodiff
        # A batch, or a last block, of so few samples goes through in a narrower vector; the narrowest comes first.
        self.few: list[int] = []
        if self.in_lanes and not self._sums_over_batch():
            narrower = (_LEAST_VECTOR_BYTES, 2 * _LEAST_VECTOR_BYTES)
            self.few = [bytes_ // self.item for bytes_ in narrower if bytes_ < vector_bytes]
        self.in_registers = self._fits_registers()
        self.sums_are_copied = self.in_registers and self._sums_over_batch()
        if self.in_registers and not self.few:
            self.few = [self.vector_length]
        self.block_rows = self._block_rows()  # the same for all levels
        self.stride = self.vector_length if self.in_registers else self.block_rows  # rows that the scratch has room for
        scratch_bytes = self._workspace(Code(self._fixed_sizes()))
        self.on_stack = not scratch_bytes.startswith("%") and int(scratch_bytes) <= _STACK_BYTES
        support.refuse_random(trace.kernel, self._modules())

    def _modules(self) -> list[TracedModule]:
        return [self.module] if self.primal is None else [self.module, self.primal]

    @property
    def needs_workspace(self) -> bool:
        return not self.on_stack

    # ---- sizes ----

    def _fixed_sizes(self) -> dict[str, str]:
        """Sizes as constants where this variant fixes them, stand-in registers elsewhere."""
        sizes = {dim: str(self.variant.sizes.get(dim, f"%{dim}")) for dim in self.signature.dims}
        return {**sizes, "rows": "%rows"}

    def _sample(self, code: Code, argument: Argument) -> str:
        """Number of elements of one sample of an argument, of all of a shared one."""
        return code.multiply(*(code.sizes[dim] for dim in argument.sample_dims))

    def _block_rows(self) -> int:
        if self.trace.block_rows is not None:
            return self.trace.block_rows
        code = Code(self._fixed_sizes())
        sizes = [self._sample(code, self.signature.argument(key.name)) for key in self._copied()]
        if any(size.startswith("%") for size in sizes):
            return _LANES_ROWS
        copies = 2 if self.along else 1
        rows = _LANES_BYTES // (copies * self.item * max(1, sum(int(size) for size in sizes)))
        return min(256, max(16, 1 << (max(1, rows).bit_length() - 1)))

    def _fits_registers(self) -> bool:
        """Whether a vector of samples goes through at a time, and what is known of them stays in registers.

        The caller's arrays are then read and written all the time, not in bursts for which the CPU waits. Sums over the
        batch want many samples at a time, which are added up lane by lane.
        """
        if not self.in_lanes or self.along or (self._sums_over_batch() and not self._sums_can_be_copied()):
            return False
        code = Code(self._fixed_sizes())
        sizes = [self._sample(code, self.signature.argument(key.name)) for key in self._copied()]
        return all(size.isdigit() for size in sizes) and sum(map(int, sizes)) <= _REGISTERS

    def _sums_can_be_copied(self) -> bool:
        """Whether each lane can add to a copy of its own, so that sums over the batch stay in lanes to the end."""
        sizes = [size for _, size in self._shared_gradients(Code(self._fixed_sizes()))]
        if not all(size.isdigit() for size in sizes) or sum(map(int, sizes)) > _MOST_COPIED_SUMS:
            return False
        if self.primal or any(task.pieces for task in self.module.tasks):
            return False
        is_sum = self._is_shared_gradient(self.trace)
        plan = self._plan(self.trace, None, self.vector_length)
        try:
            for each in self.module.functions:
                prepare(each, plan, self.target)
        except LoweringError:  # a gradient that is not reached by its indices
            return False
        return all(only_adds(plain_additions(grow_stacks(each)), is_sum) for each in self.module.functions)

    def _shared_gradients(self, code: Code) -> list[tuple[Key, str]]:
        """(key, number of elements) of the gradients that are sums over the batch."""
        shared = [each for each in self.signature.inputs if each.name in self.trace.wrt and not each.batched]
        return [(Key(Role.GRADIENT, each.name), self._sample(code, each)) for each in shared]

    def _copied(self) -> list[Key]:
        """Keys of the arrays that the tasks get a copy of."""
        if not self.trace.autodiff:
            return []
        keys = [Key(Role.OUTPUT, argument.name) for argument in self.signature.outputs] if self.reads_outputs else []
        keys += [key for key in self._array_keys() if self.signature.argument(key.name).batched]
        return keys

    def _scratch(self, code: Code) -> list[tuple[Key, str]]:
        """(key, number of elements) of every scratch array that one block needs."""
        arrays = []
        for key in self._copied():
            arrays.append((key, code.multiply(str(self.stride), self._sample(code, self.signature.argument(key.name)))))
        return [*arrays, *_declared_scratch(code, self.trace)]

    def _workspace(self, code: Code) -> str:
        """Bytes of all scratch arrays, each rounded up to 64: as many as the CPU level that needs most of them."""
        largest = self._bytes(code, self._scratch(code))
        for other in self.others:
            largest = code.larger(largest, self._bytes(code, _declared_scratch(code, other)))
        return largest

    def _bytes(self, code: Code, arrays: list[tuple[Key, str]]) -> str:
        total = "0"
        for _, elements in arrays:
            size = code.round_up(code.multiply(elements, str(self.item)), 64)
            total = code.add_up(total, size)
        return total

    @property
    def has_many_sums(self) -> bool:
        """Whether samples add to so many numbers that these keep a CPU busy side by side.

        LLVM would work on four vectors of samples at a time all the same, to have more chains of additions, and the
        partial sums of all four do not stay in registers.
        """
        if not self.in_lanes or not self._sums_over_batch():
            return False
        sizes = [size for _, size in self._shared_gradients(Code(self._fixed_sizes()))]
        return all(size.isdigit() for size in sizes) and sum(map(int, sizes)) >= _MANY_SUMS

    # ---- the adjoint's reads ----

    def _reads_primal_outputs(self) -> bool:
        outputs = [index for index, parameter in enumerate(self.trace.parameters) if parameter.role == "output"]
        return any(self.module.may_touch(index, 1) for index in outputs)

    # ---- text ----

    def text(self, symbol: str) -> str:
        """Everything: types, tasks, the entry, its workspace function where needed."""
        tasks = self._prepared(self.module, self.trace, "task")
        if self.primal:
            tasks += "\n" + self._prepared(self.primal, self.primal_trace, "primal")
        if self.sums_are_copied:
            tasks += "\n" + self._prepared(self.module, self.trace, "lane", copies=self.vector_length)
        own, declarations = support.own_definitions(self._modules(), mathematical=not self.along)
        return "\n".join(
            [
                *self.module.type_lines,
                support.TYPES,
                tasks,
                self._lanes() if self.in_lanes else "",
                self._function(symbol),
                own,
                *declarations,
                "declare void @llvm.memcpy.p0i8.p0i8.i64(i8* noalias, i8* noalias, i64, i1)",
                "declare void @llvm.memset.p0i8.i64(i8*, i8, i64, i1)",
                f"declare {self.type} {self._add_up}({self.type}, {self._vector})" if self.sums_are_copied else "",
            ]
        )

    def _lanes(self) -> str:
        if not self.in_registers:
            return lanes.definitions(self.type, self.vector_length, self.block_rows, self.few)
        code = Code(self._fixed_sizes())
        sizes = [int(self._sample(code, self.signature.argument(key.name))) for key in self._copied()]
        return lanes.straight_definitions(self.type, self.vector_length, self.few, sizes)

    def workspace_function(self, symbol: str) -> str:
        """`i64 SYMBOL(rows, dims)`, a module.h `tiaot_workspace_size`."""
        code = Code({})
        self._load_sizes(code)
        copies = "2" if self.along else "1"
        code.do(f"ret i64 {code.multiply(self._workspace(code), copies)}")
        return "\n".join([f"define hidden i64 @{symbol}(i64 %rows, i64* %dims) {{", *code.lines, "}"])

    def _is_shared_gradient(self, trace: Trace) -> Callable[[int, int], bool]:
        """Whether the array (index, field) of a task is the gradient of an input that all samples share."""
        shared = {argument.name for argument in self.signature.inputs if not argument.batched}

        def is_one(index: int, field: int) -> bool:
            parameter = trace.parameters[index]
            gradient = field == 2 if parameter.role == "input" else parameter.role == "gradient"
            return gradient and parameter.name in shared

        return is_one

    def _plan(self, trace: Trace, stride: int | None, copies: int) -> Plan:
        """`stride`: of the columns of batched arrays in lanes; `copies`: of a gradient that all samples share."""
        shared = {argument.name for argument in self.signature.inputs if not argument.batched}
        is_sum = self._is_shared_gradient(trace)

        def layout(index: int, field: int) -> tuple[int, int | None]:
            parameter = trace.parameters[index]
            return parameter.rank, None if parameter.name in shared else stride

        def lane_copies(index: int, field: int) -> int:
            return copies if is_sum(index, field) else 1

        lanes = stride is not None or copies > 1
        return Plan(layout, Atomics.PLAIN_SUMS, lanes=lanes, reassociated=is_sum, lane_copies=lane_copies)

    def _prepared(self, module: TracedModule, trace: Trace, prefix: str, copies: int = 1) -> str:
        """The tasks as functions. `copies`: as above."""
        plan = self._plan(trace, self.stride if self.in_lanes else None, copies)
        return module.changed(lambda function: prepare(function, plan, self.target)).text(prefix)

    def _load_sizes(self, code: Code) -> None:
        code.load_sizes(self.signature.dims, self.variant.sizes, self.signature.batch)

    def _function(self, symbol: str) -> str:
        """The entry, which reads `dims` and `arrays`, and the function under it, whose pointers are noalias."""
        code = Code({})
        self._load_sizes(code)
        arguments = ["i64 %rows", "i8* %workspace"]
        formals = ["i64 %rows", "i8* noalias %workspace"]
        if self.along:  # the second half of the workspace
            arguments.append(f"i8* {code.add(f'getelementptr i8, i8* %workspace, i64 {self._workspace(code)}')}")
            formals.append("i8* noalias %tangent_workspace")
        for dim in self.signature.dims:
            if dim != self.signature.batch and dim not in self.variant.sizes:
                arguments.append(f"i64 {code.sizes[dim]}")
                formals.append(f"i64 %{dim}")
        for index, key in enumerate(with_tangents(self._array_keys(), self.along)):
            slot = code.add(f"getelementptr i8*, i8** %arrays, i64 {index}")
            loaded = code.add(f"load i8*, i8** {slot}")
            arguments.append(f"{self.type}* {code.add(f'bitcast i8* {loaded} to {self.type}*')}")
            formals.append(f"{self.type}* noalias {'' if key.is_result else 'readonly '}{key.register}")
        head = (
            f"define hidden i32 @{symbol}(i64 %rows, i64* %dims, i8** %arrays, i8* %workspace, %tiaot.host* %host) {{"
        )
        call = f"  %outcome = call i32 @{symbol}.body({', '.join(arguments)})"
        wrapper = [head, *code.lines, call, "  ret i32 %outcome", "}"]
        body = [f"define internal i32 @{symbol}.body({', '.join(formals)}) noinline {{", *self._body(), "}"]
        return "\n".join([*body, *wrapper])

    def _array_keys(self) -> list[Key]:
        """Keys of the arrays of this entry, in the order of module.h."""
        return [Key(Role(role), argument.name) for role, argument in self.signature.arrays(self.trace.wrt)]

    def shadows(self, symbol: str) -> dict[str, dict[str, str]]:
        """Of each function to differentiate the parameters that point to memory with a shadow, and to that."""
        if not self.along:
            return {}
        keys = with_tangents(self._array_keys(), self.along)
        pairs = {key.register[1:]: key.tangent.register[1:] for key in keys if key.tangent in keys}
        return {f"{symbol}.body": {"workspace": "tangent_workspace", **pairs}}

    def _body(self) -> list[str]:
        code = Code(self._fixed_sizes())
        code.label("first")
        # Each vector length has memory of its own, of which registers become.
        scratches = [self._allocate(code) for _ in range(1 + len(self.few) if self.in_registers else 1)]
        frame = self._frame(code)
        structs = {"task": self._struct(code, self.trace.parameters, frame)}
        if self.primal:
            structs["primal"] = self._struct(code, self.primal_trace.parameters, frame)
        self._locals = {
            (prefix, index): code.add(f"alloca [{task.local_bytes} x i8], align 16")
            for prefix, module in (("task", self.module), ("primal", self.primal))
            for index, task in enumerate(module.tasks if module else [])
            if task.pieces
        }
        for key, elements in self._shared_gradients(code):
            self._zero(code, key.register, elements)
        if self.sums_are_copied:
            self._allocate_copies(code)
        code.do("%any = icmp sgt i64 %rows, 0")
        code.do("br i1 %any, label %block, label %done")
        code.label("block")
        code.do(f"%start = phi i64 [ 0, %{'begin' if self.sums_are_copied else 'first'} ], [ %next, %block_end ]")
        code.do("%left = sub nsw i64 %rows, %start")
        if self.in_registers:
            self._vectors(code, structs, scratches)
        else:
            self._blocks(code, structs, scratches[0])
        code.do("%more = icmp slt i64 %next, %rows")
        code.do("br i1 %more, label %block, label %done")
        code.label("done")
        if self.sums_are_copied:
            self._add_copies(code)
        code.do(f"ret i32 {code.add(f'load i32, i32* {self._failed}')}")
        return code.lines

    def _blocks(self, code: Code, structs: dict[str, tuple[str, str, str]], scratch: dict[Key, str]) -> None:
        """The step of the entry's loop where samples go through by blocks: %left of them from %start on, to %next."""
        code.do(f"%full = icmp slt i64 %left, {self.block_rows}")
        code.do(f"%count = select i1 %full, i64 %left, i64 {self.block_rows}")
        for few in self.few:
            code.do(f"%are_{few} = icmp sle i64 %left, {few}")
            code.do(f"br i1 %are_{few}, label %block_of_{few}, label %block_of_more_than_{few}")
            code.label(f"block_of_{few}")
            self._block(code, structs, scratch, "%start", "%left", few)
            code.do("br label %block_end")
            code.label(f"block_of_more_than_{few}")
        self._block(code, structs, scratch, "%start", "%count")
        code.do("br label %block_end")
        code.label("block_end")
        code.do(f"%next = add nsw i64 %start, {self.block_rows}")

    def _vectors(
        self, code: Code, structs: dict[str, tuple[str, str, str]], scratches: Sequence[dict[Key, str]]
    ) -> None:
        """The same where they go through by vectors, or, fewer than fill one, by narrower vectors."""
        code.do(f"%fill = icmp sge i64 %left, {self.vector_length}")
        code.do("br i1 %fill, label %vector, label %fewer")
        code.label("vector")
        self._block(code, structs, scratches[0], "%start", str(self.vector_length))
        code.do("br label %vector_end")
        code.label("vector_end")
        code.do("br label %block_end")
        code.label("fewer")
        steps = [f"[ {self.vector_length}, %vector_end ]"]
        for few, scratch in zip(self.few, scratches[1:], strict=True):
            if few != self.few[-1]:
                code.do(f"%are_{few} = icmp sle i64 %left, {few}")
                code.do(f"br i1 %are_{few}, label %vector_of_{few}, label %more_than_{few}")
            else:
                code.do(f"br label %vector_of_{few}")
            code.label(f"vector_of_{few}")
            self._block(code, structs, scratch, "%start", "%left", few)
            code.do("br label %block_end")
            steps.append(f"[ {few}, %vector_of_{few} ]")
            if few != self.few[-1]:
                code.label(f"more_than_{few}")
        code.label("block_end")
        code.do(f"%step = phi i64 {', '.join(steps)}")
        code.do("%next = add nsw i64 %start, %step")

    def _allocate_copies(self, code: Code) -> None:
        """For each lane a copy of the gradients that all samples share, where there is a whole vector of samples."""
        self._copies = {}
        for key, elements in self._shared_gradients(code):
            count = code.multiply(elements, str(self.vector_length))
            array = code.add(f"alloca [{count} x {self.type}], align 64")
            self._copies[key] = code.add(f"bitcast [{count} x {self.type}]* {array} to {self.type}*")
        code.do(f"%has_vectors = icmp sge i64 %rows, {self.vector_length}")
        code.do("br i1 %has_vectors, label %clear_copies, label %begin")
        code.label("clear_copies")
        for key, elements in self._shared_gradients(code):
            self._zero(code, self._copies[key], code.multiply(elements, str(self.vector_length)))
        code.do("br label %begin")
        code.label("begin")

    def _add_copies(self, code: Code) -> None:
        """Adds the lanes' copies to the gradients, which have the sums of the last samples."""
        code.do("br i1 %has_vectors, label %sum, label %end")
        code.label("sum")
        vector, before = self._vector, "sum"
        for place, (key, elements) in enumerate(self._shared_gradients(code)):
            loop, after = f"sum_{place}", f"sum_{place}_end"
            code.do(f"br label %{loop}")
            code.label(loop)
            code.do(f"%{loop}_i = phi i64 [ 0, %{before} ], [ %{loop}_next, %{loop} ]")
            first = code.multiply(f"%{loop}_i", str(self.vector_length))
            copies = code.add(f"getelementptr {self.type}, {self.type}* {self._copies[key]}, i64 {first}")
            copies = code.add(f"bitcast {self.type}* {copies} to {vector}*")
            copies = code.add(f"load {vector}, {vector}* {copies}, align 64")
            target = code.add(f"getelementptr {self.type}, {self.type}* {key.register}, i64 %{loop}_i")
            start = code.add(f"load {self.type}, {self.type}* {target}")
            total = code.add(f"call reassoc {self.type} {self._add_up}({self.type} {start}, {vector} {copies})")
            code.do(f"store {self.type} {total}, {self.type}* {target}")
            code.do(f"%{loop}_next = add nsw i64 %{loop}_i, 1")
            code.do(f"%{loop}_more = icmp slt i64 %{loop}_next, {elements}")
            code.do(f"br i1 %{loop}_more, label %{loop}, label %{after}")
            code.label(after)
            before = after
        code.do("br label %end")
        code.label("end")

    @property
    def _vector(self) -> str:
        return f"<{self.vector_length} x {self.type}>"

    @property
    def _add_up(self) -> str:
        """LLVM's function (start, vector) that adds a vector's elements up."""
        return f"@llvm.vector.reduce.fadd.v{self.vector_length}f{8 * self.item}"

    def _frame(self, code: Code) -> str:
        """What Taichi's runtime would be: a pointer to a frame, see support.py."""
        self._failed = code.add("alloca i32")
        code.do(f"store i32 0, i32* {self._failed}")
        room = max(support.temporaries_bytes(self._modules()), 1)
        temporaries = code.add(f"alloca [{room} x i8], align 64")
        raw = code.add(f"bitcast [{room} x i8]* {temporaries} to i8*")
        return support.make_frame(code, raw, "0", self._failed)

    def _allocate(self, code: Code) -> dict[Key, str]:
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

    def _struct(self, code: Code, parameters: tuple[Parameter, ...], frame: str) -> tuple[str, str, str]:
        """Room for one task's arguments and context: (struct type, struct pointer, context pointer)."""
        struct = struct_type(parameters)
        pointer = code.add(f"alloca {struct}")
        context = code.add("alloca %struct.RuntimeContext")
        raw = code.add(f"bitcast {struct}* {pointer} to i8*")
        support.fill_context(code, context, {0: ("i8*", raw), 1: ("%struct.LLVMRuntime*", frame)})
        return struct, pointer, context

    def _zero(self, code: Code, pointer: str, elements: str) -> None:
        raw = code.add(f"bitcast {self.type}* {pointer} to i8*")
        size = code.multiply(elements, str(self.item))
        code.do(f"call void @llvm.memset.p0i8.i64(i8* {raw}, i8 0, i64 {size}, i1 false)")

    def _block(
        self,
        code: Code,
        structs: dict[str, tuple[str, str, str]],
        scratch: dict[Key, str],
        start: str,
        count: str,
        few: int = 0,
    ) -> None:
        """One block of samples: copy what must be copied in, run the tasks, copy the results out.

        With `few` there are no more than so many, which one vector of that length holds.
        """
        pointers = dict(scratch)
        results = []
        for key in self._array_keys():
            argument = self.signature.argument(key.name)
            size = self._sample(code, argument)
            pointer = key.register
            if argument.batched:
                offset = code.multiply(start, size)
                pointer = code.add(f"getelementptr {self.type}, {self.type}* {pointer}, i64 {offset}")
            if key not in scratch:
                pointers[key] = pointer
            elif not key.is_result:
                code.do(self._transposed("to_lanes", few, pointer, scratch[key], size, count))
            else:
                results.append(self._transposed("from_lanes", few, scratch[key], pointer, size, count))
                if key.role is Role.GRADIENT:
                    code.do(self._clear(few, scratch[key], size, count))
        if self.in_lanes and not self._sums_over_batch():
            # Whole vectors only: the rows behind the last repeat it. A sum over the batch must not count them.
            count = str(few) if few else code.round_up(count, self.vector_length)
        for key in scratch:
            if key.role is Role.OUTPUT:  # which need not be written as a whole, and may be added to
                size = self._sample(code, self.signature.argument(key.name))
                code.do(self._clear(few, scratch[key], size, count))
        if self.primal:
            self._run(code, structs["primal"], self.primal_trace.parameters, self.primal, "primal", pointers, count)
        if self.sums_are_copied and not few:
            self._run_lane_by_lane(code, structs["task"], pointers, scratch)
        else:
            self._run(code, structs["task"], self.trace.parameters, self.module, "task", pointers, count)
        for result in results:
            code.do(result)

    def _run_lane_by_lane(
        self, code: Code, struct: tuple[str, str, str], pointers: dict[Key, str], scratch: dict[Key, str]
    ) -> None:
        """A loop over the vector's samples, which LLVM makes vectors of, each with copies of its own to add to."""
        code.do("br label %lane")
        code.label("lane")
        code.do("%i = phi i64 [ 0, %vector ], [ %i.next, %lane ]")
        own = dict(pointers)
        for key in (*(key for key in scratch if key.role is not Role.SCRATCH), *self._copies):
            array = self._copies.get(key, pointers[key])
            own[key] = code.add(f"getelementptr {self.type}, {self.type}* {array}, i64 %i")
        self._run(code, struct, self.trace.parameters, self.module, "lane", own, "1")
        code.do("%i.next = add nuw nsw i64 %i, 1")
        code.do(f"%i.more = icmp ult i64 %i.next, {self.vector_length}")
        code.do("br i1 %i.more, label %lane, label %lanes_end")
        code.label("lanes_end")

    def _sums_over_batch(self) -> bool:
        return any(not self.signature.argument(name).batched for name in self.trace.wrt)

    def _transposed(self, function: str, few: int, source: str, target: str, size: str, rows: str) -> str:
        name = self._lane_function(function, few, size)
        return f"call void @{name}({self.type}* {source}, {self.type}* {target}, i64 {size}, i64 {rows})"

    def _clear(self, few: int, target: str, size: str, rows: str) -> str:
        name = self._lane_function("zero_lanes", few, size)
        return f"call void @{name}({self.type}* {target}, i64 {size}, i64 {rows})"

    def _lane_function(self, function: str, few: int, size: str) -> str:
        return function + (f"_few{few}" if few else "") + (f"_of_{size}" if self.in_registers else "")

    def _run(
        self,
        code: Code,
        struct: tuple[str, str, str],
        parameters: tuple[Parameter, ...],
        module: TracedModule,
        prefix: str,
        pointers: dict[Key, str],
        count: str,
    ) -> None:
        kind, base, context = struct
        for index, parameter in enumerate(parameters):
            if parameter.role == "scratch":
                shape = [code.expression(size) for size in parameter.shape]
            else:
                dims = self.signature.argument(parameter.name).dims
                shape = [count if dim == self.signature.batch else code.sizes[dim] for dim in dims]
            values = [Key(Role(parameter.role), parameter.name)]
            if parameter.gradient:
                role = Role.GRADIENT if parameter.role == "input" else Role.COTANGENT
                values.append(Key(role, parameter.name))
            store_shape(code, kind, base, index, shape)
            # An adjoint that never reads the primal outputs still has a place for them.
            store_pointers(code, kind, base, index, self.type, [pointers.get(key, "null") for key in values])
        for index, task in enumerate(module.tasks):
            name = f"@{prefix}_{index}"
            given = f"%struct.RuntimeContext* {context}"
            if not task.pieces:
                code.do(f"call void {name}_body({given})")
                continue
            buffer = self._locals[prefix, index]
            given += f", i8* {code.add(f'bitcast [{task.local_bytes} x i8]* {buffer} to i8*')}"
            if task.prologue:
                code.do(f"call void {name}_prologue({given})")
            for piece in range(task.pieces):
                code.do(f"call void {name}_body({given}, i32 {piece})")
            if task.epilogue:
                code.do(f"call void {name}_epilogue({given})")


def _declared_scratch(code: Code, trace: Trace) -> list[tuple[Key, str]]:
    """(key, number of elements) of the scratch arrays that the author declared."""
    return [
        (Key(Role.SCRATCH, parameter.name), code.multiply(*(code.expression(size) for size in parameter.shape)))
        for parameter in trace.parameters
        if parameter.role == "scratch"
    ]
