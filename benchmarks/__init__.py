"""The benchmark: tiaot against the JIT path, the frameworks and C++ by hand. `python -m benchmarks` or `tiaot bench`.

Every module uses relative imports only, so that the folder works in a checkout and as the package tiaot.benchmarks.
"""
