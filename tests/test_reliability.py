"""The figures of docs/reliability.md are made by reliability.py: each part of it, in small."""

import re
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent / "reliability.py"


def reliability(*arguments: str) -> list[str]:
    done = subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def test_no_call_touches_memory_beside_its_arrays() -> None:
    lines = reliability("guards", "--most", "17")
    # 4 layers for 0 to 17 rows, 3 for sizes from 1 on; 2 types, 2 ends, 6 entries; at each level of this machine.
    assert lines and all(f" {(18 * 4 + 17 * 3) * 2 * 2 * 6} calls" in line for line in lines)


def test_arguments_drawn_at_random() -> None:
    [line] = reliability("arguments", "--seconds", "2")
    found = re.search(r": (\d+) succeeded, (\d+) refused, none wrong$", line)
    assert found and int(found[1]) > 50 and int(found[2]) > 50


def test_nothing_is_left_of_cycles() -> None:
    lines = reliability("cycles", "--cycles", "300", "--forks", "30", "--exits", "3")
    assert [line.split()[1] for line in lines] == ["300", "30", "3"]


def test_threads_that_call_open_and_swap() -> None:
    [line] = reliability("threads", "--seconds", "2")
    assert line.startswith("threads: 16 threads for 2 s") and line.endswith(", 0 wrong")


def test_a_part_that_there_is_not() -> None:
    done = subprocess.run([sys.executable, SCRIPT, "sanitiser"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "there is no part 'sanitiser'; there are sanitizers, extension" in done.stderr


def test_a_guard_page_ends_the_process() -> None:
    touch = "reliability.ctypes.memset(memory.start + memory.size - 1, 0, {})"
    for bytes_written, code in ((1, 0), (2, -11)):
        program = f"import reliability; memory = reliability.Guarded(1); {touch.format(bytes_written)}"
        done = subprocess.run([sys.executable, "-c", program], cwd=SCRIPT.parent, capture_output=True, check=False)
        assert done.returncode == code
