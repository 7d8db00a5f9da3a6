"""The kernels of an entry of a whole kernel for CUDA, as LLVM IR text: one for each parallel loop, over the grid, and
for each stretch of statements between them one that runs on a single thread.

Every kernel of an entry has the same parameters: the arrays, the sizes of the dimensions, the values of numbers. Each
thread builds Taichi's argument struct and context of them for itself, which inlining and SROA dissolve, so nothing has
to be copied to the device before a launch. Ranges that follow from shapes and numbers are worked out by each thread
(ranges.py).

In a loop that adds floating-point numbers up atomically the order would show in the result. Where nothing else touches
what is added to (ir/passes/summed.py), there is a second kernel for it, whose threads add to copies of their own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ...author.parameters import Parameter
from ...author.signature import ITEM_SIZES, Signature
from ...dtypes import SUMMED
from ...ir import LoweringError, Task, TracedModule
from ...ir.instructions import AtomicUpdate, Call, Instruction
from ...ir.model import Function
from ...ir.origins import Array, Root, Temporary
from ...ir.passes import summed
from ...ir.passes.atomics import depends_on_order, is_extremum
from ...ir.passes.temporaries import Private, Summed
from ...ir.runtime_calls import used_nodes
from ...ir.tasks import GPU_LOOP
from ...ir.values import Global
from ...keys import Key, Role
from ...state import RootMemory
from ...taichi.trace import Trace
from ...target.nvidia.target import NVIDIA
from .. import fields, support
from ..arguments import SEED, Part, WholeArrays, struct_type
from ..code import IR_TYPES, Code
from ..passes import Atomics, Copies, Plan, prepare, prepare_range
from . import support as device
from .ranges import Bounds, find_bounds

VECTOR_BYTES = 16  # that a device moves at once, at most
BUFFER_BYTES = 256  # that arrays of the workspace start at multiples of
MOST_ROOTS = 256  # that a kernel's parameters, of 4 KiB, have room for beside its arguments

Kinds = Mapping[int, Private | Summed]  # temporaries that are not shared, by their offsets


@dataclass(frozen=True)
class Copied:
    """What the threads of a loop have copies of, to add to: an array or a root of fields by its key, or a temporary by
    its offset."""

    dtype: str
    key: Key | None = None
    slot: Array | None = None
    node: int = -1  # of a root
    offset: int = -1


class WholeKernels(WholeArrays):
    """Written by `text`; `kernel_names` are their names."""

    def __init__(self, signature: Signature, trace: Trace, primal: Trace, symbol: str) -> None:
        super().__init__(signature, trace, primal)
        self.symbol = symbol
        self.roots = self._take_fields()
        self.bounds: dict[str, Bounds] = {part.name: find_bounds(part.module, self.roots) for part in self.parts}
        self.targets = self._targets()
        self.host = False  # whether what is being written runs on the host
        self.own: dict[Key, str] = {}  # in the kernel being written: the thread's copies, by the keys of what they copy
        self.values: dict[Key, str] = {}  # in the function being written: pointers to values, by their keys

    # ---- what is there ----

    def _take_fields(self) -> dict[int, RootMemory]:
        """Brings the steps to elements of fields into their form. The roots that the kernels use, by their numbers.

        Raises:
            LoweringError: when they are too many for parameters of a kernel.
        """
        self.steps = ""
        if self.state is None:
            return {}
        used = used_nodes(text for part in self.parts for text in part.trace.tasks)
        roots = {node: root for node, root in self.state.roots.items() if node in used}
        if len(roots) > MOST_ROOTS:
            raise LoweringError(
                f"{self.trace.kernel}: works on {len(roots)} fields, and kernels for CUDA take up to {MOST_ROOTS}: "
                "place several in one ti.root.dense(...)"
            )
        state = dataclasses.replace(self.state, roots=roots)
        self.steps = fields.definitions(self._modules(), state)
        for part in self.parts:
            part.module = fields.place_lookups(part.module, state)
        return roots

    @property
    def width(self) -> int:
        """Elements that a thread moves at a time, at most."""
        return VECTOR_BYTES // ITEM_SIZES[self.variant.dtype]

    def _root_keys(self) -> list[Key]:
        return [Key(Role.ROOT, str(node)) for node in self.roots]

    def _with_tangents(self, keys: Iterable[Key]) -> dict[Key, Key]:
        """Those of the keys that have tangents, with the keys of these."""
        known = self._keys()
        return {key: key.tangent for key in keys if key.tangent in known}

    def _value_parameters(self) -> dict[Key, Parameter]:
        """Inputs that the kernels take as values, by key."""
        found = {}
        for part in self.parts:
            for parameter in part.parameters:
                if is_value(parameter, self.signature):
                    found[Key(Role.INPUT, parameter.name)] = parameter
        if self.random:
            found.setdefault(Key(Role.INPUT, SEED), Parameter(SEED, "input", "int64", 0, by_value=True))
        return found

    def is_serial(self, task: Task) -> bool:
        """Whether a parallel loop runs on one thread: its tangents follow from the order of its atomic operations."""
        parts = shared_parts(task) if self.along else []
        return any(_orders_tangents(part, each) for part in parts for each in part.instructions)

    def is_atomic(self, task: Task) -> bool:
        return task.turn is not None and not self.is_serial(task) and depends_on_order(shared_parts(task))

    def _targets(self) -> dict[tuple[str, int], list[Copied]]:
        """Of each loop that adds up atomically: what it adds to, where all of that can be copied."""
        found = {}
        for part in self.parts:
            for index, task in enumerate(part.module.tasks):
                found_ = summed.summed(shared_parts(task), self.roots) if self.is_atomic(task) else None
                targets = [self._target(part, task, target) for target in found_ or ()]
                if targets and None not in targets:
                    found[part.name, index] = [target for target in targets if target is not None]
        return found

    def _target(self, part: Part, task: Task, target: summed.Accumulator) -> Copied | None:
        if isinstance(target, Temporary):
            kind = str(summed.added_type(shared_parts(task), target))
            dtype = next((name for name in SUMMED if IR_TYPES[name] == kind), None)
            return Copied(dtype, offset=target.offset) if dtype else None
        if isinstance(target, Root):
            dtype = self.roots[target.node].dtype
            return Copied(dtype, Key(Role.ROOT, str(target.node)), node=target.node) if dtype in SUMMED else None
        if not isinstance(target, Array):
            return None
        key = self._summed_key(part, target)
        return None if key is None else Copied(part.parameters[target.index].dtype, key, target)

    # ---- the parameters of every kernel ----

    def _pointer_keys(self) -> list[Key]:
        arrays = [key for key in self._arrays() if key.role is not Role.STATE]
        roots = self._root_keys()
        tangents = self._with_tangents(roots).values()
        return [*arrays, *roots, *tangents, *(buffer.key for buffer in self.buffers)]

    def _formals(self, *, aligned: bool = False) -> list[str]:
        read_only = {key for key in self._arrays() if key.role in (Role.INPUT, Role.COTANGENT)}
        ours = {buffer.key for buffer in self.buffers}
        pointers = []
        for key in self._pointer_keys():
            attributes = ["noalias", *(["readonly"] if key in read_only else [])]
            if key in ours or aligned:
                attributes.append(f"align {BUFFER_BYTES if key in ours else VECTOR_BYTES}")
            pointers.append(f"i8* {' '.join(attributes)} {key.register}")
        dims = [f"i64 %dim_{dim}" for dim in self.signature.dims if dim not in self.variant.sizes]
        values = [
            f"{IR_TYPES[parameter.dtype]} {register}"
            for key, parameter in self._value_keys().items()
            for register in _value_registers(key, parameter)
        ]
        shared = [f"i8* noalias %{name}" for name in self._shared_names()]
        return [*pointers, *dims, *values, *shared]

    def _shared_names(self) -> list[str]:
        """The last parameters: memory of the workspace that is no array."""
        names = ["temporaries", "summed"]
        return [*names, *(f"tangent_{name}" for name in names)] if self.along else names

    def _value_keys(self) -> dict[Key, Parameter]:
        """Inputs that the kernels take as values, and their tangents, by key."""
        values = self._value_parameters()
        return {**values, **{tangent: values[key] for key, tangent in self._with_tangents(values).items()}}

    def shadows(self) -> dict[str, dict[str, str]]:
        """Of each function to differentiate the parameters with a tangent, or that point to memory with a shadow."""
        values = self._value_parameters()
        pairs = {key.register: tangent.register for key, tangent in self._with_tangents(self._pointer_keys()).items()}
        for key, tangent in self._with_tangents(values).items():
            registers = (_value_registers(each, values[key]) for each in (key, tangent))
            pairs.update(zip(*registers, strict=True))
        names = {register[1:]: tangent[1:] for register, tangent in pairs.items()}
        names |= {name: f"tangent_{name}" for name in ("temporaries", "summed")}
        return {f"{name}.run": names for name in self.kernel_names()}

    # ---- the device ----

    def kernel_names(self) -> list[str]:
        """Its own kernels."""
        return [
            name
            for part in self.parts
            for index in range(len(part.module.tasks))
            for name in [*self._names(part, index), *self._aligned_names(part, index)]
        ]

    def _aligned_names(self, part: Part, index: int) -> list[str]:
        """The kernel that has a loop of a `written` kernel once more, for arrays whose rows start at multiples of 16
        bytes: a thread then moves four float32 at a time. Arrays of the workspace lie so in any case."""
        names = self._names(part, index)
        task = part.module.tasks[index]
        suits = task.turn is not None and not self.is_serial(task) and bool(self._row_dims())
        return [f"{names[0]}_aligned"] if suits and len(names) == 1 else []

    def _row_dims(self) -> list[str]:
        """Dimensions of unknown size that are the length of a row, of an entry that has kernels for aligned arrays. One
        with tangents has none: its code is twice as long as it is."""
        arguments = self.signature.arguments
        plain = (
            self.state is None
            and not self.along
            and {self.dtypes[argument.name] for argument in arguments} == {self.variant.dtype}
        )
        rows = [argument.dims[-1] for argument in arguments if len(argument.dims) > 1]
        return list(dict.fromkeys(rows)) if plain and not self.trace.autodiff and not self.variant.sizes else []

    def _names(self, part: Part, index: int) -> list[str]:
        bounds = self.bounds[part.name]
        if index in bounds.prelude and index not in bounds.shared:
            return []
        name = f"{self.symbol}_{part.name}_{index}"
        return [name, f"{name}_copies"] if (part.name, index) in self.targets else [name]

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
                kinds = dict.fromkeys(bounds.private, Private())
                if index in bounds.prelude:
                    kinds = {}
                texts.append(self._device_task(part, task, kinds, stack_values).text(f"{part.name}_{index}"))
                kernels.append(self._kernel(part, index, names[0], f"{part.name}_{index}", {}))
                for name in self._aligned_names(part, index):
                    kernels.append(self._kernel(part, index, name, f"{part.name}_{index}", {}, aligned=True))
                if len(names) == 2:
                    targets = self.targets[part.name, index]
                    copied = self._copying_task(part, task, kinds, targets, stack_values)
                    texts.append(copied.text(f"{part.name}_{index}_copies"))
                    own = {target.key: target for target in targets if target.key}
                    kernels.append(self._kernel(part, index, names[1], f"{part.name}_{index}_copies", own))
        modules = [part.module for part in self.parts]
        local_bytes = max([task.local_bytes for module in modules for task in module.tasks], default=1)
        seed = device.SEED_TURN if self.random else ""
        return "\n".join(
            [
                *dict.fromkeys(line for module in modules for line in module.type_lines),
                device.TYPES,
                *texts,
                *kernels,
                NVIDIA.threads,
                device.POINTERS,
                device.COPIED,
                self.steps,
                device.range_for("grid", local_bytes, seed),
                device.range_for("thread", local_bytes, seed, device.SERIAL_LOOP) if self.along else "",
                device.definitions(modules, stack_values, mathematical=not self.along),
            ]
        )

    def _private(self, task: Task) -> Task:
        """A task of the prelude, all of whose temporaries are the thread's own."""
        offsets = dict.fromkeys(range(support.temporaries_bytes(self._modules())), Private())
        return Task(task.name, prepare_range(task.body, offsets))

    def _modules(self) -> list[TracedModule]:
        return [part.module for part in self.parts]

    def _device_task(self, part: Part, task: Task, kinds: Kinds, stack_values: int) -> Task:
        serial = self.is_serial(task)
        atomics = Atomics.PLAIN if serial else Atomics.STAY if task.turn else Atomics.PLAIN_SUMS
        plan = Plan(self._layout(part), atomics, kinds, stack_values=stack_values)
        prepared = task.changed(lambda function: prepare(function, plan, NVIDIA))
        return prepared.changed(lambda function: function.rewritten(_on_one_thread)) if serial else prepared

    def _copying_task(self, part: Part, task: Task, kinds: Kinds, targets: list[Copied], stack_values: int) -> Task:
        """The same, adding to copies of the targets that each thread has for itself."""
        slots = {(target.slot.index, target.slot.field) for target in targets if target.slot}
        nodes = {target.node for target in targets if target.node >= 0}
        places = {node: place for place, node in enumerate(self.roots) if node in nodes}
        temporaries = [target for target in targets if not target.key]
        kinds = {**kinds, **{each.offset: Summed(at, ITEM_SIZES[each.dtype]) for at, each in enumerate(temporaries)}}

        copies = Copies(lambda *slot: slot in slots, places, self.roots)
        plan = Plan(self._layout(part), Atomics.SUMS_APART, kinds, copies=copies, stack_values=stack_values)
        return task.changed(lambda function: prepare(function, plan, NVIDIA))

    def _kernel(
        self,
        part: Part,
        index: int,
        name: str,
        functions: str,
        copied: dict[Key, Copied],
        *,
        aligned: bool = False,
    ) -> str:
        code = Code({dim: str(self.variant.sizes.get(dim, f"%dim_{dim}")) for dim in self.signature.dims})
        code.label("entry")
        for dim in self._row_dims() if aligned else ():  # what the host has found, said so that LLVM sees it
            code.sizes[dim] = code.add(f"and i64 %dim_{dim}, {-self.width}")
        if self.signature.batch:
            code.sizes["rows"] = code.sizes[self.signature.batch]
        task = part.module.tasks[index]
        self.own = {key: f"{key.register}.own" for key in copied}
        for key, target in copied.items():  # their tangents lie likewise
            at = code.add(f"mul i64 {code.add('call i64 @tiaot_thread()')}, {ITEM_SIZES[target.dtype]}")
            code.do(f"{self.own[key]} = getelementptr i8, i8* {key.register}, i64 {at}")
        before = self._take_values(code)
        seed = "0"
        if self.random:
            raw = code.add(f"bitcast i8* {self.values[Key(Role.INPUT, SEED)]} to i64*")
            task_number = (index + 1) * 0x9E3779B97F4A7C15 % (1 << 63)
            mixed = code.add(f"xor i64 {code.add(f'load i64, i64* {raw}')}, {task_number}")
            seed = code.add(f"call i64 @tiaot_mix(i64 {mixed})")
        self._context(code, part, seed)
        for each in sorted(self.bounds[part.name].prelude):
            if each < index:
                code.do(f"call void @{part.name}_{each}_private_body(%struct.RuntimeContext* %context)")
        code.do(f"call void @{functions}_body(%struct.RuntimeContext* %context)")
        self.own, self.values = {}, {}
        alone = task.turn is None or self.is_serial(task)
        return kernel(name, self._formals(aligned=aligned), code, before, alone=alone, inlined=not self.along)

    def _take_values(self, code: Code) -> Before:
        """Puts the numbers of a call where the struct is filled from. They come as values or in the device's memory,
        from where they are read before: a function that is differentiated gets them, and their tangents, as values."""
        self.values = {}
        before = Before(Code({}), {})
        for key, parameter in self._value_keys().items():
            element = IR_TYPES[parameter.dtype]
            registers = _value_registers(key, parameter)
            label = key.register[1:]
            outer = before.code
            given = outer.add(f"icmp ne i8* {key.register}, null")
            outer.do(f"br label %{label}.begin")
            outer.label(f"{label}.begin")
            outer.do(f"br i1 {given}, label %{label}.read, label %{label}.end")
            outer.label(f"{label}.read")
            typed = outer.add(f"bitcast i8* {key.register} to {element}*")
            loaded = []
            for place in range(len(registers)):
                pointer = outer.add(f"getelementptr {element}, {element}* {typed}, i64 {place}")
                loaded.append(outer.add(f"load {element}, {element}* {pointer}"))
            outer.do(f"br label %{label}.end")
            outer.label(f"{label}.end")
            for register, value in zip(registers, loaded, strict=True):
                there = f"[ {register}, %{label}.begin ], [ {value}, %{label}.read ]"
                before.values[register] = outer.add(f"phi {element} {there}")
            if key.is_tangent:
                continue
            kind = f"[{len(registers)} x {element}]"
            room = code.add(f"alloca {kind}, align 8")
            self.values[key] = code.add(f"bitcast {kind}* {room} to i8*")
            for place, register in enumerate(registers):
                slot = code.add(f"getelementptr {kind}, {kind}* {room}, i64 0, i64 {place}")
                code.do(f"store {element} {register}, {element}* {slot}")
        return before

    def _context(self, code: Code, part: Part, seed: str) -> None:
        """Builds %context, with the struct and the frame that it points to."""
        code.do("%context = alloca %struct.RuntimeContext")
        kind = struct_type(part.parameters)
        struct = code.add(f"alloca {kind}")
        room = max(support.temporaries_bytes(self._modules()), 1)
        private = code.add(f"alloca [{room} x i8], align 16")
        raw = code.add(f"bitcast [{room} x i8]* {private} to i8*")
        shared, summed = ("null", "null") if self.host else ("%temporaries", "%summed")
        frame = device.make_frame(code, shared, raw, summed, seed, self._roots(code))
        members = {
            0: ("i8*", code.add(f"bitcast {kind}* {struct} to i8*")),
            1: ("%struct.LLVMRuntime*", frame),
        }
        if part.result is not None and not self.host:
            members[3] = ("i64*", code.add(f"bitcast i8* {Key(Role.OUTPUT, part.result.name).register} to i64*"))
        support.fill_context(code, "%context", members)
        self._fill_struct(code, part, kind, struct)

    def _roots(self, code: Code) -> str:
        """An array with the roots of the fields, in their order, as an i8*."""
        if not self.roots or self.host:
            return "null"
        kind = f"[{len(self.roots)} x i8*]"
        array = code.add(f"alloca {kind}")
        for place, key in enumerate(self._root_keys()):
            slot = code.add(f"getelementptr {kind}, {kind}* {array}, i64 0, i64 {place}")
            code.do(f"store i8* {self.own.get(key, key.register)}, i8** {slot}")
        return code.add(f"bitcast {kind}* {array} to i8*")

    def _data(self, part: Part, parameter: Parameter) -> str:
        key = self._data_key(part, parameter)
        if key in self.values:
            return self.values[key]
        own = None if key is None else self.own.get(key)
        return "null" if self.host else own or super()._data(part, parameter)

    def _gradient(self, part: Part, parameter: Parameter) -> str:
        key = self._gradient_key(part, parameter)
        own = None if key is None else self.own.get(key)
        return "null" if self.host else own or super()._gradient(part, parameter)


