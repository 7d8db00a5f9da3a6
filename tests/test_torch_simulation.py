"""Kernels over state as differentiable operations on tensors: on the module of fixtures/state.c, and on a program that
is exported, against torch's own functions.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import module_files
import numpy as np
import pytest
import tiaot

torch = pytest.importorskip("torch")
import tiaot.torch  # noqa: E402
from tiaot.torch import Simulation  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")

WEIGHTS = np.array([1, 0.5, 2, 1], np.float32)


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> tiaot.Module:
    return tiaot.open(module_files.write_module("state.c", tmp_path_factory.mktemp("state") / "state.so"))


def run(state: Any, step: int) -> None:
    """Each kernel overwrites what the adjoint of the one before it needs."""
    state.square()  # loss += the sum of x^2
    state.move(0.5)  # x += 0.5 v
    state.weigh(WEIGHTS * (1 + step % 2))  # x *= weights


def reference(x: torch.Tensor, v: torch.Tensor, steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    loss = torch.zeros((), dtype=x.dtype)
    for step in range(steps):
        loss = loss + (x**2).sum()
        x = (x + 0.5 * v) * torch.from_numpy(WEIGHTS).to(x) * (1 + step % 2)
    return x, loss


@pytest.fixture
def simulation(module: tiaot.Module) -> Simulation:
    return Simulation(module, run, ("x", "v"), ("x", "loss"))


@pytest.fixture
def start() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor([1.0, 2, 3, 4]), torch.tensor([2.0, -1, 0, 1])


def close(results: Any, expected: Any) -> None:
    # Small sums of numbers with few bits: float32 holds them exactly, or nearly so.
    for result, value in zip(results, expected, strict=True):
        torch.testing.assert_close(result, value.to(result.dtype), rtol=1e-5, atol=1e-5)


def gradients(function: Any, inputs: tuple[torch.Tensor, ...], *rest: Any) -> tuple[torch.Tensor, ...]:
    inputs = tuple(each.clone().requires_grad_() for each in inputs)
    x, loss = function(*inputs, *rest)
    return torch.autograd.grad((x * torch.tensor([1.0, -2, 3, 0.5]).to(x)).sum() + loss, inputs)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 9, 10, 17])
def test_values_and_gradients(simulation: Simulation, start: Any, steps: int) -> None:
    """As many steps as fill the checkpoints exactly, one less and one more, against float64."""
    double = tuple(each.double() for each in start)
    close(simulation(*start, steps=steps), reference(*double, steps))
    close(gradients(lambda x, v: simulation(x, v, steps=steps), start), gradients(reference, double, steps))


def test_inputs_by_name(simulation: Simulation, start: Any) -> None:
    x, v = start
    close(simulation(v=v, x=x), simulation(x, v))
    close(simulation(x, v=v, steps=2), simulation(x, v, steps=2))
    with pytest.raises(TypeError, match="state: missing 'v'"):
        simulation(x=x)
    with pytest.raises(TypeError, match="state: argument 'x': given by position and by name"):
        simulation(x, x=x)


def test_no_steps(simulation: Simulation, start: Any) -> None:
    x, v = (each.clone().requires_grad_() for each in start)
    y, loss = simulation(x, v, steps=0)
    assert torch.equal(y, x) and loss == 0
    y.sum().backward()
    assert torch.equal(x.grad, torch.ones(4)) and not v.grad.any()


def test_parts_of_the_gradient(simulation: Simulation, start: Any) -> None:
    """Some inputs that require grad, and some outputs that are used."""
    double = tuple(each.double() for each in start)
    for place in (0, 1):
        for output in (0, 1):
            found = []
            for function, given in ((lambda *a: simulation(*a, steps=3), start), (lambda *a: reference(*a, 3), double)):
                leaves = [each.clone().requires_grad_(i == place) for i, each in enumerate(given)]
                function(*leaves)[output].sum().backward()
                assert leaves[1 - place].grad is None
                found.append(leaves[place].grad)
            close(found[:1], found[1:])
    with torch.no_grad():
        assert not simulation(start[0].clone().requires_grad_(), start[1])[1].requires_grad


def test_steps_chained_by_hand(module: tiaot.Module, start: Any) -> None:
    """One call after another, each with its own gradient, and torch's checkpoints around them."""
    step = Simulation(module, lambda state, _: run(state, 0), ("x", "v", "loss"), ("x", "v", "loss"))
    whole = Simulation(module, lambda state, _: run(state, 0), ("x", "v"), ("x", "loss"))

    def chained(x: torch.Tensor, v: torch.Tensor) -> Any:
        loss = torch.zeros(())
        for _ in range(4):
            x, v, loss = torch.utils.checkpoint.checkpoint(step, x, v, loss, use_reentrant=False)
        return x, loss

    close(chained(*start), whole(*start, steps=4))
    close(gradients(chained, start), gradients(lambda *a: whole(*a, steps=4), start))


