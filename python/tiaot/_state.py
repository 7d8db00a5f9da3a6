"""The state of a module as users see it: State, Field, the tape. The memory and the kernels are the extension's."""

from typing import Any

import numpy as np

from ._core import Entry, Kernel, Module, StateMemory, accept_field_type


class Field(np.ndarray[Any, Any]):
    """A field of a State: a numpy.ndarray that views the state's memory and keeps it alive. From a State's attributes.

    Reading sees what the kernels wrote, `field[...] = values` writes what they will read; neither copies the memory.
    What is computed or cut out of a field is a plain numpy.ndarray or a scalar, and so is what it pickles as. A kernel
    of any module takes a field for an array where it is dense.
    """

    _name: str
    _gradient: "Field | None"
    _memory: StateMemory | None
    _tangent: "Field | None"

    def __array_finalize__(self, origin: Any) -> None:
        self._name = ""
        self._gradient = None
        self._memory = None
        self._tangent = None

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        if array is self:  # which was `out`
            return array
        array = np.asarray(array)
        return array[()] if return_scalar or array.ndim == 0 else array

    def __getitem__(self, index: Any) -> Any:
        return np.asarray(self)[index]

    @property
    def grad(self) -> "Field | None":
        """The field of its gradient, of the same shape and element type; None where it has none.

        AttributeError when set: write `field.grad[...] = values`.
        """
        return self._gradient

    @grad.setter
    def grad(self, value: Any) -> None:
        if value is not self._gradient:  # which is what `field.grad += values` sets, once it has written
            raise AttributeError(f"field '{self._name}': the gradient stays: write .grad[...] = values")

    @property
    def tangent(self) -> "Field | None":
        """The field of its tangents, of the same shape and type; None of whole numbers, and of a tangent itself.

        The state's kernels read and write it in `jvp` and `hvp`. It holds zeros at first.

        AttributeError when set: write `field.tangent[...] = values`.
        """
        if self._tangent is None and self._memory is not None and self.dtype.kind == "f":
            self._tangent = np.ndarray.view(self._memory.field(f"{self._name}.tangent"), Field)
            self._tangent._name = f"{self._name}.tangent"
        return self._tangent

    @tangent.setter
    def tangent(self, value: Any) -> None:
        if value is not self._tangent:
            raise AttributeError(f"field '{self._name}': the tangent stays: write .tangent[...] = values")

    def __reduce__(self) -> Any:
        return np.asarray(self).__reduce__()


def _make_plain(name: str) -> None:
    method = getattr(np.ndarray, name)

    def plain(self: Field, *arguments: Any, **keywords: Any) -> Any:
        return method(np.asarray(self), *arguments, **keywords)

    plain.__name__, plain.__doc__ = name, method.__doc__
    setattr(Field, name, plain)


def _make_plain_attribute(name: str) -> None:
    def plain(self: Field) -> Any:
        return getattr(np.asarray(self), name)

    setattr(Field, name, property(plain, doc=getattr(np.ndarray, name).__doc__))


# NumPy makes the results of these of the array's own type.
for _name in (
    *("__copy__", "__deepcopy__", "astype", "byteswap", "copy", "diagonal", "flatten", "ravel", "repeat", "reshape"),
    *("squeeze", "swapaxes", "take", "transpose", "view"),
):
    _make_plain(_name)
for _name in ("T", "mT"):
    if hasattr(np.ndarray, _name):  # NumPy 1 has no mT
        _make_plain_attribute(_name)
accept_field_type(Field)


