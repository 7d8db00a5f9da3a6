"""A physics-informed network in torch, with tiaot's layer in it: the swing of a pendulum from its equation alone.

    python examples/pendulum_torch.py

The angle u has u'' = -sin u. As a system of first order, u' = w and w' = -sin u, the residual needs the derivative of
the network with respect to time, and training that of the residual with respect to the weights: second derivatives of
the layer. (With u'' itself in the residual it would take third ones.) The network is trained twice, from the same
start: with tiaot's layer, and with torch's own.
"""

import math

import tiaot.torch
import torch

START, END = (1.5, 0.0), 2.0  # the angle and its speed at time 0; the last time


class Swing(torch.nn.Module):
    """Angle and speed (B, 2) at times (B, 1): the start, and the time times a small network."""

    def __init__(self, layer: torch.nn.Module, width: int) -> None:
        super().__init__()
        self.layer, self.last = layer, torch.nn.Linear(width, 2, dtype=torch.float64)

    def forward(self, time: torch.Tensor) -> torch.Tensor:
        return torch.tensor(START, dtype=torch.float64) + time * self.last(self.layer(time))


def residual(model: torch.nn.Module, time: torch.Tensor) -> torch.Tensor:
    """How far the network is from the equations (B, 2)."""
    time = time.clone().requires_grad_()
    angle, speed = model(time).unbind(1)
    slopes = [torch.autograd.grad(each.sum(), time, create_graph=True)[0][:, 0] for each in (angle, speed)]
    return torch.stack([slopes[0] - speed, slopes[1] + torch.sin(angle)], 1)


def losses(model: torch.nn.Module, time: torch.Tensor, rounds: int) -> list[float]:
    """The mean square of the residual after each round of L-BFGS."""
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=20, history_size=50, tolerance_grad=0, line_search_fn="strong_wolfe"
    )

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = residual(model, time).square().mean()
        value.backward()
        return value

    curve = []
    for _ in range(rounds):
        optimizer.step(loss)
        curve.append(residual(model, time).square().mean().item())
    return curve


def exact(times: torch.Tensor, steps: int = 4000) -> torch.Tensor:
    """The angles at ascending times, by Runge and Kutta's method in small steps."""
    state, now, found = torch.tensor(START, dtype=torch.float64), 0.0, []

    def slope(at: torch.Tensor) -> torch.Tensor:
        return torch.stack([at[1], -torch.sin(at[0])])

    for time in times.ravel().tolist():
        count = max(1, math.ceil((time - now) / END * steps))
        h = (time - now) / count
        for _ in range(count):
            a = slope(state)
            b = slope(state + h / 2 * a)
            c = slope(state + h / 2 * b)
            state = state + h / 6 * (a + 2 * b + 2 * c + slope(state + h * c))
        now = time
        found.append(state[0])
    return torch.stack(found)


def train(rounds: int, width: int = 16) -> tuple[list[float], list[float], float]:
    """The two loss curves, with tiaot's layer and with torch's, and the largest error of the angle with tiaot's."""
    torch.manual_seed(0)
    ours = Swing(tiaot.torch.DenseTanh(1, width, dtype=torch.float64), width)
    linear = torch.nn.Linear(1, width, dtype=torch.float64)
    theirs = Swing(torch.nn.Sequential(linear, torch.nn.Tanh()), width)
    with torch.no_grad():
        linear.weight.copy_(ours.layer.W)
        linear.bias.copy_(ours.layer.b)
    theirs.last.load_state_dict(ours.last.state_dict())
    time = torch.linspace(0, END, 24, dtype=torch.float64)[:, None]
    curves = losses(ours, time, rounds), losses(theirs, time, rounds)
    between = torch.linspace(0.05, END, 30, dtype=torch.float64)[:, None]
    with torch.no_grad():
        error = (ours(between)[:, 0] - exact(between)).abs().max().item()
    return *curves, error


def main() -> None:
    torch.set_num_threads(1)  # in so small a network several would wait for each other
    ours, theirs, error = train(rounds=20)
    print("round     tiaot     torch")
    for number in range(0, len(ours), 4):
        print(f"{number:5d}  {ours[number]:.1e}  {theirs[number]:.1e}")
    print(f"largest error of the angle: {error:.1e}")


if __name__ == "__main__":
    main()
