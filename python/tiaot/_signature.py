"""What inspect.signature tells of a kernel and its entries. Apart, because `inspect` is slow to import."""

from inspect import Parameter, Signature


def signature(names: tuple[str, ...], wrt: str | None) -> Signature:
    """Arrays by position, then the keywords; `wrt` is its default, None for an entry that has no such keyword."""
    keywords = {"out": None, "num_threads": None} if wrt is None else {"wrt": wrt, "out": None, "num_threads": None}
    return Signature(
        [Parameter(name, Parameter.POSITIONAL_ONLY) for name in names]
        + [Parameter(name, Parameter.KEYWORD_ONLY, default=default) for name, default in keywords.items()]
    )
