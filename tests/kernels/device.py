"""Kernels for what is special about CUDA: reductions over local variables, which Taichi makes of atomic operations;
stacks of known length; indices, loops and blocks of every form."""

import taichi as ti
from tiaot.export import kernel

f32_1, f64_1 = ti.types.ndarray(ti.f32, ndim=1), ti.types.ndarray(ti.f64, ndim=1)
i32_1, i64_1 = ti.types.ndarray(ti.i32, ndim=1), ti.types.ndarray(ti.i64, ndim=1)


@kernel("x[n] -> total, least, most", wrt=[])
@ti.kernel
def reduce_f32(
    x: f32_1,
    total: ti.types.ndarray(ti.f32, ndim=0),
    least: ti.types.ndarray(ti.f32, ndim=0),
    most: ti.types.ndarray(ti.f32, ndim=0),
):
    """Reductions of local variables, which Taichi keeps in each thread's memory and puts together at its end."""
    s, a, b = 0.0, 1e30, -1e30
    for i in x:
        s += x[i]
        ti.atomic_min(a, x[i])
        ti.atomic_max(b, x[i])
    total[None] = s
    least[None] = a
    most[None] = b


@kernel("x[n] -> total, least, most", wrt=[])
@ti.kernel
def reduce_f64(
    x: f64_1,
    total: ti.types.ndarray(ti.f64, ndim=0),
    least: ti.types.ndarray(ti.f64, ndim=0),
    most: ti.types.ndarray(ti.f64, ndim=0),
):
    s, a, b = ti.cast(0, ti.f64), ti.cast(1e300, ti.f64), ti.cast(-1e300, ti.f64)
    for i in x:
        s += x[i]
        ti.atomic_min(a, x[i])
        ti.atomic_max(b, x[i])
    total[None] = s
    least[None] = a
    most[None] = b


@kernel("x[n] -> total, least, most, some, every, odd", wrt=[])
@ti.kernel
def reduce_i32(
    x: i32_1,
    total: ti.types.ndarray(ti.i32, ndim=0),
    least: ti.types.ndarray(ti.i32, ndim=0),
    most: ti.types.ndarray(ti.i32, ndim=0),
    some: ti.types.ndarray(ti.i32, ndim=0),
    every: ti.types.ndarray(ti.i32, ndim=0),
    odd: ti.types.ndarray(ti.i32, ndim=0),
):
    s, a, b, o, e, p = 0, 2147483647, -2147483648, 0, -1, 0
    for i in x:
        s += x[i]
        ti.atomic_min(a, x[i])
        ti.atomic_max(b, x[i])
        ti.atomic_or(o, x[i])
        ti.atomic_and(e, x[i])
        ti.atomic_xor(p, x[i])
    total[None] = s
    least[None] = a
    most[None] = b
    some[None] = o
    every[None] = e
    odd[None] = p


@kernel("x[n] -> total, least, most", wrt=[])
@ti.kernel
def reduce_i64(
    x: i64_1,
    total: ti.types.ndarray(ti.i64, ndim=0),
    least: ti.types.ndarray(ti.i64, ndim=0),
    most: ti.types.ndarray(ti.i64, ndim=0),
):
    s, a, b = ti.cast(0, ti.i64), ti.cast(1, ti.i64) << 62, -(ti.cast(1, ti.i64) << 62)
    for i in x:
        s += x[i]
        ti.atomic_min(a, x[i])
        ti.atomic_max(b, x[i])
    total[None] = s
    least[None] = a
    most[None] = b


@kernel("x[n] -> product", wrt=[])
@ti.kernel
def multiply(x: f64_1, product: ti.types.ndarray(ti.f64, ndim=0)):
    p = ti.cast(1, ti.f64)
    for i in x:
        ti.atomic_mul(p, x[i])
    product[None] = p


@kernel("x[n] -> least[3], most[3]", wrt=[])
@ti.kernel
def extremes(x: f32_1, least: f32_1, most: f32_1):
    """Atomic minima and maxima of elements of arrays."""
    for i in range(3):
        least[i] = 1e30
        most[i] = -1e30
    for i in x:
        ti.atomic_min(least[i % 3], x[i])
        ti.atomic_max(most[i % 3], x[i])


