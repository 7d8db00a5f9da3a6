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

// The image of a module that was closed, where this one is the same.
std::unique_ptr<CudaImage> take_retired(CudaDevice *device, const tiaot_module &module,
                                        const tiaot_cuda_image_desc &desc) {
  const std::lock_guard<std::mutex> lock(device->mutex);
  for (CudaImage **place = &device->retired; *place != nullptr; place = &(*place)->next) {
    CudaImage *image = *place;
    if (image->hash != module.desc->hash || image->architecture != desc.architecture || image->kind != desc.kind)
      continue;
    *place = image->next;
    return std::unique_ptr<CudaImage>(image);
  }
  return nullptr;
}

[[gnu::cold, gnu::noinline]] tiaot_status load_slowly(const CudaCaller &caller, const tiaot_module &module,
                                                      CudaDevice *device, const CudaImage **image) {
  const std::lock_guard<std::mutex> lock(module.cuda.loading);
  if ((*image = find_loaded(module, *device)) != nullptr) return TIAOT_OK;  // by another thread, meanwhile
  const tiaot_cuda_image_desc *desc = nullptr;
  if (tiaot_status status = choose_cuda_image(caller, module, *device, &desc)) return status;
  std::unique_ptr<CudaImage> made = take_retired(device, module, *desc);
  if (made == nullptr) {
    made.reset(new CudaImage{device, module.desc->hash, desc->architecture, desc->kind});
    made->functions.reset(new std::atomic<CUfunction>[module.desc->cuda->kernel_count]());
    const CudaRelaxedCapture relaxed(*device->driver);  // loading takes memory, and touches no stream
    if (CUresult error = device->driver->cuModuleLoadData(&made->module, desc->data)) {
      return device->failed(caller, "cuModuleLoadData", error);
    }
  }
  made->tables = module.desc->cuda;
  made->desc = desc;
  made->next = module.cuda.images.load();
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

CUresult find_cuda_function(const CudaImage &image, uint32_t kernel, CUfunction *function, std::string *called) {
  std::atomic<CUfunction> &place = image.functions[kernel];
  *function = place.load(std::memory_order_acquire);
  if (*function != nullptr) return 0;
  const CudaRelaxedCapture relaxed(*image.device->driver);  // it may be loaded only now
  const char *name = image.tables->kernels[kernel];
  const CUresult error = image.device->driver->cuModuleGetFunction(function, image.module, name);
  if (error == 0) {
    place.store(*function, std::memory_order_release);
  } else {
    *called = "cuModuleGetFunction of '" + std::string(name) + "'";
  }
  return error;
}

// A device may still run the code of a module that is closed, and a stream may be captured, during which nothing can be
// waited for: so the code stays where it is, for the same module when it is opened again, until it is asked for that
// nothing stays (tiaot_cuda_release). At the end of the process it goes with the context.
CudaImages::~CudaImages() {
  for (CudaImage *image = images.load(); image != nullptr;) {
    std::unique_ptr<CudaImage> owned(image);
    image = owned->next;
    if (cuda_lost_by_fork()) continue;
    CudaDevice *device = owned->device;
    const std::lock_guard<std::mutex> lock(device->mutex);
    owned->tables = nullptr;
    owned->desc = nullptr;
    owned->next = device->retired;
    device->retired = owned.release();
  }
}

CUresult unload_retired_images(CudaDevice *device) {
  const std::lock_guard<std::mutex> lock(device->mutex);
  while (device->retired != nullptr) {
    const std::unique_ptr<CudaImage> image(device->retired);
    device->retired = image->next;
    if (CUresult error = device->driver->cuModuleUnload(image->module)) return error;
  }
  return 0;
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
