"""The problems of GradBench, in double precision: kernels written as one would, against peers.

python -m tiaot.benchmarks.gradbench [--quick] [--derivative taichi|tiaot] [--json FILE]
"""
