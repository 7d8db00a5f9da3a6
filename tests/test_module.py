"""Module files: opening right ones and wrong ones, closing, describing, pickling."""

import copy
import gc
import inspect
import os
import pickle
import re
import shutil
import subprocess
import sys
import weakref
from pathlib import Path

import module_files
import numpy as np
import pytest
import tiaot


def call(kernel: tiaot.Kernel) -> np.ndarray:
    """Calls the kernel `close` of fixtures/small.c: the factor that the file was built with."""
    return kernel(np.ones(1, np.float32), np.ones(1, np.int32))[0]


def test_module_of_several_kernels(small: tiaot.Module, small_path: Path) -> None:
    assert small.name == "small"
    assert small.path == str(small_path)
    assert small.hash == module_files.HASH
    assert small.cpu_level in ("x86-64-v2", "x86-64-v3", "x86-64-v4")
    assert list(small.kernels) == ["pair", "close", "wait"]
    assert small.pair is small.kernels["pair"]
    assert small.pair.module is small
    assert small.pair.name == "pair"
    assert small.pair.signature == "x[B, n], s[n] -> p[B, n], q[B]"
    assert small.pair.variants == ("float32_dynamic",)
    assert {"pair", "close", "wait", "kernels", "info"} <= set(dir(small))
    assert repr(small) == f"<tiaot.Module small '{small_path}'>"
    assert repr(small.pair) == "<tiaot.Kernel pair: x[B, n], s[n] -> p[B, n], q[B]>"
    assert repr(small.pair.vjp) == "<tiaot.Entry pair.vjp: x[B, n], s[n] -> p[B, n], q[B]>"
    assert repr(small.pair.restrict("float32_dynamic")).endswith("q[B]; float32_dynamic>")
    with pytest.raises(AttributeError, match=r"^small: expected .* of \['pair', 'close', 'wait'\], got 'nothing'$"):
        small.nothing  # noqa: B018


def test_a_kernel_named_like_an_attribute(small: tiaot.Module) -> None:
    assert not isinstance(small.close, tiaot.Kernel)
    assert call(small.kernels["close"]) == 2


def test_the_dict_of_kernels_is_a_copy(small: tiaot.Module) -> None:
    small.kernels.clear()
    assert list(small.kernels) == ["pair", "close", "wait"]


def test_info(small: tiaot.Module) -> None:
    info = small.info()
    pair, close, _ = info.pop("kernels")
    assert info == {
        "name": "small",
        "path": small.path,
        "hash": small.hash,
        "abi_version": 5,
        "rewritten": False,
        "target": "x86_64-linux",
        "cpu_level": small.cpu_level,
        "tiaot_version": "0",
        "taichi_version": "0",
        "llvm_version": "0",
        "state": None,
        "cuda": None,
    }
    levels = {"x86-64-v2": 64, "x86-64-v3": 64, "x86-64-v4": 64}
    same = {"block_rows": 8, "code_bytes": levels, "cuda": False, "cuda_missing": "", "cuda_order": None}
    assert pair == {
        "name": "pair",
        "signature": "x[B, n], s[n] -> p[B, n], q[B]",
        "doc": "",
        "verification": "",
        "dims": ["B", "n"],
        "batch_dim": "B",
        "state": False,
        "inputs": [
            {"name": "x", "dims": ["B", "n"], "batched": True, "differentiable": True, "value": False},
            {"name": "s", "dims": ["n"], "batched": False, "differentiable": True, "value": False},
        ],
        "outputs": [
            {"name": "p", "dims": ["B", "n"], "batched": True, "differentiable": False, "value": False},
            {"name": "q", "dims": ["B"], "batched": True, "differentiable": False, "value": False},
        ],
        "variants": [
            {
                "name": "float32_dynamic",
                "dtypes": dict.fromkeys("xspq", "float32"),
                "fixed": {},
                "autodiff": False,
                "entries": [
                    {"kind": "forward", "wrt": [], "symbol": "pair", **same},
                    {"kind": "vjp", "wrt": ["x", "s"], "symbol": "pair_vjp", **same},
                ],
            }
        ],
    }
    assert close["batch_dim"] is None
    assert close["variants"][0]["dtypes"] == {"x": "float32", "k": "int32", "y": "float32"}


