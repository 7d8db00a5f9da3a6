"""NVIDIA's GPUs: which there are. Knows no LLVM."""

from __future__ import annotations

# 75 is compute capability 7.5. Code for one runs on later ones of the same major number, too.
ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)
# What a module gets where none are named. 8.9 runs code for 8.6, which in all kernels of dense_tanh is, instruction for
# instruction, what ptxas writes for 8.9.
BY_DEFAULT = tuple(each for each in ARCHITECTURES if each != 89)


def read_architectures(text: str) -> tuple[int, ...]:
    """Architectures as they are named on a command line, "sm_80,sm_90"; BY_DEFAULT for "".

    Raises:
        ValueError: for a name that is none of ours.
    """
    if not text:
        return BY_DEFAULT
    known = {f"sm_{architecture}": architecture for architecture in ARCHITECTURES}
    for name in text.split(","):
        if name not in known:
            raise ValueError(f"expected some of {', '.join(known)}, got {name!r}")
    return tuple(sorted({known[name] for name in text.split(",")}))
