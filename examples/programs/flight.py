"""Balls in the air, with drag: one step of their flight, in place. train_simulation.py trains a network through it."""

import taichi as ti

ti.init(arch=ti.cpu, default_fp=ti.f64)
n = 64

position = ti.Vector.field(2, ti.f64, shape=n, needs_grad=True)  # m
velocity = ti.Vector.field(2, ti.f64, shape=n, needs_grad=True)  # m/s
force = ti.Vector.field(2, ti.f64, shape=n, needs_grad=True)  # N, on a ball of 1 kg


@ti.kernel
def push():
    for i in range(n):
        v = velocity[i]
        force[i] = ti.Vector([0.0, -9.8]) - 0.05 * v.norm(1e-9) * v


@ti.kernel
def move(dt: ti.f64):
    for i in range(n):
        velocity[i] += dt * force[i]
        position[i] += dt * velocity[i]