def test_python_signatures(small: tiaot.Module) -> None:
    assert str(inspect.signature(small.pair)) == "(x, s, *, out=None, num_threads=None, stream=None)"
    expected = "(x, s, p_cotangent, q_cotangent, *, wrt='x', out=None, num_threads=None, stream=None)"
    assert str(inspect.signature(small.pair.vjp)) == expected
    expected = "(x, s, *, wrt='x', mode=None, out=None, num_threads=None, stream=None)"
    assert str(inspect.signature(small.pair.jacobian)) == expected


@pytest.mark.parametrize("spelling", [str, Path, os.fsencode, os.path.relpath])
def test_spellings_of_a_path(small_path: Path, spelling: object) -> None:
    assert tiaot.open(spelling(small_path)).path == str(small_path)


def test_a_name_beyond_ascii(small_path: Path, tmp_path: Path) -> None:
    for name in ("größe ∂.so", os.fsdecode(b"\xff.so")):
        path = tmp_path / name
        shutil.copy(small_path, path)
        module = tiaot.open(path)
        kernel = module.kernels["close"]
        assert module.path == str(path)
        assert call(pickle.loads(pickle.dumps(kernel))) == 2
        module.close()
        with pytest.raises(tiaot.ModuleError, match=r"is closed$"):
            call(kernel)


def test_wrong_paths() -> None:
    with pytest.raises(ValueError, match=r"^open: argument 'path': expected .* without null bytes, got '/a\\x00b'$"):
        tiaot.open("/a\0b")
    for path in (None, 3, [], 1.5):
        with pytest.raises(TypeError):
            tiaot.open(path)
    with pytest.raises(TypeError, match=r"^load: argument 'name': expected a str, got int$"):
        tiaot.load(3)
    for name in ("", "nothing", "../dense_tanh", "dense_tanh.tiaot.so", "\0"):
        message = f"load: argument 'name': expected one of dense_tanh, got {name!r}"
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            tiaot.load(name)


