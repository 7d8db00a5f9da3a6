"""Checks of whole results on a CUDA device: a real one, with arrays of torch or CuPy, or the stand-in for the driver.

    python cuda_numerics.py check|digests torch|cupy FOLDER
    python cuda_numerics.py check|digests interpreted FOLDER --standin LIBRARY --multiprocessors NUMBER

FOLDER has a module NAME.so for each source of kernels. With `interpreted` it is their PTX that
runs, and TIAOT_CUDA_PTX has to be 1.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tiaot
from cases import CASES, SEED_RESULT, seed_inputs
from kernel_cases import DRAWN, RANDOM, draw
from numerics import Arrays, check
from whole_cases import outputs

SIZES = (0, 1, 31, 33, 127, 128, 129, 513, 5000)  # around a warp, a block of threads, several blocks
DIGEST_SIZES = (513, 20000)  # the second one takes more threads than a small device has


class StandinArrays(Arrays):
    """NumPy's memory, said to be on a device."""

    def full(self, size: int, value: int, dtype: np.dtype) -> Any:
        from cuda_arrays import OfLibrary

        return OfLibrary(np.full(size, value, dtype))

    def view(self, memory: Any, shape: tuple[int, ...]) -> Any:
        return type(memory)(super().view(memory.array, shape))

    def write(self, array: Any, values: np.ndarray) -> None:
        array.array[...] = values

    def read(self, array: Any) -> np.ndarray:
        return array.array


class TorchArrays(Arrays):
    def full(self, size: int, value: int, dtype: np.dtype) -> Any:
        import torch

        return torch.full((size,), value, dtype=getattr(torch, np.dtype(dtype).name), device="cuda")

    def write(self, array: Any, values: np.ndarray) -> None:
        import torch

        array.copy_(torch.from_numpy(np.array(values)))

    def read(self, array: Any) -> np.ndarray:
        return array.cpu().numpy()


class CupyArrays(Arrays):
    def full(self, size: int, value: int, dtype: np.dtype) -> Any:
        import cupy

        return cupy.full(size, value, dtype)

    def write(self, array: Any, values: np.ndarray) -> None:
        array.set(np.array(values, order="C"))

    def read(self, array: Any) -> np.ndarray:
        return array.get()


ARRAYS: dict[str, type[Arrays]] = {"torch": TorchArrays, "cupy": CupyArrays}


# ---- the case table


def check_case(arrays: Arrays, module: tiaot.Module, dtype: type) -> None:
    """Every size of every case, as on the CPU, and with arrays that are aligned to their elements only; small Jacobians
    beside the CPU's."""
    for case in CASES:
        kernel = module.kernels[case.name]
        for size in case.sizes:
            check(case, kernel, size, np.dtype(dtype), arrays)
            check(case, kernel, size, np.dtype(dtype), type(arrays)(shift=1))
        for size in ((1, 8, 4), (3, 8, 4), (2, 5, 6), (0, 8, 4)):
            inputs, _ = case.draw(size, np.dtype(dtype))
            expected = kernel.jacobian(*inputs, wrt=("x", "W", "b"))
            results = tuple(arrays.room(each.shape, each.dtype) for each in expected)
            kernel.jacobian(*(arrays.put(each) for each in inputs), wrt=("x", "W", "b"), out=results)
            for result, right in zip(results, expected, strict=True):
                tolerance = (size[1] + 8) * np.finfo(dtype).eps
                np.testing.assert_allclose(arrays.read(result), right, rtol=0, atol=tolerance * max_of(right))
                assert arrays.guards_hold(result)


def check_seed(arrays: Arrays, module: tiaot.Module) -> None:
    """The project's first promise, and that a call without `out` gives an array on the device."""
    result = module.dense_tanh.vjp(*(arrays.put(each) for each in seed_inputs()))
    assert np.abs(arrays.read(result) - SEED_RESULT).max() <= 5e-6


# ---- any kernel, beside the same module's code for the CPU


def max_of(array: np.ndarray) -> float:
    return max(1.0, float(np.abs(array.astype(np.float64)).max(initial=0)))


def close(result: np.ndarray, right: np.ndarray, elements: int, what: str) -> None:
    """Two results of the same computation in different orders: off by a rounding for each of the steps to an element,
    for which a hundred is taken (eight in float16, whose kernels are short), and for each element of the input that may
    have been added up in it."""
    assert result.shape == right.shape and result.dtype == right.dtype, what
    if right.dtype.kind != "f":
        np.testing.assert_array_equal(result, right, what)
        return
    steps = (8 if right.dtype == np.float16 else 100) + elements // max(right.size, 1)
    tolerance = steps * float(np.finfo(right.dtype).eps)
    np.testing.assert_allclose(
        result.astype(np.float64), right.astype(np.float64), tolerance, tolerance * max_of(right), err_msg=what
    )


