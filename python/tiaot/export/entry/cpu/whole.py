"""Entries of whole kernels: one C function, module.h's `tiaot_code`, that runs the traced tasks in their order.

A kernel is whole where it has no batch. One that has is treated so where rows.py does not take it: all of the samples
that the entry is given are then one call.

Each task becomes a function `run`, whose pointers are noalias. It builds Taichi's argument struct and context on its
stack. A parallel loop is cut into pieces by Taichi. The threads of the host share them out, or one thread runs all.

Results do not depend on the threads. The pieces of a reduction have a partial result each, and these are put together
in the order of the pieces. Where a loop adds floating-point numbers up atomically (ir/passes/summed.py), each piece
adds into a copy of its own if copies are small beside the data. Otherwise the loop runs on one thread.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
from dataclasses import dataclass

from ...author.signature import ITEM_SIZES, Signature
from ...dtypes import SUMMED
from ...ir import Task
from ...ir.model import Function
from ...ir.origins import Array, Root
from ...ir.passes.atomics import depends_on_order, is_extremum
from ...ir.passes.summed import Accumulator, summed
from ...keys import STATE, Key, Role
from ...taichi.trace import PIECES, Trace
from ...target.model import Cpu
from .. import fields, support
from ..arguments import SEED, Buffer, Part, Start, WholeArrays, struct_type
from ..code import IR_TYPES, Code
from ..passes import Atomics, Plan, prepare
from . import sums


@dataclass(frozen=True)
class Dim:
    """In a record: the size of a dimension."""

    name: str

    @property
    def register(self) -> str:
        return f"%dim_{self.name}"


@dataclass(frozen=True)
class Stride:
    """In a record: how far apart the copies of an array lie that the pieces of a loop add to; 0 for no copies."""

    of: Key

    @property
    def register(self) -> str:
        return f"%stride_{self.of.register[1:]}"


class Own(enum.Enum):
    """In a record: what is no array of the call."""

    TEMPORARIES = "temporaries"
    FAILED = "failed"
    SEED = "seed"
    LOCALS = "locals"  # the memory that the pieces of a loop have for themselves
    TANGENT_TEMPORARIES = "tangent_temporaries"
    TANGENT_LOCALS = "tangent_locals"

    @property
    def register(self) -> str:
        return f"%{self.value}"

    @property
    def is_pointer(self) -> bool:
        return self is not Own.SEED


RecordKey = Key | Dim | Stride | Own


class WholeEntry(WholeArrays):
    """One entry's function, written by `text`."""

    block_rows = 1
    needs_workspace = True
    has_many_sums = False  # not looked for: LLVM finds sums of its own, and judges by them

    def __init__(self, signature: Signature, trace: Trace, primal: Trace, target: Cpu) -> None:
        super().__init__(signature, trace, primal)
        self.target = target
        self.sums = self._sums()

    def _sums(self) -> dict[tuple[str, int], list[Buffer]]:
        """Of each parallel loop that would run on one thread but for copies: the arrays to copy, by their keys."""
        found = {}
        roots = {} if self.state is None else self.state.roots
        for part in self.parts:
            for index, task in enumerate(part.module.tasks):
                ordered = task.pieces > 1 and depends_on_order([task.body])
                targets = summed([task.body], roots) if ordered else None
                arrays = [self._summed_array(part, target) for target in targets or ()]
                if arrays and None not in arrays:
                    copied = [array for array in arrays if array is not None]
                    for array in [each for each in copied if each.key.tangent in self._keys()]:
                        copied.append(dataclasses.replace(array, key=array.key.tangent))
                    found[part.name, index] = copied
        return found

    def _summed_array(self, part: Part, target: Accumulator) -> Buffer | None:
        if isinstance(target, Root):
            assert self.state is not None
            root = self.state.roots[target.node]
            if root.dtype not in SUMMED:
                return None
            return Buffer(Key(Role.ROOT, str(target.node)), root.dtype, None, (), root.bytes)
        if not isinstance(target, Array):
            return None
        parameter = part.parameters[target.index]
        key = self._summed_key(part, target)
        return None if key is None else Buffer(key, parameter.dtype, self.signature.argument(parameter.name), ())

    # ---- text ----

    def text(self, symbol: str) -> str:
        """Everything but what is linked: types, tasks, the entry, the definitions that are ours."""
        modules = [part.module for part in self.parts]
        self.symbol = symbol
        self.functions: list[str] = []  # those with the tasks in them
        steps = ""
        if self.state is not None:
            steps = fields.definitions(modules, self.state)
            modules = [fields.place_lookups(module, self.state) for module in modules]
        entry = self._entry()
        texts = []
        for part, module in zip(self.parts, modules, strict=True):
            for index, task in enumerate(module.tasks):
                texts.append(self._run(part, index, task))
            prepared = [self._prepared(part, index, task) for index, task in enumerate(module.tasks)]
            texts.append(dataclasses.replace(module, tasks=tuple(prepared)).text(part.name))
        own, declarations = support.own_definitions(modules, mathematical=not self.along)
        return "\n".join(
            [
                *dict.fromkeys(line for module in modules for line in module.type_lines),
                support.TYPES,
                *texts,
                entry,
                sums.add_copies(each.dtype for arrays in self.sums.values() for each in arrays),
                steps,
                own,
                *declarations,
                "declare void @llvm.memcpy.p0i8.p0i8.i64(i8* noalias, i8* noalias, i64, i1)",
                "declare void @llvm.memset.p0i8.i64(i8*, i8, i64, i1)",
            ]
        )

    def _prepared(self, part: Part, index: int, task: Task) -> Task:
        """A task as LLVM is given it."""
        body = Atomics.PLAIN
        if self._is_parallel(task):
            body = Atomics.STAY
        elif (part.name, index) in self.sums:
            body = Atomics.SUMS_APART

        def change(function: Function) -> Function:
            atomics = body if function is task.body else Atomics.PLAIN
            loop = task.functions if task.pieces else ()
            return prepare(function, Plan(self._layout(part), atomics, loop=loop), self.target)

        return task.changed(change)

    def _is_parallel(self, task: Task) -> bool:
        # A tangent follows the winner of an atomic minimum or maximum: that takes one thread at a time.
        serial = bool(self.along) and any(map(is_extremum, task.body.instructions))
        return task.pieces > 1 and not serial and not depends_on_order([task.body])

    def workspace_function(self, symbol: str) -> str:
        """`i64 SYMBOL(rows, dims)`, a module.h `tiaot_workspace_size`."""
        code = Code({})
        self._load_sizes(code)
        _, total = self._place(code, {})
        code.do(f"ret i64 {total}")
        return "\n".join([f"define hidden i64 @{symbol}(i64 %rows, i64* %dims) {{", *code.lines, "}"])

    def _place(self, code: Code, offsets: dict[Key, tuple[str, str]]) -> tuple[str, str]:
        """Lays the buffers out: `offsets` by key (offset, bytes). Where copies begin, and the size of all."""
        total, copies = "0", "0"
        for buffer in self.buffers:
            size = self._bytes(code, buffer)
            offsets[buffer.key] = total, size
            padded = code.round_up(size, 64)
            total = code.add_up(total, padded)
        if self.sums:  # all loops use the same memory, each as much as it needs
            copies = total
            total = code.add_up(total, functools.reduce(code.larger, [self._copies(code, task) for task in self.sums]))
        return copies, total

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

    # ---- the entry ----

    def _entry(self) -> str:
        code = Code({})
        code.label("first")
        self._load_sizes(code)
        for index, key in enumerate(self._arrays()):
            slot = code.add(f"getelementptr i8*, i8** %arrays, i64 {index}")
            self.pointers[key] = code.add(f"load i8*, i8** {slot}")
        if self.state is not None:  # the tasks get the parts of the state, so that LLVM knows that they lie apart
            for state in (STATE, STATE.tangent) if self.along else (STATE,):
                base = self.pointers.pop(state)
                for node, root in self.state.roots.items():
                    key = Key(Role.ROOT, str(node), state.is_tangent)
                    self.pointers[key] = code.add(f"getelementptr i8, i8* {base}, i64 {root.offset}")
        offsets: dict[Key, tuple[str, str]] = {}
        copies, _ = self._place(code, offsets)
        for key, (offset, _) in offsets.items():
            self.pointers[key] = code.add(f"getelementptr i8, i8* %workspace, i64 {offset}")
        sizes = {key: size for key, (_, size) in offsets.items()}
        for start in self._starts(code, sizes):
            self._fill(code, start)
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

    def _fill(self, code: Code, start: Start) -> None:
        to = self.pointers[start.key]
        if start.source is None:
            code.do(f"call void @llvm.memset.p0i8.i64(i8* {to}, i8 0, i64 {start.bytes}, i1 false)")
        else:
            source = self.pointers[start.source]
            code.do(f"call void @llvm.memcpy.p0i8.p0i8.i64(i8* {to}, i8* {source}, i64 {start.bytes}, i1 false)")

    # ---- the record that the pieces of a task are given: pointers, then sizes, all of eight bytes ----

    def _record_keys(self) -> list[RecordKey]:
        dims = [Dim(dim) for dim in self.signature.dims if dim not in self.variant.sizes]
        fixed = [
            Own.TEMPORARIES,
            *([Own.TANGENT_TEMPORARIES] if self.along else []),
            Own.FAILED,
            *([Own.SEED] if self.random else []),
        ]
        strides = dict.fromkeys(Stride(array.key) for arrays in self.sums.values() for array in arrays)
        locals_ = [Own.LOCALS, *([Own.TANGENT_LOCALS] if self.along else [])]
        return [*self.pointers, *dims, *fixed, *strides, *locals_]

    def shadows(self, symbol: str) -> dict[str, dict[str, str]]:
        """Of each function to differentiate the parameters that point to memory with a shadow, and to that."""
        if not self.along:
            return {}
        pairs = {key.register: key.tangent.register for key in self.pointers if key.tangent in self.pointers}
        pairs[Own.TEMPORARIES.register] = Own.TANGENT_TEMPORARIES.register
        pairs[Own.LOCALS.register] = Own.TANGENT_LOCALS.register
        pairs[Own.FAILED.register] = Own.FAILED.register  # an integer, which a stack writes to
        names = {value[1:]: shadow[1:] for value, shadow in pairs.items()}
        return dict.fromkeys(self.functions, names)

    def _record(self, code: Code) -> str:
        keys = self._record_keys()
        self.failed = code.add("alloca i32")
        code.do(f"store i32 0, i32* {self.failed}")
        room = max(support.temporaries_bytes(part.module for part in self.parts), 1)
        temporaries = code.add(f"alloca [{room} x i8], align 64")
        tangents = code.add(f"alloca [{room} x i8], align 64") if self.along else ""
        record = code.add(f"alloca [{len(keys)} x i64]")
        for place, key in enumerate(keys):
            if isinstance(key, Dim):
                value = code.sizes[key.name]
            elif key is Own.TEMPORARIES:
                value = code.add(f"ptrtoint [{room} x i8]* {temporaries} to i64")
            elif key is Own.TANGENT_TEMPORARIES:
                value = code.add(f"ptrtoint [{room} x i8]* {tangents} to i64")
            elif key is Own.FAILED:
                value = code.add(f"ptrtoint i32* {self.failed} to i64")
            elif key is Own.SEED:
                typed = code.add(f"bitcast i8* {self.pointers[Key(Role.INPUT, SEED)]} to i64*")
                value = code.add(f"load i64, i64* {typed}")
            elif key in (Own.LOCALS, Own.TANGENT_LOCALS):
                continue
            elif isinstance(key, Stride):
                value = "0"
            else:
                value = code.add(f"ptrtoint i8* {self.pointers[key]} to i64")
            code.do(f"store i64 {value}, i64* {self._record_slot(code, record, len(keys), place)}")
        return record

    def _record_slot(self, code: Code, record: str, count: int, place: int) -> str:
        return code.add(f"getelementptr [{count} x i64], [{count} x i64]* {record}, i64 0, i64 {place}")

    def _set(self, code: Code, record: str, key: RecordKey, value: str) -> None:
        """Writes an i64 into the record."""
        keys = self._record_keys()
        code.do(f"store i64 {value}, i64* {self._record_slot(code, record, len(keys), keys.index(key))}")

    def _local_buffers(self, code: Code) -> dict[tuple[str, int], str]:
        """Of each parallel loop the buffers that its pieces have for themselves, one after another; behind them those
        of their tangents."""
        buffers = {}
        for part in self.parts:
            for index, task in enumerate(part.module.tasks):
                if task.pieces:
                    size = task.pieces * self._stride(task) * (2 if self.along else 1)
                    array = code.add(f"alloca [{size} x i8], align 64")
                    buffers[part.name, index] = code.add(f"bitcast [{size} x i8]* {array} to i8*")
        return buffers

    def _stride(self, task: Task) -> int:
        return -(-task.local_bytes // 64) * 64  # no two pieces write to one line of the cache

    def _call(self, code: Code, part: Part, index: int, task: Task, record: str, local: str | None) -> None:
        """Runs one task."""
        name = f"@{self.symbol}.{part.name}_{index}"
        raw = code.add(f"bitcast [{len(self._record_keys())} x i64]* {record} to i8*")
        if not task.pieces:
            code.do(f"call void {name}.piece(i8* {raw}, i64 0)")
            return
        buffer = code.add(f"ptrtoint i8* {local} to i64")
        self._set(code, record, Own.LOCALS, buffer)
        if self.along:
            behind = code.add(f"add i64 {buffer}, {task.pieces * self._stride(task)}")
            self._set(code, record, Own.TANGENT_LOCALS, behind)
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

    def _run_serially(self, code: Code, name: str, task: Task, raw: str) -> None:
        for piece in range(task.pieces):
            code.do(f"call void {name}.piece(i8* {raw}, i64 {piece})")

    def _run_pieces(self, code: Code, tag: str, name: str, task: Task, raw: str) -> None:
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

    def _run_on_copies(self, code: Code, part: Part, index: int, task: Task, record: str, raw: str) -> None:
        """Runs the pieces on the host's threads, each with copies of the arrays that it adds to, and adds these up."""
        arrays = []
        base = self.copies
        for array in self.sums[part.name, index]:
            bytes_ = self._bytes(code, array)
            stride = code.round_up(bytes_, 64)
            room = code.multiply(stride, str(task.pieces))
            code.do(f"call void @llvm.memset.p0i8.i64(i8* {base}, i8 0, i64 {room}, i1 false)")
            arrays.append((array, base, stride, bytes_))
            base = code.add(f"getelementptr i8, i8* {base}, i64 {room}")
        for array, copies, stride, _ in arrays:
            self._set(code, record, array.key, code.add(f"ptrtoint i8* {copies} to i64"))
            self._set(code, record, Stride(array.key), stride)
        self._run_pieces(code, f"{part.name}{index}", f"@{self.symbol}.{part.name}_{index}", task, raw)
        for array, copies, stride, bytes_ in arrays:
            target = self.pointers[array.key]
            self._set(code, record, array.key, code.add(f"ptrtoint i8* {target} to i64"))
            self._set(code, record, Stride(array.key), "0")
            size = str(ITEM_SIZES[array.dtype])
            count = code.add(f"sdiv i64 {bytes_}, {size}") if bytes_.startswith("%") else str(int(bytes_) // int(size))
            code.do(
                f"call void @tiaot_add_copies_{IR_TYPES[array.dtype]}(i8* {target}, i8* {copies}, i64 {stride}, "
                f"i64 {count}, i64 {task.pieces})"
            )

    # ---- the functions of a task ----

    def _run(self, part: Part, index: int, task: Task) -> str:
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

    def _function(self, part: Part, index: int, task: Task, name: str, calls: list[str]) -> str:
        keys = self._record_keys()
        count = len(keys)
        outer = Code({})
        record = outer.add(f"bitcast i8* %record to [{count} x i64]*")
        values, formals = [], []
        copied = {array.key for array in self.sums.get((part.name, index), ()) if name.endswith(".piece")}
        for place, key in enumerate(keys):
            loaded = outer.add(f"load i64, i64* {self._record_slot(outer, record, count, place)}")
            if isinstance(key, Key):
                if key in copied:  # each piece has its own
                    slot = self._record_slot(outer, record, count, keys.index(Stride(key)))
                    ahead = outer.add(f"mul i64 %index, {outer.add(f'load i64, i64* {slot}')}")
                    loaded = outer.add(f"add i64 {loaded}, {ahead}")
                values.append(f"i8* {outer.add(f'inttoptr i64 {loaded} to i8*')}")
                formals.append(f"i8* noalias {key.register}")
            elif isinstance(key, Own) and key.is_pointer:
                values.append(f"i8* {outer.add(f'inttoptr i64 {loaded} to i8*')}")
                formals.append(f"i8* {key.register}")
            else:
                values.append(f"i64 {loaded}")
                formals.append(f"i64 {key.register}")
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
        self.functions.append(f"{name[1:]}.run")
        self._set_up(inner, part, index, task)
        for each in calls:
            inner.do(each)
        body = [f"define internal void {name}.run({', '.join([*formals, 'i64 %index'])}) noinline {{", *inner.lines]
        return "\n".join([*body, "  ret void", "}", *wrapper])

    def _set_up(self, code: Code, part: Part, index: int, task: Task) -> None:
        """Builds the context, the argument struct and the frame: %context, %local and %piece are ready afterwards."""
        code.do("%context = alloca %struct.RuntimeContext")
        kind = struct_type(part.parameters)
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
            key = Key(Role.OUTPUT, part.result.name)
            members[3] = ("i64*", code.add(f"bitcast i8* {key.register} to i64*"))
        support.fill_context(code, "%context", members)
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
