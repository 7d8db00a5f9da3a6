"""A chain of springs over fields, thrown: the velocities that bring it to a target, by descents that are kernels."""

import taichi as ti

ti.init(arch=ti.cpu, default_fp=ti.f64)

N, STEPS = 6, 5

x = ti.Vector.field(2, ti.f64, shape=(STEPS, N), needs_grad=True)
v = ti.Vector.field(2, ti.f64, shape=(STEPS, N), needs_grad=True)
target = ti.Vector.field(2, ti.f64, shape=N)
loss = ti.field(ti.f64, shape=(), needs_grad=True)

for i in range(N):
    x[0, i] = [0.1 * i, 0.0]
    target[i] = [0.1 * i + 0.05, 0.2 - 0.01 * i * i]


@ti.kernel
def move(t: ti.i32, dt: ti.f64):
    for i in range(N):
        force = ti.Vector([0.0, -1.0])
        for side in ti.static((-1, 1)):
            if 0 <= i + side < N:
                apart = x[t, i + side] - x[t, i]
                length = apart.norm(1e-9)
                force += 5.0 * (length - 0.1) / length * apart
        v[t + 1, i] = v[t, i] + dt * force
        x[t + 1, i] = x[t, i] + dt * v[t + 1, i]


@ti.kernel
def compare():
    for i in range(N):
        loss[None] += (x[STEPS - 1, i] - target[i]).norm_sqr()


@ti.kernel
def descend(rate: ti.f64):
    for i in range(N):
        v[0, i] -= rate * v.grad[0, i]
