"""Entries of kernels with a batch for CUDA, where Taichi's autodiff makes the gradient: each thread takes sample after
sample, through all tasks, in one kernel.

A sample's part of an array that the tasks change but the caller does not want changed, or that they add to, is a copy
of the thread's own: in registers or local memory where its size is fixed, else in the workspace. The gradient of a
shared input is summed for each thread, and these sums, whose number follows from the size of the batch alone, are added
up in their order by a kernel behind it.
"""

from __future__ import annotations

from ...author.parameters import Parameter
from ...author.signature import ITEM_SIZES, Argument, Signature
from ...ir import TracedModule, read_tasks
from ...keys import Key, Role, with_tangents
from ...taichi.trace import Trace
from ...target.nvidia.target import NVIDIA
from .. import support
from ..arguments import store_pointers, store_shape, struct_type
from ..code import IR_TYPES, Code
from ..passes import Atomics, Copies, Plan, prepare
from . import support as device
from .copies import SUM_LANES, add_up
from .host import TYPES as HOST_TYPES
from .host import HostCode, Value
from .kernels import VECTOR_BYTES, kernel

_LOCAL_BYTES = 1024  # of copies that a thread keeps in its own memory
_SUM_BYTES = 320  # of sums that a thread keeps in registers, of which it has 255 of four bytes
_MOST_THREADS = 65536  # that have copies in the workspace
_WORKSPACE_BYTES = 256 << 20  # of these copies, where that leaves a block of threads


