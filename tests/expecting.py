"""What tests of messages share: an exception of a type, whose whole message is known."""

import re
from collections.abc import Callable

import pytest


def expect(exception: type[Exception], message: str, call: Callable[[], object]) -> None:
    with pytest.raises(exception, match="^" + re.escape(message) + "$") as caught:
        call()
    assert type(caught.value) is exception
