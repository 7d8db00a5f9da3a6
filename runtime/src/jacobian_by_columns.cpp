// jacobian_by_columns.cpp: Jacobians from a jvp entry. Knows nothing of how the entry computes.
//
// Column i of all samples' Jacobians, of all outputs, is one jvp of the whole batch along the i-th basis tangent, which
// is every sample's. So the inputs need no copies, and a shared input is nothing special; what comes out is spread over
// the results, whose rows are along the inputs.
#include <algorithm>
#include <atomic>
#include <cstring>

#include "dtypes.hpp"
#include "error.hpp"
#include "memory.hpp"
#include "plan.hpp"
#include "workers.hpp"

namespace tiaot {
namespace {

struct Columns {
  const Request &request;
  const Checked &checked;
  const tiaot_variant_desc &variant;
  const tiaot_entry_desc &entry;
  int64_t count;  // elements of one sample of the inputs in wrt
  Cut cut;
  int64_t worker_bytes;
  int64_t tangents_begin, tangents_end;  // in the worker's memory; zeros but for the basis tangent of a run
  int64_t offsets[TIAOT_MAX_ARRAYS];     // in the worker's memory, for each array of the entry behind the inputs

  const tiaot_kernel_desc &desc() const { return request.desc(); }
  bool batched(uint32_t argument) const { return desc().arguments[argument].flags & TIAOT_ARGUMENT_BATCHED; }
  int64_t elements(uint32_t argument) const { return slice_elements(desc(), argument, checked.sizes); }
  int64_t slice_bytes(uint32_t argument) const { return elements(argument) * item_size(variant.dtypes[argument]); }
  bool has_tangent(uint32_t i) const { return i < 32 && entry.wrt >> i & 1; }
  bool asked_for(uint32_t i) const { return i < 32 && request.wrt >> i & 1; }
};

// Lays out the memory of one worker. Tangents and results of rows that the caller's arrays have no place for.
tiaot_status plan_memory(Columns *it) {
  const tiaot_kernel_desc &desc = it->desc();
  const int64_t last = it->checked.rows(desc) - (it->cut.chunk_count - 1) * it->cut.chunk_rows;
  int64_t top = 0;
  for (int64_t rows : {it->cut.chunk_rows, last}) {
    const int64_t bytes = workspace_bytes(it->entry.workspace, rows, it->checked.sizes);
    if (bytes < 0) return fail("%s: the module gives an impossible size of workspace", it->entry.symbol);
    top = std::max(top, bytes);
  }
  uint32_t count = 0;
  bool too_much = false;
  const auto place = [&](uint32_t argument) {
    const int64_t bytes = saturating_product(it->slice_bytes(argument), it->batched(argument) ? it->cut.chunk_rows : 1);
    too_much = too_much || bytes > INT64_MAX / 4 || top > INT64_MAX / 4;
    it->offsets[count++] = top;
    if (!too_much) top += round_up(bytes, kAlignment);
  };
  it->tangents_begin = top;
  for (uint32_t i = 0; i < desc.input_count; ++i) {
    if (it->has_tangent(i)) place(i);
  }
  it->tangents_end = top;
  for (int twice = 0; twice < 2; ++twice) {
    for (uint32_t k = 0; k < desc.output_count; ++k) place(desc.input_count + k);
  }
  it->worker_bytes = top;
  return too_much ? raise(TIAOT_ERROR_MEMORY, "no memory for workspace: more than 2^61 bytes are needed") : TIAOT_OK;
}

void set_element(uint32_t dtype, char *array, int64_t element, float value) {
  visit_dtype(dtype, [&](auto zero) {
    using T = decltype(zero);
    reinterpret_cast<T *>(array)[element] = static_cast<T>(value);
  });
}

// Writes `count` numbers to places `step` apart, as the element type of the Jacobian, which is the input's.
void spread(uint32_t dtype, uint32_t from_dtype, char *to, int64_t step, const char *from, int64_t count) {
  visit_dtype(dtype, [&](auto to_zero) {
    visit_dtype(from_dtype, [&](auto from_zero) {
      using To = decltype(to_zero);
      using From = decltype(from_zero);
      for (int64_t i = 0; i < count; ++i) {
        const auto number = static_cast<double>(reinterpret_cast<const From *>(from)[i]);
        reinterpret_cast<To *>(to)[i * step] = static_cast<To>(number);
      }
    });
  });
}

// One column of the Jacobians of `rows` samples from `begin` on: that of element `element` of input `input`, which is
// number `place` of those in the request's wrt, and number `tangent` of those in the entry's.
int32_t run_column(const Columns &it, int64_t begin, int64_t rows, uint32_t input, int64_t element, uint32_t place,
                   uint32_t tangent, char *memory) {
  const tiaot_kernel_desc &desc = it.desc();
  void *arrays[TIAOT_MAX_ARRAYS];
  uint32_t count = 0, made = 0;
  for (uint32_t i = 0; i < desc.input_count; ++i) {
    char *data = static_cast<char *>(it.checked.data[i]);
    if (data != nullptr && it.batched(i)) data += begin * it.slice_bytes(i);
    arrays[count++] = data;
  }
  const uint32_t tangents = count_bits(it.entry.wrt), results = 2 * desc.output_count;
  while (made < tangents + results) arrays[count++] = memory + it.offsets[made++];

  char *basis = memory + it.offsets[tangent];
  const int64_t elements = it.elements(input);
  const auto set = [&](float value) {
    for (int64_t row = 0; row < (it.batched(input) ? rows : 1); ++row) {
      set_element(it.variant.dtypes[input], basis, row * elements + element, value);
    }
  };
  set(1);
  const bool has_workspace = it.entry.workspace != nullptr && it.entry.workspace(rows, it.checked.sizes) > 0;
  const tiaot_code code = it.entry.code[it.request.kernel->level];
  const int32_t outcome = code(rows, it.checked.sizes, arrays, has_workspace ? memory : nullptr, nullptr);
  set(0);
  if (outcome != 0) return outcome;

  for (uint32_t k = 0; k < desc.output_count; ++k) {
    const uint32_t output = desc.input_count + k;
    char *jacobian = static_cast<char *>(it.checked.data[desc.input_count + k * it.request.gradients + place]);
    if (jacobian == nullptr) continue;
    const int64_t its = it.elements(output), first = it.batched(output) ? begin * its : 0;
    const int64_t item = item_size(it.variant.dtypes[input]);
    spread(it.variant.dtypes[input], it.variant.dtypes[output], jacobian + (first * elements + element) * item,
           elements, memory + it.offsets[tangents + desc.output_count + k], it.batched(output) ? rows * its : its);
  }
  return 0;
}

int32_t run_column(const Columns &it, int64_t begin, int64_t rows, int64_t column, char *memory) {
  uint32_t place = 0, tangent = 0;
  for (uint32_t i = 0; i < it.desc().input_count; ++i) {
    if (it.asked_for(i)) {
      if (column < it.elements(i)) return run_column(it, begin, rows, i, column, place, tangent, memory);
      column -= it.elements(i);
      ++place;
    }
    if (it.has_tangent(i)) ++tangent;
  }
  return 0;
}

}  // namespace

tiaot_status run_jacobian_by_columns(const Request &request, const Checked &checked, const Choice &choice) {
  const tiaot_kernel_desc &desc = request.desc();
  Columns it{request, checked, *choice.variant, *choice.entry, 0, {}, 0, 0, 0, {}};
  for (uint32_t i = 0; i < desc.input_count; ++i) {
    if (it.asked_for(i)) it.count = saturating_sum(it.count, it.elements(i));
  }
  const int64_t rows = checked.rows(desc);
  if (rows == 0 || it.count == 0) return TIAOT_OK;
  it.cut = cut_batch(rows, entry_cost(desc, it.entry, request.wrt, checked.sizes), it.entry.block_rows);
  if (tiaot_status status = plan_memory(&it)) return status;

  const int64_t pieces = saturating_product(it.cut.chunk_count, it.count);
  const Cost cost = entry_cost(desc, it.entry, request.wrt, checked.sizes);
  int32_t workers = 1;
  if (!is_small(saturating_product(rows, it.count), cost.row_work)) {
    if (tiaot_status status = count_workers(request.num_threads, pieces, &workers)) return status;
  }
  int64_t bytes = 0;
  if (__builtin_mul_overflow(int64_t{workers}, it.worker_bytes, &bytes)) bytes = INT64_MAX;
  const WorkMemory memory(bytes);
  if (memory.failed()) {
    return raise(TIAOT_ERROR_MEMORY, "no memory for workspace: %lld bytes are needed", static_cast<long long>(bytes));
  }
  for (int32_t worker = 0; worker < workers; ++worker) {
    char *mine = memory.data() + worker * it.worker_bytes;
    std::memset(mine + it.tangents_begin, 0, static_cast<size_t>(it.tangents_end - it.tangents_begin));
  }
  std::atomic<int32_t> failed{0};
  const auto run_one = [&](int64_t piece, int64_t worker) {  // all columns of a chunk, then the next chunk
    const int64_t begin = piece / it.count * it.cut.chunk_rows;
    char *mine = memory.data() + worker * it.worker_bytes;
    const int64_t here = std::min(it.cut.chunk_rows, rows - begin);
    if (int32_t outcome = run_column(it, begin, here, piece % it.count, mine)) failed.store(outcome);
  };
  if (tiaot_status status = run_pieces(pieces, workers, request.executor, run_one)) return status;
  return failed.load() == 0 ? TIAOT_OK : explain_outcome(failed.load(), request.kernel->module->fault);
}

}  // namespace tiaot
