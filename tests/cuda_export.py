"""Modules whose one image for CUDA is their device code compiled for the CPU, which the stand-in for the driver runs:
what the exporter does is tried on a machine without a GPU, from the call to the result."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import tiaot

TESTS = Path(__file__).parent
SOURCES = {
    "dense_tanh": TESTS.parent / "kernels" / "dense_tanh.py",
    **{path.stem: path for path in sorted((TESTS / "kernels").glob("*.py"))},
    **{path.stem: path for path in sorted((TESTS.parent / "examples" / "kernels").glob("*.py"))},
}
ARCHITECTURE = 75  # what the stand-in's device has to be at least


def emulated_path(name: str) -> Path:
    """The module of one of the SOURCES, made once in TIAOT_CACHE_DIR, which tests have for themselves."""
    from tiaot.export.build import build, write
    from tiaot.export.cuda.compile import Image

    cache = Path(os.environ["TIAOT_CACHE_DIR"])
    target = cache / "emulated" / f"{name}.so"
    if not target.exists():
        built = build(SOURCES[name], cuda=(ARCHITECTURE,), cache=cache, gate=True)
        assert built.cuda is not None, f"{name} has no code for CUDA"
        image = Image(ARCHITECTURE, "cubin", built.emulated, len(built.emulated))
        built = dataclasses.replace(built, cuda=dataclasses.replace(built.cuda, images=[image]))
        made = cache / f"emulated.{os.getpid()}" / target.name  # the module's name is the file's
        made.parent.mkdir(parents=True, exist_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        write(built, made, version=tiaot.__version__, verification={})
        made.replace(target)
    return target
