"""The gate: compiled kernels against Taichi's JIT and finite differences, before a module is written. Runs no kernel.

For each variant of each kernel arrays are drawn at several sizes. The forward result and every gradient must be those
of Taichi's JIT, and every gradient the slope of the kernel in float64 along a random direction.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import trial_state
from .declare import Declaration, Family, Variant
from .kernel_file import KernelFile
from .trial import STEP

Say = Callable[[str], None]
# How far apart the same operations may lie when they are rounded in another order, as a part of the largest number. A
# kernel in float64 often has float32 inside: Taichi's own default for numbers.
_CLOSE = {"float16": 1e-2, "float32": 2e-4, "float64": 2e-5}
# And how far a gradient from the slope: rounding of the gradient, and a step across a kink here and there.
_SLOPE = {"float16": 2e-2, "float32": 2e-3, "float64": 5e-4}
_SIZES = (0, 1, 2, 30, 31, 32, 33, 64, 65, 513)
_MOST_ELEMENTS = 1 << 16  # of one array of a trial


class VerificationError(Exception):
    """A kernel's compiled code disagrees with Taichi's JIT or with finite differences; the message says where."""


@dataclass
class Trial:
    """A variant of a kernel at some sizes, with its arrays."""

    id: str
    family: Family
    variant: Variant
    dims: dict[str, int]
    arrays: dict[str, np.ndarray]  # input.NAME, cotangent.NAME, direction.NAME, state.NAME
    fields: list[str]  # of the state, for a kernel that works on it

    @property
    def empty(self) -> bool:
        return any(size == 0 for size in self.dims.values())

    def record(self) -> dict[str, Any]:
        signature = self.family.signature
        return {
            "id": self.id,
            "kernel": self.family.name,
            "variant": {"dtype": self.variant.dtype, "sizes": dict(self.variant.sizes)},
            "variant_name": self.variant.name,
            "dims": self.dims,
            "dim_names": list(signature.dims),
            "batch": signature.batch,
            "inputs": [argument.name for argument in signature.inputs],
            "outputs": [argument.name for argument in signature.outputs],
            "wrt": [list(wrt) for wrt in self.family.wrt],
            "fields": self.fields,
            "gradient": self.family.gradient,
        }

    def where(self) -> str:
        sizes = ", ".join(f"{dim}={size}" for dim, size in self.dims.items() if not dim.isdigit())
        return f"{self.family.name}, {self.variant.name}" + (f", at {sizes}" if sizes else "")


def verify(
    module: str | os.PathLike[str],
    source: str | os.PathLike[str],
    cuda_trial: bytes = b"",
    *,
    say: Say = lambda _: None,
) -> dict[str, str]:
    """Hold a module against the kernel file that it was made of, in child processes.

    Args:
        cuda_trial: what its code for CUDA is interpreted with (cuda/trial.py), to be held against the module's own.
        say: is told, in a line, what is being done.

    Returns:
        For each kernel what was compared and the largest errors, as a line for people.

    Raises:
        VerificationError: with the kernel, the argument, the sizes and the error, for everything that disagrees.
    """
    command = [sys.executable, "-m", "tiaot.export.verify", os.path.abspath(module), os.path.abspath(source)]
    if cuda_trial:
        with tempfile.NamedTemporaryFile(prefix="tiaot-verify-", suffix=".so") as library:
            library.write(cuda_trial)
            library.flush()
            return _verify_in_child([*command, library.name], say)
    return _verify_in_child(command, say)


def _verify_in_child(command: list[str], say: Say) -> dict[str, str]:
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None and child.stderr is not None
        record: dict[str, str] = {}
        for line in child.stdout:
            kind, _, text = line.rstrip("\n").partition(" ")
            if kind == "say":
                say(text)
            elif kind == "record":
                record = json.loads(text)
        said = child.stderr.read().strip()
    if child.returncode != 0:
        raise VerificationError(said or f"the verification ended with code {child.returncode}")
    return record


# ---- the child: it has Taichi, since it reads the kernel file ----


def _verify(module: str, source: str, cuda_trial: str | None, file: KernelFile, say: Say) -> dict[str, str]:
    from .. import open as open_module

    with open_module(module) as opened:
        about = opened.info()
    declarations = _as_exported(file, about)
    trials = [trial for declaration in declarations for trial in _trials(declaration, file, about)]
    with tempfile.TemporaryDirectory(prefix="tiaot-verify-") as directory:
        Path(directory, "trials.json").write_text(json.dumps([trial.record() for trial in trials]))
        arrays = {f"{trial.id}.{key}": array for trial in trials for key, array in trial.arrays.items()}
        np.savez(Path(directory, "arrays.npz"), **arrays)
        found = {}
        say(f"running the module at {len(trials)} sizes")
        found["module"] = _run("module", module, directory, trials)
        found["cuda"] = {}
        if cuda_trial is not None:
            say(f"running its code for CUDA at {len(trials)} sizes, on the CPU")
            found["cuda"] = _run("cuda", cuda_trial, directory, trials)
        filled = [trial for trial in trials if not trial.empty]  # Taichi's own arrays cannot be empty
        Path(directory, "trials.json").write_text(json.dumps([trial.record() for trial in filled]))
        say(f"running Taichi's JIT at {len(filled)} sizes")
        found["jit"] = _run("jit", source, directory, filled)
        sloped = [trial for trial in filled if trial.family.wrt or trial.family.gradient]
        Path(directory, "trials.json").write_text(json.dumps([trial.record() for trial in sloped]))
        say(f"finite differences at {len(sloped)} sizes")
        found["double"] = _run("double", source, directory, sloped) if sloped else {}
    return _compare(trials, {d.family.name: d for d in declarations}, found)


def _as_exported(file: KernelFile, about: Mapping[str, Any]) -> list[Declaration]:
    """The declarations of a file with what the exporter found out about them, from what the module says."""
    kernels = {each["name"]: each for each in about["kernels"]}
    declarations = []
    for declaration in file.declarations:
        name = declaration.family.name
        if name not in kernels:
            if declaration.implicit:
                continue
            raise VerificationError(f"the module has no kernel {name!r}")
        kernel = kernels[name]
        if kernel["signature"] != declaration.family.signature.text and declaration.derived:
            declaration = declaration.with_seed()
        if kernel["state"]:
            entries = [entry["kind"] for variant in kernel["variants"] for entry in variant["entries"]]
            declaration = declaration.with_state("grad" in entries)
        declarations.append(declaration)
    return declarations


def _run(mode: str, path: str | os.PathLike[str], directory: str, trials: list[Trial]) -> dict[str, np.ndarray]:
    command = [sys.executable, "-m", "tiaot.export.trial", mode, os.path.abspath(path), directory]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    result = Path(directory, f"{mode}.npz")
    if done.returncode != 0 or not result.exists():
        what = {
            "module": "the module",
            "cuda": "the module's code for CUDA",
            "jit": "Taichi's JIT",
            "double": "Taichi's JIT in float64",
        }[mode]
        said = done.stderr.strip() or f"ended with code {done.returncode}"
        names = ", ".join(dict.fromkeys(trial.family.name for trial in trials))
        raise VerificationError(f"{what} failed on the arrays drawn for {names}:\n{said}")
    with np.load(result) as stored:
        return dict(stored)


# ---- what is tried ----


def _trials(declaration: Declaration, file: KernelFile, about: Mapping[str, Any]) -> list[Trial]:
    family = declaration.family
    trials: list[Trial] = []
    fields = about["state"]["fields"] if family.state else []
    for variant in family.variants():
        for sizes in _sizes(declaration, variant):
            dims = {**sizes, **variant.sizes}
            identity = f"{family.name}.{variant.name}.{len(trials)}"
            arrays = _draw(declaration, variant, dims)
            if family.state:
                rng = np.random.default_rng([len(family.name), len(trials)])
                arrays |= trial_state.draw_state(declaration, file.fields, fields, rng)
            trials.append(Trial(identity, family, variant, dims, arrays, [each["name"] for each in fields]))
    return trials


def _sizes(declaration: Declaration, variant: Variant) -> list[dict[str, int]]:
    """The sizes of the dimensions that the variant leaves open."""
    signature = declaration.family.signature
    open_dims = [dim for dim in signature.dims if dim not in variant.sizes]
    if declaration.sizes is not None:
        return [{dim: sizes[dim] for dim in open_dims} for sizes in declaration.sizes]
    if not open_dims:
        return [{}] * (2 if declaration.family.state else 1)
    chosen = []
    for size in _SIZES:
        # No two the same, so that none is taken for another.
        sizes = {dim: size + place if size else 0 for place, dim in enumerate(open_dims)}
        if signature.batch and size == 0:
            sizes = {dim: 0 if dim == signature.batch else 3 for dim in open_dims}
        known = {**sizes, **variant.sizes}
        elements = [int(np.prod([known[dim] for dim in argument.dims])) for argument in signature.arguments]
        if max(elements) <= _MOST_ELEMENTS:
            chosen.append(sizes)
    return chosen


def _draw(declaration: Declaration, variant: Variant, dims: Mapping[str, int]) -> dict[str, np.ndarray]:
    family = declaration.family
    signature = family.signature
    rng = np.random.default_rng([len(family.name), *dims.values()])
    open_sizes = [size for dim, size in dims.items() if not dim.isdigit()]
    least = max(1, min(open_sizes, default=1))  # an integer may be an index into any array
    arrays = {}
    for argument in signature.inputs:
        shape = tuple(dims[dim] for dim in argument.dims)
        dtype = np.dtype(family.dtype(argument.name, variant))
        drawn = declaration.drawn(argument.name, rng, shape, dims)
        if drawn is None and dtype.kind == "f":
            drawn = rng.uniform(0.25, 0.95, shape)  # where functions are defined
        elif drawn is None:
            drawn = rng.integers(0, min(least, 256), shape) if argument.dims else np.asarray(min(3, least))
        arrays[f"input.{argument.name}"] = drawn.astype(dtype)
        arrays[f"direction.{argument.name}"] = rng.uniform(-1, 1, shape)
    for argument in signature.outputs:
        shape = tuple(dims[dim] for dim in argument.dims)
        dtype = family.dtype(argument.name, variant)
        arrays[f"cotangent.{argument.name}"] = rng.uniform(-1, 1, shape).astype(dtype)
    return arrays


# ---- what is compared ----


def _compare(
    trials: list[Trial], declarations: Mapping[str, Declaration], found: Mapping[str, Mapping[str, np.ndarray]]
) -> dict[str, str]:
    problems: list[str] = []
    worst: dict[str, dict[str, float]] = {}
    counts: dict[str, int] = {}
    for trial in trials:
        name = trial.family.name
        counts[name] = counts.get(name, 0) + 1
        if trial.empty:
            continue
        errors = worst.setdefault(name, {})
        for key, what, error, limit in _errors(trial, declarations[name], found):
            errors[key] = max(errors.get(key, 0.0), error)
            if not error <= limit:  # not so for NaN either
                problems.append(f"{trial.where()}: {what}: off by {error:.1e}, where {limit:.0e} is allowed")
    if problems:
        more = f"\nand {len(problems) - 10} more" if len(problems) > 10 else ""
        raise VerificationError(
            "\n".join(problems[:10])
            + more
            + "\nIf the kernel is right, but rounding grows in it or its inputs are of a certain kind, say what to "
            "draw for them (draw=) and at which sizes (sizes=)."
        )
    return {name: _line(counts[name], errors) for name, errors in worst.items()}


def _line(count: int, errors: Mapping[str, float]) -> str:
    """What was compared of a kernel, for people."""
    if not errors:
        return f"ran at {count} sizes; nothing was compared, since its numbers are random"
    found = ", ".join(f"{key} {error:.1e}" for key, error in errors.items())
    return f"verified at {count} sizes; largest errors: {found}"


def _errors(
    trial: Trial, declaration: Declaration, found: Mapping[str, Mapping[str, np.ndarray]]
) -> list[tuple[str, str, float, float]]:
    """(key of the record, what it is, error, limit) of everything that one trial compares."""
    errors: list[tuple[str, str, float, float]] = []
    family = trial.family
    if family.state:
        errors += _state_errors(trial, declaration, found)
    if not declaration.random:
        errors += _cuda_errors(trial, found)
        for argument in family.signature.outputs:
            key = f"{trial.id}.output.{argument.name}"
            dtype = family.dtype(argument.name, trial.variant)
            error = _difference(found["module"][key], found["jit"][key])
            what = f"output {argument.name!r} beside Taichi's JIT"
            errors.append(("forward from the JIT", what, error, _CLOSE.get(dtype, 0.0)))
    for wrt in family.wrt:
        for name in wrt:
            key = f"{trial.id}.gradient.{' '.join(wrt)}.{name}"
            dtype = family.dtype(name, trial.variant)
            gradient = found["module"][key]
            if key in found["jit"]:  # not where Taichi's own is wrong
                error = _difference(gradient, found["jit"][key])
                what = f"gradient of {name!r} (wrt {' '.join(wrt)}) beside Taichi's JIT"
                errors.append(("vjp from the JIT", what, error, _CLOSE[dtype]))
            if declaration.finite_differences:
                outputs = [output.name for output in family.signature.outputs]
                cotangents = {each: trial.arrays[f"cotangent.{each}"] for each in outputs}
                error = _slope_error(trial, name, gradient, found["double"], cotangents)
                what = f"gradient of {name!r} (wrt {' '.join(wrt)}) beside finite differences in float64"
                errors.append(("vjp from finite differences", what, error, _SLOPE[dtype]))
    return errors


def _cuda_errors(trial: Trial, found: Mapping[str, Mapping[str, np.ndarray]]) -> list[tuple[str, str, float, float]]:
    """How far the code for CUDA is from that for the CPU, of what it has."""
    errors = []
    for key, result in found["cuda"].items():
        if not key.startswith(f"{trial.id}."):
            continue
        kind, *names = key.removeprefix(f"{trial.id}.").split(".")
        dtype = trial.family.dtype(names[-1], trial.variant)
        wrt = f" (wrt {names[0]})" if kind == "gradient" else ""
        error = _difference(result, found["module"][key])
        what = f"{kind} {names[-1]!r}{wrt} of the code for CUDA beside that for the CPU"
        errors.append(("CUDA from the CPU", what, error, _CLOSE.get(dtype, 0.0)))
    return errors


def _state_errors(
    trial: Trial, declaration: Declaration, found: Mapping[str, Mapping[str, np.ndarray]]
) -> list[tuple[str, str, float, float]]:
    errors = []
    limits = {name: _CLOSE.get(str(trial.arrays[f"state.{name}"].dtype), 0.0) for name in trial.fields}
    stages = (("after", "", "forward from the JIT"), ("adjoint", " after its adjoint", "grad from the JIT"))
    for stage, when, key in stages:
        for name in trial.fields:
            place = f"{trial.id}.{stage}.{name}"
            if declaration.random or place not in found["jit"]:
                continue
            error = _difference(found["module"][place], found["jit"][place])
            errors.append((key, f"field {name!r}{when} beside Taichi's JIT", error, limits[name]))
    if trial.family.gradient and declaration.finite_differences:
        for name in trial.fields:
            if f"{trial.id}.moved.{name}.1.{name}" in found["double"]:
                gradient = found["module"][f"{trial.id}.adjoint.{name}.grad"]
                others = [each for each in trial.fields if f"{trial.id}.moved.{name}.1.{each}" in found["double"]]
                cotangents = {each: trial.arrays[f"state.{each}.grad"] for each in others}
                error = _slope_error(trial, name, gradient, found["double"], cotangents)
                what = f"gradient of field {name!r} beside finite differences in float64"
                errors.append(("grad from finite differences", what, error, _SLOPE[str(gradient.dtype)]))
    return errors


def _difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest difference, as a part of the largest number; 0 where both are the same NaN or infinity."""
    if ours.size == 0:
        return 0.0
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    finite = np.abs(b[np.isfinite(b)])
    scale = max(float(finite.max(initial=0.0)), 1e-30)
    with np.errstate(invalid="ignore"):
        difference = np.where(same, 0.0, np.abs(a - b))
    return float(difference.max()) / scale


