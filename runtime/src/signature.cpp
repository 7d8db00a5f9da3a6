// signature.cpp: finds what is wrong with a call's arrays; no allocation, no text. Knows nothing of threads and of
// running code. Every check costs on each call of a few nanoseconds: mind the common case.
#include "signature.hpp"

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "error.hpp"
#include "state.hpp"
#include "threads.hpp"

namespace tiaot {
namespace {

// Rank, element type and lanes of an array, as header_of has them.
inline uint64_t header_of(const DLTensor &tensor) {
  static_assert(offsetof(DLTensor, ndim) == 16 && offsetof(DLTensor, dtype) == 20 && sizeof(DLDataType) == 4,
                "the two are eight bytes in a row");
  uint64_t header;
  std::memcpy(&header, reinterpret_cast<const char *>(&tensor) + offsetof(DLTensor, ndim), sizeof header);
  return header;
}

// Keeps the groups in which this argument has this header; false, and nothing changed, when none is left. A Jacobian
// has another rank than the argument whose element type it has.
bool narrow_groups(const Request &request, uint32_t argument, uint64_t header, Checked &checked) {
  const size_t arguments = request.inputs() + request.outputs();
  const uint64_t *lists = request.kernel->group_headers.data();
  const uint64_t *last = nullptr;
  uint64_t left = 0;
  for (uint64_t rest = checked.groups; rest != 0; rest &= rest - 1) {
    const auto group = static_cast<size_t>(__builtin_ctzll(rest));
    if (lists[group * arguments + argument] != header) continue;
    left |= uint64_t{1} << group;
    last = lists + group * arguments;
  }
  if (left == 0) return false;
  checked.groups = left;
  checked.headers = (left & (left - 1)) == 0 ? last : nullptr;
  return true;
}

bool some_variant_fits(const Request &request, const Checked &checked) {
  const tiaot_kernel_desc &desc = request.desc();
  for (uint32_t v = 0; v < desc.variant_count; ++v) {
    const tiaot_variant_desc &variant = desc.variants[v];
    if (request.only != nullptr && &variant != request.only) continue;
    if (!(checked.groups >> request.kernel->variant_group[v] & 1)) continue;
    if (sizes_fit(variant, desc.dim_count, checked.sizes)) return true;
  }
  return false;
}

// An array of the call, and what belongs in its place.
struct Place {
  const DLTensor &tensor;
  uint32_t index;
  uint32_t argument;  // whose element type it has
  uint32_t rank;
  const uint32_t *dims;
  bool batched;  // the first dimension is the batch
};

// `header` is what the array's must be for the element type to fit its argument's.
inline Fault check_array(const Request &request, const Place &place, uint64_t header, bool limited, Checked &checked) {
  const DLTensor &tensor = place.tensor;
  // Copied: a number that the enum does not name is not to be read as one.
  int32_t device;
  static_assert(sizeof tensor.device.device_type == sizeof device, "DLPack's device type has 32 bits");
  std::memcpy(&device, &tensor.device.device_type, sizeof device);
  if (device != kDLCPU && checked.device == kOnCpu) return Fault::kDevice;
  bool narrowed = false;  // what is known of types or sizes, so that a variant has to be left
  if (checked.headers != nullptr) {
    if (checked.headers[place.argument] != header) return Fault::kForm;
  } else {
    if (!narrow_groups(request, place.argument, header, checked)) return Fault::kForm;
    narrowed = true;
  }
  const int64_t *shape = tensor.shape, *strides = tensor.strides;
  if (place.rank > 0 && shape == nullptr) return Fault::kForm;

  // From the last axis on, so that the elements so far are the stride that a dense array has. A dimension of one
  // element, or an array of none, may have any stride.
  int64_t slice = 1;
  bool strided = false;
  for (uint32_t axis = place.rank; axis-- > place.batched;) {
    const int64_t size = shape[axis];
    int64_t &known = checked.sizes[place.dims[axis]];
    if (size != known) {
      if (size < 0) return Fault::kNegative;
      if (known >= 0) return Fault::kForm;
      if (size == 0 && request.desc().batch_dim >= 0) return Fault::kZero;
      known = size;
      narrowed = true;
    }
    if (strides != nullptr && strides[axis] != slice && size != 1) strided = true;
    if (__builtin_mul_overflow(slice, size, &slice)) return Fault::kBytes;
  }
  int64_t rows = 1;
  if (place.batched) {
    rows = shape[0];
    int64_t &known = checked.sizes[place.dims[0]];
    if (rows < 0) return Fault::kNegative;
    if (rows != known && known >= 0) return Fault::kForm;
    known = rows;
    if (strides != nullptr && strides[0] != slice && rows != 1) strided = true;
  }
  if (narrowed && !(checked.groups & checked.open_groups) && !some_variant_fits(request, checked)) return Fault::kForm;

  if (slice < 0) return Fault::kNegative;  // kUnknown itself, which is the one negative size to come so far
  const int64_t item = header_item_size(header);
  int64_t slice_bytes, bytes;
  if (__builtin_mul_overflow(slice, item, &slice_bytes) || __builtin_mul_overflow(rows, slice_bytes, &bytes)) {
    return Fault::kBytes;
  }
  if (limited && slice > kMaxElements) return Fault::kElements;
  checked.row_work += slice;
  checked.bytes[place.index] = bytes;
  if (bytes == 0) {
    checked.data[place.index] = nullptr;
    return Fault::kNone;
  }
  if (tensor.data == nullptr) return Fault::kNull;
  if (strided) return Fault::kStrides;
  const uintptr_t address = reinterpret_cast<uintptr_t>(tensor.data) + tensor.byte_offset;
  checked.data[place.index] = reinterpret_cast<void *>(address);
  return (address & static_cast<uintptr_t>(item - 1)) == 0 ? Fault::kNone : Fault::kAlignment;
}

// An array of the shape of an argument: the argument itself, its cotangent or its gradient.
inline Fault check_argument(const Request &request, const DLTensor &tensor, uint32_t index, uint32_t argument,
                            Checked &checked) {
  const tiaot_argument_desc &it = request.desc().arguments[argument];
  const bool batched = it.flags & TIAOT_ARGUMENT_BATCHED;
  return check_array(request, {tensor, index, argument, it.rank, it.dims, batched}, header_of(tensor), true, checked);
}

// Whether either begins within the other; the difference wraps to a large number when it is negative. Arrays of no
// elements are at address 0 and within nothing.
inline bool overlap(const Checked &checked, uint32_t a, uint32_t b) {
  const uintptr_t begin_a = reinterpret_cast<uintptr_t>(checked.data[a]);
  const uintptr_t begin_b = reinterpret_cast<uintptr_t>(checked.data[b]);
  return begin_a - begin_b < static_cast<uintptr_t>(checked.bytes[b]) ||
         begin_b - begin_a < static_cast<uintptr_t>(checked.bytes[a]);
}

// The first of the arrays that touches the state's memory or that of its tangents, or `end`.
uint32_t find_state_overlap(const Checked &checked, uint32_t end, const tiaot_state &state) {
  const auto bytes = static_cast<uintptr_t>(state.module->desc->state_bytes);
  const char *tangents = state.tangents.load(std::memory_order_acquire);
  const auto touches = [&](uint32_t i, const char *memory) {
    const uintptr_t begin = reinterpret_cast<uintptr_t>(checked.data[i]), its = reinterpret_cast<uintptr_t>(memory);
    return memory != nullptr && checked.bytes[i] > 0 &&
           (begin - its < bytes || its - begin < static_cast<uintptr_t>(checked.bytes[i]));
  };
  for (uint32_t i = 0; i < end; ++i) {
    if (touches(i, state.memory) || touches(i, tangents)) return i;
  }
  return end;
}

inline Slot slot_of_argument(const Request &request, Role role, uint32_t argument) {
  const tiaot_argument_desc &it = request.desc().arguments[argument];
  return {role, argument, 0, it.rank, it.dims};
}

// The input of the k-th bit in wrt.
inline uint32_t gradient_input(uint32_t wrt, uint32_t k) {
  for (; k > 0; --k) wrt &= wrt - 1;
  return static_cast<uint32_t>(__builtin_ctz(wrt));
}

Slot jacobian_slot(const Request &request, uint32_t k, uint32_t (&room)[2 * TIAOT_MAX_DIMS]) {
  const uint32_t output = request.inputs() + k / request.gradients;
  const uint32_t input = gradient_input(request.wrt, k % request.gradients);
  const tiaot_argument_desc &front = request.desc().arguments[output];
  const tiaot_argument_desc &back = request.desc().arguments[input];
  uint32_t rank = 0;
  for (uint32_t axis = 0; axis < front.rank; ++axis) room[rank++] = front.dims[axis];
  for (uint32_t axis = back.flags & TIAOT_ARGUMENT_BATCHED; axis < back.rank; ++axis) room[rank++] = back.dims[axis];
  return {Role::kJacobian, input, output, rank, room};
}

// A Jacobian's rank is that of two arguments together; it is handed to the code row by row, so no limit holds.
Fault check_jacobian(const Request &request, const DLTensor &tensor, uint32_t index, Checked &checked) {
  uint32_t room[2 * TIAOT_MAX_DIMS];
  const Slot slot = jacobian_slot(request, index - request.operands(), room);
  if (tensor.ndim != static_cast<int32_t>(slot.rank)) return Fault::kForm;
  const tiaot_argument_desc *arguments = request.desc().arguments;
  const uint64_t header = header_of(tensor) - slot.rank + arguments[slot.argument].rank;
  const bool batched = arguments[slot.output].flags & TIAOT_ARGUMENT_BATCHED;
  return check_array(request, {tensor, index, slot.argument, slot.rank, room, batched}, header, false, checked);
}

// Where the arrays are: on one CUDA device, but for values and their tangents, which may be on the CPU. The first array
// that has no choice is the one that the others are held against; of a kernel over state, where the state is. Only for
// calls that have an array, or the state, elsewhere than on the CPU.
[[gnu::cold]] tiaot_status check_devices(const Request &request, const DLTensor *arrays, uint32_t end,
                                         Checked *checked) {
  const tiaot_kernel_desc &desc = request.desc();
  const uint32_t operands = request.operands(), tangents = request.has_tangents() ? request.gradients : 0;
  const auto is_value = [&](uint32_t i) {
    if (i >= operands - tangents && i < operands) i = gradient_input(request.wrt, i - (operands - tangents));
    return i < desc.input_count && desc.arguments[i].flags & TIAOT_ARGUMENT_VALUE;
  };
  if (desc.state != 0) {
    const int32_t on = request.state->device == nullptr ? kOnCpu : ordinal_of(*request.state->device);
    checked->on_host = 0;
    for (uint32_t i = 0; i < end; ++i) {
      const int32_t its = device_of(arrays[i]);
      if (its == on) continue;
      if (its != kOnCpu || !is_value(i)) return explain_state_device(request, arrays, i, on);
      checked->on_host |= uint64_t{1} << i;
    }
    checked->device = on;
    return TIAOT_OK;
  }
  uint32_t reference = 0;
  while (reference < end && is_value(reference)) ++reference;
  if (reference == end) {
    reference = 0;
    while (reference < end && device_of(arrays[reference]) < 0) ++reference;
    if (reference == end) reference = 0;
  }
  const int32_t device = device_of(arrays[reference]);
  uint64_t on_host = 0;
  for (uint32_t i = 0; i < end; ++i) {
    const int32_t its = device_of(arrays[i]);
    if (device < 0 ? its != kOnCpu : its != device && !(its == kOnCpu && is_value(i))) {
      return explain_device(request, arrays, i, reference, device);
    }
    if (its != device) on_host |= uint64_t{1} << i;
  }
  if (request.kernel->module->desc->cuda == nullptr) {
    const std::string who = std::string(desc.name) + "." + entry_name(request.entry);
    return explain_no_cuda(who.c_str(), *request.kernel->module->desc);
  }
  checked->device = device;
  checked->on_host = on_host;
  return TIAOT_OK;
}

}  // namespace

int32_t device_of(const DLTensor &tensor) {
  constexpr int32_t kManaged = 13, kElsewhere = -2;  // kDLCUDAManaged
  int32_t type;
  std::memcpy(&type, &tensor.device.device_type, sizeof type);
  if (type == kDLCPU) return kOnCpu;
  return (type == kDLCUDA || type == kManaged) && tensor.device.device_id >= 0 ? tensor.device.device_id : kElsewhere;
}

Slot find_slot(const Request &request, uint32_t index, uint32_t (&room)[2 * TIAOT_MAX_DIMS]) {
  const uint32_t inputs = request.inputs(), outputs = request.outputs(), operands = request.operands();
  if (index < inputs) return slot_of_argument(request, Role::kArgument, index);
  if (index < operands) {
    if (request.has_cotangents() && index < inputs + outputs) {
      return slot_of_argument(request, Role::kCotangent, index);
    }
    const uint32_t tangent = index - (operands - request.gradients);
    return slot_of_argument(request, Role::kTangent, gradient_input(request.wrt, tangent));
  }
  const uint32_t result = index - operands;
  switch (request.entry) {
    case TIAOT_FORWARD:
      return slot_of_argument(request, Role::kOutput, index);
    case TIAOT_JVP:
      return slot_of_argument(request, result < outputs ? Role::kOutput : Role::kTangent, inputs + result % outputs);
    case TIAOT_VJP:
    case TIAOT_HVP:
      return slot_of_argument(request, result < request.gradients ? Role::kGradient : Role::kGradientTangent,
                              gradient_input(request.wrt, result % request.gradients));
    default:
      return jacobian_slot(request, result, room);
  }
}

namespace {

// Checks the arrays of a jvp or hvp from `index` on, behind its inputs and cotangents.
[[gnu::noinline]] uint32_t find_fault_along(const Request &request, const DLTensor *arrays, uint32_t index,
                                            uint32_t end, Checked *checked, Fault *fault) {
  uint32_t room[2 * TIAOT_MAX_DIMS];
  for (; index < end; ++index) {
    const Slot slot = find_slot(request, index, room);
    *fault = check_argument(request, arrays[index], index, slot.argument, *checked);
    if (*fault != Fault::kNone) return index;
  }
  return end;
}

}  // namespace

uint32_t find_fault(const Request &request, const DLTensor *arrays, uint32_t end, Checked *checked, Fault *fault) {
  const tiaot_kernel &kernel = *request.kernel;
  if (request.only == nullptr) {
    checked->groups = ~uint64_t{0} >> (kMaxGroups - kernel.group_count);
    checked->open_groups = kernel.any_size_groups;
  } else {
    const auto variant = static_cast<size_t>(request.only - kernel.desc->variants);
    checked->groups = uint64_t{1} << kernel.variant_group[variant];
    checked->open_groups = 0;
  }
  checked->headers = nullptr;
  checked->row_work = 0;
  for (uint32_t d = 0; d < kernel.desc->dim_count; ++d) checked->sizes[d] = kUnknown;

  const bool along = request.has_tangents();
  const uint32_t operands = request.operands() - (along ? request.gradients : 0);
  const uint32_t primals = request.entry == TIAOT_FORWARD ? operands + request.outputs() : operands;
  uint32_t index = 0;
  for (; index < std::min(end, primals); ++index) {
    *fault = check_argument(request, arrays[index], index, index, *checked);
    if (*fault != Fault::kNone) return index;
  }
  if (along) return find_fault_along(request, arrays, index, end, checked, fault);
  for (uint32_t wrt = request.wrt; index < end; ++index, wrt &= wrt - 1) {
    *fault = request.entry == TIAOT_JACOBIAN
                 ? check_jacobian(request, arrays[index], index, *checked)
                 : check_argument(request, arrays[index], index, static_cast<uint32_t>(__builtin_ctz(wrt)), *checked);
    if (*fault != Fault::kNone) return index;
  }
  return end;
}

namespace {

// After a first fault: once more with the device known where it was that an array is not on the CPU.
[[gnu::cold, gnu::noinline]] tiaot_status check_again(const Request &request, const DLTensor *arrays, uint32_t end,
                                                      Checked *checked, uint32_t at, Fault fault) {
  if (fault == Fault::kDevice) {
    if (tiaot_status status = check_devices(request, arrays, end, checked)) return status;
    at = find_fault(request, arrays, end, checked, &fault);
    if (at == end) return TIAOT_OK;
  }
  return explain_fault(request, arrays, at, fault, checked->device);
}

}  // namespace

tiaot_status check_arrays(const Request &request, const DLTensor *arrays, int32_t count, bool with_results,
                          Checked *checked) {
  const uint32_t operands = request.operands();
  const uint32_t end = operands + (with_results ? request.results() : 0);
  if (count < 0 || static_cast<uint32_t>(count) != end) return explain_count(request, with_results, count);
  if (end > TIAOT_MAX_ARRAYS) {
    return raise(TIAOT_ERROR_UNSUPPORTED, "%s.%s: a call can have at most %d arrays, this one has %u",
                 request.desc().name, entry_name(request.entry), TIAOT_MAX_ARRAYS, end);
  }
  if (arrays == nullptr && end > 0) {
    return raise(TIAOT_ERROR_VALUE, "%s.%s: arrays is NULL", request.desc().name, entry_name(request.entry));
  }
  Fault fault = Fault::kNone;
  checked->device = kOnCpu;
  if (request.state != nullptr && request.state->device != nullptr) {
    if (tiaot_status status = check_devices(request, arrays, end, checked)) return status;
  }
  const uint32_t at = find_fault(request, arrays, end, checked, &fault);
  if (at != end) {
    if (tiaot_status status = check_again(request, arrays, end, checked, at, fault)) return status;
  }

  for (uint32_t result = operands; result < end; ++result) {
    for (uint32_t other = 0; other < result; ++other) {
      if (overlap(*checked, result, other)) return explain_overlap(request, result, other);
    }
  }
  if (request.state != nullptr) {
    const uint32_t array = find_state_overlap(*checked, end, *request.state);
    if (array != end) return explain_state_overlap(request, array);
    checked->row_work = saturating_sum(checked->row_work, state_work(*request.state->module));
  }
  return TIAOT_OK;
}

}  // namespace tiaot
