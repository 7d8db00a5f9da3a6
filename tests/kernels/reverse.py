"""Kernels whose vjp the exporter's own reverse mode makes: loops, branches and updates that Taichi's autodiff refuses
or gets wrong, and some that it does right."""

import taichi as ti
from tiaot.export import kernel

ti.init(default_fp=ti.f64)

f64_0 = ti.types.ndarray(dtype=ti.f64, ndim=0)
f64_1 = ti.types.ndarray(dtype=ti.f64, ndim=1)
f64_2 = ti.types.ndarray(dtype=ti.f64, ndim=2)
f32_2 = ti.types.ndarray(dtype=ti.f32, ndim=2)
vec3_1 = ti.types.ndarray(dtype=ti.types.vector(3, ti.f64), ndim=1)


def ours(signature, **options):
    return kernel(signature, derivative="tiaot", derivatives=["jvp"], **options)


@ours("x[n], w[m] -> y[n]")
@ti.kernel
def triangle(x: f64_1, w: f64_1, y: f64_1):
    for i in range(x.shape[0]):
        s = 0.0
        for j in range(w.shape[0]):
            t = x[i]
            for k in range(j):
                t = t * w[k] + ti.sin(t) * 0.5
            s += t * w[j]
        y[i] = s


@ours("x[n], w[m] -> y[n]")
@ti.kernel
def until(x: f64_1, w: f64_1, y: f64_1):
    """while, and break out of it."""
    for i in range(x.shape[0]):
        a = x[i]
        k = 0
        while k < w.shape[0]:
            a = a * 0.9 + w[k] * a * a * 0.1
            k += 1
            if a > 1.2:
                a = a * 0.5
                break
        y[i] = a


@ours("x[n], w[m] -> y[n]")
@ti.kernel
def skips(x: f64_1, w: f64_1, y: f64_1):
    """continue and break at three depths."""
    for i in range(x.shape[0]):
        if x[i] < -1.0:
            continue
        a = x[i]
        for j in range(w.shape[0]):
            if a > 3.0:
                break
            for k in range(j, 2 * j + 1):
                if w[k % w.shape[0]] < -0.5:
                    continue
                a += w[k % w.shape[0]] * a * 0.3
                if a < -1.0:
                    break
            a += 0.1
        y[i] = a


@ours("x[n], w[m] -> y[n]")
@ti.kernel
def branches(x: f64_1, w: f64_1, y: f64_1):
    for i in range(x.shape[0]):
        a = x[i]
        for j in range(w.shape[0]):
            if w[j] > a:
                if a > 0.5:
                    a = a * w[j]
                else:
                    a = ti.exp(a * 0.1)
                    a += 0.01
            elif j % 3 == 0:
                continue
            else:
                a = a + w[j] * w[j]
            a = a * 0.7
        y[i] = a


@kernel("x[n], v[n] -> x[n], v[n]", derivative="tiaot", derivatives=["jvp", "hvp"])
@ti.kernel
def orbit(x: f64_1, v: f64_1):
    """A simulation in place: both arrays are read and overwritten."""
    for i in range(x.shape[0]):
        for _ in range(40):
            v[i] -= x[i] / (1.0 + x[i] * x[i]) * 0.05
            x[i] += v[i] * 0.05


@ours("x[n] -> y[n]")
@ti.kernel
def scan(x: f64_1, y: f64_1):
    """Each element follows from the one before it."""
    ti.loop_config(serialize=True)
    for i in range(x.shape[0]):
        if i == 0:
            y[i] = x[i]
        else:
            y[i] = y[i - 1] * x[i] + ti.cos(y[i - 1])


@ours("x[n], w[m] -> y[n]")
@ti.kernel
def running(x: f64_1, w: f64_1, y: f64_1):
    """A variable that goes from turn to turn of a serial loop, and elements that do not."""
    s = 0.0
    ti.loop_config(serialize=True)
    for i in range(x.shape[0]):
        s = 0.9 * s + x[i] * x[i]
        for j in range(w.shape[0]):
            y[i] += s * w[j] * w[j]


@ours("x[n], w[m] -> y[n]")
@ti.kernel
def apart(x: f64_1, w: f64_1, y: f64_1):
    """A serial loop whose turns need nothing of each other."""
    ti.loop_config(serialize=True)
    for i in range(x.shape[0]):
        for j in range(w.shape[0]):
            y[i] = y[i] * w[j] + x[i] * x[i]


@ours("x[n], v[n] -> x[n]")
@ti.kernel
def relax(x: f64_1, v: f64_1):
    """Gauss-Seidel: neighbours that have been overwritten already, and those that have not."""
    ti.loop_config(serialize=True)
    for _ in range(3):
        for i in range(1, x.shape[0] - 1):
            x[i] = x[i] + 0.2 * (x[i - 1] * x[i + 1] - x[i] * v[i])


