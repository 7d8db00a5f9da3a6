// cuda_device.hpp: one CUDA device: its context, what went wrong on it, its events. Knows nothing of modules and
// arrays.
#pragma once

#include <atomic>
#include <mutex>
#include <string>

#include "cuda_driver.hpp"

namespace tiaot {

struct CudaArenas;
struct CudaImage;

struct CudaDevice {
  const CudaDriver *driver;
  int32_t ordinal;
  CUdevice handle = 0;
  std::string name = {};
  uint32_t architecture = 0;    // compute capability, 10 * major + minor
  int32_t multiprocessors = 1;  // "SMs"
  bool pools = false;           // has cuMemAllocAsync
  bool stream_ids = false;      // has cuStreamGetId

  std::atomic<CUcontext> context{nullptr};             // the primary one, once it is retained; never given back
  std::atomic<const std::string *> unusable{nullptr};  // since when, and why, once it is
  std::mutex mutex{};
  CUevent order_event = nullptr;  // of tiaot_cuda_order
  CudaArenas *arenas = nullptr;   // the workspace kept for each stream; see cuda_workspace.cpp
  CudaImage *retired = nullptr;   // code of modules that were closed, a list; see cuda_image.cpp

  // Raises what a function of the driver answered, and remembers errors that no later call on the device survives.
  [[gnu::cold]] tiaot_status failed(const CudaCaller &caller, const char *function, CUresult error);
};

// The device of that ordinal, for queries. Devices live as long as the process.
tiaot_status find_cuda_device(const CudaCaller &caller, int32_t ordinal, CudaDevice **device);

// Calls `visit` with each device that was found so far, until one gives another status than TIAOT_OK.
tiaot_status visit_cuda_devices(tiaot_status (*visit)(CudaDevice *device));

// Makes the device's primary context the thread's current one, and what was current before current again in the end.
class CudaCurrent {
 public:
  CudaCurrent() = default;
  ~CudaCurrent() { leave(); }
  CudaCurrent(const CudaCurrent &) = delete;
  CudaCurrent &operator=(const CudaCurrent &) = delete;

  // TIAOT_ERROR_DEVICE too when the device has become unusable, or the process was forked.
  tiaot_status enter(const CudaCaller &caller, CudaDevice *device);

 private:
  void leave();

  CudaDevice *pushed_ = nullptr;
};

// Lets this thread call what CUDA forbids while some other stream is captured, which are functions that could
// synchronise; those that it is used for do not depend on the captured stream.
class CudaRelaxedCapture {
 public:
  explicit CudaRelaxedCapture(const CudaDriver &driver) : driver_(driver) {
    exchanged_ = driver_.cuThreadExchangeStreamCaptureMode(&mode_) == 0;
  }
  ~CudaRelaxedCapture() {
    if (exchanged_) driver_.cuThreadExchangeStreamCaptureMode(&mode_);
  }
  CudaRelaxedCapture(const CudaRelaxedCapture &) = delete;
  CudaRelaxedCapture &operator=(const CudaRelaxedCapture &) = delete;

 private:
  const CudaDriver &driver_;
  int32_t mode_ = CU_STREAM_CAPTURE_MODE_RELAXED;
  bool exchanged_;
};

}  // namespace tiaot
