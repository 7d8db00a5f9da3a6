"""The loops in a module's machine code, and whether they calculate in vectors. Reads what objdump prints of it.

It knows nothing of kernels: functions are asked for by name. Which instructions a loop has, and nothing else, decides
what is said of it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

_FUNCTION = re.compile(r"[0-9a-f]+ <(.+)>:$")
_LINE = re.compile(r" +([0-9a-f]+):\t(\S+) *(.*)$")
_TARGET = re.compile(r"([0-9a-f]+) <([^>+]+)")
# A calculation with real numbers: what it does, how its operands are numbered, whether packed, and of which type.
_ARITHMETIC = re.compile(
    r"v?(add|sub|mul|div|sqrt|min|max|fn?madd|fn?msub|fmaddsub|fmsubadd)(?:132|213|231)?([ps])([sd])$"
)
_ITEMS = {"s": ("float32", 4), "d": ("float64", 8)}
_REGISTER_BYTES = {"xmm": 16, "ymm": 32, "zmm": 64}
_MEMORY = {"memset", "memcpy", "memmove"}  # which are no sign of numbers taken one at a time
_PART = "."  # functions that belong to an entry are named after it, with a dot and what they do


@dataclass
class Loop:
    """A loop without those inside of it; `depth` is 0 for one that lies in no other.

    Attributes:
        instructions: how many it has.
        values: (element type, how many at a time): how many instructions calculate so.
        kinds: what they do: "add", "fmadd", ...
        calls: names of functions that it calls, such as "pow".
        rest: it does what a loop before it does with more values at a time: what that one leaves over.
    """

    depth: int
    instructions: int = 0
    values: Counter[tuple[str, int]] = field(default_factory=Counter)
    kinds: set[str] = field(default_factory=set)
    calls: set[str] = field(default_factory=set)
    rest: bool = False

    @property
    def widest(self) -> int:
        return max((length for _, length in self.values), default=0)

    def described(self) -> dict[str, Any]:
        """As JSON has it."""
        values = [{"dtype": kind, "at_a_time": length, "count": n} for (kind, length), n in self.values.items()]
        shape = {"depth": self.depth, "instructions": self.instructions}
        return {**shape, "values": values, "calls": sorted(self.calls), "rest": self.rest}

    def text(self) -> str:
        """What it calculates: "16 float32 at a time", "one float64 at a time; calls pow"."""
        parts = []
        for (kind, length), count in sorted(self.values.items(), key=lambda item: -item[0][1]):
            share = f" ({count} of {self.values.total()})" if len(self.values) > 1 else ""
            parts.append(f"{'one' if length == 1 else length} {kind} at a time{share}")
        text = ", ".join(parts) or "no arithmetic on real numbers"
        if self.calls:
            text += f"; calls {', '.join(sorted(self.calls))}"
        return text + ("; what a loop above leaves over" if self.rest else "")


@dataclass(frozen=True)
class _Instruction:
    address: int
    name: str
    operands: str


def find_loops(path: str, functions: Sequence[str]) -> dict[str, list[Loop]]:
    """The loops of each function and of the functions that are parts of it, in the order of their code.

    A function whose code is not found, as in a module without symbols, has no place in the result. One without loops
    has one Loop with depth -1, which is all of its code.

    Raises:
        RuntimeError: when there is no objdump, or it failed.
    """
    wanted = set(functions)
    loops: dict[str, list[Loop]] = {}
    for name, code in _listing(path):
        owner = name.partition(_PART)[0]
        if owner in wanted:
            loops.setdefault(owner, []).extend(_loops_of(name, code))
    for name, found in loops.items():
        if any(loop.depth >= 0 for loop in found):
            loops[name] = [loop for loop in found if loop.depth >= 0]
        else:
            loops[name] = [_together(found)]
    return loops


def _listing(path: str) -> Iterator[tuple[str, list[_Instruction]]]:
    """(name, instructions) of every function with a symbol."""
    program = shutil.which("objdump")
    if program is None:
        raise RuntimeError("no objdump found, which reads machine code: install binutils")
    done = subprocess.run(
        [program, "-d", "-w", "--no-show-raw-insn", "--section=.text", path],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"objdump failed: {done.stderr.strip()[:200] or done.returncode}")
    name, code = "", []
    for line in done.stdout.splitlines():
        if match := _LINE.match(line):
            code.append(_Instruction(int(match[1], 16), match[2], match[3]))
        elif match := _FUNCTION.match(line):
            if code:
                yield name, code
            name, code = match[1], []
    if code:
        yield name, code


def _loops_of(function: str, code: list[_Instruction]) -> list[Loop]:
    """Loops are where a jump goes back, from there to the last such jump. Without any, all code with depth -1."""
    ends: dict[int, int] = {}
    for each in code:
        target = _TARGET.match(each.operands) if each.name.startswith("j") else None
        if target and target[2] == function and (head := int(target[1], 16)) <= each.address:
            ends[head] = each.address
    spans = sorted(ends.items(), key=lambda span: (span[0], -span[1]))
    loops = [Loop(sum(a <= head and end <= b for a, b in spans) - 1) for head, end in spans]
    whole = Loop(-1)
    for each in code:
        inside = [i for i, (head, end) in enumerate(spans) if head <= each.address <= end]
        _count(each, loops[min(inside, key=lambda i: spans[i][1] - spans[i][0])] if inside else whole)
    for i, loop in enumerate(loops):
        loop.rest = any(
            other.kinds == loop.kinds and other.widest > loop.widest > 0 and not loop.calls for other in loops[:i]
        )
    return loops or [whole]


def _count(instruction: _Instruction, loop: Loop) -> None:
    loop.instructions += 1
    if instruction.name.startswith("call"):
        target = _TARGET.match(instruction.operands)
        name = target[2].removesuffix("@plt") if target else "a function by its address"
        loop.calls |= {name} - _MEMORY
    match = _ARITHMETIC.match(instruction.name)
    if not match:
        return
    kind, size = _ITEMS[match[3]]
    width = max((_REGISTER_BYTES[name] for name in re.findall(r"%([xyz]mm)", instruction.operands)), default=16)
    loop.values[kind, width // size if match[2] == "p" else 1] += 1
    loop.kinds.add(match[1].replace("n", "", 1) if match[1].startswith("fn") else match[1])


def _together(parts: list[Loop]) -> Loop:
    """All of an entry's code as one."""
    whole = Loop(-1)
    for part in parts:
        whole.instructions += part.instructions
        whole.values.update(part.values)
        whole.kinds |= part.kinds
        whole.calls |= part.calls
    return whole


def lines(loops: list[Loop]) -> list[str]:
    """A line for each loop that calculates or calls, indented by its depth, and one for how many others there are."""
    if loops[0].depth < 0:
        return [f"no loop; {loops[0].text()}"]
    telling = [loop for loop in loops if loop.values or loop.calls]
    told = [f"{'  ' * loop.depth}{loop.instructions:,} instructions: {loop.text()}" for loop in telling]
    if others := len(loops) - len(telling):
        told.append(f"{others} loop{'s' if others > 1 else ''} without arithmetic on real numbers")
    return told
