"""Entries of whole kernels for CUDA: each parallel loop a kernel over the grid, each stretch of statements between them
one that runs on a single thread, launched one after another.

Every kernel of an entry has the same parameters: the arrays, the sizes of the dimensions, the values of numbers. Each
thread builds Taichi's argument struct and context of them for itself, which inlining and SROA dissolve, so nothing has
to be copied to the device before a launch. Ranges that follow from shapes and numbers are worked out by each thread
(bounds.py).

In a loop that adds floating-point numbers up atomically the order would show in the result. Where nothing else touches
what is added to (sums.py), each thread adds to a copy of its own, and the copies, whose number follows from the sizes
of the arrays alone, are added up in their order; where copies would be much beside the data, the additions are atomic.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .. import ir, sums, support
from ..arguments import SEED, Part, WholeArrays, register
from ..code import IR_TYPES, Code
from ..parameters import Parameter
from ..signature import ITEM_SIZES, Signature
from ..trace import Trace
from . import device
from .bounds import Bounds, find_bounds
from .host import TYPES as HOST_TYPES
from .host import HostCode, Value

REAL = ("float32", "float64")
_MOST_COPIES = 16384  # threads of a loop that adds to copies
_FEWEST_COPIES = 1024  # fewer keep too little of a device busy
_COPIES_BYTES = 64 << 20  # of copies that are never much
ORDERED, ORDERED_IF_SMALL, UNORDERED = 0, 1, 2  # TIAOT_CUDA_ORDERED... of module.h
_HOST_NAMES = ("RuntimeContext_get_runtime", "min_i32", "max_i32")


@dataclass(frozen=True)
class _Target:
    """What a loop adds to: an array by its key, or a temporary by its offset."""

    dtype: str
    key: str = ""
    slot: sums.Slot = (-1, 0)
    offset: int = -1


class CudaWholeEntry(WholeArrays):
    """One entry: `text`, the kernels; `host_text`, the function that launches them."""

    any_rows = False

    def __init__(self, signature: Signature, trace: Trace, primal: Trace, symbol: str) -> None:
        super().__init__(signature, trace, primal)
        self.symbol = symbol
        self.bounds: dict[str, Bounds] = {part.name: find_bounds(part.module) for part in self.parts}
        self.targets = self._targets()
        self.host = False  # whether what is being written runs on the host
        self.own: dict[str, str] = {}  # in the kernel being written: the thread's copies, by the keys of what they copy
        self.values: dict[str, str] = {}  # in the function being written: pointers to values, by their keys

    # ---- what is there ----

    def _value_parameters(self) -> dict[str, Parameter]:
        """Inputs that the kernels take as values, by key."""
        found = {}
        for part in self.parts:
            for parameter in part.parameters:
                if is_value(parameter, self.signature):
                    found[f"input {parameter.name}"] = parameter
        if self.random:
            found.setdefault(f"input {SEED}", Parameter(SEED, "input", "int64", 0, by_value=True))
        return found

    @property
    def order(self) -> int:
        """One of module.h's TIAOT_CUDA_ORDERED...: whether the order of atomic operations can show in results."""
        atomic = [
            (part.name, index)
            for part in self.parts
            for index, task in enumerate(part.module.tasks)
            if self._is_atomic(task)
        ]
        if any(task not in self.targets for task in atomic):
            return UNORDERED
        arrays = [target for targets in self.targets.values() for target in targets if target.key]
        return ORDERED_IF_SMALL if any(self._is_open(target) for target in arrays) else ORDERED

    def _is_open(self, target: _Target) -> bool:
        """Whether an array may be too large to be copied."""
        dims = self.signature.argument(target.key.split()[1]).dims
        fixed = math.prod(self.variant.sizes.get(dim, _COPIES_BYTES) for dim in dims)
        return fixed * ITEM_SIZES[target.dtype] * _FEWEST_COPIES > _COPIES_BYTES

    def _is_atomic(self, task: ir.Task) -> bool:
        return task.turn is not None and ir.depends_on_order(_joined(task))

    def _targets(self) -> dict[tuple[str, int], list[_Target]]:
        """Of each loop that adds up atomically: what it adds to, where all of that can be copied."""
        found = {}
        for part in self.parts:
            for index, task in enumerate(part.module.tasks):
                slots = sums.summed(_joined(task), ()) if self._is_atomic(task) else None
                targets = [self._target(part, task, slot) for slot in slots or ()]
                if targets and None not in targets:
                    found[part.name, index] = [target for target in targets if target is not None]
        return found

    def _target(self, part: Part, task: ir.Task, slot: sums.Slot | int | str) -> _Target | None:
        if isinstance(slot, str):
            offset = int(slot.split()[1])
            kind = sums.added_type(_joined(task), slot)
            dtype = {"float": "float32", "double": "float64"}.get(kind)
            return _Target(dtype, offset=offset) if dtype else None
        assert isinstance(slot, tuple)
        parameter = part.parameters[slot[0]]
        if parameter.role == "scratch" or parameter.dtype not in REAL:
            return None
        key = self._data_key(part, parameter) if slot[1] == 1 else self._gradient_key(part, parameter)
        return None if key is None else _Target(parameter.dtype, key, slot)

    # ---- the parameters of every kernel ----

    def _pointer_keys(self) -> list[str]:
        return [*self._arrays(), *(buffer.key for buffer in self.buffers)]

    def _formals(self) -> list[str]:
        read_only = {key for key in self._arrays() if key.split()[0] in ("input", "cotangent")}
        pointers = [
            f"i8* noalias {'readonly ' if key in read_only else ''}{register(key)}" for key in self._pointer_keys()
        ]
        dims = [f"i64 %dim_{dim}" for dim in self.signature.dims if dim not in self.variant.sizes]
        values = [
            f"{IR_TYPES[parameter.dtype]} %value_{parameter.name}_{place}"
            for parameter in self._value_parameters().values()
            for place in range(max(parameter.element_count, 1))
        ]
        return [*pointers, *dims, *values, "i8* noalias %temporaries", "i8* noalias %summed"]

    # ---- the device ----

    def kernel_names(self) -> list[str]:
        """Its own kernels."""
        return [
            name for part in self.parts for index in range(len(part.module.tasks)) for name in self._names(part, index)
        ]

    def _names(self, part: Part, index: int) -> list[str]:
        bounds, task = self.bounds[part.name], part.module.tasks[index]
        if index in bounds.prelude and index not in bounds.shared:
            return []
        name = f"{self.symbol}_{part.name}_{index}"
        return [name, f"{name}_copies"] if (part.name, index) in self.targets and task.turn else [name]

    def text(self, stack_values: int) -> str:
        """The kernels, with room for so many values in each stack."""
        self.host = False
        texts, kernels = [], []
        for part in self.parts:
            bounds = self.bounds[part.name]
            for index, task in enumerate(part.module.tasks):
                if index in bounds.prelude:
                    texts.append(self._private(task).text(f"{part.name}_{index}_private"))
                if not (names := self._names(part, index)):
                    continue
                kinds = dict.fromkeys(bounds.private, "private")
                if index in bounds.prelude:
                    kinds = {}
                texts.append(self._device_task(part, task, kinds, stack_values).text(f"{part.name}_{index}"))
                kernels.append(self._kernel(part, index, names[0], f"{part.name}_{index}", {}))
                if len(names) == 2:
                    targets = self.targets[part.name, index]
                    copied = self._copying_task(part, task, kinds, targets, stack_values)
                    texts.append(copied.text(f"{part.name}_{index}_copies"))
                    own = {target.key: target for target in targets if target.key}
                    kernels.append(self._kernel(part, index, names[1], f"{part.name}_{index}_copies", own))
        modules = [part.module for part in self.parts]
        local_bytes = max([task.local_bytes for module in modules for task in module.tasks], default=1)
        return "\n".join(
            [
                *dict.fromkeys(line for module in modules for line in module.types),
                device.TYPES,
                ir.contract("\n".join(texts)),
                *kernels,
                device.THREADS,
                device.POINTERS,
                device.range_for("grid", local_bytes, device.SEED_TURN if self.random else ""),
                device.definitions(modules, stack_values),
            ]
        )

    def _private(self, task: ir.Task) -> ir.Task:
        """A task of the prelude, all of whose temporaries are the thread's own."""
        offsets = dict.fromkeys(range(support.temporaries_bytes(self._modules())), "private")
        return ir.Task(task.name, device.point_temporaries(task.body, offsets))

    def _modules(self) -> list[ir.TracedModule]:
        return [part.module for part in self.parts]

    def _changed(self, task: ir.Task, change: Callable[[ir.Function], ir.Function]) -> ir.Task:
        changed = copy.copy(task)
        for name in ("prologue", "body", "turn", "epilogue"):
            if (function := getattr(task, name)) is not None:
                setattr(changed, name, change(function))
        return changed

    def _device_task(self, part: Part, task: ir.Task, kinds: dict[int, str], stack_values: int) -> ir.Task:
        def change(function: ir.Function) -> ir.Function:
            function = device.point_temporaries(function, kinds)
            device.widen_stacks(function, stack_values)
            body = function.body if task.turn else ir.plain_additions(function.body)
            return ir.Function(function.parameters, ir.widen_offsets(body, self._layout(part)))

        return self._changed(task, change)

    def _copying_task(
        self, part: Part, task: ir.Task, kinds: dict[int, str], targets: list[_Target], stack_values: int
    ) -> ir.Task:
        """The same, adding to copies of the targets that each thread has for itself."""
        slots = {target.slot for target in targets if target.key}
        temporaries = [target for target in targets if not target.key]
        kinds = {
            **kinds,
            **{each.offset: f"summed {at} {ITEM_SIZES[each.dtype]}" for at, each in enumerate(temporaries)},
        }

        def change(function: ir.Function) -> ir.Function:
            body = ir.plain_additions(function.body, whole_numbers=False)
            return ir.Function(function.parameters, device.scale_offsets(body, lambda *slot: slot in slots))

        return self._changed(self._device_task(part, task, kinds, stack_values), change)

    def _kernel(self, part: Part, index: int, name: str, functions: str, copied: dict[str, _Target]) -> str:
        code = Code({dim: str(self.variant.sizes.get(dim, f"%dim_{dim}")) for dim in self.signature.dims})
        if self.signature.batch:
            code.sizes["rows"] = code.sizes[self.signature.batch]
        task = part.module.tasks[index]
        code.label("entry")
        self.own = {key: f"{register(key)}.own" for key in copied}
        for key, target in copied.items():
            at = code.add(f"mul i64 {code.add('call i64 @tiaot_thread()')}, {ITEM_SIZES[target.dtype]}")
            code.do(f"{self.own[key]} = getelementptr i8, i8* {register(key)}, i64 {at}")
        self._take_values(code)
        seed = "0"
        if self.random:
            raw = code.add(f"bitcast i8* {self.values[f'input {SEED}']} to i64*")
            task_number = (index + 1) * 0x9E3779B97F4A7C15 % (1 << 63)
            mixed = code.add(f"xor i64 {code.add(f'load i64, i64* {raw}')}, {task_number}")
            seed = code.add(f"call i64 @tiaot_mix(i64 {mixed})")
        self._context(code, part, seed)
        for each in sorted(self.bounds[part.name].prelude):
            if each < index:
                code.do(f"call void @{part.name}_{each}_private_body(%struct.RuntimeContext* %context)")
        code.do(f"call void @{functions}_body(%struct.RuntimeContext* %context)")
        self.own, self.values = {}, {}
        return kernel(name, self._formals(), code, alone=task.turn is None)

    def _take_values(self, code: Code) -> None:
        """Puts the numbers of a call where the struct is filled from: they come as values or in the device's memory."""
        self.values = {}
        for key, parameter in self._value_parameters().items():
            count = max(parameter.element_count, 1)
            kind = f"[{count} x {IR_TYPES[parameter.dtype]}]"
            element = IR_TYPES[parameter.dtype]
            room = code.add(f"alloca {kind}, align 8")
            local = code.add(f"bitcast {kind}* {room} to i8*")
            slots = [code.add(f"getelementptr {kind}, {kind}* {room}, i64 0, i64 {place}") for place in range(count)]
            for place, slot in enumerate(slots):
                code.do(f"store {element} %value_{parameter.name}_{place}, {element}* {slot}")
            label = f"memory_{parameter.name}"
            given = code.add(f"icmp ne i8* {register(key)}, null")
            code.do(f"br i1 {given}, label %{label}, label %{label}.end")
            code.label(label)
            typed = code.add(f"bitcast i8* {register(key)} to {element}*")
            for place, slot in enumerate(slots):
                pointer = code.add(f"getelementptr {element}, {element}* {typed}, i64 {place}")
                code.do(f"store {element} {code.add(f'load {element}, {element}* {pointer}')}, {element}* {slot}")
            code.do(f"br label %{label}.end")
            code.label(f"{label}.end")
            self.values[key] = local

    def _context(self, code: Code, part: Part, seed: str) -> None:
        """Builds %context, with the struct and the frame that it points to."""
        code.do("%context = alloca %struct.RuntimeContext")
        kind = self._struct_type(part)
        struct = code.add(f"alloca {kind}")
        room = max(support.temporaries_bytes(self._modules()), 1)
        private = code.add(f"alloca [{room} x i8], align 16")
        raw = code.add(f"bitcast [{room} x i8]* {private} to i8*")
        shared, summed = ("null", "null") if self.host else ("%temporaries", "%summed")
        frame = device.make_frame(code, shared, raw, summed, seed)
        members = {
            0: ("i8*", code.add(f"bitcast {kind}* {struct} to i8*")),
            1: ("%struct.LLVMRuntime*", frame),
        }
        if part.result is not None and not self.host:
            members[3] = ("i64*", code.add(f"bitcast i8* {register(f'output {part.result.name}')} to i64*"))
        for place, (type_, value) in members.items():
            slot = code.add(
                f"getelementptr %struct.RuntimeContext, %struct.RuntimeContext* %context, i32 0, i32 {place}"
            )
            code.do(f"store {type_} {value}, {type_}* {slot}")
        self._fill_struct(code, part, kind, struct)

    def _data(self, part: Part, parameter: Parameter) -> str:
        key = self._data_key(part, parameter)
        if key in self.values:
            return self.values[key]
        return "null" if self.host else self.own.get(key, super()._data(part, parameter))

    def _gradient(self, part: Part, parameter: Parameter) -> str:
        key = self._gradient_key(part, parameter)
        return "null" if self.host else self.own.get(key, super()._gradient(part, parameter))

    # ---- the host ----

    def _place(self, code: Code, offsets: dict[str, tuple[str, str]]) -> str:
        """Lays the workspace out: `offsets` by key (offset, bytes). The size of all."""
        total = "0"

        def add(key: str, size: str) -> None:
            nonlocal total
            offsets[key] = total, size
            total = code.add_up(total, code.round_up(size, 256))

        for buffer in self.buffers:
            add(buffer.key, self._bytes(code, buffer))
        add("temporaries", str(support.temporaries_bytes(self._modules())))
        if self.targets:  # all loops use the same memory, each as much as it needs
            most = "0"
            for task in self.targets:
                size = self._copies_bytes(code, task)
                more = code.add(f"icmp sgt i64 {size}, {most}")
                most = code.add(f"select i1 {more}, i64 {size}, i64 {most}")
            add("copies", most)
        return total

    def _target_elements(self, code: Code, target: _Target) -> str:
        if not target.key:
            return "1"
        argument = self.signature.argument(target.key.split()[1])
        return code.multiply("1", *(code.sizes[dim] for dim in argument.dims))

    def _copy_bytes(self, code: Code, task: tuple[str, int]) -> str:
        """Bytes of what one thread adds to."""
        one = "0"
        for target in self.targets[task]:
            item = 8 if not target.key else ITEM_SIZES[target.dtype]
            one = code.add_up(one, code.multiply(self._target_elements(code, target), str(item)))
        return one

    def _copies(self, code: Code, task: tuple[str, int]) -> str:
        """How many threads add to copies of their own, a multiple of a block; 0: none, the additions are atomic.

        By the sizes of the call alone, so that the order of the additions follows from them.
        """
        data, largest = "0", "0"
        for argument in dict.fromkeys(self.signature.arguments):
            size = self._argument_bytes(code, argument.name)
            data = code.add_up(data, size)
            elements = code.multiply("1", *(code.sizes[dim] for dim in argument.dims))
            more = code.add(f"icmp sgt i64 {elements}, {largest}")
            largest = code.add(f"select i1 {more}, i64 {elements}, i64 {largest}")
        arguments = f"i64 {largest}, i64 {self._copy_bytes(code, task)}, i64 {data}"
        return code.add(f"call i64 @tiaot_copies({arguments})")

    def _copies_bytes(self, code: Code, task: tuple[str, int]) -> str:
        threads = self._copies(code, task)
        lanes = str(device.SUM_LANES * 256)  # and the sums of the first pass, of which each is rounded up
        one = self._copy_bytes(code, task)
        room = code.add(f"mul i64 {threads}, {one}")
        passes = code.add(f"mul i64 {one}, {device.SUM_LANES}")
        padded = code.add_up(code.add_up(room, passes), lanes)
        any_ = code.add(f"icmp sgt i64 {threads}, 0")
        return code.add(f"select i1 {any_}, i64 {padded}, i64 0")

    def workspace_text(self, symbol: str) -> str:
        """`i64 SYMBOL(rows, dims)`, a module.h `tiaot_workspace_size`."""
        code = Code({})
        self._load_sizes(code)
        total = self._place(code, {})
        code.do(f"ret i64 {total}")
        return "\n".join([f"define hidden i64 @{symbol}(i64 %rows, i64* %dims) {{", *code.lines, "}"])

    def host_text(self, symbol: str) -> str:
        """The function that launches the kernels, `tiaot_cuda_code`, and that for its workspace, SYMBOL_workspace."""
        self.host = True
        texts = []
        for part in self.parts:
            for index, task in enumerate(part.module.tasks):
                if index in self.bounds[part.name].prelude:
                    texts.append(self._private(task).text(f"{part.name}_{index}_private"))
                if task.turn is not None and self.bounds[part.name].known(task):
                    texts.append(self._turns(part, index, task))
        code = self._host_code()
        own = support.own_texts(_HOST_NAMES)
        modules = self._modules()
        result = "\n".join(
            [
                *dict.fromkeys(line for module in modules for line in module.types),
                device.TYPES,
                HOST_TYPES,
                *texts,
                _PRIVATE_POINTER,
                _RECORD_RANGE,
                _COPIES,
                own,
                code.text(symbol),
                self.workspace_text(f"{symbol}_workspace"),
            ]
        )
        self.host = False
        self.launched = list(code.kernels)
        return result

    def _turns(self, part: Part, index: int, task: ir.Task) -> str:
        """`i64 @turns_PART_INDEX(rows, dims, arrays)`: how many turns a loop has, from shapes and numbers."""
        name = f"{part.name}_{index}_range"
        kinds = dict.fromkeys(self.bounds[part.name].private, "private")
        body = [
            line if "@gpu_parallel_range_for" not in line else _recording(line)
            for line in device.point_temporaries(task.body, kinds).body
        ]
        code = Code({})
        self._load_sizes(code)
        self.values = {}
        keys = self._arrays()
        for key in self._value_parameters():
            slot = code.add(f"getelementptr i8*, i8** %arrays, i64 {keys.index(key)}")
            self.values[key] = code.add(f"load i8*, i8** {slot}")
        self._context(code, part, "0")
        code.do("%turns = alloca i64")
        code.do("store i64 0, i64* %turns")
        raw = code.add("bitcast i64* %turns to i64*")
        slot = code.add("getelementptr %struct.RuntimeContext, %struct.RuntimeContext* %context, i32 0, i32 3")
        code.do(f"store i64* {raw}, i64** {slot}")
        for each in sorted(self.bounds[part.name].prelude):
            if each < index:
                code.do(f"call void @{part.name}_{each}_private_body(%struct.RuntimeContext* %context)")
        code.do(f"call void @{name}_body(%struct.RuntimeContext* %context)")
        code.do(f"ret i64 {code.add('load i64, i64* %turns')}")
        self.values = {}
        head = f"define internal i64 @turns_{part.name}_{index}(i64 %rows, i64* %dims, i8** %arrays) {{"
        function = ir.Function(task.body.parameters, body)
        return "\n".join([function.text(f"{name}_body"), head, *code.lines, "}"])

    def _zero(self, code: Code, key: str, size: str) -> None:
        assert isinstance(code, HostCode)
        code.fill(self.pointers[key], size)

    def _copy(self, code: Code, target: str, source: str, size: str) -> None:
        assert isinstance(code, HostCode)
        code.copy(self.pointers[target], self.pointers[source], size)

    def _host_code(self) -> HostCode:
        code = HostCode()
        self._load_sizes(code)
        self.pointers = {}
        keys = self._arrays()
        for index, key in enumerate(keys):
            slot = code.add(f"getelementptr i8*, i8** %arrays, i64 {index}")
            self.pointers[key] = code.add(f"load i8*, i8** {slot}")
        offsets: dict[str, tuple[str, str]] = {}
        self._place(code, offsets)
        places = {key: code.add(f"getelementptr i8, i8* %workspace, i64 {at}") for key, (at, _) in offsets.items()}
        self.pointers.update({key: places[key] for key in places if key not in ("temporaries", "copies")})
        self._prepare(code, {buffer.key: offsets[buffer.key][1] for buffer in self.buffers})
        parameters = self._parameters(code, places["temporaries"])
        known = self._all_known(code)
        for part in self.parts:
            for index, task in enumerate(part.module.tasks):
                if names := self._names(part, index):
                    self._launch(code, part, index, task, names, parameters, known, places.get("copies", "null"))
        return code

    def _parameters(self, code: HostCode, temporaries: str) -> list[Value]:
        """What the kernels are given, in the order of `_formals`."""
        values: list[Value] = []
        given: list[Value] = []
        inputs = [argument.name for argument in self.signature.inputs]
        small = self._value_parameters()
        for key in self._pointer_keys():
            pointer = self.pointers[key]
            if key in small:
                parameter = small[key]
                element = IR_TYPES[parameter.dtype]
                bit = 1 << inputs.index(key.split()[1])
                here = code.add(f"icmp ne i64 {code.add(f'and i64 %on_host, {bit}')}, 0")
                count = max(parameter.element_count, 1)
                room = code.room(f"[{count} x {element}]")
                code.do(f"store [{count} x {element}] zeroinitializer, [{count} x {element}]* {room}")
                local = code.add(f"bitcast [{count} x {element}]* {room} to {element}*")
                typed = code.add(f"bitcast i8* {pointer} to {element}*")
                source = code.add(f"select i1 {here}, {element}* {typed}, {element}* {local}")
                for place in range(count):
                    slot = code.add(f"getelementptr {element}, {element}* {source}, i64 {place}")
                    given.append((element, code.add(f"load {element}, {element}* {slot}")))
                pointer = code.add(f"select i1 {here}, i8* null, i8* {pointer}")
            values.append(("i8*", pointer))
        dims = [("i64", code.sizes[dim]) for dim in self.signature.dims if dim not in self.variant.sizes]
        return [*values, *dims, *given, ("i8*", temporaries), ("i8*", "null")]

    def _all_known(self, code: HostCode) -> str:
        """Whether the host can read all numbers of the call, an i1."""
        inputs = [argument.name for argument in self.signature.inputs]
        mask = sum(1 << inputs.index(key.split()[1]) for key in self._value_parameters())
        return code.add(f"icmp eq i64 {code.add(f'and i64 %on_host, {mask}')}, {mask}")

    def _launch(
        self,
        code: HostCode,
        part: Part,
        index: int,
        task: ir.Task,
        names: list[str],
        parameters: list[Value],
        known: str,
        copies: str,
    ) -> None:
        if task.turn is None:
            code.launch(names[0], "1", exact=False, parameters=parameters)
            return
        threads = "-1"
        if self.bounds[part.name].known(task):
            room = code.room("i64")
            code.do(f"store i64 -1, i64* {room}")
            _, behind = code.branch(known)
            turns = code.add(f"call i64 @turns_{part.name}_{index}(i64 %rows, i64* %dims, i8** %arrays)")
            code.do(f"store i64 {turns}, i64* {room}")
            code.end(behind)
            threads = code.add(f"load i64, i64* {room}")
        if len(names) == 1:
            code.launch(names[0], threads, exact=False, parameters=parameters)
            return
        count = self._copies(code, (part.name, index))
        few = code.add(f"icmp eq i64 {count}, 0")
        _, behind = code.branch(few)
        code.launch(names[0], threads, exact=False, parameters=parameters)
        code.end(behind)
        _, behind = code.branch(code.add(f"xor i1 {few}, true"))
        self._launch_on_copies(code, (part.name, index), names[1], parameters, count, copies)
        code.end(behind)

    def _launch_on_copies(
        self,
        code: HostCode,
        task: tuple[str, int],
        name: str,
        parameters: list[Value],
        count: str,
        copies: str,
    ) -> None:
        """Runs a loop on copies of what it adds to, and adds these up."""
        targets = self.targets[task]
        temporaries = [target for target in targets if not target.key]
        arrays = [target for target in targets if target.key]
        one = self._copy_bytes(code, task)
        code.fill(copies, code.multiply(count, one) if one.startswith("%") else code.add(f"mul i64 {count}, {one}"))
        given = list(parameters)
        place = {key: at for at, key in enumerate(self._pointer_keys())}
        given[-1] = ("i8*", copies)
        sources = []
        base = copies
        for target in temporaries:
            sources.append((target, base, "1"))
            base = code.add(f"getelementptr i8, i8* {base}, i64 {code.add(f'mul i64 {count}, 8')}")
        for target in arrays:
            elements = self._target_elements(code, target)
            given[place[target.key]] = ("i8*", base)
            sources.append((target, base, elements))
            size = code.add(f"mul i64 {count}, {elements}")
            base = code.add(
                f"getelementptr i8, i8* {base}, i64 {code.add(f'mul i64 {size}, {ITEM_SIZES[target.dtype]}')}"
            )
        code.launch(name, count, exact=True, parameters=given)
        temporaries_at = parameters[-2][1]
        scratch = base
        for target, source, elements in sources:
            if target.key:
                to = self.pointers[target.key]
            else:
                to = code.add(f"getelementptr i8, i8* {temporaries_at}, i64 {target.offset}")
            add_up(code, target.dtype, source, count, [(to, elements)], scratch, add=True)
            size = code.multiply(str(device.SUM_LANES * ITEM_SIZES[target.dtype]), elements)
            scratch = code.add(f"getelementptr i8, i8* {scratch}, i64 {code.round_up(size, 256)}")


