"""State: fields, kernels that work on them, gradients in place, tapes, copies. On the module of fixtures/state.c."""

import copy
import gc
import inspect
import pickle
import re
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import module_files
import numpy as np
import pytest
import tiaot
from tiaot import inspect_module

f32 = np.float32
FIELDS = ["x", "v", "loss", "k", "w"]
KERNELS = ["count", "move", "weigh", "square", "read", "wait", "tape", "w"]
LARGE = str(1 << 17)  # bytes of state that make a call worth releasing the GIL


@pytest.fixture(scope="session")
def state_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return module_files.write_module("state.c", tmp_path_factory.mktemp("state") / "state.so")


@pytest.fixture
def module(state_path: Path) -> tiaot.Module:
    return tiaot.open(state_path)


@pytest.fixture
def state(module: tiaot.Module) -> tiaot.State:
    """With x = 1, 2, 3, 4 and v = 10, 20, 30, 40."""
    state = module.state()
    state.x[...] = [1, 2, 3, 4]
    state.v[...] = [10, 20, 30, 40]
    return state


def contents(state: tiaot.State) -> dict[str, list]:
    every = {name: field.tolist() for name, field in state.fields.items()}
    return every | {f"{n}.grad": f.grad.tolist() for n, f in state.fields.items() if f.grad is not None}


# The state and its fields.


def test_a_state_starts_as_zeros(module: tiaot.Module) -> None:
    state = module.state()
    assert type(state) is tiaot.State
    assert state.module is module
    assert list(state.fields) == FIELDS
    assert list(state.kernels) == KERNELS
    described = {name: (field.dtype, field.shape) for name, field in state.fields.items()}
    shapes = {"x": (f32, (4,)), "v": (f32, (4,)), "loss": (f32, ()), "k": (np.int32, (2, 3)), "w": (np.float64, (1,))}
    assert described == shapes
    for field in state.fields.values():
        assert not np.asarray(field).any()
        assert field.ctypes.data % field.itemsize == 0
    assert state._memory.bytes.ctypes.data % 64 == 0
    assert state._memory.bytes.shape == (112,)


def test_fields_view_the_memory(state: tiaot.State) -> None:
    assert type(state.x) is tiaot.Field
    assert state.x is state.x is state.fields["x"]
    assert state.x.strides == (8,)
    assert state.v.strides == (4,)
    assert state.x.grad.shape == (4,) and type(state.x.grad) is tiaot.Field
    assert state.k.grad is None
    assert state.x.grad.grad is None
    state.x.grad[...] = 7
    state.loss[()] = 5
    memory = state._memory.bytes.view(f32)
    assert memory[:8].tolist() == [1, 7, 2, 7, 3, 7, 4, 7]
    assert memory[16] == 5
    state.k[1] = 3
    assert state.k.tolist() == [[0, 0, 0], [3, 3, 3]]
    other = state.module.state()
    assert not other.x.any()  # each state has its own


def test_results_of_fields_are_plain(state: tiaot.State) -> None:
    x = state.x
    plain = {
        "+": x + 1,
        "slice": x[1:],
        "mask": x[x > 1],
        "None": state.loss[None],
        "asarray": np.asarray(x),
        "T": state.k.T,
        "mT": getattr(state.k, "mT", state.k.T),
        "np.sin": np.sin(x),
        "where": np.where(x > 1, x, 0),
        "sum over an axis": state.k.sum(axis=0),
        "mean over an axis": state.k.mean(axis=0),
        "stack": np.stack([x, x]),
        "np.transpose": np.transpose(state.k),
        "broadcast": x + np.ones((3, 4)),
        **{name: getattr(x, name)() for name in ("copy", "flatten", "ravel", "squeeze", "transpose", "view", "cumsum")},
        "reshape": x.reshape(2, 2),
        "astype": x.astype(np.float64),
        "copy.copy": copy.copy(x),
        "copy.deepcopy": copy.deepcopy(x),
        "pickle": pickle.loads(pickle.dumps(x)),
    }
    assert {name: type(each) for name, each in plain.items()} == dict.fromkeys(plain, np.ndarray)
    scalars = {"index": x[0], "sum": x.sum(), "dot": x @ x, "empty index": state.loss[()], "+": state.loss + 1}
    scalars |= {"max": x.max(), "mean": x.mean(), "np.sum": np.sum(x)}
    assert {name: type(each) for name, each in scalars.items()} == dict.fromkeys(scalars, f32)
    assert x[0] == 1 and x.sum() == 10
    assert np.shares_memory(np.asarray(x), x) and np.shares_memory(x[1:], x) and np.shares_memory(state.k.T, state.k)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(x, protocol)).tolist() == [1, 2, 3, 4]
    assert float(state.loss) == 0


