"""Mutants of the reverse mode: each has one of its rules or steps changed, and tests/kernels/reverse.py has to show it,
of those that are about fields tests/kernels/reverse_fields.py.

    python tests/adjoint_mutants.py [NAME ...]

exports, for each mutant or those that are named, the kernel that is to find it, for the lowest CPU level, holds its vjp
against the jvp, and prints what found the mutant. Ends with 1 where nothing has.
"""

from __future__ import annotations

import ast
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
# By a name: a kernel that finds it, the file, what stands there once, and what the mutant has in its place.
MUTANTS: dict[str, tuple[str, str, str, str]] = {
    "product": ("moment", ADJOINT, "a.times(found, self.value(left))", "a.times(found, self.value(right))"),
    "quotient": (
        "orbit",
        ADJOINT,
        "a.negative(a.times(share, self.value(result)))",
        "a.times(share, self.value(result))",
    ),
    "difference": ("moment", ADJOINT, 'found if instruction.opcode == "fadd" else a.negative(found)', "found"),
    "select": (
        "scatter",
        ADJOINT,
        "self.build.select(condition, nothing, found)",
        "self.build.select(condition, found, nothing)",
    ),
    "store": ("relax", ADJOINT, "        self.build.store(zero(kind), target, align=instruction.align)\n", ""),
    "load": (
        "orbit",
        ADJOINT,
        'self.build.store(self.build.binary("fadd", old, change), target, align=instruction.align)',
        "self.build.store(change, target, align=instruction.align)",
    ),
    "own": ("scan", ADJOINT, "        return bool(common)", "        return True"),
    "own-place": ("scan", ADJOINT, "places if common is None else common & places", "places"),
    "taken": ("moment", ADJOINT, "        self.build.store(_nothing(value.type), slot)\n", ""),
    "trips": ("orbit", ADJOINT, "return max(0, stop - begin)", "return max(0, stop - begin - 1)"),
    "induction": ("skips", ADJOINT, 'self.build.binary("add", begin, turn)', "turn"),
    "count": (
        "triangle",
        ADJOINT,
        'self.build.store(self.build.binary("sub", turn, integer(t.I64, 1)), variable)',
        'self.build.store(self.build.binary("sub", turn, integer(t.I64, 2)), variable)',
    ),
    "side": ("branches", ADJOINT, "for side in (True, False))\n", "for side in (False, True))\n"),
    "fixed": ("relax", ADJOINT, "not self.around.changed & {memory, Other.UNKNOWN}", "True"),
    "independent": (
        "scan",
        ADJOINT,
        "return loop if all(self._own_axes(each, phis[0].result, blocks) for each in stored) else None",
        "return loop",
    ),
    "clear": ("triangle", ADJOINT, "*self.clear, *b.instructions", "*b.instructions"),
    "winner-of-equal": ("peaks", ADJOINT, '{"min": "olt", "max": "ogt"}', '{"min": "ole", "max": "oge"}'),
    "winner-number": (
        "peaks",
        ADJOINT,
        '        self.build.store(self.build.binary("sub", count, integer(t.I64, 1)), self._taken())\n',
        "",
    ),
    "winner-takes": ("peaks", ADJOINT, "        self.build.store(zero(found.type), target)\n", ""),
    "old": ("ranked", ADJOINT, 'self.build.binary("fadd", rest, self._take(old))', "rest"),
    "plain-extremum": (
        "ranked",
        ATOMICS,
        '"oge" if match[1] == "min" else "ole"',
        '"ogt" if match[1] == "min" else "olt"',
    ),
    "again": ("moment", TASKS, "self.has_winners(place) or self._writes[place] & read", "self.has_winners(place)"),
    "copy-late": (
        "powers",
        TASKS,
        "self._copies.setdefault(len(before), [])",
        "self._copies.setdefault(len(before) + 1, [])",
    ),
    "copy-none": ("powers", TASKS, "            if copies:\n", "            if not copies:\n"),
    "copy-shared": ("sweeps", TASKS, "if not overwrites and (known", "if (known"),
    "copy-version": ("scaled", TASKS, "self._known.get((memory, version))", "self._known.get((memory, 0))"),
    "as-given": ("chain", TASKS, "updated and version == 0 and not overwrites", "updated and not overwrites"),
    "zeros": ("capped", TASKS, "    cleared += kept.cleared\n", ""),
    "unread": ("chained", TASKS, "or memory in reads or UNKNOWN in reads", "or UNKNOWN in reads"),
    "share": ("powers", KEPT, "integer(t.I64, pieces))", "integer(t.I64, pieces + 1))"),
    "whole": ("bins", SHARED, "return Temporary(self._starts.get(offset, offset))", "return memory"),
    "useful": (
        "mixed",
        ACTIVITY,
        "            self._add(self.memory(pointer), self.useful_memory, shared)\n",
        "            pass\n",
    ),
}
OF_FIELDS = {
    "field-own": ("scan", ADJOINT, "set.intersection(*axes)", "set.union(*axes)"),
    "field-written": (
        "scattered",
        ADJOINT,
        "            if self._writes_field(instruction):\n                continue\n",
        "",
    ),
    "field-again": ("outside", TASKS, "[state.without_writes(body) for body in bodies]", "bodies"),
    "field-cell": ("trees", ADJOINT, "integer(t.I64, node.cell_bytes)", "integer(t.I64, 8)"),
}
MUTANTS |= OF_FIELDS
SIZES = [(1, 1), (2, 3), (13, 34), (600, 2)]


