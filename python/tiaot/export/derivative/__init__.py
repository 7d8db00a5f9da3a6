"""Derivatives of IR: the forward mode. Knows the model of the IR, and nothing of Taichi, kernels or targets."""
