"""Trials of the module, and of its derivatives in its twin (twin.py): results and verdicts."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from . import trial_state
from .along import JVP, check_along
from .exact import Wrt, check
from .trial_session import Arrays, Record, Session, perturbed, spread, widened


def run_module(session: Session, path: str, twin: str) -> None:
    from ... import open as open_module

    module = open_module(path)
    wide = open_module(twin) if twin else None
    for trial, arrays in session.each():
        rng = np.random.default_rng([7, *trial["seed"]])
        if trial["fields"]:
            trial_state.run_module(session, module, wide, trial, arrays, rng)
        else:
            _run(session, module, wide, trial, arrays, rng)


def _run(session: Session, module: Any, wide: Any, trial: Record, arrays: Arrays, rng: np.random.Generator) -> None:
    kernel = module.kernels[trial["kernel"]].restrict(trial["variant_name"])
    inputs = {name: arrays[f"input.{name}"] for name in trial["inputs"]}
    cotangents = {name: arrays[f"cotangent.{name}"] for name in trial["outputs"]}
    tangents = {name.removeprefix("tangent."): t for name, t in arrays.items() if name.startswith("tangent.")}

    def results(of: Any, at: Arrays, v: Arrays) -> dict[str, np.ndarray]:
        made = _made(of, trial, at)
        for wrt in trial["wrt"]:
            session.say(trial, doing=f"vjp, wrt {' '.join(wrt)}")
            gradients = of.vjp(*at.values(), *v.values(), wrt=tuple(wrt))
            made |= {f"gradient.{' '.join(wrt)}.{name}": g for name, g in zip(wrt, gradients, strict=True)}
        return made | _along(session, of, trial, at, v, tangents)

    session.say(trial, doing="forward")
    mine = results(kernel, inputs, cotangents)
    session.keep(trial, "results", mine)
    if trial["empty"]:
        return
    session.keep(trial, "spread", spread(mine, [results(kernel, perturbed(inputs, rng), cotangents) for _ in range(2)]))
    if wide is None or trial["kernel"] not in wide.kernels:
        return
    session.say(trial, doing="forward, in float64")
    double = wide.kernels[trial["kernel"]].restrict(trial["twin_name"])
    session.keep(trial, "twin", results(double, widened(inputs), widened(cotangents)))
    if trial["sloped"] or trial["tangents"]:
        case = _Arguments(double, trial, widened(inputs), widened(cotangents))
        for verdict in itertools.chain(
            check(case, rng, session.in_time) if trial["sloped"] else (),
            check_along(_Along(case), rng, session.in_time),
        ):
            session.say(trial, verdict=verdict.record())


def _along(
    session: Session, kernel: Any, trial: Record, inputs: Arrays, cotangents: Arrays, tangents: Arrays
) -> dict[str, np.ndarray]:
    """What the entries with tangents give: what they have in common with others, and the derivatives."""
    made = {}
    for kind, wrt in trial["along"]:
        joined = " ".join(wrt)
        session.say(trial, doing=f"{kind}, wrt {joined}")
        directions = [tangents[name].astype(inputs[name].dtype) for name in wrt]
        if kind == JVP:
            values, moved = kernel.jvp(*inputs.values(), *directions, wrt=tuple(wrt))
            names, common = trial["outputs"], "value"
        else:
            values, moved = kernel.hvp(*inputs.values(), *cotangents.values(), *directions, wrt=tuple(wrt))
            names, common = wrt, "again"
        for part, arrays in ((common, values), (kind, moved)):
            made |= {f"{part}.{joined}.{name}": a for name, a in zip(names, _tuple(arrays), strict=True)}
    return made


def _tuple(arrays: Any) -> tuple[np.ndarray, ...]:
    return arrays if isinstance(arrays, tuple) else (arrays,)


def _made(kernel: Any, trial: Record, inputs: Arrays) -> dict[str, np.ndarray]:
    made = _tuple(kernel(*inputs.values()))
    return {f"output.{name}": array for name, array in zip(trial["outputs"], made, strict=True)}


class _Arguments:
    """A kernel of the twin at a point, as exact.py wants it."""

    def __init__(
        self, kernel: Any, trial: Record, inputs: dict[str, np.ndarray], cotangents: Mapping[str, np.ndarray]
    ) -> None:
        self.kernel, self.trial, self.inputs, self.drawn = kernel, trial, inputs, cotangents
        self.names = list(dict.fromkeys(name for wrt in trial["twin_wrt"] for name in wrt))

    def entries(self, name: str) -> list[Wrt]:
        return [tuple(wrt) for wrt in self.trial["twin_wrt"] if name in wrt]

    def point(self, name: str) -> np.ndarray:
        return self.inputs[name]

    def outputs(self, name: str, moved: np.ndarray) -> list[np.ndarray]:
        return list(_made(self.kernel, self.trial, {**self.inputs, name: moved}).values())

    def cotangents(self) -> list[np.ndarray]:
        return list(self.drawn.values())

    def pull_back(self, wrt: Wrt, name: str, cotangents: list[np.ndarray]) -> np.ndarray:
        return np.asarray(self.kernel.vjp(*self.inputs.values(), *cotangents, wrt=wrt)[wrt.index(name)])


class _Along:
    """The same, as along.py wants it."""

    def __init__(self, case: _Arguments) -> None:
        self.case, self.kernel = case, case.kernel
        self.along = [(kind, tuple(wrt)) for kind, wrt in case.trial["along"]]

    def has_vjp(self, wrt: Wrt) -> bool:
        return list(wrt) in self.case.trial["wrt"] and self.case.trial["sloped"]

    def inputs(self, wrt: Wrt) -> list[np.ndarray]:
        return [self.case.inputs[name] for name in wrt]

    def cotangents(self) -> list[np.ndarray]:
        return self.case.cotangents()

    def forward(self, wrt: Wrt, moved: list[np.ndarray]) -> list[np.ndarray]:
        return list(_made(self.kernel, self.case.trial, self._at(wrt, moved)).values())

    def vjp(self, wrt: Wrt, moved: list[np.ndarray], cotangents: list[np.ndarray]) -> list[np.ndarray]:
        return list(self.kernel.vjp(*self._at(wrt, moved).values(), *cotangents, wrt=wrt))

    def jvp(self, wrt: Wrt, moved: list[np.ndarray], tangents: list[np.ndarray]) -> list[np.ndarray]:
        return list(_tuple(self.kernel.jvp(*self._at(wrt, moved).values(), *tangents, wrt=wrt)[1]))

    def hvp(
        self, wrt: Wrt, moved: list[np.ndarray], cotangents: list[np.ndarray], tangents: list[np.ndarray]
    ) -> list[np.ndarray]:
        return list(self.kernel.hvp(*self._at(wrt, moved).values(), *cotangents, *tangents, wrt=wrt)[1])

    def _at(self, wrt: Wrt, moved: list[np.ndarray]) -> dict[str, np.ndarray]:
        return {**self.case.inputs, **dict(zip(wrt, moved, strict=True))}
