"""Exports random kernels over fields and holds what they compute against plain Python on hyper-dual numbers.

    python tests/field_kernels.py --count 200 --seed 7

The kernels are those of random_kernels.py that do not read what they write, but to add to it, since an adjoint finds
fields as the kernel leaves them. Their arrays are fields here. Forward, jvp, adjoint and second derivative are compared
at every CPU level that the machine has, the adjoint for 1, 2, 3 and 7 threads bit by bit. Ends with 1 where one fails.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tiaot
from conftest import LEVELS
from hyperdual import TooLong
from kernel_generator import generate
from kernel_points import Point
from kernel_text import Argument, Kernel
from random_kernels import THREADS, cases


def suits(kernel: Kernel) -> bool:
    """Whether a kernel only adds to what it reads and writes."""
    arrays = {each.name for each in kernel.arguments if each.shape}
    tree = ast.parse(kernel.text())
    added: set[int] = set()
    touched: dict[bool, set[str]] = {True: set(), False: set()}  # by whether it is read
    for node in ast.walk(tree):
        target: Any = None
        if isinstance(node, ast.AugAssign) and not isinstance(node.op, (ast.Add, ast.Sub)):
            touched[True].add(_base(node.target))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and "atomic" in node.func.attr:
            target = node.args[0]
            if node.func.attr not in ("atomic_add", "atomic_sub"):
                touched[True].add(_base(target))
        if target is not None:
            touched[False].add(_base(target))
            added |= set(map(id, ast.walk(target)))
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and id(node) not in added:
            touched[isinstance(node.ctx, ast.Load)].add(_base(node))
    # A loop over a field that is to run in order is refused.
    over = {each.iter.id for each in ast.walk(tree) if isinstance(each, ast.For) and isinstance(each.iter, ast.Name)}
    races = "serialize=True" in kernel.text() and over & arrays
    return not races and not touched[True] & touched[False] & arrays


def _base(node: Any) -> str:
    while isinstance(node, ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def field_of(kernel: Kernel, argument: Argument) -> str:
    return f"{kernel.name}_{argument.name}"


def file_text(chosen: list[tuple[Kernel, Point]]) -> str:
    """A kernel file with fields in the place of arrays."""
    parts = ["import taichi as ti\nfrom tiaot.export import kernel\n\nti.init(default_fp=ti.f64)\nreal = ti.f64"]
    for kernel, at in chosen:
        made = []
        for each in (argument for argument in kernel.arguments if argument.shape):
            name, shape = field_of(kernel, each), shape_of(kernel, each, at)
            if each.kind == "vector":
                made.append(f"{name} = ti.Vector.field(2, real, shape={shape[:-1]}, needs_grad=True)")
            else:
                made.append(f"{name} = ti.field({_TYPES[each.kind]}, shape={shape}{_GRADIENT[each.kind]})")
        *functions, text = kernel.text().split("\n\n\n")
        arrays = [each for each in kernel.arguments if each.shape]
        for each in arrays:
            text = text.replace(f"{each.name}: {each.annotation}", f"{each.name}: ti.template()", 1)
        constants = ", ".join(f'"{each.name}": {field_of(kernel, each)}' for each in arrays)
        head = f'@kernel(constants={{{constants}}}, derivative="tiaot", derivatives=["jvp", "hvp"])'
        parts += ["\n".join(made), *functions, f"{head}\n@ti.kernel\n{text}"]
    return "\n\n\n".join(parts) + "\n"


_TYPES = {"real": "real", "integer": "ti.i32"}
_GRADIENT = {"real": ", needs_grad=True", "integer": ""}


def shape_of(kernel: Kernel, argument: Argument, at: Point) -> tuple[int, ...]:
    if argument.is_input:
        return np.shape(at.inputs[argument.name])
    return at.outputs[kernel.outputs.index(argument)].shape


def check(kernel: Kernel, module: tiaot.Module, at: Point) -> Iterator[str]:
    """What is wrong, each as a line."""
    numbers = [at.inputs[each.name] for each in kernel.inputs if not each.shape]
    still = not any(
        each.kind == "real" and not each.shape for each in kernel.inputs
    )  # no tangent of the point is left out

    def started(tangents: dict[str, Any]) -> tiaot.State:
        state = module.state(zeros=True)
        for each in kernel.inputs:
            if field_of(kernel, each) in state.fields:  # what the kernel uses
                state.fields[field_of(kernel, each)][...] = at.inputs[each.name]
                if each.name in tangents:
                    state.fields[field_of(kernel, each)].tangent[...] = tangents[each.name]
        return state

    def seeded(state: tiaot.State) -> tiaot.State:
        for each, cotangent in zip(outputs, at.cotangents, strict=True):
            if each in state.fields:
                state.fields[each].grad[...] = cotangent
        return state

    def gradients(state: tiaot.State) -> list[Any]:
        return [np.array(state.fields[each].grad) if each in state.fields else None for each in inputs]

    def compare(what: str, found: list[Any], expected: list[np.ndarray], bounds: list[float]) -> Iterator[str]:
        for array, value, bound in zip(found, expected, bounds, strict=True):
            if array is None:  # the kernel does not use it
                continue
            if not np.all(np.abs(array - value) <= bound):
                yield f"{what} is off by {np.abs(array - value).max():.2e}, where rounding explains {bound:.1e}"

    outputs = [field_of(kernel, each) for each in kernel.outputs]
    inputs = [field_of(kernel, each) for each in kernel.inputs if each.name in kernel.wrt]
    along = {name: tangent for name, tangent in at.tangents.items() if name in kernel.wrt}
    state = started(along)
    run = state.kernels[kernel.name]
    run(*numbers)
    yield from compare("output", list(map(state.fields.get, outputs)), at.outputs, at.bounds["outputs"])
    left = [np.array(field) for field in seeded(state).fields.values()]
    run.grad(*numbers, num_threads=1)
    found = gradients(state)
    yield from compare("gradient", found, at.gradients, at.bounds["gradients"])
    if not all(map(np.array_equal, left, state.fields.values())):
        yield "the adjoint wrote to a field"
    for threads in THREADS:
        state = started({})
        run = state.kernels[kernel.name]
        run(*numbers)
        run = seeded(state).kernels[kernel.name]
        run.grad(*numbers, num_threads=threads)
        if not all(map(_same, gradients(state), found)):
            yield f"the adjoint on {threads} threads gives other bits than on one"
    state = started(along)
    run = state.kernels[kernel.name]
    run.jvp(*numbers)
    if still:
        tangents = [state.fields[each].tangent if each in state.fields else None for each in outputs]
        yield from compare("tangent", tangents, at.along, at.bounds["along"])
    seeded(state)
    run.hvp(*numbers)
    products = [state.fields[each].grad.tangent if each in state.fields else None for each in inputs]
    yield from compare("second derivative", products, at.products, at.bounds["products"])


def _same(one: Any, other: Any) -> bool:
    return (one is None and other is None) or np.array_equal(one, other)


def try_kernels(chosen: list[tuple[Kernel, Point]]) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Exports and checks kernels: what is wrong with each, and why each that the exporter refused was."""
    found: dict[str, list[str]] = {}
    refused: dict[str, str] = {}
    left = list(chosen)
    with tempfile.TemporaryDirectory() as folder:
        while left:
            Path(folder, "fields.py").write_text(file_text(left))
            command = [sys.executable, "-m", "tiaot", "export", "fields.py", "--no-verify"]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                break
            named = [each for each, _ in left if f"{each.name}:" in done.stderr or f"{each.name} " in done.stderr]
            if not named:
                raise RuntimeError(done.stderr)
            refused[named[0].name] = done.stderr.strip().splitlines()[-1]
            left = [case for case in left if case[0].name != named[0].name]
        for level in LEVELS[: LEVELS.index(tiaot.cpu_level()) + 1] if left else []:
            os.environ["TIAOT_CPU_LEVEL"] = level
            module = tiaot.open(Path(folder, "fields.tiaot.so"))
            for kernel, at in left:
                for what in check(kernel, module, at):
                    found.setdefault(kernel.name, []).append(f"{what} ({level})")
        os.environ.pop("TIAOT_CPU_LEVEL", None)
    return found, refused


def chosen_of(seed: int, numbers: range) -> list[tuple[Kernel, Point]]:
    found = []
    for number in numbers:
        kernel = generate(seed, number)
        if kernel.wrt and suits(kernel):
            with contextlib.suppress(TooLong):
                found += cases(seed, range(number, number + 1), "f64")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python tests/field_kernels.py", description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100, help="how many kernels to write, of which a few suit")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--group", type=int, default=60, help="of these in a file")
    arguments = parser.parse_args()
    tried, failed, refused = 0, 0, 0
    for first in range(0, arguments.count, arguments.group):
        chosen = chosen_of(arguments.seed, range(first, min(first + arguments.group, arguments.count)))
        found, left_out = try_kernels(chosen)
        tried += len(chosen) - len(left_out)
        refused += len(left_out)
        failed += len(found)
        for name, why in left_out.items():
            print(f"{name} is refused: {why}")
        for kernel, _ in chosen:
            if kernel.name in found:
                print(f"\n==== {kernel.name} fails:", *found[kernel.name], kernel.text(), sep="\n", flush=True)
    print(f"{tried} kernels over fields tried, {failed} failed, {refused} refused")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
