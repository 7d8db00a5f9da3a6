"""The exporter: kernels unlike the shipped one, reproducible bytes, and what it says of kernels that it cannot take."""

import ctypes
import os
import re
import subprocess
import sys
from pathlib import Path

import module_files
import numpy as np
import pytest
import tiaot

pytest.importorskip("taichi")
pytest.importorskip("llvmlite")

KERNELS = Path(__file__).parent / "kernels" / "various.py"
SHIPPED = Path(__file__).parents[1] / "kernels" / "dense_tanh.py"


def run_export(source: Path, target: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tiaot", "export", "--no-verify", str(source), "-o", str(target), *options]
    return subprocess.run(
        command, env={**os.environ, **environment}, cwd=target.parent, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="session")
def various(tmp_path_factory: pytest.TempPathFactory) -> tiaot.Module:
    target = tmp_path_factory.mktemp("various") / "various.so"
    return tiaot.open(module_files.exported(KERNELS, target, "--no-verify"))


def exponentials(a: np.ndarray, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    value = (np.exp(a * s) + np.sin(a) * np.cos(s)).sum(-1)
    p = np.log(1 + value * value)
    return p, (p * np.tanh(p)).sum(-1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 2, 3), (9, 2, 3), (500, 2, 3), (300, 1, 5), (0, 1, 5)])
def test_several_outputs_and_an_adjoint_that_reads_them(various: tiaot.Module, shape: tuple, dtype: type) -> None:
    rng = np.random.default_rng(shape)
    kernel = various.exponentials
    a, s = rng.uniform(-1, 1, shape).astype(dtype), rng.uniform(-1, 1, shape[-1]).astype(dtype)
    p, q = kernel(a, s)
    exact = exponentials(a.astype(float), s.astype(float))
    tolerance = 200 * np.finfo(dtype).eps  # the values are below 10, and a dozen operations lead to each
    assert np.allclose(p, exact[0], rtol=tolerance, atol=tolerance)
    assert np.allclose(q, exact[1], rtol=tolerance, atol=tolerance)
    vp, vq = rng.standard_normal(p.shape).astype(dtype), rng.standard_normal(q.shape).astype(dtype)
    copies = vp.copy(), vq.copy()
    ga, gs = kernel.vjp(a, s, vp, vq, wrt=("a", "s"))
    assert vp.tobytes() == copies[0].tobytes() and vq.tobytes() == copies[1].tobytes()
    step = 1e-6
    for index, gradient in enumerate((ga, gs)):
        direction = rng.standard_normal(gradient.shape)
        sides = []
        for sign in (1, -1):
            inputs = [a.astype(float), s.astype(float)]
            inputs[index] = inputs[index] + sign * step * direction
            result = exponentials(*inputs)
            sides.append((vp.astype(float) * result[0]).sum() + (vq.astype(float) * result[1]).sum())
        slope = (sides[0] - sides[1]) / (2 * step)
        scale = 1 + np.abs(gradient.astype(float) * direction).sum()
        assert abs((gradient * direction).sum() - slope) <= (2000 * np.finfo(dtype).eps + 1e-8) * scale


def test_a_kernel_without_a_batch_and_a_written_gradient(various: tiaot.Module) -> None:
    rng = np.random.default_rng(1)
    u, v = rng.standard_normal((2, 5, 4))
    w = various.smooth(u)
    assert np.allclose(w, u * u + 0.5 * np.concatenate([u[:1], u[:-1]]), rtol=1e-15, atol=1e-15)
    expected = 2 * u * v
    expected[0] += 0.5 * v[0]
    expected[:-1] += 0.5 * v[1:]
    assert np.allclose(various.smooth.vjp(u, v), expected, rtol=1e-14, atol=1e-14)
    full = various.smooth.jacobian(u)
    assert full.shape == (5, 4, 5, 4)
    assert np.allclose(np.einsum("ij,ijkl->kl", v, full), expected, rtol=1e-14, atol=1e-14)


def test_a_kernel_without_a_batch_and_taichis_gradient(various: tiaot.Module) -> None:
    t, v = np.random.default_rng(2).standard_normal((2, 70)).astype(np.float32)
    copy = v.copy()
    assert np.allclose(various.halved(t), np.float32(0.5) * t * t + 3 * t, rtol=1e-6, atol=1e-6)
    for _ in range(2):  # twice: what one call leaves behind must not show in the next
        assert np.allclose(various.halved.vjp(t, v), (t + 3) * v, rtol=1e-6, atol=1e-6)
    assert np.array_equal(v, copy)


