"""The files of the exporter build on one another in one direction: none leads back to itself by what it imports."""

from __future__ import annotations

import ast
from pathlib import Path

import tiaot

ROOT = Path(tiaot.__file__).parent / "export"


def imported(path: Path, known: dict[tuple[str, ...], Path]) -> set[Path]:
    """The files of the exporter that a file imports, anywhere in it."""
    folder = path.relative_to(ROOT).parent.parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and 0 < node.level <= len(folder) + 1:
            base = (*folder[: len(folder) + 1 - node.level], *(node.module.split(".") if node.module else ()))
            for alias in node.names:
                name = (*base, alias.name)
                found.add(known.get(name if name in known else base))
    return {each for each in found if each not in (None, path, ROOT / "__init__.py")}


def test_no_file_leads_back_to_itself() -> None:
    known = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        known[parts[:-1] if parts[-1] == "__init__" else parts] = path
    imports = {path: imported(path, known) for path in known.values()}
    assert len(imports) > 50 and sum(map(len, imports.values())) > 150
    done: set[Path] = set()

    def follow(path: Path, way: list[Path]) -> None:
        if path in way:
            circle = " -> ".join(str(each.relative_to(ROOT)) for each in [*way[way.index(path) :], path])
            raise AssertionError(f"a circle: {circle}")
        if path not in done:
            for other in sorted(imports[path]):
                follow(other, [*way, path])
            done.add(path)

    for path in sorted(imports):
        follow(path, [])
