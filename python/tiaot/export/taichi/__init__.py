"""Taichi in a child process: kernels to LLVM IR that no target is in yet."""