def alone(source: Path, chosen: str, folder: Path) -> Path:
    """A kernel file with one of the kernels of another."""
    text = source.read_text()
    lines = text.splitlines()
    for each in reversed(ast.parse(text).body):
        if isinstance(each, ast.FunctionDef) and each.decorator_list and each.name != chosen:
            del lines[each.decorator_list[0].lineno - 1 : each.end_lineno]
    target = folder / "alone.py"
    target.write_text("\n".join(lines) + "\n")
    return target


def check(name: str, folder: Path) -> None:
    """In a child, with the mutant's package: exports the kernel and tells whether it is wrong; ends with 1 then."""
    from test_reverse import SOURCE, draw, like, tuple_of
    from tiaot.export.gate.twin import build_twin
    from tiaot.export.taichi.trace import CPU, trace_file

    traced = trace_file(alone(SOURCE, name, folder), None, CPU)
    most = {each.name: max(each.wrt, key=len) for each in traced.families}
    families = [dataclasses.replace(each, wrt=(most[each.name],), derivatives=("jvp",)) for each in traced.families]
    traces = [each for each in traced.traces if each.wrt in ((), most[each.kernel])]
    build_twin(dataclasses.replace(traced, families=families, traces=traces), folder / "mutant.so", None)
    module = tiaot.open(folder / "mutant.so")
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
        before = [each + 2.0 if place < len(names) else each for place, each in enumerate(inputs)]
        kernel.vjp(*before, *cotangents, wrt=names, num_threads=2)  # what it leaves on the stack, the next one may find
        gradients = tuple_of(kernel.vjp(*inputs, *cotangents, wrt=names, num_threads=2))
        backward = sum(np.vdot(g, t) for g, t in zip(gradients, tangents, strict=True))
        size = sum(np.abs(g * t).sum() for g, t in zip(gradients, tangents, strict=True))
        bound = 2e-5 if name == "layer" else 1e-12
        if not abs(forward - backward) <= bound * max(size, 1e-3):
            print(f"{name} of {n}, {m}: {backward} where the jvp says {forward}")
            sys.exit(1)


def check_fields(name: str, folder: Path) -> None:
    """The same with a kernel over fields."""
    from test_reverse_fields import SOURCE, test_the_adjoint_is_the_transpose_of_the_jvp
    from tiaot.export.gate.twin import build_twin
    from tiaot.export.taichi.trace import CPU, trace_file

    build_twin(trace_file(alone(SOURCE, name, folder), None, CPU), folder / "mutant.so", None)
    try:
        test_the_adjoint_is_the_transpose_of_the_jvp(tiaot.open(folder / "mutant.so"), name)
    except AssertionError as error:
        print(f"{name}: {str(error).splitlines()[0] if str(error) else 'an assertion does not hold'}")
        sys.exit(1)


def try_mutant(name: str, changed: bool = True) -> str:
    """What found a mutant; '' where nothing has. Not `changed`: with the package as it is."""
    kernel, file, old, new = MUTANTS[name]
    here = Path(__file__)
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder, "tiaot")
        shutil.copytree(Path(tiaot.__file__).parent, package)
        if changed:
            text = (package / file).read_text()
            if text.count(old) != 1:
                raise ValueError(f"{name}: {file} has {old!r} {text.count(old)} times, where one was expected")
            (package / file).write_text(text.replace(old, new))
        environment = {
            **os.environ,
            "PYTHONPATH": f"{folder}{os.pathsep}{here.parent}",
            "ENABLE_TAICHI_HEADER_PRINT": "0",
        }
        how = "--check-fields" if name in OF_FIELDS else "--check"
        command = [sys.executable, str(here), how, kernel, folder]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    said = [*done.stdout.strip().splitlines(), *done.stderr.strip().splitlines()]
    return (said or [f"ended with {done.returncode}"])[-1] if done.returncode else ""


def main(names: list[str]) -> int:
    first = {MUTANTS[name][0]: name for name in names or MUTANTS}
    for kernel, name in first.items():
        if wrong := try_mutant(name, changed=False):
            print(f"{kernel} without any mutant: {wrong}")
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
        check(sys.argv[2], Path(sys.argv[3]))
    elif sys.argv[1:2] == ["--check-fields"]:
        check_fields(sys.argv[2], Path(sys.argv[3]))
    else:
        sys.exit(main(sys.argv[1:]))
