"""Writer: the model as LLVM 15's text, as LLVM itself prints it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from .instructions import (
    Alloca,
    AtomicUpdate,
    Binary,
    Branch,
    Call,
    Cast,
    Compare,
    CompareExchange,
    ExtractElement,
    ExtractValue,
    Fence,
    GetElementPointer,
    InsertElement,
    InsertValue,
    Instruction,
    Load,
    Phi,
    Return,
    Select,
    Shuffle,
    Store,
    Switch,
    Unary,
    Unreachable,
)
from .model import Block, Function, Module, Parameter
from .types import Type
from .values import Local, Value

_FLAG_ORDER = ("fast", "reassoc", "nnan", "ninf", "nsz", "arcp", "contract", "afn", "nuw", "nsw", "exact")


def write(module: Module) -> str:
    """A module's text."""
    lines = [*module.target, *type_lines(module.types)]
    lines += [*module.comdats, *module.globals.values()]
    lines += [write_function(function) for function in module.functions.values()]
    lines += [f"attributes {name} = {{ {text} }}" for name, text in module.attributes.items()]
    return "\n".join(lines) + "\n"


def type_lines(types: Mapping[str, Type | None]) -> list[str]:
    """The lines that define named types."""
    return [f"%{name} = type {'opaque' if kind is None else kind}" for name, kind in types.items()]


def write_function(function: Function) -> str:
    """The text of a definition or a declaration.

    LLVM wants numbers for names to follow one another. Where they do not, since a pass has taken some out, all of them
    get a letter in front.
    """
    if not function.blocks:
        return f"declare {_head(function, named=False)}"
    numbered = _is_numbered(function)
    if not numbered:
        function = _without_numbers(function)
    lines = [f"define {_head(function, named=True)} {{"]
    for place, block in enumerate(function.blocks):
        if place > 0 or not numbered or not block.label.isdigit():
            lines.append(f"{block.label}:")
        lines += [f"  {write_instruction(instruction)}" for instruction in block.instructions]
    return "\n".join([*lines, "}"])


def write_instruction(instruction: Instruction) -> str:
    """The text of an instruction, which takes several lines for a switch."""
    text = _WRITERS[type(instruction)](instruction)
    return text if instruction.result is None else f"%{instruction.result.name} = {text}"


def _head(function: Function, *, named: bool) -> str:
    def parameter(each: Parameter) -> str:
        return _words(each.value.type, *each.attributes, *([each.value] if named else []))

    parameters = [*map(parameter, function.parameters), *["..."] * function.variadic]
    return _words(*function.before, f"{function.result} @{function.name}({', '.join(parameters)})", *function.after)


def _is_numbered(function: Function) -> bool:
    """Whether each of the names that are numbers is the one that LLVM expects."""
    expected = 0
    names: Iterable[str] = (
        *(each.value.name for each in function.parameters),
        *(
            name
            for block in function.blocks
            for name in (block.label, *(each.result.name for each in block.instructions if each.result is not None))
        ),
    )
    for name in names:
        if name.isdigit():
            if int(name) != expected:
                return False
            expected += 1
    return True


def _without_numbers(function: Function) -> Function:
    letter = "n"
    while any(re.fullmatch(rf"{letter}\d+", name) for name in function.names):
        letter += "n"

    def rename(name: str) -> str:
        return letter + name if name.isdigit() else name

    def change(value: Value) -> Value:
        return Local(value.type, rename(value.name)) if isinstance(value, Local) else value

    def changed(instruction: Instruction) -> Instruction:
        new = instruction.with_operands(change).with_labels(rename)
        return new if new.result is None else replace(new, result=Local(new.result.type, rename(new.result.name)))

    blocks = tuple(Block(rename(block.label), tuple(map(changed, block.instructions))) for block in function.blocks)
    parameters = tuple(
        Parameter(Local(each.value.type, rename(each.value.name)), each.attributes) for each in function.parameters
    )
    return replace(function, blocks=blocks, parameters=parameters)


# ---- instructions ----


def _words(*words: object) -> str:
    return " ".join([text for word in words if (text := str(word))])


def typed(value: Value) -> str:
    """A value behind its type, as LLVM writes operands."""
    return f"{value.type} {value}"


def _flags(flags: tuple[str, ...]) -> str:
    if len(flags) < 2:
        return flags[0] if flags else ""
    return " ".join(sorted(flags, key=_FLAG_ORDER.index))