class State:
    """An instance of a module's state: its fields, and its kernels bound to them. From `module.state()`, with what
    the kernel file wrote into its fields, and zeros.

    A module has as many states as are made of it, each apart from the others. A field is an attribute, `state.x`, with
    its gradient `state.x.grad` and its tangent `state.x.tangent`; `state.x[...] = values` writes it. A kernel over
    state is an attribute too: `state.step(dt)` runs it on this state, `state.step.grad(dt)` its adjoint; where the
    module has them, `state.step.jvp(dt)` and `state.step.hvp(dt)` run each of these with its derivative along the
    tangents of all fields. A name that State uses itself, or that is a field's and a kernel's, is in `fields` and
    `kernels`.

    Calls on one state come one after another: one that finds another at work raises ValueError. Reading or writing
    fields meanwhile is a data race.

    Pickles as its module's name or path, with its hash, and the content of all fields; copies, shallow and deep ones,
    are independent states with the same content. Tangents are not copied. Copying raises ModuleError when the module
    has been closed.
    """

    _memory: StateMemory
    _fields: dict[str, Field]
    _kernels: dict[str, Kernel]
    _gradients: list[Field]
    _field_type: type[Any] = Field

    def __init__(self, memory: StateMemory) -> None:
        if not isinstance(memory, StateMemory):
            raise TypeError(f"State: a state is made by module.state(), got {type(memory).__name__}")
        info = memory.module.info()
        described = info["state"]["fields"]
        every: dict[str, Field] = {}
        for each in described:
            every[each["name"]] = self._field_of(memory, each["name"])
        gradients = {each["gradient"] for each in described}
        for each in described:
            every[each["name"]]._name = each["name"]
            every[each["name"]]._memory = memory
            every[each["name"]]._gradient = every.get(each["gradient"])
        fields = {name: field for name, field in every.items() if name not in gradients}
        kernels = {each["name"]: memory.kernel(each["name"]) for each in info["kernels"] if each["state"]}
        own = self.__dict__
        own.update({name: each for name, each in {**kernels, **fields}.items() if not hasattr(State, name)})
        own.update(_memory=memory, _fields=fields, _kernels=kernels)
        own["_gradients"] = [every[name] for name in every if name in gradients]

    @staticmethod
    def _field_of(memory: StateMemory, name: str) -> Any:
        return np.ndarray.view(memory.field(name), Field)

    @property
    def module(self) -> Module:
        """The Module whose state it is."""
        return self._memory.module

    @property
    def fields(self) -> dict[str, Field]:
        """dict from name to Field, without those that are gradients of others; a new one each time."""
        return dict(self._fields)

    @property
    def kernels(self) -> dict[str, Kernel]:
        """dict from name to Kernel, of the kernels over state, bound to this one; a new one each time."""
        return dict(self._kernels)

    def zero_grad(self) -> None:
        """Sets every gradient of the state to zero."""
        for gradient in self._gradients:
            gradient[...] = 0

    def zero_tangent(self) -> None:
        """Sets every tangent of the state to zero, those of gradients too."""
        for field in [*self._fields.values(), *self._gradients]:
            if field.tangent is not None:
                field.tangent[...] = 0

    def copy_from(self, other: "State") -> None:
        """Takes over the content of all fields of another state of the same module, on the CPU or on a CUDA device.

        TypeError for anything but a State, ValueError for one of another module or, where both are on CUDA devices, of
        another device.
        """
        if not isinstance(other, State):
            raise TypeError(f"{self.module.name}: copy_from: expected a state, got {type(other).__name__}")
        self._memory.copy_from(other._memory)

    def tape(self, loss: Field) -> "Tape":
        """Differentiates what is called inside of `with state.tape(state.loss): ...`, as Taichi's ti.ad.Tape does.

        Entering sets every gradient to zero. The calls of this state's kernels, and of their bound calls, are recorded.
        Leaving without an exception sets `loss.grad` to 1 and calls the `grad` of each, the last first, with the same
        arguments: the numbers and arrays that were given, arrays with what they hold by then. A kernel without a `grad`
        is passed over, as in Taichi, but for one whose gradient the export refused: leaving raises ValueError then.
        Every `grad` finds the fields as the last call left them: no call may overwrite what the gradient of an earlier
        one needs (`f[i] = x[i] ** 2`, then `x[i] += f[i]`), which nothing finds. tiaot.torch.Simulation and
        tiaot.jax.Simulation keep what each call left.

        loss: a field of this state with a gradient and one element. TypeError for anything but a Field, ValueError for
        any other field; entering raises ValueError inside of another tape of the same state.
        """
        label = f"{self.module.name}: tape: argument 'loss'"
        if not isinstance(loss, self._field_type):
            raise TypeError(f"{label}: expected a field of the state, got {type(loss).__name__}")
        if not any(loss is field for field in self._fields.values()):
            raise ValueError(f"{label}: expected a field of this state, such as state.loss, got another array")
        if loss.size != 1:
            raise ValueError(f"{label}: expected a field of one element, got '{loss._name}' of shape {loss.shape}")
        if loss.grad is None:
            raise ValueError(f"{label}: expected a field with a gradient, got '{loss._name}', which has none")
        return Tape(self, loss.grad)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # which Python and its tools ask any object for, one that is not yet made too
            raise AttributeError(f"State has no attribute {name!r}")
        names = [*self._fields, *self._kernels]
        raise AttributeError(
            f"{self.module.name}: expected an attribute or the name of a field or kernel, of {names}, got {name!r}"
        )

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self._fields:
            if value is self._fields[name]:  # what `state.x += values` sets, once it has written
                return
            raise AttributeError(f"{self.module.name}: field '{name}': a field stays: write state.{name}[...] = values")
        raise AttributeError(f"{self.module.name}: a state's attributes cannot be set, got {name!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{self.module.name}: a state's attributes cannot be deleted, got {name!r}")

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if name not in ("_memory", "_fields", "_kernels", "_gradients")]

    def __repr__(self) -> str:
        fields = ", ".join(f"{name} {field.dtype}{list(field.shape)}" for name, field in self._fields.items())
        return f"<tiaot.State of {self.module.name} '{self.module.path}': {fields}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._memory,)

    def __copy__(self) -> "State":
        return type(self)(self._memory.copy())


class Tape:
    """What State.tape returns: a context manager."""

    def __init__(self, state: State, seed: Field) -> None:
        self._state = state
        self._seed = seed

    def __enter__(self) -> None:
        memory = self._state._memory
        if memory.tape is not None:
            raise ValueError(f"{self._state.module.name}: tape: the state is being recorded by another tape")
        self._state.zero_grad()
        memory.tape = []

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        memory = self._state._memory
        records: list[tuple[Entry, tuple[Any, ...], dict[str, Any]] | str] = memory.tape or []
        memory.tape = None
        if kind is not None:
            return
        calls = [each for each in records if not isinstance(each, str)]
        if len(calls) < len(records):
            names = ", ".join(dict.fromkeys(each for each in records if isinstance(each, str)))
            raise ValueError(
                f"{self._state.module.name}: tape: there is no gradient of {names}, which the export refused, with its "
                "reason; where none is to go through it, leave it out there (wrt=[])"
            )
        self._seed[...] = 1
        for grad, arguments, keywords in reversed(calls):
            grad(*arguments, **keywords)


def restore_memory(module: Module, content: bytes, device: int = -1) -> StateMemory:
    """Rebuilds the pickled memory of a state, on the CUDA device that it was on; -1 is the CPU."""
    memory = module._state_memory(True, device)
    memory.write(0, content)
    return memory
