"""The exporter: Taichi kernels -> one module file. Needs taichi and llvmlite; `import tiaot` never comes here."""

from .declare import Implementation, Variant, autodiff, by_level, family, kernel, written

__all__ = ["Implementation", "Variant", "autodiff", "by_level", "family", "kernel", "written"]
