"""Times dense_tanh on a GPU: tiaot beside torch and JAX, each checked before it is timed. Knows no files and no tables.

Of every call: the host's time to put it on the stream, the time between events around it on the GPU, and both together,
with one wait at the end. Where the GPU has less to do than the host, the time between events is the host's.
"""

from __future__ import annotations

import functools
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .cases import Case, Inputs, check, make_inputs, reference

# (B, n, m): call cost, the small layer in bulk, then matrix products.
SIZES = (
    (2, 8, 4),
    (1024, 8, 4),
    (65536, 8, 4),
    (1 << 20, 8, 4),
    (4096, 64, 64),
    (65536, 256, 256),
    (1024, 1024, 1024),
)
TASKS = ("x", "forward", "xWb")  # the most wanted first: what the time does not suffice for is left out
_SAMPLE = 4e-3  # seconds that the calls of one sample take together, about
_MOST_CALLS = 500
_ROUNDS = 15

Call = Callable[[], Any]


@dataclass(frozen=True)
class Problem:
    """One task at one size, its inputs on the device."""

    case: Case
    task: str
    device: str
    tensors: tuple[Any, ...]  # x, W, b, v of torch
    arrays: Inputs  # the same, of NumPy


def make_problem(size: tuple[int, int, int], task: str, device: str) -> Problem:
    import torch

    case = Case(*size, "x" if task == "forward" else task)
    arrays = make_inputs(case)
    tensors = tuple(torch.from_numpy(each).to(device) for each in vars(arrays).values())
    return Problem(case, task, device, tensors, arrays)


def wrong(problem: Problem, results: Any) -> str:
    """'' when the results are right, else what is wrong."""
    every = results if isinstance(results, (tuple, list)) else (results,)
    found = tuple(np.asarray(each.detach().cpu() if hasattr(each, "detach") else each) for each in every)
    if problem.task != "forward":
        return check(problem.case, found, _reference(problem.case))
    right, allowed = _forward(problem.case)
    error = np.abs(found[0] - right)
    return "" if np.all(error <= allowed) else f"off by {np.max(error):.1e}"