def about(kernel: Any) -> dict[str, Any]:
    return next(each for each in kernel.module.info()["kernels"] if each["name"] == kernel.name)


def variant_of(kernel: Any, inputs: list) -> dict[str, Any]:
    """The variant that a call with these inputs takes."""
    described = about(kernel)
    for variant in described["variants"]:
        fits = True
        sizes: dict[str, int] = {}
        for argument, value in zip(described["inputs"], inputs, strict=True):
            if isinstance(value, np.ndarray):
                fits &= value.dtype.name == variant["dtypes"][argument["name"]]
                sizes |= dict(zip(argument["dims"], value.shape, strict=True))
        if fits and all(sizes.get(dim, size) == size for dim, size in variant["fixed"].items()):
            return variant
    raise AssertionError(f"{kernel.name}: no variant fits")


def calls(kernel: Any, inputs: list) -> Iterator[tuple[dict[str, Any], Callable[..., Any], list, list[np.ndarray]]]:
    """Every entry: (its description, the call, its inputs, what it computes on the CPU)."""
    rng = np.random.default_rng(7)

    def like(each: Any) -> np.ndarray:
        return rng.uniform(-1, 1, np.shape(each)).astype(np.asarray(each).dtype)

    variant = variant_of(kernel, inputs)
    forward = outputs(kernel, inputs)
    cotangents = [like(each) for each in forward]
    named = dict(zip((argument["name"] for argument in about(kernel)["inputs"]), inputs, strict=True))
    for entry in variant["entries"]:
        if entry["kind"] == "forward":

            def primal(*given: Any, out: tuple) -> None:
                kernel(*given, out=out if len(out) > 1 else out[0])

            yield entry, primal, inputs, forward
            continue
        wrt = tuple(entry["wrt"])
        tangents = [like(named[name]) for name in wrt]
        if entry["kind"] == "jvp":
            yield entry, *along_tangents(kernel.jvp, [*inputs, *tangents], wrt)
        elif entry["kind"] == "hvp":
            yield entry, *along_tangents(kernel.hvp, [*inputs, *cotangents, *tangents], wrt)
        else:

            def pull_back(*given: Any, out: tuple, wrt: tuple[str, ...] = wrt) -> None:
                kernel.vjp(*given, wrt=wrt, out=out)

            every = [*inputs, *cotangents]
            yield entry, pull_back, every, list(kernel.vjp(*every, wrt=wrt))


def along_tangents(
    call: Callable[..., Any], every: list, wrt: tuple[str, ...]
) -> tuple[Callable[..., Any], list, list[np.ndarray]]:
    """A jvp or an hvp as `calls` has it, with its two results, or tuples of results, one behind the other."""

    def as_tuple(value: Any) -> tuple:
        return value if isinstance(value, tuple) else (value,)

    first, second = call(*every, wrt=wrt)
    single = not isinstance(first, tuple)

    def flat(*given: Any, out: tuple) -> None:
        half = len(out) // 2
        call(*given, wrt=wrt, out=out if single else (out[:half], out[half:]))

    return flat, every, [*as_tuple(first), *as_tuple(second)]


def run(
    arrays: Arrays, call: Callable[..., Any], inputs: list, like: list[np.ndarray], dtypes: list, numbers_there: bool
) -> list[np.ndarray]:
    """The results of a call on the device. Numbers are given as they are, or in the device's memory."""
    given: list[Any] = []
    try:
        for value, dtype in zip(inputs, dtypes, strict=True):
            if isinstance(value, np.ndarray):
                given.append(arrays.put(value))
            else:
                given.append(arrays.put(np.array(value, dtype)) if numbers_there else value)
        results = tuple(arrays.room(each.shape, each.dtype) for each in like)
        call(*given, out=results)
        assert all(arrays.guards_hold(result) for result in results), "wrote outside of a result"
        for array, value in zip(given, inputs, strict=True):
            if isinstance(value, np.ndarray):
                assert arrays.read(array).tobytes() == value.tobytes(), "an input was written to"
                assert arrays.guards_hold(array), "wrote beside an input"
        return [arrays.read(result).copy() for result in results]
    finally:
        arrays.forget()  # where a call is refused too: other memory may come to lie where these arrays lay


