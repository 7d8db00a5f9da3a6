"""Objects made to break a reader, in every place that takes one: an exception each, in a process of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

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


def run(code: str, *arguments: str, **environment: str) -> str:
    """What a process prints that has to end well."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PREPARED + code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
    )
    assert done.returncode == 0, f"{done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


PREPARED = """
import ctypes, gc, sys
import numpy as np, tiaot
from cuda_arrays import CPU, CUDA, Interface, OnDevice, capsule, managed_tensor
k = tiaot.load("dense_tanh")
f = np.float32
x, W, b, v = (np.random.default_rng(0).standard_normal(s).astype(f) for s in ((4, 8), (4, 8), 4, (4, 4)))
y = k(x, W, b)
def told(call):
    try: return call()
    except Exception as error: return f"{type(error).__name__}: {error}"
"""

# Gives an array that was read already other memory for its shape, and fills what was freed.
RESHAPES = """
taken = []
def reshape(array):
    array.shape = (array.size,)
    for _ in range(64):
        taken.append(np.empty((10**6, 8), f))
        taken[-1].shape = (8 * 10**6,)
class Reshapes(OnDevice):
    def __init__(self, array, victims): super().__init__(array, kind=CPU); self.victims = victims
    def __dlpack__(self, **keywords):
        for victim in self.victims: reshape(victim)
        return super().__dlpack__(**keywords)
x0, W0, y0 = x.copy(), W.copy(), y.copy()
print((k(x, W, Reshapes(b, [x, W])) == y).all())
x, W, out = x0.copy(), W0.copy(), np.zeros_like(y)
print(k(x, W, b, out=Reshapes(out, [x, W])).array is out, (out == y).all())
x, W = x0.copy(), W0.copy()
outs = np.zeros_like(x), np.zeros_like(W)
expected = k.vjp(x, W, b, v, wrt=("x", "W"))
k.vjp(x, W, b, v, wrt=("W", "x"), out=(outs[1], Reshapes(outs[0], [x, outs[1]])))
print(*[(got.ravel() == want.ravel()).all() for got, want in zip(outs, expected)])
x, W = x0.copy(), W0.copy()
"""


def test_a_shape_that_changes_while_the_rest_is_read() -> None:
    assert run(RESHAPES) == "True\nTrue True\nTrue True\n"


def test_a_shape_that_a_finalizer_changes() -> None:
    code = """
class Node:
    def __del__(self): reshape(x)
def garbage():
    a, b = Node(), Node()
    a.other, b.other = b, a
gc.disable()
outcomes = []
expected = k.vjp(x, W, b, v, wrt=("x", "W"))[0]
for threshold in range(1, 60):
    x = x0.copy()
    garbage()
    gc.set_threshold(threshold, 1000, 1000)
    gc.enable()
    result = told(lambda: k.vjp(x, W, b, v, wrt=("x", "W"))[0])  # the collector runs somewhere in there
    gc.disable()
    outcomes.append(result.startswith("ValueError") if isinstance(result, str) else (result == expected).all())
    gc.collect()
print(all(outcomes))
"""
    assert run(RESHAPES + code).endswith("True\n")


def test_recursion_through_an_argument() -> None:
    code = """
class Again:
    __dlpack_device__ = lambda self: (1, 0)
    def __dlpack__(self, **_): return calls[sys.argv[1]](self)
class Index:
    def __index__(self): return k(x, W, b, num_threads=self)
calls = {
    "call": lambda again: k(x, W, again), "bind": lambda again: k.vjp.bind(x, W, b, again),
    "jacobian": lambda again: k.jacobian(again, W, b), "out": lambda again: k(x, W, b, out=again),
}
print(told(lambda: calls[sys.argv[1]](Again()))[:14], told(lambda: k(x, W, b, num_threads=Index()))[:14])
"""
    for form in ("call", "bind", "jacobian", "out"):
        assert run(code, form) == "RecursionError RecursionError\n"


def test_closing_while_info_is_told(tmp_path: Path) -> None:
    code = """
import shutil
class Node:
    def __del__(self): module.close()
def garbage():
    a, b = Node(), Node()
    a.other, b.other = b, a
whole = {**k.module.info(), "path": sys.argv[1]}
path, closed = shutil.copy(k.module.path, sys.argv[1]), 0  # which nothing else keeps open
for threshold in range(1, 200, 3):
    gc.disable()
    gc.collect()
    garbage()
    module = tiaot.open(path)
    gc.set_threshold(threshold, 1000, 1000)
    gc.enable()
    info = told(lambda: module.info())
    assert info == whole or "is closed" in info, info
    gc.disable()
    closed += module.closed
print(closed > 0)
"""
    assert run(code, str(tmp_path / "copy.so")) == "True\n"