@dataclass(frozen=True)
class Before:
    """What a kernel does before its `code`: instructions, and the values that take the place of its parameters."""

    code: Code
    values: dict[str, str]


def kernel(
    name: str, formals: Sequence[str], code: Code, before: Before | None = None, *, alone: bool, inlined: bool
) -> str:
    """A kernel whose threads run `code`, or the first of them alone. Where it is not `inlined` it is a function,
    NAME.run."""
    values = {} if before is None else before.values
    registers = [formal.split()[-1] for formal in formals]
    arguments = ", ".join(
        f"{formal.split()[0]} {values.get(register, register)}"
        for formal, register in zip(formals, registers, strict=True)
    )
    rooms = [line for line in code.lines if " = alloca " in line]
    others = [line for line in code.lines if " = alloca " not in line]
    lines = [
        f"define internal void @{name}.run({', '.join(formals)}) {'alwaysinline' if inlined else 'noinline'} {{",
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
        *([] if before is None else before.code.lines),
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


def _value_registers(key: Key, parameter: Parameter) -> list[str]:
    """The parameters with a number, or with the elements of one by value that is a vector or a matrix."""
    stem = f"%{'tangent_' * key.is_tangent}value_{key.name}"
    return [f"{stem}_{place}" for place in range(max(parameter.element_count, 1))]


def _orders_tangents(function: Function, instruction: Instruction) -> bool:
    """Whether what an atomic operation of floating-point numbers finds there, or leaves there, is of one of several
    threads, whose tangent then has to be that thread's, too."""
    if isinstance(instruction, AtomicUpdate) and instruction.value.type.is_float:
        return instruction.operation not in ("fadd", "fsub") or bool(function.users(instruction.result))
    return is_extremum(instruction)


def _on_one_thread(instruction: Instruction) -> Call | None:
    """A call of the loop over the grid as one of the loop on one thread."""
    if not isinstance(instruction, Call) or instruction.name != GPU_LOOP:
        return None
    return dataclasses.replace(instruction, callee=Global(instruction.callee.type, device.SERIAL_LOOP))


def shared_parts(task: Task) -> list[Function]:
    """A loop's turn, and what is done after all turns of a thread: what its threads do beside one another."""
    return [each for each in (task.turn, task.epilogue) if each is not None]
