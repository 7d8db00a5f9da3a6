"""Keys: which array of an entry something is about, by its role and its name."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, replace


class Role(enum.Enum):
    """What an array is for. The first four are arrays of a call, by the words of `Signature.arrays`."""

    INPUT = "input"
    OUTPUT = "output"
    COTANGENT = "cotangent"
    GRADIENT = "gradient"
    PRIMAL = "primal"  # an output, or an updated argument, as the kernel leaves it, for its adjoint
    ADJOINT = "adjoint"  # a copy of a cotangent, which Taichi's adjoint zeroes
    SPARE = "spare"  # a gradient that nobody has asked for
    SCRATCH = "scratch"
    KEPT = "kept"  # a copy that an adjoint keeps of what was in an array before it was overwritten
    SCRATCH_GRADIENT = "scratch_gradient"
    STATE = "state"  # the memory of all fields
    ROOT = "root"  # a child of a root of fields, which has its number for a name


@dataclass(frozen=True)
class Key:
    role: Role
    name: str
    is_tangent: bool = False  # it is the array of the tangents of another one

    @property
    def register(self) -> str:
        """The register that holds a pointer to the array."""
        return f"%{'tangent_' * self.is_tangent}{self.role.value}_{self.name}"

    @property
    def tangent(self) -> Key:
        """The key of the array with its tangents."""
        return replace(self, is_tangent=True)

    @property
    def is_result(self) -> bool:
        return self.role in (Role.OUTPUT, Role.GRADIENT)


STATE = Key(Role.STATE, "")


def with_tangents(arrays: Iterable[Key], along: tuple[str, ...]) -> list[Key]:
    """The arrays of an entry that computes a derivative along some inputs, too.

    Behind its operands come the tangents of these inputs, behind its results their tangents.
    """
    keys = list(arrays)
    if not along:
        return keys
    operands = [key for key in keys if not key.is_result]
    results = [key for key in keys if key.is_result]
    inputs = [key.tangent for key in operands if key.role is Role.INPUT and key.name in along]
    return [*operands, *inputs, *results, *(key.tangent for key in results)]