def test_in_place_operations(state: tiaot.State) -> None:
    x = state.x
    x += 1
    assert type(x) is tiaot.Field and x is state.x
    state.x *= 2
    state.x.grad -= 3
    assert np.add(state.x, 1, out=state.x) is state.x
    assert state.x.tolist() == [5, 7, 9, 11]
    assert state.x.grad.tolist() == [-3] * 4


def test_assigning_to_attributes(state: tiaot.State) -> None:
    with pytest.raises(AttributeError, match=r"^state: field 'x': a field stays: write state\.x\[\.\.\.\] = values$"):
        state.x = np.ones(4, f32)
    with pytest.raises(AttributeError, match=r"^field 'x': the gradient stays: write \.grad\[\.\.\.\] = values$"):
        state.x.grad = np.ones(4, f32)
    with pytest.raises(AttributeError, match=r"^state: a state's attributes cannot be set, got 'y'$"):
        state.y = 1
    with pytest.raises(AttributeError, match=r"^state: a state's attributes cannot be deleted, got 'x'$"):
        del state.x
    message = f"state: expected an attribute or the name of a field or kernel, of {[*FIELDS, *KERNELS]}, got 'nothing'"
    with pytest.raises(AttributeError, match=f"^{re.escape(message)}$"):
        state.nothing  # noqa: B018
    assert not hasattr(state, "_repr_html_")


def test_names_that_are_taken(state: tiaot.State) -> None:
    assert not isinstance(state.tape, tiaot.Kernel)
    assert type(state.w) is tiaot.Field
    state.kernels["tape"]()
    state.kernels["w"]()
    assert (state.k == 2).all()
    state.fields.clear()
    state.kernels.clear()
    assert list(state.fields) == FIELDS and list(state.kernels) == KERNELS


def test_dir_and_repr(state: tiaot.State, state_path: Path) -> None:
    assert {*FIELDS, *KERNELS, "module", "tape", "zero_grad"} <= set(dir(state))
    assert "_memory" not in dir(state)
    fields = "x float32[4], v float32[4], loss float32[], k int32[2, 3], w float64[1]"
    assert repr(state) == f"<tiaot.State of state '{state_path}': {fields}>"
    assert repr(state.move) == "<tiaot.Kernel move: dt -> (); bound to a state>"
    assert repr(state.move.grad) == "<tiaot.Entry move.grad: dt -> (); bound to a state>"


def test_modules_without_state(small: tiaot.Module) -> None:
    with pytest.raises(ValueError, match=r"^module 'small' has no state$"):
        small.state()
    small.close()
    with pytest.raises(tiaot.ModuleError, match=r"is closed$"):
        small.state()
    with pytest.raises(TypeError, match=r"^State: a state is made by module.state\(\), got int$"):
        tiaot.State(3)


def test_fields_keep_the_memory(state_path: Path) -> None:
    module = tiaot.open(state_path)
    state = module.state()
    gone = weakref.ref(state)
    field, bound = state.x, state.move.bind(0.5)
    state.v[...] = 2
    state.x[...] = 1
    del module, state
    assert gone() is None  # at once: a state is in no cycle
    bound()
    assert field.tolist() == [2, 2, 2, 2]
    part = field[1:]
    del field, bound
    gc.collect()
    assert part.tolist() == [2, 2, 2]


def test_what_holds_the_memory(state: tiaot.State) -> None:
    memory = state._memory
    for make in (
        state.count.bind,
        lambda: state.read.bind(1),
        lambda: memory.field("v"),
        lambda: memory.kernel("count"),
    ):
        count = sys.getrefcount(memory)
        each = make()
        assert sys.getrefcount(memory) > count
        del each
        assert sys.getrefcount(memory) == count


