"""Prints the wheel's bill of materials (CycloneDX 1.6): whose code is in its files.

    python packaging/sbom.py [--libgcc VERSION]

CMake runs it, and puts it where PEP 770 says. Versions of what is linked in are those of this Python's packages; those
of what modules are made with are pinned in pyproject.toml. What is needed at run time (NumPy) is not in the wheel, and
not here.
"""

import argparse
import importlib.metadata
import json
import re
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def pinned(package: str) -> str:
    """The version that pyproject.toml builds with."""
    found = re.search(rf'"{package}==([^"]+)"', PYPROJECT.read_text())
    if found is None:
        raise SystemExit(f"{PYPROJECT}: no version of {package} is pinned")
    return found[1]


def component(name: str, licence: str, where: str, version: str | None = None, url: str | None = None) -> dict:
    """One piece of others' code. where: in which files of the wheel it is; url: where it is from, else PyPI has it."""
    entry = {"type": "library", "bom-ref": name, "name": name, "description": where}
    if version:
        entry["version"] = version
    entry["licenses"] = [{"expression": licence}]
    if url:
        entry["externalReferences"] = [{"type": "website", "url": url}]
    else:
        entry["purl"] = f"pkg:pypi/{name}@{version}"
    return entry


def bill(libgcc: str | None) -> dict:
    """The document. libgcc: the version of GCC whose support library is linked in, if it is."""
    version = re.search(r'^version = "(.+)"', PYPROJECT.read_text(), re.MULTILINE)[1]
    modules = "code that is generated into modules/*.tiaot.so"
    components = [
        component("nanobind", "BSD-3-Clause", "linked into _core", importlib.metadata.version("nanobind")),
        component("robin-map", "MIT", "linked into _core, with nanobind", url="https://github.com/Tessil/robin-map"),
        component("taichi", "Apache-2.0", modules, pinned("taichi")),
        component("llvmlite", "BSD-2-Clause AND Apache-2.0 WITH LLVM-exception", modules, pinned("llvmlite")),
        component(
            "libdevice",
            "LicenseRef-CUDA-Toolkit-EULA",
            "parts of it, in the CUDA code of modules/*.tiaot.so",
            url="https://docs.nvidia.com/cuda/eula",
        ),
    ]
    if libgcc:
        components.append(
            component(
                "libgcc",
                "GPL-3.0-or-later WITH GCC-exception-3.1",
                "conversions of float16, linked into export/libtiaot_ptx.so",
                libgcc,
                "https://gcc.gnu.org",
            )
        )
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "library",
                "bom-ref": "tiaot",
                "name": "tiaot",
                "version": version,
                "purl": f"pkg:pypi/tiaot@{version}",
                "licenses": [{"expression": "Apache-2.0"}],
            }
        },
        "components": components,
        "dependencies": [{"ref": "tiaot", "dependsOn": [entry["bom-ref"] for entry in components]}],
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--libgcc", metavar="VERSION", help="the version of the libgcc that is linked in")
    print(json.dumps(bill(parser.parse_args().libgcc), indent=2))
