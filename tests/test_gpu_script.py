"""benchmarks/gpu.py as far as it goes without a GPU: its steps, what it packs, its measuring on the CPU."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest
from tiaot.benchmarks import gpu, gpu_pack

ROOT = Path(__file__).parents[1]
NO_GPU = 'print(\'{"name": ""}\')'


def step(code: str, name: str = "some step", needs_gpu: bool = True) -> gpu.Step:
    return gpu.Step(name, [sys.executable, "-c", code], 30, needs_gpu)


def test_a_step_is_guarded(tmp_path: Path) -> None:
    outcome = gpu.run_step(step("print('well')"), 30, tmp_path)
    assert (outcome["status"], outcome["tail"]) == ("ok", "well\n")
    outcome = gpu.run_step(step("import sys; print('bad', file=sys.stderr); sys.exit(3)"), 30, tmp_path)
    assert (outcome["status"], outcome["tail"]) == ("failed (3)", "bad\n")
    started = time.monotonic()
    # What it has started ends with it.
    code = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
child.wait()"""
    outcome = gpu.run_step(step(code), 2, tmp_path)
    assert outcome["status"] == "timed out after 2 s" and time.monotonic() - started < 20
    child = Path("/proc", outcome["tail"].strip(), "stat")
    for _ in range(100):  # it may be a zombie for a while, until its new parent has looked
        if not child.exists() or child.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.05)
    pytest.fail("what the step had started runs on")


def test_a_step_that_fails_or_has_no_time_does_not_end_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    steps = [step(NO_GPU, "device", False), step("raise SystemExit(1)")]
    monkeypatch.setattr(gpu, "plan", lambda *_: steps)
    assert gpu.run(tmp_path, out, 60, False) == 0
    steps.append(step("raise SystemExit('wrong')", "always", False))
    assert gpu.run(tmp_path, out, 60, False) == 1
    said = json.loads((out / "gpu.json").read_text())
    assert [each["status"] for each in said["steps"]] == ["ok", "no GPU", "failed (1)"]
    printed = capsys.readouterr().out
    assert "some step: no GPU" in printed and "wrong" in printed
    assert gpu.run(tmp_path, out, 3, False) == 0
    assert "device: no time left" in capsys.readouterr().out


def test_every_step_has_its_files(tmp_path: Path) -> None:
    for each in gpu.plan(ROOT, tmp_path, 400, False):
        scripts = [Path(part) for part in each.command if part.endswith(".py")]
        assert all(script.exists() and script.name in gpu_pack.TESTS for script in scripts), each
    alone = [each.name for each in gpu.plan(ROOT, tmp_path, 400, True) if not each.needs_gpu]
    assert alone == ["device", "first calls", "measure"]


def test_what_is_packed_exists(tmp_path: Path) -> None:
    import kernel_cases

    assert all((ROOT / name).exists() for name in gpu_pack.SOURCES)
    assert all((ROOT / "tests" / name).exists() for name in gpu_pack.TESTS)
    stems = {path.stem for folder in gpu_pack.KERNELS for path in (ROOT / folder).glob("*.py")}
    assert stems - gpu_pack.WITHOUT_CUDA | {"dense_tanh"} == set(kernel_cases.DRAWN)
    with pytest.raises(ValueError, match="is there already"):
        gpu_pack.pack(tmp_path)


def test_measuring_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    from tiaot.benchmarks import gpu_measure

    names = ["tiaot", "tiaot_bound", "tiaot_graph", "tiaot_autograd", "torch", "torch_autograd"]
    cases = list(gpu_measure.measure("cpu", 20, ((5, 8, 4),), names))
    assert [case["task"] for case in cases] == ["x", "forward", "xWb"]
    for case in cases:
        for name in names:
            outcome = case["peers"][name]
            if name == "tiaot_graph" or (case["task"] == "forward" and name.endswith("autograd")):
                assert "skipped" in outcome
            else:
                assert outcome["host_us"] > 0 and outcome["us"] > 0 and "gpu_us" not in outcome, outcome
    assert [case.get("skipped") for case in gpu_measure.measure("cpu", 0, ((5, 8, 4),), names)] == ["no time left"] * 3
    monkeypatch.setitem(gpu_measure.CONTENDERS, "torch", ("wrong", lambda problem: lambda: problem.tensors[0] + 1))
    (case, *_) = gpu_measure.measure("cpu", 20, ((5, 8, 4),), ["torch"])
    assert "off by" in case["peers"]["torch"]["failed"] and "us" not in case["peers"]["torch"]
    problem = gpu_measure.make_problem((5, 8, 4), "x", "cpu")
    assert "off by" in gpu_measure.wrong(problem, (problem.tensors[0],))
    problem = gpu_measure.make_problem((5, 8, 4), "forward", "cpu")
    assert "off by" in gpu_measure.wrong(problem, problem.tensors[3])
