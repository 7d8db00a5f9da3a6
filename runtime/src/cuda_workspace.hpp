// cuda_workspace.hpp: working memory on a device for what one call puts on a stream. Knows nothing of what it is used
// for.
#pragma once

#include "cuda_device.hpp"

namespace tiaot {

struct CudaArena;

constexpr int64_t kCudaAlignment = 256;

// Memory that the work put on the stream between take and give_back may use. Most often the stream's arena, which no
// other thread can put work on in the meantime: what the two enqueue must not be mixed. The device's context is
// current.
class CudaWorkspace {
 public:
  CudaWorkspace(const CudaCaller &caller, CudaDevice *device, CUstream stream)
      : caller_(caller), device_(device), stream_(stream) {}
  // Without a word when that fails: it is for calls that have failed already.
  ~CudaWorkspace() {
    const char *function;
    release(&function);
  }
  CudaWorkspace(const CudaWorkspace &) = delete;
  CudaWorkspace &operator=(const CudaWorkspace &) = delete;

  tiaot_status take(int64_t bytes);
  // Once everything that uses the memory is on the stream.
  tiaot_status give_back();

  char *data() const { return reinterpret_cast<char *>(data_); }  // nullptr for 0 bytes

 private:
  tiaot_status take_arena(int64_t bytes);
  tiaot_status take_once(int64_t bytes);
  tiaot_status allocate(int64_t bytes, CUdeviceptr *data);
  tiaot_status grow(CudaArena *arena, int64_t bytes);
  CUresult record_use();
  CUresult release(const char **function);  // *function: whose result it is

  const CudaCaller &caller_;
  CudaDevice *device_;
  CUstream stream_;
  CUdeviceptr data_ = 0;
  CudaArena *arena_ = nullptr;  // locked; nullptr: `data_`, if any, goes back to the driver
};

// Gives back what is kept for streams that no call uses at the moment. The device's context is current, and no work is
// left on it.
CUresult release_cuda_arenas(CudaDevice *device);

}  // namespace tiaot