@pytest.mark.parametrize("n", [1, 31, 32, 33, 40, 300])
def test_the_stack_of_an_adjoint_with_a_batch(various: tiaot.Module, n: int) -> None:
    x, v = np.random.default_rng(n).uniform(-0.5, 0.5, (70, n)), np.random.default_rng(n).standard_normal(70)
    p, tangents = np.ones(70), np.zeros((70, n))
    for j in range(n):
        tangents = tangents * (np.cos(p) * x[:, j] + 1)[:, None]
        tangents[:, j] += np.sin(p)
        p = np.sin(p) * x[:, j] + p
    np.testing.assert_allclose(various.product(x), p, rtol=1e-13 * n)
    np.testing.assert_allclose(various.product.vjp(x, v), tangents * v[:, None], rtol=1e-12 * n, atol=1e-13 * n)


def test_integer_arithmetic_of_the_user_wraps(various: tiaot.Module) -> None:
    i = np.arange(40, dtype=np.float32).reshape(40, 1) * 1001
    seed = (i.astype(np.int64) * 1664525 + 1013904223).astype(np.int32)
    with np.errstate(over="ignore"):
        expected = ((seed * seed) >> 8).astype(np.float32) + i
    assert np.array_equal(various.wrapped(i), expected)


ELSEWHERE = {"PYTHONHASHSEED": "1234", "TZ": "Asia/Tokyo"}


def test_exporting_again_gives_the_same_bytes(tmp_path: Path) -> None:
    """Also elsewhere: in another folder, with another hash seed; and the same as what ships."""
    shipped = Path(tiaot.load("dense_tanh").module.path)
    target = tmp_path / "dense_tanh.tiaot.so"
    done = run_export(SHIPPED, target, "--cuda", "--no-cache", HOME=str(tmp_path), **ELSEWHERE)
    assert done.returncode == 0, done.stderr
    assert target.read_bytes() == shipped.read_bytes()
    assert target.with_name("dense_tanh.h").read_bytes() == shipped.with_name("dense_tanh.h").read_bytes()


def test_exporting_on_one_cpu_gives_the_same_bytes(tmp_path: Path) -> None:
    source = Path(__file__).parent / "kernels" / "levels.py"
    targets = [tmp_path / name / "levels.so" for name in ("all", "one")]
    cpus = os.sched_getaffinity(0)
    try:
        for target, allowed in zip(targets, (cpus, {min(cpus)}), strict=True):
            target.parent.mkdir()
            os.sched_setaffinity(0, allowed)
            done = run_export(source, target, "--no-cache", **(ELSEWHERE if target is targets[1] else {}))
            assert done.returncode == 0, done.stderr
    finally:
        os.sched_setaffinity(0, cpus)
    assert targets[0].read_bytes() == targets[1].read_bytes()


MANY_SUMS = """
@family("x[B, n], W[m, n] -> y[B, m]", batch="B", fixed=[{"n": 4, "m": 4}], dtypes=["float32"], wrt=["W"],
        derivative="taichi")
def layer(variant):
    @ti.kernel
    def forward(x: variant.array(2), W: variant.array(2), y: variant.array(2)):
        for i in range(y.shape[0]):
            for j in ti.static(range(4)):
                for k in ti.static(range(4)):
                    y[i, j] += ti.sin(W[j, k] * x[i, k])
    return autodiff(forward)
"""


def test_many_sums_over_a_batch_are_not_interleaved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The partial sums of several vectors of samples would not stay in registers; the code is smaller, too."""
    from tiaot.export.entry.cpu.lower import lower
    from tiaot.export.entry.cpu.rows import RowsEntry
    from tiaot.export.taichi.trace import trace_file
    from tiaot.export.target.x86_64 import X86_64

    source = tmp_path / "layer.py"
    source.write_text(HEADER + MANY_SUMS)
    traced = trace_file(source)
    primal, vjp = sorted(traced.traces, key=lambda trace: len(trace.wrt))
    arguments = (traced.families[0].signature, vjp, primal, X86_64, X86_64.forms[-1])
    bytes_of_code = lower(*arguments).code_bytes
    monkeypatch.setattr(RowsEntry, "has_many_sums", False)
    assert 1.2 * bytes_of_code < lower(*arguments).code_bytes


def test_lowered_code_names_no_cpu_of_this_machine() -> None:
    """Taichi's IR, from which all follows, holds no CPU name or feature list; the levels are given by name."""
    from tiaot.export.taichi.trace import trace_file

    for trace in trace_file(KERNELS).traces:
        for task in trace.tasks:
            code = task.partition("\nattributes #0")[0]  # of the declared functions, which are ours to define
            assert "define" in code
            assert "target-cpu" not in code and "target-features" not in code