def _slope_error(
    trial: Trial,
    name: str,
    gradient: np.ndarray,
    moved: Mapping[str, np.ndarray],
    cotangents: Mapping[str, np.ndarray],
) -> float:
    """How far gradient and slope lie apart, as a part of their terms, less what the slope is unsure of."""

    def value(steps: int) -> tuple[float, float]:
        terms = [
            cotangent.astype(np.float64) * moved[f"{trial.id}.moved.{name}.{steps}.{each}"].astype(np.float64)
            for each, cotangent in cotangents.items()
        ]
        return float(sum(term.sum() for term in terms)), float(sum(np.abs(term).sum() for term in terms))

    products = gradient.astype(np.float64) * trial.arrays[f"direction.{name}"]
    (ahead, size), (behind, _) = value(1), value(-1)
    slope = (ahead - behind) / (2 * STEP)
    wide = (value(2)[0] - value(-2)[0]) / (4 * STEP)
    scale = float(np.abs(products).sum()) + abs(slope) + size * 1e-10 / STEP + 1e-30
    unsure = abs(slope - wide)  # curvature, or float32 inside of the kernel
    return max(abs(float(products.sum()) - slope) - 2 * unsure, 0.0) / scale


def _main(module: str, source: str, cuda_trial: str | None = None) -> int:
    import taichi as ti

    from .kernel_file import load_kernel_file

    ti.init(arch=ti.cpu, log_level=ti.ERROR)
    try:
        record = _verify(
            module, source, cuda_trial, load_kernel_file(source), lambda text: print("say", text, flush=True)
        )
    except (VerificationError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    print("record", json.dumps(record))
    return 0


if __name__ == "__main__":
    code = _main(*sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
