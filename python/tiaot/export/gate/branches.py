"""Branches: which of a kernel's run, counted in Taichi. Knows the text of kernels, and nothing of the gate.

LLVM's IR, as Taichi makes it, does not know lines. So the text of kernels and of functions that they call is changed
before Taichi compiles it, in a child of the gate's: every condition goes through a function that notes how it came out,
in a field of its own, and every loop notes that its body ran. What is known when a kernel is compiled (`ti.static`) is
no branch, and Taichi's own library is left alone.
"""

from __future__ import annotations

import ast
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

_MOST = 1 << 14  # conditions and loops in all
_TEST, _RAN = "__tiaot_test__", "__tiaot_ran__"


@dataclass(frozen=True)
class Site:
    """One way that a kernel can go."""

    file: str
    line: int
    what: str  # "the branch of `if x[i] < 0`"
    names: tuple[str, ...]  # that the condition hangs on

    def record(self) -> dict[str, Any]:
        return asdict(self)

    def text(self) -> str:
        return f"{Path(self.file).name}:{self.line}: {self.what}"


class Branches:
    """Counts, from its making on, in kernels that are compiled later. It is made where Taichi is set up."""

    def __init__(self) -> None:
        import taichi as ti
        from taichi.lang import kernel_impl

        self._sites: list[tuple[Site | None, Site | None]] = []  # where a condition holds, and where it does not
        self._places: dict[tuple[str, int, int, str], int] = {}
        self._compiled: dict[str, set[int]] = {}  # by kernel
        self._kernel = ""
        self._counts = ti.field(ti.i32, shape=2 * _MOST)
        self._library = str(Path(ti.__file__).parent)
        original = kernel_impl._get_tree_and_ctx

        def counted(*arguments: Any, **options: Any) -> Any:
            tree, ctx = original(*arguments, **options)
            if not str(ctx.file).startswith(self._library):
                _Counting(self, str(ctx.file), ctx.lineno_offset + 1).visit(tree.body[0])
                ast.fix_missing_locations(tree)
                ctx.global_vars.update({_TEST: self._test, _RAN: self._ran})
            return tree, ctx

        kernel_impl._get_tree_and_ctx = counted
        for function in (Branches._test, Branches._ran):
            function.__module__ = "taichi.lang"  # Taichi warns of functions that it does not know

    def start(self, kernel: str) -> None:
        """From here on that kernel runs."""
        self._kernel = kernel
        self._counts.fill(0)

    def found(self) -> tuple[list[Site], list[Site]]:
        """All ways of the kernel that were compiled, and those that it went since it started."""
        counts = np.asarray(self._counts.to_numpy()).reshape(-1, 2)
        every, gone = [], []
        for place in sorted(self._compiled.get(self._kernel, ())):
            for site, count in zip(self._sites[place], counts[place], strict=True):
                if site is not None:
                    every.append(site)
                    if count:
                        gone.append(site)
        return every, gone

    def place(self, key: tuple[str, int, int, str], sites: tuple[Site | None, Site | None]) -> int | None:
        """The place of a condition or a loop; None where there are too many."""
        if key not in self._places:
            if len(self._sites) == _MOST:
                return None
            self._places[key] = len(self._sites)
            self._sites.append(sites)
        return self._places[key]

    # What is called while Taichi compiles.

    def _test(self, place: int, condition: Any) -> Any:
        from taichi.lang import impl, ops
        from taichi.lang.expr import Expr

        if not isinstance(condition, Expr) or condition.is_tensor():
            return condition
        condition = impl.expr_init(condition)
        self._note(place, 2 * place + ops.select(condition != 0, 0, 1))
        return condition

    def _ran(self, place: int) -> None:
        self._note(place, 2 * place)

    def _note(self, place: int, index: Any) -> None:
        from taichi.lang import impl, ops

        self._compiled.setdefault(self._kernel, set()).add(place)
        builder = impl.get_runtime().compiling_callable.ast_builder()
        ops.assign(impl.subscript(builder, self._counts, index), 1)


class _Counting(ast.NodeTransformer):
    """Changes the text of one function."""

    def __init__(self, branches: Branches, file: str, start: int) -> None:
        self.branches, self.file, self.start = branches, file, start

    def visit_If(self, node: ast.If) -> ast.AST:
        text = ast.unparse(node.test)
        leaves = isinstance(node.body[-1], ast.Continue | ast.Break | ast.Return)
        otherwise = f"the other branch of `if {text}`" if node.orelse else f"what follows, past `if {text}`,"
        node.test = self._counted(
            node.test,
            f"the branch of `if {text}`" if not _is_empty(node.body) else None,
            otherwise if node.orelse or leaves else None,
        )
        node.body, node.orelse = self._all(node.body), self._all(node.orelse)
        return node

    def visit_While(self, node: ast.While) -> ast.AST:
        node.test = self._counted(node.test, f"the loop `while {ast.unparse(node.test)}`", None)
        node.body = self._all(node.body)
        return node

    def visit_For(self, node: ast.For) -> ast.AST:
        what = f"the loop `for {ast.unparse(node.target)} in {ast.unparse(node.iter)}`"
        place = self._place(node, self._site(node, what, node.iter), None)
        node.body = self._all(node.body)
        if place is not None:
            node.body.insert(0, ast.copy_location(ast.Expr(self._call(_RAN, place)), node.body[0]))
        return node

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        # What lies in one of its sides is worked out there only: a count would be worked out always.
        text = ast.unparse(node)
        node.test = self._counted(node.test, f"the first side of `{text}`", f"the last side of `{text}`")
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        node.values[0] = self.visit(node.values[0])  # the same
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        return node if _is_static(node) else self.generic_visit(node)

    def _all(self, statements: list[ast.stmt]) -> list[ast.stmt]:
        return [self.visit(each) for each in statements]

    def _counted(self, test: ast.expr, holds: str | None, fails: str | None) -> ast.expr:
        if _is_static(test):
            return test
        sites = tuple(None if what is None else self._site(test, what, test) for what in (holds, fails))
        if sites == (None, None):
            return self.visit(test)
        place = self._place(test, *sites)
        inner = self.visit(test)
        return inner if place is None else ast.copy_location(self._call(_TEST, place, inner), test)

    def _place(self, node: Any, holds: Site | None, fails: Site | None) -> int | None:
        key = (self.file, self.start + node.lineno, node.col_offset, type(node).__name__)
        return self.branches.place(key, (holds, fails))

    def _site(self, node: Any, what: str, source: ast.AST) -> Site:
        names = dict.fromkeys(each.id for each in ast.walk(source) if isinstance(each, ast.Name))
        return Site(self.file, self.start + node.lineno - 1, what, tuple(names))

    def _call(self, name: str, *arguments: Any) -> ast.Call:
        values = [each if isinstance(each, ast.expr) else ast.Constant(each) for each in arguments]
        return ast.Call(ast.Name(name, ast.Load()), values, [])


def _is_static(node: ast.AST) -> bool:
    """Whether it is `ti.static(...)`, which is worked out when a kernel is compiled."""
    function = node.func if isinstance(node, ast.Call) else None
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name == "static"


def _is_empty(body: list[ast.stmt]) -> bool:
    return all(isinstance(each, ast.Pass) for each in body)
