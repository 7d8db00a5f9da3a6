// repeat.cpp: checks memory, and nothing else, of a call that is like an earlier one. Knows nothing of who makes it.
#include "repeat.hpp"

#include "error.hpp"

namespace tiaot {

std::unique_ptr<const Repeat> Repeat::of(const tiaot_kernel *kernel, int entry, uint32_t wrt, const DLTensor *arrays,
                                         int32_t count, const tiaot_options *options) {
  Request request;
  if (make_request(kernel, entry, wrt, options, &request) != TIAOT_OK) return nullptr;
  if (request.entry == TIAOT_JACOBIAN || request.state != nullptr || request.executor != nullptr) return nullptr;
  Checked checked;
  if (check_arrays(request, arrays, count, true, &checked) != TIAOT_OK || checked.device != kOnCpu) return nullptr;
  auto repeat = std::make_unique<Repeat>();
  Plan &plan = repeat->plan_;
  if (make_plan(request, checked, &plan) != TIAOT_OK || !is_single(request, checked, plan)) return nullptr;
  repeat->operands_ = request.operands();
  for (int32_t i = 0; i < count; ++i) {
    if (checked.bytes[i] == 0) return nullptr;  // has no address
    const auto item = static_cast<uintptr_t>(arrays[i].dtype.bits / 8);
    repeat->extents_.push_back({static_cast<uintptr_t>(checked.bytes[i]), item - 1});
  }
  return repeat;
}

bool Repeat::fits(void *const *data) const {
  const size_t count = extents_.size();
  const auto address = [&](size_t i) { return reinterpret_cast<uintptr_t>(data[i]); };
  for (size_t i = 0; i < count; ++i) {
    if (data[i] == nullptr || (address(i) & extents_[i].unaligned) != 0) return false;
  }
  for (size_t result = operands_; result < count; ++result) {
    for (size_t other = 0; other < result; ++other) {  // as in signature.cpp: the differences wrap
      if (address(result) - address(other) < extents_[other].bytes) return false;
      if (address(other) - address(result) < extents_[result].bytes) return false;
    }
  }
  return true;
}

tiaot_status Repeat::run(void *const *data) const {
  return guarded([&] { return run_single(plan_, data); });
}

}  // namespace tiaot
