"""Keys: which array of an entry something is about, by its role and its name."""

from __future__ import annotations

import enum
from dataclasses import dataclass


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
    SCRATCH_GRADIENT = "scratch_gradient"
    STATE = "state"  # the memory of all fields
    ROOT = "root"  # a child of a root of fields, which has its number for a name


@dataclass(frozen=True)
class Key:
    role: Role
    name: str

    @property
    def register(self) -> str:
        """The register that holds a pointer to the array."""
        return f"%{self.role.value}_{self.name}"


STATE = Key(Role.STATE, "")
