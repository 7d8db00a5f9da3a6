/* tiaot/tiaot.h: open a module of kernels compiled ahead of time and call them. C99; the whole public face of the
 * runtime.
 *
 * Conventions. A function that can fail returns a tiaot_status, 0 for success; tiaot_last_error() then tells what went
 * wrong on this thread. On failure nothing was computed, no array was written and no out-parameter was set. Handles
 * are thread-safe: any number of threads may use one at the same time. No pointer parameter may be NULL unless its
 * comment says so. Arrays are DLPack's DLTensor, dense and row-major; the runtime reads the struct during the call
 * only. No array is copied, converted or kept, but for tiaot_bind, which keeps data pointers.
 *
 * All arrays of a call are on the CPU, or all on one CUDA device (kDLCUDA or kDLCUDAManaged), but for inputs with
 * TIAOT_ARGUMENT_VALUE, which may then be on the CPU: they are read before the call returns. A call on a CUDA device
 * puts its work on options->stream and returns without waiting for it: the arrays must stay where they are until the
 * work is done, and results are there when the stream has come so far. What fails on the device shows at later calls,
 * as TIAOT_ERROR_DEVICE; after most such errors CUDA lets a process use the device no more. A call may be captured in a
 * CUDA graph. The thread's current CUDA context is the same after a call as before. The driver is opened at the first
 * call with such arrays; a process forked after that cannot use CUDA, as with every CUDA library. */
#ifndef TIAOT_TIAOT_H
#define TIAOT_TIAOT_H

#include <stddef.h>
#include <stdint.h>

#include "tiaot/dlpack.h"
#include "tiaot/module.h"

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define TIAOT_API __attribute__((visibility("default")))
#else
#define TIAOT_API
#endif

typedef enum tiaot_status {
  TIAOT_OK = 0,
  TIAOT_ERROR_TYPE = 1,        /* an array of another element type, or on another device */
  TIAOT_ERROR_VALUE = 2,       /* a shape, stride, alignment, overlap, count, number or name that cannot be right */
  TIAOT_ERROR_MODULE = 3,      /* a file that is no module, is damaged, or belongs to another version */
  TIAOT_ERROR_UNSUPPORTED = 4, /* the module lacks the entry, or the machine the CPU level */
  TIAOT_ERROR_MEMORY = 5,      /* no memory for workspace */
  TIAOT_ERROR_INTERNAL = 6,    /* a bug of tiaot's own */
  TIAOT_ERROR_DEVICE = 7       /* no CUDA driver, no such device, or the driver reports a failure */
} tiaot_status;

typedef struct tiaot_module tiaot_module;
typedef struct tiaot_kernel tiaot_kernel;
typedef struct tiaot_bound tiaot_bound;
typedef struct tiaot_partial tiaot_partial;
typedef struct tiaot_state tiaot_state;

/* Runs task(context, index) once for each index in 0..count-1, on any threads and in any order, and returns when all
 * have returned. `user` is passed through from the executor. */
typedef struct tiaot_executor {
  void (*parallel_for)(void *user, int64_t count, void (*task)(void *context, int64_t index), void *context);
  void *user;
} tiaot_executor;

/* How to run a call. Zero-initialise it (or use TIAOT_OPTIONS_INIT), then set what you need. */
typedef struct tiaot_options {
  uint32_t struct_size;           /* sizeof(tiaot_options) */
  int32_t num_threads;            /* at most this many threads, the calling one among them; 0: the process default */
  const char *variant;            /* run this variant, by name; NULL: the first that fits the arrays */
  const tiaot_executor *executor; /* NULL: tiaot's own pool */
  tiaot_state *state;             /* for kernels that work on state: what they work on; else NULL */
  void *stream;                   /* on CUDA: the CUstream to put the work on; NULL: the legacy default stream */
} tiaot_options;

#define TIAOT_OPTIONS_INIT {sizeof(tiaot_options), 0, NULL, NULL, NULL, NULL}

/* The message of the last failed call on this thread; "" if there was none. Owned by the runtime, valid until the
 * next failing call on this thread. */
