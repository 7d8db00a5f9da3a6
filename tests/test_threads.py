"""Threads: their number, the GIL, calls at the same time, and processes that fork."""

import gc
import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tiaot

LARGE = 1 << 16  # rows of the kernel `wait` that make it worth releasing the GIL


@pytest.fixture
def restored() -> object:
    yield
    tiaot.set_num_threads(None)


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, **environment},
    )


def large_operands(rows: int = 20011) -> list[np.ndarray]:
    rng = np.random.default_rng(2)
    return [rng.standard_normal(shape).astype(np.float32) for shape in ((rows, 8), (4, 8), (4,), (rows, 4))]


def bits(arrays: tuple[np.ndarray, ...]) -> list[bytes]:
    return [array.tobytes() for array in arrays]


def test_default_number(restored: None) -> None:
    start = tiaot.get_num_threads()
    assert 1 <= start <= len(os.sched_getaffinity(0))
    tiaot.set_num_threads(3)
    assert tiaot.get_num_threads() == 3
    tiaot.set_num_threads(np.int64(2))
    assert tiaot.get_num_threads() == 2
    tiaot.set_num_threads(None)
    assert tiaot.get_num_threads() == start
    with pytest.raises(ValueError, match=r"^number of threads: expected 1 to 256, or 0 for the default, got 257$"):
        tiaot.set_num_threads(257)


def test_number_from_the_environment() -> None:
    code = "import tiaot; print(tiaot.get_num_threads())"
    assert run(code, TIAOT_NUM_THREADS="5").stdout == "5\n"
    for wrong in ("0", "-1", "two", "1000"):
        done = run(code, TIAOT_NUM_THREADS=wrong)
        assert f"ValueError: TIAOT_NUM_THREADS: expected a number from 1 to 256, got '{wrong}'" in done.stderr


SPINS = """
import time
from pathlib import Path
import numpy as np, tiaot
kernel = tiaot.load("dense_tanh")
x, W, b = np.zeros((50000, 8), "f"), np.zeros((4, 8), "f"), np.zeros(4, "f")
def worker():
    kernel(x, W, b, num_threads=2)
    return [each for each in Path("/proc/self/task").iterdir() if (each / "comm").read_text() == "tiaot\\n"]
while not worker():  # until it has its name
    time.sleep(0.01)
[found] = worker()
ran = lambda: int((found / "schedstat").read_text().split()[0])  # nanoseconds
begin = ran()
time.sleep(0.5)
print(ran() - begin)
"""


def test_waiting_threads_spin_for_as_long_as_they_are_told() -> None:
    assert int(run(SPINS, TIAOT_SPIN="400000").stdout) > 2e7
    assert int(run(SPINS, TIAOT_SPIN="0").stdout) < 2e6
    done = run(SPINS, TIAOT_SPIN="off")
    assert "ValueError: TIAOT_SPIN: expected a number of microseconds from 0 to 1000000, got 'off'" in done.stderr


def test_text_of_the_environment() -> None:
    code = """
import json, tiaot
def told(call):
    try: call()
    except Exception as error: return type(error).__name__, str(error).split("got ")[1]
print(json.dumps([told(tiaot.get_num_threads), told(lambda: tiaot.load("dense_tanh"))]))
"""
    for text, cut in (
        (os.fsdecode(b"\xff"), r"\xff"),  # no UTF-8
        (os.fsdecode(b"\x80" * 120), 100 * r"\x80"),
        ("x" + 60 * "é", "x" + 49 * "é"),  # 121 bytes, cut at 100 or a little before
        ("x" + 60 * "\U0001f600", "x" + 24 * "\U0001f600"),
    ):
        done = run(code, TIAOT_NUM_THREADS=text, TIAOT_CPU_LEVEL=text)
        assert json.loads(done.stdout) == 2 * [["ValueError", f"'{cut}'"]], done.stderr


def test_number_from_the_affinity() -> None:
    cpu = min(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, [{cpu}]); import tiaot; print(tiaot.get_num_threads())"
    assert run(code, TIAOT_NUM_THREADS="").stdout == "1\n"


def test_results_do_not_depend_on_the_number(dense_tanh: tiaot.Kernel, restored: None) -> None:
    operands = large_operands()
    wrt = ("x", "W", "b")
    one = bits(dense_tanh.vjp(*operands, wrt=wrt, num_threads=1))
    for count in (2, 7, np.int32(3), 256):
        assert bits(dense_tanh.vjp(*operands, wrt=wrt, num_threads=count)) == one
    tiaot.set_num_threads(4)
    assert bits(dense_tanh.vjp(*operands, wrt=wrt)) == one
    assert bits(dense_tanh.vjp.bind(*operands, wrt=wrt, num_threads=5)()) == one