def add_up(
    code: HostCode,
    dtype: str,
    source: str,
    copies: str,
    targets: Sequence[tuple[str, str]],
    scratch: str,
    *,
    add: bool,
) -> None:
    """Launches what adds copies up, in their order: in two passes where they are many. `targets` are (array, number of
    its elements), whose copies lie one behind the other in `source`."""
    kind = f"{IR_TYPES[dtype]}*"

    def launch(source: str, copies: str, elements: str, lanes: int, target: str, add: bool) -> None:
        threads = code.multiply(elements, str(lanes))
        parameters = [
            (kind, code.add(f"bitcast i8* {source} to {kind}")),
            ("i64", copies),
            ("i64", elements),
            ("i64", str(lanes)),
            (kind, code.add(f"bitcast i8* {target} to {kind}")),
            ("i32", str(int(add))),
        ]
        code.launch(device.sum_name(dtype), threads, exact=False, parameters=parameters)

    def launch_each(source: str, copies: str) -> None:
        for target, elements in targets:
            launch(source, copies, elements, 1, target, add)
            size = code.multiply(copies, elements, str(ITEM_SIZES[dtype]))
            source = code.add(f"getelementptr i8, i8* {source}, i64 {size}")

    few = code.add(f"icmp sle i64 {copies}, {4 * device.SUM_LANES}")
    _, behind = code.branch(few)
    launch_each(source, copies)
    code.end(behind)
    _, behind = code.branch(code.add(f"xor i1 {few}, true"))
    total = "0"
    for _, elements in targets:
        total = code.add_up(total, elements)
    launch(source, copies, total, device.SUM_LANES, scratch, False)
    launch_each(scratch, str(device.SUM_LANES))
    code.end(behind)