TIAOT_API const char *tiaot_last_error(void);

TIAOT_API const char *tiaot_version(void);

/* Opens a module file and checks it. *module is to be closed with tiaot_module_close. What is checked and loaded is a
 * copy of the file in memory: whatever happens to the file during the call and later, it has no effect on the module. A
 * file that another has taken the place of can be opened while the old one still is. The CPU level is chosen here: the
 * highest that this machine has, or the lower one that the environment variable TIAOT_CPU_LEVEL names (x86-64-v2,
 * x86-64-v3 or x86-64-v4; aarch64 has the level aarch64-neon alone); naming one that the machine lacks is
 * TIAOT_ERROR_UNSUPPORTED. */
TIAOT_API tiaot_status tiaot_module_open(const char *path, tiaot_module **module);

/* Where tiaot_module_open_from takes a module from. Zero-initialise it, then set what you need. */
enum { TIAOT_FROM_PATH = 0, TIAOT_FROM_MEMORY = 1, TIAOT_FROM_DESCRIPTOR = 2 };
typedef struct tiaot_source {
  uint32_t struct_size; /* sizeof(tiaot_source) */
  int32_t kind;         /* TIAOT_FROM_PATH... */
  const char *path;     /* of the file; from elsewhere a name for messages and for tools, or NULL */
  const void *data;     /* from memory: the bytes of a module file, which are read during the call only */
  size_t size;          /* from memory: their number */
  int32_t descriptor;   /* an open file, which is read from its start, during the call only, and stays open */
  uint32_t reserved;    /* 0 */
  const char *sha256; /* 64 hexadecimal digits that the SHA-256 of all bytes must be, as `sha256sum` prints it; NULL: it
                       * is not looked at. Compared before any byte is mapped as code. */
} tiaot_source;

/* As tiaot_module_open, from a path, from memory or from a file descriptor. TIAOT_ERROR_MODULE when the SHA-256 is
 * another. */
TIAOT_API tiaot_status tiaot_module_open_from(const tiaot_source *source, tiaot_module **module);

/* Gives the handle back; NULL is allowed. Kernels, bound calls and states of the module must not be used afterwards,
 * nor CUDA graphs that calls of its kernels were captured in. */
TIAOT_API void tiaot_module_close(tiaot_module *module);

/* The module's tables. Owned by the module. */
TIAOT_API const tiaot_module_desc *tiaot_module_descriptor(const tiaot_module *module);

/* The CPU level (TIAOT_LEVEL_*) that this module's code runs at. */
TIAOT_API int tiaot_module_cpu_level(const tiaot_module *module);

/* 1 when the file had been rewritten since its export, as by `strip` or `patchelf`: its code, constants, tables and
 * relocations were verified, but not what the OS loader alone reads. Else 0: all of its bytes were. */
TIAOT_API int tiaot_module_rewritten(const tiaot_module *module);

/* The kernel of that name, owned by the module; TIAOT_ERROR_VALUE, with the names that exist, when there is none. */
TIAOT_API tiaot_status tiaot_module_kernel(const tiaot_module *module, const char *name, const tiaot_kernel **kernel);

/* The kernel's tables. Owned by the module. */
TIAOT_API const tiaot_kernel_desc *tiaot_kernel_descriptor(const tiaot_kernel *kernel);

/* An instance of the module's state: the memory of its fields, aligned to 64 bytes, with what the kernel file wrote
 * into them, where it wrote, and zeros. A module may have any number of them. To be destroyed with tiaot_state_destroy,
 * before the module is closed. TIAOT_ERROR_VALUE when the module has no state, TIAOT_ERROR_MEMORY when there is no
 * memory for it. */
TIAOT_API tiaot_status tiaot_state_create(const tiaot_module *module, tiaot_state **state);

/* The same in the memory of a device: {kDLCPU, 0}, or {kDLCUDA, its ordinal}, of a module that has CUDA code. Calls of
 * kernels over a state on a CUDA device put their work on options->stream, as all calls with arrays there do, and their
 * arrays are on that device. It waits until the memory is ready, so no stream of the device may be captured at the
 * time. */
