"""Words: a line of LLVM's text taken apart, and the types, values and attributes in it. What is not understood is
refused with the line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NoReturn

from . import types as t
from .model import Function, Parameter
from .values import Constant, Global, Local, LoweringError, Value

NAME = r'(?:"[^"]*"|[-a-zA-Z$._0-9]+)'
TOKEN = re.compile(
    rf"""
    [%@]{NAME} | \#\d+ | ![-\w.$]* | c?"[^"]*" | \.\.\. | 0x[KLMHR]?[0-9A-Fa-f]+ | -?\d+\.\d+(?:[eE][-+]?\d+)? | -?\d+
    | [a-zA-Z_$.][-a-zA-Z$._0-9]* | [()\[\]{{}}<>,*=:]
    """,
    re.VERBOSE,
)
OPENING, CLOSING = frozenset("([{<"), frozenset(")]}>")
_BRACKETS = frozenset("[{<")
_NONE = [""] * 8  # behind a line: as far as it is looked ahead, and more
_TYPES: dict[tuple[str, ...], t.Type] = {}  # by their words; named types by their names


def words_of(text: str) -> frozenset[str]:
    return frozenset(text.split())


BINARY = words_of("add sub mul udiv sdiv urem srem shl lshr ashr and or xor fadd fsub fmul fdiv frem")
CASTS = words_of("trunc zext sext fptrunc fpext fptoui fptosi uitofp sitofp ptrtoint inttoptr bitcast addrspacecast")
_CONSTANTS = frozenset({"true", "false", "null", "undef", "poison", "zeroinitializer", "none"})
_EXPRESSIONS = frozenset({"getelementptr", *BINARY, *CASTS, "icmp", "select"})
CONVENTIONS = frozenset({"ccc", "fastcc", "coldcc", "tailcc", "ptx_kernel", "ptx_device"})
_BEFORE_TYPE = CONVENTIONS | words_of("""
    private internal available_externally linkonce weak common extern_weak linkonce_odr weak_odr external dso_local
    dso_preemptable hidden protected default
""")
# Attributes of parameters and results. One that changes how an argument is passed is understood, too: it is kept.
ATTRIBUTES = words_of("""
    noundef nonnull nocapture readonly writeonly readnone noalias signext zeroext align dereferenceable
    dereferenceable_or_null byval sret returned immarg inreg nofree nest elementtype
""")
CALL_ATTRIBUTES = words_of("""
    nounwind readnone readonly writeonly argmemonly inaccessiblememonly inaccessiblemem_or_argmemonly noreturn
    alwaysinline noinline cold hot convergent willreturn nofree nosync nobuiltin builtin speculatable mustprogress
    norecurse minsize optsize optnone nomerge nocallback uwtable ssp sspstrong sspreq strictfp
