# The extension module's types and their documentation, for type checkers and editors. help() has the same words from
# python/src/documentation.hpp.
from typing import Any, Literal, SupportsIndex, TypeAlias, final

from ._state import State

__version__: str

# numpy.ndarray, or anything with __dlpack__ or __cuda_array_interface__; a tuple of them where a call takes or gives
# several.
_Array: TypeAlias = Any
_Wrt: TypeAlias = str | tuple[str, ...] | list[str]
# A CUDA stream: its handle, or an object with __cuda_stream__(), cuda_stream or ptr.
_Stream: TypeAlias = Any

class ModuleError(OSError):
    """A module file that cannot be used, or a module that has been closed.

    The file is no module, is truncated or damaged, belongs to another version of the format, or has another hash
    than the pickled handle.
    """

@final
class BoundCall:
    """A call with its arrays fixed and checked, made by `bind` of a Kernel or an Entry.

    Calling it, without arguments, computes from what the arrays hold at that moment, and returns the array, or
    tuple of arrays, that was given as `out`, or that bind allocated: the same objects each time. It keeps its
    arrays alive, and the state of a kernel over state; do not resize them in place. On a CUDA device it puts its
    work on the stream that it was bound to, and does not wait for it.

    Raises:
        tiaot.ModuleError: The module has been closed.
        RuntimeError: The CUDA driver reports a failure.
    """
    def __call__(self) -> _Array: ...

@final
class Entry:
    """A derivative of a kernel: `kernel.vjp`, `jacobian`, `jvp`, `hvp`, or `grad` of a kernel over state.

        gx = dense_tanh.vjp(x, W, b, v)
        gW, gb = dense_tanh.vjp(x, W, b, y_cotangent=v, wrt=["W", "b"])
        J = dense_tanh.jacobian(x, W, b)
        y, dy = dense_tanh.jvp(x, W, b, dx)
        gx, hx = dense_tanh.hvp(x, W, b, v, dx)
        state.step.grad(dt)

    `vjp` is the vector-Jacobian product J^T v. Behind the inputs it takes a cotangent for each output, of the
    output's shape; that of an output y goes by the name y_cotangent. The result has the shape of the input that
    `wrt` names. The gradient of an input without the batch dimension is the sum over the batch.

    `jacobian` is the Jacobian, sample by sample: for an output (B, o...) and an input (B, i...) or (i...), its
    shape is (B, o..., i...). It is a tuple over the outputs where the kernel has several. `mode` is 'forward' for
    columns, each a jvp, 'reverse' for rows, each a vjp; by default it is 'forward' where the inputs in `wrt` have
    fewer elements than the outputs, in one sample, and the module has that jvp; or where it has no vjp.

    `jvp` is the Jacobian-vector product, with the outputs: (outputs, J t). Behind the inputs it takes a tangent for
    each input in `wrt`, in their order and of their shapes; that of an input x goes by the name x_tangent. `hvp` is
    the derivative of the vjp along such tangents, with the gradients: (gradients, products). The products are the
    Hessian of <cotangents, outputs> times the tangents. A module has them where its author asked for them, for some
    sets of inputs; a tangent that is zero is passed as zeros.

    `grad` is the adjoint in place: it reads the gradients of the fields that the kernel wrote, and adds into those
    of the fields that it read. It takes the kernel's inputs and num_threads, and returns None.

    Args:
        *operands, **named: The inputs, and for `vjp` the cotangents; arrays as a Kernel takes them.
        wrt: With respect to what: the name of an input for one array, or a tuple or list of names for a tuple of
            arrays in that order. The first differentiable input by default; for `jvp` and `hvp` the first set of
            inputs that the module has it for.
        mode: Of a Jacobian: 'forward', 'reverse', or None for the one of fewer products.
        out, num_threads, stream: As for a Kernel.

    Raises:
        TypeError, ValueError, tiaot.ModuleError, RuntimeError: As for a Kernel; ValueError too for a name in `wrt`
            that is no differentiable input.
        NotImplementedError: The module does not have this gradient, or not for the CUDA device.
    """
    def __call__(
        self,
        *operands: _Array,
        wrt: _Wrt = ...,
        mode: Literal["forward", "reverse"] | None = ...,
        out: _Array | None = None,
        num_threads: SupportsIndex | None = None,
        stream: _Stream = None,
        **named: _Array,
    ) -> _Array: ...
    def bind(
        self,
        *operands: _Array,
        wrt: _Wrt = ...,
        mode: Literal["forward", "reverse"] | None = ...,
        out: _Array | None = None,
        num_threads: SupportsIndex | None = None,
        stream: _Stream = None,
        **named: _Array,
    ) -> BoundCall:
        """Checks a call once, and returns a BoundCall that repeats it on the same arrays.

        Takes what a call takes and raises what a call raises; computes nothing yet.
        """

