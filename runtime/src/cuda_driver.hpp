// cuda_driver.hpp: the CUDA driver, opened at its first use. Knows nothing of devices' state, modules and calls.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "tiaot/tiaot.h"

namespace tiaot {

// What the driver's ABI fixes: the types, and of its constants those that are used.
using CUresult = int32_t;
using CUdevice = int32_t;
using CUdeviceptr = uint64_t;
using CUcontext = struct CUctx_st *;
using CUmodule = struct CUmod_st *;
using CUfunction = struct CUfunc_st *;
using CUstream = struct CUstream_st *;
using CUevent = struct CUevent_st *;

constexpr CUresult CUDA_ERROR_OUT_OF_MEMORY = 2, CUDA_ERROR_NOT_INITIALIZED = 3, CUDA_ERROR_DEINITIALIZED = 4,
                   CUDA_ERROR_NO_DEVICE = 100, CUDA_ERROR_NO_BINARY_FOR_GPU = 209, CUDA_ERROR_INVALID_HANDLE = 400;
constexpr int32_t CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT = 16, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 75,
                  CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 76, CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED = 115;
constexpr uint32_t CU_EVENT_DISABLE_TIMING = 2;
constexpr int32_t CU_STREAM_CAPTURE_STATUS_NONE = 0, CU_STREAM_CAPTURE_MODE_RELAXED = 2;
constexpr int32_t CU_MEMORYTYPE_DEVICE = 2;

struct CUDA_MEMCPY2D {
  size_t srcXInBytes, srcY;
  int32_t srcMemoryType;
  const void *srcHost;
  CUdeviceptr srcDevice;
  void *srcArray;
  size_t srcPitch;
  size_t dstXInBytes, dstY;
  int32_t dstMemoryType;
  void *dstHost;
  CUdeviceptr dstDevice;
  void *dstArray;
  size_t dstPitch;
  size_t WidthInBytes, Height;
};
static_assert(sizeof(CUDA_MEMCPY2D) == 128, "as in cuda.h for 64 bits");

// Every function of the driver that is called: its name, its symbol, its parameters. Those of the second list are
// nullptr where the driver is too old to have them.
#define TIAOT_CUDA_REQUIRED(X)                                                                                    \
  X(cuInit, "cuInit", (uint32_t flags))                                                                           \
  X(cuGetErrorName, "cuGetErrorName", (CUresult error, const char **text))                                        \
  X(cuGetErrorString, "cuGetErrorString", (CUresult error, const char **text))                                    \
  X(cuDeviceGetCount, "cuDeviceGetCount", (int32_t *count))                                                       \
  X(cuDeviceGet, "cuDeviceGet", (CUdevice * device, int32_t ordinal))                                             \
  X(cuDeviceGetName, "cuDeviceGetName", (char *name, int32_t length, CUdevice device))                            \
  X(cuDeviceGetAttribute, "cuDeviceGetAttribute", (int32_t *value, int32_t attribute, CUdevice device))           \
  X(cuDevicePrimaryCtxRetain, "cuDevicePrimaryCtxRetain", (CUcontext * context, CUdevice device))                 \
  X(cuCtxGetCurrent, "cuCtxGetCurrent", (CUcontext * context))                                                    \
  X(cuCtxPushCurrent, "cuCtxPushCurrent_v2", (CUcontext context))                                                 \
  X(cuCtxPopCurrent, "cuCtxPopCurrent_v2", (CUcontext * context))                                                 \
  X(cuCtxSynchronize, "cuCtxSynchronize", ())                                                                     \
  X(cuModuleLoadData, "cuModuleLoadData", (CUmodule * module, const void *image))                                 \
  X(cuModuleUnload, "cuModuleUnload", (CUmodule module))                                                          \
  X(cuModuleGetFunction, "cuModuleGetFunction", (CUfunction * function, CUmodule module, const char *name))       \
  X(cuLaunchKernel, "cuLaunchKernel",                                                                             \
    (CUfunction function, uint32_t grid_x, uint32_t grid_y, uint32_t grid_z, uint32_t block_x, uint32_t block_y,  \
     uint32_t block_z, uint32_t shared_bytes, CUstream stream, void **parameters, void **extra))                  \
  X(cuMemsetD8Async, "cuMemsetD8Async", (CUdeviceptr target, uint8_t value, size_t count, CUstream stream))       \
  X(cuMemsetD2D16Async, "cuMemsetD2D16Async",                                                                     \
    (CUdeviceptr target, size_t pitch, uint16_t value, size_t width, size_t height, CUstream stream))             \
  X(cuMemsetD2D32Async, "cuMemsetD2D32Async",                                                                     \
    (CUdeviceptr target, size_t pitch, uint32_t value, size_t width, size_t height, CUstream stream))             \
  X(cuMemsetD2D8Async, "cuMemsetD2D8Async",                                                                       \
    (CUdeviceptr target, size_t pitch, uint8_t value, size_t width, size_t height, CUstream stream))              \
  X(cuMemcpyDtoDAsync, "cuMemcpyDtoDAsync_v2",                                                                    \
    (CUdeviceptr target, CUdeviceptr source, size_t bytes, CUstream stream))                                      \
  X(cuMemcpyDtoHAsync, "cuMemcpyDtoHAsync_v2", (void *target, CUdeviceptr source, size_t bytes, CUstream stream)) \
  X(cuMemcpyHtoDAsync, "cuMemcpyHtoDAsync_v2",                                                                    \
    (CUdeviceptr target, const void *source, size_t bytes, CUstream stream))                                      \
  X(cuMemcpy2DAsync, "cuMemcpy2DAsync_v2", (const CUDA_MEMCPY2D *copy, CUstream stream))                          \
  X(cuMemAlloc, "cuMemAlloc_v2", (CUdeviceptr * address, size_t bytes))                                           \
  X(cuMemFree, "cuMemFree_v2", (CUdeviceptr address))                                                             \
  X(cuStreamIsCapturing, "cuStreamIsCapturing", (CUstream stream, int32_t *status))                               \
  X(cuStreamSynchronize, "cuStreamSynchronize", (CUstream stream))                                                \
  X(cuStreamWaitEvent, "cuStreamWaitEvent", (CUstream stream, CUevent event, uint32_t flags))                     \
  X(cuThreadExchangeStreamCaptureMode, "cuThreadExchangeStreamCaptureMode", (int32_t *mode))                      \
  X(cuEventCreate, "cuEventCreate", (CUevent * event, uint32_t flags))                                            \
  X(cuEventRecord, "cuEventRecord", (CUevent event, CUstream stream))
#define TIAOT_CUDA_OPTIONAL(X)                                                                                     \
  X(cuMemAllocAsync, "cuMemAllocAsync", (CUdeviceptr * address, size_t bytes, CUstream stream)) /* from 11.2 on */ \
  X(cuMemFreeAsync, "cuMemFreeAsync", (CUdeviceptr address, CUstream stream))                   /* from 11.2 on */ \
  X(cuStreamGetId, "cuStreamGetId", (CUstream stream, uint64_t *id))                            /* from 12.0 on */

struct CudaDriver {
#define TIAOT_CUDA_MEMBER(name, symbol, parameters) CUresult(*name) parameters = nullptr;
  TIAOT_CUDA_REQUIRED(TIAOT_CUDA_MEMBER)
  TIAOT_CUDA_OPTIONAL(TIAOT_CUDA_MEMBER)
#undef TIAOT_CUDA_MEMBER
  int32_t device_count = 0;
};

// Whose call it is, for messages: "dense_tanh.vjp", or the name of a function of the C interface.
struct CudaCaller {
  const char *name;
  int entry = -1;  // TIAOT_FORWARD...; -1: `name` is all

  std::string text() const;
};

// The driver, initialised; the first call opens it. TIAOT_ERROR_DEVICE when there is none, and in a child forked from a
// process that had used it, where it cannot work.
tiaot_status open_cuda_driver(const CudaCaller &caller, const CudaDriver **driver);

// True in such a child: no function of the driver may be called there.
bool cuda_lost_by_fork();

// "CUDA_ERROR_ILLEGAL_ADDRESS (an illegal memory access was encountered)"
std::string cuda_error_text(const CudaDriver &driver, CUresult error);

}  // namespace tiaot
