// standin_cuda.cpp: a CUDA driver of host memory that writes down what it is asked for; see standin_cuda.h. Knows
// nothing of tiaot. With python/ on the path of includes, and python/ptx/*.cpp beside it, it is made by
// c++ -shared -fPIC -std=c++17 -ffp-contract=off -Wl,-soname,libcuda.so.1 ... -o libcuda.so.1 -ldl
// With STANDIN_OLD it is a driver from before CUDA 12: it has no cuStreamGetId.
#include "standin_cuda.h"

#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>

#include <chrono>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "ptx/launch.hpp"

#define API extern "C" __attribute__((visibility("default")))

namespace {

using Result = int32_t;
constexpr Result kInvalidValue = 1, kNotInitialized = 3, kNoDevice = 100, kInvalidDevice = 101, kInvalidImage = 200,
                 kInvalidContext = 201, kInvalidPtx = 218, kInvalidHandle = 400, kNotFound = 500, kOutOfResources = 701,
                 kCaptureUnsupported = 900;
constexpr int32_t kMaxDevices = 16;

struct Context {
  int32_t device;
};

struct Module;
struct Function {
  const Module *module;
  std::string name;
  standin_kernel kernel;
  const ptx::Function *interpreted;
};
struct Module {
  int32_t number, device;
  void *library = nullptr;  // of an ELF image
  const standin_named_kernel *kernels = nullptr;
  std::unique_ptr<ptx::Program> program;  // of PTX
  std::vector<std::unique_ptr<Function>> functions;
};

struct Failure {
  int32_t error, after, times;
};

struct Event {
  int64_t recorded = 0;
};

struct Driver {
  std::mutex mutex;
  bool initialised = false;
  int32_t device_count = 1, capability = 90, multiprocessors = 2, pools = 1, sticky = 0, load_time = 0, modules = 0;
  std::string log, log_copy;
  std::map<std::string, Failure> failures;
  std::set<void *> capturing;
  std::map<void *, std::vector<std::function<void()>>> recorded;  // what replays do, of streams that are recorded
  std::map<void *, uint64_t> stream_ids;
  std::map<void *, size_t> allocations;
  Context contexts[kMaxDevices];
  ptx::Memory memory;  // what kernels in PTX may touch
  ptx::Settings settings;
  int64_t steps = 0;
  int32_t functions = 0;
  bool described = false;  // a test has said what arrays there are: then fills and copies are checked, too
  bool skip_work = false;
  std::set<uint64_t> pinned;
  std::string findings_copy, ptx, replacement;

  void add_workspace(void *address, size_t bytes) {
    memory.add(reinterpret_cast<uint64_t>(address), bytes, "workspace", true, false, 2);  // of float16 at the least
  }
  void check_range(const char *function, uint64_t address, uint64_t bytes, bool write) {
    if (described) memory.check_range(function, address, bytes, write);
  }
};

// Never destroyed: the code under test may close its modules at the very end.
Driver &driver() {
  static Driver *const it = [] {
    auto *made = new Driver;
    for (int32_t i = 0; i < kMaxDevices; ++i) made->contexts[i].device = i;
    return made;
  }();
  return *it;
}

thread_local std::vector<Context *> current;  // a stack, its top at the back; nullptr: no context

Context *top() { return current.empty() ? nullptr : current.back(); }

// One call of the driver: whether it fails, and its line in the log.
class Call {
 public:
  explicit Call(const char *function) : lock_(driver().mutex), line_(function) {
    Driver &it = driver();
    const auto found = it.failures.find(function);
    if (found != it.failures.end() && found->second.times > 0 && found->second.after-- <= 0) {
      --found->second.times;
      result = found->second.error;
    }
    if (result == 0) result = it.sticky;
    if (result == 0 && !it.initialised && line_ != "cuInit") result = kNotInitialized;
  }

