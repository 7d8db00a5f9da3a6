"""The table of CONTRIBUTING.md: its files are there, and a row leaves out none in which the last of its kind stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXPORT = ROOT / "python" / "tiaot" / "export"
SOURCES = ["runtime/src", "runtime/include", "python/src", "python/tiaot"]
SUFFIXES = (".py", ".cpp", ".hpp", ".h")
# By the row: how the last thing of the kind is spelled, in C++ and in Python.
SPELLINGS = {
    "element type": r"TIAOT_FLOAT16\b|\bkF16\b|\"float16\"|\bf16\b",
    "kind of CPU": "aarch64",
    "kind of entry": r"TIAOT_HVP\b|\"hvp\"",
}


def rows() -> dict[str, list[str]]:
    """The files of each row, by what is new."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    found = re.findall(r"^\| ([^|]+) \|(.*)$", text.partition("## Where")[2].partition("## Habits")[0], re.MULTILINE)
    return {new: re.findall(r"`([\w./]+[./][\w./]*)`", line) for new, line in found if new not in ("new", "---")}


def file_of(name: str) -> Path:
    return ROOT / name if (ROOT / name.partition("/")[0]).is_dir() and "/" in name else EXPORT / name


def test_its_files_are_there() -> None:
    table = rows()
    assert len(table) == 9 and all(len(names) >= 2 for names in table.values())
    missing = [name for names in table.values() for name in names if not file_of(name).exists()]
    assert missing == []


@pytest.mark.parametrize("new", SPELLINGS)
def test_a_row_names_every_file(new: str) -> None:
    named = {file_of(name).resolve() for name in rows()[new]}
    using = {
        path.resolve()
        for folder in SOURCES
        for path in (ROOT / folder).rglob("*")
        if path.suffix in SUFFIXES and re.search(SPELLINGS[new], path.read_text())
    }
    assert len(using) > 5
    assert sorted(str(path.relative_to(ROOT)) for path in using - named) == []
