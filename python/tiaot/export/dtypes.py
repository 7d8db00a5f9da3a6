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
    sums: bool = False  # whether loops add numbers of it up atomically, so that their order shows

    @property
    def item(self) -> int:
        """Bytes of an element."""
        return (self.code & 0xFF) // 8

    @property
    def is_real(self) -> bool:
        """Whether it can have a gradient."""
        return self.code >> 8 == 2


ELEMENT_TYPES = (
    Dtype("int32", 0x0020, "i32", "int32_t", "i32"),
    Dtype("int64", 0x0040, "i64", "int64_t", "i64"),
    Dtype("uint8", 0x0108, "i8", "uint8_t", "u8"),
    Dtype("float16", 0x0210, "half", "uint16_t", "f16"),
    Dtype("float32", 0x0220, "float", "float", "f32", sums=True),
    Dtype("float64", 0x0240, "double", "double", "f64", sums=True),
)

SUMMED = tuple(each.name for each in ELEMENT_TYPES if each.sums)  # whose atomic sums are made on copies
