"""The forward mode: a function that computes, beside what it computed, the derivative along a direction. One pass.

    tangent(function, shadows)

Beside every floating-point value stands its tangent, beside every pointer to memory that depends on the inputs one to
its *shadow*, memory of the same layout that holds tangents. Integers and control flow stay as they are. What does not
depend on the inputs has no tangent, and costs nothing. There is no tape: loops of any length and `while` are as good as
straight lines.

The function is one that LLVM has simplified (`simplify`), so that its pointers are parameters, local variables and
places within these. What the pass does not understand it refuses with its line; nothing passes without its tangent.

**Integers** carry the bits of numbers where LLVM copies memory by them. So an integer that is loaded from memory with a
shadow has one, too, that of the bits, which only a copy uses: it is stored, chosen (phi, select), widened, cut, or seen
as a number again. Integers that are computed have none; to see one as a number is refused, and so is everything that is
done to the bits of a number with a tangent, but to look at them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any, NoReturn

from ..ir import types as t
from ..ir.builder import Builder
from ..ir.control_flow import order
from ..ir.instructions import (
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
from ..ir.model import Block, Function, Parameter
from ..ir.values import Constant, Global, Local, LoweringError, Value, zero
from ..ir.writer import write_instruction
from .rules import Arithmetic, real, rule_of


class Kind(Enum):
    """How a value depends on the inputs. Of a phi the highest of its values' kinds."""

    NONE = 0  # not at all: its tangent is zero; a pointer to memory without a shadow
    SHADOWED = 1  # it has a tangent, or a shadow
    COMPUTED = 2  # an integer computed from one that was loaded from memory with a shadow
    BITS = 3  # an integer computed from the bits of a number that has a tangent


# Casts whose result has no tangent: integers are steps, and an integer that becomes a number is one.
_TO_OTHER_NUMBERS = frozenset({"fptoui", "fptosi", "uitofp", "sitofp", "ptrtoint"})

# Functions of ours that work on memory alone: called once more, on the shadows.
_TWICE = frozenset({"tiaot_stack_grow", "tiaot_stack_destroy", "malloc", "free"})
# Those that need no tangent at all, whatever they are given.
_IGNORED = ("llvm.lifetime.", "llvm.assume", "llvm.invariant.", "llvm.dbg.", "llvm.experimental.noalias")
_COPIES = ("llvm.memcpy.", "llvm.memmove.")
_ATOMIC_EXTREMA = {"atomic_min": "olt", "atomic_max": "ogt"}


def tangent(
    function: Function,
    shadows: Mapping[str, str],
    module_types: Mapping[str, t.Type | None],
    called: dict[str, Function],
) -> Function:
    """The function that computes tangents, too, under the same name and with the same parameters.

    Args:
        function: a function whose parameters have room for the shadows.
        shadows: for each parameter that points to memory with a shadow the parameter that points to the shadow. To
            memory of any other parameter nothing that has a tangent may be written; what is read there has none.
        module_types: the named types of the module.
        called: is given the declarations of functions that are called anew.

    Raises:
        LoweringError: for what has no rule, with the line.
    """
    return _Pass(function, shadows, module_types, called).run()