@final
class Kernel:
    """A kernel of a module, compiled ahead of time. From tiaot.load, or an attribute of a Module.

    Calling it computes its outputs: an array, or a tuple of arrays where it has several. `signature` names the
    operands and their shapes. Each is given by position or by name:

        y = dense_tanh(x, W, b)
        y = dense_tanh(x, W=W, b=b, num_threads=2)

    A kernel over state works on the fields of its module, in place. It is called on a state,
    `module.state().step(dt)`, and its result is None where it has no outputs. Pickled, it brings its state along;
    other kernels pickle as their module's name or path, with its hash.

    Args:
        *operands, **named: The inputs. Arrays are dense, row-major and in native byte order, on the CPU or all on
            one CUDA device: numpy.ndarray, or anything with __dlpack__ or __cuda_array_interface__. None is copied,
            converted or written to. A number may stand for an input without dimensions: Python's, or NumPy's where
            nothing is lost.
        out: The array, or tuple of arrays, to write to; returned as it is.
        num_threads: At most this many threads; None for the process default. Results do not depend on it.
        stream: On a CUDA device, where the work goes: a handle, or an object with __cuda_stream__, cuda_stream or
            ptr; None for the current stream of the arrays' library. The call does not wait for the work.

    Returns:
        NumPy's arrays, or those of the first operand's library that is not NumPy and has __array_namespace__, as
        the array API standard says; on a CUDA device they are of the library of the first array there.

    Raises:
        TypeError: An element type that no variant has, an object that is no array, an operand that is missing,
            given twice or unknown.
        ValueError: A wrong shape, stride or alignment, arrays that overlap, a number that does not fit; a kernel
            over state that is not called on one, or whose state another call is working on.
        NotImplementedError: The module has no code for the CUDA device.
        tiaot.ModuleError: The module has been closed.
        RuntimeError: There is no CUDA driver, or it reports a failure.
    """
    @property
    def name(self) -> str:
        """Name of the kernel."""
    @property
    def signature(self) -> str:
        """Names and symbolic shapes of the arguments: 'x[B, n], W[m, n], b[m] -> y[B, m]'."""
    @property
    def module(self) -> Module:
        """The Module that the kernel comes from."""
    @property
    def variants(self) -> tuple[str, ...]:
        """Names of the compiled forms, in the order in which they are tried: the first that fits the arrays is run."""
    @property
    def vjp(self) -> Entry:
        """The vector-Jacobian product: vjp(*inputs, *cotangents, wrt=...)."""
    @property
    def jacobian(self) -> Entry:
        """The Jacobian: jacobian(*inputs, wrt=..., mode=None)."""
    @property
    def jvp(self) -> Entry:
        """The Jacobian-vector product, with the outputs: jvp(*inputs, *tangents, wrt=...)."""
    @property
    def hvp(self) -> Entry:
        """The derivative of the vjp, with the gradients: hvp(*inputs, *cotangents, *tangents, wrt=...)."""
    @property
    def grad(self) -> Entry:
        """The adjoint of a kernel over state, in place: grad(*inputs). AttributeError where there is none."""
    def __call__(
        self,
        *operands: _Array,
        out: _Array | None = None,
        num_threads: SupportsIndex | None = None,
        stream: _Stream = None,
        **named: _Array,
    ) -> _Array: ...
    def bind(
        self,
        *operands: _Array,
        out: _Array | None = None,
        num_threads: SupportsIndex | None = None,
        stream: _Stream = None,
        **named: _Array,
    ) -> BoundCall:
        """Checks a call once, and returns a BoundCall that repeats it on the same arrays.

        Takes what a call takes and raises what a call raises; computes nothing yet.
        """
    def value_and_vjp(
        self,
        *operands: _Array,
        wrt: _Wrt = ...,
        out: tuple[_Array, _Array] | None = None,
        num_threads: SupportsIndex | None = None,
        stream: _Stream = None,
        **named: _Array,
    ) -> tuple[_Array, _Array]:
        """The outputs and the gradients, `(kernel(...), kernel.vjp(...))`, from one reading of the arguments of a vjp.

        `out` is a pair of what the two take. Raises what `vjp` raises, before anything is computed.
        """
    def restrict(self, variant: str) -> Kernel:
        """The same kernel with one of its `variants` only. Calls whose arrays that does not fit raise.

        Raises ValueError for a name that is none of them.
        """

