// tables.cpp: checks that a module's tables keep the rules of tiaot/module.h. Knows nothing of files and arrays.
#include <algorithm>
#include <string>
#include <vector>

#include "error.hpp"
#include "module.hpp"

namespace tiaot {
namespace {

// Each function returns what is wrong, "" when nothing is.

std::string check_arguments(const tiaot_kernel_desc &kernel) {
  const uint32_t inputs = kernel.input_count, outputs = kernel.output_count;
  if (inputs > TIAOT_MAX_ARRAYS || outputs > TIAOT_MAX_ARRAYS) return "too many arguments";
  if (outputs == 0) return "no output";
  if (kernel.arguments == nullptr) return "no table of arguments";
  uint32_t gradients = 0;
  for (uint32_t i = 0; i < inputs + outputs; ++i) {
    const tiaot_argument_desc &argument = kernel.arguments[i];
    if (argument.name == nullptr) return "an argument has no name";
    const std::string who = "argument '" + std::string(argument.name) + "'";
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
    if (i < inputs && argument.flags & TIAOT_ARGUMENT_DIFFERENTIABLE) {
      ++gradients;
      if (i >= 32) return who + " is differentiable, but not among the first 32 inputs";
    }
  }
  if (inputs + outputs + gradients > TIAOT_MAX_ARRAYS) return "too many arguments";
  return "";
}

std::string check_entry(const tiaot_kernel_desc &kernel, const tiaot_entry_desc &entry) {
  if (entry.symbol == nullptr) return "an entry has no symbol";
  const std::string who = "entry '" + std::string(entry.symbol) + "'";
  if (entry.kind != TIAOT_FORWARD && entry.kind != TIAOT_VJP) return who + " is of an unknown kind";
  if ((entry.kind == TIAOT_VJP) != (entry.wrt != 0)) return who + " has the wrong gradients for its kind";
  for (uint32_t i = 0; i < 32; ++i) {
    if (!(entry.wrt >> i & 1)) continue;
    if (i >= kernel.input_count || !(kernel.arguments[i].flags & TIAOT_ARGUMENT_DIFFERENTIABLE)) {
      return who + " has the gradient of an input that is not differentiable";
    }
  }
  if (entry.block_rows < 1 || entry.block_rows > INT32_MAX) return who + " has an impossible block size";
  for (tiaot_code code : entry.code) {
    if (code == nullptr) return who + " lacks the code of a CPU level";
  }
  return "";
}

std::string check_variant(const tiaot_kernel_desc &kernel, const tiaot_variant_desc &variant) {
  if (variant.name == nullptr) return "a variant has no name";
  const std::string who = "variant '" + std::string(variant.name) + "'";
  if (variant.dtypes == nullptr || (variant.fixed == nullptr && kernel.dim_count > 0) || variant.entries == nullptr ||
      variant.entry_count == 0) {
    return who + " lacks a table";
  }
  for (uint32_t i = 0; i < kernel.input_count + kernel.output_count; ++i) {
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

std::string check_module(const tiaot_module_desc &desc) {
  for (const char *text :
       {desc.name, desc.hash, desc.target, desc.tiaot_version, desc.taichi_version, desc.llvm_version}) {
    if (text == nullptr) return "a name or a version is missing";
  }
  if (desc.kernel_count > 0 && desc.kernels == nullptr) return "no table of kernels";
  for (uint32_t k = 0; k < desc.kernel_count; ++k) {
    const tiaot_kernel_desc &kernel = desc.kernels[k];
    if (kernel.name == nullptr) return "a kernel has no name";
    const std::string wrong = check_kernel(kernel);
    if (!wrong.empty()) return "kernel '" + std::string(kernel.name) + "': " + wrong;
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
