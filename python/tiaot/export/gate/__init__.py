"""The gate: a module is tried beside Taichi's JIT, the forward mode and differences before it is shipped."""
