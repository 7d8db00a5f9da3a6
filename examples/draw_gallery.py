"""Draws the pictures of the gallery from the kernels in examples/kernels. Needs the extra `export`, and matplotlib.

    python examples/draw_gallery.py [FOLDER]      by default docs/gallery

Each picture shows a kernel and what its gradient is good for.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib
import numpy as np
import tiaot

matplotlib.use("Agg")
from matplotlib import pyplot

HERE = Path(__file__).parent
_SIZE = (7.2, 2.8)
_INK = "#0b7285"


def export(name: str, folder: Path) -> tiaot.Module:
    """The module of examples/kernels/NAME.py, exported into a folder."""
    target = folder / f"{name}_kernels.so"
    source = HERE / "kernels" / f"{name}.py"
    subprocess.run([sys.executable, "-m", "tiaot", "export", source, "-o", target], check=True)
    return tiaot.open(target)


def springs(physics: tiaot.Module) -> pyplot.Figure:
    """A chain of masses that was thrown, and the throw found again by the gradient through 100 steps."""
    sys.path.insert(0, str(HERE))
    from optimise_springs import Chain, optimise

    chain = Chain(physics.spring_step)
    thrown = np.random.default_rng(0).normal(0, 0.5, chain.x.shape)
    _, kept = chain.swing(thrown)
    target = chain.swing(thrown)[0]
    _, losses = optimise(chain, target, rounds=300)
    figure, (left, right) = pyplot.subplots(1, 2, figsize=_SIZE, layout="constrained")
    for i, (x, _) in enumerate([*kept, (target, None)]):
        left.plot(*x.T, ".-", color=_INK, alpha=0.15 + 0.085 * i, linewidth=1)
    left.set_title("a thrown chain, every tenth step", loc="left", fontsize=9)
    left.set_aspect("equal", adjustable="datalim")
    right.semilogy(losses, color=_INK)
    right.set_title("loss while the throw is looked for", loc="left", fontsize=9)
    right.set_xlabel("round", fontsize=8)
    return figure


def heat(physics: tiaot.Module) -> pyplot.Figure:
    """Where heat that is measured at one point came from: the gradient of one element after 60 steps."""
    step, rate, steps = physics.heat_step, 0.2, 60
    u = np.zeros((48, 72))
    u[12:18, 12:24] = u[30:36, 44:60] = 1.0
    start = u
    for _ in range(steps):
        u = step(u, rate)
    wanted = np.zeros_like(u)
    wanted[24, 34] = 1.0
    for _ in range(steps):  # the step is linear: its vjp does not depend on where it is taken
        wanted = step.vjp(u, rate, wanted, wrt="u")
    figure, axes = pyplot.subplots(1, 3, figsize=_SIZE, layout="constrained")
    titles = ("at the start", f"after {steps} steps", "what one point feels of the start")
    for panel, image, title in zip(axes, (start, u, wanted), titles, strict=True):
        panel.imshow(image, cmap="inferno", interpolation="nearest")
        panel.set_title(title, loc="left", fontsize=9)
        panel.set_axis_off()
    axes[1].plot(34, 24, "o", markersize=4, color="white")
    return figure


def render(geometry: tiaot.Module) -> pyplot.Figure:
    """A ball above a floor, moved by the gradient of its picture until it looks like the target."""
    kernel = geometry.render
    radius, floor = np.array([0.5]), np.array([-0.9])
    target = kernel(np.array([[0.35, 0.25, 0.1]]), radius, floor)
    centre = np.array([[-0.35, -0.15, -0.1]])
    pictures = []
    for i in range(401):
        image = kernel(centre, radius, floor)
        if i in (0, 20, 400):
            pictures.append((f"round {i}", image))
        centre = centre - 0.004 * kernel.vjp(centre, radius, floor, image - target, wrt="centre")
    figure, axes = pyplot.subplots(1, 4, figsize=_SIZE, layout="constrained")
    for panel, (title, image) in zip(axes, [*pictures, ("target", target)], strict=True):
        panel.imshow(image, cmap="gray", vmin=0, vmax=target.max())
        panel.set_title(title, loc="left", fontsize=9)
        panel.set_axis_off()
    return figure


def prices(geometry: tiaot.Module) -> pyplot.Figure:
    """The price of a call option by Monte Carlo, and its delta and vega, which are gradients of the same paths."""
    normal = geometry.normals(np.zeros(200_000), 7)
    spots = np.linspace(60, 140, 41)
    price, delta, vega = [], [], []
    for spot in spots:
        market = (np.array([spot]), np.array([0.2]), normal, 100.0, 0.03, 1.0)
        price.append(geometry.call_price(*market)[0])
        by_spot, by_volatility = geometry.call_price.vjp(*market, np.ones(1), wrt=("spot", "volatility"))
        delta.append(by_spot[0])
        vega.append(by_volatility[0])
    figure, axes = pyplot.subplots(1, 3, figsize=_SIZE, layout="constrained")
    for panel, values, title in zip(axes, (price, delta, vega), ("price", "delta", "vega"), strict=True):
        panel.plot(spots, values, color=_INK)
        panel.set_title(title, loc="left", fontsize=9)
        panel.set_xlabel("spot", fontsize=8)
    return figure


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="tiaot-gallery-") as temporary:
        physics, geometry = (export(name, Path(temporary)) for name in ("physics", "geometry"))
        for draw, module in ((springs, physics), (heat, physics), (render, geometry), (prices, geometry)):
            figure = draw(module)
            for panel in figure.axes:
                panel.tick_params(labelsize=7)
                panel.spines[["top", "right"]].set_visible(False)
            figure.savefig(folder / f"{draw.__name__}.png", dpi=130)
            pyplot.close(figure)
            print(folder / f"{draw.__name__}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE.parent / "docs" / "gallery")
