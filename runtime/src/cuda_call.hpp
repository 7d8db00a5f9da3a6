// cuda_call.hpp: a checked call with arrays on a CUDA device, ready to be put on a stream any number of times. Knows
// nothing of signatures.
#pragma once

#include <cstdint>

#include "cuda_device.hpp"
#include "cuda_image.hpp"
#include "dispatch.hpp"

namespace tiaot {

struct CudaPlan {
  CudaCaller caller;
  const tiaot_module *module;
  CudaDevice *device;
  CUstream stream;
  const tiaot_entry_desc *entry;
  int64_t rows;
  int64_t chunk_rows;       // rows that the code is given at a time; where it takes any number, all of them
  int64_t workspace_bytes;  // of the code, for one chunk
  int64_t bytes;            // and with scratch for gradients that nobody asked for
  uint64_t on_host;         // as tiaot_cuda_code takes it
  uint32_t array_count;
  int64_t sizes[TIAOT_MAX_DIMS];
  tiaot_state *state;  // that it works on, whose memory is the last of the arrays; nullptr for none
  // In the entry's order. An array that nobody asked for is at `offset` of the call's memory, others have offset -1.
  struct Piece {
    void *data;
    int64_t row_bytes;  // 0: all rows see all of it
    int64_t offset;
  };
  Piece pieces[TIAOT_MAX_ARRAYS];
};

// Plans a forward or vjp call, and loads the module's image.
tiaot_status make_cuda_plan(const Request &request, const Checked &checked, CudaPlan *plan);

tiaot_status run_cuda_plan(const CudaPlan &plan);

// Forms every Jacobian of a call by running the vjp on basis cotangents.
tiaot_status run_cuda_jacobian(const Request &request, const Checked &checked);

// ---- between cuda_call.cpp and cuda_jacobian.cpp

// What the code of an entry is run with.
struct CudaRun {
  const CudaCaller &caller;
  CudaDevice *device;
  const CudaImage *image;
  CUstream stream;
  const tiaot_entry_desc &entry;
  const int64_t *sizes;
  tiaot_status status = TIAOT_OK;  // of the first callback that went wrong
};

// Opens the device, makes it current and loads the module's image.
tiaot_status start_cuda_call(const CudaCaller &caller, const tiaot_module &module, CudaDevice *device,
                             CudaCurrent *current, const CudaImage **image);

// Puts `rows` samples on the stream.
tiaot_status run_cuda_code(CudaRun *run, int64_t rows, void *const *arrays, uint64_t on_host, void *workspace);

// Bytes of workspace that the code needs for pieces of at most `chunk_rows` of `rows` rows, rounded up to the
// alignment. TIAOT_ERROR_INTERNAL when the module answers nonsense.
tiaot_status cuda_workspace_bytes(const tiaot_entry_desc &entry, int64_t rows, int64_t chunk_rows, const int64_t *sizes,
                                  int64_t *bytes);

// The most rows that the entry takes at a time: those in which no array has more than 2^31 - 1 elements, where that is
// its limit.
int64_t cuda_row_limit(const tiaot_kernel_desc &desc, const tiaot_entry_desc &entry, const int64_t *sizes);

}  // namespace tiaot
