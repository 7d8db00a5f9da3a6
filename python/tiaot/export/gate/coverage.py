"""Coverage: which ways of a kernel no point went, or none at which its derivatives were checked. Runs nothing."""

from __future__ import annotations

from collections.abc import Mapping

from .branches import Site
from .children import Outcome
from .judge import Findings
from .points import Point

_MOST_LINES = 12  # of one kernel


def judge_branches(found: Mapping[str, Findings], points: list[Point], module: Outcome, counted: Outcome) -> None:
    """Adds to what was found of each kernel which of its ways were not gone at the points that were tried.

    Args:
        points: those that branches were to be counted at.
    """
    for name, findings in found.items():
        own = [point for point in points if point.family.name == name]
        if not own:
            continue
        tried = [point for point in own if module.results(point.id) and point.id in counted.gone]
        if not tried:
            ended = next((counted.failures[each.id][1] for each in own if each.id in counted.failures), "had no time")
            findings.uncounted = f"which of its branches ran is not known: Taichi's JIT {ended}"
            continue
        checked = [point for point in tried if _is_checked(point, module)]
        ways = {site.text(): site for point in tried for site in counted.ways[point.id]}
        gone = {text for point in tried for text in counted.gone[point.id]}
        known = {text for point in checked for text in counted.gone[point.id]}
        for text, site in sorted(ways.items(), key=lambda each: (each[1].file, each[1].line)):
            if text not in gone:
                findings.unreached.append((site, "never ran"))
            elif text not in known and any(each.sloped for each in own):
                findings.unreached.append((site, "ran only where no derivative was checked"))


def _is_checked(point: Point, module: Outcome) -> bool:
    return any(verdict["outcome"] == "right" for verdict in module.verdicts.get(point.id, []))


def remarks(name: str, findings: Findings, point: Point) -> str:
    """What to tell the author of the ways of a kernel that were not gone; "" where there is nothing to tell."""
    if findings.uncounted:
        return f"{name}: {findings.uncounted}"
    if not findings.unreached:
        return ""
    lines = [f"{name}: nothing is known of what did not run when it was verified:"]
    lines += [f"  {site.text()} {how}" for site, how in findings.unreached[:_MOST_LINES]]
    if len(findings.unreached) > _MOST_LINES:
        lines.append(f"  and {len(findings.unreached) - _MOST_LINES} more")
    return "\n".join([*lines, f"  {_remedy([site for site, _ in findings.unreached], point)}"])


def _remedy(sites: list[Site], point: Point) -> str:
    family = point.family
    types = {each.name: family.dtype(each.name, point.variant) for each in family.signature.inputs}
    drawn = {key.partition(".")[2]: array.dtype.kind for key, array in point.arrays.items() if key[:6] == "state."}
    kinds = {**drawn, **{name: "f" if dtype.startswith("float") else "i" for name, dtype in types.items()}}
    for name in (name for site in sites for name in site.names if name in kinds):
        values = "rng.uniform(-10, 10, shape)" if kinds[name] == "f" else "rng.integers(0, 100, shape)"
        return f"Draw values that reach it, as draw={{{name!r}: lambda rng, shape, sizes: {values}}}"
    return "Draw values that reach it (draw=), or give sizes that do (sizes=)"
