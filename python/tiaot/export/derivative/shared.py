"""What the tasks of a kernel share beside arrays: temporaries, each as a whole, and where their gradients lie.

A local vector that several tasks use is an array to one that indexes it by a variable, and single numbers to another.
"""

from __future__ import annotations

from collections.abc import Container, Iterable

from ..ir.model import Function
from ..ir.origins import Origin, Temporary
from ..ir.passes.temporaries import temporaries_of
from ..ir.types import Type, byte_size
from ..ir.values import LoweringError

_ROOM = 64  # gradients lie behind the temporaries at a multiple of so many bytes


class Temporaries:
    """The temporaries that some functions share: each number, vector or matrix by the offset that it begins at.

    The gradient of what lies at an offset lies `behind` bytes behind it; copies lie behind all gradients.
    """

    def __init__(self, functions: Iterable[Function] = (), places: Container[int] = ()) -> None:
        """`places` are those of fields, by their numbers: each is memory of its own.

        Raises:
            LoweringError: where it is not known which parts are one.
        """
        self.places = places
        self.kinds: dict[int, Type] = {}
        self._starts: dict[int, int] = {}
        largest: dict[int, Type] = {}
        for function in functions:
            for offset, kind in temporaries_of(function):
                if _end(offset, kind) >= _end(offset, largest.get(offset, kind)):
                    largest[offset] = kind
        for offset, kind in sorted(largest.items()):
            start = max(self.kinds, default=None)
            if start is None or offset >= _end(start, self.kinds[start]):
                start = offset
                self.kinds[start] = kind
            elif _end(offset, kind) > _end(start, self.kinds[start]):
                raise LoweringError(f"two variables outside of the loops share memory, at {start} and {offset}")
            self._starts[offset] = start
        last = max(self.kinds, default=None)
        self.behind = 0 if last is None else -(-_end(last, self.kinds[last]) // _ROOM) * _ROOM
        self._size = 2 * self.behind

    def whole(self, memory: Origin) -> Origin:
        """The memory that a part belongs to; anything but a part of a temporary is a whole."""
        if not isinstance(memory, Temporary):
            return memory
        offset = memory.offset
        if self.behind <= offset < 2 * self.behind:
            return Temporary(self._starts.get(offset - self.behind, offset - self.behind) + self.behind)
        return Temporary(self._starts.get(offset, offset))

    def is_primal(self, memory: Temporary) -> bool:
        """Whether it is the kernel's own, and no gradient and no copy."""
        return memory.offset < self.behind

    def copy(self, start: int) -> int:
        """The offset of new memory for a copy of one."""
        return self.add(self.kinds[start])

    def add(self, kind: Type) -> int:
        """The offset of new memory behind all others."""
        offset = self._size
        self._size += -(-_end(0, kind) // _ROOM) * _ROOM
        return offset


def _end(offset: int, kind: Type) -> int:
    size = byte_size(kind)
    if size is None:
        raise LoweringError(f"a variable outside of the loops is of the type {kind}")
    return offset + size
