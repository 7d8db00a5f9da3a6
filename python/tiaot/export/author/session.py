"""Kernels of a running session, as of a notebook -> a kernel file that has them and what they follow from.

The exporter runs a kernel file in processes of its own. For kernels of a module, that file imports it. For those of a
notebook's cells it is made of the statements that they need, of the numbers that their names stand for now, and of what
their fields hold now.
"""

from __future__ import annotations

import ast
import linecache
import os
import subprocess
import sys
import tempfile
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .declare import ExportError
from .decorate import MARK, check_is_kernel
from .kernel_file import ONLY

_PREFIX = "tiaot export: "
_PLAIN = (bool, int, str, bytes, type(None))


def write_kernel_file(kernels: Sequence[Any], folder: Path) -> Path:
    """Writes a file, in a folder, that declares these kernels and families and no others.

    Raises:
        TypeError: for what is neither a Taichi kernel nor the function of a family.
        ValueError: when the text of a kernel is not to be had.
    """
    functions = [_function(each) for each in kernels]
    modules = {function.__module__: sys.modules.get(function.__module__) for function in functions}
    files = {name: getattr(module, "__file__", None) for name, module in modules.items()}
    in_files = [function for function in functions if Path(function.__code__.co_filename).is_file()]
    if len(in_files) == len(functions) and all(files.values()):
        lines = _importing(modules, kernels)
    else:
        lines = _Cells(functions[0].__globals__, folder).lines(kernels)
    names = [_variable(kernel, functions[place].__globals__) for place, kernel in enumerate(kernels)]
    undecorated = [name for name, each in zip(names, kernels, strict=True) if not hasattr(each, MARK)]
    lines += ["from tiaot.export import kernel as __kernel", *(f"__kernel()({name})" for name in undecorated)]
    lines.append(f"{ONLY} = {names!r}")
    path = folder / "cells.py"
    path.write_text("\n".join(lines) + "\n")
    return path


def export_in_child(source: Path, target: str | os.PathLike[str], options: list[str]) -> list[str]:
    """Exports a file in a process of its own, which does not run the program that asks for it again: the notes on it.

    Raises:
        ExportError: when it cannot be exported.
    """
    command = [sys.executable, "-m", "tiaot", "export", str(source), "-o", os.fspath(target), *options]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
    with tempfile.TemporaryFile("w+") as said:
        with subprocess.Popen(command, stdout=said, stderr=subprocess.PIPE, text=True, env=environment) as child:
            assert child.stderr is not None
            told: list[str] = []
            for line in child.stderr:
                if told or line.startswith(_PREFIX):
                    told.append(line)
                else:
                    print(line, end="", file=sys.stderr, flush=True)  # what is being done
        if child.returncode != 0:
            message = "".join(told).strip().removeprefix(_PREFIX)
            raise ExportError(message or f"the export ended with code {child.returncode}")
        said.seek(0)
        print(said.read(), end="")
    return [line.removeprefix(_PREFIX).strip() for line in told]


def _function(kernel: Any) -> Any:
    """The author's function of a Taichi kernel or of a family."""
    request = getattr(kernel, MARK, None)
    if request is None or not request.is_family:
        check_is_kernel(kernel)
        return kernel._primal.func
    return kernel


def _variable(kernel: Any, namespace: Mapping[str, Any]) -> str:
    """The name of the variable that holds a kernel."""
    for name, value in namespace.items():
        if value is kernel and not name.startswith("_"):
            return name
    raise ValueError(
        f"export: no variable of the session, or of its module, holds the kernel {kernel.__name__!r}: assign it to one"
    )


def _importing(modules: Mapping[str, Any], kernels: Sequence[Any]) -> list[str]:
    lines = ["import importlib, sys"]
    for name, module in modules.items():
        file, dotted = Path(module.__file__).resolve(), name
        if name == "__main__":
            dotted = file.stem
        folder = file.parents[dotted.count(".") + (file.name == "__init__.py")]
        lines.append(f"sys.path.insert(0, {str(folder)!r})")
        lines.append(
            f"globals().update((k, v) for k, v in vars(importlib.import_module({dotted!r})).items() "
            "if not k.startswith('__'))"
        )
    return lines


