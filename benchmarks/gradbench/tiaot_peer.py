"""The kernels of kernels/, exported by tiaot, with arrays bound."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .by_hand import results
from .derivative import VARIABLE
from .problems import Inputs, Problem


def export(problem: Problem, folder: Path, derivative: str) -> str:
    """Writes the module of a problem to a folder. '' where that was done, otherwise why not.

    Without the cache, which does not see the environment. Unverified: the gradient is held against those of the peers
    before it is timed.
    """
    source = Path(__file__).parent / "kernels" / f"{problem.name}.py"
    options = ["--no-cache", "--no-verify", str(source), "-o", f"{problem.name}.tiaot.so"]
    command = [sys.executable, "-m", "tiaot", "export", *options]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, VARIABLE: derivative}, capture_output=True, text=True, check=False
    )
    return "" if done.returncode == 0 else " ".join(done.stderr.split()) or f"ended with {done.returncode}"


def prepare(folder: Path, problem: Problem, inputs: Inputs) -> dict[str, Callable[[], Any]]:
    """The primal and the gradient of an exported problem, on one thread; each returns the same arrays each time.

    Without a gradient where the module has none.
    """
    import tiaot

    module = tiaot.open(folder / f"{problem.name}.tiaot.so")
    kernel = module.kernels[problem.name]
    outputs, gradients = results(problem, inputs)
    given = list(inputs.values())
    before: Callable[[], Any] = tuple
    if problem.name == "bundle_adjustment":
        count = len(inputs["seen"])
        camera, point = np.empty((count, 11)), np.empty((count, 3))
        before = module.kernels["gather"].bind(*given[:3], out=(camera, point), num_threads=1)
        given = [camera, point, *given[3:]]
    primal = kernel.bind(*given, out=outputs[0], num_threads=1)

    def whole_primal() -> Any:
        before()
        return primal()

    about = next(each for each in module.info()["kernels"] if each["name"] == problem.name)
    if not any(each["differentiable"] for each in about["inputs"]):
        return {"primal": whole_primal}
    out = gradients if len(gradients) > 1 else gradients[0]
    wrt = problem.wrt if len(gradients) > 1 else problem.wrt[0]
    if problem.name == "bundle_adjustment":
        pull = kernel.jacobian.bind(*given, wrt=wrt, out=out, num_threads=1)
    else:
        last = problem.name == "differential_equation"
        cotangent = np.eye(len(outputs[0]))[-1] if last else np.ones(outputs[0].shape)
        pull = kernel.vjp.bind(*given, cotangent, wrt=wrt, out=out, num_threads=1)

    def whole_gradient() -> Any:
        before()
        return pull()

    return {"primal": whole_primal, "gradient": whole_gradient}
