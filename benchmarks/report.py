"""What was measured, as text: aligned tables, the best of each row marked. Measures nothing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from pathlib import Path
from typing import Any

from .cases import LEAST_PRODUCT, PRODUCTS, TASKS

_PACKAGES = ("tiaot", "numpy", "torch", "jax", "jaxlib", "taichi")


def progress(text: str) -> None:
    """One line on a terminal's standard error, overwritten by the next; '' clears it."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def cpu_name() -> str:
    """The processor's name as the system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def versions(packages: tuple[str, ...]) -> dict[str, str]:
    """The versions of those packages that are installed, without importing them."""
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def level() -> str:
    """The CPU level whose code tiaot runs here."""
    import tiaot

    return os.environ.get("TIAOT_CPU_LEVEL") or tiaot.cpu_level()


def environment() -> dict[str, Any]:
    """The machine and the software that the numbers belong to."""
    return {
        "cpu": cpu_name(),
        "level": level(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": versions(_PACKAGES),
        "cpus": os.cpu_count(),
        "load": os.getloadavg()[0],
    }


def number(value: float) -> str:
    """Three significant digits, 0.118, 6.21, 1,528."""
    if value >= 100:
        return f"{value:,.0f}"
    if value >= 1:
        return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
    return f"{value:.3f}" if value >= 0.001 else f"{value:.0e}"


def aligned(rows: list[list[str]]) -> list[str]:
    """The first column to the left, the others to the right. A trailing mark of one character takes its own place."""
    padded = [[row[0], *(cell if cell.endswith("*") else cell + " " for cell in row[1:])] for row in rows]
    widths = [max(len(row[i]) for row in padded) for i in range(len(padded[0]))]
    lines = []
    for row in padded:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return lines


def _heading(titles: list[str]) -> list[list[str]]:
    """Column titles on as many lines as their longest needs, a word or two a line."""
    split = []
    for title in titles:
        lines: list[str] = []
        for word in title.split():
            if lines and len(lines[-1]) + 1 + len(word) <= 8:
                lines[-1] += " " + word
            else:
                lines.append(word)
        split.append(lines)
    height = max(len(lines) for lines in split)
    split = [[""] * (height - len(lines)) + lines for lines in split]
    return [[lines[i] for lines in split] for i in range(height)]


def _size(case: dict[str, Any]) -> str:
    return f"({case['B']}, {case['n']}, {case['m']})"


def groups(found: dict[str, Any]) -> dict[tuple[tuple[str, ...], str, int], list[dict[str, Any]]]:
    """The cases by what the gradients are of, the element type and the number of threads."""
    sorted_: dict[tuple[tuple[str, ...], str, int], list[dict[str, Any]]] = {}
    for case in found["cases"]:
        key = (TASKS[case["task"]], case["dtype"], case["threads"])
        sorted_.setdefault(key, []).append(case)
    return sorted_


def _measured(cases: list[dict[str, Any]], titles: dict[str, str]) -> tuple[list[str], list[list[str]]]:
    """The peers with a time in any case, and the head of a table of them."""
    names = [name for name in titles if any("us" in case["peers"].get(name, {}) for case in cases)]
    head = [["", *cells] for cells in _heading([titles[name] for name in names])]
    head[-1][0] = "(B, n, m)"
    return names, head


def _medians(case: dict[str, Any], names: list[str]) -> dict[str, float]:
    return {name: case["peers"][name]["us"] for name in names if "us" in case["peers"].get(name, {})}


def times(cases: list[dict[str, Any]], titles: dict[str, str]) -> list[str]:
    """Medians in microseconds a call."""
    names, rows = _measured(cases, titles)
    for case in cases:
        medians = _medians(case, names)
        best = min(medians.values(), default=0.0)
        row = [_size(case)]
        for name in names:
            failed = "failed" in case["peers"].get(name, {})
            mark = "*" if medians.get(name) == best else ""
            row.append(number(medians[name]) + mark if name in medians else "wrong" if failed else "-")
        rows.append(row)
    return ["microseconds a call (median; * is the fastest):", *aligned(rows)]


def ratios(cases: list[dict[str, Any]], titles: dict[str, str]) -> list[str]:
    """The same as multiples of NumPy's speed; empty without NumPy."""
    names, rows = _measured(cases, titles)
    if "numpy" not in names:
        return []
    for case in cases:
        medians = _medians(case, names)
        best = min(medians.values(), default=0.0)
        known = [name in medians and "numpy" in medians for name in names]
        cells = [
            number(medians["numpy"] / medians[n]) if is_known else "-" for n, is_known in zip(names, known, strict=True)
        ]
        marks = ["*" if medians.get(name) == best else "" for name in names]
        rows.append([_size(case), *(cell + mark for cell, mark in zip(cells, marks, strict=True))])
    return ["times as fast as NumPy by hand:", *aligned(rows)]


