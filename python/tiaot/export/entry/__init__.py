"""Entries on a CPU: what wraps a kernel's tasks into one C function, with a batch and without."""