def test_what_happens_in_between_changes_nothing(simulation: Simulation, start: Any) -> None:
    """The inputs and outputs written to, arguments of kernels too, another call: before the gradient is asked for."""
    expected = gradients(lambda x, v: simulation(x, v, steps=5), start)
    given = WEIGHTS.copy()

    def with_own(state: Any, step: int) -> None:
        state.square()
        state.move(0.5)
        state.weigh(given * (1 + step % 2) if step else given)
        assert state.x.flags.writeable is False

    own = Simulation(simulation._program.state.module, with_own, ("x", "v"), ("x", "loss"))

    def disturbed(x: torch.Tensor, v: torch.Tensor) -> Any:
        y, loss = own(x, v, steps=5)
        with torch.no_grad():
            x.add_(7)
            v.zero_()
            own(x, v, steps=2)
        given[...] = 100
        return y, loss

    close(gradients(disturbed, start), expected)
    x = start[0].clone().requires_grad_()
    y, _ = simulation(x, start[1])
    y.mul_(2)
    y.sum().backward()
    assert x.grad.tolist() == (2 * WEIGHTS).tolist()


def test_func_transforms(simulation: Simulation, start: Any) -> None:
    func = torch.func
    x, v = start

    def f(x: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return simulation(x, v, steps=3)[0]

    def g(x: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return reference(x, v, 3)[0]

    loss, slope = (lambda x, v: simulation(x, v, steps=3)[1]), (lambda x, v: reference(x, v, 3)[1])
    close([func.grad(loss)(x, v)], [func.grad(slope)(x, v)])
    close(func.jacrev(f, (0, 1))(x, v), func.jacrev(g, (0, 1))(x, v))
    several = torch.stack([x, -x, 2 * x])
    for dims in ((0, None), (0, 0)):
        arguments = (several, v if dims[1] is None else torch.stack([v, v + 1, v - 1]))
        close([func.vmap(f, dims)(*arguments)], [func.vmap(g, dims)(*arguments)])
        for place in (0, 1):
            each = [func.vmap(func.grad(h, place), dims)(*arguments) for h in (loss, slope)]
            total = [
                func.grad(lambda *a, h=h, d=dims: func.vmap(h, d)(*a).sum(), place)(*arguments) for h in (loss, slope)
            ]
            close([each[0], total[0]], [each[1], total[1]])


def test_derivatives_that_there_are_none_of(simulation: Simulation, start: Any) -> None:
    x = start[0].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(simulation(x, start[1])[1], x, create_graph=True)
    assert gradient.requires_grad
    with pytest.raises(NotImplementedError, match="first derivatives only"):
        gradient.sum().backward()
    with pytest.raises(NotImplementedError, match="first derivatives only"):
        torch.func.jacrev(torch.func.grad(lambda x: simulation(x, start[1])[1]))(start[0])
    with pytest.raises(NotImplementedError, match="no forward-mode derivative"):
        torch.func.jvp(lambda x: simulation(x, start[1])[1], (start[0],), (start[0],))


def test_kernels_by_name_and_constants(module: tiaot.Module) -> None:
    start = np.array([1, 2, 3, 4], np.float32)
    square = Simulation(module, ["square", "square"], ["loss"], constants={"x": start})
    start[...] = 0
    assert square(torch.tensor(1.0), steps=2) == 1 + 4 * 30
    assert Simulation(module, "square", ["x"], ["loss"])(torch.ones(4)) == 4


def test_what_no_gradient_goes_through(module: tiaot.Module) -> None:
    """A kernel without a gradient is an error where one is asked for, and passive where that is said."""

    def counting(state: Any, step: int) -> None:
        state.count()  # k += 1; has no gradient
        state.square()

    x = torch.ones(4)
    simulation = Simulation(module, counting, ["x"], ["loss", "k"])
    assert simulation(x)[1].tolist() == [[1, 1, 1], [1, 1, 1]]
    with pytest.raises(NotImplementedError, match="state: kernel 'count' has no gradient: name it in 'passive'"):
        simulation(x.clone().requires_grad_())
    with pytest.raises(NotImplementedError, match="kernel 'count' has no gradient"):
        torch.func.grad(lambda x: simulation(x)[0])(x)
    passive = Simulation(module, counting, ["x"], ["loss", "k"], passive=["count"])
    leaf = x.clone().requires_grad_()
    loss, k = passive(leaf)
    assert not k.requires_grad
    loss.backward()
    assert leaf.grad.tolist() == [2, 2, 2, 2]
    overwriting = Simulation(module, run, ("x", "v"), ("x", "loss"), passive=["weigh"])
    with pytest.raises(NotImplementedError, match="kernel 'weigh' is in 'passive', but writes to field 'x'"):
        overwriting(leaf, x)[1].backward()
    stopped = Simulation(module, run, ("x", "v"), ("x", "loss"), passive=["v"])
    leaf = x.clone().requires_grad_()
    through_x = Simulation(module, lambda state, _: (state.move(0.5), state.square()), ["v"], ["loss"], passive=["x"])
    through_x(leaf).backward()
    assert not leaf.grad.any()
    leaf = x.clone().requires_grad_()
    stopped(leaf, torch.ones(4))[1].backward()
    assert leaf.grad.tolist() == [2, 2, 2, 2]
    with pytest.raises(NotImplementedError, match="field 'v': requires grad, but has no gradient"):
        stopped(leaf, torch.ones(4, requires_grad=True))


def test_a_field_without_a_gradient_that_is_written_to(tmp_path: Path) -> None:
    """The gradient would be a part of the whole."""
    module = tiaot.open(module_files.write_module("state.c", tmp_path / "state.so", LOSS_GRADIENT="-1"))
    x = torch.ones(4)
    simulation = Simulation(module, run, ("x", "v"), ("x", "loss"))
    assert simulation(x, x)[1] == 4
    with pytest.raises(NotImplementedError, match="field 'loss' has no gradient, but a kernel wrote to it"):
        simulation(x.clone().requires_grad_(), x)
    passive = Simulation(module, run, ("x", "v"), ("x", "loss"), passive=["loss"])
    y, loss = passive(x.clone().requires_grad_(), x)
    assert y.requires_grad and not loss.requires_grad


def test_bad_calls(simulation: Simulation, module: tiaot.Module, start: Any) -> None:
    x, v = start
    for arguments, exception, message in (
        ((x,), TypeError, r"state: expected 2 fields \(x, v\), got 1"),
        ((x.numpy(), v), TypeError, "state: field 'x': expected a torch.Tensor, got ndarray"),
        ((x.double(), v), TypeError, r"field 'x': expected float32\[4\], got float64\[4\]"),
        ((x, v[:3]), ValueError, r"field 'v': expected float32\[4\], got float32\[3\]"),
        ((x.to("meta"), v), TypeError, "field 'x': expected a dense tensor on the CPU, got one on meta"),
        (
            (x.to_sparse(), v),
            TypeError,
            "field 'x': expected a dense tensor on the CPU, got the layout torch.sparse_coo",
        ),
    ):
        with pytest.raises(exception, match=message):
            simulation(*arguments)
    for steps in (-1, 1.5, True):
        with pytest.raises(ValueError, match="argument 'steps': expected an integer of 0 or more"):
            simulation(x, v, steps=steps)
    for arguments, exception, message in (
        ((3, "square", ["x"]), TypeError, "argument 'module': expected a tiaot.Module, got int"),
        ((module, "jump", ["x"]), ValueError, "argument 'run': expected names of count, .*, got 'jump'"),
        ((module, "square", ["y"]), ValueError, "argument 'inputs': expected names of x, .*, got 'y'"),
        ((module, "square", ["x", "x"]), ValueError, "argument 'inputs': expected names of fields, each once"),
        ((module, "square", ["x"], []), ValueError, "argument 'outputs': expected names of fields"),
    ):
        with pytest.raises(exception, match=message):
            Simulation(*arguments)
    with pytest.raises(ValueError, match="argument 'constants'"):
        Simulation(module, "square", ["x"], constants={"y": 0})

    def writing(state: Any, step: int) -> None:
        state.x = 3

    def writing_in_place(state: Any, step: int) -> None:
        state.x[...] = 3

    def calling_itself(state: Any, step: int) -> None:
        recursive(x)

    def misspelt(state: Any, step: int) -> None:
        state.squares()

    recursive = Simulation(module, calling_itself, ["x"])
    with pytest.raises(AttributeError, match="a run writes fields by its kernels alone, got 'x'"):
        Simulation(module, writing, ["x"])(x)
    with pytest.raises(ValueError, match="read-only"):
        Simulation(module, writing_in_place, ["x"])(x)
    with pytest.raises(ValueError, match="a run called its own Simulation"):
        recursive(x)
    with pytest.raises(AttributeError, match=r"expected the name of a field or kernel, .*, got 'squares'"):
        Simulation(module, misspelt, ["x"])(x)
    assert Simulation(module, "square", ["x"], ["loss"])(x) == 30  # after all that


def test_several_threads(simulation: Simulation, start: Any) -> None:
    expected = gradients(lambda x, v: simulation(x, v, steps=7), start)
    wrong = []

    def work() -> None:
        for _ in range(20):
            found = gradients(lambda x, v: simulation(x, v, steps=7), start)
            wrong.extend(1 for a, b in zip(found, expected, strict=True) if not torch.equal(a, b))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_strided_and_negated_inputs(simulation: Simulation, start: Any) -> None:
    x, v = start
    strided = torch.stack([x, v], 1)
    close(simulation(strided[:, 0], strided[:, 1]), simulation(x, v))
    negated = torch.complex(v, v).conj().imag
    assert negated.is_neg()
    close(simulation(negated, v), simulation(-v, v))


def test_compiled_programs_call_it(simulation: Simulation, start: Any) -> None:
    x = start[0].clone().requires_grad_()
    compiled = torch.compile(lambda x, v: (simulation(x, v, steps=2)[1] * 2).sin(), backend="aot_eager")
    compiled(x, start[1]).backward()
    twin = start[0].clone().requires_grad_()
    (simulation(twin, start[1], steps=2)[1] * 2).sin().backward()
    assert torch.equal(x.grad, twin.grad)


def test_closed_modules(tmp_path: Path, start: Any) -> None:
    module = tiaot.open(module_files.write_module("state.c", tmp_path / "state.so"))
    simulation = Simulation(module, run, ("x", "v"))
    module.close()
    with pytest.raises(tiaot.ModuleError, match="is closed"):
        simulation(*start)


# A program that is exported, in float64.

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def flight(tmp_path_factory: pytest.TempPathFactory) -> tiaot.Module:
    pytest.importorskip("llvmlite")
    pytest.importorskip("taichi")
    source, target = EXAMPLES / "programs" / "flight.py", tmp_path_factory.mktemp("flight") / "flight.tiaot.so"
    return tiaot.open(module_files.exported(source, target))


@pytest.fixture
def example() -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "train_simulation"}
    path = EXAMPLES / "train_simulation.py"
    exec(compile(path.read_text(), str(path), "exec"), names)
    return names


def fly(position: torch.Tensor, velocity: torch.Tensor, steps: int, dt: float) -> tuple[torch.Tensor, torch.Tensor]:
    gravity = torch.tensor([0.0, -9.8], dtype=torch.float64)
    for _ in range(steps):
        norm = (velocity.square().sum(1, keepdim=True) + 1e-9).sqrt()
        velocity = velocity + dt * (gravity - 0.05 * norm * velocity)
        position = position + dt * velocity
    return position, velocity


def test_an_exported_program_has_torchs_gradient(flight: tiaot.Module, example: dict[str, Any]) -> None:
    torch.manual_seed(0)
    simulation = Simulation(flight, example["fly"], ["position", "velocity"])
    start = [torch.randn(64, 2, dtype=torch.float64) * 3 for _ in range(2)]
    weights = [torch.randn(64, 2, dtype=torch.float64) for _ in range(2)]
    for steps in (1, 7, 40):
        found = []
        for function in (lambda *a, s=steps: simulation(*a, steps=s), lambda *a, s=steps: fly(*a, s, example["DT"])):
            leaves = [each.clone().requires_grad_() for each in start]
            results = function(*leaves)
            sum((each * weight).sum() for each, weight in zip(results, weights, strict=True)).backward()
            found.append([*results, *(leaf.grad for leaf in leaves)])
        for ours, theirs in zip(*found, strict=True):
            # Some ten operations a step, in float64.
            torch.testing.assert_close(ours, theirs, rtol=10 * steps * 2.3e-16, atol=10 * steps * 2.3e-16)


def test_gradcheck_of_an_exported_program(flight: tiaot.Module, example: dict[str, Any]) -> None:
    simulation = Simulation(flight, example["fly"], ["position", "velocity"])
    rest = torch.ones(63, 2, dtype=torch.float64)

    def one(position: torch.Tensor, velocity: torch.Tensor) -> Any:
        return [each[0] for each in simulation(torch.cat([position, rest]), torch.cat([velocity, rest]), steps=5)]

    assert torch.autograd.gradcheck(one, [torch.rand(1, 2, dtype=torch.float64, requires_grad=True) for _ in range(2)])


def test_the_gradient_is_that_of_the_state_by_hand(flight: tiaot.Module, example: dict[str, Any]) -> None:
    """The same calls of the same kernels, with the fields put back before each adjoint: the same bits."""
    steps, dt = 6, example["DT"]
    rng = np.random.default_rng(0)
    position, velocity, cotangent = rng.standard_normal((3, 64, 2))
    state = flight.state()
    state.position[...], state.velocity[...] = position, velocity
    calls, left = [], []
    for _ in range(steps):
        for kernel, arguments in ((state.push, ()), (state.move, (dt,))):
            kernel(*arguments)
            calls.append((kernel, arguments))
            left.append({name: field.copy() for name, field in state.fields.items()})
    state.position.grad[...] = cotangent
    for (kernel, arguments), contents in zip(reversed(calls), reversed(left), strict=True):
        for name, values in contents.items():
            state.fields[name][...] = values
        kernel.grad(*arguments)
    simulation = Simulation(flight, example["fly"], ["position", "velocity"])
    leaves = [torch.from_numpy(each).requires_grad_() for each in (position, velocity)]
    simulation(*leaves, steps=steps)[0].backward(torch.from_numpy(cotangent))
    assert leaves[0].grad.numpy().tobytes() == np.array(state.position.grad).tobytes()
    assert leaves[1].grad.numpy().tobytes() == np.array(state.velocity.grad).tobytes()


def test_the_example_learns(flight: tiaot.Module, example: dict[str, Any]) -> None:
    losses = example["train"](flight, 60)
    assert losses[-1] < losses[0] / 100