class _Pass:
    def __init__(
        self,
        function: Function,
        shadows: Mapping[str, str],
        module_types: Mapping[str, t.Type | None],
        called: dict[str, Function],
    ) -> None:
        self.function = function
        self.called = called
        parameters = {each.value.name: each.value for each in function.parameters}
        self.shadows: dict[str, Value] = {name: parameters[shadow] for name, shadow in shadows.items()}
        self.kinds = _Analysis(function, frozenset(shadows)).kinds
        self.build = Builder(function.names, module_types)
        self.pending: list[tuple[Local, Phi]] = []  # phis of shadows, whose values come later

    def run(self) -> Function:
        done: dict[str, list[Instruction]] = {}
        for label in order(self.function):
            block = self.function.by_label[label]
            phis = [(each, self._phi(each)) for each in block.phis]
            shadows = [shadow for _, shadow in phis if shadow is not None]
            for instruction in block.instructions[len(phis) :]:
                self._instruction(instruction)
            done[label] = [*(each for each, _ in phis), *shadows, *self.build.take()]
        filled = {result.name: self._filled(result, phi) for result, phi in self.pending}
        blocks = []
        for block in self.function.blocks:
            instructions = done.get(block.label)
            if instructions is None:  # nothing comes here
                instructions = list(block.instructions)
            blocks.append(
                Block(
                    block.label,
                    tuple(filled.get(each.result.name, each) if each.result else each for each in instructions),
                )
            )
        return self.function.with_blocks(blocks)

    # ---- values ----

    def kind(self, value: Value) -> Kind:
        return self.kinds.get(value.name, Kind.NONE) if isinstance(value, Local) else Kind.NONE

    def shadow(self, value: Value) -> Value | None:
        """The tangent of a number, the shadow of a pointer or of an integer's bits; None for zero."""
        if self.kind(value) is not Kind.SHADOWED:
            return None
        assert isinstance(value, Local)
        return self.shadows[value.name]

    def shadow_or_zero(self, value: Value) -> Value:
        shadow = self.shadow(value)
        return zero(value.type) if shadow is None else shadow

    def _name(self, value: Local) -> str:
        return "t" if value.name[0].isdigit() or value.name[0] == '"' else f"{value.name}.t"  # numbers stay LLVM's own

    def _give(self, value: Local, shadow: Value | None) -> None:
        """Says what the shadow of a value is."""
        self.shadows[value.name] = zero(value.type) if shadow is None else shadow

    # ---- control flow ----

    def _check_choice(self, instruction: Phi | Select, *values: Value) -> None:
        """That all pointers that are chosen between have a shadow, or none."""
        if (
            values[0].type.is_pointer
            and len({self.kind(each) for each in values if not isinstance(each, Constant)}) > 1
        ):
            self.refuse(instruction, "it chooses between memory with tangents and memory without")

    def _phi(self, phi: Phi) -> Instruction | None:
        self._check_choice(phi, *phi.values)
        if self.kind(phi.result) is not Kind.SHADOWED:
            return None
        result = Local(phi.result.type, self.build.fresh(self._name(phi.result)))
        self.shadows[phi.result.name] = result
        self.pending.append((result, phi))
        return Phi(result, phi.values, phi.labels)

    def _filled(self, result: Local, phi: Phi) -> Instruction:
        return Phi(result, tuple(self.shadow_or_zero(value) for value in phi.values), phi.labels, phi.flags)

    # ---- instructions ----

    def _instruction(self, instruction: Instruction) -> None:
        rule = _RULES.get(type(instruction))
        if rule is None:
            self.refuse(instruction, "it has no rule")
        rule(self, instruction)

    def refuse(self, instruction: Instruction, why: str) -> NoReturn:
        raise LoweringError(
            f"the forward mode cannot differentiate {write_instruction(instruction).strip()[:200]!r} (line "
            f"{instruction.line} of {self.function.name!r}): {why}"
        )

    def _is_shadowed(self, instruction: Instruction) -> bool:
        return instruction.result is not None and self.kind(instruction.result) is Kind.SHADOWED

    def _arithmetic(self, kind: t.Type, spell: Callable[[str], str] = str) -> Arithmetic:
        return Arithmetic(self.build, kind, spell, self.called)

    def _again(self, instruction: Instruction, **changes: Any) -> None:
        """The same instruction with other operands, whose result is the shadow of the first's."""
        result = None
        if instruction.result is not None:
            result = Local(instruction.result.type, self.build.fresh(self._name(instruction.result)))
            self.shadows[instruction.result.name] = result
        self.build.add(dataclasses.replace(instruction, result=result, **changes))

    def _alike(self, instruction: Instruction) -> None:
        """For what only moves values: the same on their shadows."""
        self.build.add(instruction)
        if self._is_shadowed(instruction):
            self._again(instruction.with_operands(self.shadow_or_zero))

    def _binary(self, instruction: Binary) -> None:
        self.build.add(instruction)
        if not self._is_shadowed(instruction):
            return
        assert instruction.result is not None
        a = self._arithmetic(instruction.result.type)
        left, right = instruction.left, instruction.right
        dl, dr = self.shadow(left), self.shadow(right)
        flags = instruction.flags
        found: Value | None
        if instruction.opcode in ("fadd", "fsub") and dl is not None and dr is not None:
            found = self.build.binary(instruction.opcode, dl, dr, flags=flags)
        elif instruction.opcode == "fadd":
            found = a.sum(dl, dr)
        elif instruction.opcode == "fsub":
            found = a.difference(dl, dr)
        elif instruction.opcode == "fmul":
            found = a.sum(a.scaled(dl, lambda: right), a.scaled(dr, lambda: left))
        elif instruction.opcode == "fdiv":  # (dl - y dr) / r
            top = a.difference(dl, a.scaled(dr, lambda: instruction.result))  # type: ignore[arg-type,return-value]
            assert top is not None
            found = a.over(top, right)
        elif instruction.opcode == "frem":  # y = l - trunc(l / r) r
            if dr is None:
                found = dl
            else:
                turns = a.intrinsic("round", a.over(a.minus(left, instruction.result), right))  # whole but for rounding
                found = a.difference(dl, a.times(turns, dr))
        else:
            self.refuse(instruction, "it has no rule")
        self._give(instruction.result, found)

    def _cast(self, instruction: Cast) -> None:
        if instruction.opcode == "inttoptr":
            self.refuse(instruction, "it makes a pointer of an integer")
        is_number = instruction.opcode == "bitcast" and instruction.result.type.is_float
        if is_number and self.kind(instruction.value) in (Kind.COMPUTED, Kind.BITS):
            self.refuse(instruction, "it makes a number of bits that were computed")
        self.build.add(instruction)
        if self._is_shadowed(instruction):
            self._again(instruction, value=self.shadow_or_zero(instruction.value))

    def _select(self, instruction: Select) -> None:
        self._check_choice(instruction, instruction.yes, instruction.no)
        self.build.add(instruction)
        if self._is_shadowed(instruction):
            assert instruction.result is not None
            yes, no = self.shadow_or_zero(instruction.yes), self.shadow_or_zero(instruction.no)
            self._give(instruction.result, self.build.select(instruction.condition, yes, no))

    def _vector(self, instruction: ExtractElement | InsertElement) -> None:
        self.build.add(instruction)
        if self._is_shadowed(instruction):
            changes = {"vector": self.shadow_or_zero(instruction.vector)}
            if isinstance(instruction, InsertElement):
                changes["element"] = self.shadow_or_zero(instruction.element)
            self._again(instruction, **changes)

    # ---- memory ----

    def _alloca(self, instruction: Alloca) -> None:
        self.build.add(instruction)
        self._again(instruction)

    def _through_pointer(self, instruction: Load | GetElementPointer) -> None:
        self.build.add(instruction)
        if self._is_shadowed(instruction):
            self._again(instruction, pointer=self.shadow(instruction.pointer))

    def _store(self, instruction: Store) -> None:
        self.build.add(instruction)
        target, value = self.shadow(instruction.pointer), instruction.value
        kind = self.kind(value)
        if target is None:
            if kind in (Kind.SHADOWED, Kind.BITS) and not value.type.is_integer:
                self.refuse(instruction, "it stores what has a tangent where there is no room for one")
            if kind is Kind.BITS:
                self.refuse(instruction, "it stores the bits of a number that has a tangent")
            return
        if kind is Kind.BITS:
            self.refuse(instruction, "it stores bits that were computed from a number that has a tangent")
        if value.type.is_pointer and kind is Kind.NONE and not isinstance(value, Constant):
            self.refuse(instruction, "it stores a pointer to memory that has no tangents")
        self.build.add(dataclasses.replace(instruction, value=self.shadow_or_zero(value), pointer=target))

    def _atomic(self, instruction: AtomicUpdate) -> None:
        self.build.add(instruction)
        target = self.shadow(instruction.pointer)
        value = self.shadow(instruction.value)
        if not instruction.value.type.is_float:
            if instruction.operation == "xchg" and self.kind(instruction.value) is not Kind.NONE:
                self.refuse(instruction, "it exchanges the bits of a number")
            return
        if target is None:
            if value is not None:
                self.refuse(instruction, "it adds what has a tangent where there is no room for one")
            return
        if instruction.operation not in ("fadd", "fsub", "xchg"):
            self.refuse(instruction, f"atomic {instruction.operation!r} has no rule")
        change = real(instruction.value.type, 0.0) if value is None else value
        self._again(instruction, pointer=target, value=change)

    # ---- calls ----

    def _call(self, instruction: Call) -> None:
        name = instruction.name
        if name.startswith(_IGNORED):
            self.build.add(instruction)
        elif name.startswith(_COPIES):
            self._copy(instruction)
        elif name.startswith("llvm.memset."):
            self._fill(instruction)
        elif name in _TWICE:
            self._call_twice(instruction)
        elif (extremum := name.rpartition("_")[0]) in _ATOMIC_EXTREMA and instruction.arguments[1].type.is_float:
            self._atomic_extremum(instruction, _ATOMIC_EXTREMA[extremum])
        else:
            self._call_by_rule(instruction)

    def _call_by_rule(self, instruction: Call) -> None:
        self.build.add(instruction)
        tangents = [self.shadow(each) if each.type.is_float else None for each in instruction.arguments]
        pointers = [each for each in instruction.arguments if each.type.is_pointer]
        if any(self.kind(each) is Kind.SHADOWED for each in pointers):
            self.refuse(instruction, f"{instruction.name or 'the function'!r} is given memory that has tangents")
        if all(each is None for each in tangents):
            return  # then its result depends on no input
        found = rule_of(instruction.name)
        if found is None or instruction.result is None:
            self.refuse(instruction, f"{instruction.name or 'the function'!r} has no rule")
            return
        rule, spell = found
        a = self._arithmetic(instruction.result.type, spell)
        self._give(instruction.result, rule(a, instruction.arguments, instruction.result, tangents))

    def _call_twice(self, instruction: Call) -> None:
        self.build.add(instruction)
        arguments = tuple(self.shadow_or_zero(each) if each.type.is_pointer else each for each in instruction.arguments)
        self._again(instruction, arguments=arguments)

    def _copy(self, instruction: Call) -> None:
        self.build.add(instruction)
        target, source, size, volatile = instruction.arguments
        to, origin = self.shadow(target), self.shadow(source)
        if to is None and origin is not None:
            self.refuse(instruction, "it copies what has tangents to where there is no room for them")
        elif to is not None and origin is not None:
            self.build.add(dataclasses.replace(instruction, arguments=(to, origin, size, volatile)))
        elif to is not None:
            self._clear(to, size)

    def _fill(self, instruction: Call) -> None:
        self.build.add(instruction)
        target, _, size, _ = instruction.arguments
        if (to := self.shadow(target)) is not None:
            self._clear(to, size)

    def _clear(self, pointer: Value, size: Value) -> None:
        raw = t.Pointer(t.I8)
        if pointer.type != raw:
            pointer = self.build.cast("bitcast", pointer, raw)
        name = f"llvm.memset.p0i8.{size.type}"
        kinds = (raw, t.I8, size.type, t.I1)
        if name not in self.called:
            self.called[name] = Function(
                name, t.VOID, tuple(Parameter(Local(kind, str(place))) for place, kind in enumerate(kinds))
            )
        callee = Global(t.Pointer(t.FunctionType(t.VOID, kinds)), name)
        self.build.call(callee, pointer, Constant(t.I8, "0"), size, Constant(t.I1, "false"))

    def _atomic_extremum(self, instruction: Call, predicate: str) -> None:
        """`old = atomic_max(p, v)`: the tangent in memory becomes v's where v wins. For one thread at a time."""
        pointer, value = instruction.arguments
        target = self.shadow(pointer)
        if target is None:
            if self.shadow(value) is not None:
                self.refuse(instruction, "it stores what has a tangent where there is no room for one")
            self.build.add(instruction)
            return
        assert instruction.result is not None
        self.build.add(instruction)
        old = self.build.load(target)
        wins = self.build.compare(predicate, value, instruction.result)
        self.build.store(self.build.select(wins, self.shadow_or_zero(value), old), target)
        self._give(instruction.result, old)

    def _exchange(self, instruction: CompareExchange) -> None:
        if self.shadow(instruction.pointer) is not None:
            self.refuse(instruction, "it exchanges memory that has tangents")
        self.build.add(instruction)

    def _return(self, instruction: Return) -> None:
        value = instruction.value
        if value is not None and self.kind(value) is not Kind.NONE and not value.type.is_integer:
            self.refuse(instruction, "it returns what has a tangent")
        self.build.add(instruction)

    def _plain(self, instruction: Instruction) -> None:
        """What gives no number: it stays as it is."""
        self.build.add(instruction)