HEADER = "import taichi as ti\nfrom tiaot.export import autodiff, family, written\n"
FAULTY = {
    "vectors in blocks of rows": (
        """
@family("x[B, 3] -> y[B]", batch="B", dtypes=["float32"], wrt=[])
def lengths(variant):
    @ti.kernel
    def forward(x: ti.types.ndarray(ti.math.vec3, ndim=1), y: variant.array(1)):
        for i in x:
            y[i] = x[i].norm()
    return written(forward, {}, block_rows=64)
""",
        r"lengths: parameter 'x' has vectors or matrices for elements, which a kernel that is written for blocks",
    ),
    "a mistake in the kernel": (
        """
@family("x[B] -> y[B]", batch="B", dtypes=["float32"])
def wrong(variant):
    @ti.kernel
    def forward(x: variant.array(1), y: variant.array(1)):
        ti.loop_config(serialize=True)
        for i in range(y.shape[0]):
            y[i] = undefined_name + x[i]
    return autodiff(forward)
""",
        r"faulty.py\", line 10.*(\n.*)*undefined_name",
    ),
    "an unknown parameter": (
        """
@family("x[B] -> y[B]", batch="B", dtypes=["float32"])
def wrong(variant):
    @ti.kernel
    def forward(x: variant.array(1), other: variant.array(1), y: variant.array(1)):
        ti.loop_config(serialize=True)
        for i in range(y.shape[0]):
            y[i] = x[i]
    return autodiff(forward)
""",
        r"parameter 'other' is none of the signature's arguments x, y",
    ),
    "no kernel": ("", r"declares no kernel"),
    "a signature without an arrow": ('family("x[B], y[B]")(lambda variant: None)', r"expected 'inputs -> outputs'"),
    "an output of unknown size": (
        'family("x[B] -> y[B, n]")(lambda variant: None)',
        r"dimension 'n' of output 'y' is in no input",
    ),
    "a batch in the middle": (
        'family("x[n, B] -> y[B]", batch="B")(lambda variant: None)',
        r"batch dimension 'B' must come first",
    ),
    "a name twice": ('family("x[B], x[B] -> y[B]")(lambda variant: None)', r"argument 'x' appears twice"),
    "an unknown type": (
        'family("x[B] -> y[B]", dtypes=["complex64"])(lambda variant: None)',
        r"dtypes: expected some of float32",
    ),
    "an unknown wrt": (
        'family("x[B] -> y[B]", wrt=["y"])(lambda variant: None)',
        r"wrt: expected names of inputs that can have a gradient \(x\), got 'y'",
    ),
    "a fixed batch": (
        'family("x[B] -> y[B]", batch="B", fixed=[{"B": 3}])(lambda variant: None)',
        r"fixed: 'B' is not a dimension",
    ),
}


@pytest.mark.parametrize("name", FAULTY)
def test_what_cannot_be_exported_is_named(name: str, tmp_path: Path) -> None:
    source, message = FAULTY[name]
    path = tmp_path / "faulty.py"
    path.write_text(HEADER + source)
    done = run_export(path, tmp_path / "faulty.so")
    assert done.returncode == 1
    assert re.search(message, done.stderr), done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "faulty.so").exists()


def test_without_a_linker_it_says_what_to_install(tmp_path: Path) -> None:
    from tiaot.export.module.link import LinkError, find_linker
    from tiaot.export.target import native

    path = os.environ["PATH"]
    os.environ["PATH"] = str(tmp_path)
    try:
        with pytest.raises(LinkError, match=r"looked for cc, gcc, clang, ld.lld, ld on the PATH; install one"):
            find_linker(native())
    finally:
        os.environ["PATH"] = path


