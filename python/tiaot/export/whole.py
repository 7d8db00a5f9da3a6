"""Entries of kernels without a batch: the traced tasks in their order, as one C function of module.h's `tiaot_code`.
Those of kernels with a batch that entry.py does not take, too: the samples that such an entry is given are then all.

Each task becomes a function `run`, whose pointers are noalias, over Taichi's argument struct and context on its own
stack. A parallel loop is cut into pieces as Taichi cuts it, and the pieces are handed to the host's threads, or run one
after another; what they share out to neighbours (the partial results of a reduction) is put together in their order, so
that the result does not depend on the threads. In a loop that adds floating-point numbers up atomically it would:
there each piece adds into a copy of its own (sums.py) where that costs little beside the data, or the loop runs on one
thread.

What Taichi does to its arguments is hidden: outputs start as zeros, an updated argument is copied first, and an adjoint
gets copies of the cotangents, which it zeroes, and gradients that are zero, to which it adds. Where it reads what the
kernel computed, the kernel runs first, into the workspace. Nothing of that is done to fields: they are state, which a
kernel changes in place, and their adjoint is Taichi's own.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import ir, stacks, sums, support
from . import state as fields
from .code import IR_TYPES, Code
from .declare import Variant
from .ir import LoweringError
from .parameters import Parameter
from .signature import ITEM_SIZES, Argument, Signature
from .trace import PIECES, Trace

SEED = "seed"  # the input that random numbers are drawn from
REAL = ("float32", "float64")
_COPIES = "copies"


@dataclass
class _Buffer:
    """Memory of the workspace: for the array `key`, as many elements as `argument` or the scratch `shape` has."""

    key: str
    dtype: str
    argument: Argument | None
    shape: tuple[str, ...]
    bytes: int = 0  # where neither says it


@dataclass
class _Part:
    """A traced kernel that the entry runs: the primal, or what the entry is for."""

    name: str
    trace: Trace
    module: ir.TracedModule

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        return tuple(parameter for parameter in self.trace.parameters if parameter.role != "result")

    @property
    def result(self) -> Parameter | None:
        return next((parameter for parameter in self.trace.parameters if parameter.role == "result"), None)


class WholeEntry:
    """One entry's function, written by `text`."""

    block_rows = 1
    needs_workspace = True

    def __init__(self, signature: Signature, trace: Trace, primal: Trace) -> None:
        self.signature = signature
        self.trace = trace
        self.variant: Variant = trace.variant
        self.state = trace.state
        self.differentiate = trace.autodiff and bool(trace.wrt)
        self.inputs = {argument.name: argument for argument in signature.inputs}
        self.outputs = {argument.name: argument for argument in signature.outputs}
        self.dtypes = {p.name: p.dtype for p in (*primal.parameters, *trace.parameters) if p.role != "scratch"}
        self.dtypes.setdefault(SEED, "int64")
        self.parts = [_Part("task", trace, ir.parse(trace.tasks))]
        if trace.on_state:
            self._check_scratch(self.parts[0])
        elif trace.wrt and self._reads_primal(self.parts[0]):
            self.parts.insert(0, _Part("primal", primal, ir.parse(primal.tasks)))
        self._check_gradients()
        self.random = support.uses_random(part.module for part in self.parts)
        if self.random and SEED not in self.inputs:
            raise LoweringError(
                f"{trace.kernel}: draws random numbers: add '{SEED}' to the inputs of its signature, an integer that "
                "they follow from"
            )
        if self.random and signature.batch:
            raise LoweringError(
                f"{trace.kernel}: draws random numbers, which a kernel with a batch cannot: leave batch out"
            )
        self.buffers = self._buffers()
        self.sums = self._sums()

    # ---- what the adjoint needs ----

    def _reads_primal(self, part: _Part) -> bool:
        """Whether outputs, or updated arrays and scratch as the kernel leaves them, are read."""
        roles = ("output", "updated", "scratch") if part.trace.autodiff else ("output", "updated")
        made = {i for i, p in enumerate(part.parameters) if p.role in roles}
        return any(index in made and field == 1 for index, field in part.module.touched_slots())

    def _check_scratch(self, part: _Part) -> None:
        scratch = {i: p.name for i, p in enumerate(part.parameters) if p.role == "scratch"}
        for index, field in part.module.touched_slots():
            if index in scratch and field == 1:
                raise LoweringError(
                    f"{self.trace.kernel}: its adjoint needs what the kernel left in the scratch array "
                    f"{scratch[index]!r}: make it a field"
                )

    def _check_gradients(self) -> None:
        for part in self.parts:
            if part.name == "task" and self.differentiate:
                continue
            for index, field in part.module.touched_slots():
                if field == 2:
                    name = part.parameters[index].name
                    raise LoweringError(
                        f"{self.trace.kernel}: uses the gradient {name}.grad itself, which only the adjoint may: name "
                        "the array as an argument of its own"
                    )

    def _buffers(self) -> list[_Buffer]:
        buffers: dict[str, _Buffer] = {}

        def need(key: str, dtype: str, argument: Argument | None, shape: tuple[str, ...] = ()) -> None:
            buffers.setdefault(key, _Buffer(key, dtype, argument, shape))

        for part in self.parts:
            for parameter in part.parameters:
                name = parameter.name
                if parameter.role == "scratch":
                    need(f"scratch {name}", parameter.dtype, None, (*parameter.shape, *map(str, parameter.element)))
                    if parameter.gradient:
                        need(f"scratch-gradient {name}", parameter.dtype, None, buffers[f"scratch {name}"].shape)
                elif self.trace.wrt and parameter.role == "output":
                    if part.name == "primal":
                        need(f"primal {name}", parameter.dtype, self.outputs[name])
                    if parameter.gradient:
                        need(f"adjoint {name}", parameter.dtype, self.outputs[name])
                elif self.trace.wrt and parameter.role == "updated":
                    if part.name == "primal":
                        need(f"primal {name}", parameter.dtype, self.outputs[name])
                    if parameter.gradient and name not in self.trace.wrt:
                        need(f"adjoint {name}", parameter.dtype, self.outputs[name])
                elif parameter.role == "input" and parameter.gradient and name not in self.trace.wrt:
                    need(f"spare {name}", parameter.dtype, self.inputs[name])
        return list(buffers.values())

    def _sums(self) -> dict[tuple[str, int], list[_Buffer]]:
        """Of each parallel loop that would run on one thread but for copies: the arrays to copy, by their keys."""
        found = {}
        roots = {} if self.state is None else self.state.roots
        for part in self.parts:
            for index, task in enumerate(part.module.tasks):
                targets = sums.summed(task.body, roots) if task.pieces > 1 and ir.depends_on_order(task.body) else None
                arrays = [self._summed_array(part, target) for target in targets or ()]
                if arrays and None not in arrays:
                    found[part.name, index] = [array for array in arrays if array is not None]
        return found

    def _summed_array(self, part: _Part, target: sums.Slot | int) -> _Buffer | None:
        if isinstance(target, int):
            assert self.state is not None
            root = self.state.roots[target]
            return _Buffer(f"root {target}", root.dtype, None, (), root.bytes) if root.dtype in REAL else None
        parameter = part.parameters[target[0]]
        if parameter.role == "scratch" or parameter.dtype not in REAL:
            return None
        key = self._data_key(part, parameter) if target[1] == 1 else self._gradient_key(part, parameter)
        return None if key is None else _Buffer(key, parameter.dtype, self.signature.argument(parameter.name), ())

    # ---- text ----

    def text(self, symbol: str) -> str:
        """Everything but what is linked: types, tasks, the entry, the definitions that are ours."""
        modules = [part.module for part in self.parts]
        self.symbol = symbol
        steps = ""
        if self.state is not None:
            steps = fields.definitions(modules, self.state)
            for module in modules:
                fields.place_lookups(module, self.state)
        entry = self._entry()
        texts = []
        for part in self.parts:
            for index, task in enumerate(part.module.tasks):
                parallel = self._is_parallel(task)
                for function in task.functions:
                    stacks.grow_stacks(function)
                    if function is not task.body or not (parallel or (part.name, index) in self.sums):
                        function.body[:] = ir.plain_additions(function.body)
                    elif not parallel:
                        function.body[:] = ir.plain_additions(function.body, whole_numbers=False)
                    function.body[:] = ir.widen_offsets(function.body, self._layout(part))
                texts.append(self._run(part, index, task))
            texts.append(part.module.text(part.name))
        own, declarations = support.own_definitions(modules)
        return "\n".join(
            [
                *dict.fromkeys(line for module in modules for line in module.types),
                support.TYPES,
                ir.contract("\n".join(texts)),
                entry,
                sums.add_copies(each.dtype for arrays in self.sums.values() for each in arrays),
                steps,
                own,
                *declarations,
                "declare void @llvm.memcpy.p0i8.p0i8.i64(i8* noalias, i8* noalias, i64, i1)",
                "declare void @llvm.memset.p0i8.i64(i8*, i8, i64, i1)",
            ]
        )

    def _layout(self, part: _Part):
        def layout(index: int, field: int) -> tuple[int, int | None]:
            parameter = part.parameters[index]
            return parameter.rank + bool(parameter.element), None

        return layout

    def _is_parallel(self, task: ir.Task) -> bool:
        return task.pieces > 1 and not ir.depends_on_order(task.body)

    def workspace_function(self, symbol: str) -> str:
        """`i64 SYMBOL(rows, dims)`, a module.h `tiaot_workspace_size`."""
        code = Code({})
        self._load_sizes(code)
        total = self._place(code, {})
        code.do(f"ret i64 {total}")
        return "\n".join([f"define hidden i64 @{symbol}(i64 %rows, i64* %dims) {{", *code.lines, "}"])

    def _load_sizes(self, code: Code) -> None:
        for index, dim in enumerate(self.signature.dims):
            if dim in self.variant.sizes:
                code.sizes[dim] = str(self.variant.sizes[dim])
            elif dim == self.signature.batch:
                code.sizes[dim] = "%rows"
            else:
                pointer = code.add(f"getelementptr i64, i64* %dims, i64 {index}")
                code.sizes[dim] = code.add(f"load i64, i64* {pointer}")
        code.sizes["rows"] = "%rows"

    def _bytes(self, code: Code, buffer: _Buffer) -> str:
        if buffer.bytes:
            return str(buffer.bytes)
        if buffer.argument is not None:
            elements = code.multiply("1", *(code.sizes[dim] for dim in buffer.argument.dims))
        else:
            elements = code.multiply("1", *(code.expression(size) for size in buffer.shape))
        return code.multiply(elements, str(ITEM_SIZES[buffer.dtype]))

    def _place(self, code: Code, offsets: dict[str, tuple[str, str]]) -> str:
        """Lays the buffers out: `offsets` by key (offset, bytes). The size of all."""
        total = "0"
        for buffer in self.buffers:
            size = self._bytes(code, buffer)
            offsets[buffer.key] = total, size
            padded = code.round_up(size, 64)
            total = code.add_up(total, padded)
        if self.sums:  # all loops use the same memory, each as much as it needs
            offsets[_COPIES] = total, "0"
            total = code.add_up(total, self._largest([self._copies(code, task) for task in self.sums], code))
        return total

    def _largest(self, sizes: list[str], code: Code) -> str:
        most = sizes[0]
        for size in sizes[1:]:
            larger = code.add(f"icmp sgt i64 {size}, {most}")
            most = code.add(f"select i1 {larger}, i64 {size}, i64 {most}")
        return most

    def _copies(self, code: Code, task: tuple[str, int]) -> str:
        """Bytes of the copies that the pieces of a loop add into; 0 where they are much beside the call's data.

        By the sizes alone, so that the order of the additions does not depend on the threads.
        """
        one = "0"
        for array in self.sums[task]:
            one = code.add_up(one, code.round_up(self._bytes(code, array), 64))
        all_ = code.multiply(one, str(PIECES))
        data = str(0 if self.state is None else self.state.bytes)
        for argument in dict.fromkeys(self.signature.arguments):
            data = code.add_up(data, self._argument_bytes(code, argument.name))
        few = code.add(f"icmp slt i64 {code.multiply(all_, '2')}, {data}")
        return code.add(f"select i1 {few}, i64 {all_}, i64 0")

    def _arrays(self) -> list[str]:
        """Keys of the arrays of this entry, in the order of module.h."""
        if self.trace.on_state:
            keys = [f"input {argument.name}" for argument in self.signature.inputs]
        else:
            keys = [f"{role} {argument.name}" for role, argument in self.signature.arrays(self.trace.wrt)]
        return [*keys, "state"] if self.state is not None else keys

    # ---- the entry ----

    def _entry(self) -> str:
        code = Code({})
        code.label("first")
        self._load_sizes(code)
        self.pointers: dict[str, str] = {}  # by key, i8*
        for index, key in enumerate(self._arrays()):
            slot = code.add(f"getelementptr i8*, i8** %arrays, i64 {index}")
            self.pointers[key] = code.add(f"load i8*, i8** {slot}")
        if self.state is not None:  # the tasks get the parts of the state, so that LLVM knows that they lie apart
            base = self.pointers.pop("state")
            for node, root in self.state.roots.items():
                self.pointers[f"root {node}"] = code.add(f"getelementptr i8, i8* {base}, i64 {root.offset}")
        offsets: dict[str, tuple[str, str]] = {}
        self._place(code, offsets)
        copies = offsets.pop(_COPIES, ("0", ""))[0]
        for key, (offset, _) in offsets.items():
            self.pointers[key] = code.add(f"getelementptr i8, i8* %workspace, i64 {offset}")
        sizes = {key: size for key, (_, size) in offsets.items()}
        self._prepare(code, sizes)
        self.copies = code.add(f"getelementptr i8, i8* %workspace, i64 {copies}")
        record = self._record(code)
        locals_ = self._local_buffers(code)
        for part in self.parts:
            for index, task in enumerate(part.module.tasks):
                self._call(code, part, index, task, record, locals_.get((part.name, index)))
        code.do(f"ret i32 {code.add(f'load i32, i32* {self.failed}')}")
        formals = "i64 %rows, i64* %dims, i8** %arrays, i8* %workspace, %tiaot.host* %host"
        head = f"define hidden i32 @{self.symbol}({formals}) {{"
        return "\n".join([head, *code.lines, "}"])

    def _argument_bytes(self, code: Code, name: str) -> str:
        argument = self.signature.argument(name)
        elements = code.multiply("1", *(code.sizes[dim] for dim in argument.dims))
        return code.multiply(elements, str(ITEM_SIZES[self.dtypes[name]]))

    def _prepare(self, code: Code, sizes: dict[str, str]) -> None:
        """Gives every array that the tasks write to what they expect to find there."""

        def zero(key: str, size: str) -> None:
            code.do(f"call void @llvm.memset.p0i8.i64(i8* {self.pointers[key]}, i8 0, i64 {size}, i1 false)")

        def copy(target: str, source: str, size: str) -> None:
            code.do(
                f"call void @llvm.memcpy.p0i8.p0i8.i64(i8* {self.pointers[target]}, i8* {self.pointers[source]}, "
                f"i64 {size}, i1 false)"
            )

        updated = self.signature.updated
        if not self.trace.wrt:
            for name in self.outputs:
                size = self._argument_bytes(code, name)
                if name in updated:
                    copy(f"output {name}", f"input {name}", size)
                else:
                    zero(f"output {name}", size)
        for key, size in sizes.items():
            role, name = key.split()
            if role == "adjoint":
                copy(key, f"cotangent {name}", size)
            elif role == "primal" and name in updated:
                copy(key, f"input {name}", size)
            else:
                zero(key, size)
        for name in () if self.trace.on_state else self.trace.wrt:
            size = self._argument_bytes(code, name)
            if name in updated and self.differentiate:
                copy(f"gradient {name}", f"cotangent {name}", size)
            else:
                zero(f"gradient {name}", size)

    # ---- the record that the pieces of a task are given: pointers, then sizes, all of eight bytes ----

    def _record_keys(self) -> list[str]:
        dims = [f"dim {dim}" for dim in self.signature.dims if dim not in self.variant.sizes]
        fixed = ["temporaries", "failed", *(["seed"] if self.random else [])]
        strides = dict.fromkeys(f"stride {array.key}" for arrays in self.sums.values() for array in arrays)
        return [*self.pointers, *dims, *fixed, *strides, "locals"]

    def _record(self, code: Code) -> str:
        keys = self._record_keys()
        self.failed = code.add("alloca i32")
        code.do(f"store i32 0, i32* {self.failed}")
        room = max(support.temporaries_bytes(part.module for part in self.parts), 1)
        temporaries = code.add(f"alloca [{room} x i8], align 64")
        record = code.add(f"alloca [{len(keys)} x i64]")
        for place, key in enumerate(keys):
            if key.startswith("dim "):
                value = code.sizes[key.split()[1]]
            elif key == "temporaries":
                value = code.add(f"ptrtoint [{room} x i8]* {temporaries} to i64")
            elif key == "failed":
                value = code.add(f"ptrtoint i32* {self.failed} to i64")
            elif key == "seed":
                typed = code.add(f"bitcast i8* {self.pointers[f'input {SEED}']} to i64*")
                value = code.add(f"load i64, i64* {typed}")
            elif key == "locals":
                continue
            elif key.startswith("stride "):
                value = "0"
            else:
                value = code.add(f"ptrtoint i8* {self.pointers[key]} to i64")
            code.do(f"store i64 {value}, i64* {self._record_slot(code, record, len(keys), place)}")
        return record

    def _record_slot(self, code: Code, record: str, count: int, place: int) -> str:
        return code.add(f"getelementptr [{count} x i64], [{count} x i64]* {record}, i64 0, i64 {place}")

    def _local_buffers(self, code: Code) -> dict[tuple[str, int], str]:
        """Of each parallel loop the buffers that its pieces have for themselves, one after another."""
        buffers = {}
        for part in self.parts:
            for index, task in enumerate(part.module.tasks):
                if task.pieces:
                    size = task.pieces * self._stride(task)
                    array = code.add(f"alloca [{size} x i8], align 64")
                    buffers[part.name, index] = code.add(f"bitcast [{size} x i8]* {array} to i8*")
        return buffers

    def _stride(self, task: ir.Task) -> int:
        return -(-task.local_bytes // 64) * 64  # no two pieces write to one line of the cache

    def _call(self, code: Code, part: _Part, index: int, task: ir.Task, record: str, local: str | None) -> None:
        """Runs one task."""
        count = len(self._record_keys())
        name = f"@{self.symbol}.{part.name}_{index}"
        raw = code.add(f"bitcast [{count} x i64]* {record} to i8*")
        if not task.pieces:
            code.do(f"call void {name}.piece(i8* {raw}, i64 0)")
            return
        slot = self._record_slot(code, record, count, count - 1)
        code.do(f"store i64 {code.add(f'ptrtoint i8* {local} to i64')}, i64* {slot}")
        tag = f"{part.name}{index}"
        if self._is_parallel(task):
            self._run_pieces(code, tag, name, task, raw)
        elif (part.name, index) in self.sums:
            needed = self._copies(code, (part.name, index))
            code.do(f"%{tag}.copied = icmp sgt i64 {needed}, 0")
            code.do(f"br i1 %{tag}.copied, label %{tag}.copies, label %{tag}.single")
            code.label(f"{tag}.copies")
            self._run_on_copies(code, part, index, task, record, raw)
            code.do(f"br label %{tag}.summed")
            code.label(f"{tag}.single")
            self._run_serially(code, name, task, raw)
            code.do(f"br label %{tag}.summed")
            code.label(f"{tag}.summed")
        else:
            self._run_serially(code, name, task, raw)
        if task.epilogue:
            for piece in range(task.pieces):
                code.do(f"call void {name}.epilogue(i8* {raw}, i64 {piece})")

    def _run_serially(self, code: Code, name: str, task: ir.Task, raw: str) -> None:
        for piece in range(task.pieces):
            code.do(f"call void {name}.piece(i8* {raw}, i64 {piece})")

    def _run_pieces(self, code: Code, tag: str, name: str, task: ir.Task, raw: str) -> None:
        """Runs the pieces on the host's threads, where there is a host."""
        code.do(f"{(alone := f'%{tag}.alone')} = icmp eq %tiaot.host* %host, null")
        code.do(f"br i1 {alone}, label %{tag}.serial, label %{tag}.shared")
        code.label(f"{tag}.shared")
        function = code.add("getelementptr %tiaot.host, %tiaot.host* %host, i32 0, i32 0")
        loaded = code.add(
            f"load void (i8*, i64, void (i8*, i64)*, i8*)*, void (i8*, i64, void (i8*, i64)*, i8*)** {function}"
        )
        user = code.add(f"load i8*, i8** {code.add('getelementptr %tiaot.host, %tiaot.host* %host, i32 0, i32 1')}")
        code.do(f"call void {loaded}(i8* {user}, i64 {task.pieces}, void (i8*, i64)* {name}.piece, i8* {raw})")
        code.do(f"br label %{tag}.end")
        code.label(f"{tag}.serial")
        self._run_serially(code, name, task, raw)
        code.do(f"br label %{tag}.end")
        code.label(f"{tag}.end")

    def _run_on_copies(self, code: Code, part: _Part, index: int, task: ir.Task, record: str, raw: str) -> None:
        """Runs the pieces on the host's threads, each with copies of the arrays that it adds to, and adds these up."""
        keys = self._record_keys()
        arrays = []
        base = self.copies
        for array in self.sums[part.name, index]:
            bytes_ = self._bytes(code, array)
            stride = code.round_up(bytes_, 64)
            room = code.multiply(stride, str(task.pieces))
            code.do(f"call void @llvm.memset.p0i8.i64(i8* {base}, i8 0, i64 {room}, i1 false)")
            arrays.append((array, base, stride, bytes_))
            base = code.add(f"getelementptr i8, i8* {base}, i64 {room}")

        def point(key: str, value: str) -> None:
            code.do(f"store i64 {value}, i64* {self._record_slot(code, record, len(keys), keys.index(key))}")

        for array, copies, stride, _ in arrays:
            point(array.key, code.add(f"ptrtoint i8* {copies} to i64"))
            point(f"stride {array.key}", stride)
        self._run_pieces(code, f"{part.name}{index}", f"@{self.symbol}.{part.name}_{index}", task, raw)
        for array, copies, stride, bytes_ in arrays:
            target = self.pointers[array.key]
            point(array.key, code.add(f"ptrtoint i8* {target} to i64"))
            point(f"stride {array.key}", "0")
            size = str(ITEM_SIZES[array.dtype])
            count = code.add(f"sdiv i64 {bytes_}, {size}") if bytes_.startswith("%") else str(int(bytes_) // int(size))
            code.do(
                f"call void @tiaot_add_copies_{IR_TYPES[array.dtype]}(i8* {target}, i8* {copies}, i64 {stride}, "
                f"i64 {count}, i64 {task.pieces})"
            )

    # ---- the functions of a task ----

    def _run(self, part: _Part, index: int, task: ir.Task) -> str:
        """`piece(record, index)`, and `epilogue(record, index)` if there is one, over functions of noalias pointers."""
        name = f"@{self.symbol}.{part.name}_{index}"
        calls = []
        if task.pieces:
            given = "%struct.RuntimeContext* %context, i8* %local"
            if task.prologue:
                calls.append(f"call void @{part.name}_{index}_prologue({given})")
            calls.append(f"call void @{part.name}_{index}_body({given}, i32 %piece)")
        else:
            calls.append(f"call void @{part.name}_{index}_body(%struct.RuntimeContext* %context)")
        texts = [self._function(part, index, task, f"{name}.piece", calls)]
        if task.epilogue:
            call = f"call void @{part.name}_{index}_epilogue(%struct.RuntimeContext* %context, i8* %local)"
            texts.append(self._function(part, index, task, f"{name}.epilogue", [call]))
        return "\n".join(texts)

    def _function(self, part: _Part, index: int, task: ir.Task, name: str, calls: list[str]) -> str:
        keys = self._record_keys()
        count = len(keys)
        outer = Code({})
        record = outer.add(f"bitcast i8* %record to [{count} x i64]*")
        values, formals = [], []
        copied = {array.key for array in self.sums.get((part.name, index), ()) if name.endswith(".piece")}
        for place, key in enumerate(keys):
            loaded = outer.add(f"load i64, i64* {self._record_slot(outer, record, count, place)}")
            if key in self.pointers:
                if key in copied:  # each piece has its own
                    slot = self._record_slot(outer, record, count, keys.index(f"stride {key}"))
                    ahead = outer.add(f"mul i64 %index, {outer.add(f'load i64, i64* {slot}')}")
                    loaded = outer.add(f"add i64 {loaded}, {ahead}")
                values.append(f"i8* {outer.add(f'inttoptr i64 {loaded} to i8*')}")
                formals.append(f"i8* noalias {_register(key)}")
            elif key in ("temporaries", "failed", "locals"):
                values.append(f"i8* {outer.add(f'inttoptr i64 {loaded} to i8*')}")
                formals.append(f"i8* %{key}")
            else:
                values.append(f"i64 {loaded}")
                formals.append(f"i64 {_register(key)}")
        head = f"define internal void {name}(i8* %record, i64 %index) {{"
        call = f"  call void {name}.run({', '.join([*values, 'i64 %index'])})"
        wrapper = [head, *outer.lines, call, "  ret void", "}"]
        inner = Code(
            {
                dim: (self.variant.sizes.get(dim) and str(self.variant.sizes[dim])) or f"%dim_{dim}"
                for dim in self.signature.dims
            }
        )
        if self.signature.batch:
            inner.sizes["rows"] = inner.sizes[self.signature.batch]
        self._set_up(inner, part, index, task)
        for each in calls:
            inner.do(each)
        body = [f"define internal void {name}.run({', '.join([*formals, 'i64 %index'])}) noinline {{", *inner.lines]
        return "\n".join([*body, "  ret void", "}", *wrapper])

    def _set_up(self, code: Code, part: _Part, index: int, task: ir.Task) -> None:
        """Builds the context, the argument struct and the frame: %context, %local and %piece are ready afterwards."""
        code.do("%context = alloca %struct.RuntimeContext")
        kind = self._struct_type(part)
        struct = code.add(f"alloca {kind}")
        failed = code.add("bitcast i8* %failed to i32*")
        seed = "0"
        if self.random:
            mixed = code.add(f"mul i64 %index, {0x2545F4914F6CDD1D}")
            other = code.add(f"add i64 {mixed}, {(index + 1) * 0x9E3779B97F4A7C15 % (1 << 63)}")
            seed = code.add(f"call i64 @tiaot_mix(i64 {code.add(f'xor i64 {other}, %seed')})")
        frame = support.make_frame(code, "%temporaries", seed, failed, self._roots(code))
        members = {
            0: ("i8*", code.add(f"bitcast {kind}* {struct} to i8*")),
            1: ("%struct.LLVMRuntime*", frame),
        }
        if part.result is not None:
            key = f"output {part.result.name}"
            members[3] = ("i64*", code.add(f"bitcast i8* {_register(key)} to i64*"))
        for place, (type_, value) in members.items():
            slot = code.add(
                f"getelementptr %struct.RuntimeContext, %struct.RuntimeContext* %context, i32 0, i32 {place}"
            )
            code.do(f"store {type_} {value}, {type_}* {slot}")
        self._fill_struct(code, part, kind, struct)
        if task.pieces:
            code.do("%piece = trunc i64 %index to i32")
            offset = code.add(f"mul i64 %index, {self._stride(task)}")
            code.do(f"%local = getelementptr i8, i8* %locals, i64 {offset}")

    def _roots(self, code: Code) -> str:
        """An array with the parts of the state, in their order, as an i8*."""
        if self.state is None:
            return "null"
        kind = f"[{len(self.state.roots)} x i8*]"
        array = code.add(f"alloca {kind}")
        for place, node in enumerate(self.state.roots):
            slot = code.add(f"getelementptr {kind}, {kind}* {array}, i64 0, i64 {place}")
            code.do(f"store i8* %root_{node}, i8** {slot}")
        return code.add(f"bitcast {kind}* {array} to i8*")

    def _struct_type(self, part: _Part) -> str:
        fields = []
        for parameter in part.parameters:
            kind = IR_TYPES[parameter.dtype]
            if parameter.by_value:
                fields += [kind] * parameter.element_count
                continue
            shape = f"{{ {', '.join(['i32'] * max(parameter.rank, 1))} }}"  # of no dimensions it has one too
            fields.append(f"{{ {shape}, {kind}*{f', {kind}*' if parameter.gradient else ''} }}")
        return f"{{ {', '.join(fields)} }}" if fields else "{ }"

    def _fill_struct(self, code: Code, part: _Part, kind: str, struct: str) -> None:
        field = 0
        for parameter in part.parameters:
            element = IR_TYPES[parameter.dtype]
            if parameter.by_value:
                source = code.add(f"bitcast i8* {self._data(part, parameter)} to {element}*")
                for place in range(parameter.element_count):
                    pointer = code.add(f"getelementptr {element}, {element}* {source}, i64 {place}")
                    value = code.add(f"load {element}, {element}* {pointer}")
                    slot = code.add(f"getelementptr {kind}, {kind}* {struct}, i32 0, i32 {field}")
                    code.do(f"store {element} {value}, {element}* {slot}")
                    field += 1
                continue
            if parameter.role == "scratch":
                shape = [code.expression(size) for size in parameter.shape]
            else:
                argument = self.signature.argument(parameter.name)
                shape = [code.sizes[dim] for dim in argument.dims[: parameter.rank]]
            for axis, size in enumerate(shape):
                narrow = code.add(f"trunc i64 {size} to i32") if size.startswith("%") else size
                slot = code.add(f"getelementptr {kind}, {kind}* {struct}, i32 0, i32 {field}, i32 0, i32 {axis}")
                code.do(f"store i32 {narrow}, i32* {slot}")
            pointers = [self._data(part, parameter)]
            if parameter.gradient:
                pointers.append(self._gradient(part, parameter))
            for place, pointer in enumerate(pointers, start=1):
                typed = code.add(f"bitcast i8* {pointer} to {element}*") if pointer != "null" else "null"
                slot = code.add(f"getelementptr {kind}, {kind}* {struct}, i32 0, i32 {field}, i32 {place}")
                code.do(f"store {element}* {typed}, {element}** {slot}")
            field += 1

    def _data(self, part: _Part, parameter: Parameter) -> str:
        """The register with a parameter's memory."""
        key = self._data_key(part, parameter)
        return "null" if key is None else _register(key)

    def _gradient(self, part: _Part, parameter: Parameter) -> str:
        key = self._gradient_key(part, parameter)
        return "null" if key is None else _register(key)

    def _data_key(self, part: _Part, parameter: Parameter) -> str | None:
        name, role = parameter.name, parameter.role
        if role in ("cotangent", "gradient", "scratch", "input"):
            return f"{role} {name}"
        if not self.trace.wrt:
            return f"output {name}"
        key = f"primal {name}"
        return key if part.name == "primal" or key in self._keys() else None

    def _gradient_key(self, part: _Part, parameter: Parameter) -> str | None:
        name = parameter.name
        candidates = {
            "input": (f"gradient {name}", f"spare {name}"),
            "updated": (f"gradient {name}", f"adjoint {name}"),
            "output": (f"adjoint {name}",),
            "scratch": (f"scratch-gradient {name}",),
        }[parameter.role]
        found = next((key for key in candidates if key in self._keys()), None)
        if found is None or (part.name == "primal" and not found.startswith(("spare", "scratch"))):
            return None
        return found

    def _keys(self) -> set[str]:
        """Keys of all arrays that there is memory for."""
        return {*self._arrays(), *(buffer.key for buffer in self.buffers)}


def _register(key: str) -> str:
    return "%" + key.replace(" ", "_").replace("-", "_")
