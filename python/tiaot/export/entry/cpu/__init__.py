"""Entries on a CPU: one C function."""