  // For functions that work on the current context.
  void need_context() {
    if (result == 0 && top() == nullptr) result = kInvalidContext;
    say(" device=%d", top() != nullptr ? top()->device : -1);
  }
  void on_stream(void *stream) {
    need_context();
    say(" stream=0x%llx", static_cast<unsigned long long>(reinterpret_cast<uintptr_t>(stream)));
    captured = driver().capturing.count(stream) != 0;
    stream_ = stream;
  }
  // Of a call that is put on a recorded stream: what to do when it is replayed.
  template <typename Again>
  void record(Again &&again) {
    const auto found = driver().recorded.find(stream_);
    if (result == 0 && captured && found != driver().recorded.end()) found->second.emplace_back(again);
  }
  bool recorded() const { return captured && driver().recorded.count(stream_) != 0; }
  [[gnu::format(printf, 2, 3)]] void say(const char *format, ...) {
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    line_ += text;
  }
  // Writes the line; with `quiet` only that of a call that fails.
  Result end(bool quiet = false) {
    if (quiet && result == 0) return 0;
    if (captured) line_ += " captured";
    if (result != 0) say(" -> %d", result);
    driver().log += line_ + "\n";
    return result;
  }
  bool runs() const { return result == 0 && !captured && !driver().skip_work; }
  void unlock() { lock_.unlock(); }

  Result result = 0;
  bool captured = false;

 private:
  std::unique_lock<std::mutex> lock_;
  std::string line_;
  void *stream_ = nullptr;
};

// An ELF image's size, from where its section headers end.
size_t elf_bytes(const unsigned char *image) {
  uint64_t offset;
  uint16_t size, count;
  std::memcpy(&offset, image + 40, sizeof offset);
  std::memcpy(&size, image + 58, sizeof size);
  std::memcpy(&count, image + 60, sizeof count);
  return static_cast<size_t>(offset) + size_t{size} * count;
}

void *open_elf(const unsigned char *image) {
  const int file = memfd_create("standin", MFD_CLOEXEC);
  if (file < 0) return nullptr;
  const size_t bytes = elf_bytes(image);
  void *library = nullptr;
  if (write(file, image, bytes) == static_cast<ssize_t>(bytes)) {
    library = dlopen(("/proc/self/fd/" + std::to_string(file)).c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) std::fprintf(stderr, "standin: %s\n", dlerror());
  }
  // Left open: the loader takes another memfd for the same file when it has the same name, the descriptor's.
  return library;
}

template <typename T>
Result set_2d(const char *function, uint64_t target, size_t pitch, T value, size_t width, size_t height, void *stream) {
  Call call(function);
  call.on_stream(stream);
  call.say(" pitch=%zu value=0x%llx width=%zu height=%zu", pitch, static_cast<unsigned long long>(value), width,
           height);
  if (call.result == 0 && target % sizeof(T) != 0) call.result = kInvalidValue;
  call.record([=] { set_2d(function, target, pitch, value, width, height, stream); });
  for (size_t row = 0; call.runs() && row < height; ++row) {
    driver().check_range(function, target + row * pitch, width * sizeof(T), true);
    T *line = reinterpret_cast<T *>(target + row * pitch);
    for (size_t i = 0; i < width; ++i) line[i] = value;
  }
  return call.end();
}

Result allocate(Call &call, uint64_t *address, size_t bytes) {
  call.say(" bytes=%zu", bytes);
  if (call.result == 0) {
    void *memory = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
    driver().allocations[memory] = bytes;
    *address = reinterpret_cast<uintptr_t>(memory);
    if (!driver().skip_work) driver().add_workspace(memory, bytes);
  }
  return call.end();
}

Result free_memory(Call &call, uint64_t address) {
  void *memory = reinterpret_cast<void *>(address);
  if (call.recorded()) return call.end();  // the graph keeps it
  if (call.result == 0 && driver().allocations.erase(memory) == 0) call.result = kInvalidValue;
  if (call.result == 0) {
    driver().memory.remove(address);
    std::free(memory);
  }
  return call.end();
}

}  // namespace

// ---- what tests use