@kernel("x[n] -> s[]", derivative="tiaot", derivatives=["jvp", "hvp"])
@ti.kernel
def moment(x: f64_1, s: f64_0):
    """A variable outside of the loops, and two loops."""
    m = 0.0
    for i in range(x.shape[0]):
        m += x[i] / x.shape[0]
    for i in range(x.shape[0]):
        s[None] += (x[i] - m) * (x[i] - m) * x[i]


@ours("x[n] -> y[n], s[]")
@ti.kernel
def chained(x: f64_1, y: f64_1, s: f64_0):
    """A loop that reads what the one before it has written."""
    for i in range(x.shape[0]):
        r = 1.0
        for _ in range(6):
            r = 0.5 * (r + (1.0 + x[i] * x[i]) / r)
        y[i] = r
    for i in range(x.shape[0]):
        s[None] += y[i] * y[i] * x[i]


@ours("x[n], k[m] -> y[m]")
@ti.kernel
def gather(x: f64_1, k: ti.types.ndarray(dtype=ti.i32, ndim=1), y: f64_1):
    for i in range(k.shape[0]):
        y[i] = x[k[i]] * x[k[i]] + ti.max(x[k[i]], 0.3) * ti.atan2(x[k[i]], 2.0)


@ours("x[n], w[m] -> y[n], z[m]")
@ti.kernel
def scatter(x: f64_1, w: f64_1, y: f64_1, z: f64_1):
    for i in range(x.shape[0]):
        a = 0.0
        for j in range(w.shape[0]):
            z[j] += x[i] * w[j] * w[j]
            a = ti.max(a, x[i] * w[j])
            a = ti.min(a, 1.2)
        y[i] = a * a


@ours("x[n], w[m] -> y[n]")
@ti.kernel
def mixed(x: f64_1, w: f64_1, y: f64_1):
    """A local array that a variable indexes."""
    for i in range(x.shape[0]):
        h = ti.Vector([0.0, 0.0, 0.0, 0.0])
        for j in range(w.shape[0]):
            k = (j * 7 + i) % 4
            h[k] = h[k] * w[j] + ti.sin(x[i] * (j + 1))
        y[i] = h[0] * h[1] + h[2] * h[3]


@ours("x[n, 3], w[m] -> y[n, 3]")
@ti.kernel
def turned(x: vec3_1, w: f64_1, y: vec3_1):
    for i in x:
        v = x[i]
        for j in range(w.shape[0]):
            v = v.cross(ti.Vector([w[j], 0.5, 1.0])) + 0.1 * v.dot(v) * ti.Vector([1.0, 0.0, 2.0])
            v = v / (0.5 + v.norm())
        y[i] = v


@ours("x[n], dt -> y[n]")
@ti.kernel
def adaptive(x: f64_1, dt: ti.f64, y: f64_1):
    """Steps whose number follows from the data."""
    for i in range(x.shape[0]):
        p = x[i]
        q = 0.5
        t = 0.0
        while t < 1.0:
            h = dt + 0.005 * ti.abs(p)
            p, q = p + h * q, q - h * ti.sin(p)
            t += h
        y[i] = p * q + t


@kernel("x[n] -> y[n]", derivative="tiaot", derivatives=["jvp", "hvp"])
@ti.kernel
def powers(x: f64_1, y: f64_1):
    """An array that loop after loop overwrites."""
    for i in range(x.shape[0]):
        y[i] = 0.3 * x[i] * x[i]
    for i in range(x.shape[0]):
        y[i] = y[i] * y[i] + 0.5
    for i in range(x.shape[0]):
        y[i] = ti.sin(y[i] * y[i])


@ours("x[n], v[n] -> x[n], v[n]")
@ti.kernel
def chain(x: f64_1, v: f64_1):
    """Steps of a simulation in place: speeds by the places of neighbours, then places."""
    for _ in ti.static(range(2)):
        for i in range(x.shape[0]):
            left = x[ti.max(i - 1, 0)]
            right = x[ti.min(i + 1, x.shape[0] - 1)]
            v[i] += 0.1 * (ti.sin(left) - 2.0 * x[i] * x[i] + right * v[i])
        for i in range(x.shape[0]):
            x[i] += 0.1 * v[i] * x[i]


@ours("x[n, 3], w[n] -> x[n, 3], s[]", scratch={"y": ["n", 3]})
@ti.kernel
def jacobi(x: vec3_1, w: f64_1, y: vec3_1, s: f64_0):
    """Two arrays in turns, of vectors."""
    for _ in ti.static(range(2)):
        for i in x:
            y[i] = x[ti.max(i - 1, 0)].cross(x[ti.min(i + 1, x.shape[0] - 1)]) * w[i] + x[i]
        for i in y:
            x[i] = y[i] / (1.0 + y[i].dot(y[i]))
            s[None] += x[i].norm_sqr()


@ours("x[n], w[m] -> x[n], s[]")
@ti.kernel
def sweeps(x: f64_1, w: f64_1, s: f64_0):
    """A serial loop before and behind a parallel one, and a number that both read."""
    s[None] = x[0] * w[0]
    ti.loop_config(serialize=True)
    for i in range(1, x.shape[0]):
        x[i] = x[i] * x[i - 1] * w[i % w.shape[0]] + s[None] * s[None]
    s[None] = s[None] * s[None] + x[x.shape[0] - 1]
    for i in range(x.shape[0]):
        x[i] = x[i] * x[i] * s[None]
    ti.loop_config(serialize=True)
    for i in range(1, x.shape[0]):
        x[i] = x[i] * x[i - 1] + 1.0


