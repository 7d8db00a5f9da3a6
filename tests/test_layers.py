"""Files and folders of the exporter need each other in one direction: no circle, imports in functions included."""

from __future__ import annotations

import ast
import graphlib
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "python" / "tiaot"
CPU_ENTRIES, DEVICE_ENTRIES = "tiaot.export.entry.cpu", "tiaot.export.entry.device"


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


def layer(name: str, layers: list[str]) -> int:
    """The place of the layer that a module of the exporter is in: the innermost folder, or file, that is one."""
    parts = name.split(".")[2:]
    if not parts:
        return len(layers)  # tiaot.export itself, which hands out what is its users'
    return max(layers.index(each) for each in ("/".join(parts[: n + 1]) for n in range(len(parts))) if each in layers)


def test_no_file_of_the_exporter_needs_one_of_a_later_layer() -> None:
    """ARCHITECTURE.md lists the layers: folders, and files between them."""
    text = (PACKAGE.parents[1] / "ARCHITECTURE.md").read_text()
    listed = re.search(r"each needs only what stands before it:\n\n((?:    .+\n)+)", text)
    assert listed
    layers = listed[1].split()
    exporter = {name: needed for name, needed in graph(PACKAGE).items() if name.startswith("tiaot.export")}
    upwards = [
        f"{name} imports {each}"
        for name, needed in exporter.items()
        for each in needed
        if each.startswith("tiaot.export") and layer(each, layers) > layer(name, layers)
    ]
    assert upwards == []
    # On a CPU and on a device entries know nothing of one another.
    beside = {name for name, needed in exporter.items() if any(each.startswith(CPU_ENTRIES) for each in needed)}
    assert not any(name.startswith(DEVICE_ENTRIES) for name in beside) and "tiaot.export.build" in beside


def test_the_order_of_the_passes_stands_in_one_file() -> None:
    """What analyses is free for all; what makes of a function what LLVM is given is for entry/passes.py."""
    entries = PACKAGE / "export" / "entry"
    changing = r"\b(plain_indices|loop_over_rows|widen_offsets|reassociate_sums|scale_offsets|point_to_copies|finish)\b"
    users = [
        str(path.relative_to(entries))
        for path in entries.rglob("*.py")
        if any(re.search(changing, line) for line in path.read_text().splitlines() if "import " in line)
    ]
    assert users == ["passes.py"]


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