# Each makes a wrong file out of a right one; with what the message says of it.
WRONG_FILES = {
    "empty": (lambda m: b"", "the file is empty"),
    "text": (lambda m: b"x" * 1000, "it is not a tiaot module, not even a shared library"),
    "a byte": (lambda m: b"x", "it is not a tiaot module, not even a shared library"),
    "foreign": (lambda m: m.replace(b"TiaotModule", b"SomeoneElse"), "it is a shared library, but not a tiaot module"),
    "half": (lambda m: m[: len(m) // 2], "the file is truncated"),
    "a kilobyte": (lambda m: m[:1000], "the file is truncated"),
    "a byte less": (lambda m: m[:-1], "the file is truncated"),
    "longer": (lambda m: m + bytes(70_000), "the file is damaged: expected"),
    "flipped byte": (lambda m: flipped(m, len(m) // 2), "the file is damaged: expected checksum"),
    "flipped last byte": (lambda m: flipped(m, len(m) - 1), "the file is damaged: expected checksum"),
    "flipped in the note": (
        lambda m: flipped(m, m.index(b"TiaotModule") + 100),
        "the file is damaged: expected checksum",
    ),
    "zeros": (lambda m: m[:64] + bytes(len(m) - 64), "not a tiaot module"),
    "checksum": (lambda m: module_files.with_note(m, file_crc=1), "the file is damaged: expected checksum 00000001"),
    "older ABI": (
        lambda m: module_files.with_note(m, abi_version=0),
        f"it was exported by tiaot 0 for ABI version 0, this tiaot {tiaot.__version__} reads version 5: export it "
        "again",
    ),
    "newer ABI": (
        lambda m: module_files.with_note(m, abi_version=6, tiaot_version=b"7.8.9"),
        f"it was exported by tiaot 7.8.9 for ABI version 6, this tiaot {tiaot.__version__} reads version 5: "
        "upgrade tiaot to 7.8.9 or newer",
    ),
    "other machine": (lambda m: m[:18] + b"\xb7" + m[19:], "it is not a shared library for this machine"),
}


def flipped(data: bytes, index: int) -> bytes:
    return data[:index] + bytes([data[index] ^ 1]) + data[index + 1 :]


@pytest.mark.parametrize("case", WRONG_FILES)
def test_wrong_file(small_path: Path, tmp_path: Path, case: str) -> None:
    make, message = WRONG_FILES[case]
    path = tmp_path / "wrong.so"
    path.write_bytes(make(small_path.read_bytes()))
    with pytest.raises(tiaot.ModuleError) as caught:
        tiaot.open(path)
    assert f"cannot open module '{path}': " in str(caught.value)
    assert message in str(caught.value)
    assert isinstance(caught.value, OSError)


@pytest.mark.parametrize("tool", ["strip", "patchelf"])
def test_what_tools_do_to_a_module(tmp_path: Path, tool: str) -> None:
    """Its checksums are in a note, which they keep, and hold for what they leave alone."""
    if shutil.which(tool) is None:
        pytest.skip(f"no {tool}")
    shipped = tiaot.load("dense_tanh")
    path = tmp_path / "rewritten.so"
    shutil.copy(shipped.module.path, path)
    commands = {"strip": ["strip", path], "patchelf": ["patchelf", "--set-rpath", "/opt/some/where", path]}
    subprocess.run(commands[tool], check=True)
    assert path.read_bytes() != Path(shipped.module.path).read_bytes()
    module = tiaot.open(path)
    assert (module.hash, module.info()["rewritten"]) == (shipped.module.hash, True)
    x, W, b, v = (np.ones(shape, np.float32) for shape in ((2, 8), (4, 8), 4, (2, 4)))
    assert np.array_equal(module.dense_tanh.vjp(x, W, b, v), shipped.vjp(x, W, b, v))
    # In the middle of the code: .text begins at 16 KB and is a megabyte long.
    path.write_bytes(flipped(path.read_bytes(), 100_000))
    with pytest.raises(tiaot.ModuleError, match=r"the file is damaged: expected checksum .* of code and tables"):
        tiaot.open(path)


def test_other_things_than_files(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path, message in (
        (tmp_path, "it is a directory"),
        (tmp_path / "nothing", "No such file or directory"),
        (fifo, "it is not a regular file"),
        (Path("/dev/zero"), "it is not a regular file"),
    ):
        with pytest.raises(tiaot.ModuleError, match=f"^cannot open module '{path}': {message}$"):
            tiaot.open(path)


@pytest.mark.parametrize(
    "defines, message",
    [({"ABI": "7"}, "its descriptor has ABI version 7"), ({"tiaot_module_descriptor": "another"}, "it has no symbol")],
)
def test_wrong_descriptor(tmp_path: Path, defines: dict[str, str], message: str) -> None:
    with pytest.raises(tiaot.ModuleError, match=message):
        tiaot.open(module_files.write_small(tmp_path / "wrong.so", **defines))


@pytest.mark.parametrize("defines", [{"FAULT_ADDRESS": '"16"'}, {"FAULT_STATE": "2"}])
def test_wild_record_of_faults(tmp_path: Path, defines: dict[str, str]) -> None:
    with pytest.raises(tiaot.ModuleError, match="its tiaot_fault lies outside of it, or has a fault in it before"):
        tiaot.open(module_files.write_small(tmp_path / "wrong.so", **defines))
    tiaot.open(module_files.write_small(tmp_path / "right.so", hash=module_files.OTHER_HASH, FAULT_STATE="0"))


def test_close(small_path: Path) -> None:
    module = tiaot.open(small_path)
    x, s = np.ones((2, 3), np.float32), np.ones(3, np.float32)
    pair, vjp = module.pair, module.pair.vjp
    bound = pair.bind(x, s)
    bound()
    assert not module.closed
    module.close()
    module.close()
    assert module.closed
    for label, use in {
        "pair.forward: its": lambda: pair(x, s),
        "pair.vjp: its": lambda: vjp(x, s, x, x[:, 0]),
        "pair.jacobian: its": lambda: pair.jacobian(x, s),
        "pair.forward: its ": bound,
        "pair.vjp: its ": lambda: vjp.bind(x, s, x, x[:, 0]),
        "small: the": lambda: module.pair,
        "small: the ": lambda: module.kernels,
        "small: the  ": module.info,
    }.items():
        with pytest.raises(tiaot.ModuleError, match=f"^{label.strip()} module '{small_path}' is closed$"):
            use()
    assert repr(module) == f"<tiaot.Module small '{small_path}', closed>"
    assert (module.name, module.hash) == ("small", module_files.HASH)
    assert not hasattr(module, "_repr_html_")


def test_context_manager(small_path: Path) -> None:
    with tiaot.open(small_path) as module:
        assert call(module.kernels["close"]) == 2
    assert module.closed
    with pytest.raises(KeyError), tiaot.open(small_path) as module:
        raise KeyError
    assert module.closed


def test_load_opens_once_and_again_when_closed() -> None:
    kernel = tiaot.load("dense_tanh")
    assert tiaot.load("dense_tanh") is kernel
    kernel.module.close()
    again = tiaot.load("dense_tanh")
    assert again is not kernel
    assert again.module.hash == kernel.module.hash


def handles(module: tiaot.Module) -> list[object]:
    kernel = module.kernels["pair"] if module.name == "small" else module.dense_tanh
    return [module, kernel, kernel.vjp, kernel.jacobian, kernel.restrict("float32_dynamic")]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle(small: tiaot.Module, protocol: int) -> None:
    for module in (small, tiaot.load("dense_tanh").module):
        for handle in handles(module):
            back = pickle.loads(pickle.dumps(handle, protocol))
            assert type(back) is type(handle)
            assert repr(back) == repr(handle)
    # Handles pickled together share their module.
    kernel, vjp = pickle.loads(pickle.dumps((small.pair, small.wait), protocol))
    assert kernel.module is vjp.module


def test_copy(small: tiaot.Module) -> None:
    for handle in handles(small):
        for make in (copy.copy, copy.deepcopy):
            assert repr(make(handle)) == repr(handle)


def test_a_pickle_holds_the_shipped_name_not_the_path() -> None:
    kernel = tiaot.load("dense_tanh")
    data = pickle.dumps(kernel)
    assert os.path.dirname(kernel.module.path).encode() not in data
    assert pickle.loads(data) is kernel


def test_bound_calls_do_not_pickle(small: tiaot.Module) -> None:
    bound = small.pair.bind(np.ones((2, 3), np.float32), np.ones(3, np.float32))
    message = "^pair.forward: a bound call cannot be pickled, it stands for arrays of this process$"
    for use in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match=message):
            use(bound)


def test_another_file_at_the_same_path(tmp_path: Path) -> None:
    path = module_files.write_small(tmp_path / "small.so")
    module = tiaot.open(path)
    kernel = module.kernels["close"]
    data = pickle.dumps(kernel)
    module_files.write_small(path, hash=module_files.OTHER_HASH, FACTOR="3.0f")
    # The old code still runs, beside the new.
    other = tiaot.open(path)
    assert other.hash == module_files.OTHER_HASH
    assert call(other.kernels["close"]) == 3
    assert call(kernel) == 2
    module.close()
    assert call(other.kernels["close"]) == 3
    message = f"^{path}: expected the module with hash {module_files.HASH}, got {module_files.OTHER_HASH}$"
    with pytest.raises(tiaot.ModuleError, match=message):
        pickle.loads(data)


def test_handles_are_collected(tmp_path: Path) -> None:
    small_path = module_files.write_small(tmp_path / "collected.so")  # a name that no other has

    class Holder(list):  # a list that a weak reference can point to
        pass

    holder = Holder()
    module = tiaot.open(small_path)
    x, s = np.ones((2, 3), np.float32), np.ones(3, np.float32)
    references = sys.getrefcount(x)
    holder += [holder, module, module.pair, module.pair.vjp, module.pair.bind(x, s)]
    module.pair.jacobian(x, s, wrt=("x", "s"))
    gone = weakref.ref(holder)
    speaker = type("Speaker", (), {"__dlpack__": x.__dlpack__, "__dlpack_device__": x.__dlpack_device__})()
    speaker.bound = module.pair.bind(speaker, s)  # a cycle through nothing but the bound call
    speaker_gone = weakref.ref(speaker)
    del holder, module, speaker
    gc.collect()
    assert gone() is None
    assert speaker_gone() is None
    assert sys.getrefcount(x) == references
    assert not is_mapped(small_path)


def is_mapped(path: Path) -> bool:
    """Whether code of a module file, whose name no other has, is in this process."""
    return path.name in Path("/proc/self/maps").read_text()


def test_a_module_is_unmapped_when_its_last_handle_goes(tmp_path: Path) -> None:
    path = module_files.write_small(tmp_path / "unmapped.so")
    x, s = np.ones((2, 3), np.float32), np.ones(3, np.float32)
    gc.collect()
    gc.disable()  # a service that swaps modules must not wait for it
    try:
        module = tiaot.open(path)
        pair = module.pair
        wanted = pair(x, s)
        assert pair.module is module and is_mapped(path)
        del module
        np.testing.assert_equal(pair(x, s), wanted)  # a kernel is enough to keep the code
        again = pair.module
        assert (again.path, again.hash, again.closed) == (str(path), module_files.HASH, False)
        assert again is pair.module and type(again.pair) is tiaot.Kernel
        handles = [pair.vjp, pair.restrict("float32_dynamic"), pair.bind(x, s), again.kernels]
        del pair, again
        while handles:
            assert is_mapped(path)
            handles.pop()
        assert not is_mapped(path)

        pair = tiaot.open(path).pair
        pair.module.close()
        assert pair.module.closed
        with pytest.raises(tiaot.ModuleError, match=rf"^pair.forward: its module '{path}' is closed$"):
            pair(x, s)
        with pytest.raises(tiaot.ModuleError, match=rf"^small: the module '{path}' is closed$"):
            pair.module.kernels  # noqa: B018
        del pair
        assert not is_mapped(path)
    finally:
        gc.enable()


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


def test_cpu_level_from_the_environment(small_path: Path) -> None:
    code = f"import tiaot; print(tiaot.open({str(small_path)!r}).cpu_level, tiaot.cpu_level())"
    done = run(code, TIAOT_CPU_LEVEL="x86-64-v2")
    assert done.stdout == f"x86-64-v2 {tiaot.cpu_level()}\n"
    done = run(code, TIAOT_CPU_LEVEL="x86-64-v9")
    assert done.returncode == 1
    assert "TIAOT_CPU_LEVEL" in done.stderr
    assert "x86-64-v9" in done.stderr


def test_import_brings_in_little() -> None:
    code = """
import sys, numpy, os, threading, importlib.util  # the last is what an editable install finds its files with
before = set(sys.modules)
import tiaot
tiaot.load("dense_tanh")
print(*sorted(set(sys.modules) - before - set(sys.builtin_module_names)))
"""
    done = run(code)
    assert done.stdout.split() == ["tiaot", "tiaot._core", "tiaot._load", "tiaot._state"], done.stderr