def test_import_and_small_calls_start_no_thread() -> None:
    code = """
import os, numpy as np, tiaot
k = tiaot.load("dense_tanh")
before = len(os.listdir("/proc/self/task"))
x = np.ones((2, 8), np.float32)
k.vjp(x, np.ones((4, 8), np.float32), np.ones(4, np.float32), np.ones((2, 4), np.float32), num_threads=8)
print(len(os.listdir("/proc/self/task")) - before)
x = np.ones((200000, 8), np.float32)
k(x, np.ones((4, 8), np.float32), np.ones(4, np.float32), num_threads=3)
print(len(os.listdir("/proc/self/task")) - before)
"""
    done = run(code, OPENBLAS_NUM_THREADS="1")
    assert done.stdout == "0\n2\n", done.stderr


def wait(small: tiaot.Module, rows: int, patience: float) -> tuple[tiaot.BoundCall, np.ndarray, list[np.ndarray]]:
    """A bound call of the kernel `wait`, the flag that ends it, and its operands."""
    flag = np.zeros(1, np.float32)
    operands = [np.zeros(rows, np.float32), flag, np.full(1, patience, np.float32)]
    return small.wait.bind(*operands, num_threads=1), flag, operands


@pytest.mark.parametrize("form", ["call", "bound call"])
def test_large_work_releases_the_gil(small: tiaot.Module, form: str) -> None:
    bound, flag, operands = wait(small, LARGE, patience=60)

    def raise_flag() -> None:
        flag[0] = 1

    timer = threading.Timer(0.05, raise_flag)  # cannot run before the call ends, unless the GIL is free
    timer.start()
    y = bound() if form == "bound call" else small.wait(*operands, num_threads=1)
    timer.join()
    assert (y == 1).all()


@pytest.mark.parametrize("form", ["call", "bound call"])
def test_small_work_keeps_the_gil(small: tiaot.Module, form: str) -> None:
    bound, flag, operands = wait(small, 1, patience=0.3)

    def raise_flag() -> None:
        flag[0] = 1

    timer = threading.Timer(0.05, raise_flag)
    timer.start()
    y = bound() if form == "bound call" else small.wait(*operands)
    assert y[0] == 0
    timer.join()


def test_closing_while_a_call_runs(small_path: object) -> None:
    module = tiaot.open(small_path)
    bound, flag, operands = wait(module, LARGE, patience=60)
    flag[0] = 1
    bound()
    flag[0] = 0
    started, results = threading.Event(), []

    def work(kernel: tiaot.Kernel) -> None:
        started.set()
        results.append(kernel(*operands, num_threads=1))
        with pytest.raises(tiaot.ModuleError, match=r"is closed$"):
            kernel(*operands)

    thread = threading.Thread(target=work, args=(module.wait,))
    thread.start()
    started.wait()
    time.sleep(0.1)
    module.close()
    del module, bound
    gc.collect()
    assert thread.is_alive()  # still in the module's code, which must stay mapped
    flag[0] = 1
    thread.join()
    assert (results[0] == 1).all()


