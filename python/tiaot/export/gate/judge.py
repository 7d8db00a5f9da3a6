"""Judging: what the children found at each point, as problems for the author and a line for the record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ..author.declare import Declaration
from ..computation import DERIVATIVES
from ..dtypes import ELEMENT_TYPES
from .branches import Site
from .children import Outcome
from .points import NEAR, ORDINARY, RECORDED, Point

CLOSE = {each.name: each.close for each in ELEMENT_TYPES}
_FROM_TWIN = {each.name: each.from_wide for each in ELEMENT_TYPES}
_ROUNDINGS = 16  # of outputs, in a gradient
_SPREAD = 8  # times what points do that rounding cannot tell apart
_STRAY = 0.02  # of the elements away from 1, where rounding can take another branch
# What entries with tangents give besides: which, and what it is held against.
_COMMON = {"value": ("jvp", "output", "forward entry"), "again": ("hvp", "gradient", "vjp entry")}
_OUTSTANDING = 100  # times the usual size of a result's numbers: by what is larger others are not measured
_MOST_WAYS = 4  # in the record
NOT_A_NUMBER = "is not a number, where the kernel's slope is one"
_SURE = 1e-7  # a slope that is known less well is told


@dataclass(frozen=True)
class Problem:
    """Something that must not be, at a point."""

    point: Point
    what: str  # "gradient of 'x' (wrt x)"
    why: str
    name: str = ""  # of the gradient that is wrong, where it is one
    like_jit: bool | None = None  # whether Taichi's JIT has the same numbers; None where it was not asked
    kept: bool = False  # it is of a field that is overwritten, and its gradient stays as it was
    complete: bool = False  # there is nothing to add to `why`
    along: bool = False  # it is of an entry with tangents

    def text(self) -> str:
        return f"{self.point.where()}: {self.what} {self.why}"


@dataclass
class Findings:
    """All that was found of one kernel."""

    points: int = 0
    recorded: int = 0  # of these
    errors: dict[str, float] = field(default_factory=dict)  # the largest, by what was compared
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what was left out
    unreached: list[tuple[Site, str]] = field(default_factory=list)  # ways that no point went, and in which sense
    uncounted: str = ""  # why these are not known
    slopes: dict[str, float] = field(
        default_factory=dict
    )  # how well the slope is known, by what it is the slope for; infinity if it is not

    def error(self, key: str, value: float) -> None:
        self.errors[key] = max(self.errors.get(key, 0.0), value)

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def line(self) -> str:
        """What was compared, for people."""
        notes = "".join(f"; {note}" for note in [*self.notes, *self._ways()])
        if not self.errors:
            return f"ran at {self.points} points; nothing was compared, since its numbers are random{notes}"
        found = ", ".join(f"{key} {error:.1e}" for key, error in self.errors.items())
        recorded = f" ({self.recorded} recorded)" if self.recorded else ""
        return f"verified at {self.points} points{recorded}; largest errors: {found}{notes}"

    def _ways(self) -> list[str]:
        told = [f"{site.text()} {how}" for site, how in self.unreached[:_MOST_WAYS]]
        more = len(self.unreached) - len(told)
        return [self.uncounted] * bool(self.uncounted) + told + [f"and {more} more ways were not checked"] * (more > 0)


def judge(
    points: list[Point],
    declarations: Mapping[str, Declaration],
    module: Outcome,
    jit: Outcome,
    cuda: Outcome,
    *,
    on_cuda: bool,
) -> dict[str, Findings]:
    """What was found of each kernel; `on_cuda`: the module has code for CUDA, too."""
    found: dict[str, Findings] = {}
    without_jit: dict[str, Point] = {}
    for point in points:
        declaration = declarations[point.family.name]
        findings = found.setdefault(point.family.name, Findings())
        if point.id in module.failures:
            _judge_failure(point, module, jit, findings)
            continue
        if not module.results(point.id):
            continue  # no time was left
        findings.points += 1
        findings.recorded += point.kind == RECORDED
        if point.large:
            findings.note("of large fields some elements were looked at")
            if on_cuda:
                findings.note("the code for CUDA was not tried over such fields: to interpret it takes too long")
        if point.empty:
            continue
        if point.id in jit.failures and not declaration.random:
            without_jit.setdefault(point.family.name, point)
        for verdict in module.verdicts.get(point.id, []):
            _judge_verdict(point, verdict, module, jit, findings)
        if not declaration.random:
            _judge_results(point, module, jit, findings)
            _judge_cuda(point, module, cuda, findings)
    for name, point in without_jit.items():
        what, ended = jit.failures[point.id]
        found[name].note(f"without Taichi's JIT from {point.where()}, where it {ended} ({what})")
    for name, ended in jit.without_adjoint.items():
        if name in found and not declarations[name].random:
            found[name].note(f"without the adjoint of Taichi's JIT, which {ended}")
    for name, findings in found.items():
        _judge_slopes(findings, [point for point in points if point.family.name == name])
    return found


def _judge_failure(point: Point, module: Outcome, jit: Outcome, findings: Findings) -> None:
    what, ended = module.failures[point.id]
    if point.id in jit.failures:
        ended += f"; so did Taichi's JIT: it {jit.failures[point.id][1]}"
        if point.kind not in ORDINARY:
            findings.note(f"not tried with values {point.kind}: {what} {ended}")
            return
    findings.problems.append(Problem(point, what, f"did not come to an end: the module {ended}", complete=True))


def _judge_verdict(
    point: Point, verdict: Mapping[str, object], module: Outcome, jit: Outcome, findings: Findings
) -> None:
    if verdict["kind"] != "vjp":
        _judge_along(point, verdict, findings)
        return
    name, wrt, outcome = str(verdict["name"]), [str(each) for each in verdict["wrt"]], verdict["outcome"]  # type: ignore[attr-defined]
    error, limit = float(verdict["error"]), float(verdict["limit"])  # type: ignore[arg-type]
    label = _gradient_of(name)
    known = findings.slopes.get(label, np.inf)
    if outcome == "right":
        findings.slopes[label] = min(known, limit)
        key = "grad from finite differences" if point.fields else "vjp from finite differences"
        findings.error(key, error)
        return
    findings.slopes.setdefault(label, np.inf)
    what = f"gradient of field {name!r}" if point.fields else f"gradient of {name!r} (wrt {' '.join(wrt)})"
    like = _like_jit(point, name, module, jit)
    if outcome == "wrong":
        why = f"beside finite differences in float64: off by {error:.1e}, where {limit:.0e} is allowed"
        kept = bool(point.fields) and _kept(point, name, module.results(point.id))
        findings.problems.append(Problem(point, what, why, name, like, kept))
    elif outcome == "not finite" and point.kind == NEAR:
        findings.problems.append(Problem(point, what, NOT_A_NUMBER, name, like))


def _gradient_of(name: str) -> str:
    return f"gradient of {name!r}"


def _judge_along(point: Point, verdict: Mapping[str, object], findings: Findings) -> None:
    """A verdict on an entry with tangents: beside slopes, or beside another entry."""
    kind, name, outcome = str(verdict["kind"]), str(verdict["name"]), verdict["outcome"]
    error, limit = float(verdict["error"]), float(verdict["limit"])  # type: ignore[arg-type]
    sloped = kind in DERIVATIVES
    label = f"{kind.partition(' ')[0]} along {name}"
    if sloped and (point.sloped or outcome == "right"):
        known = findings.slopes.get(label, np.inf)
        findings.slopes[label] = min(known, limit) if outcome == "right" else known
    by = "beside finite differences in float64" if sloped else kind.partition(" ")[2]
    if outcome == "right":
        findings.error(f"{kind} from finite differences" if sloped else kind, error)
    elif outcome == "wrong":
        why = f"{by}: off by {error:.1e}, where {limit:.0e} is allowed"
        findings.problems.append(Problem(point, label, why, along=True))
    elif outcome == "not finite" and sloped and point.kind == NEAR:
        findings.problems.append(Problem(point, label, NOT_A_NUMBER, along=True))


def _kept(point: Point, name: str, ours: Mapping[str, np.ndarray]) -> bool:
    """Whether most of what a kernel overwrites of a field has the gradient that was there before."""
    before, gradient = point.arrays[f"state.{name}"], point.arrays[f"state.{name}.grad"]
    written = ours[f"after.{name}"] != before
    same = ours[f"adjoint.{name}.grad"] == gradient
    return bool(written.any() and same[written].mean() > 0.5)


def _like_jit(point: Point, name: str, module: Outcome, jit: Outcome) -> bool | None:
    """Whether Taichi's JIT has the module's gradient of `name`."""
    ours, theirs = module.results(point.id), jit.results(point.id)
    keys = [key for key in ours if key.split(".")[0] in ("gradient", "adjoint") and key in theirs]
    keys = [key for key in keys if key.endswith(f".{name}.grad" if point.fields else f".{name}")]
    if not keys:
        return None
    return all(_compare(ours[key], theirs[key], CLOSE.get(str(ours[key].dtype), 0.0), None).fine for key in keys)


def _judge_results(point: Point, module: Outcome, jit: Outcome, findings: Findings) -> None:
    ours, theirs, twin = module.results(point.id), jit.results(point.id), module.apart(point.id, "twin")
    spread = module.apart(point.id, "spread")
    outcomes = [each["outcome"] for each in module.verdicts.get(point.id, [])]
    exact = bool(outcomes) and all(each == "right" for each in outcomes)
    for key, array in ours.items():
        kind, _, rest = key.partition(".")
        backward, along = kind in ("gradient", "adjoint"), kind in DERIVATIVES
        what, label = _describe(kind, rest)
        close = CLOSE.get(str(array.dtype), 0.0)
        if kind in _COMMON:
            _judge_common(point, key, ours, findings)
            continue
        from_jit = _compare(array, theirs[key], close, spread.get(key)) if key in theirs else None
        from_twin = None
        if key in twin and array.dtype.kind == "f":
            rounding = _rounding(point, ours, rest.rpartition(".")[2], array.dtype) if backward else 0.0
            from_twin = _compare(array, twin[key], _FROM_TWIN[str(array.dtype)], spread.get(key), rounding)
        if from_jit is not None and from_jit.fine:
            findings.error(f"{label} from the JIT", from_jit.error)
        if from_twin is not None and from_twin.fine and (backward or along):
            findings.error(f"{label} from float64", from_twin.error)
        if point.kind not in ORDINARY:
            jit_from_twin = (
                _compare(theirs[key], twin[key], close, spread.get(key)) if key in theirs and key in twin else None
            )
            if not _tells(array, from_jit, from_twin, jit_from_twin):
                continue
        if from_jit is not None and not from_jit.fine:
            if backward and exact and from_twin is not None and from_twin.fine:
                findings.note(f"the {label} of Taichi's JIT is another one at {point.where()}; the module's is right")
                continue
            findings.problems.append(Problem(point, what, f"beside Taichi's JIT: {from_jit.text()}"))
        elif from_twin is not None and not from_twin.fine and (backward or along):
            why = f"beside the same in float64: {from_twin.text()}"
            findings.problems.append(Problem(point, what, why, along=along))


def _judge_common(point: Point, key: str, ours: Mapping[str, np.ndarray], findings: Findings) -> None:
    """What an entry with tangents has in common with another, at ordinary values: away from 1 rounding may differ."""
    kind, _, rest = key.partition(".")
    wrt, _, name = rest.partition(".") if point.fields else rest.rpartition(".")
    entry, other, what = _COMMON[kind]
    if point.fields:
        other = "adjoint" if kind == "again" else "output" if f"output.{name}" in ours else "after"
    reference = ours.get(f"{other}.{rest}" if other == "gradient" else f"{other}.{name}")
    if reference is None or point.kind != NEAR:
        return
    found = _compare(ours[key], reference, CLOSE.get(str(reference.dtype), 0.0), None)
    if not found.fine:
        why = f"beside the {what} of its own: {found.text()}"
        findings.problems.append(Problem(point, f"{entry} along {wrt}: its {name!r}", why, along=True))


def _tells(
    ours: np.ndarray, from_jit: _Difference | None, from_twin: _Difference | None, jit_from_twin: _Difference | None
) -> bool:
    """Whether a difference away from 1 tells of a mistake: rounding grows there, and takes other branches."""
    if from_jit is not None and not from_jit.fine:
        if from_twin is not None and jit_from_twin is not None:
            return not from_twin.fine and not from_twin.stray and jit_from_twin.fine
        return not from_jit.stray
    if from_jit is None and from_twin is not None:
        return not from_twin.fine and not from_twin.stray and ours.dtype == np.float64
    return False


def _rounding(point: Point, ours: Mapping[str, np.ndarray], name: str, dtype: np.dtype) -> float:
    """What the rounding of outputs makes of a gradient: where these hardly change, it is all that there is of it."""
    if point.fields:
        name = name.removesuffix(".grad")
        pairs = [
            (point.arrays[f"state.{each}.grad"], ours[f"after.{each}"])
            for each in point.fields
            if f"state.{each}.grad" in point.arrays
        ]
        values = point.arrays.get(f"state.{name}")
    else:
        outputs = [each.name for each in point.family.signature.outputs]
        pairs = [(point.arrays[f"cotangent.{each}"], ours[f"output.{each}"]) for each in outputs]
        values = point.arrays[f"input.{name}"]
    if values is None or not np.any(values):
        return 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        size = sum(float(np.abs(v.astype(np.float64) * y.astype(np.float64)).sum()) for v, y in pairs)
    rounding = _ROUNDINGS * float(np.finfo(dtype).eps) * size / float(np.abs(values.astype(np.float64)).mean())
    return rounding if np.isfinite(rounding) else 0.0


def _describe(kind: str, rest: str) -> tuple[str, str]:
    """(what a result is, for people; what its comparison is called in the record)."""
    if kind == "output":
        return f"output {rest!r}", "forward"
    if kind == "after":
        return f"field {rest!r}", "forward"
    if kind == "adjoint":
        return f"field {rest!r} after its adjoint", "grad"
    wrt, _, name = rest.partition(".")
    if kind in DERIVATIVES:
        return f"{kind} of {name!r} (along {wrt})", kind
    return f"gradient of {name!r} (wrt {wrt})", "vjp"


def _judge_cuda(point: Point, module: Outcome, cuda: Outcome, findings: Findings) -> None:
    """How far the code for CUDA is from that for the CPU, of what it has."""
    if point.id in cuda.failures:
        what, ended = cuda.failures[point.id]
        findings.problems.append(Problem(point, what, f"of the code for CUDA did not come to an end: it {ended}"))
        return
    ours = module.results(point.id)
    for key, result in cuda.results(point.id).items():
        kind, _, rest = key.partition(".")
        wrt, _, name = rest.rpartition(".")
        found = _compare(result, ours[key], CLOSE.get(str(result.dtype), 0.0), None)
        findings.error("CUDA from the CPU", found.error)
        if not found.fine:
            what = f"{kind} {name!r}" + (f" (wrt {wrt})" if wrt else "")
            if kind in _COMMON:
                what = f"{_COMMON[kind][0]} along {wrt}: its {name!r}"
            elif kind in DERIVATIVES:
                what, _ = _describe(kind, rest)
            findings.problems.append(
                Problem(point, what, f"of the code for CUDA beside that for the CPU: {found.text()}")
            )


def _judge_slopes(findings: Findings, points: list[Point]) -> None:
    """What is to be said where slopes are not known well, or at all."""
    sloped = [point for point in points if point.sloped and not point.empty]
    wanted = [*map(_gradient_of, sloped[0].differentiated)] if sloped else []
    wanted += sloped[0].labels_along if sloped else []
    late = [label for label in wanted if label not in findings.slopes]
    if late and not findings.problems:
        what = ", ".join(late)
        why = "was not checked in time: give smaller sizes (sizes=), or more time (--verify-seconds)"
        findings.problems.append(Problem(sloped[0], what, why, complete=True))
    for label, known in findings.slopes.items():
        if findings.problems:
            return
        if known == np.inf:
            findings.problems.append(
                Problem(
                    points[0],
                    label,
                    "could not be checked: at no point is the kernel smooth enough along it for finite differences. "
                    "Draw values where it is (draw=), or give finite_differences=False",
                    complete=True,
                )
            )
        elif known > _SURE:
            findings.note(f"the slope for the {label} is known to {known:.0e} only")


@dataclass(frozen=True)
class _Difference:
    error: float  # the largest, as a part of the size of the numbers there
    limit: float
    fine: bool
    stray: bool  # it is in a few elements of many
    missing: str  # where one has a number and the other has none

    def text(self) -> str:
        return self.missing or f"off by {self.error:.1e}, where {self.limit:.0e} is allowed"


def _compare(
    ours: np.ndarray, theirs: np.ndarray, close: float, spread: np.ndarray | None, more: float = 0.0
) -> _Difference:
    if ours.size == 0:
        return _Difference(0.0, close, True, True, "")
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        scale = _sizes(b)
        allowed = close * scale + more
        if spread is not None:
            same |= np.isinf(spread)
            allowed += _SPREAD * spread
        difference = np.where(same, 0.0, np.abs(a - b))
        fine = same | (difference <= allowed)
        # What rounding of the point and of the outputs explains is no error. Infinite minus infinite is left out below.
        unexplained = difference - (allowed - close * scale)
    count = int((~fine).sum())
    missing = ""
    if count and not np.isfinite(difference[~fine]).all():
        place = tuple(int(each) for each in np.argwhere(~fine & ~np.isfinite(difference))[0])
        missing = f"is {a[place]} at {list(place)}, and not {b[place]}"
    parts = unexplained / scale
    return _Difference(
        float(parts[np.isfinite(parts)].max(initial=0.0)),
        close,
        count == 0,
        count <= _STRAY * a.size,
        missing,
    )


def _sizes(numbers: np.ndarray) -> np.ndarray:
    """What an error of each number is measured by: the largest, as a small one may be what large ones leave over.
    Where the largest stands out, it would hide errors of all others; these are then measured by their median."""
    sizes = np.abs(np.where(np.isfinite(numbers), numbers, 0.0))
    usual = _OUTSTANDING * float(np.median(sizes[sizes > 0])) if sizes.any() else 0.0
    return np.maximum(np.maximum(sizes, min(float(sizes.max()), usual)), 1e-30)
