"""What the arrays of a whole kernel are, on any target: those that the entry is given, those that it makes itself, and
Taichi's argument struct over them. Knows nothing of how the tasks run.

What Taichi does to its arguments is hidden: outputs start as zeros, an updated argument is copied first, and an adjoint
gets copies of the cotangents, which it zeroes, and gradients that are zero, to which it adds. Where it reads what the
kernel computed, the kernel runs first, into memory of its own. Nothing of that is done to fields: they are state, which
a kernel changes in place, and their adjoint finds them as the kernel has left them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from ..author.declare import Variant
from ..author.parameters import Parameter
from ..author.signature import ITEM_SIZES, Argument, Signature
from ..dtypes import SUMMED
from ..ir import LoweringError, TracedModule, read_tasks
from ..ir.origins import Array, Layout
from ..keys import STATE, Key, Role, with_tangents
from ..taichi.trace import Trace
from . import support
from .code import IR_TYPES, Code

_OWN = ("scratch", "kept")  # the roles of parameters that are no argument of the signature
SEED = "seed"  # the input that random numbers are drawn from


@dataclass
class Buffer:
    """Memory of the workspace: for the array `key`, as many elements as `argument` or the scratch `shape` has."""

    key: Key
    dtype: str
    argument: Argument | None
    shape: tuple[str, ...]
    bytes: int = 0  # where neither says it


@dataclass(frozen=True)
class Start:
    """What an array of so many bytes holds before the tasks run: zeros, or what `source` holds."""

    key: Key
    bytes: str
    source: Key | None = None


@dataclass
class Part:
    """A traced kernel that the entry runs: the primal, or what the entry is for."""

    name: str
    trace: Trace
    module: TracedModule

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        return tuple(parameter for parameter in self.trace.parameters if parameter.role != "result")

    @property
    def result(self) -> Parameter | None:
        return next((parameter for parameter in self.trace.parameters if parameter.role == "result"), None)


class WholeArrays:
    """The arrays of one entry, by keys: a role and a name."""

    def __init__(self, signature: Signature, trace: Trace, primal: Trace) -> None:
        self.signature = signature
        self.along = trace.along
        self.trace = trace
        self.variant: Variant = trace.variant
        self.state = trace.state
        self.differentiate = trace.autodiff and bool(trace.wrt)
        self.inputs = {argument.name: argument for argument in signature.inputs}
        self.outputs = {argument.name: argument for argument in signature.outputs}
        self.dtypes = {p.name: p.dtype for p in (*primal.parameters, *trace.parameters) if p.role not in _OWN}
        self.dtypes.setdefault(SEED, "int64")
        self.parts = [Part("task", trace, read_tasks(trace.tasks))]
        self.replays = trace.derivative == "tiaot" and self._reads_primal(self.parts[0])
        if trace.on_state and not self.replays:
            self._check_scratch(self.parts[0])
        elif trace.wrt and not self.replays and self._reads_primal(self.parts[0]):
            self.parts.insert(0, Part("primal", primal, read_tasks(primal.tasks)))
        self._check_gradients()
        self.random = support.uses_random(part.module for part in self.parts)
        if self.random and SEED not in self.inputs:
            raise LoweringError(
                f"{trace.kernel}: draws random numbers: add '{SEED}' to the inputs of its signature, an integer that "
                "they follow from"
            )
        if signature.batch:
            support.refuse_random(trace.kernel, (part.module for part in self.parts))
        self.buffers = self._buffers()
        self.pointers: dict[Key, str] = {}  # where the entry has its arrays, by their keys

    # ---- what the adjoint needs ----

    def _reads_primal(self, part: Part) -> bool:
        """Whether outputs, or updated arrays and scratch as the kernel leaves them, are read."""
        roles = ("output", "updated", "scratch") if part.trace.autodiff else ("output", "updated")
        return any(part.module.may_touch(i, 1) for i, p in enumerate(part.parameters) if p.role in roles)

    def _check_scratch(self, part: Part) -> None:
        for index, parameter in enumerate(part.parameters):
            if parameter.role == "scratch" and part.module.may_touch(index, 1):
                raise LoweringError(
                    f"{self.trace.kernel}: its adjoint needs what the kernel left in the scratch array "
                    f"{parameter.name!r}: make it a field"
                )

    def _check_gradients(self) -> None:
        for part in self.parts:
            if part.name == "task" and self.differentiate:
                continue
            for index, parameter in enumerate(part.parameters):
                if parameter.gradient and part.module.may_touch(index, 2):
                    name = parameter.name
                    raise LoweringError(
                        f"{self.trace.kernel}: uses the gradient {name}.grad itself, which only the adjoint may: name "
                        "the array as an argument of its own"
                    )

    def _buffers(self) -> list[Buffer]:
        buffers: dict[Key, Buffer] = {}

        def need(key: Key, dtype: str, argument: Argument | None, shape: tuple[str, ...] = ()) -> None:
            buffers.setdefault(key, Buffer(key, dtype, argument, shape))

        for part in self.parts:
            for parameter in part.parameters:
                name = parameter.name
                if parameter.role == "scratch":
                    need(
                        Key(Role.SCRATCH, name), parameter.dtype, None, (*parameter.shape, *map(str, parameter.element))
                    )
                    if parameter.gradient:
                        need(
                            Key(Role.SCRATCH_GRADIENT, name),
                            parameter.dtype,
                            None,
                            buffers[Key(Role.SCRATCH, name)].shape,
                        )
                elif parameter.role == "kept":
                    shape = (*parameter.shape, *map(str, parameter.element))
                    need(Key(Role.KEPT, name), parameter.dtype, None, shape)
                elif self.trace.wrt and parameter.role == "output":
                    if part.name == "primal" or self.replays:
                        need(Key(Role.PRIMAL, name), parameter.dtype, self.outputs[name])
                    if parameter.gradient:
                        need(Key(Role.ADJOINT, name), parameter.dtype, self.outputs[name])
                elif self.trace.wrt and parameter.role == "updated":
                    if part.name == "primal" or self.replays:
                        need(Key(Role.PRIMAL, name), parameter.dtype, self.outputs[name])
                    if parameter.gradient and name not in self.trace.wrt:
                        need(Key(Role.ADJOINT, name), parameter.dtype, self.outputs[name])
                elif parameter.role == "input" and parameter.gradient and name not in self.trace.wrt:
                    need(Key(Role.SPARE, name), parameter.dtype, self.inputs[name])
        if self.along:
            for buffer in [each for each in buffers.values() if each.dtype.startswith("float")]:
                buffers[buffer.key.tangent] = replace(buffer, key=buffer.key.tangent)
        return list(buffers.values())

    def _layout(self, part: Part) -> Layout:
        def layout(index: int, field: int) -> tuple[int, int | None]:
            parameter = part.parameters[index]
            return parameter.rank + bool(parameter.element), None

        return layout

    def _load_sizes(self, code: Code) -> None:
        code.load_sizes(self.signature.dims, self.variant.sizes, self.signature.batch)

    def _bytes(self, code: Code, buffer: Buffer) -> str:
        if buffer.bytes:
            return str(buffer.bytes)
        if buffer.argument is not None:
            elements = self._elements(code, buffer.argument)
        else:
            elements = code.multiply("1", *(code.expression(size) for size in buffer.shape))
        return code.multiply(elements, str(ITEM_SIZES[buffer.dtype]))

    def _arrays(self) -> list[Key]:
        """Keys of the arrays of this entry, in the order of module.h."""
        if self.trace.on_state:
            keys = [Key(Role.INPUT, argument.name) for argument in self.signature.inputs]
        else:
            keys = [Key(Role(role), argument.name) for role, argument in self.signature.arrays(self.trace.wrt)]
            keys = with_tangents(keys, self.along)
        if self.state is None:
            return keys
        return [*keys, STATE, *([STATE.tangent] if self.along else [])]

    def _elements(self, code: Code, argument: Argument) -> str:
        return code.multiply("1", *(code.sizes[dim] for dim in argument.dims))

    def _argument_bytes(self, code: Code, name: str) -> str:
        elements = self._elements(code, self.signature.argument(name))
        return code.multiply(elements, str(ITEM_SIZES[self.dtypes[name]]))

    def _starts(self, code: Code, sizes: dict[Key, str]) -> Iterator[Start]:
        """What the tasks expect to find in every array that they write to; `sizes` are those of the buffers."""
        updated = self.signature.updated
        if not self.trace.wrt:
            for name in self.outputs:
                size = self._argument_bytes(code, name)
                if name in updated:
                    yield from self._with_tangent(Start(Key(Role.OUTPUT, name), size, Key(Role.INPUT, name)))
                elif not self.trace.overwrites:
                    yield from self._with_tangent(Start(Key(Role.OUTPUT, name), size))
        for key, size in sizes.items():
            name = key.name
            if key.is_tangent:
                continue
            if key.role is Role.ADJOINT:
                yield from self._with_tangent(Start(key, size, Key(Role.COTANGENT, name)))
            elif key.role is Role.PRIMAL and name in updated:
                yield from self._with_tangent(Start(key, size, Key(Role.INPUT, name)))
            elif key.role is not Role.KEPT and (key.role is not Role.SCRATCH or not self.trace.overwrites):
                yield from self._with_tangent(Start(key, size))
        for name in () if self.trace.on_state else self.trace.wrt:
            size = self._argument_bytes(code, name)
            if name in updated and self.differentiate:
                yield from self._with_tangent(Start(Key(Role.GRADIENT, name), size, Key(Role.COTANGENT, name)))
            elif not (self.trace.overwrites and self.signature.argument(name).batched):
                yield from self._with_tangent(Start(Key(Role.GRADIENT, name), size))

    def _with_tangent(self, start: Start) -> Iterator[Start]:
        """That of an array, and of the array of its tangents, where there is one."""
        yield start
        if start.key.tangent in self._keys():
            source = start.source.tangent if start.source else None
            yield Start(start.key.tangent, start.bytes, source if source in self._keys() else None)

    def _fill_struct(self, code: Code, part: Part, kind: str, struct: str) -> None:
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
            if parameter.role in _OWN:
                shape = [code.expression(size) for size in parameter.shape]
            else:
                argument = self.signature.argument(parameter.name)
                shape = [code.sizes[dim] for dim in argument.dims[: parameter.rank]]
            pointers = [self._data(part, parameter)]
            if parameter.gradient:
                pointers.append(self._gradient(part, parameter))
            store_shape(code, kind, struct, field, shape)
            typed = (code.add(f"bitcast i8* {each} to {element}*") if each != "null" else each for each in pointers)
            store_pointers(code, kind, struct, field, element, typed)
            field += 1

    def _data(self, part: Part, parameter: Parameter) -> str:
        """The register with a parameter's memory."""
        key = self._data_key(part, parameter)
        return "null" if key is None else key.register

    def _gradient(self, part: Part, parameter: Parameter) -> str:
        key = self._gradient_key(part, parameter)
        return "null" if key is None else key.register

    def _data_key(self, part: Part, parameter: Parameter) -> Key | None:
        name, role = parameter.name, parameter.role
        if role in ("cotangent", "gradient", "scratch", "kept", "input"):
            return Key(Role(role), name)
        if not self.trace.wrt:
            return Key(Role.OUTPUT, name)
        key = Key(Role.PRIMAL, name)
        return key if part.name == "primal" or key in self._keys() else None

    def _gradient_key(self, part: Part, parameter: Parameter) -> Key | None:
        name = parameter.name
        candidates = {
            "input": (Key(Role.GRADIENT, name), Key(Role.SPARE, name)),
            "updated": (Key(Role.GRADIENT, name), Key(Role.ADJOINT, name)),
            "output": (Key(Role.ADJOINT, name),),
            "scratch": (Key(Role.SCRATCH_GRADIENT, name),),
        }[parameter.role]
        found = next((key for key in candidates if key in self._keys()), None)
        if found is None or (part.name == "primal" and found.role not in (Role.SPARE, Role.SCRATCH_GRADIENT)):
            return None
        return found

    def _summed_key(self, part: Part, slot: Array) -> Key | None:
        """The key of an array that a loop only adds to, by its slot; None for one that is not copied."""
        parameter = part.parameters[slot.index]
        if parameter.role in _OWN or parameter.dtype not in SUMMED:
            return None
        return self._data_key(part, parameter) if slot.field == 1 else self._gradient_key(part, parameter)

    def _keys(self) -> set[Key]:
        """Keys of all arrays that there is memory for."""
        nodes = self.state.roots if self.state is not None and self.along else ()
        roots = (Key(Role.ROOT, str(node)).tangent for node in nodes)
        return {*self._arrays(), *(buffer.key for buffer in self.buffers), *roots}


