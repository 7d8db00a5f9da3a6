"""Children: runs trials (trial.py) in processes of their own, and knows at which point one died. Judges nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .branches import Site
from .points import ORDINARY, Point

# All times are of the CPUs, so that they are as much on a busy machine.
_FURTHER = 15.0  # seconds for a point away from ordinary values, where a loop may have no end
_PATIENCE = 5.0  # seconds for a child to end by itself, once its time is over, before it is stopped
_ASLEEP = 120.0  # seconds of the clock in which a child that uses no CPU is taken to be stuck
APART = ("spread", "twin")  # results of the module's child that are not those of the module


@dataclass
class Outcome:
    """What one kind of child found, by the ids of points."""

    parts: dict[str, dict[str, dict[str, np.ndarray]]] = field(default_factory=dict)
    verdicts: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    failures: dict[str, tuple[str, str]] = field(default_factory=dict)  # (what was running, how it ended)
    without_adjoint: dict[str, str] = field(default_factory=dict)  # kernels that went on without, and how it ended
    done: set[str] = field(default_factory=set)
    ways: dict[str, list[Site]] = field(default_factory=dict)  # all that a kernel can go, by a point of it
    gone: dict[str, set[str]] = field(default_factory=dict)  # those that it went there, as `Site.text`

    def results(self, point: str) -> dict[str, np.ndarray]:
        """All that came out at a point, but what is kept apart."""
        parts = self.parts.get(point, {})
        return {key: array for name in parts if name not in APART for key, array in parts[name].items()}

    def apart(self, point: str, part: str) -> dict[str, np.ndarray]:
        """One of the parts in APART; empty where there is none."""
        return self.parts.get(point, {}).get(part, {})


class Folder:
    """A folder in which points lie for children."""

    def __init__(self, path: str, points: list[Point]) -> None:
        self.path = path
        for point in points:
            np.savez(Path(path, f"{point.id}.npz"), **point.draw())

    def start(self, mode: str, path: str, points: list[Point], seconds: float, *more: str) -> Child:
        """Start a child of that mode on a module, a library or a kernel file."""
        return Child(self.path, mode, path, points, seconds, more)


class Child:
    """A child at work, and those that go on after it where it dies."""

    def __init__(
        self, folder: str, mode: str, path: str, points: list[Point], seconds: float, more: tuple[str, ...]
    ) -> None:
        self.folder, self.mode, self.path, self.more = folder, mode, os.path.abspath(path), more
        self.points = list(points)
        self.seconds = seconds  # that are left to it
        self.read = 0  # lines of the log
        self.running: tuple[str, str] | None = None  # the point, and what of it
        self.since = 0.0
        self.outcome = Outcome()
        self.process = self._start() if points else None

    def _start(self) -> subprocess.Popen[str]:
        self.running = None
        records = [point.record() for point in self.points]
        for record in records:
            if record["kernel"] in self.outcome.without_adjoint:
                record |= {"wrt": [], "gradient": False}
        Path(self.folder, f"{self.mode}.json").write_text(json.dumps(records))
        seconds = f"{self.seconds:.1f}"
        command = [
            sys.executable,
            "-m",
            "tiaot.export.gate.trial",
            self.mode,
            self.path,
            self.folder,
            seconds,
            *self.more,
        ]
        with Path(self.folder, f"{self.mode}.errors").open("w") as errors:
            return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, text=True)

    def finish(self) -> Outcome:
        """Wait for the results. Where the child dies, another goes on behind the point where it did."""
        while self.process is not None:
            code, ended = self._wait()
            self._read_log(0.0)
            self.process = None
            if code == 0:
                break
            if self.running is None:  # before its first point
                self._fail([point.id for point in self.points], "start", ended)
                break
            self._go_on_behind(*self.running, ended)
        for part in sorted(Path(self.folder).glob(f"*.{self.mode}.*.npz")):
            identity, _, rest = part.name.partition(f".{self.mode}.")
            with np.load(part) as stored:
                self.outcome.parts.setdefault(identity, {})[rest.removesuffix(".npz")] = dict(stored)
        return self.outcome

    def _wait(self) -> tuple[int, str]:
        """(exit code, how it ended) of the child, which is stopped where it takes too long."""
        assert self.process is not None
        pause, used, woken = 0.01, 0.0, time.monotonic()
        while (code := self.process.poll()) is None:
            time.sleep(pause)
            pause = min(2 * pause, 0.25)
            if (now := _cpu_seconds(self.process.pid)) > used:
                used, woken = now, time.monotonic()
            self._read_log(used)
            further = self.running is not None and self._point(self.running[0]).kind not in ORDINARY
            late = used > self.seconds + _PATIENCE or (further and used > self.since + _FURTHER)
            if late or time.monotonic() > woken + _ASLEEP:
                self.process.kill()
                code, ended = self.process.wait(), "took longer than there was time for"
                break
        else:
            ended = _how_it_ended(code, Path(self.folder, f"{self.mode}.errors").read_text())
        self.seconds -= used
        return code, ended

    def _point(self, identity: str) -> Point:
        return next(point for point in self.points if point.id == identity)

    def _fail(self, points: list[str], what: str, ended: str) -> None:
        for point in points:
            self.outcome.failures[point] = (what, ended)

    def _go_on_behind(self, identity: str, what: str, ended: str) -> None:
        """Starts a child for the points behind one, without what would most likely end in the same way there: Taichi's
        adjoint, or else all of it."""
        gone = self._point(identity)
        place = self.points.index(gone)
        alike: list[Point] = []
        if self.mode == "jit" and what != "forward":
            self.outcome.without_adjoint[gone.family.name] = f"{ended} ({what})"
        else:
            alike = [
                point
                for point in self.points[place + 1 :]
                if point.family.name == gone.family.name and (gone.kind in ORDINARY or point.kind not in ORDINARY)
            ]
            self._fail([identity, *(point.id for point in alike)], what, ended)
        self.points = [point for point in self.points[place + 1 :] if point not in alike]
        if self.points and self.seconds > 0:
            self.process = self._start()

    def _read_log(self, now: float) -> None:
        """Takes in what the log has to say since, and what is running; if it is another point, since `now`."""
        log = Path(self.folder, f"{self.mode}.log")
        lines = log.read_text().split("\n")[:-1] if log.exists() else []
        for line in lines[self.read :]:
            record = json.loads(line)
            point = record["trial"]
            if "verdict" in record:
                self.outcome.verdicts.setdefault(point, []).append(record["verdict"])
            elif "failed" in record:
                self._fail([point], "forward", record["failed"])
            elif "ways" in record:
                ways = [Site(**{**each, "names": tuple(each["names"])}) for each in record["ways"]]
                self.outcome.ways[point], self.outcome.gone[point] = ways, set(record["gone"])
            elif "done" in record:
                self.outcome.done.add(point)
                self.running = None
            else:
                if self.running is None or self.running[0] != point:
                    self.since = now
                self.running = (point, record["doing"])
        self.read = len(lines)


def _cpu_seconds(process: int) -> float:
    """What a process of ours has used of the CPUs; 0 where it is gone."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _how_it_ended(code: int, said: str) -> str:
    if code < 0:
        return f"ended with {signal.Signals(-code).name}"
    lines = said.strip().splitlines()
    if lines and (by_taichi := re.match(r"RuntimeError: \[[\w.]+:\w+@\d+\] (.*)", lines[-1])):
        return f"said {by_taichi[1].partition(' If ')[0].rstrip('. ')!r}"  # advice on Taichi's own autodiff follows
    return f"raised {said.strip()}" if lines else f"ended with code {code}"
