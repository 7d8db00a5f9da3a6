"""Recording: what kernels of a running program are given, kept as what they are tried with. Changes no result.

The first launch of each kernel is kept, and some later ones: what it was given, and the fields that it found. It is
Taichi that runs; nothing is compiled for a module here.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

INDEX = "launches.json"
_MARKS = (3, 10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000, 300_000, 1_000_000)  # launches after the first
_LATER = 3  # of these are kept: the last
_MOST_BYTES = 2 << 30  # in all


@contextlib.contextmanager
def recording(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Keep what Taichi's kernels are given meanwhile, in a folder that `tiaot export --recorded FOLDER` reads.

        with tiaot.export.recording("springs.recorded"):
            simulate(frames=10)

    Of each kernel the first launch is kept and up to three later ones, with the fields as the kernel finds them.

    Args:
        folder: is made; an earlier recording in it is replaced.

    Raises:
        RuntimeError: inside of another recording.
        OSError: when the folder cannot be written.
    """
    from taichi.lang.kernel_impl import Kernel

    if hasattr(Kernel.__call__, "recorder"):
        raise RuntimeError("recording: there is a recording at work already")
    recorder = _Recorder(Path(folder))
    original = Kernel.__call__

    def call(kernel: Any, *arguments: Any, **named: Any) -> Any:
        recorder.launched(kernel, arguments, named)
        return original(kernel, *arguments, **named)

    call.recorder = recorder  # type: ignore[attr-defined]
    Kernel.__call__ = call
    try:
        yield
    finally:
        Kernel.__call__ = original
        recorder.finish()


class _Recorder:
    """What is kept of a program's launches."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()  # programs change the working directory
        self.folder.mkdir(parents=True, exist_ok=True)
        for old in [*self.folder.glob("launch-*.npz"), self.folder / INDEX]:
            old.unlink(missing_ok=True)
        self.counts: dict[int, int] = {}  # by kernel
        self.kernels: list[Any] = []  # so that no two have the same id
        self.kept: dict[int, list[dict[str, Any]]] = {}
        self.bytes = 0
        self.busy = False

    def launched(self, kernel: Any, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        """A kernel is about to run."""
        from taichi.lang.kernel_impl import AutodiffMode

        if self.busy or kernel.autodiff_mode != AutodiffMode.NONE or kernel.func.__module__.startswith("taichi."):
            return
        if id(kernel) not in self.counts:
            self.kernels.append(kernel)
        number = self.counts[id(kernel)] = self.counts.get(id(kernel), 0) + 1
        if number != 1 and number not in _MARKS:
            return
        self.busy = True  # fields are read by kernels of Taichi's
        try:
            self._keep(kernel, number, arguments, named)
        finally:
            self.busy = False

    def _keep(self, kernel: Any, number: int, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        from ..author.fields import find_fields
        from ..author.parameters import is_template

        main = vars(sys.modules["__main__"])
        namespace = {**kernel.func.__globals__, **main}
        fields = find_fields(namespace)
        parameters = [each.name for each in kernel.arguments]
        given = {**dict(zip(parameters, arguments, strict=False)), **named}
        templates, arrays = {}, {}
        for parameter in kernel.arguments:
            value = given.get(parameter.name, parameter.default)
            if is_template(parameter):
                templates[parameter.name] = template_name(value, namespace, fields)
            elif (array := _array(value)) is not None:
                arrays[f"input.{parameter.name}"] = array
        arrays |= {f"state.{name}": np.asarray(field.to_numpy()) for name, field in fields.items()}
        size = sum(array.nbytes for array in arrays.values())
        if self.bytes + size > _MOST_BYTES:
            return
        names = [name for name, value in namespace.items() if getattr(value, "_primal", None) is kernel]
        file = self.folder / f"launch-{self.kernels.index(kernel)}-{number}.npz"
        np.savez(file, **arrays)
        self.bytes += size
        of_kernel = self.kept.setdefault(id(kernel), [])
        of_kernel.append(
            {
                "names": [*dict.fromkeys([*names, kernel.func.__name__])],
                "number": number,
                "file": file.name,
                "bytes": size,
                "templates": templates,
            }
        )
        while len(of_kernel) > 1 + _LATER:
            old = of_kernel.pop(1)
            (self.folder / old["file"]).unlink()
            self.bytes -= old["bytes"]

    def finish(self) -> None:
        """Writes down what there is."""
        launches = [each for of_kernel in self.kept.values() for each in of_kernel]
        (self.folder / INDEX).write_text(json.dumps(launches))


def template_name(value: Any, namespace: Mapping[str, Any], fields: Mapping[str, Any]) -> str:
    """What tells two values of a template parameter apart, in two runs of a program; "" where nothing does."""
    if isinstance(value, bool | int | float | str):
        return repr(value)
    for known in (fields, namespace):
        for name, each in known.items():
            if each is value and not name.startswith("__"):
                return name
    return ""


def _array(value: Any) -> np.ndarray | None:
    """An argument of a kernel as an array; None where it is none."""
    if hasattr(value, "detach"):  # torch
        value = value.detach().cpu()
    if hasattr(value, "to_numpy"):
        value = value.to_numpy()
    try:
        array = np.array(value)
    except (ValueError, TypeError):
        return None
    return array if array.dtype.kind in "fiub" else None