class _Cells:
    """The statements of a notebook's cells, in the order in which they ran."""

    def __init__(self, namespace: Mapping[str, Any], folder: Path) -> None:
        self.namespace = namespace
        self.folder = folder
        self.statements = list(_statements())
        self.binding: dict[str, list[int]] = {}  # the statements that bind a name
        for place, (node, _) in enumerate(self.statements):
            for name in _bound(node):
                self.binding.setdefault(name, []).append(place)

    def lines(self, kernels: Sequence[Any]) -> list[str]:
        """The lines of a file that has these kernels and what they follow from."""
        pending = [_variable(each, self.namespace) for each in kernels]
        seen: set[str] = set()
        taken: set[int] = {place for place, (node, _) in enumerate(self.statements) if _sets_up(node)}
        values: list[str] = []
        fields: dict[str, Any] = {}
        for place in taken:
            pending += _loaded(self.statements[place][0])
        while pending:
            name = pending.pop()
            if name in seen or name not in self.namespace:
                continue
            seen.add(name)
            value = self.namespace[name]
            if (line := self._value(name, value)) is not None:
                values.append(line)
                continue
            if name not in self.binding:
                continue
            for place in reversed(self.binding[name]):
                taken.add(place)
                used = _loaded(self.statements[place][0])
                pending += used
                if name not in used:  # a value that does not follow from the one before
                    break
            fields[name] = value
            for place, (other, _) in enumerate(self.statements):
                if place not in taken and _places(other, name):
                    taken.add(place)
                    pending += _loaded(other)
        for name in (each for each in seen if hasattr(self.namespace[each], "_primal") and each not in self.binding):
            raise ValueError(
                f"export: the text of the kernel {name!r} is not to be had: write it in a notebook's cell or in a file"
            )
        texts = [self.statements[place][1] for place in sorted(taken)]
        return [*values, *texts, *self._contents(fields)]

    def _value(self, name: str, value: Any) -> str | None:
        """A line that gives a name its value, where that can be written down."""
        if isinstance(value, types.ModuleType):
            return f"import {value.__name__} as {name}"
        if isinstance(value, np.ndarray) and value.dtype != object:
            return f"import numpy; {name} = numpy.load({self._saved(name, value)!r})"
        text = _literal(value)
        return None if text is None else f"import numpy; {name} = {text}"

    def _contents(self, names: Mapping[str, Any]) -> Iterator[str]:
        """Lines that give the fields what they hold now."""
        from taichi.lang.field import Field
        from taichi.lang.struct import StructField

        from .content import were_used

        fields = {name: value for name, value in names.items() if isinstance(value, Field)}
        for name, field in fields.items() if were_used() else ():
            parts = field.to_numpy() if isinstance(field, StructField) else {"": field.to_numpy()}
            for part, array in parts.items():
                where = f"numpy.load({self._saved(f'{name}.{part}', array)!r})"
                whose = f"{name}.{part}" if part else name
                yield "import numpy"
                yield f"{whose}.from_numpy({where})" if field.shape else f"{whose}[None] = {where}.tolist()"

    def _saved(self, name: str, array: np.ndarray) -> str:
        path = self.folder / f"{name}.npy"
        np.save(path, array)
        return str(path)


def _statements() -> Iterator[tuple[ast.stmt, str]]:
    """The top-level statements of all cells, each with its text."""
    for file, entry in list(linecache.cache.items()):
        if not ("ipykernel" in file or "ipython" in file) or len(entry) < 4 or Path(file).is_file():
            continue
        text = "".join(entry[2])
        try:
            tree = ast.parse(text)
        except SyntaxError:
            continue
        lines = text.splitlines()
        for node in tree.body:
            first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", []))])
            yield node, "\n".join(lines[first - 1 : node.end_lineno])


def _bound(node: ast.stmt) -> set[str]:
    """The names that a top-level statement binds."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    names = set()
    for each in ast.walk(node):
        if isinstance(each, ast.alias):
            names.add((each.asname or each.name).partition(".")[0])
        elif isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store):
            names.add(each.id)
    return names


def _loaded(node: ast.stmt) -> list[str]:
    """The names that a statement uses."""
    changed = [each.target for each in ast.walk(node) if isinstance(each, ast.AugAssign)]
    return [
        each.id
        for each in ast.walk(node)
        if isinstance(each, ast.Name) and (isinstance(each.ctx, ast.Load) or each in changed)
    ]


def _literal(value: Any) -> str | None:
    """The text of a number, a string, or a container of them; None for anything else."""
    if isinstance(value, np.generic):
        item = _literal(value.item())
        return None if item is None else f"numpy.{value.dtype.name}({item})"
    if type(value) in _PLAIN:
        return repr(value)
    if type(value) in (float, complex):
        return f"{type(value).__name__}({str(value)!r})"
    if type(value) in (tuple, list, set):
        parts = [_literal(each) for each in value]
        return None if None in parts else f"{type(value).__name__}([{', '.join(map(str, parts))}])"
    if type(value) is dict:
        pairs = [(_literal(key), _literal(each)) for key, each in value.items()]
        if any(None in pair for pair in pairs):
            return None
        return f"{{{', '.join(f'{key}: {each}' for key, each in pairs)}}}"
    return None


def _call_of(node: ast.stmt, method: str) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Attribute)
        and node.value.func.attr == method
    )


def _sets_up(node: ast.stmt) -> bool:
    """Whether a statement is `ti.init(...)`."""
    return _call_of(node, "init")


def _places(node: ast.stmt, name: str) -> bool:
    """Whether a statement places a field: `ti.root.dense(ti.i, n).place(x)`."""
    return _call_of(node, "place") and name in _loaded(node)
