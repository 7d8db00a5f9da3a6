"""The documentation site: `./dev docs` builds it with warnings as errors. Reads the package as it is staged."""

import re

from tiaot import __version__

project = "tiaot"
author = "the tiaot developers"
copyright = author
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "tiaot"
html_static_path: list[str] = []

# The pages are read on their own, too: a link to a file of the repository is a download here.
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
add_module_names = False

_STAR = re.compile(r"(?<!\\)\*")  # that napoleon has not escaped


def _as_rst(app, what, name, obj, options, lines):  # type: ignore[no-untyped-def]
    """Docstrings are plain text with code in single backticks: as reStructuredText wants it."""
    for number, line in enumerate(lines):
        parts = line.split("`")
        for place in range(0, len(parts), 2):  # outside of backticks
            parts[place] = _STAR.sub(r"\*", parts[place])
        lines[number] = "``".join(parts) if len(parts) % 2 else _STAR.sub(r"\*", line)


def setup(app):  # type: ignore[no-untyped-def]
    app.connect("autodoc-process-docstring", _as_rst, priority=900)  # behind napoleon, which reads its own sections
