"""Writes a C program that calls every plain function of a module, by its header, and prints all that it gets: for the
same module compiled for different CPUs, whose results are then compared."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SIZE = 5  # of every dimension that has no size of its own
COMMENT = re.compile(r"/\* ((?:\w+ \([^)]*\)(?: of float16)?(?:, )?)+) \*/\n(?=int )")
PROTOTYPE = re.compile(r"^int (\w+)\(([^;]*)\);", re.MULTILINE)
FIELD = re.compile(r"^/\* (\w+) ([\w.]+)\[([\d, ]*)\], strides \[([\d, ]*)\] \*/\n#define (\w+) \d+", re.MULTILINE)

# draw() gives a number in [0, 1), the next one each time; a number of a kind is made of it, and printed so.
KINDS = {
    "float": ("(float)(0.5 + draw())", '"%.9g"', "{}"),
    "double": ("0.5 + draw()", '"%.17g"', "{}"),
    "float16": ("(uint16_t)(0x3800 + (int)(1024 * draw()))", '"%.9g"', "half({})"),  # 0.5 to 1
    "uint16_t": ("(uint16_t)(0x3800 + (int)(1024 * draw()))", '"%.9g"', "half({})"),
    "int32_t": ("(int32_t)(3 * draw())", '"%lld"', "(long long){}"),
    "int64_t": ("(int64_t)(3 * draw())", '"%lld"', "(long long){}"),
    "uint8_t": ("(uint8_t)(3 * draw())", '"%lld"', "(long long){}"),
}

START = """#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "HEADER"

static unsigned long long drawn;
static double draw(void) {
  drawn = drawn * 6364136223846793005ull + 1442695040888963407ull;
  return (double)(drawn >> 11) * 0x1p-53;
}
static double half(uint16_t bits) {
  const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
  double value = exponent == 31 ? mantissa ? NAN : INFINITY : ldexp(exponent ? 1024 + mantissa : mantissa,
                                                                    (exponent ? exponent : 1) - 25);
  return bits >> 15 ? -value : value;
}
int main(void) {
  (void)half;
"""


@dataclass(frozen=True)
class Parameter:
    """Of a plain function: a size, a number, an array, or the state."""

    name: str
    kind: str
    pointer: bool
    written: bool


def parameters(text: str) -> list[Parameter]:
    found = []
    for each in text.split(","):
        match = re.fullmatch(r"(const )?(\w+) (\*?)(\w+)", " ".join(each.split()))
        assert match is not None, each
        pointer = match[3] == "*"
        found.append(Parameter(match[4], match[2], pointer, pointer and match[1] is None))
    return found


def program(header: Path, sizes: Mapping[str, int]) -> str:
    """The program for a module with this header; each result is a line `function array: number number ...`.

    `sizes` are those of some dimensions, wherever they occur; all others have SIZE.
    """
    text = header.read_text()
    lines = [START.replace("HEADER", header.name)]
    state = re.search(r"#define (\w+)_STATE_BYTES (\d+)", text)
    if state:
        lines.append(f"  void *state = aligned_alloc(64, ({state[2]} + 63) / 64 * 64);")
    comments = {match.end(): match[1] for match in COMMENT.finditer(text)}
    for match in PROTOTYPE.finditer(text):
        shapes = dict(re.findall(r"(\w+) \(([^)]*)\)", comments.get(match.start(), "")))
        halves = set(re.findall(r"(\w+) \([^)]*\) of float16", comments.get(match.start(), "")))
        lines += ["  {", f"    drawn = {len(lines)};"]
        if state:
            init = re.search(r"void (\w+_init_state)\(", text)
            assert init is not None
            lines.append(f"    {init[1]}(state);")
            for kind, _, shape, strides, offset in FIELD.findall(text):
                if kind in ("float", "double"):  # others may be used as indices
                    where, count = _element(kind, shape, strides, offset)
                    lines.append(f"    for (int64_t at_ = 0; at_ < {count}; at_++) {where} = {KINDS[kind][0]};")
        given, results = [], []
        for each in parameters(match[2]):
            given.append(each.name)
            if each.kind == "void":
                continue
            kind = "float16" if each.name in halves else each.kind
            draw = KINDS[kind][0]
            if not each.pointer:
                is_size = not shapes or each.name in {dim for shape in shapes.values() for dim in shape.split(", ")}
                value = str(sizes.get(each.name, SIZE)) if each.kind == "int64_t" and is_size else draw
                lines.append(f"    const {each.kind} {each.name} = {value};")
                continue
            count = " * ".join(["1", *filter(None, shapes[each.name].split(", "))])
            lines.append(f"    const int64_t {each.name}_count = {count};")
            lines.append(
                f"    {each.kind} *{each.name} = malloc((size_t)({each.name}_count + 1) * sizeof *{each.name});"
            )
            lines.append(f"    for (int64_t at_ = 0; at_ < {each.name}_count; at_++) {each.name}[at_] = {draw};")
            if each.written:
                results.append((each.name, kind))
        lines.append(f'    printf("{match[1]} status: %d\\n", {match[1]}({", ".join(given)}));')
        for name, kind in results:
            lines += _printed(f"{match[1]} {name}", kind, f"{name}[at_]", f"{name}_count")
        if any(each.kind == "void" for each in parameters(match[2])):
            for kind, name, shape, strides, offset in FIELD.findall(text):
                where, count = _element(kind, shape, strides, offset)
                lines += _printed(f"{match[1]} {name}", kind, where, count)
        lines.append("  }")
    return "\n".join([*lines, "  return 0;", "}", ""])


def _element(kind: str, shape: str, strides: str, offset: str) -> tuple[str, str]:
    """Element number `at_` of a field, and how many there are."""
    place, behind = "0", "1"
    for size, stride in reversed([*zip(re.findall(r"\d+", shape), re.findall(r"\d+", strides), strict=True)]):
        place += f" + at_ / ({behind}) % {size} * {stride}"
        behind += f" * {size}"
    return f"(({kind} *)((char *)state + {offset}))[{place}]", behind


def _printed(what: str, kind: str, value: str, count: str) -> list[str]:
    _, form, given = KINDS[kind]
    return [
        f'    printf("{what}:");',
        f'    for (int64_t at_ = 0; at_ < {count}; at_++) printf(" " {form}, {given.format(value)});',
        '    printf("\\n");',
    ]
