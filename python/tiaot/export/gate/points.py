"""Points: the sizes and values that a kernel is tried at, drawn or by the author. Runs no kernel.

Every size is tried near 1, where functions are defined and sums keep their digits. Some are tried further off, for what
lies behind a condition: both signs, magnitudes from 1e-3 to 1e3, zeros, whole numbers up to some hundreds.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..author.declare import Declaration, Family, Variant
from ..computation import ALL_FIELDS
from .along import JVP
from .recorded import Launch
from .trial_state import DIFFERENTIABLE, FIELDS, thin
from .twin import Facts, covering

RECORDED = "as recorded"
NEAR, SIGNS, MAGNITUDES, ZEROS = "near 1", "of both signs", "from 1e-3 to 1e3", "with zeros"
FEW, WHOLE = "with small counts", "with large counts"
ORDINARY = (NEAR, RECORDED)  # where nothing may be out of range
_SIZES = (0, 1, 2, 30, 31, 32, 33, 64, 65, 513)
# Which of the sizes, from the first to the last, the others are drawn at.
_FURTHER = ((SIGNS, 0.15), (SIGNS, 0.6), (MAGNITUDES, 0.6), (ZEROS, 0.3), (FEW, 0.15), (WHOLE, 0.15))
_MOST_ELEMENTS = 1 << 16  # of one array
_LARGE = 64 << 20  # bytes of fields: fewer points, and a part of the elements
_COUNTS = {FEW: (4, 8), WHOLE: (33, 301)}  # whole numbers that may be counts


@dataclass
class Point:
    """A variant of a kernel at some sizes and values."""

    id: str
    family: Family
    variant: Variant
    dims: dict[str, int]
    kind: str
    # input.NAME, cotangent.NAME, state.NAME; tangent.NAME where they are needed; the same each time
    draw: Callable[[], dict[str, np.ndarray]]
    fields: list[str]  # of the state, for a kernel that works on it
    facts: Facts
    autodiff: bool
    sloped: bool  # its derivatives are held against slopes
    tangents: bool  # its entries with tangents are in any case: they are never meant to differ
    daring: bool  # an index may lie outside of an array here, though the kernel is right
    large: bool  # its fields are: a part of their elements is looked at
    seed: list[int]

    @functools.cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """What is drawn; of a large field some elements."""
        return {name: thin(array) for name, array in self.draw().items()}

    @property
    def empty(self) -> bool:
        return any(size == 0 for size in self.dims.values())

    @property
    def differentiated(self) -> list[str]:
        """The inputs or fields that have a gradient."""
        if self.fields:
            return [name for name in self.fields if f"{name}.grad" in self.fields] if self.family.gradient else []
        return list(dict.fromkeys(name for wrt in self.family.wrt for name in wrt))

    @property
    def counted(self) -> bool:
        """Whether its branches are: those of other element types are the same."""
        return self.variant.dtype == self.family.dtypes[0]

    @property
    def along(self) -> list[tuple[str, tuple[str, ...]]]:
        """The entries with tangents: the kind, and the inputs."""
        return [(each.kind, each.wrt) for each in self.family.entries if each.forward_mode]

    @property
    def labels_along(self) -> list[str]:
        """What their verdicts are of."""
        if self.fields:
            return [f"{kind} along {' '.join(FIELDS if kind == JVP else DIFFERENTIABLE)}" for kind, _ in self.along]
        return [f"{kind} along {' '.join(names)}" for kind, names in self.along]

    def record(self) -> dict[str, Any]:
        """What the children are told of it; its arrays go beside."""
        signature = self.family.signature
        return {
            "id": self.id,
            "kernel": self.family.name,
            "variant": {"dtype": self.variant.dtype, "sizes": dict(self.variant.sizes)},
            "variant_name": self.variant.name,
            "twin_name": Variant("float64", self.variant.sizes).name,
            "dims": self.dims,
            "dim_names": list(signature.dims),
            "batch": signature.batch,
            "inputs": [argument.name for argument in signature.inputs],
            "outputs": [argument.name for argument in signature.outputs],
            "wrt": [list(wrt) for wrt in self.family.wrt],
            "twin_wrt": [list(wrt) for wrt in (covering(self.family.wrt) if self.autodiff else self.family.wrt)],
            "along": [[kind, list(names)] for kind, names in self.along],
            "fields": self.fields,
            "gradient": self.family.gradient,
            "stacks": self.facts.stacks,
            "sloped": self.sloped,
            "tangents": self.tangents,
            "empty": self.empty,
            "large": self.large,
            "seed": self.seed,
        }

    def where(self) -> str:
        sizes = ", ".join(f"{dim}={size}" for dim, size in self.dims.items() if not dim.isdigit())
        values = "" if self.kind == NEAR else f", values {self.kind}"
        return f"{self.family.name}, {self.variant.name}" + (f", at {sizes}" if sizes else "") + values


def points_of(
    declaration: Declaration,
    fields: Mapping[str, np.ndarray | None],
    about: list[dict[str, Any]],
    facts: Facts,
    autodiff: Mapping[str, bool],
    launches: Sequence[Launch] = (),
) -> list[Point]:
    """The points of one kernel, the most telling first.

    Args:
        fields: Taichi's fields by name, those of whole numbers with what the kernel file left there: that stays, since
            they may be indices.
        about: the fields of the module, as `Module.info` has them, for a kernel over fields.
        autodiff: by the names of variants, whether Taichi made the gradient.
        launches: those that were recorded. They come first, and for a kernel over fields they are all: random fields
            may be no state that it can meet.

    Raises:
        ValueError: when what the author draws is no such array, or sizes are missing.
    """
    family = declaration.family
    points: list[Point] = []
    known: set[tuple[tuple[str, int], ...]] = set()
    for variant in family.variants():
        # A variant of another element type has the same twin, whose slopes are known then.
        twin = tuple(variant.sizes.items())
        first = twin not in known
        sloped = declaration.finite_differences and first and family.differentiated
        tangents = first and bool(family.derivatives)
        known.add(twin)
        met = [(sizes, RECORDED, each) for each in launches for sizes in each.sizes(family.signature, variant)]
        drawn_places = [(*each, None) for each in _places(declaration, variant, about)]
        for sizes, kind, launch in met if met and about else [*met, *drawn_places]:
            dims = {**sizes, **variant.sizes}
            seed = [zlib.crc32(family.name.encode()), len(points)]
            drawn = functools.partial(_draw, declaration, variant, kind, dims, seed, fields, about, launch)
            daring = kind in _COUNTS or (kind not in ORDINARY and facts.casts)
            points.append(
                Point(
                    f"{family.name}.{len(points)}", family, variant, dims, kind, drawn,
                    [each["name"] for each in about], facts, autodiff[variant.name],
                    sloped and kind != ZEROS, tangents and kind != ZEROS, daring, _bytes(about) > _LARGE, seed,
                )
            )  # fmt: skip
    return sorted(points, key=lambda point: point.empty)


def _bytes(about: list[dict[str, Any]]) -> int:
    """How large the fields of a module are."""
    return sum(int(np.prod(each["shape"])) * np.dtype(each["dtype"]).itemsize for each in about)


def _places(
    declaration: Declaration, variant: Variant, about: list[dict[str, Any]]
) -> Iterator[tuple[dict[str, int], str]]:
    """The sizes of the dimensions that the variant leaves open, each with the kind of values to draw."""
    sizes = _sizes(declaration, variant)
    filled = [each for each in sizes if all(size > 0 for size in each.values())]
    small = _bytes(about) <= _LARGE
    for each in sizes * (2 if about and small else 1):
        yield each, NEAR
    family = declaration.family
    drawn = [(each.name, family.dtype(each.name, variant)) for each in family.signature.inputs]
    drawn += [(each["name"], each["dtype"]) for each in about]
    real = any(dtype.startswith("float") for name, dtype in drawn if name not in declaration.draw)
    whole = any(
        not family.dtype(each.name, variant).startswith("float") and each.name not in (*declaration.draw, "seed")
        for each in family.signature.inputs
    )
    done = set()
    for kind, part in _FURTHER:
        place = round(part * (len(filled) - 1))
        if filled and (whole if kind in _COUNTS else real) and (kind, place) not in done and (small or not done):
            done.add((kind, place))
            yield filled[place], kind


def _sizes(declaration: Declaration, variant: Variant) -> list[dict[str, int]]:
    signature = declaration.family.signature
    open_dims = [dim for dim in signature.dims if dim not in variant.sizes]
    if declaration.sizes is not None:
        for sizes in declaration.sizes:
            if missing := [dim for dim in open_dims if dim not in sizes]:
                raise ValueError(
                    f"{declaration.family.name}: sizes: expected a size for each of {', '.join(open_dims)}, got none "
                    f"for {', '.join(missing)} in {dict(sizes)}"
                )
        return [{dim: sizes[dim] for dim in open_dims} for sizes in declaration.sizes]
    if not open_dims:
        return [{}]
    chosen = []
    for size in _SIZES:
        # No two the same, so that none is taken for another.
        sizes = {dim: size + place if size else 0 for place, dim in enumerate(open_dims)}
        if signature.batch and size == 0:
            sizes = {dim: 0 if dim == signature.batch else 3 for dim in open_dims}
        known = {**sizes, **variant.sizes}
        elements = [int(np.prod([known[dim] for dim in argument.dims])) for argument in signature.arguments]
        if max(elements) <= _MOST_ELEMENTS:
            chosen.append(sizes)
    return chosen


def _draw(
    declaration: Declaration,
    variant: Variant,
    kind: str,
    dims: Mapping[str, int],
    seed: list[int],
    fields: Mapping[str, np.ndarray | None],
    about: list[dict[str, Any]],
    launch: Launch | None,
) -> dict[str, np.ndarray]:
    recorded = launch.arrays() if launch else {}
    draw = _Draw(declaration, kind, dims, np.random.default_rng(seed), recorded)
    return draw.arguments(variant) | (draw.state(fields, about) if about else {})


class _Draw:
    """Draws what a kernel is tried on at one point."""

    def __init__(
        self,
        declaration: Declaration,
        kind: str,
        dims: Mapping[str, int],
        rng: np.random.Generator,
        recorded: Mapping[str, np.ndarray],
    ) -> None:
        self.declaration, self.kind, self.dims, self.rng, self.recorded = declaration, kind, dims, rng, recorded

    def arguments(self, variant: Variant) -> dict[str, np.ndarray]:
        family = self.declaration.family
        arrays = {}
        for argument in family.signature.inputs:
            shape = tuple(self.dims[dim] for dim in argument.dims)
            dtype = np.dtype(family.dtype(argument.name, variant))
            drawn = self._given(f"input.{argument.name}", shape)
            if drawn is None:
                drawn = self._real(shape, 0.25, 0.95) if dtype.kind == "f" else self._whole(shape)
            arrays[f"input.{argument.name}"] = drawn.astype(dtype)
        for argument in family.signature.outputs:
            shape = tuple(self.dims[dim] for dim in argument.dims)
            dtype = np.dtype(family.dtype(argument.name, variant))
            arrays[f"cotangent.{argument.name}"] = self._uniform(-1, 1, shape).astype(dtype)
        along = [each for each in family.entries if each.forward_mode and each.wrt != ALL_FIELDS]
        for name in dict.fromkeys(name for each in along for name in each.wrt):
            like = arrays[f"input.{name}"]
            arrays[f"tangent.{name}"] = self._uniform(-1, 1, like.shape).astype(like.dtype)
        return arrays

    def state(self, fields: Mapping[str, np.ndarray | None], about: list[dict[str, Any]]) -> dict[str, np.ndarray]:
        """What every field holds."""
        arrays = {}
        for each in about:
            name, shape, dtype = each["name"], tuple(each["shape"]), np.dtype(each["dtype"])
            drawn = self._given(f"state.{name}", shape)
            if drawn is None and name.endswith(".grad"):
                drawn = self._uniform(-1, 1, shape)
            elif drawn is None and name not in fields:
                drawn = np.zeros(shape)  # it has no name in the file, so that Taichi's cannot be set
            elif drawn is None:
                held = fields[name]
                drawn = self._real(shape, 0.25, 0.75) if held is None else held
            arrays[f"state.{name}"] = drawn.astype(dtype, copy=False)
        return arrays

    def _real(self, shape: tuple[int, ...], least: float, most: float) -> np.ndarray:
        if self.kind in ORDINARY or self.kind in _COUNTS:
            return self._uniform(least, most, shape)
        sign = self.rng.integers(0, 2, shape, np.int8) * np.float32(2) - np.float32(1)
        if self.kind == MAGNITUDES:
            return sign * np.float32(10) ** self._uniform(-3, 3, shape)
        if self.kind == ZEROS:
            return sign * self._uniform(0.25, 2, shape) * (self.rng.random(shape, np.float32) < 0.75)
        return sign * self._uniform(0.05, 2, shape)

    def _uniform(self, least: float, most: float, shape: tuple[int, ...]) -> np.ndarray:
        """Numbers of float32: every variant has them exactly, and a step moves them without rounding."""
        return np.asarray(self.rng.random(shape, np.float32) * np.float32(most - least) + np.float32(least))

    def _whole(self, shape: tuple[int, ...]) -> np.ndarray:
        """Numbers that are in range as indices into any array; a count, of a point with large counts."""
        open_sizes = [size for dim, size in self.dims.items() if not dim.isdigit()]
        least = max(1, min(open_sizes, default=1))
        if shape:
            return self.rng.integers(0, min(least, 256), shape)
        if self.kind in _COUNTS:
            return np.asarray(self.rng.integers(*_COUNTS[self.kind]))
        return np.asarray(min(3, least))

    def _given(self, key: str, shape: tuple[int, ...]) -> np.ndarray | None:
        """What was recorded, or what the author draws; None for neither."""
        if key in self.recorded and self.recorded[key].shape == shape:
            return self.recorded[key]
        name = key.partition(".")[2]
        drawn = self.declaration.drawn(name, self.rng, shape, self.dims)
        return None if drawn is None else np.asarray(drawn)
