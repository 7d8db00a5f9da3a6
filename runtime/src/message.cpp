// message.cpp: words for what is wrong with a call. Runs on failure only, so it works everything out anew.
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "error.hpp"
#include "signature.hpp"

namespace tiaot {
namespace {

std::string dtype_text(uint32_t code, uint32_t bits, uint32_t lanes) {
  static const char *const kNames[] = {"int", "uint", "float", "handle", "bfloat", "complex", "bool"};
  std::string text = code < sizeof kNames / sizeof *kNames ? kNames[code] : "type" + std::to_string(code) + "_";
  if (code != 6) text += std::to_string(bits);  // NumPy's and torch's bool has no width in its name
  if (lanes != 1) text += "x" + std::to_string(lanes);
  return text;
}

std::string dtype_text(uint32_t dtype) { return dtype_text(dtype >> 8, dtype & 255, 1); }

std::string join(const std::vector<std::string> &parts, const char *separator) {
  std::string text;
  for (const std::string &part : parts) text += (text.empty() ? "" : separator) + part;
  return text;
}

std::string list_text(int32_t count, const int64_t *values) {
  std::vector<std::string> parts;
  for (int32_t i = 0; i < count && i < 2 * TIAOT_MAX_DIMS; ++i) parts.push_back(std::to_string(values[i]));
  if (count > 2 * TIAOT_MAX_DIMS) parts.push_back("...");
  return "[" + join(parts, ", ") + "]";
}

// "float64[2, 8]"
std::string got_text(const DLTensor &tensor) {
  const std::string dtype = dtype_text(tensor.dtype.code, tensor.dtype.bits, tensor.dtype.lanes);
  if (tensor.ndim < 0) return dtype + " of rank " + std::to_string(tensor.ndim);
  if (tensor.ndim > 0 && tensor.shape == nullptr) return dtype + " without a shape";
  return dtype + list_text(tensor.ndim, tensor.shape);
}

// One form that a slot can take: an element type, and for each axis a size, or -1 for any.
struct Form {
  uint32_t dtype;
  std::vector<int64_t> sizes;
};

bool covers(const Form &general, const Form &special) {
  if (general.dtype != special.dtype) return false;
  for (size_t axis = 0; axis < general.sizes.size(); ++axis) {
    if (general.sizes[axis] >= 0 && general.sizes[axis] != special.sizes[axis]) return false;
  }
  return true;
}

// "float32[B, 8]", given what the arrays before this one have settled; "... or ..." where variants differ.
std::string expected_text(const Request &request, const Slot &slot, const Checked &before) {
  const tiaot_kernel_desc &desc = request.desc();
  std::vector<Form> forms;
  for (uint32_t v = 0; v < desc.variant_count; ++v) {
    const tiaot_variant_desc &variant = desc.variants[v];
    if (request.only != nullptr && request.only != &variant) continue;
    if (!(before.groups >> request.kernel->variant_group[v] & 1)) continue;
    if (!sizes_fit(variant, desc.dim_count, before.sizes)) continue;
    Form form{variant.dtypes[slot.argument], {}};
    for (uint32_t axis = 0; axis < slot.rank; ++axis) {
      const int64_t known = before.sizes[slot.dims[axis]];
      form.sizes.push_back(known >= 0 ? known : variant.fixed[slot.dims[axis]]);
    }
    bool covered = false;
    for (size_t i = 0; i < forms.size() && !covered;) {
      covered = covers(forms[i], form);
      if (!covered && covers(form, forms[i])) {
        forms.erase(forms.begin() + static_cast<std::ptrdiff_t>(i));
      } else {
        ++i;
      }
    }
    if (!covered) forms.push_back(form);
  }
  std::vector<std::string> texts;
  for (const Form &form : forms) {
    std::vector<std::string> axes;
    for (uint32_t axis = 0; axis < slot.rank; ++axis) {
      axes.push_back(form.sizes[axis] >= 0 ? std::to_string(form.sizes[axis]) : desc.dim_names[slot.dims[axis]]);
    }
    texts.push_back(dtype_text(form.dtype) + "[" + join(axes, ", ") + "]");
  }
  return join(texts, " or ");
}

std::string slot_text(const Request &request, const Slot &slot) {
  const tiaot_argument_desc *arguments = request.desc().arguments;
  const std::string name = "'" + std::string(arguments[slot.argument].name) + "'";
  switch (slot.role) {
    case Role::kArgument:
      return "argument " + name;
    case Role::kOutput:
      return "output " + name;
    case Role::kCotangent:
      return "cotangent of " + name;
    case Role::kGradient:
      return "gradient of " + name;
    case Role::kTangent:
      return "tangent of " + name;
    case Role::kGradientTangent:
      return "tangent of the gradient of " + name;
    case Role::kJacobian:
      break;
  }
  return "Jacobian of '" + std::string(arguments[slot.output].name) + "' with respect to " + name;
}

std::string device_text(const DLTensor &tensor) {
  int32_t type;
  std::memcpy(&type, &tensor.device.device_type, sizeof type);
  if (type == kDLCPU) return "the CPU";
  if (type == kDLCUDA || device_of(tensor) >= 0) return "cuda:" + std::to_string(tensor.device.device_id);
  return "DLPack device type " + std::to_string(type);
}

// The first dimension whose size is `wrong`, of those that nothing before has settled.
const char *dim_with_size(const Request &request, const Slot &slot, const DLTensor &tensor, int64_t wrong) {
  for (uint32_t axis = 0; axis < slot.rank; ++axis) {
    const bool is_batch = static_cast<int32_t>(slot.dims[axis]) == request.desc().batch_dim;
    if (tensor.shape[axis] == wrong && !is_batch) return request.desc().dim_names[slot.dims[axis]];
  }
  return "";
}

std::string dense_strides(const DLTensor &tensor) {
  std::vector<int64_t> strides(static_cast<size_t>(tensor.ndim), 1);
  for (size_t axis = strides.size(); axis-- > 1;) strides[axis - 1] = strides[axis] * tensor.shape[axis];
  return list_text(tensor.ndim, strides.data());
}

// True when the element type is one that the arrays before this one leave.
bool dtype_fits(const Request &request, const Slot &slot, const Checked &before, const DLTensor &tensor) {
  const tiaot_kernel_desc &desc = request.desc();
  const uint32_t dtype = static_cast<uint32_t>(tensor.dtype.code) << 8 | tensor.dtype.bits;
  for (uint32_t v = 0; v < desc.variant_count; ++v) {
    const bool left = before.groups >> request.kernel->variant_group[v] & 1;
    if (left && tensor.dtype.lanes == 1 && desc.variants[v].dtypes[slot.argument] == dtype) return true;
  }
  return false;
}

}  // namespace

const char *entry_name(int entry) {
  constexpr const char *kNames[] = {"forward", "vjp", "jacobian", "grad", "jvp", "hvp"};
  return kNames[entry];
}

std::string slot_text(const Request &request, uint32_t index) {
  uint32_t room[2 * TIAOT_MAX_DIMS];
  return slot_text(request, find_slot(request, index, room));
}

tiaot_status explain_fault(const Request &request, const DLTensor *arrays, uint32_t index, Fault fault,
                           int32_t device) {
  Checked before;
  before.device = device;
  Fault none = Fault::kNone;
  find_fault(request, arrays, index, &before, &none);
  uint32_t room[2 * TIAOT_MAX_DIMS];
  const Slot slot = find_slot(request, index, room);
  const DLTensor &tensor = arrays[index];

  tiaot_status status = TIAOT_ERROR_VALUE;
  std::string text;
  switch (fault) {
    case Fault::kNone:
    case Fault::kDevice:  // explain_device words it
      return fail("%s: a fault without a fault", request.desc().name);
    case Fault::kForm:
      if (!dtype_fits(request, slot, before, tensor)) status = TIAOT_ERROR_TYPE;
      text = "expected " + expected_text(request, slot, before) + ", got " + got_text(tensor);
      break;
    case Fault::kNegative:
      text = "a size is negative: got " + got_text(tensor);
      break;
    case Fault::kZero:
      text =
          std::string("'") + dim_with_size(request, slot, tensor, 0) + "' must be at least 1, got " + got_text(tensor);
      break;
    case Fault::kBytes:
      text = "expected less than 2^63 bytes, got " + got_text(tensor);
      break;
    case Fault::kElements:
      text = std::string("expected at most 2147483647 elements") +
             (request.desc().arguments[slot.argument].flags & TIAOT_ARGUMENT_BATCHED ? " per sample" : "") + ", got " +
             got_text(tensor);
      break;
    case Fault::kNull:
      text = "data is NULL, got " + got_text(tensor);
      break;
    case Fault::kStrides:
      text = "expected strides " + dense_strides(tensor) + " (dense, row-major), got " +
             list_text(tensor.ndim, tensor.strides) + " for " + got_text(tensor);
      break;
    case Fault::kAlignment: {
      char address[32];
      std::snprintf(address, sizeof address, "0x%" PRIxPTR,
                    reinterpret_cast<uintptr_t>(tensor.data) + static_cast<uintptr_t>(tensor.byte_offset));
      text = "expected data aligned to " + std::to_string(tensor.dtype.bits / 8) + " bytes, got address " + address;
      break;
    }
  }
  return raise(status, "%s.%s: %s: %s", request.desc().name, entry_name(request.entry),
               slot_text(request, slot).c_str(), text.c_str());
}

tiaot_status explain_device(const Request &request, const DLTensor *arrays, uint32_t index, uint32_t reference,
                            int32_t device) {
  std::string expected = "the CPU";
  if (device >= 0) {
    const std::string other = slot_text(request, reference), role = "argument ";
    expected = "cuda:" + std::to_string(device) + ", where " +
               (other.compare(0, role.size(), role) == 0 ? other.substr(role.size()) : other) + " is";
  }
  return raise(TIAOT_ERROR_TYPE, "%s.%s: %s: expected an array on %s, got one on %s", request.desc().name,
               entry_name(request.entry), slot_text(request, index).c_str(), expected.c_str(),
               device_text(arrays[index]).c_str());
}

tiaot_status explain_state_device(const Request &request, const DLTensor *arrays, uint32_t index, int32_t device) {
  const std::string place = device == kOnCpu ? "the CPU" : "cuda:" + std::to_string(device);
  return raise(TIAOT_ERROR_TYPE, "%s.%s: %s: the kernel works on state, which is on %s, got an array on %s",
               request.desc().name, entry_name(request.entry), slot_text(request, index).c_str(), place.c_str(),
               device_text(arrays[index]).c_str());
}

tiaot_status explain_no_cuda(const char *who, const tiaot_module_desc &module) {
  return raise(TIAOT_ERROR_UNSUPPORTED, "%s: module '%s' was exported without CUDA code: export it with --cuda", who,
               module.name);
}

tiaot_status explain_count(const Request &request, bool with_results, int32_t count) {
  const uint32_t expected = request.operands() + (with_results ? request.results() : 0);
  std::vector<std::string> names;
  for (uint32_t i = 0; i < expected; ++i) names.push_back(slot_text(request, i));
  return raise(TIAOT_ERROR_VALUE, "%s.%s: expected %u arrays (%s), got %d", request.desc().name,
               entry_name(request.entry), expected, join(names, ", ").c_str(), count);
}

tiaot_status explain_overlap(const Request &request, uint32_t result, uint32_t other) {
  return raise(TIAOT_ERROR_VALUE, "%s.%s: %s: overlaps %s", request.desc().name, entry_name(request.entry),
               slot_text(request, result).c_str(), slot_text(request, other).c_str());
}

tiaot_status explain_state_overlap(const Request &request, uint32_t array) {
  return raise(TIAOT_ERROR_VALUE, "%s.%s: %s: overlaps the state that the kernel works on; pass a copy",
               request.desc().name, entry_name(request.entry), slot_text(request, array).c_str());
}

}  // namespace tiaot
