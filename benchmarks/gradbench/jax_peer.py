"""The problems in jax.numpy, in double precision: for each a function of its inputs, in their order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

jax.config.update("jax_enable_x64", True)

from jax import numpy as jnp  # noqa: E402
from jax.scipy.special import logsumexp  # noqa: E402

from .problems import Inputs, Problem  # noqa: E402


def log_sum_exp(x):
    return logsumexp(x)


def least_squares(x, n):
    t = -1 + 2.0 * jnp.arange(n) / (n - 1.0)
    powers = jnp.cumprod(jnp.concatenate([jnp.ones((n, 1)), jnp.repeat(t[:, None], x.shape[0] - 1, 1)], 1), 1)
    left = jnp.where(t > 0, 1.0, -1.0) - powers @ x
    return 0.5 * left @ left


def gaussian_mixture(alpha, mean, factor, x, gamma, m):
    d = x.shape[1]
    rows, columns = jnp.tril_indices(d, -1)
    diagonal = jnp.exp(factor[:, :d])
    L = jnp.zeros((alpha.shape[0], d, d)).at[:, rows, columns].set(factor[:, d:])
    L += jnp.eye(d) * diagonal[:, None, :]
    z = jnp.einsum("krs,nks->nkr", L, x[:, None, :] - mean)
    term = alpha + factor[:, :d].sum(1) - 0.5 * (z * z).sum(2)
    prior = 0.5 * gamma**2 * ((diagonal**2).sum() + (factor[:, d:] ** 2).sum()) - m * factor[:, :d].sum()
    return logsumexp(term, 1).sum() - x.shape[0] * logsumexp(alpha) + prior


def k_means(point, centre):
    return ((point[:, None, :] - centre) ** 2).sum(2).min(1).sum()


def _error(camera, point, weight, feature):
    r, x = camera[:3], point - camera[3:6]
    squared = r @ r
    theta = jnp.sqrt(jnp.where(squared > 0, squared, 1.0))
    w = r / theta
    turned = x * jnp.cos(theta) + jnp.cross(w, x) * jnp.sin(theta) + w * (w @ x) * (1 - jnp.cos(theta))
    turned = jnp.where(squared > 0, turned, x + jnp.cross(r, x))
    p = turned[:2] / turned[2]
    radius = p @ p
    return weight * (camera[6] * (1 + camera[9] * radius + camera[10] * radius**2) * p + camera[7:9] - feature)


def bundle_adjustment(cameras, points, seen, weight, feature):
    return jax.vmap(_error)(cameras[seen[:, 0]], points[seen[:, 1]], weight, feature)


def _bundle_jacobian(cameras, points, seen, weight, feature):
    jacobian = jax.vmap(jax.jacrev(_error, (0, 1, 2)))
    return jacobian(cameras[seen[:, 0]], points[seen[:, 1]], weight, feature)


def long_short_term_memory(weight, bias, extra, hidden, cell, sequence):
    def step(carry, now):
        h, s = carry
        signal = now * extra[0]
        new_h, new_s = [], []
        for layer in range(weight.shape[0]):
            forget = jax.nn.sigmoid(signal * weight[layer, 0] + bias[layer, 0])
            accept = jax.nn.sigmoid(h[layer] * weight[layer, 1] + bias[layer, 1])
            give = jax.nn.sigmoid(signal * weight[layer, 2] + bias[layer, 2])
            change = jnp.tanh(h[layer] * weight[layer, 3] + bias[layer, 3])
            new_s.append(s[layer] * forget + accept * change)
            signal = give * jnp.tanh(new_s[-1])
            new_h.append(signal)
        guess = signal * extra[1] + extra[2]
        return (jnp.stack(new_h), jnp.stack(new_s)), guess - jnp.log(jnp.exp(guess).sum() + 2)

    _, guesses = jax.lax.scan(step, (hidden, cell), sequence[:-1])
    return -(sequence[1:] * guesses).sum() / guesses.size


def differential_equation(x, steps):
    h = 2.0 / steps

    def slope(y):
        return x * jnp.concatenate([jnp.ones(1), y[:-1]])

    def step(y, _):
        a = slope(y)
        b = slope(y + h / 2 * a)
        c = slope(y + h / 2 * b)
        return y + h / 6 * (a + 2 * b + 2 * c + slope(y + h * c)), None

    return jax.lax.scan(step, jnp.zeros_like(x), None, length=steps)[0]


def determinant(A):
    return jnp.linalg.det(A)


def prepare(problem: Problem, inputs: Inputs) -> dict[str, Callable[[], Any]]:
    """The primal and the gradient, compiled, of inputs on the device; numbers of the size of arrays are static."""
    function = globals()[problem.name]
    static = tuple(i for i, value in enumerate(inputs.values()) if isinstance(value, int))
    given = [jnp.asarray(value) if hasattr(value, "shape") else value for value in inputs.values()]
    primal = jax.jit(function, static_argnums=static)
    if problem.name == "bundle_adjustment":
        gradient = jax.jit(_bundle_jacobian)
    else:
        places = tuple(list(inputs).index(name) for name in problem.wrt)
        value = (lambda *a: function(*a)[-1]) if problem.name == "differential_equation" else function
        gradient = jax.jit(jax.grad(value, places), static_argnums=static)
    return {
        "primal": lambda: jax.block_until_ready(primal(*given)),
        "gradient": lambda: jax.block_until_ready(gradient(*given)),
    }