enum { TIAOT_STATE_ZEROS = 1u }; /* flags: zeros everywhere, without what the kernel file wrote */
TIAOT_API tiaot_status tiaot_state_create_on(const tiaot_module *module, DLDevice device, uint32_t flags,
                                             tiaot_state **state);

/* NULL is allowed. Bound calls on the state and pointers into it must not be used afterwards, nor graphs
 * with its kernels be run. On a CUDA device it waits for the work there. */
TIAOT_API void tiaot_state_destroy(tiaot_state *state);

/* Describes a field of the state: *tensor points into its memory, and its `shape` and `strides` into the module's
 * tables, which are not to be written to. The tangent of a field "x" of floating-point numbers is the field
 * "x.tangent", that of its gradient "x.grad.tangent"; tangents start as zeros, in memory that is made when the first is
 * asked for or a call needs it (on a CUDA device it waits for that, so not while a stream is captured).
 * TIAOT_ERROR_VALUE, with the names that exist, when there is no field of that name; TIAOT_ERROR_MEMORY. Reading or
 * writing the memory while a call works on the state is a data race. */
TIAOT_API tiaot_status tiaot_state_field(const tiaot_state *state, const char *name, DLTensor *tensor);

/* Sets every element of a field to a number, as the field's elements have it; TIAOT_ERROR_VALUE when that is none of
 * theirs. On a CUDA device the work is put on `stream`, where it can be captured; on the CPU `stream` is of no meaning,
 * here and below. */
TIAOT_API tiaot_status tiaot_state_fill(tiaot_state *state, const char *name, double value, void *stream);

/* Copies `bytes` bytes of the state's memory, from `offset` on, to the host's memory and from there. Behind the last
 * byte of the state come those of its tangents, in the same layout; a range is of one or the other. On a CUDA device
 * the copy comes behind what is on `stream`, which it waits for; so the stream must not be captured. */
TIAOT_API tiaot_status tiaot_state_read(const tiaot_state *state, int64_t offset, int64_t bytes, void *target,
                                        void *stream);
TIAOT_API tiaot_status tiaot_state_write(tiaot_state *state, int64_t offset, int64_t bytes, const void *source,
                                         void *stream);

/* Copies the content of one state of a module into another, on the same device or with one of them on the CPU. Between
 * two states on a CUDA device the copy is put on `stream`; else it waits as tiaot_state_read does. */
TIAOT_API tiaot_status tiaot_state_copy(tiaot_state *target, const tiaot_state *source, void *stream);

/* TIAOT_JACOBIAN chooses how a Jacobian is made; these two say it: by columns, each of which is a jvp along a basis
 * tangent, or by rows, each of which is a vjp of a basis cotangent. It takes the columns where the inputs in wrt have
 * fewer elements than the outputs, those of one sample, and there is a jvp along them; or where there is no vjp. */
enum { TIAOT_JACOBIAN_FORWARD = 6, TIAOT_JACOBIAN_REVERSE = 7 };

