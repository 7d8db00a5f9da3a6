"""Arithmetic on integers whose results Taichi leaves open: divisions by 0, shifts by too much, numbers out of range."""

import taichi as ti
from tiaot.export import kernel

i32_1 = ti.types.ndarray(ti.i32, ndim=1)
i64_1 = ti.types.ndarray(ti.i64, ndim=1)
f32_1 = ti.types.ndarray(ti.f32, ndim=1)
f64_1 = ti.types.ndarray(ti.f64, ndim=1)


def _divisors(rng, shape, sizes):
    return rng.integers(1, 9, shape)


@kernel("a[n], b[n] -> q[n], r[n], s[n], t[n]", wrt=[], draw={"b": _divisors})
@ti.kernel
def divide(a: i32_1, b: i32_1, q: i32_1, r: i32_1, s: i32_1, t: i32_1):
    for i in a:
        q[i] = a[i] // b[i]
        r[i] = a[i] % b[i]
        s[i] = ti.raw_div(a[i], b[i])
        t[i] = ti.raw_mod(a[i], b[i])


@kernel("a[n], b[n] -> left[n], r[n], u[n]", wrt=[])
@ti.kernel
def shift(a: i32_1, b: i32_1, left: i32_1, r: i32_1, u: i32_1):
    for i in a:
        left[i] = a[i] << b[i]
        r[i] = a[i] >> b[i]
        u[i] = ti.bit_shr(a[i], b[i])


@kernel("x[n], y[n] -> i[n], j[n], k[n], m[n]", wrt=[])
@ti.kernel
def truncate(x: f32_1, y: f64_1, i: i32_1, j: i32_1, k: i64_1, m: i64_1):
    for p in x:
        i[p] = ti.cast(x[p], ti.i32)
        j[p] = ti.cast(y[p], ti.i32)
        k[p] = ti.cast(x[p], ti.i64)
        m[p] = ti.cast(y[p], ti.i64)


@kernel("x[n], parts -> y[n]", wrt=[])
@ti.kernel
def first_part(x: f32_1, parts: ti.i32, y: f32_1):
    for i in range(x.shape[0] // parts):  # a range that the host of a device works out too
        y[i] = x[i]