def kernel(name: str, formals: Sequence[str], code: Code, *, alone: bool) -> str:
    """A kernel whose threads run `code`, or the first of them alone."""
    arguments = ", ".join(f"{formal.split()[0]} {formal.split()[-1]}" for formal in formals)
    rooms = [line for line in code.lines if " = alloca " in line]
    others = [line for line in code.lines if " = alloca " not in line]
    lines = [
        f"define internal void @{name}.run({', '.join(formals)}) alwaysinline {{",
        "rooms:",  # LLVM dissolves what is made in the first block only
        *rooms,
        "  br label %entry",
        *others,
        "  ret void",
        "}",
        f"define ptx_kernel void @{name}({', '.join(formals)}) {{",
        "entry:",
    ]
    if alone:
        lines += [
            "  %tiaot.thread = call i64 @tiaot_thread()",
            "  %tiaot.first = icmp eq i64 %tiaot.thread, 0",
            "  br i1 %tiaot.first, label %run, label %end",
            "run:",
        ]
    lines += [
        f"  call void @{name}.run({arguments})",
        *(["  br label %end", "end:"] if alone else []),
        "  ret void",
        "}",
    ]
    return "\n".join(lines)


def is_value(parameter: Parameter, signature: Signature) -> bool:
    """Whether a parameter is an input that kernels take as values, and so from the host's memory too."""
    number = parameter.rank == 0 and not parameter.element and not signature.batch
    return parameter.role == "input" and (parameter.by_value or number)