_RULES: dict[type, Callable[..., None]] = {
    Unary: _Pass._alike,
    Binary: _Pass._binary,
    Compare: _Pass._plain,
    Cast: _Pass._cast,
    Select: _Pass._select,
    Alloca: _Pass._alloca,
    Load: _Pass._through_pointer,
    Store: _Pass._store,
    GetElementPointer: _Pass._through_pointer,
    AtomicUpdate: _Pass._atomic,
    Fence: _Pass._plain,
    ExtractElement: _Pass._vector,
    InsertElement: _Pass._vector,
    Shuffle: _Pass._alike,
    ExtractValue: _Pass._alike,
    InsertValue: _Pass._alike,
    Call: _Pass._call,
    CompareExchange: _Pass._exchange,
    Return: _Pass._return,
    Branch: _Pass._plain,
    Switch: _Pass._plain,
    Unreachable: _Pass._plain,
}


class _Analysis:
    """The kind of every value of a function, by its name: the least that its instructions allow."""

    def __init__(self, function: Function, shadowed: frozenset[str]) -> None:
        self.function = function
        self.kinds: dict[str, Kind] = dict.fromkeys(shadowed, Kind.SHADOWED)
        ordered = [instruction for label in order(function) for instruction in function.by_label[label].instructions]
        changed = True
        while changed:  # kinds only rise
            changed = False
            for instruction in ordered:
                if instruction.result is None:
                    continue
                kind = self._highest(self._kind(instruction), self.of(instruction.result))
                changed = changed or kind is not self.of(instruction.result)
                self.kinds[instruction.result.name] = kind

    def of(self, value: Value) -> Kind:
        return self.kinds.get(value.name, Kind.NONE) if isinstance(value, Local) else Kind.NONE

    def _highest(self, *kinds: Kind) -> Kind:
        return max(kinds, key=lambda kind: kind.value, default=Kind.NONE)

    def _of_all(self, values: Iterable[Value]) -> Kind:
        return self._highest(*map(self.of, values))

    def _kind(self, instruction: Instruction) -> Kind:
        if isinstance(instruction, Alloca):
            return Kind.SHADOWED
        if isinstance(instruction, (Load, GetElementPointer)):
            return self.of(instruction.pointer)
        if isinstance(instruction, AtomicUpdate):
            kind = self.of(instruction.pointer)
            return self._computed(kind) if instruction.result.type.is_integer else kind
        if isinstance(instruction, CompareExchange):
            return self._computed(self.of(instruction.pointer))
        if isinstance(instruction, Compare):
            return Kind.NONE
        if isinstance(instruction, Cast) and instruction.opcode in _TO_OTHER_NUMBERS:
            return Kind.NONE
        if isinstance(instruction, Select):
            return self._of_all((instruction.yes, instruction.no))
        if isinstance(instruction, Call):
            return self._call(instruction)
        kind = self._of_all(instruction.operands)
        assert instruction.result is not None
        if isinstance(instruction, Binary) and instruction.result.type.is_integer:
            if kind is Kind.SHADOWED and any(self._from_number(each, set()) for each in instruction.operands):
                return Kind.BITS
            return self._computed(kind)
        return kind

    def _call(self, instruction: Call) -> Kind:
        assert instruction.result is not None
        if instruction.name in _TWICE:
            return Kind.SHADOWED
        if instruction.result.type.is_float:
            if instruction.name.rpartition("_")[0] in _ATOMIC_EXTREMA:
                return self.of(instruction.arguments[0])
            return self._of_all(each for each in instruction.arguments if each.type.is_float)
        return self._computed(self._of_all(each for each in instruction.arguments if each.type.is_integer))

    def _computed(self, kind: Kind) -> Kind:
        """The kind of an integer that was computed from one of this kind."""
        return Kind.COMPUTED if kind is Kind.SHADOWED else kind

    def _from_number(self, value: Value, seen: set[str]) -> bool:
        """Whether an integer with a shadow is the bits of a number that this function knows as such."""
        if not isinstance(value, Local) or value.name in seen or not value.type.is_integer:
            return False
        seen.add(value.name)
        definition = self.function.definition(value)
        if isinstance(definition, Cast) and definition.value.type.is_float:
            return definition.opcode == "bitcast" and self.of(definition.value) is not Kind.NONE
        if isinstance(definition, (Cast, Phi, Select, Unary, ExtractElement, InsertElement, Shuffle)):
            return any(self._from_number(each, seen) for each in definition.operands)
        return False
