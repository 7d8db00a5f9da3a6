// signature.hpp: a call's arrays against the kernel's signature. Knows nothing of threads and of running code.
#pragma once

#include <cstdint>
#include <string>

#include "module.hpp"

namespace tiaot {

// Taichi's indices are int32, and so is the number of elements that a kernel can address.
constexpr int64_t kMaxElements = INT32_MAX;

// A dimension's size before an array has told it: no size that an array can have.
constexpr int64_t kUnknown = INT64_MIN;

// Made from jvps along basis tangents, or from vjps of basis cotangents, whichever are fewer.
enum class JacobianMode : uint8_t { kCheaper, kForward, kReverse };

// What a caller asks for, before any array is looked at.
struct Request {
  const tiaot_kernel *kernel;
  int entry;  // TIAOT_FORWARD...
  uint32_t wrt;
  uint32_t gradients;              // bits in wrt: gradients, or tangents
  int32_t num_threads;             // 0: the process default
  const tiaot_variant_desc *only;  // nullptr: any
  const tiaot_executor *executor;  // nullptr: the pool
  tiaot_state *state;              // what a kernel over state works on; nullptr for all others
  void *stream;                    // for arrays on a CUDA device
  JacobianMode mode;               // of a Jacobian

  const tiaot_kernel_desc &desc() const { return *kernel->desc; }
  uint32_t inputs() const { return desc().input_count; }
  uint32_t outputs() const { return desc().output_count; }
  // The arrays of a call are its operands (inputs, cotangents, tangents), then its results. A grad has neither of the
  // latter, nor has an hvp on state.
  bool has_cotangents() const { return (entry == TIAOT_VJP || entry == TIAOT_HVP) && desc().state == 0; }
  bool has_tangents() const { return entry == TIAOT_JVP || entry == TIAOT_HVP; }
  uint32_t operands() const { return inputs() + (has_cotangents() ? outputs() : 0) + (has_tangents() ? gradients : 0); }
  uint32_t results() const {
    switch (entry) {
      case TIAOT_FORWARD:
        return outputs();
      case TIAOT_VJP:
        return gradients;
      case TIAOT_JVP:
        return 2 * outputs();
      case TIAOT_HVP:
        return 2 * gradients;
      default:
        return outputs() * gradients;
    }
  }
};

// A call whose arrays are right. Only the first `dim_count` sizes and the arrays that there are hold values.
constexpr int32_t kOnCpu = -1;

struct Checked {
  int32_t device;                 // kOnCpu, or the ordinal of the CUDA device that the arrays are on
  uint64_t on_host;               // arrays that are not: bit i for array i, an input or a tangent
  uint64_t groups;                // the kernel's lists of element types that fit what was seen so far
  uint64_t open_groups;           // those of the kernel in which every size has a variant
  const uint64_t *headers;        // of the one group that is left; nullptr while there are several
  int64_t sizes[TIAOT_MAX_DIMS];  // or kUnknown
  void *data[TIAOT_MAX_ARRAYS];   // nullptr for an array of no elements
  int64_t bytes[TIAOT_MAX_ARRAYS];
  int64_t row_work;  // elements of one sample of every batched array and of all shared ones, of this call; the state's

