"""Puts measured tables into a page, between the marks that it has for them, and draws the picture.

    python -m tiaot.benchmarks.document docs/benchmark.md RUN.json ... [--plot docs/benchmark.png]

Each RUN.json is what `tiaot bench --json` wrote, or `python -m tiaot.benchmarks.kernels --json`. The page gets a part
for each, in their order, and the picture shows the first. What stands between `<!-- benchmark -->` and
`<!-- /benchmark -->` is written anew, nothing else is touched.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from . import kernels, report
from .peers import PEERS

_BEGIN, _END = "<!-- benchmark -->\n", "<!-- /benchmark -->"


def filled(page: str, content: str) -> str:
    """The page with `content` between its marks. Raises ValueError where it does not have both, in order, once."""
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end or _BEGIN in after:
        raise ValueError(f"expected {_BEGIN.strip()} and {_END} once each, in this order")
    return f"{before}{begin}{content}\n{end}{after}"


def _fenced(lines: list[str]) -> list[str]:
    return ["```text", *lines, "```", ""]


def section(found: dict[str, Any]) -> str:
    """A run as Markdown: the machine, a table for each task and number of threads, shares of the peak, other tables."""
    from .cold_start import PATHS

    about = found["environment"]
    packages = ", ".join(f"{name} {version}" for name, version in about["packages"].items() if name != "tiaot")
    lines = [f"## {about['cpu']} at {about['level']}", ""]
    lines += [
        f"{about['cpus']} CPUs, Python {about['python']}; {packages}. A `*` marks the fastest, `-` what was too slow"
    ]
    lines += ["to wait for.", ""]
    titles = {name: peer.title for name, peer in PEERS.items()}
    for (task, dtype, threads), cases in report.groups(found).items():
        wanted = ", ".join(task[:-1]) + (" and " if task[:-1] else "") + task[-1]
        count = "one thread" if threads == 1 else f"{threads} threads"
        lines += [f"With respect to {wanted}, {dtype}, {count}:", ""]
        lines += _fenced(report.times(cases, titles))
        if shares := report.shares(found, (task, dtype, threads), titles):
            lines += _fenced(shares)
    if found.get("from_c"):
        rows = [[titles[name], report.number(outcome["us"])] for name, outcome in found["from_c"].items()]
        lines += ["Called from C (the plain function), with respect to x, (2, 8, 4), microseconds:", ""]
        lines += _fenced(report.aligned(rows))
    if "cold_start" in found:
        cold = report.cold_table(found["cold_start"], {name: title for name, title, _, _ in PATHS})
        lines += ["From process start to the first result:", "", *_fenced(cold)]
    return "\n".join(lines)


def kernels_section(found: dict[str, Any]) -> str:
    """A run of kernels.py as Markdown."""
    about = found["environment"]
    count = "one thread" if found["threads"] == 1 else f"{found['threads']} threads"
    head = f"{about['cpu']} at {about['level']}, {count}, float32, 262,144 elements; microseconds a call, medians:"
    return "\n".join([head, "", *_fenced(kernels.table(found))])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tiaot.benchmarks.document", description=__doc__.splitlines()[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN.json")
    parser.add_argument("--plot", metavar="FILE.png", help="draw the first run (needs matplotlib)")
    arguments = parser.parse_args(argv)
    runs = [json.loads(path.read_text()) for path in arguments.runs]
    page = arguments.page.read_text()
    arguments.page.write_text(
        filled(page, "\n".join(kernels_section(each) if "titles" in each else section(each) for each in runs).rstrip())
    )
    if arguments.plot:
        from .plot import draw

        draw(runs[0], {name: peer.title for name, peer in PEERS.items()}, arguments.plot)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