def _joined(task: ir.Task) -> ir.Function:
    """The lines of a loop's turn and of what is done after all turns of a thread, as one function."""
    functions = [each for each in (task.turn, task.epilogue) if each is not None]
    lines = []
    for place, function in enumerate(functions):
        lines += [re.sub(r"%(?!struct\.)", "%epilogue.", line) if place else line for line in function.body]
    return ir.Function(task.body.parameters, lines)


def _recording(line: str) -> str:
    """A call of gpu_parallel_range_for as one of tiaot_record_range."""
    begin, end = line.split(", ")[1:3]
    return f"  call void @tiaot_record_range(%struct.RuntimeContext* %context, {begin}, {end})"


_RECORD_RANGE = """
define internal void @tiaot_record_range(%struct.RuntimeContext* %c, i32 %begin, i32 %end) alwaysinline {
  %p = getelementptr %struct.RuntimeContext, %struct.RuntimeContext* %c, i32 0, i32 3
  %to = load i64*, i64** %p
  %b = sext i32 %begin to i64
  %e = sext i32 %end to i64
  %d = sub i64 %e, %b
  %any = icmp sgt i64 %d, 0
  %turns = select i1 %any, i64 %d, i64 0
  store i64 %turns, i64* %to
  ret void
}"""

_PRIVATE_POINTER = device.POINTERS.split("define internal i8* @tiaot_summed_pointer")[0]