/* Runs an entry of a kernel.
 *   entry    TIAOT_FORWARD, TIAOT_VJP, TIAOT_JACOBIAN, TIAOT_GRAD, TIAOT_JVP, TIAOT_HVP, TIAOT_JACOBIAN_FORWARD or
 *            TIAOT_JACOBIAN_REVERSE
 *   wrt      vjp and jacobian: bit i asks for the gradient of input i, at least one bit; jvp and hvp: bit i says that
 *            input i has a tangent, which must be a set that the module has an entry for (tangents of the others are
 *            zero: pass zeros for what the set has too much); forward and grad: 0
 *   arrays   forward:  inputs, outputs
 *            vjp:      inputs, cotangents of all outputs, gradients of the inputs in wrt
 *            jacobian: inputs, then for each output the Jacobian with respect to each input in wrt
 *            grad:     inputs
 *            jvp:      inputs, tangents of the inputs in wrt, outputs, tangents of the outputs
 *            hvp:      inputs, cotangents of all outputs, tangents of the inputs in wrt, gradients of these inputs,
 *                      tangents of these gradients
 *            each group in the order of the signature
 *   count    number of arrays
 *   options  may be NULL
 * The gradient of a shared input (one without the batch dimension) is the sum over the batch. The Jacobian of an output
 * (B, o...) with respect to a batched input (B, i...) is (B, o..., i...), sample by sample; with respect to a shared
 * input (i...) it is (B, o..., i...) too; without a batch dimension it is (o..., i...). On a CUDA device a Jacobian is
 * made by rows.
 * A kernel over state reads and writes options->state, with which no array may overlap. It has the entries forward and,
 * where the module says so, grad, its adjoint in place; no other kernel has grad. Where the module has them it also has
 * jvp, the kernel and its derivative along the tangents of the fields, and hvp, the grad and its derivative along them:
 * both in place on the fields and on their tangents, with wrt 0, and with the arrays of forward, after the outputs
 * their tangents, and of grad. One state runs one call at a time: a call that finds it in use by another fails with
 * TIAOT_ERROR_VALUE and does not wait.
 * Results do not depend on the number of threads: other threads take over the caller's floating-point control state
 * (rounding, denormals) for their part. During a call no floating-point exception traps; which are raised afterwards is
 * not specified, since vectors are calculated whole where only some of their lanes are of use. */
TIAOT_API tiaot_status tiaot_call(const tiaot_kernel *kernel, int entry, uint32_t wrt, const DLTensor *arrays,
                                  int32_t count, const tiaot_options *options);

/* Checks the inputs (and for vjp the cotangents) of a call and tells the shapes and types of its results.
 *   arrays   as for tiaot_call, without the results;  count  their number
 *   results  filled in, in the order of tiaot_call, up to `capacity` of them; `data` is NULL, `strides` is NULL and
 *            `shape` points into `shapes`
 *   shapes   room for the sizes of all results, `shape_capacity` numbers
 *   result_count  set to the number of results */
TIAOT_API tiaot_status tiaot_results(const tiaot_kernel *kernel, int entry, uint32_t wrt, const DLTensor *arrays,
                                     int32_t count, const tiaot_options *options, DLTensor *results, int32_t capacity,
                                     int64_t *shapes, int32_t shape_capacity, int32_t *result_count);

/* Number of arithmetic steps that a call is likely to take, from the shapes alone, that of the state included: what a
 * caller may use to decide whether to release a lock around it. Arrays as for tiaot_call; no check is made. */
TIAOT_API int64_t tiaot_work(const tiaot_kernel *kernel, int entry, uint32_t wrt, const DLTensor *arrays,
                             int32_t count);

/* Checks a call once and keeps its data pointers, and options->state: tiaot_bound_run then does nothing but compute.
 * Parameters as for tiaot_call. The arrays must stay where they are while *bound is in use; two threads may run one
 * bound call at the same time only if they do not mind both writing the same results. To be destroyed with
 * tiaot_bound_destroy, before its module is closed. */
TIAOT_API tiaot_status tiaot_bind(const tiaot_kernel *kernel, int entry, uint32_t wrt, const DLTensor *arrays,
                                  int32_t count, const tiaot_options *options, tiaot_bound **bound);
TIAOT_API tiaot_status tiaot_bound_run(const tiaot_bound *bound);
/* The work of a bound call, as tiaot_work tells it. */
TIAOT_API int64_t tiaot_bound_work(const tiaot_bound *bound);
/* NULL is allowed. */
TIAOT_API void tiaot_bound_destroy(tiaot_bound *bound);

