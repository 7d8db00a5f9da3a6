"""A kernel file: runs it, and reads what its decorators were given; takes all of its kernels where there are none.

It runs in a child process of the exporter's, where Taichi is set up already.
"""

from __future__ import annotations

import contextlib
import importlib
import runpy
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .declare import Declaration
from .decorate import MARK, Request, collecting, kernel
from .fields import find_fields, find_kernels
from .resolve import check_templates, resolve
from .taichi_library import mend_library

ONLY = "__tiaot_only__"  # a file's list of the variables that hold what is to be exported; without it, everything is


class KernelFileError(ValueError):
    """A kernel file cannot be run, or what it declares cannot be right; the message says where and why."""


@dataclass(frozen=True)
class KernelFile:
    """What a kernel file declares, in order, and its fields by name, Taichi's."""

    declarations: tuple[Declaration, ...]
    fields: Mapping[str, Any]
    notes: tuple[str, ...]  # what was left out, for the author
    namespace: Mapping[str, Any]


def load_kernel_file(path: str) -> KernelFile:
    """Run a kernel file and see what it declares: where it decorates no kernel, all that it has.

    Raises:
        KernelFileError: when it cannot be run, has no kernel, has two of one name, or a declaration cannot be right.
    """
    mend_library()
    with _without_init(), collecting() as requests:
        namespace = _run(path)
    notes: list[str] = []
    if ONLY in namespace:
        wanted = [namespace[name] for name in namespace[ONLY]]
        requests = [request for request in requests if any(request.decorated is each for each in wanted)]
    declarations = [_resolve(request) for request in requests] or _implicit(namespace, notes)
    if not declarations:
        left = "".join(f"\n{note}" for note in notes)
        raise KernelFileError(
            f"{path}: declares no kernel: decorate one with tiaot.export.kernel or tiaot.export.family{left}"
        )
    declarations = _named_apart(declarations, namespace, path)
    return KernelFile(tuple(declarations), find_fields(namespace), tuple(notes), namespace)


def _resolve(request: Request) -> Declaration:
    try:
        return resolve(request)
    except (ValueError, TypeError) as error:
        raise KernelFileError(f"{request.place}: {error}") from error


def _implicit(namespace: Mapping[str, Any], notes: list[str]) -> list[Declaration]:
    """The declarations of all kernels of a file; a note for each that cannot be had."""
    declarations = []
    for each in find_kernels(namespace):
        kernel()(each)
        request: Request = vars(each)[MARK]
        try:
            declaration = resolve(request)
            check_templates(declaration)
            declarations.append(replace(declaration, implicit=True))
        except ValueError as error:
            notes.append(f"left out: {request.place}: {error}")
    return declarations


def _named_apart(declarations: list[Declaration], namespace: Mapping[str, Any], path: str) -> list[Declaration]:
    """The declarations, those of one name by the variables that hold their kernels: `double = scale_by(2)`."""
    names = [each.family.name for each in declarations]
    variables = {id(getattr(value, "_primal", value)): name for name, value in namespace.items()}
    renamed = []
    for each in declarations:
        variable = variables.get(id(getattr(each.kernel, "_primal", each.make)))
        if names.count(each.family.name) > 1 and variable is not None:
            each = replace(each, family=replace(each.family, name=variable))
        renamed.append(each)
    places: dict[str, str] = {}
    for each in renamed:
        if each.family.name in places:
            raise KernelFileError(
                f"{path}: declares two kernels of the name {each.family.name!r}, at {places[each.family.name]} and "
                f"{each.place}: give one another name, or hold each in a variable of its own"
            )
        places[each.family.name] = each.place
    return renamed


def _run(path: str) -> dict[str, Any]:
    """The namespace of a file once it has run, as a script or, where it lies in a package, as a module of that."""
    file = Path(path)
    if not file.is_file():
        raise KernelFileError(f"{path}: no such file")
    folder, module = file.parent, file.stem
    while Path(folder, "__init__.py").is_file():
        folder, module = folder.parent, f"{folder.name}.{module}"
    sys.path.insert(0, str(folder))
    try:
        if folder == file.parent:
            return runpy.run_path(path)
        return vars(importlib.import_module(module.removesuffix(".__init__")))
    except SystemExit as error:
        raise KernelFileError(
            f"{_where(error, path)}: the file ends the process while it runs; keep that under "
            'if __name__ == "__main__":'
        ) from error
    except SyntaxError as error:
        raise KernelFileError(
            f"{Path(error.filename or path).name}:{error.lineno}: SyntaxError: {error.msg}"
        ) from error
    except Exception as error:
        raise KernelFileError(f"{_where(error, path)}: {type(error).__name__}: {error}") from error


def _where(error: BaseException, path: str) -> str:
    """The lines of the author's own that an error came through, the innermost first."""
    own = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).suffix == ".py" and not _is_foreign(frame.filename)
    ]
    if not own:
        return Path(path).name
    lines = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(own)]
    lines[0] += f" ({own[-1].line})" if own[-1].line else ""
    return ", called from ".join(lines)


def _is_foreign(file: str) -> bool:
    """Whether a file belongs to Python, to an installed package or to the exporter."""
    places = (sys.prefix, sys.base_prefix, Path(__file__).parents[2])
    return "site-packages" in Path(file).parts or any(Path(file).is_relative_to(place) for place in places)


@contextlib.contextmanager
def _without_init() -> Iterator[None]:
    """While a kernel file runs, `ti.init` only says which types its numbers have: Taichi is set up already."""
    import taichi as ti

    def init(*_: Any, default_fp: Any = None, default_ip: Any = None, **__: Any) -> None:
        runtime, config = ti.lang.impl.get_runtime(), ti.lang.impl.current_cfg()
        if default_fp is not None:
            runtime.set_default_fp(default_fp)
            config.default_fp = default_fp
        if default_ip is not None:
            runtime.set_default_ip(default_ip)
            config.default_ip = default_ip

    original = ti.init
    ti.init = init
    try:
        yield
    finally:
        ti.init = original
