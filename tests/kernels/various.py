"""Kernels unlike the shipped one, for the exporter's tests."""

import taichi as ti
from tiaot.export import autodiff, family, written


@family("a[B, k, n], s[n] -> p[B, k], q[B]", batch="B", fixed=[{"k": 2, "n": 3}, {"k": 1, "n": 5}])
def exponentials(variant):
    """Two outputs, the second made from the first, which the adjoint therefore reads; every function of the library."""
    k, n = variant.sizes["k"], variant.sizes["n"]

    @ti.kernel
    def forward(a: variant.array(3), s: variant.array(1), p: variant.array(2), q: variant.array(1)):
        ti.loop_config(serialize=True)
        for i in range(q.shape[0]):
            total = ti.cast(0, variant.type)
            for j in ti.static(range(k)):
                value = ti.cast(0, variant.type)
                for c in ti.static(range(n)):
                    value += ti.exp(a[i, j, c] * s[c]) + ti.sin(a[i, j, c]) * ti.cos(s[c])
                p[i, j] = ti.log(1 + value * value)
            for j in ti.static(range(k)):
                total += p[i, j] * ti.tanh(p[i, j])
            q[i] = total

    return autodiff(forward)


@family("u[r, c] -> w[r, c]", dtypes=["float64"], wrt=["u"])
def smooth(variant):
    """No batch: a stencil over a whole grid, differentiated by hand."""

    @ti.kernel
    def forward(u: variant.array(2), w: variant.array(2)):
        ti.loop_config(serialize=True)
        for i in range(u.shape[0]):
            for j in range(u.shape[1]):
                w[i, j] = u[i, j] * u[i, j] + 0.5 * u[ti.max(i - 1, 0), j]

    @ti.kernel
    def backward(u: variant.array(2), grad_w: variant.array(2), grad_u: variant.array(2)):
        ti.loop_config(serialize=True)
        for i in range(u.shape[0]):
            for j in range(u.shape[1]):
                grad_u[i, j] = 2 * u[i, j] * grad_w[i, j]
                if i == 0:
                    grad_u[i, j] += 0.5 * grad_w[i, j]
                if i + 1 < u.shape[0]:
                    grad_u[i, j] += 0.5 * grad_w[i + 1, j]

    return written(forward, {"u": backward}, block_rows=1)


@family("t[r] -> h[r]", dtypes=["float32"], wrt=["t"])
def halved(variant):
    """No batch, two loops, differentiated by Taichi: the adjoint zeroes its cotangent and adds into its gradient."""

    @ti.kernel
    def forward(t: variant.array(1), h: variant.array(1)):
        ti.loop_config(serialize=True)
        for i in range(t.shape[0]):
            h[i] = 0.5 * t[i] * t[i]
        ti.loop_config(serialize=True)
        for i in range(t.shape[0]):
            h[i] += 3 * t[i]

    return autodiff(forward)


@family("i[B, n] -> o[B, n]", batch="B", dtypes=["float32"], fixed=[{"n": 1}], wrt=["i"])
def wrapped(variant):
    """Integer arithmetic that overflows: what the user sees of it wraps around."""

    @ti.kernel
    def forward(i: variant.array(2), o: variant.array(2)):
        ti.loop_config(serialize=True)
        for row in range(o.shape[0]):
            seed = ti.cast(i[row, 0], ti.i32) * 1664525 + 1013904223
            o[row, 0] = ti.cast((seed * seed) >> 8, ti.f32) + i[row, 0]

    return autodiff(forward)


@family(
    "x[B, n] -> y[B]",
    batch="B",
    fixed=[{"n": 40}, {}],
    draw={"x": lambda rng, shape, sizes: rng.uniform(-0.5, 0.5, shape)},
)
def product(variant):
    """A batch without ti.loop_config, and a variable that changes in a loop of unknown length: the adjoint's stack."""

    @ti.kernel
    def forward(x: variant.array(2), y: variant.array(1)):
        for i in y:
            p = ti.cast(1, variant.type)
            for j in range(x.shape[1]):
                p = ti.sin(p) * x[i, j] + p
            y[i] = p

    return autodiff(forward)
