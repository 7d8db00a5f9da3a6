"""The exporter: Taichi kernels -> one module file. Needs taichi and llvmlite; `import tiaot` never comes here."""

from .declare import Implementation, Variant
from .decorate import autodiff, family, kernel, written

__all__ = ["Implementation", "Variant", "autodiff", "family", "kernel", "written"]
