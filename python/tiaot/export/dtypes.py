"""Element types: the one place that says what each is called, on every side of a module."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Dtype:
    """An element type. `name` is NumPy's."""

    name: str
    code: int  # of module.h: DLPack's kind, and the bits
    ir: str  # LLVM's
    c: str  # of the plain C functions
    taichi: str  # its name in the module taichi
    samples: bool = False  # whether a family can be made for it, whose samples lie in vector lanes
    sums: bool = False  # whether loops add numbers of it up atomically, so that their order shows
    # For the gate, as a part of the largest number: how far apart the same operations may lie when they are rounded in
    # another order, and how far a gradient from the same in float64. 0 is for numbers that are to be the same. A kernel
    # in float64 often has float32 inside: Taichi's own default for numbers.
    close: float = 0.0
    from_wide: float = 0.0

    @property
    def item(self) -> int:
        """Bytes of an element."""
        return (self.code & 0xFF) // 8

    @property
    def is_real(self) -> bool:
        """Whether it can have a gradient."""
        return self.code >> 8 == 2

    @property
    def has_c_type(self) -> bool:
        """Whether C has numbers of it: else `c` is what its bits are kept in."""
        return not self.is_real or not self.c.startswith("uint")


ELEMENT_TYPES = (
    Dtype("int32", 0x0020, "i32", "int32_t", "i32"),
    Dtype("int64", 0x0040, "i64", "int64_t", "i64"),
    Dtype("uint8", 0x0108, "i8", "uint8_t", "u8"),
    Dtype("float16", 0x0210, "half", "uint16_t", "f16", close=1e-2, from_wide=2e-2),
    Dtype("float32", 0x0220, "float", "float", "f32", samples=True, sums=True, close=2e-4, from_wide=2e-3),
    Dtype("float64", 0x0240, "double", "double", "f64", samples=True, sums=True, close=2e-5, from_wide=5e-4),
)

SAMPLED = tuple(each.name for each in ELEMENT_TYPES if each.samples)
SUMMED = tuple(each.name for each in ELEMENT_TYPES if each.sums)  # whose atomic sums are made on copies
