"""Trains a network to throw: it is told how far away a target is and answers with the velocity to throw a ball with.

    tiaot export examples/programs/flight.py -o flight.tiaot.so
    python examples/train_simulation.py flight.tiaot.so

The loss is how far from the target the ball is after 40 steps of flight, and its gradient reaches the network through
all of them.
"""

import sys

import tiaot
import tiaot.torch
import torch

STEPS, DT = 40, 0.025  # a flight of one second


def fly(state, step):
    """One step. Each kernel may overwrite fields that the gradient of another needs."""
    state.push()
    state.move(DT)


def train(module: tiaot.Module, rounds: int) -> list[float]:
    """The mean squared distance from the target, in m^2, before each round of Adam."""
    torch.manual_seed(0)
    flight = tiaot.torch.Simulation(module, fly, inputs=["position", "velocity"])
    count = 64
    network = torch.nn.Sequential(
        tiaot.torch.DenseTanh(1, 16, dtype=torch.float64), torch.nn.Linear(16, 2, dtype=torch.float64)
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=0.03)
    losses = []
    for _ in range(rounds):
        distance = 2 + 6 * torch.rand(count, 1, dtype=torch.float64)
        target = torch.cat([distance, torch.zeros_like(distance)], 1)
        landed, _ = flight(torch.zeros_like(target), 10 * network((distance - 5) / 3), steps=STEPS)
        loss = ((landed - target) ** 2).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


if __name__ == "__main__":
    losses = train(tiaot.open(sys.argv[1]), 300)
    for i in (0, 10, 100, 299):
        print(f"round {i:3}: {losses[i] ** 0.5:8.4f} m from the target")
