// cuda_image.cpp: chooses, loads and unloads the images of a module. Knows nothing of arrays and streams.
#include "cuda_image.hpp"

#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "error.hpp"
#include "signature.hpp"

namespace tiaot {
namespace {

bool ptx_allowed() {
  const char *value = std::getenv("TIAOT_CUDA_PTX");
  return value != nullptr && std::strcmp(value, "1") == 0;
}

// A cubin runs on devices of its major capability from its minor on; the nearest was compiled with the most known.
const tiaot_cuda_image_desc *find_image(const tiaot_cuda_desc &desc, uint32_t kind, uint32_t architecture) {
  const tiaot_cuda_image_desc *best = nullptr;
  for (uint32_t i = 0; i < desc.image_count; ++i) {
    const tiaot_cuda_image_desc &image = desc.images[i];
    if (image.kind != kind || image.architecture > architecture) continue;
    if (kind == TIAOT_CUDA_CUBIN && image.architecture / 10 != architecture / 10) continue;
    if (best == nullptr || image.architecture > best->architecture) best = &image;
  }
  return best;
}

std::string capability_text(uint32_t architecture) {
  return std::to_string(architecture / 10) + "." + std::to_string(architecture % 10);
}

[[gnu::cold]] tiaot_status explain_no_image(const CudaCaller &caller, const tiaot_module &module,
                                            const CudaDevice &device) {
  const tiaot_cuda_desc &desc = *module.desc->cuda;
  std::string held;
  for (uint32_t i = 0; i < desc.image_count; ++i) {
    held += (i == 0 ? "" : ", ") + capability_text(desc.images[i].architecture) +
            (desc.images[i].kind == TIAOT_CUDA_PTX ? " as PTX" : "");
  }
  const bool ptx_fits = find_image(desc, TIAOT_CUDA_PTX, device.architecture) != nullptr;
  return raise(TIAOT_ERROR_UNSUPPORTED,
               "%s: module '%s' has no code for cuda:%d (%s, compute capability %s), only for %s: export it with code "
               "for %s%s",
               caller.text().c_str(), module.desc->name, device.ordinal, device.name.c_str(),
               capability_text(device.architecture).c_str(), held.c_str(), capability_text(device.architecture).c_str(),
               ptx_fits ? ", or set TIAOT_CUDA_PTX=1, and the driver compiles the PTX" : "");
}

CudaImage *find_loaded(const tiaot_module &module, const CudaDevice &device) {
  CudaImage *image = module.cuda.images.load(std::memory_order_acquire);
  while (image != nullptr && image->device != &device) image = image->next;
  return image;
}

[[gnu::cold, gnu::noinline]] tiaot_status load_slowly(const CudaCaller &caller, const tiaot_module &module,
                                                      CudaDevice *device, const CudaImage **image) {
  const std::lock_guard<std::mutex> lock(module.cuda.loading);
  if ((*image = find_loaded(module, *device)) != nullptr) return TIAOT_OK;  // by another thread, meanwhile
  const tiaot_cuda_desc &desc = *module.desc->cuda;
  std::unique_ptr<CudaImage> made(new CudaImage{device, nullptr, nullptr, {}, module.cuda.images.load()});
  if (tiaot_status status = choose_cuda_image(caller, module, *device, &made->desc)) return status;
  made->functions.resize(desc.kernel_count);

  const CudaDriver &driver = *device->driver;
  const CudaRelaxedCapture relaxed(driver);  // loading takes memory, and touches no stream
  if (CUresult error = driver.cuModuleLoadData(&made->module, made->desc->data)) {
    return device->failed(caller, "cuModuleLoadData", error);
  }
  for (uint32_t k = 0; k < desc.kernel_count; ++k) {
    if (CUresult error = driver.cuModuleGetFunction(&made->functions[k], made->module, desc.kernels[k])) {
      driver.cuModuleUnload(made->module);
      const std::string call = "cuModuleGetFunction of '" + std::string(desc.kernels[k]) + "'";
      return device->failed(caller, call.c_str(), error);
    }
  }
  *image = made.get();
  module.cuda.images.store(made.release(), std::memory_order_release);
  return TIAOT_OK;
}

}  // namespace

tiaot_status choose_cuda_image(const CudaCaller &caller, const tiaot_module &module, const CudaDevice &device,
                               const tiaot_cuda_image_desc **image) {
  if (const CudaImage *loaded = find_loaded(module, device)) {
    *image = loaded->desc;
    return TIAOT_OK;
  }
  const tiaot_cuda_desc &desc = *module.desc->cuda;
  const tiaot_cuda_image_desc *found = find_image(desc, TIAOT_CUDA_CUBIN, device.architecture);
  if (found == nullptr && ptx_allowed()) found = find_image(desc, TIAOT_CUDA_PTX, device.architecture);
  if (found == nullptr) return explain_no_image(caller, module, device);
  *image = found;
  return TIAOT_OK;
}

tiaot_status load_cuda_image(const CudaCaller &caller, const tiaot_module &module, CudaDevice *device,
                             const CudaImage **image) {
  if ((*image = find_loaded(module, *device)) != nullptr) return TIAOT_OK;
  return load_slowly(caller, module, device, image);
}

// What the driver answers is of no use to anyone here: at the end of the process it may be gone already.
CudaImages::~CudaImages() {
  for (CudaImage *image = images.load(); image != nullptr;) {
    const std::unique_ptr<CudaImage> owned(image);
    image = owned->next;
    CudaDevice *device = owned->device;
    if (cuda_lost_by_fork() || device->unusable.load() != nullptr) continue;
    const CudaDriver &driver = *device->driver;
    if (driver.cuCtxPushCurrent(device->context.load()) != 0) continue;
    {
      // The driver itself waits for kernels that are running before it takes their code away.
      const CudaRelaxedCapture relaxed(driver);
      driver.cuModuleUnload(owned->module);
    }
    CUcontext popped;
    driver.cuCtxPopCurrent(&popped);
  }
}

}  // namespace tiaot

extern "C" tiaot_status tiaot_module_cuda_image(const tiaot_module *module, int32_t device,
                                                const tiaot_cuda_image_desc **image) {
  using namespace tiaot;
  if (module == nullptr || image == nullptr) {
    return raise(TIAOT_ERROR_VALUE, "tiaot_module_cuda_image: %s is NULL", module == nullptr ? "module" : "image");
  }
  return guarded([&] {
    const CudaCaller caller{"tiaot_module_cuda_image"};
    if (module->desc->cuda == nullptr) return explain_no_cuda(caller.text().c_str(), *module->desc);
    CudaDevice *it = nullptr;
    if (tiaot_status status = find_cuda_device(caller, device, &it)) return status;
    return choose_cuda_image(caller, *module, *it, image);
  });
}
