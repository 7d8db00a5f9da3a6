"""Entries on a device: kernels over a grid of threads, and a function of the host that launches them."""