def types_of(kernel: Any, inputs: list, every: list) -> list:
    """The element types that numbers have to have as arrays; None for cotangents, which are arrays."""
    described, variant = about(kernel), variant_of(kernel, inputs)
    names = [argument["name"] for argument in described["inputs"]]
    return [*(variant["dtypes"][name] for name in names), *[None] * (len(every) - len(names))]


def is_ordered(entry: dict[str, Any], results: list[np.ndarray]) -> bool:
    """Whether the results of an entry are the same bits each time: always, or where 1024 copies of them are less than
    64 MiB."""
    small = sum(each.nbytes for each in results) <= 1 << 16
    return entry["cuda_order"] == "ordered" or (entry["cuda_order"] == "ordered if small" and small)


def check_kernel(arrays: Arrays, module: tiaot.Module, file: str, name: str, sizes: tuple[int, ...]) -> None:
    """Every entry of a kernel at every size: beside the CPU's result, and the same bits a second time, with arrays that
    are aligned to their elements only and with numbers in the device's memory."""
    kernel = module.kernels[name]
    shifted = type(arrays)(shift=1)
    for n in sizes:
        inputs = draw(file, name, n)
        elements = sum(np.size(each) for each in inputs)
        for entry, call, every, right in calls(kernel, inputs):
            what = f"{entry['symbol']} at {n}"
            types = types_of(kernel, inputs, every)
            if not entry["cuda"]:
                assert entry["cuda_missing"]
                try:
                    run(arrays, call, every, right, types, False)
                except NotImplementedError as error:
                    assert str(error).endswith(f"has no CUDA code: {entry['cuda_missing']}"), str(error)
                else:
                    raise AssertionError(f"{what}: ran without CUDA code")
                continue
            found = [run(each, call, every, right, types, there) for each, there in ((arrays, False), (shifted, True))]
            if is_ordered(entry, right):
                for one, other in zip(*found, strict=True):
                    assert one.tobytes() == other.tobytes(), f"{what}: other bits the second time"
            for results in found:
                for result, value in zip(results, right, strict=True):
                    if name in RANDOM:
                        continue
                    if name == "compact":  # what is kept, in whatever order
                        result, value = np.sort(result, None), np.sort(value, None)
                    close(result, value, elements, what)


def check_random(arrays: Arrays, module: tiaot.Module, name: str) -> None:
    """Random numbers by their statistics: 40000 normal ones, none twice, and others for another seed."""
    n = 40000
    drawn = []
    for seed in (1, 1, 2):
        y = arrays.room((n,), np.dtype(np.float64))
        module.kernels[name](arrays.put(np.zeros(n)), seed, out=y)
        drawn.append(arrays.read(y).copy())
    one, again, other = drawn
    assert one.tobytes() == again.tobytes()
    assert len(np.unique(one)) == n and not np.any(one == other)
    assert abs(one.mean()) < 5 / np.sqrt(n) and abs(one.std() - 1) < 5 / np.sqrt(2 * n)
    assert abs(np.corrcoef(one, other)[0, 1]) < 5 / np.sqrt(n)
    assert abs(np.corrcoef(one[1:], one[:-1])[0, 1]) < 5 / np.sqrt(n)
    assert abs((one**4).mean() - 3) < 5 * np.sqrt(96 / n)


def digests(arrays: Arrays, folder: Path) -> dict[str, str]:
    """A hash of the results of every entry whose order is fixed, at two sizes."""
    found = {}
    for file, kernels in DRAWN.items():
        with tiaot.open(folder / f"{file}.so") as module:
            for name, n in itertools.product(kernels, DIGEST_SIZES):
                inputs = draw(file, name, n)
                for entry, call, every, right in calls(module.kernels[name], inputs):
                    if is_ordered(entry, right):
                        results = run(arrays, call, every, right, types_of(module.kernels[name], inputs, every), False)
                        content = b"".join(each.tobytes() for each in results)
                        found[f"{entry['symbol']} at {n}"] = hashlib.sha256(content).hexdigest()
    return found


def launches(driver: Any) -> list[tuple[str, int]]:
    """(kernel, blocks) of what the stand-in was asked to launch."""
    lines = driver.calls("cuLaunchKernel")
    return [(line.split("kernel=")[1].split()[0], int(line.split("grid=")[1].split()[0])) for line in lines]


# ---- on a real device


