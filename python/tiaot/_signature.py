"""What inspect.signature tells of a kernel and its entries. Apart, because `inspect` is slow to import."""

from inspect import Parameter, Signature


def signature(names: tuple[str, ...], wrt: str | None, has_out: bool, has_stream: bool) -> Signature:
    """Operands by position or name, then the options; `wrt` is its default, None for an entry without this keyword."""
    keywords: dict[str, str | None] = {} if wrt is None else {"wrt": wrt}
    keywords |= {"out": None} if has_out else {}
    keywords |= {"num_threads": None, "stream": None} if has_stream else {"num_threads": None}
    return Signature(
        [Parameter(name, Parameter.POSITIONAL_OR_KEYWORD) for name in names]
        + [Parameter(name, Parameter.KEYWORD_ONLY, default=default) for name, default in keywords.items()]
    )
