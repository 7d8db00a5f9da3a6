"""Times several statements in turn. Knows nothing about what they compute."""

from __future__ import annotations

import math
import statistics
import time
import timeit
from typing import Any

_SLOW_CALL = 0.1  # seconds; slower calls are repeated a few times only
_MOST_SAMPLES = 300
_WARM_UP = 5e-3  # seconds of untimed calls after a pause: a statement's own threads are awake by then
_STEP, _BUSY, _LONGEST_PAUSE = 4e-3, 0.1, 0.3  # of a pause: seconds between looks, the share of a CPU, seconds


def wait_for_other_threads() -> None:
    """Returns when the other threads of this process have slept for two steps in a row, or after _LONGEST_PAUSE.

    Threads of OpenBLAS, OpenMP and others go on spinning for up to 0.1 s after their call, on a CPU that the next
    statement's threads want.
    """
    end, quiet = time.perf_counter() + _LONGEST_PAUSE, 0
    while quiet < 2 and time.perf_counter() < end:
        before = time.process_time() - time.thread_time()
        time.sleep(_STEP)
        busy = time.process_time() - time.thread_time() - before
        quiet = quiet + 1 if busy < _BUSY * _STEP else 0


def _calls_per_sample(timer: timeit.Timer, target: float) -> int:
    """How many calls take about `target` seconds, once the first ones are over."""
    number, fastest, spent = 1, math.inf, 0.0
    while spent < 10 * target:
        elapsed = timer.timeit(number)
        fastest, spent = min(fastest, elapsed / number), spent + elapsed
        number = max(1, round(target / 2 / fastest))
    return max(1, round(target / fastest))


def quartiles(samples: list[float]) -> list[float]:
    """The lower quartile, the median and the upper quartile."""
    if len(samples) < 2:
        return [samples[0]] * 3
    return statistics.quantiles(samples, n=4, method="inclusive")


def _untimed_calls(number: int, each: float, threads: int) -> int:
    """How many calls go before a sample: at least one, which brings the statement's own data into the caches."""
    if each > _SLOW_CALL:
        return 0
    waking = math.ceil(_WARM_UP / each) if threads > 1 else 0
    return max(1, number // 10, waking)


def measure(timers: dict[str, timeit.Timer], seconds: float, threads: int = 1) -> dict[str, dict[str, Any]]:
    """Times the statements round-robin for about `seconds` in all, so that a slow moment of the machine hits all alike.

    A turn begins with untimed calls, so that no statement pays for the data of the one before it in the caches. With
    several threads it begins when those of the statement before are asleep. For each name: quartiles of microseconds a
    call, and how often it was called.
    """
    target = min(2e-3, seconds / 500)
    number = {name: _calls_per_sample(timer, target) for name, timer in timers.items()}
    each = {name: timer.timeit(number[name]) / number[name] for name, timer in timers.items()}
    samples: dict[str, list[float]] = {name: [] for name in timers}
    active, end, rounds = list(timers), time.perf_counter() + seconds, 0
    while active and rounds < _MOST_SAMPLES and (rounds < 5 or time.perf_counter() < end):
        for name in list(active):
            if threads > 1:
                wait_for_other_threads()
            before = _untimed_calls(number[name], each[name], threads)
            if before:
                timers[name].timeit(before)
            each[name] = timers[name].timeit(number[name]) / number[name]
            samples[name].append(each[name] * 1e6)
            slow = each[name] > _SLOW_CALL and rounds >= 2
            if slow or sum(samples[name]) * number[name] > seconds * 1e6:
                active.remove(name)
        rounds += 1
    result = {}
    for name, times in samples.items():
        low, median, high = quartiles(times)
        result[name] = {"us": median, "us_q1": low, "us_q3": high, "samples": len(times), "calls": number[name]}
    return result
