"""Finds the velocities that a chain of springs was thrown with, from where it is after 100 steps.

    tiaot export examples/kernels/physics.py
    python examples/optimise_springs.py physics.tiaot.so

The gradient goes back through all the steps. Only every tenth state is kept on the way forward; on the way back the
nine between two of them are computed again. The same serves for any exported step.
"""

import sys

import numpy as np
import tiaot

STEPS, EVERY = 100, 10


class Chain:
    """Nine masses in a row, between springs. `step` is the kernel spring_step of the module."""

    def __init__(self, step: tiaot.Kernel) -> None:
        self.step = step
        n = 9
        self.x = np.stack([np.arange(n) * 0.1, np.zeros(n)], axis=1)
        first = np.arange(n - 1, dtype=np.int32)
        self.springs = (first, first + np.int32(1), np.full(n - 1, 0.1), 5.0, 0.005)

    def swing(self, v: np.ndarray) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
        """Where the masses are after all steps, and every tenth state on the way."""
        state, kept = (self.x, v), []
        for i in range(STEPS):
            if i % EVERY == 0:
                kept.append(state)
            state = self.step(*state, *self.springs)
        return state[0], kept

    def pull_back(self, kept: list[tuple[np.ndarray, np.ndarray]], grad_x: np.ndarray) -> np.ndarray:
        """The gradient with respect to the first velocities, from that with respect to the last places."""
        grad_v = np.zeros_like(grad_x)
        for start in reversed(kept):
            states = [start]
            for _ in range(EVERY - 1):
                states.append(self.step(*states[-1], *self.springs))
            for state in reversed(states):
                grad_x, grad_v = self.step.vjp(*state, *self.springs, grad_x, grad_v, wrt=("x", "v"))
        return grad_v


def optimise(chain: Chain, target: np.ndarray, rounds: int) -> tuple[np.ndarray, list[float]]:
    """The velocities, and the loss of each round, half the squared distance from the target. By Adam, ever slower."""
    v, mean, square = np.zeros_like(target), np.zeros_like(target), np.zeros_like(target)
    losses = []
    for i in range(1, rounds + 1):
        x, kept = chain.swing(v)
        losses.append(0.5 * float(((x - target) ** 2).sum()))
        gradient = chain.pull_back(kept, x - target)
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.99 * square + 0.01 * gradient**2
        rate = 0.2 * (1 - i / (rounds + 1))
        v = v - rate * (mean / (1 - 0.9**i)) / (np.sqrt(square / (1 - 0.99**i)) + 1e-12)
    return v, losses


def main(path: str) -> None:
    chain = Chain(tiaot.open(path).spring_step)
    thrown = np.random.default_rng(0).normal(0, 0.5, chain.x.shape)
    found, losses = optimise(chain, chain.swing(thrown)[0], rounds=300)
    for i in range(0, len(losses), 50):
        print(f"round {i:3d}  loss {losses[i]:.3e}")
    print(f"round {len(losses) - 1:3d}  loss {losses[-1]:.3e}")
    print(f"velocities off by at most {np.abs(found - thrown).max():.1e}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "physics.tiaot.so")
