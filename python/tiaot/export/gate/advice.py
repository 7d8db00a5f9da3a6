"""Advice: problems as the author is told of them, with their cause and what to write instead."""

from __future__ import annotations

from collections.abc import Mapping

from .judge import NOT_A_NUMBER, Problem

_MOST_KERNELS = 20
_MOST_LINES = 3  # of one kernel

_AS_LEFT = (
    "Its adjoint sees arrays and fields as the kernel leaves them: an element that is read and then overwritten is "
    "taken for its new value. "
)
_ELSEWHERE = "Write to another place (x[t + 1] from x[t]), or leave the gradient out (wrt=[])."
_ANEW = (
    "It is so for a local vector or matrix that is assigned anew from its own elements in a loop: use a variable of "
    "its own for each element (x0 and x1 in place of x). And for loops side by side in an outer one: give each a loop "
    "of its own around it."
)
_KEPT = (
    ", whose gradient is 0 then for all that came before; Taichi's adjoint leaves there what it finds. Clear fields in "
    "a kernel of their own without a gradient (wrt=[]), and their gradients with them."
)
_INFINITE = (
    "The derivative of a root, a logarithm, a norm or a quotient is infinite there, and 0 times that is no number. "
    "Keep away from it in the kernel (ti.sqrt(x + 1e-12)), or draw other values (draw=)."
)
_OURS = (
    "A derivative along tangents is of tiaot's own making: where the gradients are right this is a mistake of tiaot; "
    "please report it with the kernel."
)
_DRAW = (
    "If the kernel is right, but rounding grows in it or its inputs are of a certain kind, say what to draw for them "
    "(draw=) and at which sizes (sizes=)."
)


def report(problems: list[Problem], certain: Mapping[str, list[str]]) -> str:
    """All that disagrees, kernel by kernel, and what may be the cause; for some kernels it is certain."""
    by_kernel: dict[str, list[Problem]] = {}
    for problem in problems:
        by_kernel.setdefault(problem.point.family.name, []).append(problem)
    lines: list[str] = []
    by_cause: dict[str, list[str]] = {}
    for name, those in list(by_kernel.items())[:_MOST_KERNELS]:
        first = list({problem.what: problem for problem in reversed(those)}.values())[::-1][:_MOST_LINES]
        lines += [problem.text() for problem in first]
        if len(those) > len(first):
            lines.append(f"{name}: and {len(those) - len(first)} more of this kind")
        for cause in certain.get(name) or _causes(those):
            by_cause.setdefault(cause, []).append(name)
    if len(by_kernel) > _MOST_KERNELS:
        lines.append(f"and {len(by_kernel) - _MOST_KERNELS} kernels more")
    return "\n".join(lines + [f"{', '.join(names)}: {cause}" for cause, names in by_cause.items()])


def _causes(problems: list[Problem]) -> list[str]:
    """What may be the cause of the problems of one kernel."""
    gradients = [problem for problem in problems if problem.name]
    if not gradients:
        if any(problem.along for problem in problems):
            return [_OURS]
        told = all(problem.complete for problem in problems)
        return [] if told else [_DRAW]
    point = gradients[0].point
    if not point.autodiff:
        return ["The gradient written by hand (vjp=) is not the slope of the kernel."]
    alike = [problem.like_jit for problem in gradients if problem.like_jit is not None]
    if not all(alike):
        mistake = "a mistake of tiaot; please report it with the kernel."
        if point.facts.in_place and point.fields:
            return [_AS_LEFT + _ELSEWHERE, f"Where it overwrites nothing that it has read, this is {mistake}"]
        return [f"Taichi's JIT has another gradient: this is {mistake}"]
    if all(problem.why == NOT_A_NUMBER for problem in gradients):
        return [_INFINITE]
    own = "Taichi's own adjoint is wrong here: "
    causes = [own + ("its JIT gives the same." if alike else "its JIT was not run, since its stack is too small.")]
    kept = dict.fromkeys(problem.name for problem in gradients if problem.kept)
    if kept:
        causes.append(f"It overwrites the field {', '.join(kept)}{_KEPT}")
    elif point.facts.in_place and point.fields:
        causes.append(_AS_LEFT + _ELSEWHERE)
    elif point.facts.in_place:
        causes.append(_AS_LEFT + "Write to an output of another name, or leave the gradient out (wrt=[]).")
    if point.facts.stacks or not (point.facts.in_place or kept):
        causes.append(_ANEW)
    return causes