def test_other_libraries_view_fields(state: tiaot.State) -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.from_dlpack(state.v)
    tensor += 1
    assert state.v.tolist() == [11, 21, 31, 41]
    assert torch.from_dlpack(state.x).tolist() == [1, 2, 3, 4]


# Calls.


def test_calls(state: tiaot.State) -> None:
    assert state.count() is None
    assert (state.k == 1).all()
    assert state.move(0.5) is None
    assert state.x.tolist() == [6, 12, 18, 24]
    state.loss[()] = 9
    y, s = state.read(2)
    assert y.tolist() == [12, 24, 36, 48] and type(y) is np.ndarray
    assert s == 9 and s.shape == ()
    out = (np.empty(4, f32), np.empty((), f32))
    assert state.read(np.array(1, f32), out=out, num_threads=1) is out
    assert out[0].tolist() == [6, 12, 18, 24]
    state.weigh(np.array([1, 0, 1, 0], f32))
    assert state.x.tolist() == [6, 0, 18, 0]
    assert state.module.state().x.tolist() == [0, 0, 0, 0]
    assert state.move is state.move
    assert isinstance(state.move, tiaot.Kernel) and state.move.module is state.module
    state.move.restrict("float32")(1)
    assert state.x.tolist() == [16, 20, 48, 40]


def test_other_arrays_than_numpys(state: tiaot.State) -> None:
    torch = pytest.importorskip("torch")
    assert state.weigh(torch.full((4,), 2.0)) is None
    assert state.weigh.grad(torch.full((4,), 2.0)) is None
    assert state.x.tolist() == [2, 4, 6, 8]


def test_results_of_none_for_arrays_of_other_libraries(state: tiaot.State) -> None:
    class Array:
        """Follows the array API standard, so that results would be of its library."""

        def __init__(self, array: np.ndarray) -> None:
            self.__dlpack__, self.__dlpack_device__ = array.__dlpack__, array.__dlpack_device__
            self.__array_namespace__ = lambda: np

    assert state.weigh(Array(np.full(4, 2, f32))) is None
    assert state.weigh.grad(Array(np.full(4, 2, f32))) is None
    assert state.x.tolist() == [2, 4, 6, 8]


def test_gradients_in_place(state: tiaot.State) -> None:
    state.x.grad[...] = [1, 2, 3, 4]
    assert isinstance(state.move.grad, tiaot.Entry)
    assert state.move.grad(0.5) is None
    assert state.move.grad(0.5, num_threads=1) is None
    assert state.v.grad.tolist() == [1, 2, 3, 4]
    assert state.x.grad.tolist() == [1, 2, 3, 4]
    with pytest.raises(AttributeError, match=r"^count: the module has no grad of this kernel$"):
        state.count.grad  # noqa: B018
    state.zero_grad()
    assert not state.x.grad.any() and not state.v.grad.any()
    assert state.x.any() and state.v.any()


def test_bound_calls(state: tiaot.State) -> None:
    move, grad = state.move.bind(0.5), state.move.grad.bind(2)
    state.x.grad[...] = 1
    assert move() is None and grad() is None
    move()
    assert state.x.tolist() == [11, 22, 33, 44]
    assert state.v.grad.tolist() == [2] * 4
    read = state.read.bind(1)
    first = read()
    state.x[0] = 0
    assert read() is first and first[0][0] == 0


