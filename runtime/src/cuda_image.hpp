// cuda_image.hpp: a module's compiled kernels on a device. Knows nothing of arrays and streams.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "cuda_device.hpp"
#include "module.hpp"

namespace tiaot {

struct CudaImage {
  CudaDevice *device;
  std::string hash;  // of the module
  uint32_t architecture, kind;
  const tiaot_cuda_desc *tables = nullptr;  // of the module, while one is open
  const tiaot_cuda_image_desc *desc = nullptr;
  CUmodule module = nullptr;
  std::unique_ptr<std::atomic<CUfunction>[]> functions{};  // in the order of the tables; nullptr: not used yet
  CudaImage *next = nullptr;  // of the same module, on another device; or of another closed one, on the same device
};

// Which image of the module's the device runs, the one that is loaded or would be. The module has CUDA code.
tiaot_status choose_cuda_image(const CudaCaller &caller, const tiaot_module &module, const CudaDevice &device,
                               const tiaot_cuda_image_desc **image);

// A kernel of the image, which the driver is asked for at its first use: it loads each on its own. What is asked of the
// driver is *called, for a message.
CUresult find_cuda_function(const CudaImage &image, uint32_t kernel, CUfunction *function, std::string *called);

// The module's image on the device, whose context is current; loaded at the first call.
tiaot_status load_cuda_image(const CudaCaller &caller, const tiaot_module &module, CudaDevice *device,
                             const CudaImage **image);

// Unloads the images of closed modules. The device's context is current, and no work is left on it.
CUresult unload_retired_images(CudaDevice *device);

}  // namespace tiaot
