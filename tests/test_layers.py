"""The exporter's files import each other in one direction: no circle, imports inside of functions included."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "python" / "tiaot"


def imports(path: Path, name: str, names: set[str]) -> set[str]:
    """Which of `names` a file imports, the module `name` of tiaot."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1] + (node.module or "").split(".")
            parent = ".".join(filter(None, base))
            for each in node.names:
                within = f"{parent}.{each.name}"
                found.add(within if within in names else parent)
    return found & names - {name}


def graph(package: Path) -> dict[str, set[str]]:
    files = {
        ".".join(("tiaot", *path.relative_to(package).with_suffix("").parts)).removesuffix(".__init__"): path
        for path in package.rglob("*.py")
    }
    return {name: imports(path, name, set(files)) for name, path in files.items()}


def test_no_file_of_the_exporter_is_in_a_circle() -> None:
    exporter = {name: needed for name, needed in graph(PACKAGE).items() if name.startswith("tiaot.export")}
    assert len(exporter) > 100 and len(exporter["tiaot.export.build"]) > 10
    list(graphlib.TopologicalSorter(exporter).static_order())


def test_a_circle_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("from . import b\n")
    (tmp_path / "b.py").write_text("def f():\n    from .a import g\n")
    with pytest.raises(graphlib.CycleError):
        list(graphlib.TopologicalSorter(graph(tmp_path)).static_order())


def test_tiaot_itself_needs_nothing_of_the_exporter() -> None:
    """`import tiaot`, and all that it imports, knows no exporter: Taichi and LLVM may be missing."""
    everything = graph(PACKAGE)
    reached, new = set(), {"tiaot"}
    while new:
        reached |= new
        new = set().union(*(everything[name] for name in new)) - reached
    assert {"tiaot._load", "tiaot._state"} <= reached
    assert not [name for name in reached if name.startswith("tiaot.export.")]
