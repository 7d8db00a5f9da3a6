"""Mutants of the PTX that a module ships: each has one instruction changed, and the checks of results or the
interpreter have to find it.

    python cuda_mutants.py FOLDER LIBRARY SEED COUNT

prints those that nothing found. TIAOT_CUDA_PTX has to be 1.
"""

from __future__ import annotations

import ctypes
import random
import re
import sys
from pathlib import Path

import cuda_interpreted
import tiaot
from cuda_arrays import Driver
from cuda_numerics import check_kernel
from kernel_cases import DRAWN, RANDOM

SIZES = (3, 34, 300, 2100)  # the last one more than a grid has threads at most
MOST_STEPS = 20_000_000  # of a launch: more than any needs, and soon over for one that does not end
# An instruction and what it becomes. Each changes what is computed, or where it goes to.
CHANGES: list[tuple[str, str]] = [
    (r"\badd\.s64\b", "sub.s64"),
    (r"\badd\.s32\b", "sub.s32"),
    (r"\bmul\.lo\.s(32|64)\b", r"add.s\1"),
    (r"\bmul\.rn\.f(32|64)\b", r"add.rn.f\1"),
    (r"\badd\.rn\.f(32|64)\b", r"mul.rn.f\1"),
    (r"\bsub\.rn\.f(32|64)\b", r"add.rn.f\1"),
    (r"\bsetp\.lt\.", "setp.gt."),
    (r"\bsetp\.(?:ge|gt)\.", "setp.lt."),
    (r"\bsetp\.eq\.", "setp.ne."),
    (r"\bsetp\.ne\.", "setp.eq."),
    (r"^(\s*)@%p", r"\1@!%p"),
    (r"^(\s*)@!%p", r"\1@%p"),
    (r"\bshl\.b(32|64)\b(.*), (\d+);", r"shl.b\1\2, 1\3;"),
    (r"\bmul\.wide\.(\w+)\b(.*), (\d+);", r"mul.wide.\1\2, 1\3;"),
    (r"\bselp\.(\w+) \t?(%\w+), (\S+), (\S+), ", r"selp.\1 \2, \4, \3, "),
    (r"\b(ld\.(?:global|local|param)\S* .*\[\w+|%rd\d+)\+(\d+)\]", r"\1+1\2]"),
    (r"^\s*st\.(?:global|local)\S* .*$", ""),
    (r"\batom\.(\S*)add\.", r"atom.\1exch."),
    (r"\bfma\.rn\.f(32|64) \t?(%\w+), (\S+), (\S+), (\S+);", r"fma.rn.f\1 \2, \3, \5, \4;"),
    (r"\bmin\.", "max."),
    (r"\bmax\.", "min."),
]
Mutant = tuple[str, str, str]  # (the kernel's entry, its instruction, what became of it)


def mutate(ptx: str, entries: set[str], chance: random.Random) -> tuple[Mutant, str]:
    """A mutant, and the whole text with it. `entries` are the kernels of the text that may be changed."""
    lines = ptx.splitlines()
    places = []
    inside = ""
    for number, line in enumerate(lines):
        if found := re.match(r"\.visible \.entry (\w+)\(", line):
            inside = found[1]
        elif line == "}":
            inside = ""
        if inside in entries:
            for pattern, replacement in CHANGES:
                changed = re.sub(pattern, replacement, line, count=1)
                if changed != line:
                    places.append((number, inside, line, changed))
    number, entry, line, changed = chance.choice(places)
    text = "\n".join([*lines[:number], changed, *lines[number + 1 :]])
    return (entry, line.strip(), changed.strip()), text


def survives(driver: Driver, folder: Path, file: str, name: str, text: str) -> bool:
    """Whether all checks of a kernel pass with the text in place of its module's."""
    driver.replace_ptx(text.encode())
    try:
        with tiaot.open(folder / f"{file}.so") as module:
            check_kernel(cuda_interpreted.InterpretedArrays(), module, file, name, SIZES)
    except (AssertionError, RuntimeError, MemoryError):
        return False
    finally:
        driver.replace_ptx(None)
        driver.forget_memory(None)
    return True


def launched(driver: Driver, folder: Path, file: str, name: str) -> tuple[str, set[str]]:
    """The PTX of a module, and which kernels its checks launch."""
    driver.calls()
    with tiaot.open(folder / f"{file}.so") as module:
        check_kernel(cuda_interpreted.InterpretedArrays(), module, file, name, SIZES)
    lines = driver.calls("cuLaunchKernel")
    return driver.ptx().decode(), {line.split("kernel=")[1].split()[0] for line in lines}


def main(folder: Path, library: str, seed: int, count: int) -> int:
    driver = Driver(library)
    cuda_interpreted.use_interpreter(driver, multiprocessors=1)
    driver.set_interpreter(0, 0, ctypes.c_int64(MOST_STEPS))
    cuda_interpreted.InterpretedArrays.driver = driver
    chance = random.Random(seed)
    kernels = [(file, name) for file, names in DRAWN.items() for name in names if name not in RANDOM]
    survivors = []
    tried = 0
    while tried < count:
        file, name = chance.choice(kernels)
        text, entries = launched(driver, folder, file, name)
        if not entries:  # it has no code for CUDA
            continue
        tried += 1
        mutant, changed = mutate(text, entries, chance)
        if survives(driver, folder, file, name, changed):
            survivors.append(mutant)
    for survivor in survivors:
        print(" | ".join(survivor))
    print(f"{count - len(survivors)} of {count} found")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
