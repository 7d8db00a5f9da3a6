"""The loss of a recurrent network that predicts the next of a sequence of vectors, each entry from its own past."""

import taichi as ti
from tiaot.benchmarks.gradbench.derivative import gradient
from tiaot.export import kernel

ti.init(default_fp=ti.f64)
numbers, table = ti.types.ndarray(ti.f64, ndim=1), ti.types.ndarray(ti.f64, ndim=2)
cube = ti.types.ndarray(ti.f64, ndim=3)


@ti.func
def sigmoid(z):
    return 1.0 / (1.0 + ti.exp(-z))


@kernel(
    "weight[l, 4, d], bias[l, 4, d], extra[3, d], hidden[l, d], cell[l, d], sequence[c, d] -> y[1]",
    **gradient("weight bias extra"),
    scratch={"h": ["l", "d"], "s": ["l", "d"], "signal": ["d"]},
)
@ti.kernel
def long_short_term_memory(
    weight: cube,
    bias: cube,
    extra: table,
    hidden: table,
    cell: table,
    sequence: table,
    h: table,
    s: table,
    signal: numbers,
    y: numbers,
):
    layers, d, length = weight.shape[0], weight.shape[2], sequence.shape[0]
    for layer, j in ti.ndrange(layers, d):
        h[layer, j] = hidden[layer, j]
        s[layer, j] = cell[layer, j]
    ti.loop_config(serialize=True)
    for t in range(length - 1):
        for j in range(d):
            signal[j] = sequence[t, j] * extra[0, j]
        for layer in range(layers):
            for j in range(d):
                forget = sigmoid(signal[j] * weight[layer, 0, j] + bias[layer, 0, j])
                accept = sigmoid(h[layer, j] * weight[layer, 1, j] + bias[layer, 1, j])
                give = sigmoid(signal[j] * weight[layer, 2, j] + bias[layer, 2, j])
                change = ti.tanh(h[layer, j] * weight[layer, 3, j] + bias[layer, 3, j])
                s[layer, j] = s[layer, j] * forget + accept * change
                h[layer, j] = give * ti.tanh(s[layer, j])
                signal[j] = h[layer, j]
        total = 2.0
        for j in range(d):
            signal[j] = signal[j] * extra[1, j] + extra[2, j]
            total += ti.exp(signal[j])
        for j in range(d):
            y[0] -= sequence[t + 1, j] * (signal[j] - ti.log(total)) / (d * (length - 1.0))
