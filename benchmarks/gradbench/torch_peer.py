"""The problems in torch, in double precision: for each a function of its inputs, in their order."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch

from .problems import Inputs, Problem

torch.set_num_threads(1)


def log_sum_exp(x):
    return torch.logsumexp(x, 0)


def least_squares(x, n):
    t = -1 + 2.0 * torch.arange(n, dtype=x.dtype) / (n - 1.0)
    powers = torch.vander(t, len(x), increasing=True)
    left = torch.where(t > 0, 1.0, -1.0) - powers @ x
    return 0.5 * left @ left


def gaussian_mixture(alpha, mean, factor, x, gamma, m):
    d = x.shape[1]
    rows, columns = torch.tril_indices(d, d, -1)
    diagonal = torch.exp(factor[:, :d])
    L = torch.diag_embed(diagonal)
    L[:, rows, columns] = factor[:, d:]
    z = torch.einsum("krs,nks->nkr", L, x[:, None, :] - mean)
    term = alpha + factor[:, :d].sum(1) - 0.5 * (z * z).sum(2)
    prior = 0.5 * gamma**2 * ((diagonal**2).sum() + (factor[:, d:] ** 2).sum()) - m * factor[:, :d].sum()
    return torch.logsumexp(term, 1).sum() - len(x) * torch.logsumexp(alpha, 0) + prior


def k_means(point, centre):
    return ((point[:, None, :] - centre) ** 2).sum(2).min(1).values.sum()


def _errors(camera, point, weight, feature):
    r, x = camera[:, :3], point - camera[:, 3:6]
    squared = (r * r).sum(1, keepdim=True)
    theta = torch.sqrt(torch.where(squared > 0, squared, 1.0))
    w = r / theta
    turned = x * torch.cos(theta) + torch.linalg.cross(w, x) * torch.sin(theta)
    turned = turned + w * ((w * x).sum(1, keepdim=True) * (1 - torch.cos(theta)))
    turned = torch.where(squared > 0, turned, x + torch.linalg.cross(r, x))
    p = turned[:, :2] / turned[:, 2:]
    radius = (p * p).sum(1, keepdim=True)
    bent = 1 + camera[:, 9:10] * radius + camera[:, 10:] * radius**2
    return weight[:, None] * (camera[:, 6:7] * bent * p + camera[:, 7:9] - feature)


def bundle_adjustment(cameras, points, seen, weight, feature):
    return _errors(cameras[seen[:, 0]], points[seen[:, 1]], weight, feature)


def _bundle_jacobian(cameras, points, seen, weight, feature):
    leaves = [each.requires_grad_() for each in (cameras[seen[:, 0]], points[seen[:, 1]], weight.detach())]
    errors = _errors(*leaves, feature)
    rows = [torch.autograd.grad(errors[:, j].sum(), leaves, retain_graph=j == 0) for j in range(2)]
    return tuple(torch.stack(each, 1) for each in zip(*rows, strict=True))


def long_short_term_memory(weight, bias, extra, hidden, cell, sequence):
    layers, d = hidden.shape
    h, s = list(hidden), list(cell)
    loss = 0.0
    for now, following in pairwise(sequence):
        signal = now * extra[0]
        for layer in range(layers):
            forget = torch.sigmoid(signal * weight[layer, 0] + bias[layer, 0])
            accept = torch.sigmoid(h[layer] * weight[layer, 1] + bias[layer, 1])
            give = torch.sigmoid(signal * weight[layer, 2] + bias[layer, 2])
            change = torch.tanh(h[layer] * weight[layer, 3] + bias[layer, 3])
            s[layer] = s[layer] * forget + accept * change
            signal = h[layer] = give * torch.tanh(s[layer])
        guess = signal * extra[1] + extra[2]
        loss = loss - following @ (guess - torch.log(torch.exp(guess).sum() + 2))
    return loss / (d * (len(sequence) - 1))


def differential_equation(x, steps):
    h, one, y = 2.0 / steps, x.new_ones(1), torch.zeros_like(x)

    def slope(y):
        return x * torch.cat([one, y[:-1]])

    for _ in range(steps):
        a = slope(y)
        b = slope(y + h / 2 * a)
        c = slope(y + h / 2 * b)
        y = y + h / 6 * (a + 2 * b + 2 * c + slope(y + h * c))
    return y


def determinant(A):
    return torch.linalg.det(A)


def prepare(problem: Problem, inputs: Inputs) -> dict[str, Callable[[], Any]]:
    """The primal, without a record for autograd, and the gradient."""
    function = globals()[problem.name]
    given = {name: torch.from_numpy(value) if hasattr(value, "shape") else value for name, value in inputs.items()}
    leaves = {name: each.clone().requires_grad_() if name in problem.wrt else each for name, each in given.items()}

    def primal() -> Any:
        with torch.no_grad():
            return function(*given.values())

    def gradient() -> Any:
        if problem.name == "bundle_adjustment":
            return _bundle_jacobian(*given.values())
        value = function(*leaves.values())
        return torch.autograd.grad(value[-1] if value.ndim else value, [leaves[name] for name in problem.wrt])

    return {"primal": primal, "gradient": gradient}