@kernel("x[n] -> kept[n], count", wrt=[])
@ti.kernel
def compact(x: i32_1, kept: i32_1, count: ti.types.ndarray(ti.i32, ndim=0)):
    """The old value of an atomic operation: what is kept is put where the count was, in whatever order."""
    for i in kept:
        kept[i] = -1
    count[None] = 0
    for i in x:
        if x[i] % 3 == 0:
            place = ti.atomic_add(count[None], 1)
            kept[place] = x[i]


@kernel("x[n] -> y[n]", wrt=[])
@ti.kernel
def newton(x: f64_1, y: f64_1):
    """A while loop whose length depends on the data."""
    for i in x:
        r = x[i] + 1
        while ti.abs(r * r - x[i] - 1) > 1e-12 * (x[i] + 1):
            r = 0.5 * (r + (x[i] + 1) / r)
        y[i] = r


@kernel("u[a, b, c] -> w[a, b, c]", wrt=["u"])
@ti.kernel
def blur(u: ti.types.ndarray(ti.f64, ndim=3), w: ti.types.ndarray(ti.f64, ndim=3)):
    """A range in three dimensions."""
    for i, j, k in ti.ndrange(u.shape[0], u.shape[1], u.shape[2]):
        w[i, j, k] = u[i, j, k] * u[(i + 1) % u.shape[0], j, k] + u[i, (j + 1) % u.shape[1], u.shape[2] - 1 - k]


@kernel("x[n], limit[m] -> place[m]", wrt=[])
@ti.kernel
def search(x: f64_1, limit: f64_1, place: i32_1):
    """A loop that is left early."""
    for i in limit:
        place[i] = -1
        for j in range(x.shape[0]):
            if x[j] <= limit[i]:
                continue
            place[i] = j
            break


@kernel("x[n] -> total", wrt=[])
@ti.kernel
def energy(x: f64_1) -> ti.f64:
    """A returned value."""
    total = ti.cast(0, ti.f64)
    for i in x:
        total += x[i] * x[i]
    return total


@kernel("x[n] -> y[n]", wrt=["x"])
@ti.kernel
def in_blocks(x: f32_1, y: f32_1):
    """A block size of the author's, which a launch does not keep."""
    ti.loop_config(block_dim=64)
    for i in x:
        y[i] = ti.exp(-x[i] * x[i])


@kernel("x[n] -> y[n]", wrt=["x"])
@ti.kernel
def stack8(x: f64_1, y: f64_1):
    """A variable that changes in a loop of known length: its adjoint keeps so many values."""
    for i in x:
        p = x[i]
        for _ in range(8):
            p = ti.sin(p) + x[i] * p
        y[i] = p


@kernel("x[n] -> y[n]", wrt=["x"])
@ti.kernel
def stack40(x: f64_1, y: f64_1):
    for i in x:
        p = x[i]
        for _ in range(40):
            p = ti.sin(p) + x[i] * p
        y[i] = p


@kernel("x[n] -> y[n]", wrt=["x"])
@ti.kernel
def stack200(x: f32_1, y: f32_1):
    for i in x:
        p = x[i]
        for _ in range(200):
            p = 0.5 * ti.sin(p) + x[i] * 0.25 * p
        y[i] = p


@kernel("x[n], first, stop -> y[n]", wrt=[])
@ti.kernel
def part(x: f32_1, first: ti.i32, stop: ti.i32, y: f32_1):
    """A range that follows from numbers."""
    for i in range(first, stop):
        y[i] = 2 * x[i]


@kernel("x[n], place[n] -> y[n]", wrt=["x"])
@ti.kernel
def gather(x: f32_1, place: i64_1, y: f32_1):
    """Indices of 64 bits."""
    for i in x:
        y[i] = 2 * x[ti.cast(place[i], ti.i32)]


@kernel("x[n], w[n] -> total", wrt=["x", "x w"])
@ti.kernel
def half_dot(
    x: ti.types.ndarray(ti.f16, ndim=1), w: ti.types.ndarray(ti.f16, ndim=1), total: ti.types.ndarray(ti.f32, ndim=0)
):
    """Sums of float16 in float32."""
    for i in x:
        total[None] += ti.cast(x[i], ti.f32) * ti.cast(w[i], ti.f32)
