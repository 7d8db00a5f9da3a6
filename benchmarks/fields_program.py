"""A Taichi program over fields, for fields.py: a stencil, an update in place, particles, a layer, a sum."""

import taichi as ti

GRID, PARTICLES, ROWS, INPUTS, OUTPUTS = 512, 100_000, 4096, 8, 4

u = ti.field(ti.f32, shape=(GRID, GRID), needs_grad=True)
new_u = ti.field(ti.f32, shape=(GRID, GRID), needs_grad=True)
position = ti.Vector.field(3, ti.f32, shape=PARTICLES, needs_grad=True)
speed = ti.Vector.field(3, ti.f32, shape=PARTICLES, needs_grad=True)
moved = ti.Vector.field(3, ti.f32, shape=PARTICLES, needs_grad=True)
x = ti.field(ti.f32, shape=(ROWS, INPUTS), needs_grad=True)
W = ti.field(ti.f32, shape=(OUTPUTS, INPUTS))
b = ti.field(ti.f32, shape=OUTPUTS)
y = ti.field(ti.f32, shape=(ROWS, OUTPUTS), needs_grad=True)
loss = ti.field(ti.f32, shape=(), needs_grad=True)


@ti.kernel
def diffuse():
    for i, j in ti.ndrange((1, GRID - 1), (1, GRID - 1)):
        new_u[i, j] = u[i, j] + 0.1 * (u[i - 1, j] + u[i + 1, j] + u[i, j - 1] + u[i, j + 1] - 4 * u[i, j])


@ti.kernel
def relax():
    for i, j in u:
        new_u[i, j] = 0.5 * new_u[i, j] + u[i, j]


@ti.kernel
def turn():
    for i in position:
        moved[i] = position[i] + 0.1 * speed[i].cross(position[i])


@ti.kernel
def layer():
    for i, j in y:
        total = b[j]
        for k in range(INPUTS):
            total += W[j, k] * x[i, k]
        y[i, j] = ti.tanh(total)


@ti.kernel
def square():
    for i, j in u:
        loss[None] += u[i, j] ** 2
