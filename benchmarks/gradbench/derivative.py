"""Who makes the adjoint of the kernels in kernels/: options for their decorators, from the environment."""

from __future__ import annotations

import os
from typing import Any

VARIABLE = "TIAOT_GRADBENCH_DERIVATIVE"


def gradient(wrt: str) -> dict[str, Any]:
    """A decorator's options for the gradient by the inputs that are named: by Taichi, by tiaot, or "none"."""
    chosen = os.environ.get(VARIABLE, "taichi")
    if chosen == "none":
        return {"wrt": []}
    return {"wrt": [wrt]} if chosen == "taichi" else {"wrt": [wrt], "derivative": chosen}