@kernel("x[n] -> y[n]", derivative="tiaot", derivatives=["jvp", "hvp"])
@ti.kernel
def scaled(x: f64_1, y: f64_1):
    """A variable outside of the loops that is assigned from itself between them."""
    m = 1.0
    for i in range(x.shape[0]):
        m += x[i] * x[i] / x.shape[0]
    m = ti.sqrt(m)
    for i in range(x.shape[0]):
        y[i] = x[i] / m
    m = m * m
    for i in range(x.shape[0]):
        y[i] = y[i] * y[i] * m


@ours("x[n] -> y[n]")
@ti.kernel
def bins(x: f64_1, y: f64_1):
    """A vector outside of the loops, of which they index elements by variables."""
    v = ti.Vector([1.0, x[0], 2.0 * x[0], 4.0, 5.0, 6.0, 7.0, 8.0, 9.0])
    for i in range(x.shape[0]):
        v[i % 9] += x[i] * x[i]
    for i in range(x.shape[0]):
        y[i] = v[i % 9] * v[(i + 1) % 9]


@ours("x[n], d[1], c[3] -> y[n]", wrt=["x", "d", "x d"])
@ti.kernel
def weighed(c: ti.types.vector(3, ti.f64), d: f64_1, x: f64_1, y: f64_1):
    """A vector by value in front of the arrays."""
    for i in range(x.shape[0]):
        y[i] = c[1] * x[i] * x[i] + d[0]
    for i in range(x.shape[0]):
        y[i] = y[i] * y[i] * c[2] * x[i]


@kernel("x[n] -> y[]", derivative="tiaot", derivatives=["jvp", "hvp"])
@ti.kernel
def log_sum(x: f64_1, y: f64_0):
    """A maximum that is a variable outside of the loops."""
    most = -1e300
    for i in x:
        ti.atomic_max(most, x[i])
    total = 0.0
    for i in x:
        total += ti.exp(x[i] - most)
    y[None] = most + ti.log(total)


@ours("x[n] -> y[]")
@ti.kernel
def capped(x: f64_1, y: f64_0):
    """A maximum that no number may win."""
    most = 1.0
    for i in x:
        ti.atomic_max(most, x[i])
    y[None] = most * most + x[0]


@ours("x[n], w[n], k[n] -> y[n]", wrt=["x", "w", "x w"])
@ti.kernel
def peaks(x: f64_1, w: f64_1, k: ti.types.ndarray(dtype=ti.i32, ndim=1), y: f64_1):
    """Maxima and minima of elements that turns share, several in a turn, some of them equal."""
    for i in range(x.shape[0]):
        y[i] = w[i] * w[i]
    for i in range(x.shape[0]):
        for j in range(3):
            ti.atomic_max(y[k[i]], x[i] * x[i] * w[i] + ti.sin(x[i]) * (j % 2))
    for i in range(x.shape[0]):
        y[i] = y[i] * y[i]
    for i in range(x.shape[0]):
        ti.atomic_min(y[k[i]], x[i] * w[i])


@ours("x[n], v[n] -> y[n]")
@ti.kernel
def ranked(x: f64_1, v: f64_1, y: f64_1):
    """Maxima and minima in order, among other uses of the same elements."""
    ti.loop_config(serialize=True)
    for i in range(x.shape[0]):
        y[i] += v[i]
        old = ti.atomic_max(y[i % 3 % x.shape[0]], x[i])
        y[(i + 1) % x.shape[0]] += old * x[i]
        ti.atomic_min(y[i], x[i] * x[i])


@ours("x[B, n], W[m, n] -> y[B, m]", batch="B")
@ti.kernel
def layers(x: f64_2, W: f64_2, y: f64_2):
    """A batch whose outputs are overwritten."""
    for b in range(x.shape[0]):
        for i in range(W.shape[0]):
            a = 0.0
            for j in range(W.shape[1]):
                a += W[i, j] * x[b, j]
            y[b, i] = ti.tanh(a)
    for _ in ti.static(range(2)):
        for b in range(x.shape[0]):
            for i in range(W.shape[0]):
                y[b, i] = y[b, i] * y[b, i] + y[b, i]


@kernel("x[B, n], W[m, n] -> y[B, m]", batch="B", fixed=[{"n": 4, "m": 3}, {}], derivative="tiaot", derivatives=["jvp"])
@ti.kernel
def layer(x: f32_2, W: f32_2, y: f32_2):
    """A batch, in lanes."""
    for b in range(x.shape[0]):
        for i in range(W.shape[0]):
            a = ti.f32(0.0)
            for j in range(W.shape[1]):
                a += W[i, j] * x[b, j]
            y[b, i] = ti.tanh(a) if a > -1.0 else a
