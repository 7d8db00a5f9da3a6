"""Fits the layer that ships to data, by Newton's method: second derivatives from the kernel's jvp, vjp and hvp.

    python examples/newton_fit.py

The loss is half the squared distance of f(W, b) = tanh(W x + b) from its target. With the residual r = f - target, its
Hessian times a direction p is J^T (J p) + (the Hessian of <r, f>) p: a vjp of a jvp, and an hvp. Conjugate gradients
solve with it, so that no matrix is ever formed.
"""

import numpy as np
import tiaot

WRT = ("W", "b")


class Fit:
    """The parameters as one vector, and the products that Newton's method needs."""

    def __init__(self, kernel: tiaot.Kernel, x: np.ndarray, target: np.ndarray) -> None:
        self.kernel, self.x, self.target = kernel, x, target
        self.shape = (target.shape[1], x.shape[1])

    def parts(self, vector: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """W (m, n) and b (m,) of a vector (m n + m,)."""
        m, n = self.shape
        return vector[: m * n].reshape(m, n), vector[m * n :]

    @staticmethod
    def joined(parts: tuple[np.ndarray, ...]) -> np.ndarray:
        return np.concatenate([part.ravel() for part in parts])

    def loss(self, at: np.ndarray) -> float:
        return 0.5 * float(((self.kernel(self.x, *self.parts(at)) - self.target) ** 2).sum())

    def gradient(self, at: np.ndarray) -> np.ndarray:
        residual = self.kernel(self.x, *self.parts(at)) - self.target
        return self.joined(self.kernel.vjp(self.x, *self.parts(at), residual, wrt=WRT))

    def curvature(self, at: np.ndarray, along: np.ndarray) -> np.ndarray:
        """The Hessian of the loss times a direction."""
        inputs, tangents = (self.x, *self.parts(at)), self.parts(along)
        outputs, moved = self.kernel.jvp(*inputs, *tangents, wrt=WRT)
        first = self.kernel.vjp(*inputs, moved, wrt=WRT)
        _, second = self.kernel.hvp(*inputs, outputs - self.target, *tangents, wrt=WRT)
        return self.joined(first) + self.joined(second)

    def direction(self, at: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """Newton's step by conjugate gradients, which end early where the curvature is not positive."""
        step, rest = np.zeros_like(at), -gradient
        along, size = rest, float(rest @ rest)
        goal = size * min(0.25, np.sqrt(size)) ** 2
        while size > goal:
            curved = self.curvature(at, along)
            bend = float(along @ curved)
            if bend <= 0:
                return step if step.any() else -gradient
            step = step + size / bend * along
            rest = rest - size / bend * curved
            size, before = float(rest @ rest), size
            along = rest + size / before * along
        return step


def fit(rounds: int) -> list[float]:
    """The norm of the gradient in each round."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 8))
    made = rng.normal(size=(4, 8)) / 2, rng.normal(size=4) / 2
    kernel = tiaot.load("dense_tanh")
    problem = Fit(kernel, x, kernel(x, *made) + 0.05 * rng.normal(size=(200, 4)))
    at, norms = np.zeros(36), []
    for _ in range(rounds):
        gradient = problem.gradient(at)
        norms.append(float(np.linalg.norm(gradient)))
        step = problem.direction(at, gradient)
        while problem.loss(at + step) > problem.loss(at) and np.linalg.norm(step) > 1e-14:
            step = step / 2
        at = at + step
    return norms


def main() -> None:
    for number, norm in enumerate(fit(rounds=9)):
        print(f"round {number}  gradient {norm:.1e}")


if __name__ == "__main__":
    main()
