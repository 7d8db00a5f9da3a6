"""Kernels over fields that overwrite what they have read: what becomes of their gradients stands above each, as
test_overwritten.py reads it. "refused": it surely needs what is gone. "doubted": it may. "sure": it does not."""

import taichi as ti

ti.init(arch=ti.cpu, default_fp=ti.f64)

N, T = 20, 6

x = ti.field(ti.f64, shape=N, needs_grad=True)
y = ti.field(ti.f64, shape=N, needs_grad=True)
path = ti.field(ti.f64, shape=(T, N), needs_grad=True)
plane = ti.field(ti.f64, shape=(8, 9), needs_grad=True)
other = ti.field(ti.f64, shape=(8, 9), needs_grad=True)
total = ti.field(ti.f64, shape=(), needs_grad=True)
spot = ti.Vector.field(3, ti.f64, shape=N, needs_grad=True)
order = ti.field(ti.i32, shape=N)


# refused: x
@ti.kernel
def square():
    for i in x:
        x[i] = x[i] * x[i]


# refused: x
@ti.kernel
def damp():
    for i in range(N):
        x[i] *= 1 - 0.1 * x[i] ** 2


# refused: x
@ti.kernel
def again_and_again():
    for i in range(N):
        for _ in range(3):
            x[i] = ti.sin(x[i]) + y[i]


# refused: x
@ti.kernel
def grow():
    for i in range(N):
        x[i] += 0.1 * ti.sin(x[i])


# refused: x
@ti.kernel
def later_loop():
    for i in range(N):
        y[i] = x[i] * x[i]
    for i in range(N):
        x[i] = y[i]


# refused: x
@ti.kernel
def through_a_sum():
    """The first loop runs again for the adjoint of the second."""
    s = 0.0
    for i in range(N):
        s += x[i]
    for i in range(N):
        x[i] = x[i] + s * s


# refused: total
@ti.kernel
def cleared():
    for i in range(N):
        y[i] = x[i] * total[None]
    total[None] = 0.0


# refused: total
@ti.kernel
def added_to():
    for i in range(N):
        y[i] = x[i] * total[None]
    for i in range(N):
        total[None] += y[i]


# refused: plane
@ti.kernel
def inner_plane():
    for i, j in ti.ndrange(6, 7):
        plane[i + 1, j + 1] = plane[i + 1, j + 1] ** 2


# refused: spot
@ti.kernel
def normalise():
    for i in spot:
        spot[i] = spot[i] / spot[i].norm(1e-9)


# refused: x
@ti.kernel
def either_way():
    for i in range(N):
        if y[i] < 0.0:
            x[i] = x[i] * y[i]
        else:
            x[i] = 2 * x[i] * y[i]


# refused: x
@ti.kernel
def running():
    ti.loop_config(serialize=True)
    for i in range(1, N):
        x[i] = x[i - 1] * x[i]


# refused: order
@ti.kernel
def counted():
    """An index that is not there any more."""
    for i in range(N):
        y[i] = x[order[i]] ** 2
        order[i] = 0


# doubted: x
@ti.kernel
def bounce():
    for i in range(N):
        if x[i] < 0.0:
            x[i] = -x[i]


# doubted: x
@ti.kernel
def at_least_zero():
    """Only which way is taken follows from what was there, and that may be the same."""
    for i in range(N):
        x[i] = ti.max(x[i], 0.0)


# doubted: x
@ti.kernel
def between():
    for i in range(N):
        x[i] = ti.min(ti.max(x[i], 0.0), 1.0)


# doubted: x
@ti.kernel
def neighbours():
    for i in range(1, N - 1):
        x[i] = x[i - 1] * x[i + 1]


# doubted: x
@ti.kernel
def scattered():
    for i in range(N):
        x[order[i]] += x[i] ** 2


# doubted: path
@ti.kernel
def ring(t: ti.i32):
    for i in range(N):
        path[(t + 1) % T, i] = ti.sin(path[t % T, i])


# doubted: path
@ti.kernel
def from_the_first(t: ti.i32):
    """t may be 1."""
    for i in range(N):
        path[t, i] = ti.sin(path[1, i])


# doubted: path
@ti.kernel
def backward():
    ti.loop_config(serialize=True)
    for t in range(T - 1):
        for i in range(N):
            path[t, i] = ti.sin(path[t + 1, i])


# doubted: path
@ti.kernel
def repeated():
    ti.loop_config(serialize=True)
    for _ in range(2):
        for t in range(T - 1):
            path[t + 1, 0] = ti.sin(path[t, 0])


# sure
@ti.kernel
def linear(a: ti.f64):
    """Nothing of what was there is needed."""
    for i in range(N):
        x[i] *= a
        x[i] += a * y[i]


# sure
@ti.kernel
def step(t: ti.i32):
    for i in range(N):
        path[t + 1, i] = ti.sin(path[t, (i + 1) % N])


# sure
@ti.kernel
def wave(t: ti.i32):
    for i in range(1, N - 1):
        path[t + 1, i] = path[t, i] ** 2 - path[t - 1, i] ** 2 + path[t, i - 1] * path[t, i + 1]


# sure
@ti.kernel
def rows():
    for i in range(N):
        path[1, i] = ti.sin(path[0, i])


# sure
@ti.kernel
def whole_path():
    for i in range(N):
        for t in range(T - 1):
            path[t + 1, i] = ti.sin(path[t, i])


# sure
@ti.kernel
def in_order():
    ti.loop_config(serialize=True)
    for t in range(T - 1):
        for i in range(N):
            path[t + 1, i] = ti.sin(path[t, (i + 1) % N])


# sure
@ti.kernel
def written_then_read():
    for i, j in ti.ndrange(6, 7):
        other[i + 1, j + 1] = ti.sin(plane[i, j])
        total[None] += other[i + 1, j + 1] ** 2


# sure
@ti.kernel
def idle():
    """A condition with nothing under it."""
    for i in range(N):
        if x[i] > 0.0:
            pass
        x[i] = 2 * x[i]