def test_wrong_calls(state: tiaot.State) -> None:
    cases = [
        (TypeError, "move.forward: expected 1 array (dt), got 0: argument 'dt' is missing", lambda: state.move()),
        (TypeError, "count.forward: expected 0 arrays (), got 1", lambda: state.count(1)),
        (
            TypeError,
            "move.forward: expected keywords dt or num_threads, got 'out'",
            lambda: state.move(1, out=state.x),
        ),
        (
            TypeError,
            "move.grad: expected keywords dt or num_threads, got 'wrt'",
            lambda: state.move.grad(1, wrt="dt"),
        ),
        (
            ValueError,
            "weigh.forward: argument 'a': overlaps the state that the kernel works on; pass a copy",
            lambda: state.weigh(state.v),
        ),
        (
            ValueError,
            "read.forward: output 'y': overlaps the state that the kernel works on; pass a copy",
            lambda: state.read(1, out=(state.v, np.empty((), f32))),
        ),
        (
            ValueError,
            "weigh.grad: argument 'a': overlaps the state that the kernel works on; pass a copy",
            lambda: state.weigh.grad.bind(state.v),
        ),
        (NotImplementedError, "move.vjp: the kernel works on state: use state.move.grad", lambda: state.move.vjp(1)),
        (
            NotImplementedError,
            "move.jacobian: the kernel works on state: use state.move.grad",
            lambda: state.move.jacobian.bind(1),
        ),
    ]
    before = contents(state)
    for exception, message, use in cases:
        with pytest.raises(exception, match=f"^{re.escape(message)}$"):
            use()
    assert contents(state) == before


def test_kernels_that_are_not_bound(module: tiaot.Module) -> None:
    assert module.move is module.kernels["move"]
    message = r"^move: works on the state of its module: call module\.state\(\)\.move%s\(\.\.\.\)$"
    for use in (module.move, module.move.bind):
        with pytest.raises(ValueError, match=message % ""):
            use(1)
    for use in (module.move.grad, module.move.grad.bind):
        with pytest.raises(ValueError, match=message % r"\.grad"):
            use(1)
    for entry in (module.move.vjp, module.move.jacobian):
        for use in (entry, entry.bind):
            with pytest.raises(NotImplementedError, match=r"the kernel works on state: use state\.move\.grad$"):
                use(1)
    with pytest.raises(AttributeError, match=r"^twice: works on no state: its gradient is twice\.vjp$"):
        module.twice.grad  # noqa: B018


def test_python_signatures(state: tiaot.State) -> None:
    signatures = {
        state.move: "(dt, *, num_threads=None)",
        state.move.grad: "(dt, *, num_threads=None)",
        state.count: "(*, num_threads=None)",
        state.count.vjp: "(*, num_threads=None)",
        state.read: "(a, *, out=None, num_threads=None)",
    }
    assert {each: str(inspect.signature(each)) for each in signatures} == signatures


def test_fields_as_arguments(state: tiaot.State) -> None:
    assert state.module.twice(state.v).tolist() == [20, 40, 60, 80]
    assert type(state.module.twice(state.v)) is np.ndarray
    assert state.module.twice(np.ones(4, f32), out=state.v) is state.v
    assert state.v.tolist() == [2] * 4
    assert state.module.state().weigh(state.v) is None  # another state's
    message = "twice.forward: argument 'x': expected strides [1] (dense, row-major), got [2] for float32[4]"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        state.module.twice(state.x)


def test_closed_modules(state_path: Path) -> None:
    module = tiaot.open(state_path)
    state = module.state()
    bound = state.move.bind(1)
    module.close()
    for use in (state.count, bound, state.square.grad):
        with pytest.raises(tiaot.ModuleError, match=r"its module '.*' is closed$"):
            use()
    state.x[...] = 3  # the memory stays
    assert state.x.tolist() == [3] * 4
    for use in (copy.copy, copy.deepcopy):
        with pytest.raises(tiaot.ModuleError, match=r"is closed$"):
            use(state)
    assert pickle.loads(pickle.dumps(state)).x.tolist() == [3] * 4


def test_frameworks_refuse_kernels_over_state(state: tiaot.State) -> None:
    message = "^wrap: argument 'kernel': 'move' works on state in place, which no framework records$"
    for name in ("torch", "jax"):
        pytest.importorskip(name)
        for kernel in (state.move, state.module.move):
            with pytest.raises(TypeError, match=message):
                getattr(tiaot, name).wrap(kernel)


# Tapes.


