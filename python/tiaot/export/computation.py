"""What an entry computes: the primal, or which derivative by or along which inputs. Knows nothing of how."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

ALL_FIELDS = ("*",)  # stands for the fields, in place of the names of inputs that a vjp differentiates
MAKERS = ("tiaot", "taichi")  # of vjps: the reverse mode of this exporter, or Taichi's autodiff
DERIVATIVES = ("jvp", "hvp")  # that a kernel has where its author asks for them


@dataclass(frozen=True)
class Computation:
    """What an entry computes.

    `kind` is one of

    - "forward";
    - "vjp": the gradients of the inputs in `wrt`;
    - "grad": the adjoint on the state, whose `wrt` is ALL_FIELDS;
    - "jvp": the outputs, and their derivative along tangents of the inputs in `wrt`;
    - "hvp": the gradients of the inputs in `wrt`, and their derivative along tangents of the same inputs, which is the
      Hessian of <v, f> times these, for cotangents v.

    With ALL_FIELDS for `wrt`, a "jvp" is the kernel on the state and its derivative along the tangents of all fields,
    and an "hvp" the adjoint there and its derivative along them.
    """

    kind: str
    wrt: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """As in the symbols of entries: "forward", "vjp_W_b", "grad"."""
        return "_".join([self.kind, *self.wrt]) if self.wrt and self.wrt != ALL_FIELDS else self.kind

    @property
    def text(self) -> str:
        """For people: "forward", "vjp W b", "grad"."""
        return self.name.replace("_", " ") if self.wrt == ALL_FIELDS else " ".join([self.kind, *self.wrt])

    @property
    def forward_mode(self) -> bool:
        """Whether it has tangents."""
        return self.kind in DERIVATIVES


FORWARD = Computation("forward")
GRAD = Computation("grad", ALL_FIELDS)


def of_trace(wrt: tuple[str, ...], along: tuple[str, ...]) -> Computation:
    """What a trace is of, with tangents `along` some inputs, or none."""
    if along:
        return Computation("hvp" if wrt else "jvp", along)
    return GRAD if wrt == ALL_FIELDS else Computation("vjp", wrt) if wrt else FORWARD


def check_derivative(derivative: str | None) -> str | None:
    """Who makes the vjps of a kernel, None where that is left open.

    Raises:
        ValueError: for another than "tiaot" or "taichi".
    """
    if derivative is not None and derivative not in MAKERS:
        raise ValueError(f"derivative: expected one of {', '.join(map(repr, MAKERS))}, got {derivative!r}")
    return derivative


def check_derivatives(derivatives: Sequence[str]) -> tuple[str, ...]:
    """The derivatives that an author asks for, in the order of DERIVATIVES.

    Raises:
        ValueError: for another name, or one that stands there twice.
    """
    return _some_of("derivatives", derivatives, DERIVATIVES, f"some of {', '.join(DERIVATIVES)}")


def check_cuda_derivatives(on_cuda: Sequence[str] | None, derivatives: tuple[str, ...]) -> tuple[str, ...] | None:
    """Those of a kernel's derivatives that its code for CUDA has, too, in the order of DERIVATIVES; None for all.

    Raises:
        ValueError: for another name than one of these, or one that stands there twice.
    """
    if on_cuda is None:
        return None
    some = f"some of derivatives ({', '.join(derivatives)})"
    return _some_of(
        "cuda_derivatives", on_cuda, derivatives, some if derivatives else "none, since derivatives has none"
    )


def _some_of(option: str, given: Sequence[str], known: tuple[str, ...], expected: str) -> tuple[str, ...]:
    """What an option gives of the known names, in the order of these. `expected` says which, for a message."""
    if isinstance(given, str):
        raise ValueError(f"{option}: expected a list of names, got the text {given!r}")
    for each in given:
        if each not in known:
            raise ValueError(f"{option}: expected {expected}, got {each!r}")
    if len(set(given)) < len(given):
        raise ValueError(f"{option}: expected each name once, got {', '.join(given)}")
    return tuple(each for each in known if each in given)


def sets_along(wrt: Iterable[tuple[str, ...]], able: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """The sets of inputs with tangents: those of the vjps, and all inputs that can have one."""
    return tuple(dict.fromkeys([*wrt, *([able] if able else [])]))
