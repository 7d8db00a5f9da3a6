"""How the benchmarks take turns, on a clock of our own, and how a page gets their figures: without timing anything."""

import json
import re
import timeit

import pytest

measuring = pytest.importorskip("tiaot.benchmarks.measure")
document = pytest.importorskip("tiaot.benchmarks.document")
report = pytest.importorskip("tiaot.benchmarks.report")


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


PAGE = "# Speed\n\n<!-- benchmark -->\nold\n<!-- /benchmark -->\n\nend\n"
RUN = {
    "environment": {
        "cpu": "A CPU",
        "level": "x86-64-v3",
        "system": "Linux",
        "python": "3.12.0",
        "packages": {"tiaot": "0.1.0", "numpy": "2.0.0"},
        "cpus": 2,
        "load": 0.0,
    },
    "cases": [
        {"B": 64, "n": 32, "m": 32, "task": "xWb", "dtype": "float32", "threads": 2, "peers": peers}
        for peers in ({"tiaot": {"us": 3.0}, "numpy": {"us": 9.0}, "jax": {"failed": "off"}},)
    ],
    "peaks": [{"dtype": "float32", "threads": 2, "gflops": 262.144}],
    "unavailable": {},
    "problems": [],
}


def test_a_page_is_filled_between_its_marks(tmp_path) -> None:
    page, run = tmp_path / "page.md", tmp_path / "run.json"
    page.write_text(PAGE)
    run.write_text(json.dumps(RUN))
    assert document.main([str(page), str(run), str(run)]) == 0
    text = page.read_text()
    assert text.startswith("# Speed\n\n<!-- benchmark -->\n## A CPU at x86-64-v3\n")
    assert text.endswith("\n<!-- /benchmark -->\n\nend\n") and "old" not in text
    assert text.count("With respect to x, W and b, float32, 2 threads:") == 2
    assert re.search(r"^\(64, 32, 32\) +3\.00\* +9\.00$", text, re.M)
    assert re.search(
        r"^\(64, 32, 32\) +50% +17%$", text, re.M
    )  # 3 products of 2 * 64 * 32 * 32 operations in 3 us, of the peak
    assert document.main([str(page), str(run)]) == 0
    assert page.read_text().count("## A CPU") == 1


def test_a_run_says_whose_code_it_measured(monkeypatch) -> None:
    monkeypatch.setenv("TIAOT_CPU_LEVEL", "x86-64-v2")
    assert report.environment()["level"] == "x86-64-v2"


@pytest.mark.parametrize("page", [PAGE.replace("<!-- benchmark -->\n", ""), PAGE.replace("/", ""), PAGE + PAGE])
def test_a_page_without_marks_is_refused(page: str) -> None:
    with pytest.raises(ValueError, match="expected <!-- benchmark -->"):
        document.filled(page, "new")
