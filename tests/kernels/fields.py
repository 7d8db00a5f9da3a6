"""A Taichi program over fields, without a decorator: all of its kernels are exported, with the state they share."""

import taichi as ti

ti.init(arch=ti.cpu, default_fp=ti.f64)

N, STEPS, GRID = 600, 4, 9

x = ti.field(ti.f64, shape=(STEPS, N), needs_grad=True)
y = ti.field(ti.f64, shape=N, needs_grad=True)
rate = ti.field(ti.f64, shape=(), needs_grad=True)
loss = ti.field(ti.f64, shape=(), needs_grad=True)

# Positions, speeds and masses of a particle lie side by side.
pos = ti.Vector.field(2, ti.f64)
vel = ti.Vector.field(2, ti.f64)
mass = ti.field(ti.f32)
ti.root.dense(ti.i, N).place(pos, vel, mass)
ti.root.dense(ti.i, N).place(pos.grad, vel.grad)
grid = ti.field(ti.f64, shape=(GRID, GRID), needs_grad=True)

plane = ti.Matrix.field(2, 3, ti.f32, shape=5, layout=ti.Layout.SOA, needs_grad=True)
image = ti.field(ti.f32)
ti.root.dense(ti.j, 7).dense(ti.i, 5).place(image)
ti.root.lazy_grad()
blurred = ti.field(ti.f32, shape=(5, 7), needs_grad=True)

box = ti.field(ti.f64, shape=(3, 5, 7), needs_grad=True)
woven = ti.field(ti.f64, shape=(3, 5, 7), needs_grad=True)
power = ti.field(ti.f64, shape=(4, 2, 8), needs_grad=True)

Bead = ti.types.struct(charge=ti.f64, kind=ti.u8, spot=ti.math.vec3)
beads = Bead.field(shape=4)
count = ti.field(ti.i64, shape=3)
order = ti.field(ti.i32, shape=N)
unused = ti.field(ti.f32, shape=1000)


@ti.kernel
def advance(t: ti.i32, dt: ti.f64):
    """Moves x from step t to the next."""
    for i in range(N):
        x[t + 1, i] = x[t, i] + dt * rate[None] * ti.sin(x[t, i])


@ti.kernel
def measure(t: ti.i32):
    for i in range(N):
        loss[None] += x[t, i] ** 2 / N


@ti.kernel
def scatter():
    for i in pos:
        cell = ti.cast(pos[i] * (GRID - 1), ti.i32)
        fraction = pos[i] * (GRID - 1) - cell
        grid[cell] += (1 - fraction[0]) * vel[i][0]
        grid[cell + ti.Vector([1, 0])] += fraction[0] * fraction[1] * vel[i][1]


@ti.kernel
def energy() -> ti.f64:
    total = 0.0
    for i in pos:
        total += 0.5 * mass[i] * vel[i].norm_sqr()
    return total


@ti.kernel
def blur():
    for i, j in blurred:
        total = 0.0
        for di, dj in ti.static(ti.ndrange((-1, 2), (-1, 2))):
            if 0 <= i + di < 5 and 0 <= j + dj < 7:
                total += image[i + di, j + dj] * plane[i][0, dj + 1] * plane[i][1, di + 1]
        blurred[i, j] = ti.cast(total, ti.f32)


@ti.kernel
def charge(by: ti.math.vec3):
    for i in beads:
        beads[i].charge += beads[i].spot.dot(by)
        beads[i].kind = ti.cast(i + 1, ti.u8)
    for i in range(3):
        count[i] += ti.cast(1, ti.i64) << (33 + i)


@ti.kernel
def gather():
    """Through an index that is data."""
    for i in range(N):
        x[1, i] = x[0, order[i]] * x[0, i]


@ti.kernel
def weave():
    """Elements by the indices of a loop over all of them, as they are, mixed up and in steps."""
    for i, j, k in woven:
        woven[i, j, k] = box[i, j, k] + 2 * box[i, (j + 1) % 5, k] + 3 * box[2 - i, j, 6 - k] * power[i, j % 2, k]
    for i, j in ti.ndrange(3, 5):
        for k in range(3):
            woven[i, j, 2 * k] += box[i, j, 2 * k + 1] + power[2 * (i % 2) + 1, j // 3, k + 4]


@ti.kernel
def choose():
    """Variables that change under conditions: Taichi counts how many values each can have."""
    for i in range(N):
        b = ti.cast(2, ti.f64)
        if x[0, i] > 0.5:
            b = x[1, i]
        if x[2, i] > 0.4:
            b = b * x[3, i]
        y[i] += b * b


sparse = ti.field(ti.f32)
ti.root.pointer(ti.i, 4).dense(ti.i, 4).place(sparse)


@ti.kernel
def scattered():
    for i in sparse:
        sparse[i] = 1


@ti.kernel
def running():
    ti.loop_config(serialize=True)
    for i, j in grid:
        if i > 0:
            grid[i, j] += grid[i - 1, j]


@ti.kernel
def clear():
    for i, j in grid:
        grid[i, j] = 0
    loss[None] = 0
    loss.grad[None] = 1


@ti.kernel
def shake():
    for i in range(N):
        x[0, i] = ti.random(ti.f64)


@ti.data_oriented
class Chain:
    def __init__(self, links: int):
        self.links = links
        self.angle = ti.field(ti.f64, shape=links, needs_grad=True)
        self.tip = ti.Vector.field(2, ti.f64, shape=(), needs_grad=True)

    @ti.kernel
    def reach(self):
        for _ in range(1):
            total, x_tip, y_tip = 0.0, 0.0, 0.0
            for i in range(self.links):
                total += self.angle[i]
                x_tip += ti.cos(total)
                y_tip += ti.sin(total)
            self.tip[None] = ti.Vector([x_tip, y_tip])


chain = Chain(40)


@ti.kernel
def load(source: ti.types.ndarray(ti.f64, ndim=1)):
    for i in source:
        x[0, i] = source[i]


@ti.kernel
def fill(data: ti.template()):
    for i in ti.grouped(data):
        data[i] = 1


if __name__ == "__main__":
    raise SystemExit("not run")
