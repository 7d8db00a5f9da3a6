// cuda_driver.cpp: finds the driver's functions in libcuda.so.1 and initialises it, once. Knows nothing of devices'
// state, modules and calls.
#include "cuda_driver.hpp"

#include <dlfcn.h>
#include <pthread.h>

#include <atomic>
#include <mutex>
#include <new>

#include "error.hpp"
#include "signature.hpp"

namespace tiaot {
namespace {

// All of it lives as long as the process does: calls may come from destructors at its end.
struct State {
  std::mutex mutex;
  CudaDriver driver;
  std::string absent;  // what dlopen said, or which function is missing; "" before it was asked
  bool found = false;
};
alignas(State) unsigned char storage[sizeof(State)];
std::atomic<State *> state{nullptr};
std::atomic<bool> ready{false};  // the driver is initialised
std::atomic<bool> used{false};   // as `ready`, and while it is being initialised
std::atomic<bool> forked{false};

// In the child there is one thread. A lock that another held in the parent stays locked for ever, so where the driver
// was not used, everything starts anew; where it was, nothing is touched again.
void in_child() {
  if (used.load()) {
    forked.store(true);
  } else if (state.load() != nullptr) {
    state.store(new (storage) State);
  }
}

State &the_state() {
  static const bool made = [] {
    state.store(new (storage) State);
    return pthread_atfork(nullptr, nullptr, in_child) == 0;
  }();
  static_cast<void>(made);
  return *state.load();
}

std::string find_functions(CudaDriver *driver) {
  // Never closed: the driver's own threads and handlers outlive any use that there is of it here.
  void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char *reason = dlerror();
    return reason != nullptr ? reason : "the loader gives no reason";
  }
#define TIAOT_CUDA_FIND(name, symbol, parameters) \
  driver->name = reinterpret_cast<decltype(driver->name)>(dlsym(library, symbol));
#define TIAOT_CUDA_DEMAND(name, symbol, parameters) \
  if (driver->name == nullptr) return "libcuda.so.1 has no function " symbol ": the driver is too old";
  TIAOT_CUDA_REQUIRED(TIAOT_CUDA_FIND)
  TIAOT_CUDA_OPTIONAL(TIAOT_CUDA_FIND)
  TIAOT_CUDA_REQUIRED(TIAOT_CUDA_DEMAND)
#undef TIAOT_CUDA_FIND
#undef TIAOT_CUDA_DEMAND
  return "";
}

tiaot_status initialise(const CudaCaller &caller, CudaDriver *driver) {
  const CUresult result = driver->cuInit(0);
  if (result == CUDA_ERROR_NO_DEVICE) {
    driver->device_count = 0;
    return TIAOT_OK;
  }
  if (result == CUDA_ERROR_NOT_INITIALIZED) {  // what the driver answers where a parent process had initialised it
    return raise(TIAOT_ERROR_DEVICE,
                 "%s: cuInit: %s: if CUDA was used before this process was forked, start processes with spawn",
                 caller.text().c_str(), cuda_error_text(*driver, result).c_str());
  }
  const char *function = "cuInit";
  CUresult error = result;
  if (error == 0) {
    function = "cuDeviceGetCount";
    error = driver->cuDeviceGetCount(&driver->device_count);
  }
  if (error == 0) return TIAOT_OK;
  return raise(TIAOT_ERROR_DEVICE, "%s: cannot initialise CUDA: %s: %s", caller.text().c_str(), function,
               cuda_error_text(*driver, error).c_str());
}

[[gnu::cold, gnu::noinline]] tiaot_status open_slowly(const CudaCaller &caller, const CudaDriver **driver) {
  State &it = the_state();
  const std::lock_guard<std::mutex> lock(it.mutex);
  if (!ready.load()) {
    if (!it.found && it.absent.empty()) {
      it.absent = find_functions(&it.driver);
      it.found = it.absent.empty();
    }
    if (!it.found) {
      return raise(TIAOT_ERROR_DEVICE, "%s: there is no CUDA driver: %s", caller.text().c_str(), it.absent.c_str());
    }
    used.store(true);  // before the driver starts threads: a fork from here on is a fork of a process that uses it
    const tiaot_status status = initialise(caller, &it.driver);
    if (status != TIAOT_OK) {
      used.store(false);
      return status;
    }
    ready.store(true, std::memory_order_release);
  }
  *driver = &it.driver;
  return TIAOT_OK;
}

}  // namespace

std::string CudaCaller::text() const {
  return entry < 0 ? std::string(name) : std::string(name) + "." + entry_name(entry);
}

std::string cuda_error_text(const CudaDriver &driver, CUresult error) {
  const char *name = nullptr, *text = nullptr;
  if (driver.cuGetErrorName(error, &name) != 0 || name == nullptr) return "error " + std::to_string(error);
  if (driver.cuGetErrorString(error, &text) != 0 || text == nullptr) return name;
  return std::string(name) + " (" + text + ")";
}

bool cuda_lost_by_fork() { return forked.load(std::memory_order_relaxed); }

tiaot_status open_cuda_driver(const CudaCaller &caller, const CudaDriver **driver) {
  if (cuda_lost_by_fork()) {
    return raise(TIAOT_ERROR_DEVICE, "%s: CUDA was used before this process was forked: start processes with spawn",
                 caller.text().c_str());
  }
  if (!ready.load(std::memory_order_acquire)) return open_slowly(caller, driver);
  *driver = &state.load(std::memory_order_relaxed)->driver;
  return TIAOT_OK;
}

}  // namespace tiaot

extern "C" tiaot_status tiaot_cuda_device_count(int32_t *count) {
  using namespace tiaot;
  if (count == nullptr) return raise(TIAOT_ERROR_VALUE, "tiaot_cuda_device_count: count is NULL");
  return guarded([&] {
    const CudaDriver *driver = nullptr;
    if (tiaot_status status = open_cuda_driver({"tiaot_cuda_device_count"}, &driver)) return status;
    *count = driver->device_count;
    return TIAOT_OK;
  });
}
