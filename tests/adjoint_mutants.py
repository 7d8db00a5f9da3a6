"""Mutants of the reverse mode: each has one of its rules or steps changed, and tests/kernels/reverse.py has to show it.

    python tests/adjoint_mutants.py [NAME ...]

exports these kernels with each mutant, or with those that are named, for the lowest CPU level, holds every vjp against
the jvp, and prints what found the mutant. Ends with 1 where nothing has.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import tiaot

ADJOINT, TASKS, KEPT = (f"export/derivative/{each}.py" for each in ("adjoint", "adjoint_tasks", "kept"))
ACTIVITY, SHARED = (f"export/derivative/{each}.py" for each in ("activity", "shared"))
ATOMICS = "export/ir/passes/atomics.py"
# By a name: the file, what stands there once, and what the mutant has in its place.
MUTANTS: dict[str, tuple[str, str, str]] = {
    "product": (ADJOINT, "a.times(found, self.value(left))", "a.times(found, self.value(right))"),
    "quotient": (ADJOINT, "a.negative(a.times(share, self.value(result)))", "a.times(share, self.value(result))"),
    "difference": (ADJOINT, 'found if instruction.opcode == "fadd" else a.negative(found)', "found"),
    "select": (ADJOINT, "self.build.select(condition, nothing, found)", "self.build.select(condition, found, nothing)"),
    "store": (ADJOINT, "        self.build.store(zero(kind), target, align=instruction.align)\n", ""),
    "load": (
        ADJOINT,
        'self.build.store(self.build.binary("fadd", old, change), target, align=instruction.align)',
        "self.build.store(change, target, align=instruction.align)",
    ),
    "own": (ADJOINT, "        return bool(common)", "        return True"),
    "own-place": (ADJOINT, "places if common is None else common & places", "places"),
    "taken": (ADJOINT, "        self.build.store(_nothing(value.type), slot)\n", ""),
    "trips": (ADJOINT, "return max(0, stop - begin)", "return max(0, stop - begin - 1)"),
    "induction": (ADJOINT, 'self.build.binary("add", begin, turn)', "turn"),
    "count": (
        ADJOINT,
        'self.build.store(self.build.binary("sub", turn, integer(t.I64, 1)), variable)',
        'self.build.store(self.build.binary("sub", turn, integer(t.I64, 2)), variable)',
    ),
    "side": (ADJOINT, "return end.yes == label", "return end.no == label"),
    "fixed": (ADJOINT, "not self.around.changed & {memory, Other.UNKNOWN}", "True"),
    "independent": (
        ADJOINT,
        "return loop if all(self._own_axes(each, phis[0].result, blocks) for each in stored) else None",
        "return loop",
    ),
    "clear": (ADJOINT, "*self.clear, *b.instructions", "*b.instructions"),
    "winner-of-equal": (ADJOINT, '{"min": "olt", "max": "ogt"}', '{"min": "ole", "max": "oge"}'),
    "winner-number": (
        ADJOINT,
        '        self.build.store(self.build.binary("sub", count, integer(t.I64, 1)), self._taken())\n',
        "",
    ),
    "winner-takes": (ADJOINT, "        self.build.store(zero(found.type), target)\n", ""),
    "old": (ADJOINT, 'self.build.binary("fadd", rest, self._take(old))', "rest"),
    "plain-extremum": (ATOMICS, '"oge" if match[1] == "min" else "ole"', '"ogt" if match[1] == "min" else "olt"'),
    "again": (TASKS, "self.has_winners(place) or self._writes[place] & read", "self.has_winners(place)"),
    "copy-late": (TASKS, "self._copies.setdefault(len(before), [])", "self._copies.setdefault(len(before) + 1, [])"),
    "copy-none": (TASKS, "            if copies:\n", "            if not copies:\n"),
    "copy-shared": (TASKS, "if not overwrites and (known", "if (known"),
    "copy-version": (TASKS, "self._known.get((memory, version))", "self._known.get((memory, 0))"),
    "as-given": (TASKS, "updated and version == 0 and not overwrites", "updated and not overwrites"),
    "zeros": (TASKS, "    cleared += kept.cleared\n", ""),
    "gradient-zeros": (TASKS, "for each in _active(tasks, activity)]", "for each in []]"),
    "unread": (TASKS, "or memory in reads or UNKNOWN in reads", "or UNKNOWN in reads"),
    "share": (KEPT, "integer(t.I64, pieces))", "integer(t.I64, pieces + 1))"),
    "whole": (SHARED, "return Temporary(self._starts.get(offset, offset))", "return memory"),
    "useful": (
        ACTIVITY,
        "            self._add(self.memory(pointer), self.useful_memory, shared)\n",
        "            pass\n",
    ),
}
SIZES = [(1, 1), (2, 3), (13, 34), (600, 2)]


def check(folder: Path) -> None:
    """In a child, with the mutant's package: exports the kernels and prints the first that is wrong; ends with 1."""
    from test_reverse import NAMES, SOURCE, draw, like, tuple_of
    from tiaot.export.gate.twin import build_twin
    from tiaot.export.taichi.trace import CPU, trace_file

    traced = trace_file(SOURCE, None, CPU)
    most = {each.name: max(each.wrt, key=len) for each in traced.families}
    families = [dataclasses.replace(each, wrt=(most[each.name],), derivatives=("jvp",)) for each in traced.families]
    traces = [each for each in traced.traces if each.wrt in ((), most[each.kernel])]
    build_twin(dataclasses.replace(traced, families=families, traces=traces), folder / "mutant.so", None)
    module = tiaot.open(folder / "mutant.so")
    for name in NAMES:
        kernel = getattr(module, name)
        equal = [(3000, 1)] if name in ("log_sum", "peaks", "ranked", "gather") else []
        for n, m in SIZES + equal:
            inputs, names = draw(name, n, m)
            if (n, m) in equal:
                inputs = [np.round(each) if np.asarray(each).dtype.kind == "f" else each for each in inputs]
            rng = np.random.default_rng(1)
            tangents, cotangents = like(inputs[: len(names)], rng), like(tuple_of(kernel(*inputs)), rng)
            along = tuple_of(kernel.jvp(*inputs, *tangents, wrt=names)[1])
            forward = sum(np.vdot(v, t) for v, t in zip(cotangents, along, strict=True))
            gradients = tuple_of(kernel.vjp(*inputs, *cotangents, wrt=names, num_threads=2))
            backward = sum(np.vdot(g, t) for g, t in zip(gradients, tangents, strict=True))
            size = sum(np.abs(g * t).sum() for g, t in zip(gradients, tangents, strict=True))
            bound = 2e-5 if name == "layer" else 1e-12
            if not abs(forward - backward) <= bound * max(size, 1e-3):
                print(f"{name} of {n}, {m}: {backward} where the jvp says {forward}")
                sys.exit(1)


