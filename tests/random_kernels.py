"""Exports random kernels and holds what they compute against plain Python on hyper-dual numbers.

    python tests/random_kernels.py --count 200 --seed 7

Forward, jvp, vjp and second derivative are compared at every CPU level that the machine has, and for 1, 2, 3 and 7
threads bit by bit, with guards around all arrays. What the exporter refuses to differentiate is counted, with its
reason. A kernel that fails is reduced, statement by statement, and printed with the right numbers. Ends with 1 where
there was one, else with 0.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tiaot
from conftest import LEVELS
from kernel_generator import generate
from kernel_points import NUMPY, Point, point
from kernel_reduction import reduced
from kernel_text import Kernel, file_text
from numerics import Arrays

THREADS = (2, 3, 7)


# ---- exporting


def options_of(kernel: Kernel, with_vjp: bool, derivative: str) -> str:
    if not with_vjp:
        return 'wrt=[], derivatives=["jvp"]'
    chosen = f', derivative="{derivative}"' if derivative != "taichi" else ""
    return f'wrt=["{" ".join(kernel.wrt)}"], derivatives=["jvp", "hvp"]{chosen}'


def export(kernels: list[tuple[Kernel, str]], dtype: str, folder: Path, verify: bool = False) -> str:
    """Writes folder/random.tiaot.so. '' when it is there, otherwise what the exporter says."""
    source = folder / "random_source.py"
    source.write_text(file_text(kernels, dtype))
    target = folder / "random.tiaot.so"
    target.unlink(missing_ok=True)
    command = [sys.executable, "-m", "tiaot", "export", source, "-o", target, *([] if verify else ["--no-verify"])]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return "" if target.exists() else done.stderr.strip() or f"ended with {done.returncode}"


def export_what_can_be(
    kernels: list[Kernel], with_vjp: bool, derivative: str, dtype: str, folder: Path, refused: dict[str, str]
) -> list[Kernel]:
    """Exports those that the exporter takes; the others, and why not, are added to `refused`."""
    left = list(kernels)
    while left:
        why = export([(each, options_of(each, with_vjp, derivative)) for each in left], dtype, folder)
        if not why:
            break
        named = [each for each in left if re.search(rf"\b{each.name}(_part\d+)?\b", why)]
        for each in named[:1] or left:
            reason = why
            if len(left) > 1 and not named:
                with tempfile.TemporaryDirectory() as alone:
                    reason = export([(each, options_of(each, with_vjp, derivative))], dtype, Path(alone))
            if reason:
                refused[each.name] = reason
        if not any(each.name in refused for each in left):
            raise RuntimeError(f"each kernel can be exported alone, but not all of them: {why}")
        left = [each for each in left if each.name not in refused]
    return left


# ---- checking


def _tuple_of(value: Any) -> tuple:
    return value if isinstance(value, tuple) else (value,)


def _shaped(arrays: Arrays, values: list[np.ndarray], dtype: str) -> tuple:
    return tuple(arrays.room(each.shape, NUMPY[dtype]) for each in values)


def _unwrapped(out: tuple) -> Any:
    return out if len(out) > 1 else out[0]


def check(kernel: Kernel, compiled: tiaot.Kernel, at: Point, dtype: str, with_vjp: bool) -> Iterator[str]:
    """What is wrong, each as one text that starts with the entry: "vjp: gradient of 'x' ..."."""
    arrays = Arrays()
    kind = NUMPY[dtype]

    def put(value: Any) -> Any:
        if not isinstance(value, np.ndarray):
            return value
        return arrays.put(value.astype(kind) if value.dtype.kind == "f" else value)

    given = [put(at.inputs[each.name]) for each in kernel.inputs]
    cotangents = [put(each) for each in at.cotangents]
    moving = [each.name for each in kernel.inputs if each.name in at.tangents]
    outputs, along = _shaped(arrays, at.outputs, dtype), _shaped(arrays, at.along, dtype)
    names = [each.name for each in kernel.outputs]
    calls: list[tuple[str, Callable[[int], Any], list]] = [
        (
            "forward",
            lambda threads: compiled(*given, out=_unwrapped(outputs), num_threads=threads),
            [("output", outputs, at.outputs, at.bounds["outputs"], names)],
        ),
        (
            "jvp",
            lambda threads: compiled.jvp(
                *given,
                *(put(at.tangents[name]) for name in moving),
                wrt=tuple(moving),
                out=(_unwrapped(outputs), _unwrapped(along)),
                num_threads=threads,
            ),
            [
                ("output", outputs, at.outputs, at.bounds["outputs"], names),
                ("tangent of", along, at.along, at.bounds["along"], names),
            ],
        ),
    ]
    if with_vjp:
        # hvp moves the arrays alone: along a number by value there is none.
        gradients, products = _shaped(arrays, at.gradients, dtype), _shaped(arrays, at.products, dtype)
        pulled = [("gradient by", gradients, at.gradients, at.bounds["gradients"], list(kernel.wrt))]
        calls.append(
            (
                "vjp",
                lambda threads: compiled.vjp(
                    *given, *cotangents, wrt=kernel.wrt, out=_unwrapped(gradients), num_threads=threads
                ),
                pulled,
            )
        )
        calls.append(
            (
                "hvp",
                lambda threads: compiled.hvp(
                    *given,
                    *cotangents,
                    *(put(at.tangents[name]) for name in kernel.wrt),
                    wrt=kernel.wrt,
                    out=(_unwrapped(gradients), _unwrapped(products)),
                    num_threads=threads,
                ),
                [*pulled, ("second derivative by", products, at.products, at.bounds["products"], list(kernel.wrt))],
            )
        )
    for entry, call, compared in calls:
        call(1)
        once = [array.tobytes() for part in compared for array in part[1]]
        for what, found, expected, bounds, labels in compared:
            for array, value, bound, label in zip(found, expected, bounds, labels, strict=True):
                error = np.abs(array - value)
                if not np.all(error <= bound):
                    got, right = (np.array2string(each, threshold=20) for each in (array, value))
                    yield (
                        f"{entry}: {what} {label!r} is off by {error.max():.2e}, where rounding explains {bound:.1e}:\n"
                        f"got      {got}\nexpected {right}"
                    )
                if not arrays.guards_hold(array):
                    yield f"{entry}: wrote outside of {what} {label!r}"
        for threads in THREADS:
            call(threads)
            if [array.tobytes() for part in compared for array in part[1]] != once:
                yield f"{entry}: {threads} threads give other bits than one"
    for array, each in zip(given, kernel.inputs, strict=True):
        value = at.inputs[each.name]
        if isinstance(array, np.ndarray) and not (np.array_equal(array, value) and arrays.guards_hold(array)):
            yield f"an entry wrote to, or beside, input {each.name!r}"


def _check_all(folder: Path, cases: list[tuple[Kernel, Point]], dtype: str, with_vjp: bool, found: Any) -> None:
    """In a child: puts (kernel's name, failure) for each, and after the last of a kernel (name, '')."""
    for level in LEVELS[: LEVELS.index(tiaot.cpu_level()) + 1]:
        os.environ["TIAOT_CPU_LEVEL"] = level
        module = tiaot.open(folder / "random.tiaot.so")
        for kernel, at in cases:
            found.put((kernel.name, "begin"))
            for failure in check(kernel, module.kernels[kernel.name], at, dtype, with_vjp):
                found.put((kernel.name, f"{failure}\n({level})"))
    found.put(("", "end"))


def failures_of(folder: Path, cases: list[tuple[Kernel, Point]], dtype: str, with_vjp: bool) -> dict[str, list[str]]:
    """What is wrong with each kernel of the module in a folder, a crash included; who has no fault is left out."""
    context = multiprocessing.get_context("spawn")
    left, found = list(cases), {}
    while left:
        queue = context.SimpleQueue()
        child = context.Process(target=_check_all, args=(folder, left, dtype, with_vjp, queue))
        child.start()
        last = ""
        while True:
            while queue.empty() and child.is_alive():
                child.join(0.05)
            if queue.empty():
                break
            name, what = queue.get()
            if what == "begin":
                last = name
            elif what != "end":
                found.setdefault(name, []).append(what)
            else:
                last = ""
                break
        child.join()
        if not last:
            return found
        found.setdefault(last, []).append(f"crash: the process ended with {child.exitcode}")
        left = [each for each in left if each[0].name not in found]
    return found


@dataclasses.dataclass
class Trial:
    """How kernels are tried: see the command's options."""

    seed: int
    dtype: str
    derivative: str
    with_vjp: bool

    def fails_like(self, entry: str) -> Callable[[Kernel], bool]:
        """Whether a kernel, exported alone, still has a fault in an entry."""

        def fails(kernel: Kernel) -> bool:
            try:
                at = point(kernel, self.seed, self.dtype)
            except (NameError, SyntaxError, UnboundLocalError):
                return False
            if at is None:
                return False
            with tempfile.TemporaryDirectory() as folder:
                if export([(kernel, options_of(kernel, self.with_vjp, self.derivative))], self.dtype, Path(folder)):
                    return False
                found = failures_of(Path(folder), [(kernel, at)], self.dtype, self.with_vjp)
            return any(text.startswith(entry) for text in found.get(kernel.name, []))

        return fails


def cases(seed: int, numbers: range, dtype: str) -> list[tuple[Kernel, Point]]:
    """Those of the kernels that have a point to be tried at."""
    kernels = [generate(seed, number) for number in numbers]
    return [(kernel, at) for kernel in kernels if (at := point(kernel, seed, dtype)) is not None]


def try_kernels(trial: Trial, chosen: list[tuple[Kernel, Point]]) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Exports and checks kernels: what is wrong with each, and why each that the exporter refused was."""
    refused: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        kernels = [kernel for kernel, _ in chosen]
        taken = export_what_can_be(kernels, trial.with_vjp, trial.derivative, trial.dtype, Path(folder), refused)
        names = {each.name for each in taken}
        left = [case for case in chosen if case[0].name in names]
        return (failures_of(Path(folder), left, trial.dtype, trial.with_vjp) if left else {}), refused


def _reason(text: str) -> str:
    """A refusal without what differs from kernel to kernel."""
    return re.sub(r"kernel_\d+\w*|'[^']*'|\d+|\b[aijkvwM]\d+\b", "_", text.splitlines()[-1])[:160]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python tests/random_kernels.py", description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=40, help="how many kernels to write")
    parser.add_argument("--first", type=int, default=0, help="the number of the first")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--dtype", choices=("f64", "f32"), default="f64")
    parser.add_argument("--derivative", choices=("taichi", "tiaot"), default="taichi", help="who makes the adjoint")
    parser.add_argument("--no-vjp", action="store_true", help="only forward and jvp")
    parser.add_argument("--no-reduce", action="store_true", help="print kernels that fail as they are")
    parser.add_argument("--gate", action="store_true", help="export each kernel that fails once more, with the gate")
    parser.add_argument("--group", type=int, default=20, help="kernels in a file")
    arguments = parser.parse_args()
    trial = Trial(arguments.seed, arguments.dtype, arguments.derivative, not arguments.no_vjp)
    tried, failed, passed_gate = 0, 0, 0
    reasons: Counter[str] = Counter()
    end = arguments.first + arguments.count
    for first in range(arguments.first, end, arguments.group):
        chosen = cases(trial.seed, range(first, min(first + arguments.group, end)), trial.dtype)
        found, refused = try_kernels(trial, chosen)
        tried += len(chosen) - len(refused)
        reasons.update(_reason(why) for why in refused.values())
        by_name = {kernel.name: kernel for kernel, _ in chosen}
        for name, texts in found.items():
            failed += 1
            kernel = by_name[name]
            print(f"\n==== {name} fails: {texts[0]}", flush=True)
            if arguments.gate:
                with tempfile.TemporaryDirectory() as folder:
                    options = options_of(kernel, trial.with_vjp, trial.derivative)
                    why = export([(kernel, options)], trial.dtype, Path(folder), verify=True)
                passed_gate += not why
                print(f"the gate: {why.splitlines()[-1][:300] if why else 'PASSES IT'}")
            if not arguments.no_reduce:
                kernel = reduced(kernel, trial.fails_like(texts[0].split(":")[0]))
            options = options_of(kernel, trial.with_vjp, trial.derivative)
            print(file_text([(kernel, options)], trial.dtype), flush=True)
        written = min(first + arguments.group, end) - arguments.first
        print(f"{written} written, {tried} tried, {failed} wrong", flush=True)
    for reason, count in reasons.most_common():
        print(f"refused, {count}: {reason}")
    if arguments.gate:
        print(f"wrong and not refused by the gate: {passed_gate}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
