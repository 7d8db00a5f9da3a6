"""The benchmark's picture: one panel a size, one bar a peer and thread count. Draws what was measured, all of it."""

from __future__ import annotations

from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot, ticker
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from .report import number

_OWN = ("#0b7285", "#66c2d0")  # tiaot: the fewest threads, the most
_OTHER = ("#868e96", "#ced4da")


def _duration(us: float) -> str:
    """Microseconds as a label: 0.12 µs, 8.8 ms, 1.2 s."""
    for limit, unit in ((1e3, "µs"), (1e6, "ms")):
        if us < limit:
            return f"{number(us * 1e3 / limit)} {unit}"
    return f"{number(us / 1e6)} s"


def _panel(axes: Axes, cases: list[dict[str, Any]], titles: dict[str, str]) -> None:
    """One size: `cases` are its thread counts, fewest first."""
    names = [name for name in titles if any("us" in case["peers"].get(name, {}) for case in cases)]
    height = 0.8 / len(cases)
    axes.set_xscale("log")
    for i, case in enumerate(cases):
        shade = 0 if i == 0 else 1
        for row, name in enumerate(names):
            median = case["peers"].get(name, {}).get("us")
            if median is None:
                continue
            y = row + (i - (len(cases) - 1) / 2) * height
            colour = (_OWN if name.startswith("tiaot") else _OTHER)[shade]
            axes.barh(y, median, height=height * 0.92, color=colour)
            axes.annotate(
                _duration(median),
                (median, y),
                (3, 0),
                textcoords="offset points",
                va="center",
                fontsize=6,
                color="#343a40",
            )
    first = cases[0]
    axes.set_title(f"B={first['B']:,}, n={first['n']}, m={first['m']}", fontsize=9, loc="left")
    axes.set_yticks(range(len(names)), [titles[name] for name in names], fontsize=8)
    for label, name in zip(axes.get_yticklabels(), names, strict=True):
        if name.startswith("tiaot"):
            label.set(fontweight="bold", color=_OWN[0])
    axes.invert_yaxis()
    medians = [o["us"] for case in cases for o in case["peers"].values() if "us" in o]
    low, high = min(medians) / 3, max(medians)
    axes.set_xlim(low, high * (high / low) ** 0.16)  # room for the labels
    axes.tick_params(axis="x", which="both", length=0, labelbottom=False)  # the bars carry their values
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#e9ecef", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)


def draw(found: dict[str, Any], titles: dict[str, str], path: str) -> None:
    """Writes the picture of the first task that was measured: time a call, on a logarithmic axis."""
    task = found["cases"][0]["task"] if found["cases"] else ""
    panels: dict[tuple[int, int, int], list[dict[str, Any]]] = {}
    for case in found["cases"]:
        if case["task"] == task:
            panels.setdefault((case["B"], case["n"], case["m"]), []).append(case)
    if not panels:
        raise ValueError("nothing was measured that could be drawn")
    columns = 2 if len(panels) > 1 else 1
    rows = -(-len(panels) // columns)
    bars = max(
        sum("us" in outcome for case in cases for outcome in case["peers"].values()) for cases in panels.values()
    )
    figure, grid = pyplot.subplots(
        rows, columns, figsize=(5.6 * columns, rows * (0.5 + 0.1 * bars) + 0.6), squeeze=False, layout="constrained"
    )
    for axes, cases in zip(grid.flat, panels.values(), strict=False):
        _panel(axes, cases, titles)
    for axes in list(grid.flat)[len(panels) :]:
        axes.set_visible(False)
    counts = sorted({case["threads"] for cases in panels.values() for case in cases})
    labels = [f"{count} thread{'s' if count > 1 else ''}" for count in counts]
    handles = [Patch(color=_OTHER[min(i, 1)], label=label) for i, label in enumerate(labels)]
    figure.legend(handles=handles, loc="outside upper right", ncols=len(handles), fontsize=8, frameon=False)
    wanted = ", ".join(task)
    first = next(iter(panels.values()))[0]
    figure.suptitle(
        f"vjp of tanh(x Wᵀ + b) with respect to {wanted}, {first['dtype']}: time a call, shorter is better",
        fontsize=11,
        x=0.01,
        ha="left",
    )
    figure.supxlabel(f"logarithmic axes, one decade from line to line; {found['environment']['cpu']}", fontsize=8)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