def test_tape(state: tiaot.State) -> None:
    x, v = np.array([1, 2, 3, 4.0]), np.array([10, 20, 30, 40.0])
    state.v.grad[...] = 99  # which the tape clears
    with state.tape(state.loss):
        state.move(0.5)
        state.count()
        state.move(np.array(0.25, f32), num_threads=1)
        state.read(1)
        state.square()
        assert not state.v.grad.any()
    end = x + 0.75 * v
    assert state.loss == (end**2).sum()
    assert state.loss.grad == 1
    assert state.x.grad.tolist() == (2 * end).tolist()
    assert state.v.grad.tolist() == (0.75 * 2 * end).tolist()
    assert state._memory.tape is None


def test_tapes_go_back_in_order_with_the_same_arguments(state: tiaot.State) -> None:
    a = np.array([1, 0.5, 2, 4], f32)
    weigh, square = state.weigh.bind(a), state.square.bind()
    with state.tape(state.loss):
        state.move(0.5)
        weigh()
        state.weigh.restrict("float32")(a)
        square()
    end = np.array([6, 12, 18, 24]) * a**2
    assert state.loss == (end**2).sum()
    assert state.v.grad.tolist() == (0.5 * 2 * end * a**2).tolist()
    assert state.x.grad.tolist() == (2 * end * a**2).tolist()


def test_what_a_tape_does_not_record(state: tiaot.State) -> None:
    other = state.module.state()
    with state.tape(state.loss):
        state.square.grad()
        with pytest.raises(TypeError):
            state.move()
        other.move(1)
        state.move.bind(1)
        assert state._memory.tape == []
    assert state.loss.grad == 1 and not other.v.grad.any()
    state.move(1)
    assert state._memory.tape is None


def test_a_tape_that_an_exception_leaves(state: tiaot.State) -> None:
    with pytest.raises(KeyError), state.tape(state.loss):
        state.square()
        raise KeyError
    assert state._memory.tape is None
    assert state.loss.grad == 0 and not state.x.grad.any()
    with state.tape(state.loss):
        pass


def test_wrong_tapes(state: tiaot.State) -> None:
    label = "state: tape: argument 'loss': expected a field "
    for exception, message, loss in (
        (TypeError, "of the state, got ndarray", np.zeros((), f32)),
        (TypeError, "of the state, got str", "loss"),
        (ValueError, "of this state, such as state.loss, got another array", state.module.state().loss),
        (ValueError, "of this state, such as state.loss, got another array", state.loss.grad),
        (ValueError, "of one element, got 'x' of shape (4,)", state.x),
    ):
        with pytest.raises(exception, match=f"^{re.escape(label + message)}$"):
            state.tape(loss)
    outer, inner = state.tape(state.w), state.tape(state.loss)
    with outer:
        with pytest.raises(ValueError, match=r"^state: tape: the state is being recorded by another tape$"), inner:
            pass
        other = state.module.state()
        with other.tape(other.loss):
            pass
    assert state.w.grad == [1]


def test_a_loss_without_a_gradient(tmp_path: Path) -> None:
    state = tiaot.open(module_files.write_module("state.c", tmp_path / "state.so", LOSS_GRADIENT="-1")).state()
    assert list(state.fields) == ["x", "v", "loss", "loss.grad", "k", "w"]
    message = "^state: tape: argument 'loss': expected a field with a gradient, got 'loss', which has none$"
    with pytest.raises(ValueError, match=message):
        state.tape(state.loss)


# Copies.


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy, lambda state: pickle.loads(pickle.dumps(state))])
def test_copies_are_independent(state: tiaot.State, make: object) -> None:
    state.x.grad[...] = 3
    state.k[...] = 5
    state.move(1)
    before = contents(state)
    other = make(state)
    assert contents(other) == before
    assert other.module.hash == state.module.hash
    other.move(1)
    other.zero_grad()
    assert contents(state) == before
    assert contents(other) != before
    if make in (copy.copy, copy.deepcopy):
        assert other.module is state.module


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickled_kernels_bring_their_state(state: tiaot.State, protocol: int) -> None:
    kernel, grad, other = pickle.loads(pickle.dumps((state.move, state.move.restrict("float32").grad, state), protocol))
    assert repr(kernel) == repr(state.move)
    kernel(0.5)
    assert other.x.tolist() == [6, 12, 18, 24]
    other.x.grad[...] = 1
    grad(2)
    assert other.v.grad.tolist() == [2] * 4
    assert state.x.tolist() == [1, 2, 3, 4]
    unbound = pickle.loads(pickle.dumps(state.module.move, protocol))
    with pytest.raises(ValueError, match="works on the state of its module"):
        unbound(1)