API void standin_reset(void) {
  Driver &it = driver();
  const std::lock_guard<std::mutex> lock(it.mutex);
  it.device_count = 1;
  it.capability = 90;
  it.multiprocessors = 2;
  it.pools = 1;
  it.sticky = it.load_time = 0;
  it.log.clear();
  it.failures.clear();
  it.capturing.clear();
  it.recorded.clear();
  it.stream_ids.clear();
  it.skip_work = false;
}

API const char *standin_log(void) {
  const std::lock_guard<std::mutex> lock(driver().mutex);
  driver().log_copy = driver().log;
  return driver().log_copy.c_str();
}
API void standin_clear_log(void) {
  const std::lock_guard<std::mutex> lock(driver().mutex);
  driver().log.clear();
}
API void standin_set_device_count(int32_t count) {
  const std::lock_guard<std::mutex> lock(driver().mutex);
  driver().device_count = count < kMaxDevices ? count : kMaxDevices;
}
API void standin_set_device(int32_t capability, int32_t multiprocessors, int32_t memory_pools) {
  const std::lock_guard<std::mutex> lock(driver().mutex);
  driver().capability = capability;
  driver().multiprocessors = multiprocessors;
  driver().pools = memory_pools;
}
API void standin_fail(const char *function, int32_t error, int32_t after, int32_t times) {
  const std::lock_guard<std::mutex> lock(driver().mutex);
  driver().failures[function] = {error, after, times};
}
API void standin_set_sticky(int32_t error) {
  const std::lock_guard<std::mutex> lock(driver().mutex);
  driver().sticky = error;
}
API void standin_capture(void *stream, int32_t capturing) {
  const std::lock_guard<std::mutex> lock(driver().mutex);
  if (capturing) {
    driver().capturing.insert(stream);
  } else {
    driver().capturing.erase(stream);
  }
}
API void standin_record(void *stream) {
  const std::lock_guard<std::mutex> lock(driver().mutex);
  driver().capturing.insert(stream);
  driver().recorded[stream].clear();
}
API int32_t standin_replay(void *stream) {
  std::vector<std::function<void()>> work;
  {
    const std::lock_guard<std::mutex> lock(driver().mutex);
    work = driver().recorded[stream];
  }
  current.push_back(&driver().contexts[0]);
  for (const std::function<void()> &each : work) each();
  current.pop_back();
  return static_cast<int32_t>(work.size());
}
API void standin_set_stream_id(void *stream, uint64_t id) {
  const std::lock_guard<std::mutex> lock(driver().mutex);
  driver().stream_ids[stream] = id;
}
API void standin_set_current(int32_t device) {
  if (current.empty()) current.push_back(nullptr);
  current.back() = device < 0 ? nullptr : &driver().contexts[device];
}
API int32_t standin_current(void) { return top() == nullptr ? -1 : top()->device; }
API void standin_set_pinned(const void *start) {
  const std::lock_guard<std::mutex> lock(driver().mutex);
  driver().pinned.insert(reinterpret_cast<uint64_t>(start));
}
API void standin_set_load_time(int32_t milliseconds) {
  const std::lock_guard<std::mutex> lock(driver().mutex);
  driver().load_time = milliseconds;
}
API int32_t standin_functions(void) {
  const std::lock_guard<std::mutex> lock(driver().mutex);
  return driver().functions;
}
API int64_t standin_allocated(void) {
  const std::lock_guard<std::mutex> lock(driver().mutex);
  int64_t bytes = 0;
  for (const auto &allocation : driver().allocations) bytes += static_cast<int64_t>(allocation.second);
  return bytes;
}

