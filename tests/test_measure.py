"""How the benchmarks take turns: tested on a clock of our own, without timing anything."""

import timeit

import pytest

measuring = pytest.importorskip("tiaot.benchmarks.measure")


class Clock:
    """Stands for the module `time`: other threads compute until `busy_until`."""

    def __init__(self, busy_until: float) -> None:
        self.now, self.busy_until = 100.0, 100.0 + busy_until

    def perf_counter(self) -> float:
        return self.now

    def thread_time(self) -> float:
        return 0.0

    def process_time(self) -> float:
        return min(self.now, self.busy_until)

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize(("busy", "least", "most"), [(0.0, 0.008, 0.009), (0.08, 0.088, 0.093), (9.0, 0.3, 0.305)])
def test_a_pause_ends_when_other_threads_sleep_or_after_a_while(monkeypatch, busy, least, most) -> None:
    clock = Clock(busy)
    monkeypatch.setattr(measuring, "time", clock)
    measuring.wait_for_other_threads()
    assert least <= clock.now - 100 + 1e-6 and clock.now - 100 <= most


@pytest.mark.parametrize("threads", [1, 2])
def test_each_turn_begins_with_a_pause_and_an_untimed_call(monkeypatch, threads) -> None:
    """Of slow calls, of which one makes a sample, every second one is timed."""
    clock, events = Clock(0), []
    monkeypatch.setattr(measuring, "time", clock)
    monkeypatch.setattr(measuring, "wait_for_other_threads", lambda: events.append("pause"))

    def call() -> None:
        events.append("call")
        clock.now += 0.05

    found = measuring.measure({"it": timeit.Timer(call, timer=clock.perf_counter)}, 1.0, threads)
    turns = "".join(event[0] for event in events)
    samples = found["it"]["samples"]
    assert found["it"]["calls"] == 1 and samples >= 5
    assert turns.endswith(("pcc" if threads > 1 else "cc") * samples)
    assert turns.count("p") == (samples if threads > 1 else 0)