def test_a_pickled_state_of_another_file(tmp_path: Path) -> None:
    path = module_files.write_module("state.c", tmp_path / "state.so")
    module = tiaot.open(path)
    data = pickle.dumps(module.state())
    module.close()
    del module
    module_files.write_module("state.c", path, hash=module_files.OTHER_HASH)
    with pytest.raises(tiaot.ModuleError, match=r"expected the module with hash 0*1, got 0*2$"):
        pickle.loads(data)


# Threads and lifetime.


def test_one_call_at_a_time(tmp_path: Path) -> None:
    module = tiaot.open(module_files.write_module("state.c", tmp_path / "state.so", STATE_BYTES=LARGE))
    state, other = module.state(), module.state()
    flag, results = np.zeros(1, f32), []
    thread = threading.Thread(target=lambda: results.append(state.wait(flag, 60)))
    thread.start()  # which frees the GIL, for a state of this size
    message = "count.forward: the state of module 'state' is in use by another call"
    seen = ""
    while not seen:
        try:
            state.count()
        except ValueError as error:
            seen = str(error)
    assert seen == message
    with pytest.raises(ValueError, match=f"^{message}$".replace("count.forward", "square.grad")):
        state.square.grad()
    with pytest.raises(ValueError, match=f"^{message}$".replace("count.forward", "move.forward")):
        state.move.bind(1)()
    other.count()
    assert (other.k == 1).all()
    flag[0] = 1
    thread.join()
    assert results == [None] and state.loss == 1
    state.count()


def test_small_states_keep_the_gil(state: tiaot.State) -> None:
    flag = np.zeros(1, f32)

    def raise_flag() -> None:
        flag[0] = 1

    timer = threading.Timer(0.05, raise_flag)
    timer.start()
    state.wait(flag, 0.3)
    assert state.loss == 0
    timer.join()


def test_states_are_collected_with_their_module(tmp_path: Path) -> None:
    path = module_files.write_module("state.c", tmp_path / "collected.so")  # a name that no other has
    module = tiaot.open(path)
    state = module.state()
    tape = state.tape(state.loss)
    tape.itself = [tape, state.x, state.move, state.move.grad, state.move.grad.bind(1)]
    gone = weakref.ref(tape)
    del module, state, tape
    gc.collect()
    assert gone() is None
    assert path.name not in Path("/proc/self/maps").read_text()


def test_a_state_keeps_its_module_and_no_longer(tmp_path: Path) -> None:
    path = module_files.write_module("state.c", tmp_path / "kept_by_state.so")
    gc.collect()
    gc.disable()
    try:
        state = tiaot.open(path).state()
        state.v[...] = 2
        state.move(0.5)
        assert state.module.path == str(path) and state.x.tolist() == [1, 1, 1, 1]
        field, copied = state.x, copy.copy(state)
        for handle in (state, copied):
            assert handle.move.module is handle.module
        del state, handle
        copied.move(0.5)
        assert field.tolist() == [1, 1, 1, 1] and copied.x.tolist() == [2, 2, 2, 2]
        del copied
        assert path.name in Path("/proc/self/maps").read_text()
        del field
        assert path.name not in Path("/proc/self/maps").read_text()
    finally:
        gc.enable()


# What the module says of itself.


def test_info(module: tiaot.Module) -> None:
    info = module.info()
    assert info["state"]["bytes"] == 112
    fields = {field.pop("name"): field for field in info["state"]["fields"]}
    assert fields["x"] == {"dtype": "float32", "shape": [4], "strides": [2], "offset": 0, "gradient": "x.grad"}
    assert fields["x.grad"] == {"dtype": "float32", "shape": [4], "strides": [2], "offset": 4, "gradient": None}
    assert fields["loss"] == {"dtype": "float32", "shape": [], "strides": [], "offset": 64, "gradient": "loss.grad"}
    assert fields["k"] == {"dtype": "int32", "shape": [2, 3], "strides": [3, 1], "offset": 72, "gradient": None}
    kernels = {kernel["name"]: kernel for kernel in info["kernels"]}
    assert {name: kernel["state"] for name, kernel in kernels.items()} == dict.fromkeys(KERNELS, True) | {
        "twice": False
    }
    assert [entry["kind"] for entry in kernels["move"]["variants"][0]["entries"]] == ["forward", "grad"]


