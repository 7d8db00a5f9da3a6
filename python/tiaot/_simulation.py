"""Runs of kernels over state as functions of fields: recorded forward, taken back with checkpoints. Knows no framework.

A state of the program's own is filled from copies and read into copies, and the calls of a run are written down with
what they were given. So nothing that happens between a run and its gradient reaches the gradient.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ._core import Module
from ._state import State

Array = np.ndarray[Any, Any]
Content = dict[str, Array]


class Run:
    """What a `run` function works on: kernels to call and fields to read, by their names.

    run.step(dt) calls the kernel; run.x is the field, which cannot be written to here: a kernel has to.
    """

    _program: Program
    _calls: list[Call]

    def __init__(self, program: Program, calls: list[Call]) -> None:
        self._program = program
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        program = self._program
        if name in program.kernels:
            return Recorder(program, name, self._calls)
        if name in program.fields:
            view = program.fields[name].view()
            view.flags.writeable = False
            return view
        known = ", ".join([*program.fields, *program.kernels])
        raise AttributeError(f"{program.label}: expected the name of a field or kernel, {known}, got {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_"):
            raise AttributeError(f"{self._program.label}: a run writes fields by its kernels alone, got {name!r}")
        super().__setattr__(name, value)


class Call:
    """One call of a kernel, with copies of its arguments."""

    def __init__(self, kernel: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        self.kernel = kernel
        self.arguments = tuple(map(_own, arguments))
        self.named = {name: _own(value) for name, value in named.items()}


def _own(value: Any) -> Any:
    return value if value is None or isinstance(value, (bool, int, float, str, np.generic)) else np.array(value)


class Recorder:
    """A kernel of a run: calling it writes the call down and makes it."""

    def __init__(self, program: Program, kernel: str, calls: list[Call]) -> None:
        self._program = program
        self._kernel = kernel
        self._calls = calls

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        call = Call(self._kernel, arguments, named)
        result = self._program.kernels[self._kernel](*call.arguments, **call.named)
        self._calls.append(call)
        return result


class Record:
    """What is kept of a run for its gradient: the calls of each step, and what the fields held before some steps."""

    def __init__(self) -> None:
        self.steps: list[list[Call]] = []
        self.checkpoints: dict[int, Content] = {}
        self.obstacle = ""  # why there is no gradient
        self.each: list[Record] = []  # of a run for each element of a mapped axis, instead of the above


class Program:
    """Kernels over state as a function of some fields to others. Arguments as those of the frameworks' Simulation."""

    def __init__(
        self,
        module: Module,
        run: str | Sequence[str] | Callable[[Run, int], Any],
        inputs: Sequence[str],
        outputs: Sequence[str] | None,
        constants: Mapping[str, Any] | None,
        passive: Sequence[str],
    ) -> None:
        if not isinstance(module, Module):
            raise TypeError(f"Simulation: argument 'module': expected a tiaot.Module, got {type(module).__name__}")
        self.label = module.name
        self.state: State = module.state()
        self.fields, self.kernels = self.state.fields, self.state.kernels  # which the state makes anew each time
        self._gradients = {name: field.grad for name, field in self.fields.items() if field.grad is not None}
        self._lock = threading.RLock()
        self._is_running = False
        self.inputs = self._fields("inputs", inputs)
        self.outputs = self._fields("outputs", inputs if outputs is None else outputs)
        known = [*self.fields, *self.kernels]
        self._passive = frozenset(self._names("passive", passive, known))
        self._run = run if callable(run) else self._in_order(self._names("run", run, list(self.kernels)))
        for name in self._names("constants", constants or {}, list(self.fields)):
            self.fields[name][...] = (constants or {})[name]
        self._start = self._content()
        with_entry = {
            each["name"]
            for each in module.info()["kernels"]
            if any(entry["kind"] == "grad" for variant in each["variants"] for entry in variant["entries"])
        }
        self._without_gradient = set(self.kernels) - with_entry

    def _names(self, argument: str, given: Any, known: Sequence[str]) -> tuple[str, ...]:
        names = (given,) if isinstance(given, str) else tuple(given)
        for name in names:
            if name not in known:
                raise ValueError(
                    f"Simulation: argument '{argument}': expected names of {', '.join(known)}, got {name!r}"
                )
        return names

    def _fields(self, argument: str, given: Any) -> tuple[str, ...]:
        names = self._names(argument, given, list(self.fields))
        if not names or len(set(names)) != len(names):
            raise ValueError(f"Simulation: argument '{argument}': expected names of fields, each once, got {names}")
        return names

    @staticmethod
    def _in_order(kernels: Sequence[str]) -> Callable[[Run, int], Any]:
        def run(on: Run, step: int) -> None:
            for name in kernels:
                getattr(on, name)()

        return run

    def has_gradient(self, name: str) -> bool:
        """Whether a field has a gradient."""
        return name in self._gradients and name not in self._passive

    def check_count(self, count: int) -> None:
        """Raises TypeError when a call has another number of arrays than there are inputs."""
        if count != len(self.inputs):
            raise TypeError(f"{self.label}: expected {len(self.inputs)} fields ({', '.join(self.inputs)}), got {count}")

    def check_steps(self, steps: Any) -> None:
        """Raises ValueError for a number of steps that cannot be."""
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 0:
            raise ValueError(f"{self.label}: argument 'steps': expected an integer of 0 or more, got {steps!r}")

    def check(self, name: str, shape: Sequence[int], dtype: str) -> None:
        """Raises TypeError or ValueError for an array that does not fit the field."""
        field = self.fields[name]
        expected, got = f"{field.dtype}{list(field.shape)}", f"{dtype}{list(shape)}"
        if dtype != str(field.dtype):
            raise TypeError(f"{self.label}: field '{name}': expected {expected}, got {got}")
        if tuple(shape) != field.shape:
            raise ValueError(f"{self.label}: field '{name}': expected {expected}, got {got}")

    def forward(self, arrays: Sequence[Array], steps: int, record: Record | None) -> list[Array]:
        """What the outputs hold after `steps` steps from these inputs; what the gradient needs goes to `record`."""
        with self._alone():
            self._write(self._start)
            self._write(dict(zip(self.inputs, arrays, strict=True)))
            every = max(1, math.isqrt(max(0, steps - 1)) + 1)
            for step in range(steps):
                calls: list[Call] = []
                if record is not None and step % every == 0:
                    record.checkpoints[step] = self._content()
                self._run(Run(self, calls), step)
                if record is not None:
                    record.steps.append(calls)
            if record is not None:
                record.obstacle = self._obstacle(record)
            return [np.array(self.fields[name]) for name in self.outputs]

    def pull_back(self, record: Record, cotangents: Sequence[Array | None]) -> list[Array | None]:
        """The gradients of the inputs, None for one without, from the cotangents of the outputs; None stands for zeros.

        Raises NotImplementedError where the run had a call or a field that no gradient goes through.
        """
        if record.obstacle:
            raise NotImplementedError(record.obstacle)
        with self._alone():
            self.state.zero_grad()
            for name, cotangent in zip(self.outputs, cotangents, strict=True):
                if cotangent is not None and self.has_gradient(name):
                    self._gradients[name][...] += cotangent
            end = len(record.steps)
            for start in sorted(record.checkpoints, reverse=True):
                self._pull_back_steps(record.steps[start:end], record.checkpoints[start])
                end = start
            return [np.array(self._gradients[name]) if self.has_gradient(name) else None for name in self.inputs]

    def _pull_back_steps(self, steps: Sequence[Sequence[Call]], content: Content) -> None:
        """Runs steps again from what the fields held before them, then their adjoints, the last first.

        An adjoint has to find the fields as its own kernel left them.
        """
        still = [gradient for name, gradient in self._gradients.items() if name in self._passive]
        calls = [call for step in steps for call in step]
        self._write(content)
        before = [content]
        for call in calls:
            self.kernels[call.kernel](*call.arguments, **call.named)
            before.append(self._content())
        for place in reversed(range(len(calls))):
            call, left = calls[place], before[place + 1]
            if call.kernel in self._passive:
                self._check_passive(call.kernel, before[place], left)
                continue
            for gradient in still:
                gradient[...] = 0
            self._write(left)
            self.kernels[call.kernel].grad(*call.arguments, **call.named)

    def _check_passive(self, kernel: str, before: Content, after: Content) -> None:
        """What a passive kernel writes to has to be passive too: its gradient would go on to what was there before."""
        for name in before:
            if self.has_gradient(name) and not _same(before[name], after[name]):
                raise NotImplementedError(
                    f"{self.label}: kernel '{kernel}' is in 'passive', but writes to field '{name}', which is not"
                )

    def _obstacle(self, record: Record) -> str:
        """Why no gradient goes through a run, or nothing."""
        called = {call.kernel for calls in record.steps for call in calls}
        for kernel in sorted(called & self._without_gradient - self._passive):
            return f"{self.label}: kernel '{kernel}' has no gradient: name it in 'passive' if none is to go through it"
        for name, field in self.fields.items():
            if field.dtype.kind != "f" or name in self._gradients or name in self._passive or not called:
                continue
            if not _same(field, record.checkpoints[0][name]):
                return (
                    f"{self.label}: field '{name}' has no gradient, but a kernel wrote to it: "
                    "name it in 'passive' if none is to go through it"
                )
        return ""

    def _content(self) -> Content:
        return {name: np.array(field) for name, field in self.fields.items()}

    def _write(self, content: Content) -> None:
        for name, values in content.items():
            self.fields[name][...] = values

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Lets one run at a time have the state."""
        with self._lock:
            if self._is_running:
                raise ValueError(f"{self.label}: a run called its own Simulation")
            self._is_running = True
            try:
                yield
            finally:
                self._is_running = False


def _same(a: Array, b: Array) -> bool:
    return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