""")
_AFTER_PARAMETERS = CALL_ATTRIBUTES | {"unnamed_addr", "local_unnamed_addr", "comdat", "align", "section"}


class Words:
    """The words of a line, taken one after another."""

    def __init__(self, line: str, number: int, types: Mapping[str, t.Type | None]) -> None:
        """`types` are the module's named ones."""
        self.line, self.number, self.types = line, number, types
        self.tokens: list[str] = TOKEN.findall(line)
        self.count = len(self.tokens)
        self.place = 0
        if '"' in line:
            known = "".join(self.tokens) == "".join(re.findall(r'"[^"]*"|\S', line))
        else:
            known = "".join(self.tokens) == line.replace(" ", "").replace("\t", "")
        if not known:
            self.refuse("it has a character that is not understood")
        self.tokens += _NONE

    def refuse(self, why: str) -> NoReturn:
        raise LoweringError(f"line {self.number}: {self.line[:200]!r}: {why}")

    # ---- words ----

    def peek(self, ahead: int = 0) -> str:
        """The next word, or one behind it; "" at the end."""
        return self.tokens[self.place + ahead]

    def take(self) -> str:
        """The next word, which is left behind."""
        if self.place >= self.count:
            self.refuse("it ends too early")
        token = self.tokens[self.place]
        self.place += 1
        return token

    def accept(self, token: str) -> bool:
        """Leaves the next word behind where it is this one."""
        if self.tokens[self.place] == token:
            self.place += 1
            return True
        return False

    def expect(self, *tokens: str) -> None:
        for token in tokens:
            if self.tokens[self.place] != token:
                self.refuse(f"expected {token!r}, got {self.peek()!r}")
            self.place += 1

    def expect_end(self) -> None:
        if self.place < self.count:
            self.refuse(f"{self.peek()!r} is not understood")

    def natural(self) -> int:
        token = self.take()
        if not token.isdigit():
            self.refuse(f"expected a number, got {token!r}")
        return int(token)

    def between(self, start: int) -> str:
        """The text of the words from `start` to here."""
        matches = list(TOKEN.finditer(self.line))
        return self.line[matches[start].start() : matches[self.place - 1].end()]

    def skip_group(self) -> None:
        """Skips what stands between brackets, which come next."""
        end = self._behind_group(self.place)
        if end is None:
            self.refuse("has a bracket without its other half")
        self.place = end

    def _behind_group(self, place: int) -> int | None:
        """The place behind what stands between brackets, of which the first is at `place`."""
        depth = 0
        for end in range(place, self.count):
            token = self.tokens[end]
            if token in OPENING:
                depth += 1
            elif token in CLOSING:
                depth -= 1
            if depth == 0:
                return end + 1
        return None

    def among(self, known: frozenset[str]) -> tuple[str, ...]:
        found: list[str] = []
        while self.peek() in known:
            found.append(self.take())
        return tuple(found)

    # ---- types ----

    def type(self) -> t.Type:
        """A type. What has been met before is not taken apart again: it takes most of a line."""
        start = self.place
        end = self._behind_type()
        if end is None:
            return self._new_type()
        spelling = tuple(self.tokens[start:end])
        kind = _TYPES.get(spelling)
        if kind is None:
            kind = self._new_type()
            if self.place == end:
                _TYPES[spelling] = kind
        self.place = end if self.place == start else self.place
        return kind

    def _behind_type(self) -> int | None:
        """The place behind the type that comes next, by its brackets; None where that is not to be seen."""
        tokens, place = self.tokens, self.place
        end: int | None = self._behind_group(place) if tokens[place] in _BRACKETS else place + 1
        while end is not None:
            if tokens[end] == "*":
                end += 1
            elif tokens[end] == "(":
                end = self._behind_group(end)
            else:
                return None if tokens[end] == "addrspace" else end
        return None

    def _new_type(self) -> t.Type:
        kind = self._base_type()
        while True:
            if self.accept("*"):
                kind = t.Pointer(kind)
            elif self.peek() == "addrspace":
                self.expect("addrspace", "(")
                space = self.natural()
                self.expect(")", "*")
                kind = t.Pointer(kind, space)
            elif self.peek() == "(":
                kind = self._function_type(kind)
            else:
                return kind

    def _base_type(self) -> t.Type:
        token = self.take()
        if token[:1] == "i" and token[1:].isdigit():
            return t.Integer(int(token[1:]))
        if token in t.FLOAT_BITS:
            return t.Float(token)
        if token in ("void", "label", "metadata"):
            return t.Simple(token)
        if token[:1] == "%":
            return t.Named(token[1:])
        if token == "[":
            count = self.natural()
            self.expect("x")
            element = self.type()
            self.expect("]")
            return t.Array(count, element)
        if token == "<" and self.peek() == "{":
            self.take()
            members = self._members()
            self.expect(">")
            return t.Struct(members, packed=True)
        if token == "<":
            scalable = self.accept("vscale")
            if scalable:
                self.expect("x")
            count = self.natural()
            self.expect("x")
            element = self.type()
            self.expect(">")
            return t.Vector(count, element, scalable)
        if token == "{":
            return t.Struct(self._members())
        if token == "ptr":
            self.refuse("pointers without a type are not read")
        self.refuse(f"the type {token!r} is not understood")

    def _members(self) -> tuple[t.Type, ...]:
        members: list[t.Type] = []
        while not self.accept("}"):
            if members:
                self.expect(",")
            members.append(self.type())
        return tuple(members)

    def _function_type(self, result: t.Type) -> t.FunctionType:
        self.expect("(")
        parameters: list[t.Type] = []
        variadic = False
        while not self.accept(")"):
            if parameters:
                self.expect(",")
            if self.accept("..."):
                variadic = True
            else:
                parameters.append(self.type())
        return t.FunctionType(result, tuple(parameters), variadic)

    # ---- values ----

    def typed(self) -> Value:
        return self.value(self.type())

    def value(self, kind: t.Type) -> Value:
        token = self.peek()
        if isinstance(kind, t.Simple):
            self.refuse(f"a value of the type {kind} is not understood")
        first = token[:1]
        if first == "%":
            self.take()
            return Local(kind, token[1:])
        if first == "@":
            self.take()
            return Global(kind, token[1:])
        start = self.place
        if token in _CONSTANTS or first.isdigit() or first == "-" or token.startswith('c"'):
            self.take()
        elif token in ("[", "{", "<"):
            self.skip_group()
        elif token in _EXPRESSIONS:
            while self.peek() != "(":
                if not self.take():
                    self.refuse("a constant expression is not understood")
            self.skip_group()
        else:
            self.refuse(f"the value {token!r} is not understood")
        return Constant(kind, token if self.place == start + 1 else self.between(start))

    def constant(self) -> Constant:
        value = self.typed()
        if not isinstance(value, Constant):
            self.refuse(f"expected a constant, got {value}")
        return value

    # ---- functions ----

    def attributes(self, known: frozenset[str]) -> tuple[str, ...]:
        """Attributes, as they are spelled."""
        found: list[str] = []
        while True:
            start, token = self.place, self.peek()
            if token in known:
                self.take()
                if token == "align" and self.peek() != "(":
                    self.natural()
                elif token == "section":
                    self.take()
                elif self.peek() == "(":
                    self.skip_group()
            elif token[:1] == '"':
                self.take()
                if self.accept("="):
                    self.take()
            elif token[:1] == "#":
                self.take()
            else:
                return tuple(found)
            found.append(token if self.place == start + 1 else self.between(start))

    def function(self) -> Function:
        """What stands in front of a body, from `define` or `declare` on."""
        defined = self.take() == "define"
        before = self.attributes(_BEFORE_TYPE | ATTRIBUTES)
        result = self.type()
        name = self.take()
        if name[:1] != "@":
            self.refuse(f"expected the name of a function, got {name!r}")
        self.expect("(")
        parameters: list[Parameter] = []
        variadic = False
        while not self.accept(")"):
            if parameters:
                self.expect(",")
            if self.accept("..."):
                variadic = True
                continue
            kind = self.type()
            attributes = self.attributes(ATTRIBUTES)
            given = self.take()[1:] if self.peek()[:1] == "%" else str(len(parameters))
            parameters.append(Parameter(Local(kind, given), attributes))
        after = self.attributes(_AFTER_PARAMETERS)
        if defined:
            self.expect("{")
        self.expect_end()
        return Function(name[1:], result, tuple(parameters), (), variadic, before, after)