@functools.lru_cache(maxsize=1)
def _forward(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """y, and the error allowed: of the sums as a random walk, eight deviations of it, and of tanh."""
    x, W, b, _ = (each.astype(np.float64) for each in vars(make_inputs(case)).values())
    terms = np.abs(x) @ np.abs(W.T) + np.abs(b)
    return np.tanh(x @ W.T + b), 8 * np.finfo(np.float32).eps * (np.sqrt(case.n + 1) * terms + 1)


@functools.lru_cache(maxsize=1)
def _reference(case: Case) -> Any:
    return reference(case, make_inputs(case))


# ---- the contenders: each makes a call of a problem, or raises NotImplementedError


def _tiaot(problem: Problem) -> Call:
    import tiaot

    kernel = tiaot.load("dense_tanh")
    x, W, b, v = problem.tensors
    if problem.task == "forward":
        return lambda: kernel(x, W, b)
    wrt = problem.case.wrt
    return lambda: kernel.vjp(x, W, b, v, wrt=wrt)


def _tiaot_bound(problem: Problem) -> Call:
    import tiaot
    import torch

    kernel = tiaot.load("dense_tanh")
    x, W, b, v = problem.tensors
    if problem.task == "forward":
        return kernel.bind(x, W, b, out=torch.empty_like(v))
    places = dict(zip("xWb", (x, W, b), strict=True))
    out = tuple(torch.empty_like(places[name]) for name in problem.case.wrt)
    return kernel.vjp.bind(x, W, b, v, wrt=problem.case.wrt, out=out)


def _tiaot_autograd(problem: Problem) -> Call:
    import tiaot.torch

    return _autograd(problem, tiaot.torch.load("dense_tanh"))


def _layer(x: Any, W: Any, b: Any) -> Any:
    import torch

    return torch.tanh(torch.nn.functional.linear(x, W, b))


def _by_hand(problem: Problem) -> Call:
    import torch

    x, W, b, v = problem.tensors
    if problem.task == "forward":
        return lambda: _layer(x, W, b)
    function = _x_by_hand if problem.task == "x" else _all_by_hand
    return torch.no_grad()(lambda: function(x, W, b, v))


def _x_by_hand(x: Any, W: Any, b: Any, v: Any) -> Any:
    y = _layer(x, W, b)
    return (((1 - y * y) * v) @ W,)


def _all_by_hand(x: Any, W: Any, b: Any, v: Any) -> Any:
    y = _layer(x, W, b)
    d = (1 - y * y) * v
    return d @ W, d.T @ x, d.sum(0)


def _compiled(problem: Problem) -> Call:
    import torch

    x, W, b, v = problem.tensors
    torch._dynamo.reset()
    if problem.task == "forward":
        forward = torch.compile(_layer, dynamic=False)
        return lambda: forward(x, W, b)
    function = torch.compile(_x_by_hand if problem.task == "x" else _all_by_hand, dynamic=False)
    return lambda: function(x, W, b, v)


def _torch_autograd(problem: Problem) -> Call:
    return _autograd(problem, _layer)


def _autograd(problem: Problem, layer: Callable[..., Any]) -> Call:
    import torch

    if problem.task == "forward":
        raise NotImplementedError("no gradient")
    x, W, b, v = problem.tensors
    leaves = {name: tensor.detach() for name, tensor in zip("xWb", (x, W, b), strict=True)}
    wanted = [leaves[name].requires_grad_() for name in problem.case.wrt]
    return lambda: torch.autograd.grad(layer(*leaves.values()), wanted, v)


def _graph_of(make: Callable[[Problem], Call]) -> Callable[[Problem], Call]:
    """The same call as a CUDA graph, replayed."""

    def prepare(problem: Problem) -> Call:
        import torch

        if problem.device != "cuda":
            raise NotImplementedError("needs a GPU")
        call = make(problem)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            call()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            results = call()

        def replay() -> Any:
            graph.replay()
            return results

        return replay

    return prepare


def _jax(problem: Problem) -> Call:
    import jax
    from jax import numpy as jnp

    x, W, b, v = (jnp.asarray(each) for each in vars(problem.arrays).values())
    if problem.device == "cuda" and x.device.platform != "gpu":
        raise NotImplementedError("this JAX has no GPU")

    def forward(x: Any, W: Any, b: Any) -> Any:
        return jnp.tanh(x @ W.T + b)

    def pull_back(x: Any, W: Any, b: Any, v: Any) -> Any:
        if problem.task == "x":
            return jax.vjp(lambda x: forward(x, W, b), x)[1](v)
        return jax.vjp(forward, x, W, b)[1](v)

    with jax.default_matmul_precision("highest"):
        made = jax.jit(forward if problem.task == "forward" else pull_back)
        given = (x, W, b) if problem.task == "forward" else (x, W, b, v)
        made(*given)
    return lambda: made(*given)


CONTENDERS: dict[str, tuple[str, Callable[[Problem], Call]]] = {
    "tiaot": ("tiaot", _tiaot),
    "tiaot_bound": ("tiaot bound", _tiaot_bound),
    "tiaot_graph": ("tiaot graph", _graph_of(_tiaot)),
    "tiaot_autograd": ("tiaot autograd", _tiaot_autograd),
    "torch_autograd": ("torch autograd", _torch_autograd),
    "torch": ("torch by hand", _by_hand),
    "torch_graph": ("torch graph", _graph_of(_by_hand)),
    "compiled": ("torch compiled", _compiled),
    "jax": ("JAX jit", _jax),
}


# ---- time


class Clock:
    """Times a number of calls: microseconds of one for the host, on the GPU where there is one, and together."""

    def __init__(self, device: str) -> None:
        self.cuda = device == "cuda"
        if self.cuda:
            import torch

            self._events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]

    def wait(self, result: Any = None) -> None:
        if hasattr(result, "block_until_ready"):
            result.block_until_ready()
        elif isinstance(result, (tuple, list)) and result:
            self.wait(result[-1])
        if self.cuda:
            import torch

            torch.cuda.synchronize()

    def sample(self, call: Call, count: int) -> dict[str, float]:
        result = None
        started = time.perf_counter()
        if self.cuda:
            self._events[0].record()
        begin = time.perf_counter()
        for _ in range(count):
            result = call()
        handed = time.perf_counter()
        if self.cuda:
            self._events[1].record()
        self.wait(result)
        done = time.perf_counter()
        times = {"host_us": (handed - begin) * 1e6 / count, "us": (done - started) * 1e6 / count}
        if self.cuda and not _is_jax(result):  # whose stream is its own
            times["gpu_us"] = self._events[0].elapsed_time(self._events[1]) * 1e3 / count
        return times


