"""Kernels over fields for the exporter's own reverse mode, written as one writes them."""

import taichi as ti
from tiaot.export import kernel

ti.init(arch=ti.cpu, default_fp=ti.f64)

N, M, STEPS = 600, 5, 4

x = ti.field(ti.f64, shape=N, needs_grad=True)
y = ti.field(ti.f64, shape=N, needs_grad=True)
z = ti.field(ti.f64, shape=N, needs_grad=True)
path = ti.field(ti.f64, shape=(STEPS, N), needs_grad=True)
table = ti.field(ti.f64, shape=(N, M), needs_grad=True)
loss = ti.field(ti.f64, shape=(), needs_grad=True)
weight = ti.field(ti.f64, shape=N)  # has no gradient
k = ti.field(ti.i32, shape=N)
counted = ti.field(ti.i32, shape=())

# Places and speeds side by side, gradients in another order, and in nodes within nodes.
pos = ti.Vector.field(2, ti.f64)
vel = ti.Vector.field(2, ti.f64)
mass = ti.field(ti.f32)
ti.root.dense(ti.i, N).place(pos, mass, vel)
ti.root.dense(ti.i, N).place(vel.grad, pos.grad)
turned = ti.field(ti.f64)
nested = ti.field(ti.f64)
ti.root.dense(ti.j, M).dense(ti.i, N).place(turned, turned.grad)
ti.root.dense(ti.i, N).dense(ti.j, M).place(nested)
ti.root.dense(ti.i, N).dense(ti.j, M).place(nested.grad)
plane = ti.Matrix.field(2, 2, ti.f64, shape=N, layout=ti.Layout.SOA, needs_grad=True)
apart = ti.field(ti.f64)
builder = ti.FieldsBuilder()
builder.dense(ti.i, N).place(apart)
builder.finalize()
builder = ti.FieldsBuilder()
builder.dense(ti.i, N).place(apart.grad)
builder.finalize()

DERIVATIVES = ["jvp", "hvp"]


@kernel(derivative="tiaot", derivatives=DERIVATIVES)
@ti.kernel
def steps(t: ti.i32, dt: ti.f64):
    """A step of a simulation, which reads what it has written just before."""
    for i in range(N):
        path[t + 1, i] = path[t, i] + dt * ti.sin(path[t, i] * x[i])
        y[i] = path[t + 1, i] ** 2 * weight[i]


@kernel(derivative="tiaot", derivatives=DERIVATIVES)
@ti.kernel
def powers():
    """A local vector that is assigned from itself in a loop of unknown length."""
    for i in pos:
        a = ti.Vector([x[i], 0.5])
        for _ in range(k[i] % 7):
            a = ti.Vector([a[0] * a[1] + y[i], a[0] - 0.3 * a[1]])
        vel[i] = a
        pos[i] += a * mass[i]


@kernel(derivative="tiaot", derivatives=DERIVATIVES)
@ti.kernel
def largest():
    """Conditions on data, a maximum in a loop, a loop that is left."""
    for i in range(N):
        m = x[i]
        for j in range(M):
            m = ti.max(m, table[i, j])
        s = 1.0
        n = 0
        while n < k[i]:
            s = s * (1.0 + 0.1 * table[i, n % M])
            if s > 1.5:
                break
            n += 1
        z[i] = m * s


@kernel(derivative="tiaot", derivatives=DERIVATIVES)
@ti.kernel
def siblings():
    """Loops side by side in a loop, triangular ones, whose results go into one number."""
    for i in range(N):
        for j in range(M):
            s = 0.0
            for h in range(j + 1):
                s += table[i, h] * x[i]
            for h in range(j):
                s *= table[i, h]
            loss[None] += s * s
    for i in range(N):
        loss[None] += y[i] ** 3


@kernel(derivative="tiaot", derivatives=DERIVATIVES)
@ti.kernel
def scattered():
    """Gathers and scatters by indices that are data; a whole number that is counted."""
    for i in range(N):
        z[k[i]] += x[i] * y[k[i]]
        path[1, i] -= x[k[i]] ** 2
        counted[None] += 1


@kernel(derivative="tiaot", derivatives=DERIVATIVES)
@ti.kernel
def trees():
    """Fields in all kinds of trees."""
    for i, j in nested:
        nested[i, j] = turned[i, j] * table[i, (j + 1) % M] + apart[i]
        y[N - 1 - i] += plane[i][0, 1] * plane[i][1, 1]
    for i in apart:
        apart[i] += plane[i].determinant()


@kernel(derivative="tiaot", derivatives=DERIVATIVES)
@ti.kernel
def outside(by: ti.f64):
    """Variables outside of the loops, which later loops read."""
    total = 0.0
    best = ti.Vector([0.0, 0.0])
    for i in range(N):
        total += x[i] * x[i]
        table[i, 0] += 0.5 * x[i]
        best[0] += y[i]
        best[1] -= x[i]
    norm = ti.sqrt(total + by)
    for i in range(N):
        z[i] = x[i] / norm + best[0] * best[1]
    path[0, 0] = 2.0
    loss[None] = total


@kernel(derivative="tiaot", derivatives=DERIVATIVES)
@ti.kernel
def serial(n: ti.i32):
    """Loops that run in order, over the steps of a simulation."""
    ti.loop_config(serialize=True)
    for t in range(STEPS - 1):
        for i in range(n):
            path[t + 1, i] = path[t, i] * x[i] + path[t, (i + 1) % n] ** 2
    if n > 1:
        y[0] = path[STEPS - 1, 0] * path[STEPS - 1, 1]


@kernel(derivative="tiaot", derivatives=DERIVATIVES)
@ti.kernel
def scan():
    """Each element follows from the one before it."""
    ti.loop_config(serialize=True)
    for i in range(1, N):
        y[i] = y[i - 1] * x[i] * 0.5 + ti.cos(y[i - 1])


@kernel("source[n] ->", scratch={"room": ["n"]}, derivative="tiaot", derivatives=DERIVATIVES)
@ti.kernel
def with_arrays(source: ti.types.ndarray(ti.f64, ndim=1), room: ti.types.ndarray(ti.f64, ndim=1)):
    """Arrays beside the fields, one of which holds what lies between two loops."""
    for i in range(source.shape[0]):
        room[i] = x[i] * source[i]
    for i in range(source.shape[0]):
        z[i] = room[i] * room[(i + 1) % source.shape[0]]