/* A call some of whose inputs stay from one run to the next, as the weights of a layer. Each run gives the other
 * arrays, and any number of threads may run it at the same time. All inputs that stay are replaced at once: a run sees
 * the old ones or the new ones, never some of each, and neither a run nor a replacement waits for another.
 *   fixed    bit i: input i stays; only the first 32 inputs can
 *   arrays   the inputs that stay, in the order of the signature; their memory is the caller's, until `release`
 *   release  called with `user` when these arrays are used no more: they were replaced or the partial was destroyed,
 *            and the last run that used them has ended. On the thread that this happens on; it must not call tiaot.
 *            NULL: it is not needed. On failure it is not called.
 * The other parameters are those of tiaot_call. To be destroyed with tiaot_partial_destroy, when no run is under way,
 * before its module is closed. */
TIAOT_API tiaot_status tiaot_partial_create(const tiaot_kernel *kernel, int entry, uint32_t wrt, uint32_t fixed,
                                            const DLTensor *arrays, int32_t count, const tiaot_options *options,
                                            void (*release)(void *user), void *user, tiaot_partial **partial);

/* Runs it; `arrays` are those of tiaot_call without the inputs that stay. */
TIAOT_API tiaot_status tiaot_partial_run(const tiaot_partial *partial, const DLTensor *arrays, int32_t count);

/* Replaces all inputs that stay, by arrays of the same types, shapes, strides and devices; TIAOT_ERROR_VALUE for
 * others. Runs that have begun end with the old ones. */
TIAOT_API tiaot_status tiaot_partial_replace(tiaot_partial *partial, const DLTensor *arrays, int32_t count,
                                             void (*release)(void *user), void *user);

/* NULL is allowed. */
TIAOT_API void tiaot_partial_destroy(tiaot_partial *partial);

/* The process-wide default for num_threads. Starts as TIAOT_NUM_THREADS where that is set, otherwise as the number of
 * CPUs in the process's affinity mask, or its control group's CPU quota (rounded up) where that is less. The process's
 * mask is that of its first thread, whichever thread asks. The pool's threads run on the same CPUs, with the scheduling
 * of that thread; where a caller of lower priority may not give it to them, none is started, and it runs alone. Those
 * that wait spin before they sleep, for as many microseconds as TIAOT_SPIN says in the environment, else 20; 0: they
 * sleep at once. */
TIAOT_API tiaot_status tiaot_num_threads(int32_t *count);
/* count >= 1, or 0 to go back to the default above, which is then worked out anew. */
TIAOT_API tiaot_status tiaot_set_num_threads(int32_t count);

/* The highest CPU level (TIAOT_LEVEL_*) of this machine, -1 when it has not even x86-64-v2; and a level's name, NULL
 * for a number that is no level. */
TIAOT_API int tiaot_cpu_level(void);
TIAOT_API const char *tiaot_cpu_level_name(int level);

/* The number of CUDA devices, those that CUDA_VISIBLE_DEVICES leaves; TIAOT_ERROR_DEVICE when there is no driver. */
TIAOT_API tiaot_status tiaot_cuda_device_count(int32_t *count);

/* Which of the module's images the CUDA device with this ordinal runs: a cubin where one is for it, else, with
 * TIAOT_CUDA_PTX=1 in the environment, the PTX that the driver compiles when it loads it. *image is owned by the
 * module. TIAOT_ERROR_UNSUPPORTED when there is none, TIAOT_ERROR_DEVICE without a driver or such a device. */
TIAOT_API tiaot_status tiaot_module_cuda_image(const tiaot_module *module, int32_t device,
                                               const tiaot_cuda_image_desc **image);

/* Makes what is put on stream `then` from now on wait for what is on stream `first` by now, without waiting itself.
 * Both are CUstreams of this device, NULL the legacy default stream. TIAOT_ERROR_VALUE when `then` is being captured
 * and `first` is not, which CUDA does not have. */
TIAOT_API tiaot_status tiaot_cuda_order(int32_t device, void *first, void *then);

/* Gives back what is kept on a device between calls: the workspace of its streams, and the code of modules that were
 * closed. Waits for all work on the device; so no stream of it may be captured at the time, and no graph with calls of
 * a closed module be run any more. `device` -1: every device that was used. */
TIAOT_API tiaot_status tiaot_cuda_release(int32_t device);

#ifdef __cplusplus
}
#endif

#endif /* TIAOT_TIAOT_H */
