// interpreter.cpp: the interpreter of PTX for whoever loads it as a library, as the exporter's gate does by ctypes. Its
// memory is the host's. No function is for several threads at a time, and none lets an exception out.
#include <exception>
#include <string>

#include "launch.hpp"

#define API extern "C" __attribute__((visibility("default")))

namespace {

struct Interpreter {
  std::unique_ptr<ptx::Program> program;
  ptx::Memory memory;
  std::string said;
};

Interpreter &of(void *handle) { return *static_cast<Interpreter *>(handle); }
uint64_t address(const void *pointer) { return reinterpret_cast<uint64_t>(pointer); }

}  // namespace

// An interpreter of a text; NULL where it holds something that is not known, which *reason tells until the next call.
API void *tiaot_ptx_open(const char *text, const char **reason) {
  static std::string said;
  try {
    auto made = std::make_unique<Interpreter>();
    made->program = ptx::parse(text);
    return made.release();
  } catch (const std::exception &error) {
    said = error.what();
    *reason = said.c_str();
    return nullptr;
  }
}

API void tiaot_ptx_close(void *handle) { delete static_cast<Interpreter *>(handle); }

// What kernels may touch: an input, all of which holds values, or a result or workspace, none of which does.
API void tiaot_ptx_describe(void *handle, const void *start, int64_t bytes, const char *name, int32_t writable,
                            int32_t item) {
  if (bytes <= 0) return;
  of(handle).memory.add(address(start), static_cast<uint64_t>(bytes), name, writable != 0, writable == 0, item);
}

// Forgets what was described, and what was found.
API void tiaot_ptx_forget(void *handle) { of(handle).memory = ptx::Memory(); }

// That a fill or a copy reads or writes so many bytes.
API void tiaot_ptx_touch(void *handle, const char *function, const void *start, int64_t bytes, int32_t write) {
  if (bytes > 0) of(handle).memory.check_range(function, address(start), static_cast<uint64_t>(bytes), write != 0);
}

// Bytes of a described array that nothing was written to.
API int64_t tiaot_ptx_unwritten(void *handle, const void *start) {
  const ptx::Region *region = of(handle).memory.at(address(start));
  return region == nullptr ? 0 : static_cast<int64_t>(region->unwritten());
}

// 0, or 1 where the launch was given up; then that is among the findings.
API int32_t tiaot_ptx_launch(void *handle, const char *kernel, int64_t blocks, int32_t threads, void **parameters) {
  Interpreter &it = of(handle);
  try {
    const ptx::Function *function = it.program->kernel(kernel);
    if (function == nullptr) throw ptx::Error(std::string("there is no kernel ") + kernel);
    ptx::Settings settings;
    settings.order = ptx::Order::kShuffled;
    ptx::run(*function, static_cast<uint32_t>(blocks), static_cast<uint32_t>(threads), parameters, it.memory, settings);
    return 0;
  } catch (const std::exception &error) {
    it.memory.report("given up", error.what(), kernel);
    return 1;
  }
}

// What was found wrong since it was last forgotten, one thing a line; valid until the next call.
API const char *tiaot_ptx_findings(void *handle) {
  of(handle).said = of(handle).memory.findings();
  return of(handle).said.c_str();
}