API void standin_describe_memory(const void *start, int64_t bytes, const char *name, int32_t writable,
                                 int32_t holds_values, int32_t item) {
  const std::lock_guard<std::mutex> lock(driver().mutex);
  driver().described = true;
  if (bytes > 0) {
    driver().memory.add(reinterpret_cast<uint64_t>(start), static_cast<uint64_t>(bytes), name, writable != 0,
                        holds_values != 0, item);
  }
}
API void standin_forget_memory(const void *start) {
  const std::lock_guard<std::mutex> lock(driver().mutex);
  if (start != nullptr) return driver().memory.remove(reinterpret_cast<uint64_t>(start));
  driver().memory = ptx::Memory();
  for (const auto &each : driver().allocations) driver().add_workspace(each.first, each.second);
}
API int64_t standin_unwritten(const void *start) {
  const std::lock_guard<std::mutex> lock(driver().mutex);
  const ptx::Region *region = driver().memory.at(reinterpret_cast<uint64_t>(start));
  return region == nullptr ? 0 : static_cast<int64_t>(region->unwritten());
}
API void standin_spoil_workspace(void) {
  const std::lock_guard<std::mutex> lock(driver().mutex);
  for (const auto &allocation : driver().allocations) {
    std::memset(allocation.first, 0xFF, allocation.second);
    ptx::Region *region = driver().memory.at(reinterpret_cast<uint64_t>(allocation.first));
    if (region != nullptr) region->mark(region->start, region->bytes, false);
  }
}
API void standin_set_interpreter(int32_t order, int32_t off, int64_t most_steps) {
  const std::lock_guard<std::mutex> lock(driver().mutex);
  driver().settings = ptx::Settings();
  driver().settings.order = static_cast<ptx::Order>(order);
  driver().settings.off = off != 0;
  if (most_steps > 0) driver().settings.most_steps = static_cast<uint64_t>(most_steps);
}
API const char *standin_ptx(void) {
  const std::lock_guard<std::mutex> lock(driver().mutex);
  return driver().ptx.c_str();
}
API void standin_replace_ptx(const char *text) {
  const std::lock_guard<std::mutex> lock(driver().mutex);
  driver().replacement = text != nullptr ? text : "";
}
API const char *standin_findings(void) {
  const std::lock_guard<std::mutex> lock(driver().mutex);
  driver().findings_copy = driver().memory.findings();
  driver().memory.clear_findings();
  return driver().findings_copy.c_str();
}
API void standin_skip_work(int32_t skip) {
  const std::lock_guard<std::mutex> lock(driver().mutex);
  driver().skip_work = skip != 0;
}
API int64_t standin_steps(void) {
  const std::lock_guard<std::mutex> lock(driver().mutex);
  return driver().steps;
}

// ---- the driver's interface

API Result cuInit(uint32_t) {
  Call call("cuInit");
  if (call.result == 0 && driver().device_count == 0) call.result = kNoDevice;
  if (call.result == 0) driver().initialised = true;
  return call.end();
}

