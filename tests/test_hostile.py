"""Objects made to break a reader, in every place that takes one: an exception each, in a process of its own."""

import re
import subprocess
import sys

HOSTILE = """
import sys
import numpy as np, tiaot
k = tiaot.load("dense_tanh")
f = np.float32
x, W, b, v = np.ones((2, 8), f), np.ones((4, 8), f), np.ones(4, f), np.ones((2, 4), f)
class Speaks:
    def __init__(self, capsule, device=(1, 0)): self.capsule, self.device = capsule, device
    def __dlpack_device__(self): return self.device
    def __dlpack__(self, **_): return self.capsule
class Index:
    def __index__(self): raise RuntimeError("mine")
used = x.__dlpack__()
np.from_dlpack(Speaks(used))
recursive = []
recursive.append(recursive)
bads = {
    "2^60 elements": np.lib.stride_tricks.as_strided(x, (2**57, 8), (0, 0)),
    "2^41 elements": np.lib.stride_tricks.as_strided(x, (2, 2**40), (0, 0)),
    "no elements": x[:0, :0], "rank 3": np.empty((0, 0, 0), f), "structs": np.zeros((2, 8), "V4"),
    "object": np.array(None),
    "masked": np.ma.masked, "capsule": used, "used capsule": Speaks(used), "no capsule": Speaks(k),
    "no device": Speaks(used, ("cpu", None)), "index": Index(), "recursive": recursive, "tuple": (1,), "empty": (),
    "nested": ((),), "names": ("x", ()), "null": "\\0", "long": "x" * 10**6, "bytes": b"x", "nan": float("nan"),
    "big": 2**64, "small": -2**63, "type": type, "kernel": k, "entry": k.vjp, "function": lambda: 0,
}
new = tiaot.Module.__new__
calls = {
    "input": lambda bad: k(bad, W, b),
    "last input": lambda bad: k(x, W, bad),
    "cotangent": lambda bad: k.vjp(x, W, b, bad),
    "out": lambda bad: k.vjp(x, W, b, v, out=bad),
    "outs": lambda bad: k.vjp(x, W, b, v, wrt=("x", "W"), out=(x.copy(), bad)),
    "jacobian": lambda bad: k.jacobian(x, W, b, out=bad),
    "wrt": lambda bad: k.vjp(x, W, b, v, wrt=bad),
    "num_threads": lambda bad: k.vjp(x, W, b, v, num_threads=bad),
    "bind": lambda bad: k.vjp.bind(x, W, b, bad),
    "keyword": lambda bad: k(x, W, b, **{str(type(bad)): bad}),
    "restrict": lambda bad: k.restrict(bad),
    "load": lambda bad: tiaot.load(bad),
    "open": lambda bad: tiaot.open(bad),
    "set_num_threads": lambda bad: tiaot.set_num_threads(bad),
    "Kernel": lambda bad: tiaot.Kernel(bad),
    "Module": lambda bad: tiaot.Module(bad),
    "State": lambda bad: tiaot.State(bad),
    "a state that is not made": lambda bad: getattr(tiaot.State.__new__(tiaot.State), str(bad)),
    "module.state": lambda bad: k.module.state(bad),
    "BoundCall": lambda bad: tiaot.BoundCall(bad),
    "unbound": lambda bad: tiaot.Module.info(bad),
    "not initialised": lambda bad: new(tiaot.Module).info(),
    "not initialised either": lambda bad: new(tiaot.Module).kernels,
}
raised = 0
for call in calls:
    for bad in bads:
        try:
            calls[call](bads[bad])
            sys.exit(f"no exception: {call}, {bad}")
        except Exception:
            raised += 1
print("raised", raised, "of", len(calls) * len(bads))
"""


def test_nothing_crashes() -> None:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", HOSTILE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.returncode}\n{done.stdout}{done.stderr}"
    assert re.fullmatch(r"raised (\d+) of \1\n", done.stdout)
