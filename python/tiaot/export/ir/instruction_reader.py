"""Reads one instruction. What it has read it writes again and compares, word for word: nothing passes that the model
does not hold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from . import types as t
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
from .values import Constant, Local, LoweringError, Value, element_type
from .words import ATTRIBUTES, BINARY, CALL_ATTRIBUTES, CASTS, CONVENTIONS, TOKEN, Words, words_of
from .writer import write_instruction

_FLOAT_FLAGS = frozenset({"fast", "reassoc", "nnan", "ninf", "nsz", "arcp", "contract", "afn"})
_INTEGER_FLAGS = frozenset({"nuw", "nsw", "exact"})
_ORDERINGS = frozenset({"unordered", "monotonic", "acquire", "release", "acq_rel", "seq_cst"})
_UPDATES = words_of("xchg add sub and nand or xor max min umax umin fadd fsub")  # of LLVM 15
_PREDICATES = {
    "icmp": words_of("eq ne ugt uge ult ule sgt sge slt sle"),
    "fcmp": words_of("false oeq ogt oge olt ole one ord ueq ugt uge ult ule une uno true"),
}


def read_instruction(words: Words) -> Instruction:
    """An instruction with its result; metadata behind it is left out."""
    name = None
    if words.peek()[:1] == "%":
        name = words.take()[1:]
        words.expect("=")
    opcode = words.take()
    read = _READERS.get(opcode)
    if read is None:
        words.refuse(f"the instruction {opcode!r} is not understood")
    instruction = read(words, opcode, name)
    end = words.place
    while words.peek() == "," and words.peek(1)[:1] == "!":
        words.take()
        words.take()
        if words.take()[:1] != "!":
            words.refuse("its metadata is not understood")
    words.expect_end()
    text = write_instruction(instruction)
    if text != words.line and TOKEN.findall(text) != words.tokens[:end]:
        words.refuse(f"would be understood as {text!r}, which is not the same")
    return instruction


def _result(words: Words, name: str | None, kind: t.Type) -> Local:
    if name is None:
        words.refuse("its result has no name")
    return Local(kind, name)


def _align(words: Words) -> int | None:
    if words.peek() == "," and words.peek(1) == "align":
        words.expect(",", "align")
        return words.natural()
    return None


def _ordering(words: Words) -> str:
    start = words.place
    if words.accept("syncscope"):
        words.expect("(")
        words.take()
        words.expect(")")
    if words.peek() not in _ORDERINGS:
        words.refuse(f"expected an ordering, got {words.peek()!r}")
    token = words.take()
    return token if words.place == start + 1 else words.between(start)


def _label(words: Words) -> str:
    words.expect("label")
    return _local_name(words)


def _local_name(words: Words) -> str:
    token = words.take()
    if token[:1] != "%":
        words.refuse(f"expected the label of a block, got {token!r}")
    return token[1:]


def _path(words: Words) -> tuple[int, ...]:
    path = []
    while words.peek() == "," and words.peek(1).isdigit():
        words.take()
        path.append(words.natural())
    if not path:
        words.refuse("expected the place of a member")
    return tuple(path)


def _element(words: Words, kind: t.Type, path: Sequence[int | Value]) -> t.Type:
    try:
        return element_type(kind, path, words.types)
    except LoweringError as error:
        words.refuse(str(error))


# ---- one function for each kind of instruction ----


def _unary(words: Words, opcode: str, name: str | None) -> Instruction:
    flags = words.among(_FLOAT_FLAGS) if opcode == "fneg" else ()
    value = words.typed()
    return Unary(_result(words, name, value.type), opcode, value, flags, line=words.number)


def _binary(words: Words, opcode: str, name: str | None) -> Instruction:
    flags = words.among(_FLOAT_FLAGS if opcode[0] == "f" else _INTEGER_FLAGS)
    left = words.typed()
    words.expect(",")
    right = words.value(left.type)
    return Binary(_result(words, name, left.type), opcode, left, right, flags, line=words.number)


def _compare(words: Words, opcode: str, name: str | None) -> Instruction:
    flags = words.among(_FLOAT_FLAGS) if opcode == "fcmp" else ()
    predicate = words.take()
    if predicate not in _PREDICATES[opcode]:
        words.refuse(f"the comparison {predicate!r} is not understood")
    left = words.typed()
    words.expect(",")
    result = _result(words, name, t.with_element(left.type, t.I1))
    return Compare(result, opcode, predicate, left, words.value(left.type), flags, line=words.number)


def _cast(words: Words, opcode: str, name: str | None) -> Instruction:
    value = words.typed()
    words.expect("to")
    return Cast(_result(words, name, words.type()), opcode, value, line=words.number)


def _select(words: Words, opcode: str, name: str | None) -> Instruction:
    flags = words.among(_FLOAT_FLAGS)
    condition = words.typed()
    words.expect(",")
    yes = words.typed()
    words.expect(",")
    return Select(_result(words, name, yes.type), condition, yes, words.typed(), flags, line=words.number)


def _phi(words: Words, opcode: str, name: str | None) -> Instruction:
    flags = words.among(_FLOAT_FLAGS)
    kind = words.type()
    values, labels = [], []
    while True:
        words.expect("[")
        values.append(words.value(kind))
        words.expect(",")
        labels.append(_local_name(words))
        words.expect("]")
        if words.peek() != "," or words.peek(1) != "[":
            break
        words.take()
    return Phi(_result(words, name, kind), tuple(values), tuple(labels), flags, line=words.number)


def _alloca(words: Words, opcode: str, name: str | None) -> Instruction:
    kind = words.type()
    count: Value | None = None
    if words.peek() == "," and words.peek(1) not in ("align", "addrspace") and words.peek(1)[:1] != "!":
        words.take()
        count = words.typed()
    align, space = _align(words), 0
    if words.peek() == "," and words.peek(1) == "addrspace":
        words.expect(",", "addrspace", "(")
        space = words.natural()
        words.expect(")")
    return Alloca(_result(words, name, t.Pointer(kind, space)), kind, count, align, space, line=words.number)


def _load(words: Words, opcode: str, name: str | None) -> Instruction:
    atomic, volatile = words.accept("atomic"), words.accept("volatile")
    kind = words.type()
    words.expect(",")
    pointer = words.typed()
    ordering = _ordering(words) if atomic else ""
    return Load(_result(words, name, kind), pointer, _align(words), volatile, ordering, line=words.number)


def _store(words: Words, opcode: str, name: str | None) -> Instruction:
    atomic, volatile = words.accept("atomic"), words.accept("volatile")
    value = words.typed()
    words.expect(",")
    pointer = words.typed()
    ordering = _ordering(words) if atomic else ""
    return Store(None, value, pointer, _align(words), volatile, ordering, line=words.number)


def _element_pointer(words: Words, opcode: str, name: str | None) -> Instruction:
    inbounds = words.accept("inbounds")
    kind = words.type()
    words.expect(",")
    pointer = words.typed()
    indices: list[Value] = []
    while words.peek() == "," and words.peek(1)[:1] != "!":
        words.take()
        indices.append(words.typed())
    if not isinstance(pointer.type, t.Pointer) or any(isinstance(each.type, t.Vector) for each in indices):
        words.refuse("vectors of pointers are not understood")
    result = t.Pointer(_element(words, kind, indices[1:]), pointer.type.space)
    name_ = _result(words, name, result)
    return GetElementPointer(name_, kind, pointer, tuple(indices), inbounds, line=words.number)


def _atomic_update(words: Words, opcode: str, name: str | None) -> Instruction:
    volatile = words.accept("volatile")
    operation = words.take()
    if operation not in _UPDATES:
        words.refuse(f"the atomic operation {operation!r} is not understood")
    pointer = words.typed()
    words.expect(",")
    value = words.typed()
    result, ordering = _result(words, name, value.type), _ordering(words)
    return AtomicUpdate(result, operation, pointer, value, ordering, _align(words), volatile, line=words.number)


def _compare_exchange(words: Words, opcode: str, name: str | None) -> Instruction:
    weak, volatile = words.accept("weak"), words.accept("volatile")
    pointer = words.typed()
    words.expect(",")
    expected = words.typed()
    words.expect(",")
    new = words.typed()
    start = words.place
    _ordering(words)
    if words.take() not in _ORDERINGS:
        words.refuse("expected two orderings")
    ordering = words.between(start)
    result = _result(words, name, t.Struct((new.type, t.I1)))
    align = _align(words)
    return CompareExchange(result, pointer, expected, new, ordering, align, weak, volatile, line=words.number)


def _fence(words: Words, opcode: str, name: str | None) -> Instruction:
    return Fence(None, _ordering(words), line=words.number)


def _extract_element(words: Words, opcode: str, name: str | None) -> Instruction:
    vector = words.typed()
    words.expect(",")
    return ExtractElement(_result(words, name, vector.type.scalar), vector, words.typed(), line=words.number)


def _insert_element(words: Words, opcode: str, name: str | None) -> Instruction:
    vector = words.typed()
    words.expect(",")
    element = words.typed()
    words.expect(",")
    return InsertElement(_result(words, name, vector.type), vector, element, words.typed(), line=words.number)


def _shuffle(words: Words, opcode: str, name: str | None) -> Instruction:
    first = words.typed()
    words.expect(",")
    second = words.typed()
    words.expect(",")
    mask = words.typed()
    if not isinstance(mask, Constant) or not isinstance(mask.type, t.Vector):
        words.refuse("its mask is no constant vector")
    kind = t.Vector(mask.type.count, first.type.scalar, mask.type.scalable)
    return Shuffle(_result(words, name, kind), first, second, mask, line=words.number)


def _extract_value(words: Words, opcode: str, name: str | None) -> Instruction:
    aggregate = words.typed()
    path = _path(words)
    result = _result(words, name, _element(words, aggregate.type, path))
    return ExtractValue(result, aggregate, path, line=words.number)


def _insert_value(words: Words, opcode: str, name: str | None) -> Instruction:
    aggregate = words.typed()
    words.expect(",")
    element = words.typed()
    return InsertValue(_result(words, name, aggregate.type), aggregate, element, _path(words), line=words.number)


def _call(words: Words, opcode: str, name: str | None) -> Instruction:
    tail = ""
    if opcode != "call":
        tail = opcode
        words.expect("call")
    flags = words.among(_FLOAT_FLAGS)
    before = words.attributes(CONVENTIONS | ATTRIBUTES)
    kind = words.type()
    if words.peek() == "asm":
        words.refuse("assembly is not understood")
    place = words.place
    words.take()  # the callee, whose type is known once its arguments are
    words.expect("(")
    arguments: list[Value] = []
    attributes: list[tuple[str, ...]] = []
    while not words.accept(")"):
        if arguments:
            words.expect(",")
        argument = words.type()
        attributes.append(words.attributes(ATTRIBUTES))
        arguments.append(words.value(argument))
    after = words.attributes(CALL_ATTRIBUTES)
    if words.peek() == "[":
        words.refuse("bundles of operands are not understood")
    end, words.place = words.place, place
    function = kind if isinstance(kind, t.FunctionType) else t.FunctionType(kind, tuple(a.type for a in arguments))
    callee = words.value(t.Pointer(function))
    words.place = end
    result = None if function.result == t.VOID else _result(words, name, function.result)
    if result is None and name is not None:
        words.refuse("a call without a result gives none")
    given = tuple(attributes) if any(attributes) else ()
    return Call(result, kind, callee, tuple(arguments), given, tail, flags, before, after, line=words.number)


def _return(words: Words, opcode: str, name: str | None) -> Instruction:
    kind = words.type()
    return Return(None, None if kind == t.VOID else words.value(kind), line=words.number)


def _branch(words: Words, opcode: str, name: str | None) -> Instruction:
    if words.peek() == "label":
        return Branch(None, _label(words), line=words.number)
    condition = words.typed()
    words.expect(",")
    yes = _label(words)
    words.expect(",")
    return Branch(None, yes, condition, _label(words), line=words.number)


def _switch(words: Words, opcode: str, name: str | None) -> Instruction:
    value = words.typed()
    words.expect(",")
    default = _label(words)
    words.expect("[")
    cases = []
    while not words.accept("]"):
        case = words.constant()
        words.expect(",")
        cases.append((case, _label(words)))
    return Switch(None, value, default, tuple(cases), line=words.number)


def _unreachable(words: Words, opcode: str, name: str | None) -> Instruction:
    return Unreachable(None, line=words.number)


_READERS: dict[str, Callable[[Words, str, str | None], Instruction]] = {
    "fneg": _unary,
    "freeze": _unary,
    **dict.fromkeys(BINARY, _binary),
    **dict.fromkeys(_PREDICATES, _compare),
    **dict.fromkeys(CASTS, _cast),
    "select": _select,
    "phi": _phi,
    "alloca": _alloca,
    "load": _load,
    "store": _store,
    "getelementptr": _element_pointer,
    "atomicrmw": _atomic_update,
    "cmpxchg": _compare_exchange,
    "fence": _fence,
    "extractelement": _extract_element,
    "insertelement": _insert_element,
    "shufflevector": _shuffle,
    "extractvalue": _extract_value,
    "insertvalue": _insert_value,
    **dict.fromkeys(("call", "tail", "musttail", "notail"), _call),
    "ret": _return,
    "br": _branch,
    "switch": _switch,
    "unreachable": _unreachable,
}
