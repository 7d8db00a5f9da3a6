"""Kernels as people have them, each with a decorator: no batch, parallel loops, every kind of argument."""

import taichi as ti
from tiaot.export import kernel

f64_1, f64_2 = ti.types.ndarray(ti.f64, ndim=1), ti.types.ndarray(ti.f64, ndim=2)
i32_1 = ti.types.ndarray(ti.i32, ndim=1)
points = ti.types.ndarray(ti.types.vector(3, ti.f64), ndim=1)
frames = ti.types.ndarray(ti.types.matrix(2, 3, ti.f64), ndim=1)


@kernel("x[n, 3], v[n, 3], dt -> x[n, 3], energy[1]")
@ti.kernel
def step(x: points, v: points, dt: ti.f64, energy: f64_1):
    """Updated in place, vectors for elements, a scalar, and a sum over all of them."""
    for i in x:
        x[i] += dt * v[i]
        energy[0] += 0.5 * v[i].norm_sqr() + ti.sqrt(1 + x[i].dot(x[i]))


@kernel("x[n], turns -> y[n]")
@ti.kernel
def recurrence(x: f64_1, turns: ti.i32, y: f64_1):
    """A variable that changes in a loop of unknown length: the adjoint goes back through all of its values."""
    for i in x:
        p = x[i]
        for _ in range(turns):
            p = ti.sin(p) + x[i] * p
        y[i] = p


@kernel("x[n], place[n], width[m] -> y[m]", wrt=["x", "x width"])
@ti.kernel
def scatter(x: f64_1, place: i32_1, width: f64_1, y: f64_1):
    """Sums by atomics, in an order that must not matter."""
    for i in x:
        y[place[i]] += x[i] * width[place[i]]
    for j in y:
        y[j] += width[j] ** 2


@kernel("x[n, 4], w[4] -> y[n]")
@ti.kernel
def weigh(x: f64_2, w: f64_1, y: f64_1):
    """Few weights for many rows: their gradient is summed in copies, where there are many rows."""
    for i in y:
        for k in range(4):
            y[i] += ti.sin(w[k] * x[i, k])


@kernel("bin[n] -> count[8]", wrt=[])
@ti.kernel
def histogram(bin: ti.types.ndarray(ti.u8, ndim=1), count: i32_1):
    for i in bin:
        ti.atomic_add(count[ti.cast(bin[i], ti.i32) % 8], 1)


@kernel("A[n, 2, 3], x[n, 3], scale[2] -> y[n, 2], z[n]")
@ti.kernel
def transform(
    A: frames,
    x: points,
    scale: ti.types.vector(2, ti.f64),
    y: ti.types.ndarray(ti.types.vector(2, ti.f64), ndim=1),
    z: f64_1,
):
    """Matrix elements, a vector by value, two outputs, the second made of the first."""
    for i in x:
        y[i] = scale * (A[i] @ x[i])
    for i in y:
        z[i] = y[i].norm_sqr() * x[i][0]


@ti.func
def bump(r, power: ti.template()):
    value = ti.cast(0, ti.f64)
    if r < 1:
        value = (1 - r) ** power
    return value


@kernel("u[r, c] -> w[r, c], inside", constants={"power": 3}, wrt=[])
@ti.kernel
def stencil(u: f64_2, w: f64_2, power: ti.template()) -> ti.i64:
    """A template parameter, functions, conditions, a loop over a range in two dimensions, a returned value."""
    count = ti.cast(0, ti.i64)
    rows, columns = u.shape[0], u.shape[1]
    for i, j in ti.ndrange(rows, columns):
        total = ti.cast(0, ti.f64)
        for offset in ti.static(ti.grouped(ti.ndrange((-1, 2), (-1, 2)))):
            at = ti.math.clamp(ti.Vector([i, j]) + offset, 0, ti.Vector([rows - 1, columns - 1]))
            total += bump(u[at], power)
        w[i, j] = total
        if u[i, j] < 1:
            count += 1
    return count


@kernel("x[n] -> y[n]", wrt=["x"])
@ti.kernel
def functions(x: f64_1, y: f64_1):
    """Functions of Taichi's own runtime, and LLVM's."""
    for i in x:
        a = x[i]
        b = ti.abs(a) + 0.25
        y[i] = (
            ti.sqrt(b)
            + ti.pow(b, 1.5)
            + ti.atan2(a, b)
            + ti.asin(a / (1 + b))
            + ti.acos(a / (1 + b))
            + ti.exp(a)
            + ti.log(b)
            + ti.tanh(a)
            + ti.max(a, 0.125) * ti.min(a, 0.25)
            + ti.floor(a) * 0.5
            + ti.ceil(a)
            + ti.rsqrt(b)
        )


