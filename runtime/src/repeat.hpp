// repeat.hpp: a small call that was checked once, to be run again on other memory. Knows nothing of element types and
// shapes: whoever keeps it answers for these. For the Python extension, whose calls are often alike; no part of the
// library's interface.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "plan.hpp"

namespace tiaot {

class Repeat {
 public:
  // Of a call as tiaot_call takes it, which has succeeded. nullptr where more than the memory may differ next time, or
  // where there is more to do than to run one piece of code on this thread.
  static std::unique_ptr<const Repeat> of(const tiaot_kernel *kernel, int entry, uint32_t wrt, const DLTensor *arrays,
                                          int32_t count, const tiaot_options *options);

  // Whether the arrays at these addresses, in the order of the call, are aligned, and the results apart from all
  // others. What is not, tiaot_call explains.
  bool fits(void *const *data) const;

  // Runs it on arrays that fit.
  tiaot_status run(void *const *data) const;

 private:
  struct Extent {
    uintptr_t bytes;
    uintptr_t unaligned;  // bits of an address that has to be a multiple of the element's size
  };

  Plan plan_;
  uint32_t operands_;
  std::vector<Extent> extents_;  // of each array
};

}  // namespace tiaot