class Module:
    """A module file of kernels compiled ahead of time. From tiaot.open.

    Its kernels are its attributes. One whose name is taken by an attribute of Module is in `kernels`. A context
    manager: leaving it closes the module. Pickles as its name or path, with its hash. Its memory goes when the last
    of its handles does: the Module, its kernels, their entries and bound calls, its states and their fields.
    """
    @property
    def name(self) -> str:
        """Name of the module."""
    @property
    def path(self) -> str:
        """Absolute path of the file."""
    @property
    def hash(self) -> str:
        """SHA-256 of the module's objects, in hexadecimal."""
    @property
    def cpu_level(self) -> str:
        """The level that this module's code runs at, as 'x86-64-v3'."""
    @property
    def closed(self) -> bool:
        """Whether the module has been closed."""
    @property
    def kernels(self) -> dict[str, Kernel]:
        """dict from name to Kernel, a new one each time."""
    def info(self) -> dict[str, Any]:
        """All that the module says of itself, as a dict of plain types.

        Versions, kernels, their arguments, variants and entries, and the bytes of code of each; 'state' is None, or the
        bytes and fields of its state; 'cuda' is None, or the images of its CUDA code.
        """
    def state(self, *, zeros: bool = False, device: object = None) -> State:
        """A new State: the fields that the module's kernels work on, apart from those of every other state.

        They hold what the kernel file wrote into them as it was exported, and zeros elsewhere; all zeros where `zeros`
        is True. `device` is where: None or "cpu", or "cuda", "cuda:1", a torch.device: then it is a CudaState.

        Raises ValueError for a module without state or another device, MemoryError, ModuleError when the module has
        been closed; on a CUDA device NotImplementedError when the module has no CUDA code, RuntimeError when there is
        no device.
        """
    def _state_memory(self, zeros: bool, device: int) -> StateMemory: ...
    def _cuda_image(self, device: int) -> dict[str, Any] | None: ...
    def close(self) -> None:
        """Closes the module: calls of its kernels raise ModuleError from now on.

        Calls in flight end as usual. Closing twice is allowed.
        """
    def __enter__(self) -> Module: ...
    def __exit__(self, *exception: object) -> None: ...
    def __getattr__(self, name: str) -> Kernel: ...

class StateMemory:
    tape: list[Any] | None
    @property
    def module(self) -> Module: ...
    stream: Any
    @property
    def device(self) -> int: ...
    @property
    def bytes(self) -> _Array: ...
    def content(self) -> _Array: ...
    def order_behind(self, stream: int) -> None: ...
    def field(self, name: str) -> _Array: ...
    def described(self, name: str) -> tuple[int, int, tuple[int, ...], tuple[int, ...], str]: ...
    def exported(self, name: str, versioned: bool) -> object: ...
    def read(self, offset: int, bytes: int) -> _Array: ...
    def write(self, offset: int, content: Any) -> None: ...
    def fill(self, name: str, value: float) -> None: ...
    def copy_from(self, other: StateMemory) -> None: ...
    def kernel(self, name: str) -> Kernel: ...
    def copy(self) -> StateMemory: ...

class TensorCall:
    def __init__(self, kernel: Kernel, recorder: Any, subject: Any, fallback: Any) -> None: ...
    def __call__(self, *tensors: Any) -> Any: ...

def prepare_torch(torch: Any) -> None: ...
def for_tensors(kernel: Kernel) -> Kernel: ...
def accept_field_type(type: Any) -> None: ...
def xla_handler(platform: str) -> Any: ...
def register_for_xla(key: str, kernel: Kernel) -> None: ...
def open_module(path: bytes, path_text: str, shipped: bool) -> Module: ...
def get_num_threads() -> int:
    """The most threads that a call uses when it is not told otherwise.

    Starts as the environment variable TIAOT_NUM_THREADS, or the number of CPUs that this process may use.
    """

def set_num_threads(count: SupportsIndex | None) -> None:
    """Sets what get_num_threads returns: an integer from 1 on, or None for the start value.

    Raises TypeError or ValueError for anything else.
    """

def cuda_device_count() -> int: ...
def cuda_release(device: int) -> None: ...
def cpu_level() -> str | None:
    """The highest x86-64 level of this machine's CPU that modules have code for.

    'x86-64-v2', 'x86-64-v3' or 'x86-64-v4'; None when it has not even the first.
    """
