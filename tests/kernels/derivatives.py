"""Kernels with derivatives along tangents, each for something that the forward mode has to follow."""

import taichi as ti
from tiaot.export import autodiff, family, kernel

f64_1, f64_2 = ti.types.ndarray(ti.f64, ndim=1), ti.types.ndarray(ti.f64, ndim=2)
f32_1, i32_1 = ti.types.ndarray(ti.f32, ndim=1), ti.types.ndarray(ti.i32, ndim=1)
pairs = ti.types.ndarray(ti.types.vector(2, ti.f64), ndim=1)
BOTH = ["jvp", "hvp"]


@kernel("place[n, 2], speed[n, 2], turns, dt -> end[n, 2]", wrt=[], derivatives=["jvp"])
@ti.kernel
def orbit(place: pairs, speed: pairs, turns: ti.i32, dt: ti.f64, end: pairs):
    """Vectors that a loop of unknown length carries; the step is a number by value that has a tangent."""
    for i in place:
        x, v = place[i], speed[i]
        for _ in range(turns):
            r = x.norm()
            v = v - dt * x / (r * r * r)
            x = x + dt * v
        end[i] = x


@kernel("a[n] -> root[n]", wrt=[], derivatives=["jvp"])
@ti.kernel
def newton(a: f64_1, root: f64_1):
    """A `while` whose turns depend on the data: a cube root."""
    for i in a:
        x = 1.0 + 0.0 * a[i]
        while ti.abs(x * x * x - a[i]) > 1e-14 * ti.abs(a[i]):
            x = x - (x * x * x - a[i]) / (3.0 * x * x)
        root[i] = x


@kernel("x[n] -> y[n]", derivatives=BOTH)
@ti.kernel
def functions(x: f64_1, y: f64_1):
    for i in x:
        a = x[i]
        y[i] = ti.tanh(a) + ti.exp(-a) * ti.sin(3.0 * a) + ti.log(1.5 + a) / ti.sqrt(2.0 + ti.cos(a))
        y[i] += ti.atan2(a, 1.0 + a * a) + ti.pow(1.0 + a * a, 1.5) + ti.abs(a - 0.3) * a
        y[i] += ti.max(a, 0.4) * a + ti.asin(0.5 * a) * ti.acos(0.3 * a)


@kernel("x[n], target[n], w[k] -> bins[k]", wrt=["x w"], derivatives=BOTH)
@ti.kernel
def scatter(x: f64_1, target: i32_1, w: f64_1, bins: f64_1):
    """Atomic sums at indices from an array, in copies where there are many samples."""
    for i in x:
        k = target[i]
        bins[k] += w[k] * x[i] * x[i]


@kernel("x[n] -> most[1]", wrt=[], derivatives=["jvp"])
@ti.kernel
def extent(x: f64_1, most: f64_1):
    """An atomic maximum: the tangent is that of the winner."""
    for _ in range(1):
        most[0] = -1e300
    for i in x:
        ti.atomic_max(most[0], x[i] * x[i])


@kernel("x[n], v[n], dt -> x[n], y[n]", wrt=["x v"], derivatives=BOTH)
@ti.kernel
def update(x: f64_1, v: f64_1, dt: ti.f64, y: f64_1):
    """An array that is updated in place, in two loops."""
    for i in x:
        x[i] += dt * ti.sin(v[i])
    for i in x:
        y[i] = x[i] * v[i]


@kernel("x[n], m -> y[n]", wrt=["x"], derivatives=BOTH, sizes=[{"n": 3}], draw={"m": lambda rng, shape, sizes: 4})
@ti.kernel
def recurrence(x: f64_1, m: ti.i32, y: f64_1):
    """A value that changes in a loop of unknown length, which the adjoint keeps on a stack."""
    for i in x:
        a = x[i]
        for _ in range(m):
            a = a * a * 0.5 + 0.1 * x[i]
        y[i] = a


@kernel("x[B, n], w[n] -> y[B]", batch="B", wrt=["x", "w", "x w"], derivatives=BOTH)
@ti.kernel
def weigh(x: f64_2, w: f64_1, y: f64_1):
    """A batch in lanes, in blocks of unknown sample size."""
    for i in y:
        for j in range(x.shape[1]):
            y[i] += ti.tanh(w[j] * x[i, j]) * x[i, j]


@family("x[B, n], W[m, n] -> y[B, m]", batch="B", fixed=[{"n": 3, "m": 2}], derivatives=BOTH)
def layer(variant):
    """A batch in lanes of fixed size, in both element types."""

    @ti.kernel
    def forward(x: variant.array(2), W: variant.array(2), y: variant.array(2)):
        for i in range(y.shape[0]):
            for j in ti.static(range(2)):
                z = ti.cast(0, variant.type)
                for k in ti.static(range(3)):
                    z += W[j, k] * x[i, k]
                y[i, j] = ti.sin(z) * z

    return autodiff(forward)
