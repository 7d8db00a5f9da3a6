"""Recorded launches of kernels, as points for their verification. Runs no kernel."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..author.declare import Declaration, Variant
from ..author.parameters import is_template
from ..author.signature import Signature
from .record import INDEX, template_name


class RecordError(Exception):
    """A program cannot be recorded, or there is no such recording; the message says why."""


@dataclass(frozen=True)
class Launch:
    """A launch of a kernel that was recorded."""

    path: Path
    names: tuple[str, ...]  # of the variables that held the kernel, and its own
    number: int  # among the launches of the kernel
    templates: Mapping[str, str]  # what stood for template parameters

    def arrays(self) -> dict[str, np.ndarray]:
        """`input.NAME` for what was passed, `state.NAME` for the fields."""
        with np.load(self.path) as stored:
            return dict(stored)

    def sizes(self, signature: Signature, variant: Variant) -> list[dict[str, int]]:
        """The size of each dimension, as the only element; none where they do not fit the signature, or the variant."""
        sizes = dict(variant.sizes)
        with np.load(self.path) as stored:
            for argument in signature.arguments:
                key = f"input.{argument.name}"
                if key not in stored:
                    continue
                shape = stored[key].shape
                if len(shape) != len(argument.dims):
                    return []
                for dim, size in zip(argument.dims, shape, strict=True):
                    if sizes.setdefault(dim, size) != size or (dim.isdigit() and int(dim) != size):
                        return []
        return [sizes] if all(dim in sizes for dim in signature.dims) else []


def read_recording(folder: str | os.PathLike[str]) -> list[Launch]:
    """The launches in a folder that `recording` wrote.

    Raises:
        RecordError: when there is none.
    """
    try:
        records = json.loads(Path(folder, INDEX).read_text())
    except OSError:
        raise RecordError(
            f"{folder}: there is no recording: make one by `with tiaot.export.recording({str(folder)!r}):`"
        ) from None
    return [
        Launch(Path(folder, each["file"]).absolute(), tuple(each["names"]), each["number"], each["templates"])
        for each in records
    ]


def launches_of(declaration: Declaration, launches: list[Launch], namespace: Mapping[str, Any]) -> list[Launch]:
    """Those of a declared kernel, with what it has for its templates."""
    from ..author.fields import find_fields

    if declaration.kernel is None:  # of a family, whose kernels are made for the module
        return []
    name = declaration.family.name
    own = [each for each in launches if name == each.names[0]] or [each for each in launches if name in each.names]
    constants = declaration.make(declaration.family.variants()[0]).constants
    fields = find_fields(namespace)
    wanted = {
        each.name: template_name(constants.get(each.name), namespace, fields)
        for each in declaration.kernel._primal.arguments
        if is_template(each)
    }
    return [each for each in own if all(text and each.templates.get(key) == text for key, text in wanted.items())]


def record_program(command: list[str], folder: Path) -> None:
    """Run a program, `FILE ARGUMENTS...` or `-m MODULE ARGUMENTS...`, and record its kernels; it prints what it prints.

    Raises:
        RecordError: when it fails, or launches no kernel.
    """
    done = subprocess.run([sys.executable, "-m", "tiaot.export.gate.run_recorded", str(folder), *command], check=False)
    text = " ".join(command)
    if done.returncode != 0:
        raise RecordError(f"{text}: the program that was to be recorded ended with code {done.returncode}")
    if not read_recording(folder):
        raise RecordError(
            f"{text}: the program launched no kernel of its own: say after --record with which arguments it does"
        )
