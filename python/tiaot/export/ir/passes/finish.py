"""What each function of a task gets last, on any target."""

from __future__ import annotations

from ..model import Function
from .contraction import contract
from .conversions import define_conversions
from .divisions import define_divisions
from .shifts import define_shifts


def finish(function: Function) -> Function:
    """Define what LLVM leaves undefined of the user's arithmetic, and let it be contracted."""
    return contract(define_shifts(define_divisions(define_conversions(function))))
