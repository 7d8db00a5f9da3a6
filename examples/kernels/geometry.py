"""Curves, arms, images and prices. `tiaot export geometry.py`."""

import taichi as ti
from tiaot.export import autodiff, family, kernel

f64_1, f64_2 = ti.types.ndarray(ti.f64, ndim=1), ti.types.ndarray(ti.f64, ndim=2)
plane, space = ti.types.vector(2, ti.f64), ti.types.vector(3, ti.f64)
points2 = ti.types.ndarray(plane, ndim=1)


@kernel("control[4, 2], t[n] -> curve[n, 2]")
@ti.kernel
def bezier(control: points2, t: f64_1, curve: points2):
    """A cubic Bezier curve at parameters t."""
    for i in t:
        s = 1 - t[i]
        curve[i] = (
            s**3 * control[0] + 3 * s**2 * t[i] * control[1] + 3 * s * t[i] ** 2 * control[2] + t[i] ** 3 * control[3]
        )


@family("angle[B, k], length[k] -> tip[B, 2]", batch="B", fixed=[{"k": 3}])
def arm(variant):
    """Forward kinematics of a planar arm: where its tip is for the angles between its links."""

    @ti.kernel
    def forward(angle: variant.array(2), length: variant.array(1), tip: variant.array(2)):
        for i in range(tip.shape[0]):
            direction, x, y = ti.cast(0, variant.type), ti.cast(0, variant.type), ti.cast(0, variant.type)
            for j in ti.static(range(variant.sizes["k"])):
                direction += angle[i, j]
                x += length[j] * ti.cos(direction)
                y += length[j] * ti.sin(direction)
            tip[i, 0] = x
            tip[i, 1] = y

    return autodiff(forward)


@ti.func
def distance(p, centre, radius, floor):
    """To a sphere above a floor, blended where they meet."""
    sphere = (p - centre).norm() - radius
    plane = p[1] - floor
    blend = 0.1
    return -blend * ti.log(ti.exp(-sphere / blend) + ti.exp(-plane / blend))


@kernel(
    "centre[1, 3], radius[1], floor[1] -> image[16, 24]",
    draw={
        "centre": lambda rng, shape, sizes: rng.uniform(-0.2, 0.2, shape),
        "floor": lambda rng, shape, sizes: rng.uniform(-1, -0.8, shape),
    },
)
@ti.kernel
def render(centre: ti.types.ndarray(space, ndim=1), radius: f64_1, floor: f64_1, image: f64_2):
    """A small image of a signed-distance scene: light that thins out along each ray, densest at the surface."""
    for i, j in image:
        across, up = ti.cast(j, ti.f64) - 11.5, 7.5 - ti.cast(i, ti.f64)
        ray = space(across / 12, up / 12, 1.5).normalized()
        light = ti.cast(0, ti.f64)
        for step in ti.static(range(16)):
            p = ti.Vector([0.0, 0.0, -2.5]) + ray * (0.3 * step)
            light += ti.exp(-8.0 * ti.abs(distance(p, centre[0], radius[0], floor[0])))
        image[i, j] = light * 0.3


@kernel("count[n], seed -> normal[n]", wrt=[])
@ti.kernel
def normals(count: f64_1, normal: f64_1):
    """Standard normal numbers, as many as `count` has places, which follow from the seed."""
    for i in count:
        normal[i] = ti.randn(ti.f64)


@kernel("spot[1], volatility[1], normal[n], strike, rate, years -> price[1]", wrt=["spot volatility"])
@ti.kernel
def call_price(
    spot: f64_1, volatility: f64_1, normal: f64_1, strike: ti.f64, rate: ti.f64, years: ti.f64, price: f64_1
):
    """The Monte Carlo price of a European call in the model of Black and Scholes; its gradients are delta and vega."""
    for i in normal:
        drift = (rate - 0.5 * volatility[0] ** 2) * years
        end = spot[0] * ti.exp(drift + volatility[0] * ti.sqrt(years) * normal[i])
        price[0] += ti.exp(-rate * years) * ti.max(end - strike, 0.0) / normal.shape[0]
