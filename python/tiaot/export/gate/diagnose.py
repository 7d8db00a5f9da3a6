"""Diagnosis: what Taichi itself says of points at which something disagrees: indices out of range, samples that depend
on each other. Only where there are problems, since it takes another run of Taichi.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from .children import Folder
from .judge import CLOSE, Problem
from .points import Point


def diagnose(problems: list[Problem], source: str, folder: str, seconds: float) -> dict[str, list[str]]:
    """Causes by the names of kernels, of those of which one is certain."""
    chosen: dict[str, Point] = {}
    for problem in problems:
        point = problem.point
        if not point.empty and (not problem.name or point.daring or point.family.signature.batch):
            first = chosen.setdefault(point.family.name, point)
            if _is_batch(point) and not _is_batch(first):
                chosen[point.family.name] = point
    if not chosen:
        return {}
    Path(folder, "diagnosis").mkdir()
    points = list(chosen.values())
    rows = {name: _first_and_last(point) for name, point in chosen.items() if _is_batch(point)}
    among = Folder(str(Path(folder, "diagnosis")), [*points, *(each for pair in rows.values() for each in pair)])
    bounds = among.start("bounds", source, points, seconds)
    alone = among.start("jit", source, [each for name in rows for each in (chosen[name], *rows[name])], seconds)
    checked, results = bounds.finish(), alone.finish()
    causes: dict[str, list[str]] = {}
    for name, point in chosen.items():
        if point.id in checked.failures and "bound" in checked.failures[point.id][1]:
            causes[name] = [
                f"An index is out of range at {point.where()}; Taichi says: {checked.failures[point.id][1]}. Say what "
                "to draw for whole numbers (draw=), or mend the kernel."
            ]
        elif name in rows:
            whole = results.results(point.id)
            if any(
                _differ(point, whole, results.results(row.id), place)
                for row, place in zip(rows[name], (0, -1), strict=True)
            ):
                batch = point.family.signature.batch
                causes[name] = [
                    f"Its samples depend on each other: Taichi's JIT has another result for a sample alone than for it "
                    f"among {point.dims[batch or '']}. Leave batch={batch!r} out."
                ]
    return causes


def _is_batch(point: Point) -> bool:
    batch = point.family.signature.batch
    return bool(batch) and point.dims[batch or ""] > 1


def _first_and_last(point: Point) -> tuple[Point, Point]:
    """A point with one sample of another alone: the first, and the last."""
    return _row(point, 0), _row(point, -1)


def _row(point: Point, place: int) -> Point:
    signature = point.family.signature
    batch = signature.batch or ""
    batched = {each.name for each in signature.arguments if batch in each.dims}

    def draw() -> dict[str, np.ndarray]:
        drawn = point.draw()
        return {key: array[[place]] if key.partition(".")[2] in batched else array for key, array in drawn.items()}

    return replace(point, id=f"{point.id}.row{place}", dims={**point.dims, batch: 1}, draw=draw)


def _differ(point: Point, whole: Mapping[str, np.ndarray], row: Mapping[str, np.ndarray], place: int) -> bool:
    for argument in point.family.signature.outputs:
        key = f"output.{argument.name}"
        if key in whole and key in row:
            a, b = whole[key][[place]].astype(np.float64), row[key].astype(np.float64)
            close = CLOSE.get(str(row[key].dtype), 0.0)
            if not np.allclose(a, b, rtol=close, atol=close * float(np.abs(b).max(initial=0.0)), equal_nan=True):
                return True
    return False
