"""Shapes and element types of a kernel's results, for frameworks that trace a call before there is any memory.

Knows nothing of frameworks: sizes may be their symbols, element types are names such as "float32".
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Sequence
from functools import cached_property
from typing import Any, NoReturn

import numpy as np

from ._core import Kernel


def is_number(value: Any) -> bool:
    """Whether a value is a number, Python's or NumPy's, that may stand for an array without dimensions."""
    if isinstance(value, (int, float)):
        return not isinstance(value, bool)
    return isinstance(value, (np.integer, np.float32, np.float16)) and not isinstance(value, np.timedelta64)


class Signature:
    """What a kernel declares of its arguments and results.

    Attributes: `inputs` and `outputs`, names in order; `batched`, those of both that have the batch dimension;
    `differentiable`, the inputs whose gradient there is; `numbers`, places of inputs without dimensions; `values`, the
    inputs that may be on the CPU where the others are on a CUDA device; `label`, the kernel's name, which opens
    messages.
    """

    def __init__(self, kernel: Kernel) -> None:
        about = next(each for each in kernel.module.info()["kernels"] if each["name"] == kernel.name)
        arguments = [*about["inputs"], *about["outputs"]]
        self.label = kernel.name
        self.inputs = tuple(sys.intern(each["name"]) for each in about["inputs"])  # as entries know names in `wrt`
        self.outputs = tuple(each["name"] for each in about["outputs"])
        self.batched = frozenset(each["name"] for each in arguments if each["batched"])
        self.values = frozenset(each["name"] for each in arguments if each["value"])
        self.has_batch = about["batch_dim"] is not None
        self._dims = {each["name"]: tuple(each["dims"]) for each in arguments}
        self._variants = [each for each in about["variants"] if each["name"] in kernel.variants]
        self.numbers = tuple(i for i, name in enumerate(self.inputs) if not self._dims[name])
        known = set[str]().union(*self.entries)
        self.differentiable = tuple(name for name in self.inputs if name in known)

    @cached_property
    def entries(self) -> tuple[frozenset[str], ...]:
        """The sets of inputs whose gradients one entry of every variant computes."""
        return self._entries("vjp")

    def _entries(self, kind: str) -> tuple[frozenset[str], ...]:
        """The sets of inputs that every variant has an entry of this kind for, the smallest first."""
        of_each = [{frozenset(e["wrt"]) for e in v["entries"] if e["kind"] == kind} for v in self._variants]
        return tuple(sorted(set.intersection(*of_each), key=lambda wrt: (len(wrt), sorted(wrt))))

    def covering(self, kind: str, names: Collection[str]) -> tuple[str, ...] | None:
        """The smallest set of inputs that has these names and a jvp, or hvp, in every variant; None for none."""
        best = next((wrt for wrt in self._entries(kind) if wrt.issuperset(names)), None)
        return None if best is None else tuple(name for name in self.inputs if name in best)

    def needed(self, kind: str, names: Collection[str]) -> tuple[str, ...]:
        """As `covering`; NotImplementedError, with the remedy, where there is none."""
        return self.covering(kind, names) or self.refuse(kind, names)

    def refuse(self, kind: str, names: Collection[str]) -> NoReturn:
        """Raises NotImplementedError for a jvp, or hvp, with respect to these inputs, which the module lacks."""
        wrt = [name for name in self.inputs if name in names]
        without = [name for name in wrt if name not in self.differentiable]
        if kind == "hvp" and without:
            raise NotImplementedError(
                f"{self.label}: a derivative of its gradient was asked for, but the module has no gradient for "
                f"argument '{without[0]}'{self.why_no_gradient(without[0])}"
            )
        derivatives = "'jvp', 'hvp'" if kind == "hvp" else "'jvp'"
        remedy = f"with '{' '.join(wrt)}' in wrt" if self._entries(kind) else f"with derivatives=[{derivatives}]"
        asked = "a derivative of its gradient" if kind == "hvp" else "a derivative along tangents"
        raise NotImplementedError(
            f"{self.label}: {asked} was asked for; it takes {'an' if kind == 'hvp' else 'a'} {kind} with respect to "
            f"({', '.join(wrt)}), which the module lacks: export it {remedy}"
        )

    def why_no_gradient(self, name: str) -> str:
        """What to add to a message about an input that has no gradient."""
        remedy = ", being a number: annotated as ti.types.ndarray(dtype, ndim=0) it would have one"
        return remedy if name in self.values else ""

    def calls(self, wrt: Sequence[str]) -> list[tuple[str, ...]]:
        """`wrt` as the fewest calls of vjp that there are entries for: one, or one for each name."""
        if not wrt:
            return []
        together = any(set(wrt) <= entry for entry in self.entries)
        return [tuple(wrt)] if together else [(name,) for name in wrt]

    def check_count(self, count: int) -> None:
        """Raises TypeError when a call has another number of arrays than the kernel has inputs."""
        if count != len(self.inputs):
            names = ", ".join(self.inputs)
            missing = ", ".join(f"'{name}'" for name in self.inputs[count:])
            remedy = f": missing {missing}" if missing else ""
            raise TypeError(f"{self.label}: expected {len(self.inputs)} arrays ({names}), got {count}{remedy}")

    def with_numbers(
        self, arguments: Sequence[Any], dtype_of: Callable[[Any], str], make: Callable[[Any, str], Any]
    ) -> list[Any]:
        """The arguments of a call, with an array in place of each Python number that stands for one without dimensions.

        `dtype_of` tells an array's element type, `make` an array of a number and an element type.

        Raises TypeError for a float where an integer is expected, ValueError for an integer that does not fit.
        """
        places = [i for i in self.numbers if i < len(arguments) and is_number(arguments[i])]
        if not places:
            return list(arguments)
        pairs = zip(self.inputs, arguments, strict=False)  # a wrong number of them is told later
        known = {name: dtype_of(a) for i, (name, a) in enumerate(pairs) if i not in places}
        fitting = [v["dtypes"] for v in self._variants if all(v["dtypes"][n] == d for n, d in known.items())]
        dtypes = (fitting or [self._variants[0]["dtypes"]])[0]
        made = list(arguments)
        for place in places:
            name = self.inputs[place]
            made[place] = make(self._checked_number(name, arguments[place], dtypes[name]), dtypes[name])
        return made

    def as_number(self, name: str, value: float) -> tuple[float, str]:
        """A Python number for an input without dimensions, checked, and the element type that it gets by itself."""
        dtype: str = self._variants[0]["dtypes"][name]
        return self._checked_number(name, value, dtype), dtype

    def _checked_number(self, name: str, value: Any, dtype: str) -> Any:
        if dtype.startswith("float"):
            return value
        if not isinstance(value, (int, np.integer)):
            raise TypeError(f"{self.label}: argument '{name}': expected an integer, got {type(value).__name__}")
        bits = int(dtype.lstrip("uint"))
        least, most = (0, (1 << bits) - 1) if dtype.startswith("u") else (-1 << bits - 1, (1 << bits - 1) - 1)
        if not least <= value <= most:
            raise ValueError(f"{self.label}: argument '{name}': expected an integer that fits {dtype}, got {value}")
        return value

    def results(self, shapes: Sequence[Sequence[Any]], dtypes: Sequence[str]) -> list[tuple[tuple[Any, ...], str]]:
        """Shape and element type of each output, from those of the inputs.

        Raises TypeError for element types that no variant has, ValueError for shapes that do not go together.
        """
        sizes = self._sizes(self.inputs, shapes, dtypes)
        kinds = self._fitting(self.inputs, dtypes)
        return [(tuple(sizes[dim] for dim in self._dims[name]), kinds[name]) for name in self.outputs]

    def takes(self, names: Sequence[str], dtypes: Sequence[str]) -> bool:
        """Whether these arguments have these element types in a variant."""
        return any([variant["dtypes"][name] for name in names] == list(dtypes) for variant in self._variants)

    def check_some(self, names: Sequence[str], shapes: Sequence[Sequence[Any]], dtypes: Sequence[str]) -> None:
        """Raises what `results` raises for these arguments, which need not be all."""
        self._sizes(names, shapes, dtypes)
        self._fitting(names, dtypes)

    def check_cotangents(self, shapes: Sequence[Sequence[Any]], dtypes: Sequence[str]) -> None:
        """The same checks for the inputs and then the cotangents of all outputs."""
        self.check_some((*self.inputs, *self.outputs), shapes, dtypes)

    def _fitting(self, names: Sequence[str], dtypes: Sequence[str]) -> dict[str, str]:
        for variant in self._variants:
            kinds: dict[str, str] = variant["dtypes"]
            if all(kinds[name] == dtype for name, dtype in zip(names, dtypes, strict=True)):
                return kinds
        for place, name in enumerate(names):  # the first that does not go with those before it
            fitting = [
                v["dtypes"]
                for v in self._variants
                if all(v["dtypes"][n] == d for n, d in zip(names[:place], dtypes[:place], strict=True))
            ]
            known = list(dict.fromkeys(kinds[name] for kinds in fitting))
            if dtypes[place] not in known:
                raise TypeError(
                    f"{self.label}: {self._called(place, name)}: expected {' or '.join(known)}, got {dtypes[place]}"
                )
        raise TypeError(f"{self.label}: no variant takes {', '.join(dtypes)}")

    def _sizes(self, names: Sequence[str], shapes: Sequence[Sequence[Any]], dtypes: Sequence[str]) -> dict[str, Any]:
        sizes: dict[str, Any] = {dim: int(dim) for dims in self._dims.values() for dim in dims if dim.isdigit()}
        for place, (name, shape, dtype) in enumerate(zip(names, shapes, dtypes, strict=True)):
            dims = self._dims[name]
            found = dict(sizes)
            if len(shape) == len(dims) and all(found.setdefault(d, s) == s for d, s in zip(dims, shape, strict=True)):
                sizes = found
                continue
            expected = ", ".join(f"{d}={sizes[d]}" if d in sizes and not d.isdigit() else d for d in dims)
            got = ", ".join(map(str, shape))
            raise ValueError(
                f"{self.label}: {self._called(place, name)}: expected {dtype}[{expected}], got {dtype}[{got}]"
            )
        return sizes

    def _called(self, place: int, name: str) -> str:
        return f"argument '{name}'" if place < len(self.inputs) else f"cotangent of '{name}'"