def test_what_an_export_says_of_itself() -> None:
    code = """
class Says(OnDevice):
    def __init__(self, array, kind=CPU, **says): super().__init__(array, kind=kind); self.says = says
    def __dlpack__(self, **_):
        managed = managed_tensor(self.array, self.place, 0)
        for name, value in self.says.items(): setattr(managed.tensor, name, value)
        return capsule(ctypes.addressof(managed), b"dltensor_versioned")
class Raises(OnDevice):
    def __dlpack__(self, **_): raise BufferError("mine")
class Property:
    @property
    def __dlpack__(self): raise LookupError("mine")
for kind in (CPU, CUDA):
    for rank in (-1, -(2**31), 65, 2**31 - 1):
        print(told(lambda: k(Says(x, kind, ndim=rank), W, b, out=y)))
    print(told(lambda: k(Says(x, kind, shape=None), W, b, out=y)))
    print(told(lambda: k(x, W, b, out=Says(y, kind, ndim=-1))))
    print(told(lambda: k(x, W, b, out=Raises(y, kind=kind))))
print(told(lambda: k(Says(x, device_type=CUDA), W, b)))
print(told(lambda: k(Property(), W, b)), told(lambda: k(x, W, b, out=Property())))
x_on = OnDevice(x)
x_on.place = (CUDA, 2**32)
print(told(lambda: k(x_on, W, b)))
x_on.place = (2**32 + CUDA, 0)
print(told(lambda: k(x_on, W, b)))
once = x.__dlpack__()
class Consumed(OnDevice):
    def __dlpack__(self, **_): return once
np.from_dlpack(Consumed(x, kind=CPU))
print(told(lambda: k(Consumed(x, kind=CPU), W, b)))
"""
    prefix = "dense_tanh.forward: "
    ranks = [f"an array of at most 64 dimensions, got one of rank {rank}" for rank in (-1, -(2**31), 65, 2**31 - 1)]
    each = [f"ValueError: {prefix}argument 'x': expected {what}" for what in ranks]
    each.append(f"ValueError: {prefix}argument 'x': expected an array with a shape, got one of rank 2 without")
    each.append(f"ValueError: {prefix}output 'y': expected {ranks[0]}")
    each.append("BufferError: mine")
    assert run(code).splitlines() == [
        *each,
        *each,
        f"TypeError: {prefix}argument 'x': expected an export from the CPU, as __dlpack_device__ says, got one from "
        "DLPack device type 2",
        "LookupError: mine LookupError: mine",
        f"ValueError: {prefix}argument 'x': expected a device number of 0 or more, got {2**32}",
        f"TypeError: {prefix}argument 'x': expected an array on the CPU or a CUDA device, got one on DLPack device "
        f"type {2**32 + 2}:0",
        f"TypeError: {prefix}argument 'x': expected a DLPack capsule from __dlpack__, got one that has been consumed",
    ]


def test_an_interface_that_changes_while_it_is_read() -> None:
    code = """
class Changes:
    def __init__(self, value): self.value = value
    def __index__(self):
        its.interface.clear()
        taken.extend((None, None) for _ in range(1000))
        return self.value
taken = []
for name in ("shape", "strides"):
    its = Interface(x, data=(0, False), strides=(32, 4))
    its.interface[name] = tuple([Changes(value) for value in its.interface[name]])
    print(told(lambda: k(x, W, b, out=its)))
"""
    for line in run(code).splitlines():
        assert line.startswith("TypeError: dense_tanh.forward: ")


# operator new that fails where it is told to.
NO_MEMORY = """
#include <stdlib.h>
void _ZSt17__throw_bad_allocv(void);
int armed;
void *_Znwm(unsigned long size) {
  void *memory = armed ? NULL : malloc(size > 0 ? size : 1);
  if (memory == NULL) _ZSt17__throw_bad_allocv();
  return memory;
}
"""


def test_out_of_memory(tmp_path: Path) -> None:
    source, library = tmp_path / "memory.c", tmp_path / "memory.so"
    source.write_text(NO_MEMORY)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-lstdc++"], check=True)
    code = """
armed = ctypes.c_int.in_dll(ctypes.CDLL(sys.argv[1]), "armed")
long = np.ones((2, 3, 4, 5, 6), f)
others = iter([k.restrict("float32_dynamic") for _ in range(4)])
calls = {
    "repr": lambda: repr(k), "repr of vjp": lambda: repr(k.vjp), "restrict": lambda: k.restrict("float32_dynamic"),
    "restrict to none": lambda: k.restrict("x" * 100), "signature": lambda: k.__signature__,
    "reduce": lambda: k.vjp.__reduce__(), "bind": lambda: k.bind(x, W, b), "call": lambda: k(x, W, b),
    "wrong call": lambda: k.vjp(long, W, b, v), "wrong count": lambda: k(x), "keyword": lambda: k(x, W, b, z=1),
    "wrt": lambda: k.vjp(x, W, b, v, wrt="z"), "out": lambda: k(x, W, b, out=long), "grad": lambda: k.grad,
    "info": lambda: k.module.info(), "repr of module": lambda: repr(k.module), "variants": lambda: k.variants,
    "open": lambda: tiaot.open(k.module.path), "set_num_threads": lambda: tiaot.set_num_threads("x" * 100),
    "number": lambda: k(x, W, 1.0), "names": lambda: k(b=b, x=x, W=W),
    "jvp": lambda: next(others).jvp(x, W, b, W, b, wrt=("W", "b")),
    "bind hvp": lambda: next(others).hvp.bind(x, W, b, v, W, b, wrt=("W", "b")),
}
for name, call in calls.items():
    told(call)  # what is imported at the first use
    armed.value = 1
    try: call(); outcome = "fine"
    except Exception as error: outcome = type(error).__name__
    armed.value = 0
    print(f"{name}: {outcome}")
"""
    outcomes = dict(line.split(": ") for line in run(code, str(library), LD_PRELOAD=str(library)).splitlines())
    assert set(outcomes.values()) <= {"MemoryError", "fine", "TypeError", "ValueError", "AttributeError"}, outcomes
    for name in ("repr", "restrict", "wrong call", "wrong count", "repr of module", "jvp", "bind hvp"):
        assert outcomes[name] == "MemoryError", name
