"""Reduces a generated kernel that fails to one with fewer statements. Knows nothing of why it fails."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

from kernel_text import Kernel, Statement


def _without(statements: list[Statement], path: tuple[int, ...], unwrap: bool) -> list[Statement]:
    place, *rest = path
    result = list(statements)
    if rest:
        inner = _without(result[place].body or [], tuple(rest), unwrap)
        result[place] = dataclasses.replace(result[place], body=inner)
    else:
        result[place : place + 1] = (result[place].body or []) if unwrap else []
    return result


def _paths(statements: list[Statement], before: tuple[int, ...] = ()) -> Iterator[tuple[int, ...]]:
    for place in reversed(range(len(statements))):
        yield (*before, place)
        yield from _paths(statements[place].body or [], (*before, place))


def smaller(kernel: Kernel) -> Iterator[Kernel]:
    """The kernel without one of its statements, or with a block's body in its place, large parts first."""
    for unwrap in (False, True):
        for path in sorted(_paths(kernel.body), key=len):
            yield dataclasses.replace(kernel, body=_without(kernel.body, path, unwrap))


def reduced(kernel: Kernel, fails: Callable[[Kernel], bool], most: int = 60) -> Kernel:
    """A kernel with as few statements as it takes to fail."""
    tried = 0
    texts = {kernel.text()}
    again = True
    while again:
        again = False
        for candidate in smaller(kernel):
            if candidate.text() in texts:
                continue
            texts.add(candidate.text())
            tried += 1
            if tried > most:
                return kernel
            if fails(candidate):
                kernel, again = candidate, True
                break
    return kernel
