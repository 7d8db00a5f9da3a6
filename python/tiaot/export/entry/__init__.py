"""Entries: what makes a function of module.h of a kernel's tasks, on a CPU (cpu/) and on a device (device/)."""