def _is_jax(result: Any) -> bool:
    first = result[0] if isinstance(result, (tuple, list)) else result
    return hasattr(first, "block_until_ready")


def run_problem(problem: Problem, names: list[str], deadline: float, rounds: int = _ROUNDS) -> dict[str, Any]:
    """For each contender the medians of its times, or {'skipped': why} or {'failed': why}."""
    clock = Clock(problem.device)
    outcome: dict[str, Any] = {}
    ready: dict[str, tuple[Call, int]] = {}
    for name in names:
        if time.monotonic() > deadline:
            outcome[name] = {"skipped": "no time left"}
            continue
        try:
            call = CONTENDERS[name][1](problem)
            result = call()
            clock.wait(result)
            if message := wrong(problem, result):
                outcome[name] = {"failed": message}
                continue
            clock.sample(call, 3)
            one = clock.sample(call, 3)["us"] * 1e-6
            ready[name] = call, max(1, min(_MOST_CALLS, round(_SAMPLE / one)))
        except NotImplementedError as reason:
            outcome[name] = {"skipped": _one_line(reason)}
        except ImportError as reason:
            outcome[name] = {"skipped": _one_line(reason)}
        except Exception as error:  # whatever a foreign package raises: the others are measured
            outcome[name] = {"failed": _one_line(error)}
    samples: dict[str, list[dict[str, float]]] = {name: [] for name in ready}
    for done in range(rounds):
        if done >= 3 and time.monotonic() > deadline:
            break
        for name, (call, count) in ready.items():
            samples[name].append(clock.sample(call, count))
    for name, taken in samples.items():
        outcome[name] = {
            key: statistics.median(each[key] for each in taken)
            for key in taken[0]
            if all(key in each for each in taken)
        }
        outcome[name] |= {"samples": len(taken), "calls": ready[name][1]}
    return outcome


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return f"{type(error).__name__}: {text}"[:300]


def work(size: tuple[int, int, int], task: str) -> tuple[int, int]:
    """(bytes that have to be read and written, floating-point operations of the matrix products) of a call."""
    B, n, m = size
    read = B * n + m * n + m + (0 if task == "forward" else B * m)
    written = {"forward": B * m, "x": B * n, "xWb": B * n + m * n + m}[task]
    return 4 * (read + written), 2 * B * n * m * {"forward": 1, "x": 2, "xWb": 3}[task]


def measure(
    device: str, seconds: float, sizes: tuple = SIZES, names: list[str] | None = None
) -> Iterator[dict[str, Any]]:
    """The cases, one after another, until the time is over; those that it did not suffice for as skipped."""
    if device == "cpu":
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
    deadline = time.monotonic() + seconds
    for task in TASKS:
        for size in sizes:
            about = {"task": task, "B": size[0], "n": size[1], "m": size[2]}
            if time.monotonic() > deadline:
                yield {**about, "skipped": "no time left"}
                continue
            try:
                problem = make_problem(size, task, device)
                yield {**about, "peers": run_problem(problem, names or list(CONTENDERS), deadline)}
            except Exception as error:  # no memory, say
                yield {**about, "skipped": _one_line(error)}


def first_calls(device: str) -> dict[str, float]:
    """Milliseconds, in a process that has used the device, but no kernel of tiaot: to open a module, to its first call,
    which loads the code for the device, and to its second."""
    import tiaot
    import torch

    x, W, b = (torch.ones(shape, device=device) for shape in ((2, 8), (4, 8), (4,)))
    clock = Clock(device)
    (x @ W.T + b).sum()
    clock.wait()
    times = [time.perf_counter()]
    kernel = tiaot.load("dense_tanh")
    times.append(time.perf_counter())
    for _ in range(2):
        kernel(x, W, b)
        clock.wait()
        times.append(time.perf_counter())
    names = ("open", "first call", "second call")
    return {name: 1e3 * (b - a) for name, a, b in zip(names, times, times[1:], strict=False)}
