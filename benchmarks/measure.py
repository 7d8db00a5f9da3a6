"""Times several statements in turn. Knows nothing about what they compute."""

from __future__ import annotations

import math
import statistics
import time
import timeit
from typing import Any

_SLOW_CALL = 0.1  # seconds; slower calls are repeated a few times only
_MOST_SAMPLES = 300


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


def measure(timers: dict[str, timeit.Timer], seconds: float, warm_up: float) -> dict[str, dict[str, Any]]:
    """Times the statements round-robin for about `seconds` in all, so that a slow moment of the machine hits all alike.

    Before each turn the statement runs for `warm_up` seconds untimed: by then its own threads are awake, and those of
    the statement before it asleep. For each name: quartiles of microseconds a call, and how often it was called.
    """
    target = min(2e-3, seconds / 500)
    number = {name: _calls_per_sample(timer, target) for name, timer in timers.items()}
    each = {name: timer.timeit(number[name]) / number[name] for name, timer in timers.items()}
    samples: dict[str, list[float]] = {name: [] for name in timers}
    active, end, rounds = list(timers), time.perf_counter() + seconds, 0
    while active and rounds < _MOST_SAMPLES and (rounds < 5 or time.perf_counter() < end):
        for name in list(active):
            before = max(number[name] // 10, math.ceil(warm_up / each[name]))
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
