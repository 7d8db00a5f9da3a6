"""examples/asgi/service.py under load: its weights are swapped in all workers, and no request is lost or mixed."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("uvicorn")

SERVICE = Path(__file__).parents[1] / "examples" / "asgi" / "service.py"


def write(path: Path, version: int) -> None:
    """Weights that are all version / 16, put in place by a rename."""
    weight = np.float32(version / 16)
    other = path.with_name("other.npz")
    np.savez(other, W=np.full((4, 8), weight), b=np.full(4, weight), version=version)
    other.rename(path)


class Running:
    def __init__(self, weights: Path) -> None:
        command = [sys.executable, SERVICE, weights, "--port", "0"]
        self.errors = weights.with_name("errors")
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        assert self.process.stdout is not None
        found = re.match(r"process (\d+), port (\d+)", self.process.stdout.readline())
        assert found and int(found[1]) == self.process.pid
        self.port = int(found[2])

    def ask(self, connection: http.client.HTTPConnection, body: object) -> tuple[int, dict]:
        connection.request("POST", "/", json.dumps(body))
        response = connection.getresponse()
        return response.status, json.loads(response.read())

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    write(tmp_path / "weights.npz", 1)
    service = Running(tmp_path / "weights.npz")
    yield service
    service.process.terminate()  # not killed, or its workers would stay
    service.process.communicate(timeout=60)


def test_weights_are_swapped_while_requests_run(running: Running, tmp_path: Path) -> None:
    x = np.full((3, 8), 0.25)
    seen: list[tuple[int, int]] = []  # version, worker
    wrong: list[object] = []
    done = threading.Event()

    def request() -> None:
        while not done.is_set():
            connection = running.connect()  # a new one each time: either worker takes it
            status, answer = running.ask(connection, {"x": x.tolist()})
            connection.close()
            version = answer.get("version", 0)
            if status != 200 or not np.allclose(answer["y"], np.tanh(3 * version / 16), atol=1e-6):
                wrong.append(answer)
            seen.append((version, answer.get("worker", 0)))

    threads = [threading.Thread(target=request) for _ in range(4)]
    for thread in threads:
        thread.start()
    while not seen:
        time.sleep(0.01)
    for version in range(2, 6):
        write(tmp_path / "weights.npz", version)
        os.kill(running.process.pid, signal.SIGHUP)
        before, end = len(seen), time.monotonic() + 60
        while len({worker for got, worker in seen[before:] if got == version}) < 2 and time.monotonic() < end:
            time.sleep(0.01)
    done.set()
    for thread in threads:
        thread.join()
    assert not wrong
    assert {version for version, _ in seen} == {1, 2, 3, 4, 5}
    assert len({worker for version, worker in seen if version == 5}) == 2
    running.process.terminate()
    assert running.process.wait(60) == 0


def test_what_is_wrong_is_told_to_the_caller(running: Running, tmp_path: Path) -> None:
    connection = running.connect()  # to one worker, for all requests
    status, answer = running.ask(connection, {"x": [[1.0, 2.0]]})
    assert status == 400 and "argument 'W'" in answer["error"]
    assert running.ask(connection, {"y": []})[0] == 400
    (tmp_path / "weights.npz").write_bytes(b"no weights")
    os.kill(running.process.pid, signal.SIGHUP)
    time.sleep(0.5)
    status, answer = running.ask(connection, {"x": np.zeros((1, 8)).tolist()})
    connection.close()
    assert status == 200 and answer["version"] == 1
    running.process.terminate()
    assert running.process.wait(60) == 0
    assert "keeps its weights" in running.errors.read_text()
