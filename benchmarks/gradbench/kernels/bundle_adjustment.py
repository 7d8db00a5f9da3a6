"""Where cameras see points, less where they were seen: one camera and one point for each observation.

A camera is a rotation, a centre, a focal length, a principal point and two coefficients of radial distortion.
"""

import taichi as ti
from tiaot.benchmarks.gradbench.derivative import gradient
from tiaot.export import kernel

ti.init(default_fp=ti.f64)
numbers, table = ti.types.ndarray(ti.f64, ndim=1), ti.types.ndarray(ti.f64, ndim=2)
integers = ti.types.ndarray(ti.i32, ndim=2)


@kernel("cameras[n, 11], points[m, 3], seen[B, 2] -> camera[B, 11], point[B, 3]", wrt=[])
@ti.kernel
def gather(cameras: table, points: table, seen: integers, camera: table, point: table):
    for i in range(seen.shape[0]):
        for j in range(11):
            camera[i, j] = cameras[seen[i, 0], j]
        for j in range(3):
            point[i, j] = points[seen[i, 1], j]


@kernel(
    "camera[B, 11], point[B, 3], weight[B], feature[B, 2] -> error[B, 2]",
    batch="B",
    **gradient("camera point weight"),
)
@ti.kernel
def bundle_adjustment(camera: table, point: table, weight: numbers, feature: table, error: table):
    for i in range(camera.shape[0]):
        r = ti.Vector([camera[i, 0], camera[i, 1], camera[i, 2]])
        x = ti.Vector([point[i, j] - camera[i, 3 + j] for j in range(3)])
        squared = r.dot(r)
        turned = x + r.cross(x)
        if squared > 0:
            theta = ti.sqrt(squared)
            w = r / theta
            turned = x * ti.cos(theta) + w.cross(x) * ti.sin(theta) + w * (w.dot(x) * (1.0 - ti.cos(theta)))
        p = ti.Vector([turned[0] / turned[2], turned[1] / turned[2]])
        radius = p.dot(p)
        bent = 1.0 + camera[i, 9] * radius + camera[i, 10] * radius * radius
        for j in ti.static(range(2)):
            error[i, j] = weight[i] * (camera[i, 6] * bent * p[j] + camera[i, 7 + j] - feature[i, j])
