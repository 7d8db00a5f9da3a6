"""Layers and losses. `tiaot export learning.py`."""

import taichi as ti
from tiaot.export import autodiff, family, kernel

scalars, matrix = ti.types.ndarray(ti.f32, ndim=1), ti.types.ndarray(ti.f32, ndim=2)
labels = ti.types.ndarray(ti.i32, ndim=1)


@ti.func
def exponentials(logits: ti.template(), i):
    """The largest logit of a row, and the sum of the exponentials of all, less the largest."""
    largest = logits[i, 0]
    for j in range(logits.shape[1]):
        largest = ti.max(largest, logits[i, j])
    total = 0.0
    for j in range(logits.shape[1]):
        total += ti.exp(logits[i, j] - largest)
    return largest, total


@ti.kernel
def cross_entropy_backward(logits: matrix, label: labels, grad_loss: scalars, grad_logits: matrix):
    """The softmax, less 1 at the label."""
    for i in grad_loss:
        largest, total = exponentials(logits, i)
        for j in range(logits.shape[1]):
            grad_logits[i, j] = grad_loss[i] * ti.exp(logits[i, j] - largest) / total
        grad_logits[i, label[i]] -= grad_loss[i]


@kernel(
    "logits[B, n], label[B] -> loss[B]",
    vjp={"logits": cross_entropy_backward},
    sizes=[{"B": 1, "n": 2}, {"B": 5, "n": 33}, {"B": 600, "n": 10}],
    draw={"label": lambda rng, shape, sizes: rng.integers(0, sizes["n"], shape)},
)
@ti.kernel
def cross_entropy(logits: matrix, label: labels, loss: scalars):
    """The cross-entropy of a softmax, with whole numbers for labels; its gradient is written by hand."""
    for i in loss:
        largest, total = exponentials(logits, i)
        loss[i] = ti.log(total) + largest - logits[i, label[i]]


@kernel(
    "x[B, n], gain[n], bias[n] -> y[B, n]",
    wrt=["x", "x gain bias"],
    scratch={"mean": ["B"], "variance": ["B"]},
    sizes=[{"B": 1, "n": 5}, {"B": 33, "n": 40}, {"B": 600, "n": 10}],
)
@ti.kernel
def layer_norm(x: matrix, gain: scalars, bias: scalars, mean: scalars, variance: scalars, y: matrix):
    """Each row shifted and scaled to mean 0 and variance 1, then by gain and bias; Taichi makes the gradient."""
    for i, j in x:
        mean[i] += x[i, j] / x.shape[1]
    for i, j in x:
        variance[i] += (x[i, j] - mean[i]) ** 2 / x.shape[1]
    for i, j in x:
        y[i, j] = (x[i, j] - mean[i]) * ti.rsqrt(variance[i] + 1e-5) * gain[j] + bias[j]


@family(
    "x[B, n], W1[h, n], b1[h], W2[h] -> y[B]",
    batch="B",
    fixed=[{"n": 4, "h": 8}],
    wrt=["x", "W1 b1 W2", "x W1 b1 W2"],
)
def perceptron(variant):
    """A small multilayer perceptron: n inputs, h hidden units with tanh, one output."""
    n, h = variant.sizes["n"], variant.sizes["h"]

    @ti.kernel
    def forward(
        x: variant.array(2), W1: variant.array(2), b1: variant.array(1), W2: variant.array(1), y: variant.array(1)
    ):
        for i in y:
            total = ti.cast(0, variant.type)
            for j in ti.static(range(h)):
                z = b1[j]
                for k in ti.static(range(n)):
                    z += W1[j, k] * x[i, k]
                total += W2[j] * ti.tanh(z)
            y[i] = total

    return autodiff(forward)
