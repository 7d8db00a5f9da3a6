"""The command line: what it prints, its exit codes, and what it says of a broken installation."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiaot
from tiaot import _core, demo

# J^T v as first computed with torch.manual_seed(42), and the float64 value of the same inputs.
PRINTED = [
    [0.40772447, 0.85730678, 0.18844506, 0.31153518, -0.23295417, -0.08521497, -0.24905279, 0.5076037],
    [-1.31211734, 0.4779858, -0.65214491, -1.96736133, -0.38303438, -0.48829293, -0.42431751, -0.01537222],
]
EXACT = [
    [0.40772501, 0.85730768, 0.18844524, 0.31153543, -0.23295443, -0.08521511, -0.24905306, 0.50760422],
    [-1.31211542, 0.47798374, -0.65214431, -1.96735959, -0.38303344, -0.48829241, -0.42431640, -0.01537315],
]
BLOCK_TORCH = (
    "import sys, runpy; sys.modules['torch'] = None; import importlib.util as u; find = u.find_spec; "
    "u.find_spec = lambda name, *rest: None if name == 'torch' else find(name, *rest); "
)


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return run_python("-m", "tiaot", *arguments, **environment)


def run_python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TIAOT_")}
    return subprocess.run(
        [sys.executable, *arguments],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def rows(output: str, label: str) -> np.ndarray:
    """The numbers of every line that starts with the label, one row a sample."""
    lines = [line.split()[1:] for line in output.splitlines() if re.match(rf" +{label} +-?\d+\.\d{{8}} ", line)]
    return np.array(lines, dtype=np.float64)


def test_version() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"tiaot {tiaot.__version__}\n", "")


def test_version_imports_no_command() -> None:
    code = "import sys; from tiaot.cli import main\ntry: main(['--version'])\nexcept SystemExit: pass\n"
    done = run_python(
        "-c", code + "print([n for n in sys.modules if n.startswith('tiaot.')], 'inspect' in sys.modules)"
    )
    assert "tiaot.demo" not in done.stdout and "tiaot.benchmarks" not in done.stdout


def test_demo_with_torch() -> None:
    pytest.importorskip("torch")
    done = run("demo")
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(rows(done.stdout, "tiaot"), PRINTED, rtol=0, atol=5e-6)
    np.testing.assert_allclose(rows(done.stdout, "tiaot"), EXACT, rtol=0, atol=5e-7)
    np.testing.assert_allclose(rows(done.stdout, "torch"), EXACT, rtol=0, atol=5e-7)
    for path in ("tiaot, bound", "tiaot", "NumPy by hand", "torch autograd", "torch, full Jacobian"):
        assert re.search(rf"^  {path} +[\d.]+ us$", done.stdout, re.M), path


def test_demo_without_torch() -> None:
    done = run_python(
        "-c", BLOCK_TORCH + "sys.argv = ['tiaot', 'demo']; runpy.run_module('tiaot', run_name='__main__')"
    )
    assert done.returncode == 0, done.stderr
    assert "torch is not installed" in done.stdout
    np.testing.assert_allclose(rows(done.stdout, "tiaot"), EXACT, rtol=0, atol=5e-7)
    np.testing.assert_allclose(rows(done.stdout, "float64"), EXACT, rtol=0, atol=1e-8)
    assert len(rows(done.stdout, "torch")) == 0


def test_demo_constants_are_what_torch_draws() -> None:
    torch = pytest.importorskip("torch")
    for name, tensor in demo._draw(torch).items():
        # torch's own vector units may round the last bit otherwise
        np.testing.assert_array_max_ulp(tensor.numpy(), demo.inputs()[name], maxulp=4)


def test_demo_reports_wrong_numbers(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    by_hand = demo.by_hand
    monkeypatch.setattr(demo, "by_hand", lambda *arrays: by_hand(*arrays) + 6e-6)
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda name: None)
    assert demo.run(None) == 1
    assert "WRONG" in capsys.readouterr().out


def test_inspect_json(dense_tanh: tiaot.Kernel) -> None:
    done = run("inspect", "dense_tanh", "--json")
    assert done.returncode == 0, done.stderr
    info = json.loads(done.stdout)
    assert info["hash"] == dense_tanh.module.hash
    assert info["file_bytes"] == os.path.getsize(dense_tanh.module.path)
    assert info["cpu_level"] == info["machine_cpu_level"] == tiaot.cpu_level()
    (kernel,) = info["kernels"]
    assert kernel["signature"] == dense_tanh.signature
    assert tuple(variant["name"] for variant in kernel["variants"]) == dense_tanh.variants
    for variant in kernel["variants"]:
        for entry in variant["entries"]:
            assert all(size > 0 for size in entry["code_bytes"].values())


def test_inspect_text(dense_tanh: tiaot.Kernel) -> None:
    by_name, by_path = run("inspect", "dense_tanh"), run("inspect", dense_tanh.module.path)
    assert by_name.returncode == by_path.returncode == 0
    assert by_name.stdout == by_path.stdout
    for expected in (dense_tanh.signature, dense_tanh.module.hash, "checksum verified", *dense_tanh.variants):
        assert expected in by_name.stdout


def test_paths_that_are_not_utf_8(dense_tanh: tiaot.Kernel, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff.so")
    shutil.copy(dense_tanh.module.path, path)
    for encoding in ("utf-8:strict", "ascii:strict"):
        done = run("inspect", str(path), PYTHONIOENCODING=encoding)
        assert done.returncode == 0 and rf"{tmp_path}/\udcff.so" in done.stdout, done.stderr
    path.unlink()
    done = run("inspect", str(path))
    assert done.returncode == 1 and rf"{tmp_path}/\xff.so" in done.stderr


def test_inspect_forced_level() -> None:
    done = run("inspect", "dense_tanh", "--json", TIAOT_CPU_LEVEL="x86-64-v2")
    assert json.loads(done.stdout)["cpu_level"] == "x86-64-v2"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "COMMAND"),
        (("paint",), 2, "paint"),
        (("inspect",), 2, "NAME|FILE"),
        (("inspect", "no_such"), 1, "dense_tanh"),
        (("inspect", "/no/such.so"), 1, "/no/such.so"),
        (("inspect", __file__), 1, "not a tiaot module"),
        (("bench", "--peers", "nobody"), 2, "nobody"),
        (("bench", "--sizes", "2x8"), 2, "2x8"),
    ],
)
def test_errors_are_one_line(arguments: tuple[str, ...], code: int, message: str) -> None:
    done = run(*arguments)
    assert done.returncode == code
    assert done.stdout == ""
    assert message in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_doctor_finds_a_healthy_installation() -> None:
    done = run("doctor", "--json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["healthy"]) == (0, True), done.stdout
    tried = [finding["subject"] for finding in report["modules"]]
    assert "module dense_tanh" in tried and f"dense_tanh at {tiaot.cpu_level()}" in tried
    assert run("doctor").stdout.endswith("no fault found\n")


@pytest.mark.parametrize(
    ("environment", "message"),
    [({"TIAOT_CPU_LEVEL": "fast"}, "unset TIAOT_CPU_LEVEL"), ({"TIAOT_NUM_THREADS": "none"}, "set TIAOT_NUM_THREADS")],
)
def test_doctor_finds_wrong_variables(environment: dict[str, str], message: str) -> None:
    done = run("doctor", **environment)
    assert (done.returncode, done.stderr) == (1, "")
    assert message in done.stdout and "1 fault found" in done.stdout


def copy_installation(folder: Path) -> Path:
    """A copy of the package that python finds with PYTHONPATH=folder; its dense_tanh.tiaot.so."""
    for origin in {Path(tiaot.__file__).parent, Path(_core.__file__).parent}:
        shutil.copytree(
            origin, folder / "tiaot", dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", "build")
        )
    return folder / "tiaot" / "modules" / "dense_tanh.tiaot.so"


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing"])
def test_doctor_finds_a_broken_module(tmp_path: Path, damage: str) -> None:
    module = copy_installation(tmp_path)
    content = module.read_bytes()
    module.unlink()
    if damage == "truncated":
        module.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        module.write_bytes(content[:5000] + bytes([content[5000] ^ 1]) + content[5001:])
    done = run("doctor", PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stderr) == (1, "")
    assert "FAULT: install tiaot again" in done.stdout


def test_bench_quick(tmp_path: Path) -> None:
    target = tmp_path / "bench.json"
    done = run("bench", "--quick", "--peers", "tiaot,tiaot-bound,numpy", "--sizes", "2x8x4", "--threads", "1",
               "--json", str(target))  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(target.read_text())
    assert [case["task"] for case in found["cases"]] == ["x", "xWb"]
    for case in found["cases"]:
        assert set(case["peers"]) == {"tiaot", "tiaot-bound", "numpy"}
        for outcome in case["peers"].values():
            assert 0 < outcome["us_q1"] <= outcome["us"] <= outcome["us_q3"]
    assert "(2, 8, 4)" in done.stdout


def test_bench_json_on_stdout_is_json_only() -> None:
    done = run("bench", "--quick", "--peers", "numpy", "--sizes", "2x8x4", "--threads", "1", "--json", "-")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["environment"]["cpu"]
    assert "NumPy by hand" in done.stderr


def test_bench_reports_a_wrong_peer() -> None:
    cases = pytest.importorskip("tiaot.benchmarks.cases")
    for task in cases.TASKS:
        case = cases.Case(33, 8, 4, task)
        inputs = cases.make_inputs(case)
        expected = cases.reference(case, inputs)
        results = [expected[0][name].astype(np.float32) for name in case.wrt]
        assert cases.check(case, tuple(results), expected) == ""
        results[-1] = results[-1] + np.float32(1e-3)
        assert "off by" in cases.check(case, tuple(results), expected)
        results[-1] = np.full_like(results[-1], np.nan)
        assert "off by" in cases.check(case, tuple(results), expected)


def test_bench_tells_the_share_of_the_peak() -> None:
    report = pytest.importorskip("tiaot.benchmarks.report")
    layer = {"B": 1000, "n": 64, "m": 32, "task": "xWb", "dtype": "float32", "threads": 1}
    layer["peers"] = {
        "tiaot": {"us": 6 * 1000 * 64 * 32 * 1e-3 / 50},
        "numpy": {"skipped": "too slow"},
        "cpp": {"us": 0.1},
    }
    rows = report.peak_table(
        [layer, {**layer, "n": 8}, {**layer, "B": 1}], {"tiaot": "A", "numpy": "B", "cpp": "C"}, 100
    )
    assert "100 GFLOP/s" in rows[0]
    assert rows[-1].split() == ["(1000,", "64,", "32)", "50%", "122880%"]
    assert len(rows) == 3  # a small layer and a small batch have no share
    assert report.peak_table([{**layer, "m": 8}], {"tiaot": "A"}, 100) == []
