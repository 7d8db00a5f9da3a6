// cuda_image.hpp: a module's compiled kernels on a device. Knows nothing of arrays and streams.
#pragma once

#include <vector>

#include "cuda_device.hpp"
#include "module.hpp"

namespace tiaot {

struct CudaImage {
  CudaDevice *device;
  const tiaot_cuda_image_desc *desc;
  CUmodule module;
  std::vector<CUfunction> functions;  // in the order of tiaot_cuda_desc::kernels
  CudaImage *next;                    // of the same module, on another device
};

// Which image of the module's the device runs, the one that is loaded or would be. The module has CUDA code.
tiaot_status choose_cuda_image(const CudaCaller &caller, const tiaot_module &module, const CudaDevice &device,
                               const tiaot_cuda_image_desc **image);

// The module's image on the device, whose context is current; loaded at the first call.
tiaot_status load_cuda_image(const CudaCaller &caller, const tiaot_module &module, CudaDevice *device,
                             const CudaImage **image);

}  // namespace tiaot
