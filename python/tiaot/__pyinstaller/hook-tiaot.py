"""Takes along the modules that ship: PyInstaller knows them neither by an import nor by their names."""

from pathlib import Path

from PyInstaller.utils.hooks import get_package_paths

_MODULES = Path(get_package_paths("tiaot")[1]) / "modules"
datas = [(str(file), "tiaot/modules") for file in sorted(_MODULES.glob("*.so"))]
hiddenimports = ["numpy"]  # what tiaot._core imports cannot be seen
# What else is in the package is for exporting, measuring and building programs.
excludedimports = ["tiaot.export", "tiaot.benchmarks", "tiaot.torch", "tiaot.jax", "torch", "jax", "taichi"]