def test_inspect(state_path: Path) -> None:
    lines = inspect_module.text(inspect_module.describe(str(state_path))).splitlines()
    at = lines.index("state, 112 bytes:")
    assert [line.split() for line in lines[at + 1 : at + 6]] == [
        ["x", "float32[4]", "with", "a", "gradient"],
        ["v", "float32[4]", "with", "a", "gradient"],
        ["loss", "float32[]", "with", "a", "gradient"],
        ["k", "int32[2,", "3]"],
        ["w", "float64[1]", "with", "a", "gradient"],
    ]
    move = lines.index("kernel move: dt -> ()")
    assert lines[move + 1] == "  works on the state"
    assert [line.split()[-4] for line in lines[move + 4 : move + 6]] == ["forward", "grad"]
    assert lines[lines.index("kernel twice: x[n] -> y[n]") + 1] == "  batch dimension: none; gradients for: nothing"


@pytest.mark.parametrize(
    "defines, message",
    [
        ({"STATE_BYTES": "111"}, "field 'w.grad' reaches beyond the state"),
        ({"STATE_BYTES": "-1"}, "an impossible size of state"),
        ({"LOSS_OFFSET": "66"}, "field 'loss' is not aligned to its element"),
        ({"LOSS_GRADIENT": "3"}, "field 'loss' has a gradient of a wrong name"),
        ({"LOSS_GRADIENT": "9"}, "field 'loss' has an unknown gradient"),
        (
            {"MOVE_KIND": "1"},
            "kernel 'move': variant 'float32': entry 'move_grad' is a vjp, but the kernel works on state",
        ),
        ({"MOVE_KIND": "2"}, "kernel 'move': variant 'float32': entry 'move_grad' is of an unknown kind"),
    ],
)
def test_wrong_tables(tmp_path: Path, defines: dict[str, str], message: str) -> None:
    path = module_files.write_module("state.c", tmp_path / "wrong.so", **defines)
    with pytest.raises(tiaot.ModuleError) as caught:
        tiaot.open(path)
    assert str(caught.value) == f"cannot open module '{path}': its tables are wrong: {message}"


HOSTILE = """
import sys
import numpy as np, tiaot
module = tiaot.open(sys.argv[1])
state = module.state()
recursive = []
recursive.append(recursive)
bads = [None, 3, -1, 1.5, "x", "", "\\0", (), [], recursive, state, state.move, state.move.grad, np.ones(5, "V4"),
        np.ma.masked, np.zeros((2, 2)), type, lambda: 0, 2**64, float("nan"), state._memory]
calls = [
    lambda bad: state.count(bad),
    lambda bad: state.weigh(bad),
    lambda bad: state.weigh.grad(bad),
    lambda bad: state.weigh.bind(bad),
    lambda bad: state.read(1, out=(bad, bad)),
    lambda bad: state.move(1, num_threads=np.array(bad, object) if bad is None else bad if bad != 3 else -3),
    lambda bad: state.tape(bad),
    lambda bad: setattr(state, "x", bad),
    lambda bad: setattr(state._memory, "tape", (bad,)),
    lambda bad: state._memory.field(bad if bad != "x" else "y"),
    lambda bad: state._memory.kernel(bad),
    lambda bad: type(state._memory)(bad),
    lambda bad: type(state._memory).__new__(type(state._memory)).field("x"),
    lambda bad: type(state._memory).__new__(type(state._memory)).copy(),
]
raised = 0
for call in calls:
    for bad in bads:
        try:
            call(bad)
            sys.exit(f"no exception: {calls.index(call)}, {bad}")
        except Exception:
            raised += 1
print("raised", raised == len(calls) * len(bads))
"""


def test_nothing_crashes(state_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", HOSTILE, str(state_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "raised True\n", f"{done.returncode}\n{done.stdout}{done.stderr}"
