// documentation.hpp: what help() says of the extension's types. _core.pyi has the same words for editors, which do not
// see these; a test holds the two against each other.
#pragma once

namespace tiaot::binding {

constexpr char kKernelDoc[] =
    R"(A kernel of a module, compiled ahead of time. From tiaot.load, or an attribute of a Module.

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
)";

constexpr char kEntryDoc[] =
    R"(A derivative of a kernel: `kernel.vjp`, `jacobian`, `jvp`, `hvp`, or `grad` of a kernel over state.

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
)";

constexpr char kBoundCallDoc[] = R"(A call with its arrays fixed and checked, made by `bind` of a Kernel or an Entry.

Calling it, without arguments, computes from what the arrays hold at that moment, and returns the array, or
tuple of arrays, that was given as `out`, or that bind allocated: the same objects each time. It keeps its
arrays alive, and the state of a kernel over state; do not resize them in place. On a CUDA device it puts its
work on the stream that it was bound to, and does not wait for it.

Raises:
    tiaot.ModuleError: The module has been closed.
    RuntimeError: The CUDA driver reports a failure.
)";

constexpr char kKernelBindDoc[] = R"(bind($self, /, *operands, out=None, num_threads=None, stream=None, **named)
--

Checks a call once, and returns a BoundCall that repeats it on the same arrays.

Takes what a call takes and raises what a call raises; computes nothing yet.
)";

constexpr char kEntryBindDoc[] = R"(bind($self, /, *operands, wrt=..., out=None, num_threads=None, stream=None, **named)
--

Checks a call once, and returns a BoundCall that repeats it on the same arrays.

Takes what a call takes and raises what a call raises; computes nothing yet.
)";

constexpr char kValueAndVjpDoc[] =
    R"(value_and_vjp($self, /, *operands, wrt=..., out=None, num_threads=None, stream=None, **named)
--

The outputs and the gradients, `(kernel(...), kernel.vjp(...))`, from one reading of the arguments of a vjp.

`out` is a pair of what the two take. Raises what `vjp` raises, before anything is computed.
)";

constexpr char kRestrictDoc[] = R"(restrict($self, /, variant)
--

The same kernel with one of its `variants` only. Calls whose arrays that does not fit raise.

Raises ValueError for a name that is none of them.
)";

constexpr char kVjpDoc[] = "The vector-Jacobian product: vjp(*inputs, *cotangents, wrt=...).";
constexpr char kJacobianDoc[] = "The Jacobian: jacobian(*inputs, wrt=..., mode=None).";
constexpr char kJvpDoc[] = "The Jacobian-vector product, with the outputs: jvp(*inputs, *tangents, wrt=...).";
constexpr char kHvpDoc[] =
    "The derivative of the vjp, with the gradients: hvp(*inputs, *cotangents, *tangents, wrt=...).";
constexpr char kGradDoc[] =
    "The adjoint of a kernel over state, in place: grad(*inputs). AttributeError where there is none.";
constexpr char kKernelNameDoc[] = "Name of the kernel.";
constexpr char kSignatureDoc[] = "Names and symbolic shapes of the arguments: 'x[B, n], W[m, n], b[m] -> y[B, m]'.";
constexpr char kKernelModuleDoc[] = "The Module that the kernel comes from.";
constexpr char kVariantsDoc[] =
    "Names of the compiled forms, in the order in which they are tried: the first that fits the arrays is run.";

constexpr char kErrorDoc[] = R"(A module file that cannot be used, or a module that has been closed.

The file is no module, is truncated or damaged, belongs to another version of the format, or has another hash
than the pickled handle.
)";

constexpr char kModuleDoc[] = R"(A module file of kernels compiled ahead of time. From tiaot.open.

Its kernels are its attributes. One whose name is taken by an attribute of Module is in `kernels`. A context
manager: leaving it closes the module. Pickles as its name or path, with its hash. Its memory goes when the last
of its handles does: the Module, its kernels, their entries and bound calls, its states and their fields.
)";

constexpr char kInfoDoc[] = R"(All that the module says of itself, as a dict of plain types.

Versions, kernels, their arguments, variants and entries, and the bytes of code of each; 'state' is None, or the
bytes and fields of its state; 'cuda' is None, or the images of its CUDA code.
)";

constexpr char kStateDoc[] =
    R"(A new State: the fields that the module's kernels work on, apart from those of every other state.

They hold what the kernel file wrote into them as it was exported, and zeros elsewhere; all zeros where `zeros`
is True. `device` is where: None or "cpu", or "cuda", "cuda:1", a torch.device: then it is a CudaState.

Raises ValueError for a module without state or another device, MemoryError, ModuleError when the module has
been closed; on a CUDA device NotImplementedError when the module has no CUDA code, RuntimeError when there is
no device.
)";

constexpr char kCloseDoc[] = R"(Closes the module: calls of its kernels raise ModuleError from now on.

Calls in flight end as usual. Closing twice is allowed.
)";

constexpr char kModuleNameDoc[] = "Name of the module.";
constexpr char kPathDoc[] = "Absolute path of the file.";
constexpr char kHashDoc[] = "SHA-256 of the module's objects, in hexadecimal.";
constexpr char kModuleLevelDoc[] = "The level that this module's code runs at, as 'x86-64-v3'.";
constexpr char kClosedDoc[] = "Whether the module has been closed.";
constexpr char kKernelsDoc[] = "dict from name to Kernel, a new one each time.";

constexpr char kGetNumThreadsDoc[] = R"(The most threads that a call uses when it is not told otherwise.

Starts as the environment variable TIAOT_NUM_THREADS, or the number of CPUs that this process may use.
)";

constexpr char kSetNumThreadsDoc[] =
    R"(Sets what get_num_threads returns: an integer from 1 on, or None for the start value.

Raises TypeError or ValueError for anything else.
)";

constexpr char kCpuLevelDoc[] = R"(The highest x86-64 level of this machine's CPU that modules have code for.

'x86-64-v2', 'x86-64-v3' or 'x86-64-v4'; None when it has not even the first.
)";

}  // namespace tiaot::binding
