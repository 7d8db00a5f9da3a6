"""Trains one small network twice, from the same start on the same data: with tiaot's layer in it, and with torch's own.

    python examples/train_torch.py

The losses agree step for step to within the rounding of float64.
"""

import tiaot.torch
import torch


def network(layer: torch.nn.Module) -> torch.nn.Module:
    """8 inputs, the layer with 16 outputs, 1 output."""
    return torch.nn.Sequential(layer, torch.nn.Linear(16, 1, dtype=torch.float64))


def losses(model: torch.nn.Module, x: torch.Tensor, target: torch.Tensor, steps: int) -> list[float]:
    """The mean squared error before each of `steps` steps of Adam."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    curve = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(x), target)
        loss.backward()
        optimizer.step()
        curve.append(loss.item())
    return curve


def train(steps: int) -> tuple[list[float], list[float]]:
    """The two loss curves: with tiaot's layer, with torch's."""
    torch.manual_seed(0)
    x = torch.randn(256, 8, dtype=torch.float64)
    target = torch.sin(x.sum(1, keepdim=True))
    ours = network(tiaot.torch.DenseTanh(8, 16, dtype=torch.float64))
    linear = torch.nn.Linear(8, 16, dtype=torch.float64)
    theirs = network(torch.nn.Sequential(linear, torch.nn.Tanh()))
    with torch.no_grad():
        linear.weight.copy_(ours[0].W)
        linear.bias.copy_(ours[0].b)
    theirs[1].load_state_dict(ours[1].state_dict())
    return losses(ours, x, target, steps), losses(theirs, x, target, steps)


def main() -> None:
    ours, theirs = train(steps=300)
    print("step     tiaot     torch   difference")
    for step in range(0, len(ours), 50):
        print(f"{step:4d}  {ours[step]:.6f}  {theirs[step]:.6f}  {abs(ours[step] - theirs[step]):.1e}")


if __name__ == "__main__":
    main()
