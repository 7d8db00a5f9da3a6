"""What help(), inspect and editors are told: of one kernel, and of the types."""

import ast
import inspect
import pydoc
from pathlib import Path

import pytest
import tiaot
from tiaot import _core


def documented() -> dict[str, str]:
    """The docstrings of _core.pyi, by qualified name."""
    stub = Path(tiaot.__file__).parent / "_core.pyi"
    found = {}
    for node in ast.parse(stub.read_text()).body:
        members = node.body if isinstance(node, ast.ClassDef) else []
        for prefix, each in [("", node), *((f"{getattr(node, 'name', '')}.", member) for member in members)]:
            if isinstance(each, ast.ClassDef | ast.FunctionDef) and ast.get_docstring(each):
                found[prefix + each.name] = ast.get_docstring(each) or ""
    return found


STUB = documented()


@pytest.mark.parametrize("name", STUB)
def test_editors_see_what_help_says(name: str) -> None:
    thing: object = _core
    for part in name.split("."):
        thing = inspect.getattr_static(thing, part)
    text = inspect.cleandoc(thing.__doc__ or "").strip()
    signature = f"{name.split('.')[-1]}("  # nanobind's functions have theirs in front
    if text.startswith(signature):
        text = text.split("\n\n", 1)[1]
    assert text == STUB[name]


def test_everything_public_is_in_the_stub() -> None:
    for name in ("Kernel", "Entry", "BoundCall", "Module"):
        members = {each for each in vars(getattr(_core, name)) if not each.startswith("_")}
        assert {f"{name}.{member}" for member in members} <= set(STUB), name
    assert {"ModuleError", "get_num_threads", "set_num_threads", "cpu_level"} <= set(STUB)


def test_help_on_a_kernel(dense_tanh: tiaot.Kernel) -> None:
    assert (dense_tanh.__doc__ or "").splitlines() == [
        "dense_tanh(x, W, b, *, out=None, num_threads=None, stream=None)",
        "",
        *inspect.cleandoc(dense_tanh.module.info()["kernels"][0]["doc"]).splitlines(),
        "",
        "x[B, n], W[m, n], b[m] -> y[B, m]",
        "    x: float32[B, n] or float64[B, n]",
        "    W: float32[m, n] or float64[m, n]",
        "    b: float32[m] or float64[m]",
        "    y: float32[B, m] or float64[B, m]",
        "",
        "What holds for every Kernel is in help(tiaot.Kernel).",
    ]
    shown = pydoc.render_doc(dense_tanh.vjp, renderer=pydoc.plaintext)
    assert "dense_tanh.vjp(x, W, b, y_cotangent, *, wrt='x', out=None, num_threads=None, stream=None)" in shown
    assert "The vector-Jacobian product with respect to one or several of x, W, b." in shown
    assert "The Jacobian with respect to" in (dense_tanh.jacobian.__doc__ or "")
    narrow = dense_tanh.restrict("float64_dynamic").__doc__ or ""
    assert "    x: float32[B, n] or float64[B, n]" in narrow  # what the kernel has; the variant is in its repr


def test_help_on_the_types() -> None:
    for name in ("Kernel", "Entry"):
        shown = pydoc.render_doc(getattr(tiaot, name), renderer=pydoc.plaintext)
        assert f"class {name}" in shown and "Raises:" in shown and "bind(self, /, *operands," in shown


def test_help_where_a_kernel_has_less(small: tiaot.Module) -> None:
    close = small.kernels["close"]
    assert "close.vjp(x, k, y_cotangent" in (close.vjp.__doc__ or "")
    module = tiaot.open(small.path)
    pair = module.pair
    module.close()
    assert "pair(x, s, *" in (pair.__doc__ or "")  # of a closed module, too