# copies(largest, one, data): threads, from the elements of the largest array, the bytes of one thread's copies, and the
# bytes of all arrays. As many as the largest array has elements, up to a bound and to what memory they may take.
_COPIES = f"""
define internal i64 @tiaot_copies(i64 %largest, i64 %one, i64 %data) alwaysinline {{
  %up0 = add i64 %largest, {device.BLOCK - 1}
  %up = and i64 %up0, {-device.BLOCK}
  %some = icmp sgt i64 %up, {device.BLOCK}
  %least = select i1 %some, i64 %up, i64 {device.BLOCK}
  %many = icmp sgt i64 %least, {_MOST_COPIES}
  %wanted = select i1 %many, i64 {_MOST_COPIES}, i64 %least
  %data4 = shl i64 %data, 2
  %big = icmp sgt i64 %data4, {_COPIES_BYTES}
  %limit = select i1 %big, i64 %data4, i64 {_COPIES_BYTES}
  %none = icmp eq i64 %one, 0
  %each = select i1 %none, i64 1, i64 %one
  %fit0 = udiv i64 %limit, %each
  %fit = and i64 %fit0, {-device.BLOCK}
  %less = icmp slt i64 %fit, %wanted
  %threads = select i1 %less, i64 %fit, i64 %wanted
  %enough0 = icmp slt i64 %wanted, {_FEWEST_COPIES}
  %enough = select i1 %enough0, i64 %wanted, i64 {_FEWEST_COPIES}
  %too_few = icmp slt i64 %threads, %enough
  %result = select i1 %too_few, i64 0, i64 %threads
  ret i64 %result
}}"""