def struct_type(parameters: Iterable[Parameter]) -> str:
    """Taichi's argument struct: numbers for elements by value; of an array its shape, its elements and its gradient."""
    fields = []
    for parameter in parameters:
        kind = IR_TYPES[parameter.dtype]
        if parameter.by_value:
            fields += [kind] * parameter.element_count
            continue
        shape = f"{{ {', '.join(['i32'] * max(parameter.rank, 1))} }}"  # of no dimensions it has one too
        fields.append(f"{{ {shape}, {kind}*{f', {kind}*' if parameter.gradient else ''} }}")
    return f"{{ {', '.join(fields)} }}" if fields else "{ }"


def store_shape(code: Code, kind: str, struct: str, field: int, shape: Iterable[str]) -> None:
    """Fills in the shape of an array in a struct of the type `kind`: i64 values."""
    for axis, size in enumerate(shape):
        narrow = code.add(f"trunc i64 {size} to i32") if size.startswith("%") else size
        slot = code.add(f"getelementptr {kind}, {kind}* {struct}, i32 0, i32 {field}, i32 0, i32 {axis}")
        code.do(f"store i32 {narrow}, i32* {slot}")


def store_pointers(code: Code, kind: str, struct: str, field: int, element: str, pointers: Iterable[str]) -> None:
    """Fills in the pointers of an array of type `element`: to its elements, and to its gradient where it has one."""
    for place, pointer in enumerate(pointers, start=1):
        slot = code.add(f"getelementptr {kind}, {kind}* {struct}, i32 0, i32 {field}, i32 {place}")
        code.do(f"store {element}* {pointer}, {element}** {slot}")
