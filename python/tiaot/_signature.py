"""What inspect.signature and help tell of one kernel and its entries. Apart, because `inspect` is slow to import."""

from collections.abc import Sequence
from inspect import Parameter, Signature, cleandoc


def signature(
    names: Sequence[str], wrt: str | tuple[str, ...] | None, has_mode: bool, has_out: bool, has_stream: bool
) -> Signature:
    """Operands by position or name, then the options; `wrt` is its default, None for an entry without this keyword."""
    keywords: dict[str, str | tuple[str, ...] | None] = {} if wrt is None else {"wrt": wrt}
    keywords |= {"mode": None} if has_mode and "mode" not in names else {}
    keywords |= {"out": None} if has_out else {}
    keywords |= {"num_threads": None, "stream": None} if has_stream else {"num_threads": None}
    return Signature(
        [Parameter(name, Parameter.POSITIONAL_OR_KEYWORD) for name in names]
        + [Parameter(name, Parameter.KEYWORD_ONLY, default=default) for name, default in keywords.items()]
    )


def documentation(
    callable_: object, name: str, about: str, text: str, declared: str, arguments: Sequence[tuple[str, str]]
) -> str:
    """The docstring of a kernel or an entry.

    about: what it computes. text: what its author says. declared: the signature in its source. arguments: the name of
    each, and what it may be.
    """
    kind = type(callable_).__name__
    paragraphs = [
        f"{name}{callable_.__signature__}",  # type: ignore[attr-defined]
        about,
        cleandoc(text),
        f"{declared}\n" + "\n".join(f"    {argument}: {forms}" for argument, forms in arguments),
        f"What holds for every {kind} is in help(tiaot.{kind}).",
    ]
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)