def _align(align: int | None) -> str:
    return "" if align is None else f", align {align}"


def _label(label: str) -> str:
    return f"label %{label}"


def _call(i: Call) -> str:
    attributes = i.attributes or ((),) * len(i.arguments)
    arguments = ", ".join(
        _words(value.type, *given, value) for value, given in zip(i.arguments, attributes, strict=True)
    )
    words = (i.tail, "call", _flags(i.flags), *i.before, i.type, f"{i.callee}({arguments})", *i.after)
    return _words(*words)


def _switch(i: Switch) -> str:
    cases = [f"    {typed(value)}, {_label(label)}" for value, label in i.cases]
    return "\n".join([f"switch {typed(i.value)}, {_label(i.default)} [", *cases, "  ]"])


def _branch(i: Branch) -> str:
    if i.condition is None:
        return f"br {_label(i.yes)}"
    return f"br {typed(i.condition)}, {_label(i.yes)}, {_label(i.no)}"


def _phi(i: Phi) -> str:
    pairs = (f"[ {value}, %{label} ]" for value, label in zip(i.values, i.labels, strict=True))
    return _words("phi", _flags(i.flags), i.result.type, ", ".join(pairs))


def _path(path: tuple[int, ...]) -> str:
    return "".join(f", {index}" for index in path)


def _volatile(i: Any) -> str:
    return "volatile" if i.volatile else ""


def _atomic(i: Any) -> str:
    return "atomic" if i.ordering else ""


_WRITERS: dict[type, Callable[[Any], str]] = {
    Unary: lambda i: _words(i.opcode, _flags(i.flags), typed(i.value)),
    Binary: lambda i: f"{_words(i.opcode, _flags(i.flags), typed(i.left))}, {i.right}",
    Compare: lambda i: f"{_words(i.opcode, _flags(i.flags), i.predicate, typed(i.left))}, {i.right}",
    Cast: lambda i: f"{i.opcode} {typed(i.value)} to {i.result.type}",
    Select: lambda i: f"{_words('select', _flags(i.flags), typed(i.condition))}, {typed(i.yes)}, {typed(i.no)}",
    Phi: _phi,
    Alloca: lambda i: (
        f"alloca {i.kind}{'' if i.count is None else ', ' + typed(i.count)}{_align(i.align)}"
        + (f", addrspace({i.space})" if i.space else "")
    ),
    Load: lambda i: (
        f"{_words('load', _atomic(i), _volatile(i), i.result.type)}, "
        f"{_words(typed(i.pointer), i.ordering)}{_align(i.align)}"
    ),
    Store: lambda i: (
        f"{_words('store', _atomic(i), _volatile(i), typed(i.value))}, "
        f"{_words(typed(i.pointer), i.ordering)}{_align(i.align)}"
    ),
    GetElementPointer: lambda i: (
        f"getelementptr {'inbounds ' * i.inbounds}{', '.join([str(i.kind), *map(typed, (i.pointer, *i.indices))])}"
    ),
    AtomicUpdate: lambda i: (
        f"{_words('atomicrmw', _volatile(i), i.operation, typed(i.pointer))}, {typed(i.value)} "
        f"{i.ordering}{_align(i.align)}"
    ),
    CompareExchange: lambda i: (
        f"{_words('cmpxchg', 'weak' if i.weak else '', _volatile(i), typed(i.pointer))}, {typed(i.expected)}, "
        f"{typed(i.new)} {i.ordering}{_align(i.align)}"
    ),
    Fence: lambda i: f"fence {i.ordering}",
    ExtractElement: lambda i: f"extractelement {typed(i.vector)}, {typed(i.index)}",
    InsertElement: lambda i: f"insertelement {typed(i.vector)}, {typed(i.element)}, {typed(i.index)}",
    Shuffle: lambda i: f"shufflevector {typed(i.first)}, {typed(i.second)}, {typed(i.mask)}",
    ExtractValue: lambda i: f"extractvalue {typed(i.aggregate)}{_path(i.path)}",
    InsertValue: lambda i: f"insertvalue {typed(i.aggregate)}, {typed(i.element)}{_path(i.path)}",
    Call: _call,
    Return: lambda i: "ret void" if i.value is None else f"ret {typed(i.value)}",
    Branch: _branch,
    Switch: _switch,
    Unreachable: lambda i: "unreachable",
}
