// cuda_release.cpp: gives back what the library keeps on CUDA devices between calls: workspace, and the code of modules
// that were closed.
#include "cuda_image.hpp"
#include "cuda_workspace.hpp"
#include "error.hpp"

namespace tiaot {
namespace {

constexpr CudaCaller kCaller{"tiaot_cuda_release"};

tiaot_status release(CudaDevice *device) {
  if (device->context.load() == nullptr || cuda_lost_by_fork()) return TIAOT_OK;  // it was never used, or cannot be
  CudaCurrent current;
  if (tiaot_status status = current.enter(kCaller, device)) return status;
  const CudaDriver &driver = *device->driver;
  // What is kept may be in use until now, and a pool gives its memory back when it is next waited for.
  if (CUresult error = driver.cuCtxSynchronize()) return device->failed(kCaller, "cuCtxSynchronize", error);
  if (CUresult error = release_cuda_arenas(device)) return device->failed(kCaller, "cuMemFree", error);
  if (CUresult error = unload_retired_images(device)) return device->failed(kCaller, "cuModuleUnload", error);
  if (CUresult error = driver.cuCtxSynchronize()) return device->failed(kCaller, "cuCtxSynchronize", error);
  return TIAOT_OK;
}

}  // namespace
}  // namespace tiaot

extern "C" tiaot_status tiaot_cuda_release(int32_t device) {
  using namespace tiaot;
  return guarded([&] {
    if (device == -1) return visit_cuda_devices(release);
    CudaDevice *it = nullptr;
    if (tiaot_status status = find_cuda_device(kCaller, device, &it)) return status;
    return release(it);
  });
}