API Result cuGetErrorName(Result error, const char **text) {
  static const std::map<Result, const char *> names = {{1, "CUDA_ERROR_INVALID_VALUE"},
                                                       {2, "CUDA_ERROR_OUT_OF_MEMORY"},
                                                       {3, "CUDA_ERROR_NOT_INITIALIZED"},
                                                       {4, "CUDA_ERROR_DEINITIALIZED"},
                                                       {100, "CUDA_ERROR_NO_DEVICE"},
                                                       {101, "CUDA_ERROR_INVALID_DEVICE"},
                                                       {200, "CUDA_ERROR_INVALID_IMAGE"},
                                                       {201, "CUDA_ERROR_INVALID_CONTEXT"},
                                                       {209, "CUDA_ERROR_NO_BINARY_FOR_GPU"},
                                                       {218, "CUDA_ERROR_INVALID_PTX"},
                                                       {400, "CUDA_ERROR_INVALID_HANDLE"},
                                                       {500, "CUDA_ERROR_NOT_FOUND"},
                                                       {700, "CUDA_ERROR_ILLEGAL_ADDRESS"},
                                                       {719, "CUDA_ERROR_LAUNCH_FAILED"},
                                                       {802, "CUDA_ERROR_SYSTEM_NOT_READY"},
                                                       {900, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"},
                                                       {906, "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT"}};
  const auto found = names.find(error);
  *text = found == names.end() ? nullptr : found->second;
  return found == names.end() ? kInvalidValue : 0;
}
API Result cuGetErrorString(Result error, const char **text) {
  const char *name;
  if (cuGetErrorName(error, &name) != 0) return kInvalidValue;
  *text = error == 700 ? "an illegal memory access was encountered" : "as the stand-in says";
  return 0;
}

API Result cuDeviceGetCount(int32_t *count) {
  Call call("cuDeviceGetCount");
  if (call.result == 0) *count = driver().device_count;
  return call.end(true);
}
API Result cuDeviceGet(int32_t *device, int32_t ordinal) {
  Call call("cuDeviceGet");
  if (call.result == 0 && (ordinal < 0 || ordinal >= driver().device_count)) call.result = kInvalidDevice;
  if (call.result == 0) *device = ordinal;
  return call.end(true);
}
API Result cuDeviceGetName(char *name, int32_t length, int32_t) {
  Call call("cuDeviceGetName");
  if (call.result == 0) std::snprintf(name, static_cast<size_t>(length), "Stand-in");
  return call.end(true);
}
API Result cuDeviceGetAttribute(int32_t *value, int32_t attribute, int32_t) {
  Call call("cuDeviceGetAttribute");
  const Driver &it = driver();
  const std::map<int32_t, int32_t> values = {
      {16, it.multiprocessors}, {75, it.capability / 10}, {76, it.capability % 10}, {115, it.pools}};
  if (call.result == 0 && values.count(attribute) == 0) call.result = kInvalidValue;
  if (call.result == 0) *value = values.at(attribute);
  return call.end(true);
}

API Result cuDevicePrimaryCtxRetain(Context **context, int32_t device) {
  Call call("cuDevicePrimaryCtxRetain");
  call.say(" device=%d", device);
  if (call.result == 0) *context = &driver().contexts[device];
  return call.end();
}
API Result cuCtxGetCurrent(Context **context) {
  Call call("cuCtxGetCurrent");
  if (call.result == 0) *context = top();
  return call.end(true);
}
API Result cuCtxPushCurrent_v2(Context *context) {
  Call call("cuCtxPushCurrent");
  call.say(" device=%d", context->device);
  if (call.result == 0) current.push_back(context);
  return call.end();
}
API Result cuCtxPopCurrent_v2(Context **context) {
  Call call("cuCtxPopCurrent");
  if (top() == nullptr) call.result = kInvalidContext;
  call.say(" device=%d", top() != nullptr ? top()->device : -1);
  // A context is popped after an error of a kernel, too.
  if (top() == nullptr) return call.end();
  *context = current.back();
  current.pop_back();
  return call.end();
}

API Result cuCtxSynchronize() {
  Call call("cuCtxSynchronize");
  call.need_context();
  if (call.result == 0 && !driver().capturing.empty()) {  // and the captures are lost
    driver().capturing.clear();
    call.result = kCaptureUnsupported;
  }
  return call.end();
}

API Result cuModuleLoadData(Module **module, const void *image) {
  {
    Call call("cuModuleLoadData");
    call.need_context();
    if (call.result != 0) return call.end();
    if (driver().load_time > 0) {
      call.unlock();
      std::this_thread::sleep_for(std::chrono::milliseconds(driver().load_time));
    }
  }
  auto made = std::make_unique<Module>();
  Result result = 0;
  if (std::memcmp(image, "\177ELF", 4) == 0) {
    made->library = open_elf(static_cast<const unsigned char *>(image));
    if (made->library == nullptr) result = kInvalidImage;
  } else if (std::memcmp(image, "STANDIN", 8) == 0) {
    made->kernels = static_cast<const standin_image *>(image)->kernels;
  } else if (std::string text = ptx::text_of(image); !text.empty()) {
    const std::lock_guard<std::mutex> lock(driver().mutex);
    if (!driver().replacement.empty()) text = driver().replacement;
    driver().ptx = text;
    try {
      made->program = ptx::parse(text);
    } catch (const std::exception &error) {
      std::fprintf(stderr, "standin: %s\n", error.what());
      result = kInvalidPtx;
    }
  } else {
    result = kInvalidImage;
  }
  const std::lock_guard<std::mutex> lock(driver().mutex);
  made->device = top()->device;
  made->number = ++driver().modules;
  driver().log += "cuModuleLoadData device=" + std::to_string(made->device) +
                  " module=" + std::to_string(made->number) + (result != 0 ? " -> " + std::to_string(result) : "") +
                  "\n";
  if (result == 0) *module = made.release();
  return result;
}
API Result cuModuleUnload(Module *module) {
  Call call("cuModuleUnload");
  call.need_context();
  call.say(" module=%d", module->number);
  if (call.result == 0 && top()->device != module->device) call.result = kInvalidHandle;
  if (call.result == 0) {
    if (module->library != nullptr) dlclose(module->library);
    delete module;
  }
  return call.end();
}
API Result cuModuleGetFunction(Function **function, Module *module, const char *name) {
  Call call("cuModuleGetFunction");
  call.need_context();
  standin_kernel kernel = nullptr;
  if (module->library != nullptr) kernel = reinterpret_cast<standin_kernel>(dlsym(module->library, name));
  for (const standin_named_kernel *it = module->kernels; it != nullptr && it->name != nullptr; ++it) {
    if (std::strcmp(it->name, name) == 0) kernel = it->function;
  }
  const ptx::Function *interpreted = module->program != nullptr ? module->program->kernel(name) : nullptr;
  call.say(" kernel=%s", name);
  if (call.result == 0 && kernel == nullptr && interpreted == nullptr) call.result = kNotFound;
  if (call.result == 0) {
    ++driver().functions;
    module->functions.emplace_back(new Function{module, name, kernel, interpreted});
    *function = module->functions.back().get();
  }
  return call.end(true);
}

API Result cuLaunchKernel(Function *function, uint32_t grid, uint32_t grid_y, uint32_t grid_z, uint32_t block,
                          uint32_t block_y, uint32_t block_z, uint32_t, void *stream, void **parameters, void **) {
  Call call("cuLaunchKernel");
  call.on_stream(stream);
  call.say(" kernel=%s grid=%u block=%u", function->name.c_str(), grid, block);
  if (call.result == 0 && function->module->device != top()->device) call.result = kInvalidHandle;
  if (call.result == 0 && (grid == 0 || block == 0 || grid > INT32_MAX || block > 1024 || grid_y != 1 || grid_z != 1 ||
                           block_y != 1 || block_z != 1)) {
    call.result = kInvalidValue;
  }
  if (call.recorded() && function->interpreted != nullptr) {
    const ptx::Function &kernel = *function->interpreted;
    std::vector<std::vector<uint8_t>> values;
    for (size_t i = 0; i < kernel.formals.size(); ++i) {
      const auto *value = static_cast<const uint8_t *>(parameters[i]);
      values.emplace_back(value, value + kernel.parameters.slots.at(kernel.formals[i]).bytes);
    }
    call.record([=]() mutable {
      std::vector<void *> again;
      for (std::vector<uint8_t> &each : values) again.push_back(each.data());
      cuLaunchKernel(function, grid, 1, 1, block, 1, 1, 0, stream, again.data(), nullptr);
    });
  }
  const bool runs = call.runs();
  if (runs && function->interpreted != nullptr) {
    Driver &it = driver();
    try {
      it.steps +=
          static_cast<int64_t>(ptx::run(*function->interpreted, grid, block, parameters, it.memory, it.settings));
    } catch (const ptx::Error &error) {
      it.memory.report("given up", error.what(), "in a launch of " + std::to_string(grid) + " blocks");
      call.result = kOutOfResources;
    }
    return call.end();
  }
  const Result result = call.end();
  call.unlock();
  const int64_t threads = int64_t{grid} * block;
  for (int64_t thread = 0; runs && thread < threads; ++thread) function->kernel(parameters, thread, threads);
  return result;
}

API Result cuMemsetD8Async(uint64_t target, uint8_t value, size_t count, void *stream) {
  Call call("cuMemsetD8Async");
  call.on_stream(stream);
  call.say(" bytes=%zu value=%d", count, value);
  call.record([=] { cuMemsetD8Async(target, value, count, stream); });
  if (call.runs()) {
    driver().check_range("cuMemsetD8Async", target, count, true);
    std::memset(reinterpret_cast<void *>(target), value, count);
  }
  return call.end();
}
API Result cuMemsetD2D8Async(uint64_t target, size_t pitch, uint8_t value, size_t width, size_t height, void *stream) {
  return set_2d("cuMemsetD2D8Async", target, pitch, value, width, height, stream);
}
API Result cuMemsetD2D16Async(uint64_t target, size_t pitch, uint16_t value, size_t width, size_t height,
                              void *stream) {
  return set_2d("cuMemsetD2D16Async", target, pitch, value, width, height, stream);
}
API Result cuMemsetD2D32Async(uint64_t target, size_t pitch, uint32_t value, size_t width, size_t height,
                              void *stream) {
  return set_2d("cuMemsetD2D32Async", target, pitch, value, width, height, stream);
}
API Result cuMemcpyDtoDAsync_v2(uint64_t target, uint64_t source, size_t bytes, void *stream) {
  Call call("cuMemcpyDtoDAsync");
  call.on_stream(stream);
  call.say(" bytes=%zu", bytes);
  call.record([=] { cuMemcpyDtoDAsync_v2(target, source, bytes, stream); });
  if (call.runs()) {
    driver().check_range("cuMemcpyDtoDAsync", source, bytes, false);
    driver().check_range("cuMemcpyDtoDAsync", target, bytes, true);
    std::memcpy(reinterpret_cast<void *>(target), reinterpret_cast<const void *>(source), bytes);
  }
  return call.end();
}

API Result cuMemcpyHtoDAsync_v2(uint64_t target, const void *source, size_t bytes, void *stream) {
  Call call("cuMemcpyHtoDAsync");
  call.on_stream(stream);
  call.say(" bytes=%zu", bytes);
  if (call.runs()) {
    driver().check_range("cuMemcpyHtoDAsync", target, bytes, true);
    std::memcpy(reinterpret_cast<void *>(target), source, bytes);
  }
  return call.end();
}
API Result cuMemcpyDtoHAsync_v2(void *target, uint64_t source, size_t bytes, void *stream) {
  Call call("cuMemcpyDtoHAsync");
  call.on_stream(stream);
  call.say(" bytes=%zu", bytes);
  if (call.runs()) {
    driver().check_range("cuMemcpyDtoHAsync", source, bytes, false);
    std::memcpy(target, reinterpret_cast<const void *>(source), bytes);
  }
  return call.end();
}

struct Copy2D {
  size_t source_x, source_y;
  int32_t source_kind;
  const void *source_host;
  uint64_t source;
  void *source_array;
  size_t source_pitch;
  size_t target_x, target_y;
  int32_t target_kind;
  void *target_host;
  uint64_t target;
  void *target_array;
  size_t target_pitch;
  size_t width, height;
};
API Result cuMemcpy2DAsync_v2(const Copy2D *copy, void *stream) {
  Call call("cuMemcpy2DAsync");
  call.on_stream(stream);
  call.say(" width=%zu height=%zu pitches=%zu,%zu", copy->width, copy->height, copy->source_pitch, copy->target_pitch);
  if (call.result == 0 && (copy->source_kind != 2 || copy->target_kind != 2 || copy->source_pitch < copy->width ||
                           copy->target_pitch < copy->width)) {
    call.result = kInvalidValue;
  }
  call.record([it = *copy, stream] { cuMemcpy2DAsync_v2(&it, stream); });
  for (size_t row = 0; call.runs() && row < copy->height; ++row) {
    const uint64_t target = copy->target + (copy->target_y + row) * copy->target_pitch + copy->target_x;
    const uint64_t source = copy->source + (copy->source_y + row) * copy->source_pitch + copy->source_x;
    driver().check_range("cuMemcpy2DAsync", source, copy->width, false);
    driver().check_range("cuMemcpy2DAsync", target, copy->width, true);
    std::memcpy(reinterpret_cast<void *>(target), reinterpret_cast<const void *>(source), copy->width);
  }
  return call.end();
}

API Result cuMemAlloc_v2(uint64_t *address, size_t bytes) {
  Call call("cuMemAlloc");
  call.need_context();
  return allocate(call, address, bytes);
}
API Result cuMemAllocAsync(uint64_t *address, size_t bytes, void *stream) {
  Call call("cuMemAllocAsync");
  call.on_stream(stream);
  return allocate(call, address, bytes);
}
API Result cuMemFree_v2(uint64_t address) {
  Call call("cuMemFree");
  call.need_context();
  return free_memory(call, address);
}
API Result cuMemFreeAsync(uint64_t address, void *stream) {
  Call call("cuMemFreeAsync");
  call.on_stream(stream);
  return free_memory(call, address);
}

API Result cuStreamIsCapturing(void *stream, int32_t *status) {
  Call call("cuStreamIsCapturing");
  if (call.result == 0) *status = driver().capturing.count(stream) != 0 ? 1 : 0;
  return call.end(true);
}
API Result cuStreamSynchronize(void *stream) {
  Call call("cuStreamSynchronize");
  call.on_stream(stream);
  if (call.result == 0 && call.captured) {  // and the capture is lost
    driver().capturing.erase(stream);
    call.result = kCaptureUnsupported;
  }
  return call.end();
}
API Result cuThreadExchangeStreamCaptureMode(int32_t *mode) {
  thread_local int32_t own = 0;
  Call call("cuThreadExchangeStreamCaptureMode");
  if (call.result == 0) std::swap(*mode, own);
  return call.end(true);
}
#ifndef STANDIN_OLD
API Result cuStreamGetId(void *stream, uint64_t *id) {
  Call call("cuStreamGetId");
  const auto found = driver().stream_ids.find(stream);
  // The legacy default stream has two handles, and each thread its own default stream behind a third.
  const uint64_t own = stream == nullptr                          ? 1
                       : reinterpret_cast<uintptr_t>(stream) == 2 ? 1000 + static_cast<uint64_t>(gettid())
                                                                  : reinterpret_cast<uintptr_t>(stream);
  if (call.result == 0) *id = found != driver().stream_ids.end() ? found->second : own;
  return call.end(true);
}
#endif

API Result cuEventCreate(Event **event, uint32_t flags) {
  Call call("cuEventCreate");
  call.need_context();
  call.say(" flags=%u", flags);
  if (call.result == 0) *event = new Event;
  return call.end();
}
API Result cuEventRecord(Event *event, void *stream) {
  Call call("cuEventRecord");
  call.on_stream(stream);
  if (call.result == 0) ++event->recorded;
  return call.end();
}
API Result cuStreamWaitEvent(void *stream, Event *event, uint32_t) {
  Call call("cuStreamWaitEvent");
  call.on_stream(stream);
  if (call.result == 0 && event->recorded == 0) call.result = kInvalidHandle;
  return call.end();
}

API Result cuPointerGetAttribute(void *value, int32_t attribute, uint64_t address) {
  constexpr int32_t kMemoryType = 2, kIsManaged = 8, kDeviceOrdinal = 9;
  if (address == 0) return kInvalidValue;
  const std::lock_guard<std::mutex> lock(driver().mutex);
  const bool pinned = driver().pinned.count(address) != 0;
  // All of the host's memory is the first device's; pinned memory says so, too, but for its type.
  int32_t answer = 0;
  if (attribute == kMemoryType) {
    answer = pinned ? 1 : 2;
  } else if (attribute != kDeviceOrdinal && attribute != kIsManaged) {
    return kInvalidValue;
  }
  std::memcpy(value, &answer, sizeof answer);
  return 0;
}