def try_mutant(name: str) -> str:
    """What found a mutant; '' where nothing has. `name` is '' for the package as it is."""
    here = Path(__file__)
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder, "tiaot")
        shutil.copytree(Path(tiaot.__file__).parent, package)
        if name:
            file, old, new = MUTANTS[name]
            text = (package / file).read_text()
            if text.count(old) != 1:
                raise ValueError(f"{name}: {file} has {old!r} {text.count(old)} times, where one was expected")
            (package / file).write_text(text.replace(old, new))
        environment = {
            **os.environ,
            "PYTHONPATH": f"{folder}{os.pathsep}{here.parent}",
            "ENABLE_TAICHI_HEADER_PRINT": "0",
        }
        command = [sys.executable, str(here), "--check", folder]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    said = [*done.stdout.strip().splitlines(), *done.stderr.strip().splitlines()]
    return (said or [f"ended with {done.returncode}"])[-1] if done.returncode else ""


def main(names: list[str]) -> int:
    if wrong := try_mutant(""):
        print(f"without any mutant: {wrong}")
        return 1
    survived = 0
    for name in names or MUTANTS:
        found = try_mutant(name)
        survived += not found
        print(f"{name}: {found or 'NOTHING FOUND IT'}", flush=True)
    print(f"{survived} of {len(names or MUTANTS)} mutants survived")
    return 1 if survived else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--check"]:
        check(Path(sys.argv[2]))
    else:
        sys.exit(main(sys.argv[1:]))
