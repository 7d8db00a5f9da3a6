"""Modules that the stand-in for the driver runs, on a machine without a GPU, from the call to the result: it interprets
their PTX (cuda_interpreted.py)."""

from __future__ import annotations

import os
from pathlib import Path

import tiaot

TESTS = Path(__file__).parent
SOURCES = {
    "dense_tanh": TESTS.parent / "kernels" / "dense_tanh.py",
    **{path.stem: path for path in sorted((TESTS / "kernels").glob("*.py"))},
    **{path.stem: path for path in sorted((TESTS.parent / "examples" / "kernels").glob("*.py"))},
}
ARCHITECTURE = 75  # there is machine code for it, and PTX


def exported_path(name: str) -> Path:
    """The module of one of the SOURCES, made once in TIAOT_CACHE_DIR, which tests have for themselves."""
    from tiaot.export.build import build, write

    cache = Path(os.environ["TIAOT_CACHE_DIR"])
    target = cache / "exported" / f"{name}.so"
    if not target.exists():
        source = SOURCES[name]
        if name == "dense_tanh":  # without its derivatives along tangents, which take long to compile for CPUs
            text = source.read_text().replace('    derivatives=["jvp", "hvp"],\n', "")
            source = cache / source.name
            source.write_text(text)
        built = build(source, cuda=(ARCHITECTURE,), cache=cache)
        assert built.cuda is not None, f"{name} has no code for CUDA"
        made = cache / f"exported.{os.getpid()}" / target.name  # the module's name is the file's
        made.parent.mkdir(parents=True, exist_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        write(built, made, version=tiaot.__version__, verification={})
        made.replace(target)
    return target
