"""A kernel as a tree of statements, and its text: in Taichi, and, for who interprets it, in Python."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass
class Statement:
    """A line; with a body, a block behind its header. `plain` is the line in Python, where it differs."""

    text: str
    body: list[Statement] | None = None
    plain: str = ""

    def lines(self, plain: bool, indent: int = 1) -> Iterator[str]:
        yield "    " * indent + (self.plain if plain and self.plain else self.text)
        if self.body is not None:
            yield from block(self.body, plain, indent + 1)


def block(statements: list[Statement], plain: bool, indent: int = 1) -> Iterator[str]:
    if not statements:
        yield "    " * indent + "pass"
    for statement in statements:
        yield from statement.lines(plain, indent)


@dataclass(frozen=True)
class Argument:
    """One of a kernel; its kind says what the elements are, or the number: "real", "integer" or "vector", of two."""

    name: str
    kind: str
    shape: tuple[str, ...]  # dimensions by name; () for a number by value
    below: str = ""  # of integers: the dimension that they are indices of; "" for 0 to 3
    is_input: bool = True
    is_output: bool = False

    @property
    def differentiable(self) -> bool:
        return self.kind != "integer" and bool(self.shape)

    @property
    def annotation(self) -> str:
        if not self.shape:
            return "ti.i32" if self.kind == "integer" else "real"
        return f"{self.kind}s_{len(self.shape)}"

    @property
    def in_signature(self) -> str:
        axes = [*self.shape, "2"] if self.kind == "vector" else self.shape
        return f"{self.name}[{', '.join(axes)}]" if axes else self.name


@dataclass
class Function:
    name: str
    parameters: list[str]
    body: list[Statement]


@dataclass
class Kernel:
    name: str
    arguments: list[Argument]
    functions: list[Function]
    body: list[Statement]
    batch: bool

    @property
    def inputs(self) -> list[Argument]:
        return [each for each in self.arguments if each.is_input]

    @property
    def outputs(self) -> list[Argument]:
        return [each for each in self.arguments if each.is_output]

    @property
    def wrt(self) -> tuple[str, ...]:
        return tuple(each.name for each in self.inputs if each.differentiable)

    @property
    def signature(self) -> str:
        sides = (", ".join(each.in_signature for each in side) for side in (self.inputs, self.outputs))
        return " -> ".join(sides)

    def text(self, plain: bool = False) -> str:
        """The functions and the kernel, without its decorators: in Taichi, or in Python."""
        parts = []
        for each in self.functions:
            head = f"def {each.name}({', '.join(each.parameters)}):"
            parts.append("\n".join(["" if plain else "@ti.func", head, *block(each.body, plain)]).lstrip())
        typed = ", ".join(each.name + ("" if plain else f": {each.annotation}") for each in self.arguments)
        parts.append("\n".join([f"def {self.name}({typed}):", *block(self.body, plain)]))
        return "\n\n\n".join(parts)

    def declared(self, options: str) -> str:
        """The functions and the kernel for a kernel file, with options of its decorator."""
        batch = ', batch="n"' if self.batch else ""
        *functions, kernel = self.text().split("\n\n\n")
        decorated = f'@kernel("{self.signature}"{batch}, {options})\n@ti.kernel\n{kernel}'
        return "\n\n\n".join([*functions, decorated])


def file_text(kernels: list[tuple[Kernel, str]], dtype: str) -> str:
    """A kernel file with kernels and what each one's decorator is given; "f64" or "f32" for real numbers."""
    head = f"""import taichi as ti
from tiaot.export import kernel

ti.init(default_fp=ti.{dtype})
real = ti.{dtype}
reals_1, reals_2 = ti.types.ndarray(real, ndim=1), ti.types.ndarray(real, ndim=2)
vectors_1 = ti.types.ndarray(ti.types.vector(2, real), ndim=1)
integers_1 = ti.types.ndarray(ti.i32, ndim=1)"""
    return "\n\n\n".join([head, *(each.declared(options) for each, options in kernels)]) + "\n"