class CudaRowsEntry:
    """One entry: `text`, its kernel; `host_text`, the function that launches it."""

    any_rows = True
    order = 0  # the order of additions follows from the sizes

    def __init__(self, signature: Signature, trace: Trace, primal: Trace, symbol: str) -> None:
        self.signature = signature
        self.trace = trace
        self.along = trace.along
        self.variant = trace.variant
        self.symbol = symbol
        self.item = ITEM_SIZES[self.variant.dtype]
        self.type = IR_TYPES[self.variant.dtype]
        self.module = read_tasks(trace.tasks)
        self.primal_trace = primal
        outputs = [index for index, parameter in enumerate(trace.parameters) if parameter.role == "output"]
        reads_outputs = any(self.module.may_touch(index, 1) for index in outputs)
        self.primal = read_tasks(primal.tasks) if trace.wrt and reads_outputs else None
        support.refuse_random(trace.kernel, self._modules())

    def _modules(self) -> list[TracedModule]:
        return [self.module] if self.primal is None else [self.module, self.primal]

    def kernel_names(self) -> list[str]:
        return [self.symbol, f"{self.symbol}_aligned"] if self._aligned() else [self.symbol]

    # ---- the arrays ----

    def _keys(self) -> list[Key]:
        """Keys of the arrays of this entry, in the order of module.h."""
        return [Key(Role(role), argument.name) for role, argument in self.signature.arrays(self.trace.wrt)]

    def _arrays(self) -> list[Key]:
        """The same, with those of the tangents of an entry that has some."""
        return with_tangents(self._keys(), self.along)

    def _argument(self, key: Key) -> Argument:
        return self.signature.argument(key.name)

    def _copied(self) -> list[Key]:
        """Keys of what each thread has a sample of for itself."""
        if not self.trace.wrt:
            return []
        outputs = [Key(Role.OUTPUT, argument.name) for argument in self.signature.outputs] if self.primal else []
        cotangents = [Key(Role.COTANGENT, argument.name) for argument in self.signature.outputs]
        gradients = [Key(Role.GRADIENT, name) for name in self.trace.wrt if self.signature.argument(name).batched]
        unwanted = [
            Key(Role.SPARE, parameter.name)
            for parameter in self.trace.parameters
            if parameter.role == "input" and parameter.gradient and parameter.name not in self.trace.wrt
        ]
        return [*outputs, *cotangents, *gradients, *unwanted]

    def _summed(self) -> list[Key]:
        """Keys of the gradients of shared inputs."""
        return [Key(Role.GRADIENT, name) for name in self.trace.wrt if not self.signature.argument(name).batched]

    def _fixed(self) -> Code:
        sizes = {dim: str(self.variant.sizes.get(dim, f"%dim_{dim}")) for dim in self.signature.dims}
        return Code({**sizes, "rows": "%rows", str(self.signature.batch): "%rows"})

    def _sample(self, code: Code, key: Key) -> str:
        """Number of elements of one sample of an argument, of all of a shared one."""
        return code.multiply("1", *(code.sizes[dim] for dim in self._argument(key).sample_dims))

    def _is_local(self) -> bool:
        """Whether the copies are in the thread's own memory."""
        code = self._fixed()
        sizes = [self._sample(code, key) for key in self._copied()]
        fixed = not any(size.startswith("%") for size in sizes)
        return fixed and sum(int(size) for size in sizes) * self.item * self._halves <= _LOCAL_BYTES

    def _sums_in_registers(self) -> bool:
        """Whether a thread keeps its sums to itself until its last sample."""
        code = self._fixed()
        sizes = [self._sample(code, key) for key in self._summed()]
        fixed = not any(size.startswith("%") for size in sizes)
        return fixed and sum(int(size) for size in sizes) * self.item * self._halves <= _SUM_BYTES

    @property
    def _halves(self) -> int:
        """How often there is what a thread has for itself: once, and once more for its tangents."""
        return 2 if self.along else 1

    def _per_thread(self, code: Code) -> str:
        """Elements of the workspace, of one of its halves, that each thread has for itself."""
        keys = [*([] if self._is_local() else self._copied()), *self._summed()]
        total = "0"
        for key in keys:
            total = code.add_up(total, self._sample(code, key))
        return total

    @property
    def _has_copies(self) -> bool:
        return bool(self._summed()) or (bool(self._copied()) and not self._is_local())

    def _aligned(self) -> list[Key]:
        """Keys of the arrays each of whose samples starts at a multiple of 16 bytes where the array does: a thread
        then moves four float32 at a time."""
        code = self._fixed()
        sizes = {key: self._sample(code, key) for key in self._arrays() if self._argument(key).batched}
        return [
            key for key, size in sizes.items() if not size.startswith("%") and int(size) * self.item % VECTOR_BYTES == 0
        ]

    # ---- the device ----

    def text(self, stack_values: int) -> str:
        """The kernel, with room for so many values in each stack."""
        tasks = self._prepared(self.module, self.trace, "task", stack_values)
        if self.primal:
            tasks += "\n" + self._prepared(self.primal, self.primal_trace, "primal", stack_values)
        modules = self._modules()
        local_bytes = max([task.local_bytes for module in modules for task in module.tasks], default=1)
        return "\n".join(
            [
                *dict.fromkeys(line for module in modules for line in module.type_lines),
                device.TYPES,
                tasks,
                *(self._kernel(name, self._aligned() if name != self.symbol else []) for name in self.kernel_names()),
                NVIDIA.threads,
                device.POINTERS,
                device.range_for("thread", local_bytes),
                device.definitions(modules, stack_values, mathematical=not self.along),
            ]
        )

    def shadows(self) -> dict[str, dict[str, str]]:
        """Of each function to differentiate the parameters that point to memory with a shadow, and to that."""
        arrays = self._arrays()
        pairs = {key.register[1:]: key.tangent.register[1:] for key in arrays if key.tangent in arrays}
        pairs["workspace"] = "tangent_workspace"
        return {f"{name}.run": pairs for name in self.kernel_names()}

    def _prepared(self, module: TracedModule, trace: Trace, prefix: str, stack_values: int) -> str:
        apart = set() if self._sums_in_registers() else {key.name for key in self._summed()}

        def layout(index: int, field: int) -> tuple[int, int | None]:
            return trace.parameters[index].rank + bool(trace.parameters[index].element), None

        def is_summed(index: int, field: int) -> bool:
            parameter = trace.parameters[index]
            return parameter.role == "input" and field == 2 and parameter.name in apart

        plan = Plan(layout, Atomics.PLAIN_SUMS, copies=Copies(is_summed, {}), stack_values=stack_values)
        return module.changed(lambda function: prepare(function, plan, NVIDIA)).text(prefix)

    def _formals(self, aligned: list[Key]) -> list[str]:
        pointers = []
        for key in self._arrays():
            attributes = ["noalias", *(["readonly"] if key.role in (Role.INPUT, Role.COTANGENT) else [])]
            attributes += [f"align {VECTOR_BYTES}"] if key in aligned else []
            pointers.append(f"{self.type}* {' '.join(attributes)} {key.register}")
        dims = [
            f"i64 %dim_{dim}"
            for dim in self.signature.dims
            if dim not in self.variant.sizes and dim != self.signature.batch
        ]
        halves = ["workspace", *(["tangent_workspace"] if self.along else [])]
        return [*pointers, "i64 %rows", *dims, *(f"{self.type}* noalias %{half}" for half in halves)]

    def _kernel(self, name: str, aligned: list[Key]) -> str:
        code = self._fixed()
        code.label("entry")
        code.do("%thread = call i64 @tiaot_thread()")
        code.do("%threads = call i64 @tiaot_threads()")
        pointers = self._place_copies(code)
        structs = {"task": self._context(code, self.trace.parameters)}
        if self.primal:
            structs["primal"] = self._context(code, self.primal_trace.parameters)
        sums = {key: pointers[key] for key in self._summed()}  # in the workspace
        own: dict[Key, list[str]] = {}
        for key, place in sums.items():
            if self._sums_in_registers():
                pointers[key], own[key] = self._zero_registers(code, int(self._sample(code, key)))
            else:
                self._zero_summed(code, place, self._sample(code, key), key)
        code.do("%any = icmp slt i64 %thread, %rows")
        code.do("%before = add i64 %thread, 0")
        code.do("br label %rows.begin")
        code.label("rows.begin")
        code.do("br i1 %any, label %row.begin, label %rows.end")
        code.label("row.begin")
        code.do("%row = phi i64 [ %before, %rows.begin ], [ %next.row, %row.end ]")
        self._row(code, structs, pointers)
        code.do("br label %row.end")
        code.label("row.end")
        code.do("%next.row = add nsw i64 %row, %threads")
        code.do("%more = icmp slt i64 %next.row, %rows")
        code.do("br i1 %more, label %row.begin, label %rows.end")
        code.label("rows.end")
        for key, elements in own.items():
            self._store_registers(code, elements, sums[key])
        return kernel(name, self._formals(aligned), code, alone=False, inlined=not self.along)

    def _place_copies(self, code: Code) -> dict[Key, str]:
        """Pointers to what each thread has for itself, by key."""
        pointers = {}
        local = self._is_local()
        offset = "0"

        def place(elements: str) -> str:
            nonlocal offset
            pointer = code.add(f"getelementptr {self.type}, {self.type}* %workspace, i64 {offset}")
            offset = code.add_up(offset, code.multiply(elements, "%threads"))
            return pointer

        for key in self._summed():  # element by element, those of all threads side by side
            start = place(self._sample(code, key))
            pointers[key] = code.add(f"getelementptr {self.type}, {self.type}* {start}, i64 %thread")
        for key in self._copied():
            size = self._sample(code, key)
            if local:
                pointers[key] = self._room(code, size)
            else:
                start = place(size)
                at = code.multiply(size, "%thread")
                pointers[key] = code.add(f"getelementptr {self.type}, {self.type}* {start}, i64 {at}")
        return pointers

    def _room(self, code: Code, elements: str) -> str:
        """Memory of the thread's own."""
        array = code.add(f"alloca [{elements} x {self.type}], align 16")
        return code.add(f"bitcast [{elements} x {self.type}]* {array} to {self.type}*")

    def _loop(self, code: Code, name: str, elements: str, body: str) -> None:
        """A loop over %NAME.e in 0 .. elements; `body` are instructions, in which @ stands for `%NAME.`."""
        code.do(f"br label %{name}.begin")
        code.label(f"{name}.begin")
        code.do(f"%{name}.some = icmp sgt i64 {elements}, 0")
        code.do(f"br i1 %{name}.some, label %{name}.loop, label %{name}.end")
        code.label(f"{name}.loop")
        code.do(f"%{name}.e = phi i64 [ 0, %{name}.begin ], [ %{name}.next, %{name}.loop ]")
        for line in body.replace("@", f"%{name}.").splitlines():
            code.do(line)
        code.do(f"%{name}.next = add nuw nsw i64 %{name}.e, 1")
        code.do(f"%{name}.more = icmp slt i64 %{name}.next, {elements}")
        code.do(f"br i1 %{name}.more, label %{name}.loop, label %{name}.end")
        code.label(f"{name}.end")

    def _zero_summed(self, code: Code, pointer: str, elements: str, key: Key) -> None:
        body = f"""@o = mul nsw i64 @e, %threads
@p = getelementptr {self.type}, {self.type}* {pointer}, i64 @o
store {self.type} 0.0, {self.type}* @p"""
        self._loop(code, f"zero_{key.name}", elements, body)

    def _zero_registers(self, code: Code, count: int) -> tuple[str, list[str]]:
        """An array of the thread's own, of zeros, and pointers to its elements: one by one, for LLVM to dissolve it."""
        room = self._room(code, str(count))
        elements = [code.add(f"getelementptr {self.type}, {self.type}* {room}, i64 {place}") for place in range(count)]
        for element in elements:
            code.do(f"store {self.type} 0.0, {self.type}* {element}")
        return room, elements

    def _store_registers(self, code: Code, elements: list[str], place: str) -> None:
        """Puts a thread's sums where those of all threads lie element by element."""
        for number, element in enumerate(elements):
            value = code.add(f"load {self.type}, {self.type}* {element}")
            at = code.add(f"mul nsw i64 %threads, {number}")
            target = code.add(f"getelementptr {self.type}, {self.type}* {place}, i64 {at}")
            code.do(f"store {self.type} {value}, {self.type}* {target}")

    def _copy(self, code: Code, name: str, source: str | None, target: str, elements: str) -> None:
        """target[...] = source[...], or zeros."""
        value = "0.0"
        body = ""
        if source is not None:
            body = f"""@p = getelementptr {self.type}, {self.type}* {source}, i64 @e
@v = load {self.type}, {self.type}* @p
"""
            value = "@v"
        body += f"""@q = getelementptr {self.type}, {self.type}* {target}, i64 @e
store {self.type} {value}, {self.type}* @q"""
        self._loop(code, name, elements, body)

    def _context(self, code: Code, parameters: tuple[Parameter, ...]) -> tuple[str, str, str]:
        """Room for a kernel's arguments and context: (struct type, struct pointer, context pointer)."""
        struct = struct_type(parameters)
        pointer = code.add(f"alloca {struct}")
        context = code.add("alloca %struct.RuntimeContext")
        room = max(support.temporaries_bytes(self._modules()), 1)
        temporaries = code.add(f"alloca [{room} x i8], align 16")
        raw = code.add(f"bitcast [{room} x i8]* {temporaries} to i8*")
        frame = device.make_frame(code, raw, raw, "null", "0", "null")
        struct_at = code.add(f"bitcast {struct}* {pointer} to i8*")
        support.fill_context(code, context, {0: ("i8*", struct_at), 1: ("%struct.LLVMRuntime*", frame)})
        return struct, pointer, context

    def _row(self, code: Code, structs: dict[str, tuple[str, str, str]], copies: dict[Key, str]) -> None:
        """One sample: copy what must be copied in, run the tasks, copy the results out."""
        pointers = dict(copies)
        results = []
        for key in self._keys():
            pointer = key.register
            size = self._sample(code, key)
            if self._argument(key).batched:
                at = code.multiply("%row", size)
                pointer = code.add(f"getelementptr {self.type}, {self.type}* {pointer}, i64 {at}")
            if key not in copies:
                pointers[key] = pointer
            elif key.role is Role.COTANGENT:
                self._copy(code, f"in_{key.name}", pointer, copies[key], size)
            elif key not in self._summed():
                results.append((f"out_{key.name}", copies[key], pointer, size))
        for key in copies:
            if key.role in (Role.OUTPUT, Role.GRADIENT, Role.SPARE) and key not in self._summed():
                self._copy(code, f"clear_{key.name}", None, copies[key], self._sample(code, key))
        if not self.trace.wrt:  # an output need not be written as a whole, and may be added to
            for argument in self.signature.outputs:
                key = Key(Role.OUTPUT, argument.name)
                self._copy(code, f"clear_{argument.name}", None, pointers[key], self._sample(code, key))
        if self.primal:
            self._run(code, structs["primal"], self.primal_trace.parameters, self.primal, "primal", pointers)
        self._run(code, structs["task"], self.trace.parameters, self.module, "task", pointers)
        for name, source, target, size in results:
            self._copy(code, name, source, target, size)

    def _run(
        self,
        code: Code,
        struct: tuple[str, str, str],
        parameters: tuple[Parameter, ...],
        module: TracedModule,
        prefix: str,
        pointers: dict[Key, str],
    ) -> None:
        kind, base, context = struct
        for index, parameter in enumerate(parameters):
            dims = self.signature.argument(parameter.name).dims
            shape = ["1" if dim == self.signature.batch else code.sizes[dim] for dim in dims]
            keys = [Key(Role(parameter.role), parameter.name)]
            if parameter.gradient:
                wanted = Role.GRADIENT if parameter.name in self.trace.wrt else Role.SPARE
                keys.append(Key(wanted if parameter.role == "input" else Role.COTANGENT, parameter.name))
            store_shape(code, kind, base, index, shape)
            # An adjoint that never reads the primal outputs still has a place for them.
            store_pointers(code, kind, base, index, self.type, [pointers.get(key, "null") for key in keys])
        for index in range(len(module.tasks)):
            code.do(f"call void @{prefix}_{index}_body(%struct.RuntimeContext* {context})")

    # ---- the host ----

    def _load_sizes(self, code: Code) -> None:
        code.load_sizes(self.signature.dims, self.variant.sizes, self.signature.batch)

    def _threads(self, code: Code) -> str:
        """How many threads have copies in the workspace: by the sizes alone, so that sums follow from them."""
        each = str(self.item * self._halves)
        return code.add(f"call i64 @tiaot_row_threads(i64 %rows, i64 {code.multiply(self._per_thread(code), each)})")

    def _half_bytes(self, code: Code) -> str:
        """Of the workspace: the copies of all threads, and the sums of the first pass over them."""
        bytes_ = code.multiply(self._threads(code), self._per_thread(code), str(self.item))
        for key in self._summed():
            size = code.multiply(self._sample(code, key), str(SUM_LANES * self.item))
            bytes_ = code.add_up(bytes_, size)
        return bytes_

    def host_text(self, symbol: str) -> str:
        """The function that launches the kernel, `tiaot_cuda_code`, and that for its workspace, SYMBOL_workspace."""
        size = Code({})
        if self._has_copies:
            self._load_sizes(size)
            size.do(f"ret i64 {size.multiply(self._half_bytes(size), str(self._halves))}")
        else:
            size.do("ret i64 0")
        code = self._host_code()
        return "\n".join(
            [
                HOST_TYPES,
                _THREADS,
                code.text(symbol),
                f"define hidden i64 @{symbol}_workspace(i64 %rows, i64* %dims) {{",
                *size.lines,
                "}",
            ]
        )

    def _host_code(self) -> HostCode:
        code = HostCode()
        self._load_sizes(code)
        parameters: list[Value] = []
        pointers = {}
        for index, key in enumerate(self._arrays()):
            slot = code.add(f"getelementptr i8*, i8** %arrays, i64 {index}")
            pointers[key] = code.add(f"load i8*, i8** {slot}")
            parameters.append((f"{self.type}*", code.add(f"bitcast i8* {pointers[key]} to {self.type}*")))
        parameters.append(("i64", "%rows"))
        parameters += [
            ("i64", code.sizes[dim])
            for dim in self.signature.dims
            if dim not in self.variant.sizes and dim != self.signature.batch
        ]
        halves = {False: "%workspace"}  # by whether it is that of the tangents
        if self.along:
            halves[True] = code.add(f"getelementptr i8, i8* %workspace, i64 {self._half_bytes(code)}")
        parameters += [(f"{self.type}*", code.add(f"bitcast i8* {half} to {self.type}*")) for half in halves.values()]
        threads = self._threads(code) if self._has_copies else "%rows"
        self._launch(code, threads, pointers, parameters)
        for of_tangents, half in halves.items() if self._summed() else ():
            keys = [key.tangent if of_tangents else key for key in self._summed()]
            targets = [(pointers[key], self._sample(code, key)) for key in keys]
            all_ = code.multiply(threads, self._per_thread(code), str(self.item))
            scratch = code.add(f"getelementptr i8, i8* {half}, i64 {all_}")
            add_up(code, self.variant.dtype, half, threads, targets, scratch, add=False)
        return code

    def _launch(self, code: HostCode, threads: str, pointers: dict[Key, str], parameters: list[Value]) -> None:
        exact = self._has_copies
        if not self._aligned():
            code.launch(self.symbol, threads, exact=exact, parameters=parameters)
            return
        bits = "0"
        for key in self._aligned():
            address = code.add(f"ptrtoint i8* {pointers[key]} to i64")
            bits = code.add(f"or i64 {bits}, {address}")
        low = code.add(f"and i64 {bits}, {VECTOR_BYTES - 1}")
        for name, comparison in zip(self.kernel_names(), ("ne", "eq"), strict=True):
            with code.when(code.add(f"icmp {comparison} i64 {low}, 0")):
                code.launch(name, threads, exact=exact, parameters=parameters)