def test_calls_at_the_same_time(dense_tanh: tiaot.Kernel) -> None:
    operands = large_operands()
    wrt = ("x", "W", "b")
    reference = bits(dense_tanh.vjp(*operands, wrt=wrt, num_threads=1))
    small_operands = [operands[0][:3], operands[1], operands[2], operands[3][:3]]
    shapes = {"x": (3, 8), "W": (4, 8), "b": (4,)}
    wrong = []

    def work(count: int) -> None:
        # Names that the entry has not seen before, from several threads: what it remembers of `wrt` is shared.
        for _ in range(20):
            if bits(dense_tanh.vjp(*operands, wrt=wrt, num_threads=count)) != reference:
                wrong.append("large")
            for names in (["b", "x"], ["x", "b"], ["W"], ["x"]):
                results = dense_tanh.vjp(*small_operands, wrt=tuple(names))
                if [each.shape for each in results] != [shapes[name] for name in names]:
                    wrong.append("small")

    threads = [threading.Thread(target=work, args=(count,)) for count in (1, 2, 3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_loading_at_the_same_time() -> None:
    code = """
import threading, tiaot
kernels, barrier = [], threading.Barrier(8)
def work():
    barrier.wait()
    kernels.append(tiaot.load("dense_tanh"))
threads = [threading.Thread(target=work) for _ in range(8)]
for each in threads: each.start()
for each in threads: each.join()
print(len(set(map(id, kernels))))
"""
    done = run(code)
    assert done.stdout == "1\n", done.stderr


OPEN_AT_EXIT = """
import threading, time, tiaot
path, started = tiaot.load("dense_tanh").module.path, threading.Event()
def work():
    while True:
        started.set()
        tiaot.open(path)  # without the GIL for the most part
threading.Thread(target=work, daemon=True).start()
started.wait()
class Last:
    def __del__(self, sleep=time.sleep): sleep(0.3)
last = Last()
"""

CALL_AT_EXIT = """
import threading, time, numpy as np, tiaot
f = np.float32
x, W, b, v = np.ones((300000, 8), f), np.ones((4, 8), f), np.ones(4, f), np.ones((300000, 4), f)
k = tiaot.load("dense_tanh")
def large():
    while True: k.vjp(x, W, b, v, wrt=("x", "W"), num_threads=2)
def bound():
    call = k.bind(x, W, b, num_threads=2)
    while True: call(), k(x[:2], W, b)
for work in (large, bound, large, bound): threading.Thread(target=work, daemon=True).start()
time.sleep(DELAY)
"""


def test_exit_with_a_daemon_thread() -> None:
    done = run(OPEN_AT_EXIT)
    assert (done.returncode, done.stderr) == (0, "")
    for attempt in range(8):  # seen to crash in one of six without thread_exit.cpp
        done = run(f"DELAY = {0.02 * (1 + attempt)}\n{CALL_AT_EXIT}")
        assert (done.returncode, done.stderr) == (0, "")


LOAD_AND_FORK = """
import os, signal, threading, tiaot
tiaot.load("dense_tanh")
def loop():
    while True: tiaot.load("dense_tanh").module.close()  # so that each load opens the file, with the lock held
threading.Thread(target=loop, daemon=True).start()
for _ in range(30):
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        tiaot.load("dense_tanh")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
print("done", flush=True)
os._exit(0)
"""


def test_fork_while_a_thread_loads() -> None:
    done = run("import warnings; warnings.simplefilter('ignore')\n" + LOAD_AND_FORK)
    assert done.stdout == "done\n", done.stderr


def test_load_in_a_signal_handler() -> None:
    code = """
import signal, tiaot
from tiaot import _core
seen, real = [], _core.open_module
def open_module(*arguments):  # a signal arrives while the file is being opened
    _core.open_module = real
    signal.raise_signal(signal.SIGUSR1)
    return real(*arguments)
_core.open_module = open_module
signal.signal(signal.SIGUSR1, lambda *_: seen.append(tiaot.load("dense_tanh")))
seen.append(tiaot.load("dense_tanh"))
print(len(seen), seen[0] is seen[1], seen[0] is tiaot.load("dense_tanh"))
"""
    done = run(code)
    assert done.stdout == "2 True True\n", done.stderr


FORK = """
import os, sys, numpy as np, tiaot
k = tiaot.load("dense_tanh")
x, W, b, v = (np.ones(shape, np.float32) for shape in ((100000, 8), (4, 8), 4, (100000, 4)))
before = k.vjp(x, W, b, v, num_threads=4).tobytes()
bound = k.vjp.bind(x, W, b, v, num_threads=3)
for _ in range(5):
    child = os.fork()
    if child == 0:
        same = k.vjp(x, W, b, v, num_threads=4).tobytes() == before and bound().tobytes() == before
        grandchild = os.fork()
        if grandchild == 0:
            os._exit(k.vjp(x, W, b, v, num_threads=2).tobytes() != before)
        os._exit(not same or os.waitpid(grandchild, 0)[1] != 0)
    assert k.vjp(x, W, b, v, num_threads=4).tobytes() == before
    assert os.waitpid(child, 0)[1] == 0
print("done")
"""


def test_fork() -> None:
    done = run("import warnings; warnings.simplefilter('ignore')\n" + FORK)
    assert done.stdout == "done\n", done.stderr


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning", "ignore:.*fork:RuntimeWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing(dense_tanh: tiaot.Kernel, method: str) -> None:
    vjp = dense_tanh.restrict("float32_n8_m4").vjp
    expected = vjp(*large_operands(), num_threads=3)
    with multiprocessing.get_context(method).Pool(1) as pool:
        got = pool.apply_async(vjp, large_operands(), {"num_threads": 3}).get(timeout=60)
    assert got.tobytes() == expected.tobytes()
