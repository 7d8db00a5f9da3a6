"""LLVM IR: the model, its reader and writer, the passes on it; and Taichi's tasks, which are read into it."""

from .tasks import Task, TracedModule, read_tasks
from .values import LoweringError

__all__ = ["LoweringError", "Task", "TracedModule", "read_tasks"]