@kernel("x[n], seed -> y[n]", wrt=[])
@ti.kernel
def noise(x: f64_1, y: f64_1):
    for i in x:
        y[i] = x[i] + ti.randn(ti.f64)


@ti.kernel
def clipped_backward(x: f64_1, grad_y: f64_1, grad_x: f64_1):
    for i in x:
        grad_x[i] = grad_y[i] if ti.abs(x[i]) < 2 else 0.0


@kernel("x[n] -> y[n]", vjp={"x": clipped_backward}, finite_differences=False)
@ti.kernel
def clipped(x: f64_1, y: f64_1):
    """A gradient written by hand, which is not the function's: it does not vanish at once outside of -1..1."""
    for i in x:
        y[i] = ti.max(-1.0, ti.min(1.0, x[i]))


@kernel("x[n] -> y[n]", scratch={"half": ["(n + 1) // 2"]})
@ti.kernel
def folded(x: f64_1, half: f64_1, y: f64_1):
    """Through an array that only the kernel sees."""
    for i in half:
        half[i] = x[2 * i] * x[ti.min(2 * i + 1, x.shape[0] - 1)]
    for i in x:
        y[i] = half[i // 2] * half[i // 2]


@kernel("x[n], first, stop -> total[1]")
@ti.kernel
def windowed(x: ti.types.ndarray(ti.f32, ndim=1), first: ti.i64, stop: ti.i64, total: ti.types.ndarray(ti.f32, ndim=1)):
    """float32 summed over a range that is not known before."""
    for i in range(ti.cast(first, ti.i32), ti.cast(stop, ti.i32)):
        total[0] += x[i] * x[i]


@kernel("x[a, b, c] -> y[c, a]")
@ti.kernel
def cube(x: ti.types.ndarray(ti.f64, ndim=3), y: f64_2):
    for i, j, k in x:
        y[k, i] += x[i, j, k] ** 2


@kernel("x[n] -> y[n]", wrt=[])
@ti.kernel
def wide(x: ti.types.ndarray(ti.i64, ndim=1), y: ti.types.ndarray(ti.i64, ndim=1)):
    """Whole numbers beyond 32 bits."""
    for i in x:
        y[i] = x[i] * 100003 + 7


@kernel("x[n] -> y[n]", wrt=[])
@ti.kernel
def collatz(x: i32_1, y: i32_1):
    for i in x:
        value, count = x[i] + 1, 0
        while True:
            if value == 1:
                break
            count += 1
            if value % 2 == 0:
                value //= 2
                continue
            value = 3 * value + 1
        y[i] = count


@kernel("x[n] -> y[n]")
@ti.kernel
def serial(x: f64_1, y: f64_1):
    """A sum as it grows, whose loop must not be cut: each place takes from the one before."""
    ti.loop_config(serialize=True)
    for i in range(x.shape[0]):
        for j in range(i + 1):
            y[i] += x[j]


@kernel("x[n, 3] -> y[n, 2]")
@ti.kernel
def algebra(x: points, y: ti.types.ndarray(ti.types.vector(2, ti.f64), ndim=1)):
    """Local matrices: products, an inverse, a determinant, a cross product, norms."""
    for i in x:
        v = x[i]
        M = ti.Matrix([[3 + v[0], v[1]], [v[2], 4 - v[0]]])
        w = M.inverse() @ ti.Vector([v[1], v[2]])
        c = ti.math.cross(v, ti.Vector([v[2], 1.0, v[0]]))
        y[i] = ti.Vector([w.norm(1e-3) + M.determinant(), ti.math.dot(c, v + 1) / (1 + v.norm_sqr())])


@kernel("x[n], weight -> y[n], total", dtypes={"x": "float64", "y": "float64"})
@ti.kernel
def bare(
    x: ti.types.ndarray(),
    weight: ti.types.ndarray(ti.f64, ndim=0),
    y: ti.types.ndarray(),
    total: ti.types.ndarray(ti.f64, ndim=0),
):
    """Annotations that say nothing of the type, and arrays without dimensions."""
    for i in x:
        y[i] = x[i] * weight[None]
        total[None] += y[i] * x[i]
