"""What docs/reliability.md says, measured anew: each part prints its figures, and fails where a promise is broken.

    PYTHONPATH=build/dev/stage python tests/reliability.py [PART ...] [options]

    sanitizers  the runtime's C++ tests under gcc's address and undefined-behaviour sanitizers, and its thread sanitizer
    extension   the Python extension under the address sanitizer, in the tests of calls, errors, state and threads
    guards      calls whose arrays end, or begin, at a page that must not be touched, for all sizes from 0 to --most
    fuzz        libFuzzer on the loader and on the arguments of the C interface, --seconds each; needs clang++
    arguments   calls from Python with arguments drawn at random, hostile ones among them, for --seconds
    cycles      a module opened and called --cycles times, --forks children, --exits processes that end amid calls
    threads     16 threads that call, open, swap weights and close for --seconds
    torch       a C++ program without Python that runs what torch exported, with a kernel in it; needs torch

Without a name all of them run, which takes some minutes. Knows nothing of speed.
"""

import argparse
import ctypes
import itertools
import mmap
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tiaot

ROOT = Path(__file__).parents[1]
LEVELS = ("x86-64-v2", "x86-64-v3", "x86-64-v4")


def run(*command: str | Path, **environment: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def build(place: Path, *options: str, targets: tuple[str, ...] = ()) -> None:
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    run("cmake", "-S", ROOT / "runtime", "-B", place, *generator, "-DTIAOT_BUILD_TESTS=ON", *options)
    run("cmake", "--build", place, *(["--target", *targets] if targets else []))


def sanitizers(options: argparse.Namespace) -> None:
    for name in ("address,undefined", "thread"):
        with tempfile.TemporaryDirectory() as folder:
            flags = f"-fsanitize={name} -fno-sanitize-recover=all"
            build(Path(folder), "-DCMAKE_BUILD_TYPE=RelWithDebInfo", f"-DCMAKE_CXX_FLAGS={flags}")
            printed = run("ctest", "--test-dir", folder, "--output-on-failure", "--no-tests=error")
        [passed] = re.findall(r"100% tests passed(?:, 0 tests failed)? out of (\d+)", printed)  # of old and new CMakes
        print(f"sanitizers: {name}: {passed} test programs passed", flush=True)


# Tests that call the extension in every way, without Taichi, which it refuses. Left out is what fills the memory.
EXTENSION_TESTS = ("call", "errors", "hostile", "state", "value_and_vjp")


def extension(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        generator = ["-G", "Ninja"] if shutil.which("ninja") else []
        flags = "-fsanitize=address -fno-omit-frame-pointer"
        run("cmake", "-S", ROOT, "-B", folder, *generator, "-DCMAKE_BUILD_TYPE=RelWithDebInfo",
            f"-DCMAKE_CXX_FLAGS={flags}", f"-DPython_EXECUTABLE={sys.executable}",
            f"-DTIAOT_MODULES={Path(tiaot.load('dense_tanh').module.path).parent}")  # fmt: skip
        run("cmake", "--build", folder, "--target", "_core", "stage", "modules")
        libraries = [run("g++", f"-print-file-name={name}").strip() for name in ("libasan.so", "libstdc++.so.6")]
        environment = {
            "LD_PRELOAD": " ".join(libraries),
            "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
            "PYTHONMALLOC": "malloc",
            "PYTHONPATH": str(Path(folder) / "stage"),
        }
        printed = run(
            sys.executable, "-m", "pytest", "-q", "-n0", "-c", ROOT / "pyproject.toml",
            "-k", "not finalizer and not out_of_memory",
            *(ROOT / "tests" / f"test_{name}.py" for name in EXTENSION_TESTS),
            **environment,
        )  # fmt: skip
        print(f"extension: address: {printed.strip().splitlines()[-1]}", flush=True)
        fuzzer, seconds = ROOT / "tests/fuzz/fuzz_arguments.py", min(options.seconds, 60)
        printed = run(sys.executable, "-W", "ignore", fuzzer, "1", str(seconds), **environment)
        print(f"extension: address: {seconds} s of arguments: {printed.strip()}", flush=True)


class Guarded:
    """Memory between two pages that must not be touched."""

    def __init__(self, most: int) -> None:
        self.page = mmap.PAGESIZE
        self.size = (most + self.page - 1) // self.page * self.page
        self.map = mmap.mmap(-1, self.size + 2 * self.page)
        self.start = ctypes.addressof(ctypes.c_char.from_buffer(self.map)) + self.page
        libc = ctypes.CDLL(None, use_errno=True)
        for edge in (self.start - self.page, self.start + self.size):
            if libc.mprotect(ctypes.c_void_p(edge), ctypes.c_size_t(self.page), 0) != 0:  # PROT_NONE
                raise OSError(ctypes.get_errno(), "mprotect")

    def array(self, shape: tuple[int, ...], dtype: str, at_the_end: bool) -> np.ndarray:
        """An array that ends, or begins, where the memory does."""
        count = int(np.prod(shape))
        offset = self.size - count * np.dtype(dtype).itemsize if at_the_end else 0
        numbers = (ctypes.c_char * (count * np.dtype(dtype).itemsize)).from_address(self.start + offset)
        return np.frombuffer(numbers, dtype, count).reshape(shape)


def guarded_calls(most: int) -> Iterator[int]:
    """Calls every entry of the shipped kernel on guarded arrays; yields the number of calls, shape by shape. Each of
    its three dimensions takes every size that it may have."""
    kernel = tiaot.load("dense_tanh")
    memory = [Guarded(max(most, 33) * max(most, 33) * 8) for _ in range(9)]
    sizes = range(most + 1)
    layers = [(rows, n, m) for rows in sizes for n, m in ((8, 4), (3, 5), (1, 1), (17, 33))]
    layers += [layer for size in sizes[1:] for layer in ((3, size, 4), (3, 5, size), (2, size, size))]
    for (rows, n, m), dtype, at_the_end in itertools.product(layers, ("float32", "float64"), (True, False)):
        shapes = ((rows, n), (m, n), (m,), (rows, m), (rows, n), (m, n), (m,), (rows, m), (rows, n))
        x, W, b, v, gx, gW, gb, y, t = (
            each.array(shape, dtype, at_the_end) for each, shape in zip(memory, shapes, strict=True)
        )
        for each in (x, W, b, v, t):
            each[...] = 0.25
        kernel(x, W, b, out=y)
        kernel.vjp(x, W, b, v, out=gx)
        kernel.vjp(x, W, b, v, wrt=("x", "W", "b"), out=(gx, gW, gb))
        kernel.vjp(x, W, b, v, wrt=("W", "b"), out=(gW, gb))
        kernel.jvp(x, W, b, t)
        kernel.hvp(x, W, b, v, t)
        if rows and not np.allclose(y, np.tanh(0.0625 * n + 0.25)):
            raise SystemExit(f"guards: a wrong result at {(rows, n, m, dtype)}")
        yield 6


def guards(options: argparse.Namespace) -> None:
    for level in LEVELS[: LEVELS.index(tiaot.cpu_level()) + 1]:
        code = "import reliability, sys; print(sum(reliability.guarded_calls(int(sys.argv[1]))))"
        path = os.pathsep.join((str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")))
        calls = int(run(sys.executable, "-c", code, str(options.most), TIAOT_CPU_LEVEL=level, PYTHONPATH=path))
        print(f"guards: {level}: {calls} calls between guard pages, sizes 0 to {options.most}", flush=True)


def fuzz(options: argparse.Namespace) -> None:
    if shutil.which("clang++") is None:
        raise SystemExit("fuzz: needs clang++, for its libFuzzer")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        flags = "-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined"
        build(place / "build", "-DTIAOT_FUZZ=ON", "-DCMAKE_CXX_COMPILER=clang++", "-DCMAKE_BUILD_TYPE=RelWithDebInfo",
              f"-DCMAKE_CXX_FLAGS={flags}", targets=("fuzz_call", "fuzz_open"))  # fmt: skip
        for name in ("call", "open"):
            found = place / name  # what this run finds is put here, beside the inputs that are kept
            found.mkdir()
            program = place / "build/tests/fuzz" / f"fuzz_{name}"
            done = subprocess.run(
                [program, f"-max_total_time={options.seconds}", "-max_len=400", "-timeout=30", "-rss_limit_mb=4096",
                 f"-artifact_prefix={Path.cwd()}/fuzz-{name}-", found, ROOT / "tests/fuzz/corpus" / name],
                capture_output=True, text=True, check=False,
                env={**os.environ, "ASAN_OPTIONS": "allocator_may_return_null=1"},
            )  # fmt: skip
            if done.returncode != 0:
                raise SystemExit(f"fuzz: {name}: an input that breaks a promise\n{done.stderr[-4000:]}")
            [runs] = re.findall(r"Done (\d+) runs", done.stderr)
            covered = re.findall(r"cov: (\d+)", done.stderr)[-1]
            print(f"fuzz: {name}: {runs} inputs in {options.seconds} s, {covered} edges, nothing found", flush=True)


def arguments(options: argparse.Namespace) -> None:
    fuzzer = ROOT / "tests/fuzz/fuzz_arguments.py"
    seed = str(time.time_ns() % 10**6)
    printed = run(sys.executable, "-W", "ignore", fuzzer, seed, str(options.seconds)).strip()
    print(f"arguments: seed {seed}, {options.seconds} s: {printed}, none wrong", flush=True)


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


ARRAYS = [np.full(shape, 0.25, np.float32) for shape in ((2, 8), (4, 8), (4,))]
RIGHT = np.tanh(np.float32(0.75))

# Ends in the middle of calls of its threads, of which some are daemons.
EXITS = """
import sys, threading
import numpy as np, tiaot
kernel = tiaot.load("dense_tanh")
x, W, b = np.zeros((20000, 8), "f"), np.zeros((4, 8), "f"), np.zeros(4, "f")
def call():
    while True: kernel(x, W, b)
for _ in range(3): threading.Thread(target=call, daemon=True).start()
kernel(x, W, b)
sys.exit(7)
"""


def cycles(options: argparse.Namespace) -> None:
    path = tiaot.load("dense_tanh").module.path
    each, sizes = max(1, options.cycles // 10), []
    for _ in range(10):
        for _ in range(each):
            if not np.allclose(tiaot.open(path).dense_tanh(*ARRAYS), RIGHT):
                raise SystemExit("cycles: a wrong result")
        sizes.append(resident())
    # The system gives and takes pages as it likes, a module's worth and more: the least of several tells what stays.
    grown = (min(sizes[5:]) - min(sizes[1:5])) / (5 * each)
    files = len(os.listdir("/proc/self/fd"))
    if grown > 1024:
        raise SystemExit(f"cycles: {grown:.0f} bytes more each time that a module is opened")
    figures = f"{max(grown, 0):.0f} bytes more each time, {files} files open"
    print(f"cycles: {options.cycles} times opened, called and closed: {figures}", flush=True)

    big = [np.full((20000, 8), 0.25, np.float32), *ARRAYS[1:]]
    kernel = tiaot.load("dense_tanh")
    kernel(*big)  # the pool has threads now
    for _ in range(options.forks):
        child = os.fork()
        if child == 0:
            opened = tiaot.open(path).dense_tanh
            os._exit(0 if np.allclose(kernel(*big), RIGHT) and np.allclose(opened(*ARRAYS), RIGHT) else 1)
        if os.waitpid(child, 0)[1] != 0:
            raise SystemExit("cycles: a forked child failed")
    print(f"cycles: {options.forks} forked children that call and open: each right", flush=True)
    for _ in range(options.exits):
        done = subprocess.run([sys.executable, "-c", EXITS], capture_output=True, text=True, check=False, timeout=60)
        if (done.returncode, done.stderr) != (7, ""):
            raise SystemExit(f"cycles: a process that exits amid calls: exit code {done.returncode}, {done.stderr}")
    print(f"cycles: {options.exits} processes that exit amid calls: each quiet, with its own exit code", flush=True)


def threads(options: argparse.Namespace) -> None:
    path = tiaot.load("dense_tanh").module.path
    end = time.monotonic() + options.seconds
    counts = {"calls": 0, "opened": 0, "swaps": 0, "wrong": 0}
    # Module and weights in one: a thread takes both at once.
    now = {"snapshot": (tiaot.open(path).dense_tanh, *ARRAYS[1:])}
    lock = threading.Lock()

    def count(**more: int) -> None:
        with lock:
            for name, number in more.items():
                counts[name] += number

    def call(number: int) -> None:
        x = np.full((2 if number % 4 else 4000, 8), 0.25, np.float32)
        calls = wrong = 0
        while time.monotonic() < end:
            kernel, W, b = now["snapshot"]
            calls += 1
            wrong += not np.allclose(kernel(x, W, b), np.tanh(3 * W[0, 0]))
        count(calls=calls, wrong=wrong)

    def swap() -> None:
        swaps = 0
        while time.monotonic() < end:
            weight = np.float32(0.25 + 0.125 * (swaps % 3))
            now["snapshot"] = (tiaot.open(path).dense_tanh, np.full((4, 8), weight), np.full(4, weight))
            swaps += 1
        count(opened=swaps, swaps=swaps)

    def load() -> None:
        opened = wrong = 0
        while time.monotonic() < end:
            wrong += not np.allclose(tiaot.open(path).dense_tanh(*ARRAYS), RIGHT)
            opened += 1
        count(opened=opened, wrong=wrong)

    workers = [threading.Thread(target=call, args=(number,)) for number in range(12)]
    workers += [threading.Thread(target=target) for target in (swap, swap, load, load)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    text = ", ".join(f"{number} {name}" for name, number in counts.items())
    print(f"threads: {len(workers)} threads for {options.seconds} s: {text}", flush=True)
    if counts["wrong"]:
        raise SystemExit("threads: wrong results")


# Writes a package of AOTInductor's, and what is to come of it.
PACKAGE = """
import sys, torch, tiaot
layer = tiaot.torch.DenseTanh(8, 4)
with torch.no_grad():
    layer.W.fill_(0.25), layer.b.fill_(-0.5)
program = torch.export.export(torch.nn.Sequential(layer, torch.nn.Tanh()), (torch.zeros(2, 8),))
torch._inductor.aoti_compile_and_package(program, package_path=sys.argv[1])
"""


def torch(options: argparse.Namespace) -> None:
    kernel = tiaot.load("dense_tanh")
    name = f"tiaot::dense_tanh_{kernel.module.hash[:12]}"
    found = "import torch; print(torch.utils.cmake_prefix_path)"
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        run(sys.executable, "-c", PACKAGE, place / "model.pt2", TORCHINDUCTOR_CACHE_DIR=str(place / "cache"))
        run("cmake", "-S", ROOT / "examples/torch", "-B", place / "build", f"-DMODULE={kernel.module.path}",
            f"-Dtiaot_DIR={run(sys.executable, '-m', 'tiaot', 'config', '--cmakedir').strip()}",
            f"-DTorch_DIR={run(sys.executable, '-c', found).strip()}/Torch")  # fmt: skip
        run("cmake", "--build", place / "build")
        printed = run(place / "build/model", place / "model.pt2", name)
        libraries = run("ldd", place / "build/model")
    values = {name: np.array(numbers, float) for name, *numbers in map(str.split, printed.splitlines())}
    x = np.linspace(0, 1, 16).reshape(2, 8)
    y = np.tanh(0.125 * x.sum(axis=1) - 0.25)[:, None] * np.ones(4)
    slope = 2 * y * (1 - y * y)
    right = {
        "model": np.tanh(np.tanh(0.25 * x.sum(axis=1) - 0.5))[:, None] * np.ones(4),
        "y": y,
        "gW": slope.T @ x,
        "gb": slope.sum(axis=0),
    }
    wrong = [name for name in right if not np.allclose(values[name], right[name].ravel(), atol=2e-6)]
    if wrong or "libpython" in libraries:
        raise SystemExit(f"torch: {wrong or 'there is a Python'}\n{printed}{libraries}")
    print(f"torch: a program without Python: {', '.join(right)} are right", flush=True)


PARTS = {part.__name__: part for part in (sanitizers, extension, guards, fuzz, arguments, cycles, threads, torch)}


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--most", type=int, default=257, metavar="SIZE")
    parser.add_argument("--seconds", type=int, default=600, help="of each fuzzer, of arguments and of threads")
    parser.add_argument("--cycles", type=int, default=5000)
    parser.add_argument("--forks", type=int, default=2500)
    parser.add_argument("--exits", type=int, default=1000)
    options = parser.parse_args(words)
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"there is no part {sorted(unknown)[0]!r}; there are {', '.join(PARTS)}")
    for name in options.parts or PARTS:
        PARTS[name](options)


if __name__ == "__main__":
    main()
