"""The library for C and C++, as it is installed: how programs find it, and that the examples run on it."""

import http.client
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import module_files
import numpy as np
import pytest
import tiaot
from tiaot import _core
from tiaot.config_command import flags

PREFIX = Path(_core.__file__).parent
EXAMPLES = Path(__file__).parents[1] / "examples" / "embed"

if not shutil.which("c++") or not shutil.which("cmake"):
    pytest.skip("needs a C++ compiler and CMake", allow_module_level=True)


def run(*command: str | Path, **options: object) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def module() -> str:
    return tiaot.load("dense_tanh").module.path


def check_layer(printed: str) -> None:
    """What layer.c prints is what Python calculates."""
    x, W = np.arange(6).reshape(2, 3), np.array([[0.5, 0, -0.25], [0, 0.125, 0]])
    y = np.tanh(x @ W.T + [0.25, -0.5])
    gx = ((1 - y * y) * [[1, 0], [0, 1]]) @ W
    for line, name, expected in zip(printed.splitlines(), ("y", "gx"), (y, gx), strict=True):
        words = line.split()
        assert words[0] == name
        np.testing.assert_allclose(np.array(words[1:], float), expected.ravel(), atol=2e-6)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The examples, built as their CMakeLists.txt says."""
    folder = tmp_path_factory.mktemp("embed")
    where = run(sys.executable, "-m", "tiaot", "config", "--cmakedir").strip()
    run("cmake", "-S", EXAMPLES, "-B", folder, f"-Dtiaot_DIR={where}", "-DCMAKE_C_FLAGS=-Wall -Wextra -Werror",
        "-DCMAKE_CXX_FLAGS=-Wall -Wextra -Werror -O1")  # fmt: skip
    run("cmake", "--build", folder)
    return folder


def test_the_c_example(built: Path) -> None:
    check_layer(run(built / "layer", module()))
    done = subprocess.run([built / "layer", "/nowhere"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "open: cannot open module '/nowhere': No such file or directory\n")


@pytest.mark.skipif(shutil.which("rustc") is None, reason="needs rustc")
def test_the_rust_example(tmp_path: Path) -> None:
    words = " ".join(flags(libs=True))
    run("rustc", "--edition", "2021", "-O", "-D", "warnings", EXAMPLES / "layer.rs", "-C", f"link-args={words}",
        "-o", tmp_path / "layer")  # fmt: skip
    check_layer(run(tmp_path / "layer", module()))
    done = subprocess.run([tmp_path / "layer", "/nowhere"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "layer: cannot open module '/nowhere': No such file or directory\n")


@pytest.mark.parametrize("program", ["service", "service_static"])
def test_weights_and_modules_are_swapped_under_load(built: Path, program: str) -> None:
    printed = run(built / program, module(), "300000", "3")
    found = re.match(r"900000 requests on 3 threads, (\d+) swaps, 0 wrong answers", printed)
    assert found and int(found[1]) > 3, printed


def test_a_service_over_http(built: Path) -> None:
    """Its weights are replaced while three clients ask: no request is lost, and none sees some of each."""
    if not (built / "http").exists():
        pytest.skip("needs cpp-httplib (Debian: libcpp-httplib-dev)")
    service = subprocess.Popen([built / "http", module(), "0", "4"], stdout=subprocess.PIPE, text=True)
    try:
        assert service.stdout is not None
        port = int(service.stdout.readline().removeprefix("port "))

        def ask(connection: http.client.HTTPConnection, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
            connection.request(method, path, body)
            response = connection.getresponse()
            return response.status, response.read()

        def put(connection: http.client.HTTPConnection, version: int) -> int:
            return ask(connection, "PUT", "/weights", np.full(36, version / 16, np.float32).tobytes())[0]

        def request() -> None:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            x = np.full((3, 8), 0.25, np.float32)
            while not done.is_set():
                status, answer = ask(connection, "POST", "/", x.tobytes())
                y = np.frombuffer(answer, np.float32)
                version = round(float(np.arctanh(y[0])) * 16 / 3)
                if status != 200 or y.size != 12 or not np.allclose(y, np.tanh(3 * version / 16), atol=1e-6):
                    wrong.append(answer)
                seen.append(version)
            connection.close()

        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        done, seen, wrong = threading.Event(), [], []
        clients = [threading.Thread(target=request) for _ in range(3)]
        for client in clients:
            client.start()
        try:
            for swap in range(300):
                assert put(connection, swap % 8) == 200
        finally:
            done.set()
            for client in clients:
                client.join()
        assert not wrong and len(seen) > 100 and set(seen) == set(range(8))
        refused = ask(connection, "POST", "/", b"123")
        assert refused == (400, b"expected rows of 8 float32, got 3 bytes\n")
        refused = ask(connection, "PUT", "/weights", b"123")
        assert refused == (400, b"expected W[4, 8] and b[4] in float32, got 3 bytes\n")
        latency = rf"{len(seen)} requests, 300 replacements; microseconds: p50 [\d.]+, p99 [\d.]+, p99.9 [\d.]+\n"
        assert re.fullmatch(latency, ask(connection, "GET", "/latency")[1].decode())
        connection.close()
        service.send_signal(signal.SIGTERM)
        printed, _ = service.communicate(timeout=60)
        assert service.returncode == 0 and re.fullmatch(latency, printed)
    finally:
        service.kill()
        service.wait()


def test_a_static_program_needs_no_library_of_ours(built: Path) -> None:
    assert "libtiaot" not in run("ldd", built / "service_static")
    assert str(PREFIX / "lib" / "libtiaot.so.0") in run("ldd", built / "service")


@pytest.mark.parametrize("static", [False, True])
def test_the_flags_of_the_command(tmp_path: Path, static: bool) -> None:
    wanted = run(sys.executable, "-m", "tiaot", "config", "--cflags", "--libs", *(["--static"] if static else []))
    assert wanted.split() == flags(cflags=True, libs=True, static=static)
    run("cc", EXAMPLES / "layer.c", *wanted.split(), "-o", tmp_path / "layer")
    check_layer(run(tmp_path / "layer", module()))


def test_pkg_config(tmp_path: Path) -> None:
    if shutil.which("pkg-config") is None:
        pytest.skip("no pkg-config")
    where = run(sys.executable, "-m", "tiaot", "config", "--pkgconfigdir").strip()
    words = run("pkg-config", "--cflags", "--libs", "tiaot", env={"PKG_CONFIG_PATH": where}).split()
    run("cc", EXAMPLES / "layer.c", *words, f"-Wl,-rpath,{PREFIX / 'lib'}", "-o", tmp_path / "layer")
    check_layer(run(tmp_path / "layer", module()))


@pytest.mark.parametrize("standard", ["c++17", "c++20"])
def test_the_cpp_layer(tmp_path: Path, standard: str) -> None:
    state = module_files.write_module("state.c", tmp_path / "state.so")
    source = Path(__file__).parent / "fixtures" / "library.cpp"
    strict = [f"-std={standard}", "-Wall", "-Wextra", "-Wshadow", "-pedantic", "-Werror"]
    run("c++", *strict, source, *flags(cflags=True, libs=True), "-o", tmp_path / "library")
    assert run(tmp_path / "library", module(), state).endswith("done\n")


def test_the_code_of_the_page_compiles_and_runs(tmp_path: Path) -> None:
    page = (EXAMPLES.parents[1] / "docs" / "embedding.md").read_text()
    blocks = re.findall(r"```cpp\n(.*?)```", page, re.DOTALL)
    assert blocks
    for index, block in enumerate(blocks):
        source = tmp_path / f"block{index}.cpp"
        source.write_text(block)
        run("c++", "-std=c++17", "-Wall", "-Werror", source, *flags(cflags=True, libs=True), "-o", tmp_path / "block")
        run(tmp_path / "block", module())


def test_nothing_but_the_interface_is_exported() -> None:
    header = (PREFIX / "include" / "tiaot" / "tiaot.h").read_text()
    declared = set(re.findall(r"^TIAOT_API [^;(]*?(\w+)\(", header, re.MULTILINE))
    listing = run("nm", "-D", "--defined-only", PREFIX / "lib" / "libtiaot.so.0")
    exported = {line.split()[2] for line in listing.splitlines()} - {"TIAOT_0.1"}
    assert len(declared) > 20
    assert exported == {f"{name}@@TIAOT_0.1" for name in declared}
    assert "[libtiaot.so.0]" in run("readelf", "-d", PREFIX / "lib" / "libtiaot.so.0")