def check_large_batch(module: tiaot.Module) -> str | None:
    """More than 2^31 elements. A reason where there is not memory enough."""
    import torch

    case, n, m = CASES[0], 8, 4
    B = (1 << 28) + 5000
    free = torch.cuda.mem_get_info()[0]
    needed = 4 * B * (2 * n + m) * 5 // 4
    if free < needed:
        return f"needs {needed >> 30} GiB of free memory, has {free >> 30}"
    rng = np.random.default_rng(0)
    W, b = rng.standard_normal((m, n)).astype(np.float32), rng.standard_normal(m).astype(np.float32)
    x, v = torch.zeros((B, n), device="cuda"), torch.zeros((B, m), device="cuda")
    rows = [77, (1 << 28) + 3, B - 1]
    for row in rows:
        x[row], v[row] = (torch.from_numpy(rng.standard_normal(k).astype(np.float32)) for k in (n, m))
    at = x[rows].cpu().numpy(), v[rows].cpu().numpy()
    reference = case.vjp([at[0], W, b], at[1])
    gradients = module.dense_tanh.vjp(x, torch.from_numpy(W).cuda(), torch.from_numpy(b).cuda(), v, wrt=("x", "W", "b"))
    reference["x"].check(gradients[0][rows].cpu().numpy(), "gradient of x")
    for name, gradient in zip(("W", "b"), gradients[1:], strict=True):
        reference[name].check(gradient.cpu().numpy(), f"gradient of {name}")
    return None


def checks(
    arrays: Arrays, folder: Path, only: str | None, sizes: tuple[int, ...]
) -> Iterator[tuple[str, Callable[[], str | None]]]:
    """Everything, by name; or what is of one file."""

    def opened(file: str, check_it: Callable[[tiaot.Module], str | None]) -> Callable[[], str | None]:
        def run_check() -> str | None:
            with tiaot.open(folder / f"{file}.so") as module:
                return check_it(module)

        return run_check

    for file in DRAWN if only is None else [only]:
        if file == "dense_tanh":
            for dtype in (np.float32, np.float64):
                yield f"cases {dtype.__name__}", opened(file, lambda m, d=dtype: check_case(arrays, m, d))
            yield "seed", opened(file, lambda m: check_seed(arrays, m))
            if isinstance(arrays, TorchArrays):
                yield "more than 2^31 elements", opened(file, check_large_batch)
        for name in DRAWN[file]:
            yield f"{file}.{name}", opened(file, lambda m, f=file, n=name: check_kernel(arrays, m, f, n, sizes))
            if name in RANDOM:
                yield f"{file}.{name} drawn", opened(file, lambda m, n=name: check_random(arrays, m, n))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="cuda_numerics.py", description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("check", "digests"))
    parser.add_argument("arrays", choices=[*ARRAYS, "interpreted"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", help="one of the modules")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--standin", help="the stand-in for the driver")
    parser.add_argument("--multiprocessors", type=int, default=2)
    parser.add_argument("--launched", action="store_true", help="on the stand-in: print what was launched, too")
    parser.add_argument("--order", type=int, default=0, help="of the warps, as standin_set_interpreter has it")
    options = parser.parse_args(argv)
    if options.arrays == "interpreted":
        import cuda_interpreted
        from cuda_arrays import Driver

        driver = Driver(options.standin)
        cuda_interpreted.use_interpreter(driver, options.multiprocessors)
        driver.set_interpreter(options.order, options.order != 0, None)
        cuda_interpreted.InterpretedArrays.driver = driver
        arrays: Arrays = cuda_interpreted.InterpretedArrays()
    else:
        arrays = ARRAYS[options.arrays]()
    if options.launched:
        driver.calls()
    if options.what == "digests":
        found = digests(arrays, options.folder)
        if options.launched:
            print("grids:", *(f"{kernel}:{grid}" for kernel, grid in launches(driver)))
        json.dump(found, sys.stdout)
        return 0
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for name, check_it in checks(arrays, options.folder, options.only, tuple(options.sizes)):
        try:
            reason = check_it()
        except Exception as error:  # whatever it is: the others are checked all the same
            counts["failed"] += 1
            print(f"FAILED {name}: {type(error).__name__}: {error}"[:1500], flush=True)
            traceback.print_exc(limit=-2)
            continue
        counts["skipped" if reason else "passed"] += 1
        if reason:
            print(f"skipped {name}: {reason}", flush=True)
    if options.launched:
        print("launched:", *sorted({kernel for kernel, _ in launches(driver)}))
    print(f"{options.arrays}: " + ", ".join(f"{count} {outcome}" for outcome, count in counts.items()), flush=True)
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
