"""Reader: LLVM 15's text with typed pointers -> the model. What it does not understand it refuses with its line.

Metadata is left out on purpose: it speaks of debugging, aliasing and likelihoods, and no program depends on it. So are
comments.
"""

from __future__ import annotations

import re

from . import types as t
from .instruction_reader import read_instruction
from .instructions import Instruction, Phi
from .model import Block, Function, Module
from .values import Local, LoweringError
from .words import NAME, Words

_LABEL = re.compile(rf"^({NAME}):")
_METADATA = r"( ![\w.]+ !\d+)+"
# Calls whose arguments are metadata and that do nothing: left out as metadata is.
_DROPPED_CALL = re.compile(r"call void @llvm\.(dbg\.\w+|experimental\.noalias\.scope\.decl)\(")


def read(text: str) -> Module:
    """Read a module.

    Raises:
        LoweringError: for what is not understood, with its line.
    """
    return _Reader(text).read()


def read_function(text: str, name: str = "") -> Function:
    """Read a module, and give one of the functions that it defines: the one of that name, or the only one.

    Raises:
        LoweringError: for what is not understood, with its line, and where there is no such function.
    """
    definitions = read(text).definitions
    for function in definitions:
        if function.name == name or (not name and len(definitions) == 1):
            return function
    raise LoweringError(f"expected {f'a function {name!r}' if name else 'one function'}, got {len(definitions)}")


class _Reader:
    """Goes through a module line by line."""

    def __init__(self, text: str) -> None:
        self.lines = text.splitlines()
        self.number = 0  # of the lines that have been read
        self.types: dict[str, t.Type | None] = {}
        self.functions: dict[str, Function] = {}
        self.globals: dict[str, str] = {}
        self.attributes: dict[str, str] = {}
        self.comdats: list[str] = []
        self.target: list[str] = []

    def read(self) -> Module:
        while (line := self._next()) is not None:
            self._read_line(line)
        return Module(
            self.types, self.functions, self.globals, self.attributes, tuple(self.comdats), tuple(self.target)
        )

    def _next(self) -> str | None:
        """The next line that is not empty, without its comment; None at the end."""
        while self.number < len(self.lines):
            line = self.lines[self.number]
            self.number += 1
            if ";" in line:
                line = re.match(r'(?:[^";]|"[^"]*")*', line)[0]  # type: ignore[index]
            if line := line.strip():
                return line
        return None

    def _words(self, line: str) -> Words:
        return Words(line, self.number, self.types)

    def _read_line(self, line: str) -> None:
        if line.startswith(("!", "source_filename")):
            return
        if match := re.match(rf"^@({NAME}) = ", line):
            self.globals[match[1]] = re.sub(r"(, ![\w.]+ !\d+)+$", "", line)
        elif line.startswith("%"):
            self._read_type(line)
        elif line.startswith("target "):
            self.target.append(line)
        elif line.startswith("$"):
            self.comdats.append(line)
        elif match := re.match(r"^attributes (#\d+) = \{ ?(.*?) ?\}$", line):
            self.attributes[match[1]] = match[2]
        elif line.startswith("declare "):
            self._add(self._words(re.sub(rf"^declare{_METADATA} ", "declare ", line)).function())
        elif line.startswith("define "):
            self._read_function(re.sub(rf"{_METADATA} \{{$", " {", line))
        else:
            raise LoweringError(f"line {self.number}: {line[:200]!r}: no such part of a module is understood")

    def _read_type(self, line: str) -> None:
        words = self._words(line)
        name = words.take()[1:]
        words.expect("=", "type")
        self.types[name] = None if words.accept("opaque") else words.type()
        words.expect_end()

    def _add(self, function: Function) -> None:
        self.functions[function.name] = function

    def _read_function(self, line: str) -> None:
        head = self._words(line)
        function = head.function()
        blocks: list[tuple[str, list[Instruction]]] = []
        while True:
            line = self._next() or head.refuse("the function has no end")
            if line == "}":
                break
            if match := _LABEL.match(line):
                blocks.append((match[1], []))
                continue
            if _DROPPED_CALL.search(line):
                continue
            if not blocks:  # the first block's label may be left out: it is the next number
                blocks.append((str(sum(each.value.name.isdigit() for each in function.parameters)), []))
            while line.startswith("switch ") and "]" not in line:
                line += " " + (self._next() or head.refuse("a switch has no end"))
            blocks[-1][1].append(read_instruction(self._words(line)))
        function = function.with_blocks([Block(label, tuple(instructions)) for label, instructions in blocks])
        if not blocks:
            head.refuse("the function has no instructions")
        _check(function)
        self._add(function)


def _check(function: Function) -> None:
    """That each name is given once, that what is used is there, and that blocks end where they end."""
    names = [each.value for each in function.parameters]
    names += [each.result for each in function.instructions if each.result is not None]
    types = {each.name: each.type for each in names}
    if len(function.names) != len(names) + len(function.blocks):
        raise LoweringError(f"function {function.name!r} gives a name twice")
    for block in function.blocks:
        if not block.instructions:
            raise LoweringError(f"function {function.name!r}: block {block.label!r} is empty")
        for instruction in block.instructions:
            where = f"line {instruction.line}: function {function.name!r}"
            if instruction.ends_block != (instruction is block.end):
                raise LoweringError(f"{where}: block {block.label!r} ends in another place than its end")
            for value in instruction.operands:
                if isinstance(value, Local) and types.get(value.name) != value.type:
                    raise LoweringError(f"{where}: there is no {value} of the type {value.type}")
            for label in instruction.labels if isinstance(instruction, Phi) else instruction.targets:
                if label not in function.by_label:
                    raise LoweringError(f"{where}: there is no block {label!r}")
