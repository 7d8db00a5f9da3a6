// dispatch.cpp: the choice of variant and entry, the cutting of the batch. Knows nothing of threads and memory.
#include "dispatch.hpp"

#include <algorithm>
#include <string>

#include "error.hpp"

namespace tiaot {
namespace {

// What a chunk aims at: enough to make its claim free, few enough to share out evenly.
constexpr int64_t kChunk = 64 << 10;
// Every chunk but the first has its own copy of the shared gradients: so few of them, and each worth its addition.
constexpr int64_t kMaxSummedChunks = 16;
constexpr int64_t kStepsPerAddition = 64;

// The entry of the variant with exactly this wrt, or else the smallest that contains it where that `may_have_more`;
// nullptr for none.
const tiaot_entry_desc *find_entry(const tiaot_variant_desc &variant, uint32_t kind, uint32_t wrt, bool may_have_more,
                                   bool cuda) {
  const tiaot_entry_desc *best = nullptr;
  for (uint32_t e = 0; e < variant.entry_count; ++e) {
    const tiaot_entry_desc &entry = variant.entries[e];
    if (entry.kind != kind || (entry.wrt & wrt) != wrt || (cuda && entry.cuda == nullptr)) continue;
    if (entry.wrt == wrt) return &entry;
    if (!may_have_more) continue;
    if (best == nullptr || count_bits(entry.wrt) < count_bits(best->wrt)) best = &entry;
  }
  return best;
}

// Whether the inputs in wrt have fewer elements in a sample than the outputs, so that jvps are fewer than vjps. Of
// sizes that no operand has told, those of the variant.
bool is_tall(const Request &request, const Checked &checked, const tiaot_variant_desc &variant) {
  const tiaot_kernel_desc &desc = request.desc();
  const auto elements = [&](uint32_t argument) {
    const tiaot_argument_desc &it = desc.arguments[argument];
    int64_t count = 1;
    for (uint32_t axis = it.flags & TIAOT_ARGUMENT_BATCHED; axis < it.rank; ++axis) {
      const int64_t size = checked.sizes[it.dims[axis]];
      count = saturating_product(count, std::max<int64_t>(size >= 0 ? size : variant.fixed[it.dims[axis]], 0));
    }
    return count;
  };
  int64_t columns = 0, rows = 0;
  for (uint32_t i = 0; i < desc.input_count && i < 32; ++i) {
    if (request.wrt >> i & 1) columns = saturating_sum(columns, elements(i));
  }
  for (uint32_t k = 0; k < desc.output_count; ++k) rows = saturating_sum(rows, elements(desc.input_count + k));
  return columns < rows;
}

// The entry that serves a request on this variant; nullptr for none.
const tiaot_entry_desc *find_entry(const Request &request, const Checked &checked, const tiaot_variant_desc &variant,
                                   bool cuda) {
  const auto kind = static_cast<uint32_t>(request.entry);
  if (kind != TIAOT_JACOBIAN) return find_entry(variant, kind, request.wrt, kind == TIAOT_VJP, cuda);
  const JacobianMode mode = request.mode;
  const tiaot_entry_desc *rows = nullptr, *columns = nullptr;
  if (mode != JacobianMode::kForward) rows = find_entry(variant, TIAOT_VJP, request.wrt, true, cuda);
  if (mode != JacobianMode::kReverse && !cuda) columns = find_entry(variant, TIAOT_JVP, request.wrt, true, false);
  if (rows == nullptr || columns == nullptr) return rows != nullptr ? rows : columns;
  return is_tall(request, checked, variant) ? columns : rows;
}

std::string wrt_text(const tiaot_kernel_desc &desc, uint32_t wrt) {
  std::string text;
  for (uint32_t i = 0; i < desc.input_count; ++i) {
    if (wrt >> i & 1) text += (text.empty() ? "" : ", ") + std::string(desc.arguments[i].name);
  }
  return "(" + text + ")";
}

std::string entry_text(const tiaot_kernel_desc &desc, int kind, uint32_t wrt) {
  const std::string name = entry_name(kind);
  return wrt == 0 ? name : name + " with respect to " + wrt_text(desc, wrt);
}

[[gnu::cold]] tiaot_status explain_missing(const Request &request, const tiaot_variant_desc &variant) {
  const tiaot_kernel_desc &desc = request.desc();
  std::string existing;
  for (uint32_t e = 0; e < variant.entry_count; ++e) {
    const tiaot_entry_desc &entry = variant.entries[e];
    existing += existing.empty() ? "" : ", ";
    existing += entry_text(desc, int(entry.kind), entry.wrt);
  }
  const bool by_columns = request.mode == JacobianMode::kForward;
  const int kind = request.entry != TIAOT_JACOBIAN ? request.entry : by_columns ? TIAOT_JVP : TIAOT_VJP;
  const std::string wanted = entry_text(desc, kind, request.wrt) + (request.wrt == 0 ? " entry" : "");
  return raise(TIAOT_ERROR_UNSUPPORTED, "%s.%s: variant '%s' has no %s; it has %s", desc.name,
               entry_name(request.entry), variant.name, wanted.c_str(), existing.c_str());
}

// `entry`: what would run on the CPU.
[[gnu::cold]] tiaot_status explain_no_cuda_code(const Request &request, const tiaot_variant_desc &variant,
                                                const tiaot_entry_desc &entry) {
  const bool reason = entry.cuda_missing != nullptr && entry.cuda_missing[0] != '\0';
  return raise(TIAOT_ERROR_UNSUPPORTED, "%s.%s: variant '%s' has no CUDA code%s%s", request.desc().name,
               entry_name(request.entry), variant.name, reason ? ": " : "", reason ? entry.cuda_missing : "");
}

int64_t quotient_up(int64_t a, int64_t b) { return a / b + (a % b != 0 ? 1 : 0); }

}  // namespace

tiaot_status choose_entry(const Request &request, const Checked &checked, Choice *choice) {
  const tiaot_kernel_desc &desc = request.desc();
  const bool cuda = checked.device != kOnCpu;
  if (cuda && request.mode == JacobianMode::kForward) {
    return raise(TIAOT_ERROR_UNSUPPORTED, "%s.jacobian: the forward mode takes arrays on the CPU, got some on cuda:%d",
                 desc.name, checked.device);
  }
  const tiaot_variant_desc *lacking = nullptr;
  for (uint32_t v = 0; v < desc.variant_count; ++v) {
    const tiaot_variant_desc &variant = desc.variants[v];
    if (!(checked.groups >> request.kernel->variant_group[v] & 1)) continue;
    if (request.only != nullptr && request.only != &variant) continue;
    if (!sizes_fit(variant, desc.dim_count, checked.sizes)) continue;
    const tiaot_entry_desc *entry = find_entry(request, checked, variant, cuda);
    if (entry != nullptr) {
      *choice = {&variant, entry};
      return TIAOT_OK;
    }
    if (lacking == nullptr) lacking = &variant;
  }
  if (lacking == nullptr) return fail("%s: checked arrays fit no variant", desc.name);
  if (cuda) {
    const tiaot_entry_desc *entry = find_entry(request, checked, *lacking, false);
    if (entry != nullptr) return explain_no_cuda_code(request, *lacking, *entry);
  }
  return explain_missing(request, *lacking);
}

Cut cut_batch(int64_t rows, const Cost &cost, int64_t block_rows) {
  if (is_small(rows, cost.row_work)) return {rows, 1};
  const int64_t limit = kMaxElements / std::max<int64_t>(cost.widest, 1);
  const int64_t target = std::max(kChunk, saturating_product(cost.shared_gradients, kStepsPerAddition));
  int64_t chunk = std::max<int64_t>(target / std::max<int64_t>(cost.row_work, 1), 1);
  if (cost.shared_gradients > 0) chunk = std::max(chunk, quotient_up(rows, kMaxSummedChunks));
  chunk = quotient_up(std::min(chunk, limit), block_rows) * block_rows;
  if (chunk > limit) chunk = limit >= block_rows ? limit / block_rows * block_rows : limit;
  chunk = std::min(chunk, std::max<int64_t>(rows, 1));
  return {chunk, std::max<int64_t>(quotient_up(rows, chunk), 1)};
}

}  // namespace tiaot