  int64_t rows(const tiaot_kernel_desc &desc) const { return desc.batch_dim < 0 ? 1 : sizes[desc.batch_dim]; }
};

// Checks the options and the entry asked for.
[[gnu::hot]] tiaot_status make_request(const tiaot_kernel *kernel, int entry, uint32_t wrt,
                                       const tiaot_options *options, Request *request);

// Checks the first `count` arrays of a call: all of them, or its operands.
[[gnu::hot]] tiaot_status check_arrays(const Request &request, const DLTensor *arrays, int32_t count, bool with_results,
                                       Checked *checked);

// Bits that are set. Baseline x86-64 has no instruction for it, and the compiler's own function is a call away.
inline uint32_t count_bits(uint32_t bits) {
  uint32_t count = 0;
  for (; bits != 0; bits &= bits - 1) ++count;
  return count;
}

// a + b for non-negative numbers, INT64_MAX where that is too much.
inline int64_t saturating_sum(int64_t a, int64_t b) {
  int64_t sum;
  return __builtin_add_overflow(a, b, &sum) ? INT64_MAX : sum;
}

// Elements of a shared argument, or of one sample of a batched one.
inline int64_t slice_elements(const tiaot_kernel_desc &desc, uint32_t argument, const int64_t *sizes) {
  const tiaot_argument_desc &it = desc.arguments[argument];
  int64_t elements = 1;
  for (uint32_t axis = it.flags & TIAOT_ARGUMENT_BATCHED; axis < it.rank; ++axis) elements *= sizes[it.dims[axis]];
  return elements;
}
static_assert(TIAOT_ARGUMENT_BATCHED == 1, "slice_elements takes the flag for the number of leading axes to skip");

// True when a variant's fixed sizes agree with the sizes that are known.
inline bool sizes_fit(const tiaot_variant_desc &variant, uint32_t dim_count, const int64_t *sizes) {
  for (uint32_t d = 0; d < dim_count; ++d) {
    if (variant.fixed[d] >= 0 && sizes[d] >= 0 && variant.fixed[d] != sizes[d]) return false;
  }
  return true;
}

// ---- between signature.cpp, which finds faults, and message.cpp, which words them

enum class Role : uint8_t { kArgument, kOutput, kCotangent, kGradient, kJacobian, kTangent, kGradientTangent };

// What belongs in one place of a call.
struct Slot {
  Role role;
  uint32_t argument;  // whose element type, and shape, it has
  uint32_t output;    // kJacobian: whose shape comes first
  uint32_t rank;
  const uint32_t *dims;
};

enum class Fault : uint8_t {
  kNone,
  kDevice,
  kForm,  // element type, rank or shape
  kNegative,
  kZero,
  kBytes,
  kElements,
  kNull,
  kStrides,
  kAlignment
};

// The slot of array `index`; `room` holds the dimensions of a Jacobian.
Slot find_slot(const Request &request, uint32_t index, uint32_t (&room)[2 * TIAOT_MAX_DIMS]);

// Sets up *checked for a request, but for its `device`, and checks arrays before `end`; the place of the first fault,
// or `end`. With a CUDA device, where the arrays are has been checked.
[[gnu::hot]] uint32_t find_fault(const Request &request, const DLTensor *arrays, uint32_t end, Checked *checked,
                                 Fault *fault);

[[gnu::cold]] tiaot_status explain_fault(const Request &request, const DLTensor *arrays, uint32_t index, Fault fault,
                                         int32_t device);
// An array on another device than array `reference`, whose call runs on `device`.
[[gnu::cold]] tiaot_status explain_device(const Request &request, const DLTensor *arrays, uint32_t index,
                                          uint32_t reference, int32_t device);
// An array on another device than the state, which is on `device`.
[[gnu::cold]] tiaot_status explain_state_device(const Request &request, const DLTensor *arrays, uint32_t index,
                                                int32_t device);
[[gnu::cold]] tiaot_status explain_no_cuda(const char *who, const tiaot_module_desc &module);
[[gnu::cold]] tiaot_status explain_count(const Request &request, bool with_results, int32_t count);
[[gnu::cold]] tiaot_status explain_overlap(const Request &request, uint32_t result, uint32_t other);
[[gnu::cold]] tiaot_status explain_state_overlap(const Request &request, uint32_t array);

// "argument 'x'"
std::string slot_text(const Request &request, uint32_t index);

// The ordinal of the CUDA device that an array is on; kOnCpu, or below it for what is neither.
int32_t device_of(const DLTensor &tensor);

// "dense_tanh.vjp"
const char *entry_name(int entry);

}  // namespace tiaot