def test_a_module_needs_nothing_but_libc(various: tiaot.Module) -> None:
    for module in (various, tiaot.load("dense_tanh").module):
        listing = subprocess.run(["readelf", "-d", module.path], capture_output=True, text=True, check=True).stdout
        assert set(re.findall(r"\(NEEDED\).*\[(.*)\]", listing)) <= {"libc.so.6", "libm.so.6"}


def test_the_tables_agree_with_the_header() -> None:
    """Field by field: what module/tables.py writes is what module.h says, read back through the runtime."""
    from tiaot.export.module import tables

    include = Path(tiaot.__file__).parent / "include" / "tiaot" / "module.h"
    text = include.read_text()
    assert f"#define TIAOT_ABI_VERSION {tables.ABI_VERSION}u" in text
    assert f'#define TIAOT_DESCRIPTOR_SYMBOL "{tables.DESCRIPTOR_SYMBOL}"' in text
    library = ctypes.CDLL(tiaot.load("dense_tanh").module.path)
    first = (ctypes.c_uint32 * 2).in_dll(library, tables.DESCRIPTOR_SYMBOL)
    assert list(first) == [tables.ABI_VERSION, 112]


@pytest.fixture(scope="module")
def levels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source, target = KERNELS.with_name("levels.py"), tmp_path_factory.mktemp("levels") / "levels.so"
    return module_files.exported(source, target, "--no-verify")


def test_code_by_level_and_workspace_for_the_largest(levels: Path, cpu_level: str) -> None:
    factor = {"x86-64-v2": 2, "x86-64-v3": 2, "x86-64-v4": 200}[cpu_level]
    along = 3 if factor == 2 else factor  # entries with tangents are made of kernels of their own
    # 32 MB of scratch at the highest level: with less memory than that the call would not survive.
    code = (
        "import numpy as np, tiaot\n"
        f"times = tiaot.open({str(levels)!r}).times\n"
        "x = np.ones((2, 20000))\n"
        f"assert (times(x) == {factor}).all() and (times.vjp(x, x) == {factor}).all()\n"
        f"assert all((each == {along}).all() for each in times.jvp(x, x))\n"
        f"gradient, change = times.hvp(x, x, x)\n"
        f"assert (gradient == {along}).all() and (change == 0).all()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_by_level_does_not_take() -> None:
    from tiaot.export import autodiff, by_level, written

    low, other = written(None, {"x": None}, block_rows=8), written(None, {"x": None}, block_rows=4)
    for implementations, message in (
        ({}, "got none"),
        ({"x86-64-v3": low}, "the first of which is needed; got 'x86-64-v3'"),
        ({"x86-64-v2": low, "avx512": low}, "expected implementations by some of x86-64-v2"),
        ({"x86-64-v2": autodiff(None)}, "x86-64-v2: expected what 'written' gave"),
        ({"x86-64-v2": low, "x86-64-v4": other}, "x86-64-v4: has another block_rows or other vjps"),
    ):
        with pytest.raises(ValueError, match=message):
            by_level(implementations)
    for along in (autodiff(None), other, written(None, {"x": None, "W": None}, block_rows=8)):
        with pytest.raises(ValueError, match="written: argument 'along': expected what 'written' gave"):
            written(None, {"x": None}, block_rows=8, along=along)


@pytest.fixture(scope="module")
def arcs(tmp_path_factory: pytest.TempPathFactory) -> tiaot.Kernel:
    source, target = KERNELS.with_name("arcs.py"), tmp_path_factory.mktemp("arcs") / "arcs.so"
    return tiaot.open(module_files.exported(source, target, "--no-verify")).arcs


@pytest.mark.parametrize("size", [1, 3, 4, 5, 8, 9, 40])  # around whole and half vectors
def test_tangents_of_functions_that_declare_the_same_intrinsic(arcs: tiaot.Kernel, size: int) -> None:
    rng = np.random.default_rng(size)
    x, tangent = rng.uniform(0.1, 0.9, (size, 3)), rng.standard_normal((size, 3))
    a, b, c = x.T
    y, along = arcs.jvp(x, tangent)
    np.testing.assert_allclose(y, np.arcsin(a) + np.arccos(b) * np.tan(c), rtol=1e-14)
    slopes = 1 / np.sqrt(1 - a * a), -np.tan(c) / np.sqrt(1 - b * b), np.arccos(b) / np.cos(c) ** 2
    np.testing.assert_allclose(
        along, sum(s * t for s, t in zip(slopes, tangent.T, strict=True)), rtol=1e-12, atol=1e-12
    )
