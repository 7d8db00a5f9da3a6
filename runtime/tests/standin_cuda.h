/* standin_cuda.h: what a test says to the stand-in for the CUDA driver, and what a kernel is there.
 *
 * The stand-in is a shared library with the SONAME libcuda.so.1. Loaded with dlopen(path, RTLD_NOW | RTLD_GLOBAL)
 * before the first use of CUDA, it is what dlopen("libcuda.so.1") finds. Its device memory is the host's, and what is
 * put on a stream is done at once, by the calling thread, unless the stream is being captured: then it is only written
 * down. */
#ifndef STANDIN_CUDA_H
#define STANDIN_CUDA_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A kernel: called once for each thread of the grid, threads = blocks * threads of a block, with the parameters that
 * cuLaunchKernel was given. */
typedef void (*standin_kernel)(void **parameters, int64_t thread, int64_t threads);

/* What cuModuleLoadData takes: an ELF shared object that exports the kernels, from its first byte in memory; PTX, as
 * text or in a fat binary; or this. */
typedef struct standin_named_kernel {
  const char *name; /* NULL ends the array */
  standin_kernel function;
} standin_named_kernel;

typedef struct standin_image {
  char magic[8]; /* "STANDIN\0" */
  const standin_named_kernel *kernels;
} standin_image;

/* Back to one device of capability 9.0 with two multiprocessors and memory pools, no failures, no captures and an empty
 * log. Modules, primary contexts and memory stay. */
void standin_reset(void);

/* The calls since the last reset or standin_clear_log, one a line; valid until the next call of this function. Queries
 * that change nothing are left out. Most lines tell the device whose context is current:
 *   cuInit
 *   cuDevicePrimaryCtxRetain device=0
 *   cuCtxPushCurrent device=0
 *   cuCtxPopCurrent device=0
 *   cuModuleLoadData device=0 module=1
 *   cuModuleUnload device=0 module=1
 *   cuLaunchKernel device=0 stream=0x0 kernel=name grid=2 block=128
 *   cuMemsetD8Async device=0 stream=0x0 bytes=64 value=0
 *   cuMemcpyDtoDAsync device=0 stream=0x0 bytes=64
 *   cuMemAllocAsync device=0 stream=0x0 bytes=65536
 * What goes on a stream that is being captured has " captured" at its end, what fails " -> 700". */
const char *standin_log(void);
void standin_clear_log(void);

/* Before the driver is first used. */
void standin_set_device_count(int32_t count);
/* Before a device is first used, for all devices: capability is 10 * major + minor. */
void standin_set_device(int32_t capability, int32_t multiprocessors, int32_t memory_pools);
/* The next `times` calls of the function, by its name without _v2, after the next `after`, do nothing and return
 * `error`. */
void standin_fail(const char *function, int32_t error, int32_t after, int32_t times);
/* From now on every call returns `error`, as after a kernel that went wrong; 0 ends it. */
void standin_set_sticky(int32_t error);
/* Whether the stream is being captured. */
void standin_capture(void *stream, int32_t capturing);
/* As standin_capture(stream, 1), and what is put on the stream until standin_capture(stream, 0), but kernels that are
 * not in PTX, can be run any number of times, as a graph of it: the number of things that were done. Memory that is
 * allocated meanwhile stays. */
void standin_record(void *stream);
int32_t standin_replay(void *stream);
/* What cuStreamGetId says of a handle, which is otherwise the handle's own number. */
void standin_set_stream_id(void *stream, uint64_t id);
/* The thread's current context is the primary one of this device; -1: none. As another library would make it. */
void standin_set_current(int32_t device);
int32_t standin_current(void);
/* Milliseconds that each cuModuleLoadData takes. */
void standin_set_load_time(int32_t milliseconds);
/* Memory that starts there is the host's, pinned for devices. */
void standin_set_pinned(const void *start);
/* Bytes allocated and not yet freed. */
int64_t standin_allocated(void);
/* How many kernels were asked for by their names. */
int32_t standin_functions(void);

/* ---- kernels in PTX, which are interpreted with checks of what they touch. ----
 * They may touch workspace, and the arrays that a test describes. `writable`: it is no input; `holds_values`: all of it
 * may be read; `item`: the bytes of an element. An access to anything else ends the launch with
 * CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES: of the errors that there are, one after which the device can be used again. */
void standin_describe_memory(const void *start, int64_t bytes, const char *name, int32_t writable, int32_t holds_values,
                             int32_t item);
void standin_forget_memory(const void *start); /* NULL: all that was described, and all findings */
/* Bytes of a described array that nothing has written to. */
int64_t standin_unwritten(const void *start);
/* All workspace holds garbage that may not be read. */
void standin_spoil_workspace(void);
/* order: warps go one after another (0), the last first (1), or shuffled (2). off: approximations of the device are off
 * by a unit in the last place, by turns. most_steps: instructions of a launch, all warps together, before it is given
 * up; 0: four thousand millions. */
void standin_set_interpreter(int32_t order, int32_t off, int64_t most_steps);
/* The PTX that was loaded last; valid until the next load. */
const char *standin_ptx(void);
/* PTX that is loaded from now on instead of any other; NULL ends it. */
void standin_replace_ptx(const char *text);
/* What was found wrong since the last call, one thing a line: "" where nothing was. */
const char *standin_findings(void);
/* What is put on streams is not run, only written down, and memory is not described: for arrays that there are not. */
void standin_skip_work(int32_t skip);
/* Instructions that were interpreted, those of a warp counted once. */
int64_t standin_steps(void);

#ifdef __cplusplus
}
#endif

#endif /* STANDIN_CUDA_H */
