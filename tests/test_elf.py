"""The binaries as files: hardened, and with no instruction beyond the baseline where the CPU is not known yet."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import tiaot
from tiaot import _core

if not shutil.which("readelf") or not shutil.which("objdump"):
    pytest.skip("needs binutils", allow_module_level=True)

EXTENSION = Path(_core.__file__)
LIBRARY = EXTENSION.parent / "lib" / "libtiaot.so.0"


def module() -> Path:
    return Path(tiaot.load("dense_tanh").module.path)


def run(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("which", ["extension", "library", "module"])
def test_hardening(which: str) -> None:
    path = {"extension": EXTENSION, "library": LIBRARY, "module": module()}[which]
    segments, dynamic = run("readelf", "-lW", path), run("readelf", "-dW", path)
    assert "GNU_RELRO" in segments
    assert re.search(r"\(FLAGS.*(BIND_NOW|NOW)", dynamic)  # with it, all of the table of functions is read-only
    assert "TEXTREL" not in dynamic
    assert re.search(r"GNU_STACK .* RW ", segments)
    assert not re.search(r"LOAD .* RWE ", segments)
    assert "RPATH" not in dynamic and "RUNPATH" not in dynamic


def test_a_module_runs_nothing_when_it_is_opened() -> None:
    dynamic = run("readelf", "-dW", module())
    for constructors in ("INIT", "FINI", "INIT_ARRAY", "FINI_ARRAY", "PREINIT_ARRAY"):
        assert f"({constructors})" not in dynamic
    assert "IFUNC" not in run("readelf", "-sW", module())


def test_a_module_has_a_name_and_a_build_id() -> None:
    assert "Library soname: [dense_tanh.tiaot.so]" in run("readelf", "-dW", module())
    [build_id] = re.findall(r"Build ID: (\w+)", run("readelf", "-nW", module()))
    assert len(build_id) == 40 and tiaot.load("dense_tanh").module.hash.startswith(build_id)


@pytest.mark.parametrize("path", [EXTENSION, LIBRARY], ids=lambda path: path.name)
def test_the_runtime_is_fortified(path: Path) -> None:
    assert re.search(r"__(vsnprintf|memcpy|snprintf|pread)_chk", run("readelf", "-sW", "--dyn-syms", path))


@pytest.mark.parametrize("path", [EXTENSION, LIBRARY], ids=lambda path: path.name)
def test_symbols_of_old_systems(path: Path) -> None:
    """Nothing of a libgcc newer than the oldest supported compiler's, as conversions of float16 would be."""
    versions = re.findall(r"GCC_(\d+)\.", run("readelf", "-VW", path))
    assert versions and all(int(version) < 7 for version in versions)


# What came after SSE2, by its spelling: SSE3, SSSE3, SSE4, POPCNT, AVX and its companions. Prefixes, but for the last.
NEWER = re.compile(
    r"^(v[a-z]|addsub|hadd|hsub|mov(ddup|shdup|sldup|ntdqa|be)|lddqu|pabs|palignr|phadd|phsub|pmaddub|pmulhrs|pshufb|psign"
    r"|blend|pblend|dpp|insertps|extractps|packusdw|pcmpeqq|pcmpgtq|pextr[bdq]|pinsr[bdq]|pm(ax|in)(sb|sd|ud|uw)"
    r"|pclmul|phminpos|pmov[sz]x|pmuldq|pmulld|ptest|round[sp]|pcmp[ei]str|crc32|popcnt|[lt]zcnt|andn\b|bextr|bls|bzhi|mulx|pdep|pext"
    r"|rorx|sarx|shlx|shrx|k(mov|and|or|not|xn?or|shift|unpck|ortest|test|add)[bwdq])"
)


def newer_instructions(path: Path, *, outside: str) -> dict[str, set[str]]:
    """Function -> its instructions that not every x86-64 has, but for functions whose name matches `outside`."""
    found: dict[str, set[str]] = {}
    function = ""
    for line in run("objdump", "-d", "--no-show-raw-insn", path).splitlines():
        if head := re.match(r"[0-9a-f]+ <(.*)>:$", line):
            function = head[1]
        elif (parts := line.split("\t")) and len(parts) == 2 and not re.search(outside, function):
            words = [word for word in parts[1].split() if not word.startswith(("rep", "lock", "data16", "cs", "bnd"))]
            if words and NEWER.match(words[0]):
                found.setdefault(function, set()).add(words[0])
    return found


def test_what_chooses_the_level_runs_on_every_cpu() -> None:
    # Code for a level ends in its name; what is of CUDA is called by the runtime, once it has seen the CPU.
    levels = r"_v[234](\.body|_workspace)?$|_cuda(_workspace)?$|_v[234]\.|^turns_"
    assert "tiaot_detect_level" in run("readelf", "-sW", module())
    assert newer_instructions(module(), outside=levels) == {}
    assert newer_instructions(module(), outside="^$")  # there are such in the rest


@pytest.mark.parametrize("path", [EXTENSION, LIBRARY], ids=lambda path: path.name)
def test_the_runtime_runs_on_every_cpu(path: Path) -> None:
    """Its binaries may be stripped of the functions' names: what stands in them anywhere is what crc32.cpp has for CPUs
    that it has asked, and tzcnt, which compilers write for bsf where both give the same."""
    found = set().union(*newer_instructions(path, outside="^$").values())
    assert {word for word in found if word.startswith("pclmul")}  # they are seen
    assert {word for word in found if not word.startswith("pclmul")} <= {"pextrd", "tzcnt"}


def test_the_library_ends_no_process_and_writes_nowhere() -> None:
    wanted = run("nm", "-D", "--undefined-only", "--demangle", LIBRARY)
    names = {line.split("@")[0].split(maxsplit=1)[1] for line in wanted.splitlines()}
    assert {"malloc", "pthread_create"} & names
    ends = {"exit", "_exit", "_Exit", "quick_exit", "abort", "raise", "kill", "__assert_fail", "std::terminate()"}
    streams = {"stdout", "stderr", "std::cout", "std::cerr", "std::clog", "syslog", "perror", "puts", "putchar"}
    assert not names & (ends | streams)
    assert not [name for name in names if re.match(r"_*(v?d?f?printf|fputs|fwrite)(_chk)?$", name)]
