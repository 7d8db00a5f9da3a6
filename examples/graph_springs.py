"""Finds how to throw a chain of springs so that it is at a target after some steps, by gradient descent on fields.

    tiaot export --cuda examples/programs/springs.py
    python examples/graph_springs.py springs.tiaot.so

A round of the descent is work on the fields alone: the steps, their adjoints and the step downhill. On a GPU, by
torch's graphs, it is captured once, and each further round is one launch of the graph.
"""

import sys
from typing import Any

import tiaot

STEPS, DT, RATE = 5, 0.1, 0.4  # as many steps as springs.py has room for


def descend(state: Any) -> None:
    """A round."""
    state.loss[...] = 0
    with state.tape(state.loss):
        for t in range(STEPS - 1):
            state.move(t, DT)
        state.compare()
    state.descend(RATE)


def on_cpu(module: tiaot.Module, rounds: int) -> list[float]:
    """The loss of each round."""
    state, losses = module.state(), []
    for _ in range(rounds):
        descend(state)
        losses.append(float(state.loss))
    return losses


def as_a_graph(module: tiaot.Module, rounds: int) -> list[float]:
    """The same on a GPU."""
    import torch

    state = module.state(device="cuda:0")
    stream = torch.cuda.Stream()
    state.stream = stream  # before the capture, which cannot wait for what is not captured
    descend(state)  # loads the code
    graph, losses = torch.cuda.CUDAGraph(), [state.loss.item()]
    with torch.cuda.graph(graph, stream=stream):
        descend(state)
    with torch.cuda.stream(stream):
        for _ in range(rounds - 1):
            graph.replay()
            losses.append(state.loss.item())
    return losses


def has_gpu() -> bool:
    try:
        import torch
    except ImportError:
        return False
    return torch.cuda.is_available()


def main(path: str) -> None:
    module = tiaot.open(path)
    run = as_a_graph if has_gpu() and module.info()["cuda"] else on_cpu
    losses = run(module, 30)
    print(f"{run.__name__}: loss {losses[0]:.3f} at first, {losses[-1]:.1e} after {len(losses)} rounds")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "springs.tiaot.so")
