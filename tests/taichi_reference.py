"""Taichi's own JIT on the shipped kernel: `python taichi_reference.py FILE` adds its results to the inputs in FILE."""

import runpy
import sys
from pathlib import Path

import numpy as np
import taichi as ti

SOURCE = Path(__file__).parents[1] / "kernels" / "dense_tanh.py"


def main(path: str) -> None:
    ti.init(arch=ti.cpu, offline_cache=False, fast_math=False, log_level=ti.ERROR)
    from tiaot.export import Variant

    data = dict(np.load(path))
    x, W, b, v = (data[name] for name in ("x", "W", "b", "v"))
    variant = Variant(x.dtype.name, {"n": x.shape[1], "m": W.shape[0]})
    kernel = runpy.run_path(str(SOURCE))["dense_tanh"](variant).forward
    arrays = []
    for array in (x, W, b, np.zeros_like(v)):
        arrays.append(ti.ndarray(variant.type, array.shape, needs_grad=True))
        arrays[-1].from_numpy(array)
    kernel(*arrays)
    arrays[3].grad.from_numpy(v)
    kernel.grad(*arrays)
    results = {f"grad_{name}": array.grad.to_numpy() for name, array in zip("xWb", arrays, strict=False)}
    np.savez(path, **data, y=arrays[3].to_numpy(), **results)


if __name__ == "__main__":
    main(sys.argv[1])
