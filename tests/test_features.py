"""The table of Taichi's features: what is supported there is a tested kernel, what is refused is tested too."""

from __future__ import annotations

import re
from pathlib import Path

import test_fields
import test_whole

HERE = Path(__file__).parent


def test_the_table_of_features_is_what_is_tested() -> None:
    table = (HERE.parent / "docs" / "taichi-features.md").read_text()
    rows = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("| ")][2:]
    assert len(rows) > 30
    kernels = {}
    for name in ("whole", "fields", "half", "rows", "integers", "reverse"):
        source = (HERE / "kernels" / f"{name}.py").read_text()
        kernels[name] = set(re.findall(r"@ti\.kernel\n\s*def (\w+)", source))
    known = set().union(*kernels.values())
    messages = [message for _, message in (*test_whole.REFUSED.values(), *test_fields.REFUSED.values())]
    shown = set()
    for feature, state, what in ((cell.strip() for cell in row) for row in rows if len(row) == 3):
        if state.startswith("supported"):
            names = set(re.findall(r"`(\w+)`", what))
            assert names and names <= known, feature
            shown |= names
        else:
            assert state == "refused", feature
            words = re.escape(what)
            assert any(re.search(words, message.replace("\\", "")) for message in messages), feature
    assert kernels["whole"] - shown == {"clipped_backward"}  # the gradient of another
