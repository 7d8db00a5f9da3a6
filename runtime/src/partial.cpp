// partial.cpp: calls some of whose inputs stay, and are replaced all at once. Knows nothing of how a call runs.
#include "partial.hpp"

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "error.hpp"
#include "plan.hpp"

namespace tiaot {
namespace {

// The inputs that stay, as they were given, and what is to be told when no call uses them any more.
struct FixedInputs {
  std::vector<DLTensor> tensors;
  std::vector<std::vector<int64_t>> sizes;  // of each its shape, then its strides where it has some
  void (*release)(void *user) = nullptr;
  void *user = nullptr;
  std::atomic<int64_t> readers{0};  // of Replaceable

  ~FixedInputs() {
    if (release != nullptr) release(user);
  }
};

}  // namespace
}  // namespace tiaot

struct tiaot_partial {
  tiaot::Request request;
  tiaot_executor executor;      // a copy: the caller's need not live on
  std::vector<uint32_t> fixed;  // inputs, ascending
  tiaot::Replaceable<tiaot::FixedInputs> current{nullptr};
};

namespace tiaot {
namespace {

tiaot_status copy_inputs(const tiaot_partial &partial, const DLTensor *arrays, int32_t count,
                         std::unique_ptr<FixedInputs> *result) {
  const tiaot_kernel_desc &desc = partial.request.desc();
  if (count < 0 || static_cast<size_t>(count) != partial.fixed.size() || arrays == nullptr) {
    return raise(TIAOT_ERROR_VALUE, "%s.%s: expected %zu arrays that stay, got %d", desc.name,
                 entry_name(partial.request.entry), partial.fixed.size(), count);
  }
  auto inputs = std::make_unique<FixedInputs>();
  inputs->tensors.assign(arrays, arrays + count);
  for (size_t i = 0; i < inputs->tensors.size(); ++i) {
    DLTensor &tensor = inputs->tensors[i];
    const tiaot_argument_desc &argument = desc.arguments[partial.fixed[i]];
    if (tensor.ndim != static_cast<int32_t>(argument.rank) || (tensor.ndim > 0 && tensor.shape == nullptr)) {
      return raise(TIAOT_ERROR_VALUE, "%s.%s: argument '%s': expected %u dimensions, got %d", desc.name,
                   entry_name(partial.request.entry), argument.name, argument.rank, tensor.ndim);
    }
    std::vector<int64_t> sizes(tensor.shape, tensor.shape + tensor.ndim);
    if (tensor.strides != nullptr) sizes.insert(sizes.end(), tensor.strides, tensor.strides + tensor.ndim);
    inputs->sizes.push_back(std::move(sizes));
    tensor.shape = inputs->sizes.back().data();  // which stays where it is when the outer vector grows
    if (tensor.strides != nullptr) tensor.strides = tensor.shape + tensor.ndim;
  }
  *result = std::move(inputs);
  return TIAOT_OK;
}

// New inputs must look as the old ones did, so that no call fails by them.
tiaot_status check_alike(const tiaot_partial &partial, const FixedInputs &old, const FixedInputs &fresh) {
  const tiaot_kernel_desc &desc = partial.request.desc();
  for (size_t i = 0; i < fresh.tensors.size(); ++i) {
    const DLTensor &a = old.tensors[i], &b = fresh.tensors[i];
    const bool alike = a.dtype.code == b.dtype.code && a.dtype.bits == b.dtype.bits && a.dtype.lanes == b.dtype.lanes &&
                       a.device.device_type == b.device.device_type && a.device.device_id == b.device.device_id &&
                       old.sizes[i] == fresh.sizes[i];
    if (alike && ((b.data != nullptr) == (a.data != nullptr))) continue;
    return raise(TIAOT_ERROR_VALUE, "%s.%s: argument '%s': expected the type, shape, strides and device that it had",
                 desc.name, entry_name(partial.request.entry), desc.arguments[partial.fixed[i]].name);
  }
  return TIAOT_OK;
}

tiaot_status run(const tiaot_partial &partial, const DLTensor *arrays, int32_t count) {
  const Request &request = partial.request;
  const auto whole = static_cast<int32_t>(request.operands() + request.results());
  const auto expected = whole - static_cast<int32_t>(partial.fixed.size());
  if (count != expected || arrays == nullptr) {
    return raise(TIAOT_ERROR_VALUE, "%s.%s: expected %d arrays beside those that stay, got %d", request.desc().name,
                 entry_name(request.entry), expected, count);
  }
  if (whole > TIAOT_MAX_ARRAYS) return fail("%s: more arrays than any kernel has", request.desc().name);
  const Replaceable<FixedInputs>::Use inputs(partial.current);
  DLTensor all[TIAOT_MAX_ARRAYS];
  size_t next = 0;
  for (int32_t i = 0; i < whole; ++i) {
    const bool stays = next < partial.fixed.size() && partial.fixed[next] == static_cast<uint32_t>(i);
    all[i] = stays ? inputs->tensors[next++] : *arrays++;
  }
  return run_call(request, all, whole);
}

}  // namespace
}  // namespace tiaot

using namespace tiaot;

extern "C" tiaot_status tiaot_partial_create(const tiaot_kernel *kernel, int entry, uint32_t wrt, uint32_t fixed,
                                             const DLTensor *arrays, int32_t count, const tiaot_options *options,
                                             void (*release)(void *user), void *user, tiaot_partial **partial) {
  return guarded([&] {
    if (partial == nullptr) return raise(TIAOT_ERROR_VALUE, "tiaot_partial_create: partial is NULL");
    auto result = std::make_unique<tiaot_partial>();
    Request &request = result->request;
    if (tiaot_status status = make_request(kernel, entry, wrt, options, &request)) return status;
    if (request.executor != nullptr) {
      result->executor = *request.executor;
      request.executor = &result->executor;
    }
    const uint32_t inputs = std::min(request.inputs(), 32u);
    for (uint32_t i = 0; i < 32; ++i) {
      if (!(fixed >> i & 1)) continue;
      if (i >= inputs) {
        return raise(TIAOT_ERROR_VALUE, "%s.%s: fixed has bit %u set, but the kernel has %u inputs",
                     request.desc().name, entry_name(entry), i, request.inputs());
      }
      result->fixed.push_back(i);
    }
    std::unique_ptr<FixedInputs> first;
    if (tiaot_status status = copy_inputs(*result, arrays, count, &first)) return status;
    first->release = release;
    first->user = user;
    result->current.put(first.release());
    *partial = result.release();
    return TIAOT_OK;
  });
}

extern "C" tiaot_status tiaot_partial_run(const tiaot_partial *partial, const DLTensor *arrays, int32_t count) {
  return guarded([&] { return run(*partial, arrays, count); });
}

extern "C" tiaot_status tiaot_partial_replace(tiaot_partial *partial, const DLTensor *arrays, int32_t count,
                                              void (*release)(void *user), void *user) {
  return guarded([&] {
    std::unique_ptr<FixedInputs> fresh;
    if (tiaot_status status = copy_inputs(*partial, arrays, count, &fresh)) return status;
    {
      const Replaceable<FixedInputs>::Use old(partial->current);
      if (tiaot_status status = check_alike(*partial, *old, *fresh)) return status;
    }
    fresh->release = release;
    fresh->user = user;
    partial->current.put(fresh.release());
    return TIAOT_OK;
  });
}

extern "C" void tiaot_partial_destroy(tiaot_partial *partial) { delete partial; }
