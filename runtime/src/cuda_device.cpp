// cuda_device.cpp: the process's CUDA devices and their contexts; what errors mean. Knows nothing of modules and
// arrays.
#include "cuda_device.hpp"

#include <algorithm>
#include <memory>
#include <vector>

#include "error.hpp"

namespace tiaot {
namespace {

// After these the context is beyond use, and with it the process, as cuda.h says of each; but for those that tell of
// hardware, they stand for a kernel that went wrong: ours, or another's in this process.
constexpr CUresult kSticky[] = {
    214,  // ECC_UNCORRECTABLE
    220,  // NVLINK_UNCORRECTABLE
    226,  // CONTAINED
    700,  // ILLEGAL_ADDRESS
    702,  // LAUNCH_TIMEOUT
    709,  // CONTEXT_IS_DESTROYED
    710,  // ASSERT
    714,  // HARDWARE_STACK_ERROR
    715,  // ILLEGAL_INSTRUCTION
    716,  // MISALIGNED_ADDRESS
    717,  // INVALID_ADDRESS_SPACE
    718,  // INVALID_PC
    719,  // LAUNCH_FAILED
    721,  // TENSOR_MEMORY_LEAK
};

struct Devices {
  std::mutex mutex;
  std::vector<std::unique_ptr<CudaDevice>> list;
};

// Never destroyed: modules may be closed by destructors at the end of the process.
Devices &devices() {
  static Devices *const all = new Devices;
  return *all;
}

tiaot_status describe_device(const CudaCaller &caller, CudaDevice *device) {
  const CudaDriver &driver = *device->driver;
  if (CUresult error = driver.cuDeviceGet(&device->handle, device->ordinal)) {
    return device->failed(caller, "cuDeviceGet", error);
  }
  char name[256] = "";
  if (driver.cuDeviceGetName(name, sizeof name, device->handle) == 0) device->name = name;
  int32_t major = 0, minor = 0, pools = 0;
  const struct {
    int32_t attribute;
    int32_t *value;
  } wanted[] = {{CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, &major},
                {CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, &minor},
                {CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, &device->multiprocessors}};
  for (const auto &it : wanted) {
    if (CUresult error = driver.cuDeviceGetAttribute(it.value, it.attribute, device->handle)) {
      return device->failed(caller, "cuDeviceGetAttribute", error);
    }
  }
  // A driver that does not know the attribute has no pools.
  const CUresult error =
      driver.cuDeviceGetAttribute(&pools, CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED, device->handle);
  device->architecture = static_cast<uint32_t>(10 * major + minor);
  device->multiprocessors = std::max(device->multiprocessors, 1);
  device->pools = error == 0 && pools != 0 && driver.cuMemAllocAsync != nullptr && driver.cuMemFreeAsync != nullptr;
  device->stream_ids = driver.cuStreamGetId != nullptr;
  return TIAOT_OK;
}

tiaot_status retain_context(const CudaCaller &caller, CudaDevice *device) {
  const std::lock_guard<std::mutex> lock(device->mutex);
  if (device->context.load() != nullptr) return TIAOT_OK;
  const CudaRelaxedCapture relaxed(*device->driver);
  CUcontext context = nullptr;
  if (CUresult error = device->driver->cuDevicePrimaryCtxRetain(&context, device->handle)) {
    return device->failed(caller, "cuDevicePrimaryCtxRetain", error);
  }
  device->context.store(context);
  return TIAOT_OK;
}

// A stream that is captured cannot wait for what is on one that is not: trying to would end the capture.
tiaot_status refuse_into_capture(const CudaCaller &caller, CudaDevice *device, CUstream first, CUstream then) {
  int32_t first_is = CU_STREAM_CAPTURE_STATUS_NONE, then_is = CU_STREAM_CAPTURE_STATUS_NONE;
  const CudaDriver &driver = *device->driver;
  if (CUresult error = driver.cuStreamIsCapturing(then, &then_is)) {
    return device->failed(caller, "cuStreamIsCapturing", error);
  }
  if (then_is == CU_STREAM_CAPTURE_STATUS_NONE) return TIAOT_OK;
  if (CUresult error = driver.cuStreamIsCapturing(first, &first_is)) {
    return device->failed(caller, "cuStreamIsCapturing", error);
  }
  if (first_is != CU_STREAM_CAPTURE_STATUS_NONE) return TIAOT_OK;
  return raise(TIAOT_ERROR_VALUE,
               "%s: the stream %p is being captured and would have to wait for the stream %p, which is not: put the "
               "work that is to be captured on one stream, and wait for what comes before in front of the capture",
               caller.text().c_str(), static_cast<void *>(then), static_cast<void *>(first));
}

}  // namespace

tiaot_status CudaDevice::failed(const CudaCaller &caller, const char *function, CUresult error) {
  const std::string text = cuda_error_text(*driver, error);
  const std::string where = caller.text();
  if (std::find(std::begin(kSticky), std::end(kSticky), error) != std::end(kSticky)) {
    // The first one stays: later ones follow from it. Never freed, since other threads may be reading it.
    const std::string *none = nullptr;
    auto *since = new std::string(text + " was reported to " + where);
    if (!unusable.compare_exchange_strong(none, since)) delete since;
    return raise(TIAOT_ERROR_DEVICE,
                 "%s: cuda:%d: %s: %s: a kernel, of this call or of earlier work on the device, has failed; the "
                 "process cannot use the device any more and has to be restarted",
                 where.c_str(), ordinal, function, text.c_str());
  }
  const char *hint = "";
  if (error == CUDA_ERROR_INVALID_HANDLE) hint = ": is the stream one of this device, and not destroyed?";
  if (error == CUDA_ERROR_NO_BINARY_FOR_GPU) hint = ": the module's code does not run on this device";
  return raise(error == CUDA_ERROR_OUT_OF_MEMORY ? TIAOT_ERROR_MEMORY : TIAOT_ERROR_DEVICE, "%s: cuda:%d: %s: %s%s",
               where.c_str(), ordinal, function, text.c_str(), hint);
}

tiaot_status find_cuda_device(const CudaCaller &caller, int32_t ordinal, CudaDevice **device) {
  const CudaDriver *driver = nullptr;
  if (tiaot_status status = open_cuda_driver(caller, &driver)) return status;
  if (ordinal < 0 || ordinal >= driver->device_count) {
    return raise(TIAOT_ERROR_DEVICE, "%s: there is no device cuda:%d: the driver has %d device%s",
                 caller.text().c_str(), ordinal, driver->device_count, driver->device_count == 1 ? "" : "s");
  }
  Devices &all = devices();
  const std::lock_guard<std::mutex> lock(all.mutex);
  all.list.resize(static_cast<size_t>(driver->device_count));
  std::unique_ptr<CudaDevice> &slot = all.list[static_cast<size_t>(ordinal)];
  if (slot == nullptr) {
    std::unique_ptr<CudaDevice> made(new CudaDevice{driver, ordinal});
    if (tiaot_status status = describe_device(caller, made.get())) return status;
    slot = std::move(made);
  }
  *device = slot.get();
  return TIAOT_OK;
}

tiaot_status visit_cuda_devices(tiaot_status (*visit)(CudaDevice *device)) {
  std::vector<CudaDevice *> found;
  {
    const std::lock_guard<std::mutex> lock(devices().mutex);
    for (const std::unique_ptr<CudaDevice> &each : devices().list) {
      if (each != nullptr) found.push_back(each.get());
    }
  }
  for (CudaDevice *device : found) {
    if (tiaot_status status = visit(device)) return status;
  }
  return TIAOT_OK;
}

tiaot_status CudaCurrent::enter(const CudaCaller &caller, CudaDevice *device) {
  const CudaDriver *driver = nullptr;
  if (tiaot_status status = open_cuda_driver(caller, &driver)) return status;
  if (const std::string *since = device->unusable.load(std::memory_order_acquire)) {
    return raise(TIAOT_ERROR_DEVICE, "%s: cuda:%d cannot be used since %s: the process has to be restarted",
                 caller.text().c_str(), device->ordinal, since->c_str());
  }
  CUcontext context = device->context.load(std::memory_order_acquire);
  if (context == nullptr) {
    if (tiaot_status status = retain_context(caller, device)) return status;
    context = device->context.load();
  }
  CUcontext current = nullptr;
  if (CUresult error = driver->cuCtxGetCurrent(&current)) return device->failed(caller, "cuCtxGetCurrent", error);
  if (current == context) return TIAOT_OK;
  if (CUresult error = driver->cuCtxPushCurrent(context)) return device->failed(caller, "cuCtxPushCurrent", error);
  pushed_ = device;
  return TIAOT_OK;
}

void CudaCurrent::leave() {
  CUcontext popped;
  if (pushed_ != nullptr) pushed_->driver->cuCtxPopCurrent(&popped);
  pushed_ = nullptr;
}

}  // namespace tiaot