# row_threads(rows, bytes): from the samples and the bytes that each thread has in the workspace. A thread for each
# sample while they are few; then several samples for each, which is what keeps the sums behind it short.
_THREADS = f"""
define internal i64 @tiaot_row_threads(i64 %rows, i64 %bytes) alwaysinline {{
  %eighth = lshr i64 %rows, 3
  %few = icmp slt i64 %eighth, 16384
  %kept = select i1 %few, i64 16384, i64 %eighth
  %less = icmp slt i64 %rows, %kept
  %useful = select i1 %less, i64 %rows, i64 %kept
  %up0 = add i64 %useful, {NVIDIA.block - 1}
  %up = and i64 %up0, {-NVIDIA.block}
  %many = icmp sgt i64 %up, {_MOST_THREADS}
  %most = select i1 %many, i64 {_MOST_THREADS}, i64 %up
  %none = icmp eq i64 %bytes, 0
  %each = select i1 %none, i64 1, i64 %bytes
  %fit0 = udiv i64 {_WORKSPACE_BYTES}, %each
  %fit = and i64 %fit0, {-NVIDIA.block}
  %over = icmp slt i64 %fit, %most
  %wanted = select i1 %over, i64 %fit, i64 %most
  %some = icmp sgt i64 %wanted, {NVIDIA.block}
  %result = select i1 %some, i64 %wanted, i64 {NVIDIA.block}
  ret i64 %result
}}"""