def shares(found: dict[str, Any], group: tuple[tuple[str, ...], str, int], titles: dict[str, str]) -> list[str]:
    """peak_table of a group of cases; empty where the peak was not measured."""
    _, dtype, threads = group
    peaks = [peak["gflops"] for peak in found["peaks"] if (peak["dtype"], peak["threads"]) == (dtype, threads)]
    return peak_table(groups(found)[group], titles, peaks[0]) if peaks else []


def peak_table(cases: list[dict[str, Any]], titles: dict[str, str], gflops: float) -> list[str]:
    """For layers that are matrix products what share of the peak, in 10^9 operations a second, they reach.

    Only the products are counted, not the tanh. Batches are of more samples than fill a tile. Empty for no such case.
    """
    cases = [case for case in cases if min(case["n"], case["m"]) >= LEAST_PRODUCT and case["B"] >= LEAST_PRODUCT]
    names = [name for name in titles if any("us" in case["peers"].get(name, {}) for case in cases)]
    if not names:
        return []
    rows = [["", *cells] for cells in _heading([titles[name] for name in names])]
    rows[-1][0] = "(B, n, m)"
    for case in cases:
        operations = 2 * PRODUCTS[case["task"]] * case["B"] * case["n"] * case["m"]
        medians = [case["peers"].get(name, {}).get("us") for name in names]
        shares = [f"{operations / us * 1e-3 / gflops:.0%}" if us else "-" for us in medians]
        rows.append([_size(case), *shares])
    head = f"share of the machine's peak of {gflops:,.0f} GFLOP/s (fused multiplications and additions):"
    return [head, *aligned(rows)]


def cold_table(outcome: dict[str, dict[str, Any]], titles: dict[str, str]) -> list[str]:
    """Milliseconds to the first result and peak memory."""
    rows = [["", "ms", "over Python + NumPy", "peak MB"]]
    floor = outcome.get("numpy", {}).get("ms")
    for name, title in titles.items():
        found = outcome.get(name, {})
        if "ms" in found:
            over = "-" if floor is None or name in ("python", "numpy", "tiaot-c") else f"{found['ms'] - floor:+,.1f}"
            rows.append([title, number(found["ms"]), over, number(found["peak_kb"] / 1024)])
        elif "failed" in found:
            rows.append([title, "failed", "-", "-"])
    return aligned(rows)


def text(found: dict[str, Any], titles: dict[str, str]) -> str:
    """Everything that `tiaot bench` prints."""
    from .cold_start import PATHS

    about = found["environment"]
    packages = ", ".join(f"{name} {version}" for name, version in about["packages"].items())
    lines = [f"{about['cpu']} at {about['level']}; {about['system']}", f"Python {about['python']}; {packages}"]
    if about["load"] > 0.3 * about["cpus"]:
        lines.append(f"The machine was busy at the start (load {about['load']:.1f}): numbers are too high, most of all")
        lines.append("those of several threads.")
    for group, cases in groups(found).items():
        task, dtype, threads = group
        count = "1 thread" if threads == 1 else f"{threads} threads"
        lines += ["", f"== vjp with respect to {', '.join(task)}, {dtype}, {count}"]
        for part in (times(cases, titles), ratios(cases, titles), shares(found, group, titles)):
            lines += ["", *part] if part else []
    if found.get("from_c"):
        lines += ["", "== called from C, vjp with respect to x, (2, 8, 4), float32, 1 thread, microseconds", ""]
        rows = [[titles[name], number(outcome["us"])] for name, outcome in found["from_c"].items()]
        lines += aligned(rows)
    if "cold_start" in found:
        lines += ["", "== from process start to the first result, (2, 8, 4)", ""]
        lines += cold_table(found["cold_start"], {name: title for name, title, _, _ in PATHS})
        lines += [f"failed: {name}: {o['failed']}" for name, o in found["cold_start"].items() if "failed" in o]
    if found["unavailable"]:
        lines += ["", *(f"skipped: {titles.get(name, name)}: {why}" for name, why in found["unavailable"].items())]
    lines += [f"problem: {problem}" for problem in found["problems"]]
    return "\n".join(lines)
