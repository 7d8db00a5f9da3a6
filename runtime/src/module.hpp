// module.hpp: what the handles of the C interface point to. Knows nothing of arrays.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <vector>

#include "module_file.hpp"
#include "tiaot/tiaot.h"

namespace tiaot {

struct CudaImage;

// The images of a module that were loaded, one for each device that it has run on; see cuda_image.cpp.
struct CudaImages {
  std::mutex loading;
  std::atomic<CudaImage *> images{nullptr};  // a list; grows at its front
  ~CudaImages();                             // leaves them to their devices
};

}  // namespace tiaot

// A kernel of an open module, with what every call needs worked out once.
struct tiaot_kernel {
  const tiaot_kernel_desc *desc;
  int level;                            // TIAOT_LEVEL_* to run at
  uint32_t differentiable;              // bit i: input i
  uint32_t tangents;                    // of a jvp or hvp: bit i: input i
  uint64_t any_size_groups;             // bit g: a variant of group g has no fixed dimension
  uint32_t group_count;                 // the distinct lists of element types among the variants
  std::vector<uint64_t> group_headers;  // header_of of each argument, list behind list
  std::vector<uint32_t> variant_group;  // per variant the index of its list
  const tiaot_module *module;
};

struct tiaot_module {
  void *library;  // from dlopen; nullptr for tables that are part of the program
  const tiaot_module_desc *desc;
  int level;
  bool rewritten;            // by a tool, after the export
  const tiaot_fault *fault;  // of a module that checks indices; nullptr of others
  std::vector<tiaot_kernel> kernels;
  mutable tiaot::CudaImages cuda;
  ~tiaot_module();
};

namespace tiaot {

constexpr size_t kMaxGroups = 64;

// A module in memory: its parts, and what was added to their addresses.
struct LoadedImage {
  std::vector<Segment> segments;
  uintptr_t base;

  bool holds(const void *data, uint64_t bytes) const;
  bool holds_text(const char *text) const;  // with its NUL, and UTF-8
  bool holds_code(const void *code) const;

 private:
  uint64_t room(const void *data, bool executable) const;  // bytes from there to the end of the part, 0 outside
};

// Whether all pointers in the tables, with the counts beside them, lie inside of the module.
bool check_pointers(const tiaot_module_desc &desc, const LoadedImage &image);

// Checks the tables of a module, so that nothing later has to; `origin` names it in messages.
tiaot_status check_tables(const tiaot_module_desc &desc, const char *origin);

// Makes a module from checked tables. Takes over `library`, on failure too.
tiaot_status make_module(const tiaot_module_desc &desc, int level, void *library, tiaot_module **module);

// Bytes of one element of a TIAOT_FLOAT32...
constexpr int64_t item_size(uint32_t dtype) { return static_cast<int64_t>(dtype & 255) / 8; }

// Rank and element type of an array as one number: the eight bytes that a DLTensor has at its `ndim`.
constexpr uint64_t header_of(uint32_t rank, uint32_t dtype) {
  return rank | uint64_t{dtype >> 8} << 32 | uint64_t{dtype & 255} << 40 | uint64_t{1} << 48;  // one lane
}
constexpr int64_t header_item_size(uint64_t header) { return static_cast<int64_t>(header >> 40 & 255) / 8; }

}  // namespace tiaot
