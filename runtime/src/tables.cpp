// tables.cpp: checks that a module's tables keep the rules of tiaot/module.h. Knows nothing of files and arrays.
#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "cpu.hpp"
#include "dtypes.hpp"
#include "error.hpp"
#include "module.hpp"

namespace tiaot {
namespace {

// Each function returns what is wrong, "" when nothing is.

std::string check_arguments(const tiaot_kernel_desc &kernel) {
  const uint32_t inputs = kernel.input_count, outputs = kernel.output_count;
  if (inputs > TIAOT_MAX_ARRAYS || outputs > TIAOT_MAX_ARRAYS) return "too many arguments";
  if (outputs == 0 && kernel.state == 0) return "no output";
  if (kernel.arguments == nullptr && inputs + outputs > 0) return "no table of arguments";
  uint32_t gradients = 0, tangents = 0;
  for (uint32_t i = 0; i < inputs + outputs; ++i) {
    const tiaot_argument_desc &argument = kernel.arguments[i];
    if (argument.name == nullptr) return "an argument has no name";
    const std::string who = "argument '" + std::string(argument.name) + "'";
    constexpr uint32_t kDerivative = TIAOT_ARGUMENT_DIFFERENTIABLE | TIAOT_ARGUMENT_TANGENT;
    constexpr uint32_t kKnown = TIAOT_ARGUMENT_BATCHED | TIAOT_ARGUMENT_VALUE | kDerivative;
    if (argument.flags & ~kKnown) return who + " has an unknown flag";
    if (i >= inputs && argument.flags & TIAOT_ARGUMENT_VALUE) return who + " is an output and a value";
    if (argument.rank > TIAOT_MAX_DIMS) return who + " has too many dimensions";
    if (argument.rank > 0 && argument.dims == nullptr) return who + " has no dimensions";
    const bool batched = argument.flags & TIAOT_ARGUMENT_BATCHED;
    for (uint32_t axis = 0; axis < argument.rank; ++axis) {
      if (argument.dims[axis] >= kernel.dim_count) return who + " has an unknown dimension";
      const bool is_batch = static_cast<int64_t>(argument.dims[axis]) == kernel.batch_dim;
      if (is_batch != (batched && axis == 0)) return who + " has the batch dimension in the wrong place";
    }
    if (batched && argument.rank == 0) return who + " has the batch dimension in the wrong place";
    if (i >= inputs && !batched && kernel.batch_dim >= 0) return who + " is an output without the batch dimension";
    if (i < inputs && argument.flags & kDerivative) {
      gradients += argument.flags & TIAOT_ARGUMENT_DIFFERENTIABLE ? 1 : 0;
      tangents += argument.flags & TIAOT_ARGUMENT_TANGENT ? 1 : 0;
      if (i >= 32) return who + " is differentiable, but not among the first 32 inputs";
    }
  }
  // The most that an entry has: of a vjp, a jvp, an hvp.
  const uint32_t most =
      std::max({gradients, tangents == 0 ? 0 : tangents + outputs, tangents == 0 ? 0 : 3 * gradients});
  if (inputs + outputs + most + (kernel.state != 0 ? 1 : 0) > TIAOT_MAX_ARRAYS) return "too many arguments";
  return "";
}

std::string check_entry(const tiaot_kernel_desc &kernel, const tiaot_entry_desc &entry) {
  if (entry.symbol == nullptr) return "an entry has no symbol";
  const std::string who = "entry '" + std::string(entry.symbol) + "'";
  if (entry.kind > TIAOT_HVP || entry.kind == TIAOT_JACOBIAN) return who + " is of an unknown kind";
  const bool along = entry.kind == TIAOT_JVP || entry.kind == TIAOT_HVP;
  if (kernel.state == 0 && entry.kind == TIAOT_GRAD) return who + " is a grad, but the kernel works on no state";
  if (kernel.state != 0 && entry.kind == TIAOT_VJP) return who + " is a vjp, but the kernel works on state";
  const bool grad = entry.kind == TIAOT_GRAD || (entry.kind == TIAOT_HVP && kernel.state != 0);
  if (kernel.state == TIAOT_STATE_WITHOUT_GRADIENT && grad) return who + " is there, which the kernel is to be without";
  if (kernel.output_count > 0 && grad) return who + " is an adjoint on state, but the kernel has outputs";
  if ((entry.kind == TIAOT_VJP || (along && kernel.state == 0)) != (entry.wrt != 0))
    return who + " has the wrong gradients for its kind";
  // On state: the tangents of outputs, the state and its tangents.
  if (kernel.state != 0 && along && kernel.input_count + 2 * kernel.output_count + 2 > TIAOT_MAX_ARRAYS) {
    return who + " has too many arrays";
  }
  const uint32_t needed = (entry.kind == TIAOT_JVP ? 0 : TIAOT_ARGUMENT_DIFFERENTIABLE) |  //
                          (along ? uint32_t{TIAOT_ARGUMENT_TANGENT} : 0);
  for (uint32_t i = 0; i < 32; ++i) {
    if (!(entry.wrt >> i & 1)) continue;
    if (i >= kernel.input_count || (kernel.arguments[i].flags & needed) != needed) {
      return who + " has the derivative of an input that is not differentiable";
    }
  }
  if (entry.block_rows < 1 || entry.block_rows > INT32_MAX) return who + " has an impossible block size";
  for (int level = 0; level < kLevels; ++level) {
    if (entry.code[level] == nullptr) return who + " lacks the code of a CPU level";
  }
  if (entry.cuda == nullptr && entry.cuda_workspace != nullptr) return who + " has a CUDA workspace without CUDA code";
  if (entry.cuda_any_rows > 1) return who + " neither takes any number of rows on CUDA nor not";
  if (entry.cuda_order > TIAOT_CUDA_UNORDERED) return who + " has an unknown order of atomic operations";
  return "";
}

std::string check_variant(const tiaot_kernel_desc &kernel, const tiaot_variant_desc &variant) {
  if (variant.name == nullptr) return "a variant has no name";
  const std::string who = "variant '" + std::string(variant.name) + "'";
  const uint32_t arguments = kernel.input_count + kernel.output_count;
  if ((variant.dtypes == nullptr && arguments > 0) || (variant.fixed == nullptr && kernel.dim_count > 0) ||
      variant.entries == nullptr || variant.entry_count == 0) {
    return who + " lacks a table";
  }
  for (uint32_t i = 0; i < arguments; ++i) {
    if (!known_dtype(variant.dtypes[i])) return who + " has an unknown element type";
  }
  for (uint32_t d = 0; d < kernel.dim_count; ++d) {
    const bool is_batch = static_cast<int64_t>(d) == kernel.batch_dim;
    if (variant.fixed[d] != -1 && (is_batch || variant.fixed[d] < 1)) return who + " has an impossible fixed size";
  }
  for (uint32_t e = 0; e < variant.entry_count; ++e) {
    const std::string wrong = check_entry(kernel, variant.entries[e]);
    if (!wrong.empty()) return who + ": " + wrong;
  }
  if (kernel.state == 0) return "";
  const auto count = [&](uint32_t kind) {
    return std::count_if(variant.entries, variant.entries + variant.entry_count,
                         [kind](const tiaot_entry_desc &entry) { return entry.kind == kind; });
  };
  if (count(TIAOT_FORWARD) != 1) return who + " has not one forward entry";
  for (uint32_t kind : {TIAOT_GRAD, TIAOT_JVP, TIAOT_HVP}) {
    if (count(kind) > 1)
      return who + " has more than one " + (kind == TIAOT_GRAD ? "grad" : kind == TIAOT_JVP ? "jvp" : "hvp") + " entry";
  }
  return "";
}

std::string check_kernel(const tiaot_kernel_desc &kernel) {
  if (kernel.signature == nullptr || kernel.doc == nullptr || kernel.verification == nullptr) {
    return "no signature or description";
  }
  if (kernel.dim_count > TIAOT_MAX_DIMS) return "too many dimensions";
  if (kernel.batch_dim < -1 || kernel.batch_dim >= static_cast<int64_t>(kernel.dim_count))
    return "no such batch dimension";
  if (kernel.dim_count > 0 && kernel.dim_names == nullptr) return "no names of dimensions";
  for (uint32_t d = 0; d < kernel.dim_count; ++d) {
    if (kernel.dim_names[d] == nullptr) return "a dimension has no name";
  }
  if (kernel.state > TIAOT_STATE_WITHOUT_GRADIENT) return "it neither works on state nor not";
  if (kernel.state != 0 && kernel.batch_dim >= 0) return "it works on state and has a batch dimension";
  std::string wrong = check_arguments(kernel);
  if (!wrong.empty()) return wrong;

  if (kernel.variant_count == 0 || kernel.variants == nullptr) return "no variant";
  std::vector<std::vector<uint32_t>> groups;
  for (uint32_t v = 0; v < kernel.variant_count; ++v) {
    const tiaot_variant_desc &variant = kernel.variants[v];
    wrong = check_variant(kernel, variant);
    if (!wrong.empty()) return wrong;
    std::vector<uint32_t> dtypes(variant.dtypes, variant.dtypes + kernel.input_count + kernel.output_count);
    if (std::find(groups.begin(), groups.end(), dtypes) == groups.end()) groups.push_back(std::move(dtypes));
  }
  if (groups.size() > kMaxGroups) return "too many combinations of element types";
  return "";
}

// The sizes of one field, and that all of its elements lie inside of the state.
std::string check_extent(const tiaot_field_desc &field, int64_t state_bytes) {
  if (field.rank > TIAOT_MAX_DIMS) return "has too many dimensions";
  if (field.rank > 0 && (field.shape == nullptr || field.strides == nullptr)) return "has no shape or strides";
  const int64_t item = item_size(field.dtype);
  int64_t elements = 1, bytes = item;  // from the first element to the end of the last
  for (uint32_t axis = 0; axis < field.rank; ++axis) {
    const int64_t size = field.shape[axis], stride = field.strides[axis];
    if (size < 0 || stride < 0) return "has a negative size or stride";
    int64_t step, way;
    if (__builtin_mul_overflow(stride, item, &step) ||
        __builtin_mul_overflow(step, std::max<int64_t>(size - 1, 0), &way) ||
        __builtin_add_overflow(bytes, way, &bytes) ||
        __builtin_mul_overflow(elements, std::max<int64_t>(size, 1), &elements)) {
      return "is too large";
    }
  }
  int64_t total;
  if (__builtin_mul_overflow(elements, item, &total)) return "is too large";
  const bool empty = std::find(field.shape, field.shape + field.rank, 0) != field.shape + field.rank;
  if (field.offset < 0 || field.offset > state_bytes || (!empty && bytes > state_bytes - field.offset)) {
    return "reaches beyond the state";
  }
  if (field.offset % item != 0) return "is not aligned to its element";
  return "";
}

std::string check_field(const tiaot_module_desc &desc, const tiaot_field_desc &field) {
  if (field.name == nullptr) return "a field has no name";
  const std::string who = "field '" + std::string(field.name) + "'";
  if (!known_dtype(field.dtype)) return who + " has an unknown element type";
  const std::string wrong = check_extent(field, desc.state_bytes);
  if (!wrong.empty()) return who + " " + wrong;
  for (const tiaot_field_desc *other = desc.fields; other != &field; ++other) {
    if (std::strcmp(other->name, field.name) == 0) return who + " is there twice";
  }
  return "";
}

std::string check_gradient(const tiaot_module_desc &desc, const tiaot_field_desc &field) {
  if (field.gradient == -1) return "";
  const std::string who = "field '" + std::string(field.name) + "'";
  if (field.gradient < 0 || static_cast<uint32_t>(field.gradient) >= desc.field_count) {
    return who + " has an unknown gradient";
  }
  const tiaot_field_desc &gradient = desc.fields[field.gradient];
  if (gradient.name != std::string(field.name) + ".grad") return who + " has a gradient of a wrong name";
  if (gradient.dtype != field.dtype || gradient.rank != field.rank ||
      !std::equal(field.shape, field.shape + field.rank, gradient.shape)) {
    return who + " has a gradient of another type or shape";
  }
  return "";
}

std::string check_content(const tiaot_module_desc &desc, const tiaot_content_desc &content) {
  if (content.data == nullptr) return "content of the state is missing";
  if (content.offset < 0 || content.bytes < 0 || content.offset > desc.state_bytes ||
      content.bytes > desc.state_bytes - content.offset) {
    return "content reaches beyond the state";
  }
  return "";
}

std::string check_state(const tiaot_module_desc &desc) {
  if (desc.state_bytes < 0 || (desc.field_count == 0 && desc.state_bytes != 0)) return "an impossible size of state";
  if (desc.field_count > INT32_MAX) return "too many fields";
  if (desc.field_count > 0 && desc.fields == nullptr) return "no table of fields";
  for (uint32_t f = 0; f < desc.field_count; ++f) {
    const std::string wrong = check_field(desc, desc.fields[f]);
    if (!wrong.empty()) return wrong;
  }
  for (uint32_t f = 0; f < desc.field_count; ++f) {
    const std::string wrong = check_gradient(desc, desc.fields[f]);
    if (!wrong.empty()) return wrong;
  }
  if (desc.content_count > 0 && desc.contents == nullptr) return "no table of content";
  for (uint32_t c = 0; c < desc.content_count; ++c) {
    const std::string wrong = check_content(desc, desc.contents[c]);
    if (!wrong.empty()) return wrong;
  }
  return "";
}

std::string check_cuda(const tiaot_cuda_desc &cuda) {
  if (cuda.ptxas_version == nullptr) return "the version of ptxas is missing";
  if (cuda.image_count == 0 || cuda.images == nullptr) return "no table of CUDA images";
  for (uint32_t i = 0; i < cuda.image_count; ++i) {
    const tiaot_cuda_image_desc &image = cuda.images[i];
    const std::string who = "CUDA image " + std::to_string(i);
    if (image.kind != TIAOT_CUDA_CUBIN && image.kind != TIAOT_CUDA_PTX) return who + " is of an unknown kind";
    if (image.architecture < 10 || image.architecture > 999) return who + " has an impossible architecture";
    if (image.data == nullptr || image.bytes < 1 || image.code_bytes < 0) return who + " has no data";
  }
  if (cuda.kernel_count > 0 && cuda.kernels == nullptr) return "no table of CUDA kernels";
  for (uint32_t k = 0; k < cuda.kernel_count; ++k) {
    if (cuda.kernels[k] == nullptr) return "a CUDA kernel has no name";
  }
  return "";
}

bool has_cuda_code(const tiaot_kernel_desc &kernel) {
  for (uint32_t v = 0; v < kernel.variant_count; ++v) {
    const tiaot_variant_desc &variant = kernel.variants[v];
    for (uint32_t e = 0; e < variant.entry_count; ++e) {
      if (variant.entries[e].cuda != nullptr) return true;
    }
  }
  return false;
}

std::string check_module(const tiaot_module_desc &desc) {
  for (const char *text :
       {desc.name, desc.hash, desc.target, desc.tiaot_version, desc.taichi_version, desc.llvm_version}) {
    if (text == nullptr) return "a name or a version is missing";
  }
  const std::string wrong_state = check_state(desc);
  if (!wrong_state.empty()) return wrong_state;
  const std::string wrong_cuda = desc.cuda == nullptr ? "" : check_cuda(*desc.cuda);
  if (!wrong_cuda.empty()) return wrong_cuda;
  if (desc.kernel_count > 0 && desc.kernels == nullptr) return "no table of kernels";
  for (uint32_t k = 0; k < desc.kernel_count; ++k) {
    const tiaot_kernel_desc &kernel = desc.kernels[k];
    if (kernel.name == nullptr) return "a kernel has no name";
    const std::string wrong = check_kernel(kernel);
    if (!wrong.empty()) return "kernel '" + std::string(kernel.name) + "': " + wrong;
    if (kernel.state != 0 && desc.field_count == 0) {
      return "kernel '" + std::string(kernel.name) + "': it works on state, but the module has none";
    }
    if (desc.cuda == nullptr && has_cuda_code(kernel)) {
      return "kernel '" + std::string(kernel.name) + "': it has CUDA code, but the module has no CUDA images";
    }
  }
  return "";
}

}  // namespace

tiaot_status check_tables(const tiaot_module_desc &desc, const char *origin) {
  const std::string wrong = check_module(desc);
  if (wrong.empty()) return TIAOT_OK;
  return raise(TIAOT_ERROR_MODULE, "cannot open module '%s': its tables are wrong: %s", origin, wrong.c_str());
}

}  // namespace tiaot
