"""Entries of whole kernels for CUDA: the function that launches their kernels (kernels.py), one after another.

How many threads a loop has follows from its range, which the host works out as the threads do (ranges.py). A loop that
adds floating-point numbers up atomically runs on copies of what it adds to, whose number follows from the sizes of the
arrays alone, and which are added up in their order; where copies would be much beside the data, the additions are
atomic.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping

from ...abi import ORDERED, ORDERED_IF_SMALL, UNORDERED
from ...author.signature import ITEM_SIZES
from ...ir import Task
from ...ir.instructions import Call, Instruction
from ...ir.passes.temporaries import Private
from ...ir.tasks import GPU_LOOP
from ...ir.types import VOID, FunctionType, Pointer
from ...ir.values import Global, integer_of
from ...ir.writer import write_function
from ...keys import STATE, Key
from ...target.nvidia.target import NVIDIA
from .. import support
from ..arguments import Part
from ..code import IR_TYPES, Code
from ..passes import prepare_range
from . import support as device
from .copies import COPIES_BYTES, COUNT_COPIES, FEWEST_COPIES, MOST_COPIES, SUM_LANES, add_up
from .host import TYPES as HOST_TYPES
from .host import HostCode, Value
from .kernels import BUFFER_BYTES, VECTOR_BYTES, Copied, WholeKernels

_HOST_NAMES = ("RuntimeContext_get_runtime", "min_i32", "max_i32")


class Shared(enum.Enum):
    """Memory of the workspace that is no array."""

    TEMPORARIES = "what the tasks of a call hand on to one another"
    TANGENT_TEMPORARIES = "the tangents of these"
    COPIES = "what the threads of a loop add to"


class CudaWholeEntry(WholeKernels):
    """One entry: `text`, the kernels; `host_text`, the function that launches them."""

    any_rows = False

    # ---- what is there ----

    @property
    def order(self) -> int:
        """One of module.h's TIAOT_CUDA_ORDERED...: whether the order of atomic operations can show in results."""
        atomic = [
            (part.name, index)
            for part in self.parts
            for index, task in enumerate(part.module.tasks)
            if self.is_atomic(task)
        ]
        if any(task not in self.targets for task in atomic):
            return UNORDERED
        if not all(map(self._roots_fit, self.targets)):
            return ORDERED_IF_SMALL if self.signature.arguments else UNORDERED
        arrays = [target for targets in self.targets.values() for target in targets if target.key]
        return ORDERED_IF_SMALL if any(self._is_open(target) for target in arrays) else ORDERED

    def _roots_fit(self, task: tuple[str, int]) -> bool:
        """Whether a loop adds to copies of the roots that it adds to, whatever the arrays of a call."""
        halves = 2 if self.along else 1
        roots = [self.roots[target.node].bytes * halves for target in self.targets[task] if target.node >= 0]
        if not roots:
            return True
        assert self.state is not None
        wanted = min(max(-(-self._most_turns(task) // NVIDIA.block) * NVIDIA.block, NVIDIA.block), MOST_COPIES)
        fitting = max(4 * self.state.bytes, COPIES_BYTES) // sum(roots)
        return fitting // NVIDIA.block * NVIDIA.block >= min(wanted, FEWEST_COPIES)

    def _most_turns(self, task: tuple[str, int]) -> int:
        """How many turns of a loop over fields are to be expected: what it says, or the elements of the largest
        field."""
        name, index = task
        body = next(part for part in self.parts if part.name == name).module.tasks[index].body
        loop = next(each for each in body.instructions if isinstance(each, Call) and each.name == GPU_LOOP)
        begin, end = map(integer_of, loop.arguments[1:3])
        if begin is not None and end is not None:
            return max(end - begin, 0)
        assert self.state is not None
        return max(math.prod(field.shape) for field in self.state.fields)

    def _is_open(self, target: Copied) -> bool:
        """Whether an array may be too large to be copied."""
        assert target.key is not None
        if target.node >= 0:
            return False  # its size is fixed
        dims = self.signature.argument(target.key.name).dims
        fixed = math.prod(self.variant.sizes.get(dim, COPIES_BYTES) for dim in dims)
        halves = 2 if self.along else 1
        return fixed * ITEM_SIZES[target.dtype] * halves * FEWEST_COPIES > COPIES_BYTES

    # ---- the host ----

    def _place(self, code: Code, offsets: dict[Key | Shared, tuple[str, str]]) -> str:
        """Lays the workspace out: `offsets` by key (offset, bytes). The size of all."""
        total = "0"

        def add(key: Key | Shared, size: str) -> None:
            nonlocal total
            offsets[key] = total, size
            total = code.add_up(total, code.round_up(size, BUFFER_BYTES))

        for buffer in self.buffers:
            add(buffer.key, self._bytes(code, buffer))
        for shared in (Shared.TEMPORARIES, *([Shared.TANGENT_TEMPORARIES] if self.along else [])):
            add(shared, str(support.temporaries_bytes(self._modules())))
        if self.targets:  # all loops use the same memory, each as much as it needs
            most = "0"
            for task in self.targets:
                most = code.larger(self._copies_bytes(code, task), most)
            add(Shared.COPIES, most)
        return total

    def _target_elements(self, code: Code, target: Copied) -> str:
        if not target.key:
            return "1"
        if target.node >= 0:
            return str(self.roots[target.node].bytes // ITEM_SIZES[target.dtype])
        return self._elements(code, self.signature.argument(target.key.name))

    def _copy_bytes(self, code: Code, task: tuple[str, int]) -> str:
        """Bytes of what one thread adds to, without its tangents."""
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
        if self.state is not None:
            data, largest = str(self.state.bytes), str(self._most_turns(task))
        for argument in dict.fromkeys(self.signature.arguments):
            size = self._argument_bytes(code, argument.name)
            data = code.add_up(data, size)
            largest = code.larger(self._elements(code, argument), largest)
        one = code.multiply(self._copy_bytes(code, task), "2" if self.along else "1")
        arguments = f"i64 {largest}, i64 {one}, i64 {data}"
        return code.add(f"call i64 @tiaot_copies({arguments})")

    def _copies_bytes(self, code: Code, task: tuple[str, int]) -> str:
        threads = self._copies(code, task)
        lanes = str(SUM_LANES * 256)  # and the sums of the first pass, of which each is rounded up
        one = self._copy_bytes(code, task)
        room = code.add(f"mul i64 {threads}, {one}")
        passes = code.add(f"mul i64 {one}, {SUM_LANES}")
        padded = code.add_up(code.add_up(room, passes), lanes)
        any_ = code.add(f"icmp sgt i64 {threads}, 0")
        all_ = code.multiply(padded, "2" if self.along else "1")
        return code.add(f"select i1 {any_}, i64 {all_}, i64 0")

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
        declared = {name: function for module in modules for name, function in module.declarations.items()}
        result = "\n".join(
            [
                *dict.fromkeys(line for module in modules for line in module.type_lines),
                device.TYPES,
                HOST_TYPES,
                *texts,
                _PRIVATE_POINTER,
                _RECORD_RANGE,
                COUNT_COPIES,
                own,
                *(write_function(each) for each in declared.values() if each.name.startswith("llvm.")),
                code.text(symbol),
                self.workspace_text(f"{symbol}_workspace"),
            ]
        )
        self.host = False
        return result

    def _turns(self, part: Part, index: int, task: Task) -> str:
        """`i64 @turns_PART_INDEX(rows, dims, arrays)`: how many turns a loop has, from shapes and numbers."""
        name = f"{part.name}_{index}_range"
        kinds = dict.fromkeys(self.bounds[part.name].private, Private())
        range_ = Task(task.name, prepare_range(task.body, kinds).rewritten(_recording))
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
        return "\n".join([range_.text(name), head, *code.lines, "}"])

    def _host_code(self) -> HostCode:
        code = HostCode()
        self._load_sizes(code)
        self.pointers = {}
        keys = self._arrays()
        for index, key in enumerate(keys):
            slot = code.add(f"getelementptr i8*, i8** %arrays, i64 {index}")
            self.pointers[key] = code.add(f"load i8*, i8** {slot}")
        for key, root in zip(self._root_keys(), self.roots.values(), strict=True):
            self.pointers[key] = code.add(f"getelementptr i8, i8* {self.pointers[STATE]}, i64 {root.offset}")
            if self.along:
                tangents = self.pointers[STATE.tangent]
                self.pointers[key.tangent] = code.add(f"getelementptr i8, i8* {tangents}, i64 {root.offset}")
        offsets: dict[Key | Shared, tuple[str, str]] = {}
        self._place(code, offsets)
        places = {key: code.add(f"getelementptr i8, i8* %workspace, i64 {at}") for key, (at, _) in offsets.items()}
        self.pointers.update({key: places[key] for key in places if isinstance(key, Key)})
        for start in self._starts(code, {buffer.key: offsets[buffer.key][1] for buffer in self.buffers}):
            if start.source is None:
                code.fill(self.pointers[start.key], start.bytes)
            else:
                code.copy(self.pointers[start.key], self.pointers[start.source], start.bytes)
        parameters = self._parameters(code, places)
        known = self._all_known(code)
        self.aligned = self._all_aligned(code) if any("_aligned" in name for name in self.kernel_names()) else ""
        for part in self.parts:
            for index, task in enumerate(part.module.tasks):
                if names := self._names(part, index):
                    self._launch(code, part, index, task, names, parameters, known, places.get(Shared.COPIES, "null"))
        return code

    def _parameters(self, code: HostCode, places: Mapping[Key | Shared, str]) -> list[Value]:
        """What the kernels are given, in the order of `_formals` in kernels.py, without copies."""
        values: list[Value] = []
        given: dict[Key, list[Value]] = {}
        arrays = self._arrays()
        small = self._value_keys()
        for key in self._pointer_keys():
            pointer = self.pointers[key]
            if key in small:
                parameter = small[key]
                element = IR_TYPES[parameter.dtype]
                bit = 1 << arrays.index(key)
                here = code.add(f"icmp ne i64 {code.add(f'and i64 %on_host, {bit}')}, 0")
                count = max(parameter.element_count, 1)
                room = code.room(f"[{count} x {element}]")
                code.do(f"store [{count} x {element}] zeroinitializer, [{count} x {element}]* {room}")
                local = code.add(f"bitcast [{count} x {element}]* {room} to {element}*")
                typed = code.add(f"bitcast i8* {pointer} to {element}*")
                source = code.add(f"select i1 {here}, {element}* {typed}, {element}* {local}")
                for place in range(count):
                    slot = code.add(f"getelementptr {element}, {element}* {source}, i64 {place}")
                    given.setdefault(key, []).append((element, code.add(f"load {element}, {element}* {slot}")))
                pointer = code.add(f"select i1 {here}, i8* null, i8* {pointer}")
            values.append(("i8*", pointer))
        dims = [("i64", code.sizes[dim]) for dim in self.signature.dims if dim not in self.variant.sizes]
        numbers = [value for key in small for value in given[key]]
        shared = [*([Shared.TANGENT_TEMPORARIES] if self.along else [])]
        pairs = [("i8*", pointer) for each in (Shared.TEMPORARIES, *shared) for pointer in (places[each], "null")]
        return [*values, *dims, *numbers, *pairs]

    def _all_aligned(self, code: HostCode) -> str:
        """Whether the rows of all arrays of the call start at multiples of 16 bytes, an i1."""
        bits = "0"
        for key in self._arrays():
            address = code.add(f"ptrtoint i8* {self.pointers[key]} to i64")
            bits = code.add(f"or i64 {bits}, {address}")
        for dim in self._row_dims():
            size = code.multiply(code.sizes[dim], str(ITEM_SIZES[self.variant.dtype]))
            bits = code.add(f"or i64 {bits}, {size}")
        return code.add(f"icmp eq i64 {code.add(f'and i64 {bits}, {VECTOR_BYTES - 1}')}, 0")

    def _all_known(self, code: HostCode) -> str:
        """Whether the host can read all numbers of the call, an i1."""
        arrays = self._arrays()
        mask = sum(1 << arrays.index(key) for key in self._value_parameters())
        return code.add(f"icmp eq i64 {code.add(f'and i64 %on_host, {mask}')}, {mask}")

    def _launch(
        self,
        code: HostCode,
        part: Part,
        index: int,
        task: Task,
        names: list[str],
        parameters: list[Value],
        known: str,
        copies: str,
    ) -> None:
        if task.turn is None or self.is_serial(task):
            code.launch(names[0], "1", exact=False, parameters=parameters)
            return
        threads = "-1"
        if self.bounds[part.name].known(task):
            room = code.room("i64")
            code.do(f"store i64 -1, i64* {room}")
            with code.when(known):
                turns = code.add(f"call i64 @turns_{part.name}_{index}(i64 %rows, i64* %dims, i8** %arrays)")
                code.do(f"store i64 {turns}, i64* {room}")
            threads = code.add(f"load i64, i64* {room}")
        if aligned := self._aligned_names(part, index):
            with code.when(self.aligned):
                code.launch(aligned[0], threads, exact=False, parameters=parameters)
            with code.when(code.add(f"xor i1 {self.aligned}, true")):
                code.launch(names[0], threads, exact=False, parameters=parameters)
            return
        if len(names) == 1:
            code.launch(names[0], threads, exact=False, parameters=parameters)
            return
        count = self._copies(code, (part.name, index))
        few = code.add(f"icmp eq i64 {count}, 0")
        with code.when(few):
            code.launch(names[0], threads, exact=False, parameters=parameters)
        with code.when(code.add(f"xor i1 {few}, true")):
            self._launch_on_copies(code, (part.name, index), names[1], parameters, count, copies)

    def _launch_on_copies(
        self,
        code: HostCode,
        task: tuple[str, int],
        name: str,
        parameters: list[Value],
        count: str,
        copies: str,
    ) -> None:
        """Runs a loop on copies of what it adds to, and adds these up: first what it adds to, then the tangents of
        that, whose copies lie behind the others in the same order."""
        targets = sorted(self.targets[task], key=lambda target: target.key is not None)  # temporaries first
        one = self._copy_bytes(code, task)
        halves = (False, True) if self.along else (False,)
        code.fill(copies, code.multiply(count, one, str(len(halves))))
        given = list(parameters)
        places = {key: at for at, key in enumerate(self._pointer_keys())}
        names = self._shared_names()
        sources = []
        base = copies
        for of_tangents in halves:
            summed = names.index("tangent_summed" if of_tangents else "summed") - len(names)
            given[summed] = ("i8*", base)
            for target in targets:
                elements, size = "1", "8"
                pointer = parameters[summed - 1][1]
                if target.key is None:
                    pointer = code.add(f"getelementptr i8, i8* {pointer}, i64 {target.offset}")
                else:
                    key = target.key.tangent if of_tangents else target.key
                    elements, size = self._target_elements(code, target), str(ITEM_SIZES[target.dtype])
                    pointer = self.pointers[key]
                    given[places[key]] = ("i8*", base)
                sources.append((target.dtype, base, pointer, elements))
                ahead = code.multiply(count, elements, size)
                base = code.add(f"getelementptr i8, i8* {base}, i64 {ahead}")
        code.launch(name, count, exact=True, parameters=given)
        scratch = base
        for dtype, source, target_pointer, elements in sources:
            add_up(code, dtype, source, count, [(target_pointer, elements)], scratch, add=True)
            size = code.multiply(str(SUM_LANES * ITEM_SIZES[dtype]), elements)
            scratch = code.add(f"getelementptr i8, i8* {scratch}, i64 {code.round_up(size, 256)}")


def _recording(instruction: Instruction) -> Call | None:
    """A call of gpu_parallel_range_for as one of tiaot_record_range."""
    if not isinstance(instruction, Call) or instruction.name != GPU_LOOP:
        return None
    arguments = instruction.arguments[:3]
    kind = FunctionType(VOID, tuple(each.type for each in arguments))
    return Call(None, VOID, Global(Pointer(kind), "tiaot_record_range"), arguments)


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
