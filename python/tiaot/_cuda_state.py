"""States on CUDA devices as users see them: CudaState, CudaField. Imports no library of arrays but NumPy."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from ._core import Module, StateMemory
from ._state import State

_CUDA = 2  # DLPack's kDLCUDA


class CudaField:
    """A field of a CudaState: an array on a CUDA device that views the state's memory and keeps it alive.

    `torch.from_dlpack(field)`, `cupy.asarray(field)` and whatever else speaks DLPack or `__cuda_array_interface__` see
    the same memory, with no copy; kernels of any module take it for an array where it is dense. `field[...] = value`
    sets all elements: a number on the device, where it can be captured in a graph, an array of the host's by a copy.
    `numpy()` and `item()` copy to the host; both wait for the work on the state.
    """

    def __init__(self, memory: StateMemory, name: str) -> None:
        self._memory = memory
        self._name = name
        self._gradient: CudaField | None = None
        self._tangent: CudaField | None = None
        self._address, self._offset, self._shape, strides, dtype = memory.described(name)
        self._dtype = np.dtype(dtype)
        self._strides = tuple(stride * self._dtype.itemsize for stride in strides)

    @property
    def shape(self) -> tuple[int, ...]:
        return self._shape

    @property
    def strides(self) -> tuple[int, ...]:
        """In bytes."""
        return self._strides

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._dtype

    @property
    def ndim(self) -> int:
        return len(self._shape)

    @property
    def size(self) -> int:
        return int(np.prod(self._shape, dtype=np.int64))

    @property
    def device(self) -> str:
        """ "cuda:0"."""
        return f"cuda:{self._memory.device}"

    @property
    def grad(self) -> CudaField | None:
        """The field of its gradient, of the same shape and element type; None where it has none."""
        return self._gradient

    @property
    def tangent(self) -> CudaField | None:
        """The field of its tangents, of the same shape and type; None of whole numbers, and of a tangent itself.

        The state's kernels read and write it in `jvp` and `hvp`. It holds zeros at first. The memory of all tangents is
        made when the first is asked for.
        """
        if self._tangent is None and self._dtype.kind == "f" and not self._name.endswith(".tangent"):
            self._tangent = CudaField(self._memory, f"{self._name}.tangent")
        return self._tangent

    def numpy(self) -> np.ndarray[Any, Any]:
        """A copy on the host, dense. Waits for the work on the state."""
        return self._on_host(self._read()).copy()

    def item(self) -> Any:
        """The element of a field of one, as a number of Python's. ValueError for any other field."""
        return self.numpy().item()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __bool__(self) -> bool:
        return bool(self.item())

    def __len__(self) -> int:
        if not self._shape:
            raise TypeError(f"field '{self._name}' has no dimensions")
        return self._shape[0]

    def __getitem__(self, index: Any) -> Any:
        raise TypeError(
            f"field '{self._name}' is on {self.device}: expected an array over its memory to be indexed, as "
            "torch.from_dlpack(field) or cupy.asarray(field), or a copy, field.numpy()"
        )

    def __setitem__(self, index: Any, value: Any) -> None:
        if not (index is Ellipsis or (isinstance(index, (tuple, slice)) and index in ((), slice(None), (Ellipsis,)))):
            raise TypeError(
                f"field '{self._name}' is on {self.device}: expected field[...] = values, got the index {index!r}: "
                "write parts by an array over its memory, as torch.from_dlpack(field)"
            )
        if value is self:  # what `field += values` would set
            return
        if hasattr(value, "__cuda_array_interface__") or _dlpack_device(value) not in (None, 1):
            raise TypeError(
                f"field '{self._name}' is on {self.device}: expected a number or an array of the host's, got "
                f"{type(value).__name__}, on a device: copy it by an array over the field's memory, as "
                "torch.from_dlpack(field).copy_(values)"
            )
        values = np.asarray(value).astype(self._dtype)
        number = values.item() if values.ndim == 0 else None
        if number is not None and (number != number or float(number) == number):
            self._memory.fill(self._name, float(number))
        elif self.size:
            content = np.zeros(self._extent, np.uint8) if self._is_whole else self._read()
            self._on_host(content)[...] = values
            self._memory.write(self._offset, content)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise TypeError(f"field '{self._name}' is on {self.device}: expected field.numpy() where a copy is meant")

    def __dlpack_device__(self) -> tuple[int, int]:
        return _CUDA, self._memory.device

    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> object:
        if dl_device not in (None, self.__dlpack_device__()) or copy:
            raise BufferError(f"field '{self._name}': expected a view on {self.device}; field.numpy() copies")
        if stream != -1:
            self._memory.order_behind(1 if stream is None else stream)
        return self._memory.exported(self._name, max_version is not None and max_version[0] >= 1)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self._shape,
            "strides": self._strides,
            "typestr": self._dtype.str,
            "data": (self._address if self.size else 0, False),
            "version": 3,
            "stream": self._memory.stream or 1,
        }

    def __reduce__(self) -> Any:
        return self.numpy().__reduce__()

    def __repr__(self) -> str:
        return f"<tiaot.CudaField '{self._name}' {self._dtype}{list(self._shape)} on {self.device}>"

    # ---- the bytes from the first element to the last ----

    @property
    def _extent(self) -> int:
        if not self.size:
            return 0
        reach = sum((size - 1) * stride for size, stride in zip(self._shape, self._strides, strict=True))
        return reach + self._dtype.itemsize

    @property
    def _is_whole(self) -> bool:
        """Whether nothing else lies between its elements."""
        return self._extent == self.size * self._dtype.itemsize

    def _read(self) -> np.ndarray[Any, Any]:
        return self._memory.read(self._offset, self._extent)

    def _on_host(self, content: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The elements in a copy of these bytes."""
        return np.ndarray(self._shape, self._dtype, content, 0, self._strides)


def _dlpack_device(value: Any) -> int | None:
    """DLPack's number of the kind of device that an array is on; None for what does not speak DLPack."""
    return int(value.__dlpack_device__()[0]) if hasattr(value, "__dlpack_device__") else None


class CudaState(State):
    """A State on a CUDA device, from `module.state(device="cuda:0")`: its fields are `CudaField`s.

    All work on it goes on one stream, one thing after another, and nothing waits for it: kernels, their adjoints, what
    a tape runs, `field[...] = number`. `state.stream` is that stream, at first the legacy default stream. Another one,
    set or passed as `stream=` to a call, waits for what is on the old one and takes its place.

    Arrays that kernels take are on the same device, numbers come from anywhere. Pickling copies to the host.
    """

    _field_type = CudaField

    @staticmethod
    def _field_of(memory: StateMemory, name: str) -> Any:
        return CudaField(memory, name)

    @property
    def device(self) -> str:
        """ "cuda:0"."""
        return f"cuda:{self._memory.device}"

    @property
    def stream(self) -> int:
        """The handle of the stream that the work on the state goes on, a CUstream; 0 is the legacy default stream.

        Set it to a handle or to an object that has one: torch's and CuPy's streams, or what follows the protocol
        __cuda_stream__. None is the legacy default stream. ValueError where the new stream is being captured in a graph
        and the old one is not: set it before the capture begins.
        """
        return int(self._memory.stream)

    @stream.setter
    def stream(self, value: Any) -> None:
        self._memory.stream = value

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "stream":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)


def new_state(module: Module, zeros: bool, device: Any) -> State:
    """What `module.state(zeros=zeros, device=device)` gives."""
    name = str(device)
    if name == "cpu":
        return module.state(zeros=zeros)
    found = re.fullmatch(r"cuda(?::(\d{1,4}))?", name)
    if found is None:
        raise ValueError(f"{module.name}: state: argument 'device': expected 'cpu', 'cuda' or 'cuda:N', got {device!r}")
    return CudaState(module._state_memory(zeros, int(found[1] or 0)))