extern "C" tiaot_status tiaot_cuda_order(int32_t device, void *first, void *then) {
  using namespace tiaot;
  return guarded([&]() -> tiaot_status {
    const CudaCaller caller{"tiaot_cuda_order"};
    CudaDevice *it = nullptr;
    if (tiaot_status status = find_cuda_device(caller, device, &it)) return status;
    if (first == then) return TIAOT_OK;
    CudaCurrent current;
    if (tiaot_status status = current.enter(caller, it)) return status;
    // One event serves all: cuStreamWaitEvent takes what was recorded last, so the two calls must not be parted.
    const std::lock_guard<std::mutex> lock(it->mutex);
    const CudaDriver &driver = *it->driver;
    if (tiaot_status status =
            refuse_into_capture(caller, it, static_cast<CUstream>(first), static_cast<CUstream>(then))) {
      return status;
    }
    if (it->order_event == nullptr) {
      const CudaRelaxedCapture relaxed(driver);
      if (CUresult error = driver.cuEventCreate(&it->order_event, CU_EVENT_DISABLE_TIMING)) {
        return it->failed(caller, "cuEventCreate", error);
      }
    }
    if (CUresult error = driver.cuEventRecord(it->order_event, static_cast<CUstream>(first))) {
      return it->failed(caller, "cuEventRecord", error);
    }
    if (CUresult error = driver.cuStreamWaitEvent(static_cast<CUstream>(then), it->order_event, 0)) {
      return it->failed(caller, "cuStreamWaitEvent", error);
    }
    return TIAOT_OK;
  });
}
