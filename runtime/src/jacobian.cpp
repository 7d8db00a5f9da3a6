// jacobian.cpp: Jacobians from the vjp entry; jacobian_by_columns.cpp makes them from a jvp entry. Knows nothing of how
// the entry computes.
//
// Row (b, j) of an output's Jacobian is the vjp of sample b with the j-th basis vector as cotangent. The gradients of
// a batch of such rows are, in this order, the Jacobian itself, so the code writes straight into the result. What
// has to be made for it is the batch: each sample repeated, with its basis cotangent. A gradient of a shared input
// would be summed over that batch, so where one is asked for, each row is a batch of its own.
#include <algorithm>
#include <atomic>
#include <cstring>

#include "dtypes.hpp"
#include "error.hpp"
#include "float_control.hpp"
#include "memory.hpp"
#include "plan.hpp"
#include "workers.hpp"

namespace tiaot {
namespace {

struct Jacobian {
  const Request &request;
  const Checked &checked;
  const tiaot_variant_desc &variant;
  const tiaot_entry_desc &entry;
  uint32_t output;    // whose Jacobian it is
  int64_t elements;   // of one sample of that output
  int64_t rows;       // samples times elements
  int64_t code_rows;  // at most so many rows are given to the code at once
  Cut cut;
  int64_t worker_bytes;
  int64_t offsets[TIAOT_MAX_ARRAYS];  // in the worker's memory, for each array of the entry that is made there

  const tiaot_kernel_desc &desc() const { return request.desc(); }
  bool batched(uint32_t argument) const { return desc().arguments[argument].flags & TIAOT_ARGUMENT_BATCHED; }
  int64_t slice_bytes(uint32_t argument) const {
    return slice_elements(desc(), argument, checked.sizes) * item_size(variant.dtypes[argument]);
  }
};

void write_one(uint32_t dtype, char *array, int64_t element) {
  visit_dtype(dtype, [&](auto zero) {
    const auto one = static_cast<decltype(zero)>(1);
    std::memcpy(array + element * static_cast<int64_t>(sizeof one), &one, sizeof one);
  });
}

// Lays out the memory of one worker.
tiaot_status plan_memory(Jacobian *it) {
  const tiaot_kernel_desc &desc = it->desc();
  int64_t top = std::max(workspace_bytes(it->entry.workspace, it->code_rows, it->checked.sizes),
                         workspace_bytes(it->entry.workspace, 1, it->checked.sizes));
  if (top < 0) return fail("%s: the module gives an impossible size of workspace", it->entry.symbol);
  uint32_t count = 0;
  const auto place = [&](uint32_t argument, bool made, bool per_row) {
    it->offsets[count++] = top;
    if (made) top += round_up(it->slice_bytes(argument) * (per_row ? it->code_rows : 1), kAlignment);
  };
  for (uint32_t i = 0; i < desc.input_count; ++i) place(i, it->batched(i) && it->code_rows > 1, true);
  for (uint32_t k = 0; k < desc.output_count; ++k) place(desc.input_count + k, true, true);
  for (uint32_t i = 0; i < desc.input_count && i < 32; ++i) {
    if (it->entry.wrt >> i & 1) place(i, !(it->request.wrt >> i & 1), it->batched(i));
  }
  it->worker_bytes = top;
  return TIAOT_OK;
}

// Each row's sample, `count` rows from `begin` on, one after another.
void repeat_samples(const Jacobian &it, int64_t begin, int64_t count, const char *samples, int64_t bytes, char *to) {
  int64_t sample = begin / it.elements, element = begin % it.elements;
  for (int64_t row = 0; row < count; ++row) {
    std::memcpy(to + row * bytes, samples + sample * bytes, static_cast<size_t>(bytes));
    if (++element == it.elements) {
      element = 0;
      ++sample;
    }
  }
}

int32_t run_rows(const Jacobian &it, int64_t begin, int64_t count, char *memory) {
  const tiaot_kernel_desc &desc = it.desc();
  void *arrays[TIAOT_MAX_ARRAYS];
  uint32_t at = 0;
  for (uint32_t i = 0; i < desc.input_count; ++i, ++at) {
    char *input = static_cast<char *>(it.checked.data[i]);
    if (it.batched(i) && it.code_rows > 1) {
      repeat_samples(it, begin, count, input, it.slice_bytes(i), memory + it.offsets[at]);
      input = memory + it.offsets[at];
    } else if (it.batched(i)) {
      input += begin / it.elements * it.slice_bytes(i);
    }
    arrays[at] = input;
  }
  for (uint32_t k = 0; k < desc.output_count; ++k, ++at) {
    const uint32_t argument = desc.input_count + k;
    char *cotangents = memory + it.offsets[at];
    std::memset(cotangents, 0, static_cast<size_t>(it.slice_bytes(argument) * count));
    for (int64_t row = 0; argument == it.output && row < count; ++row) {
      write_one(it.variant.dtypes[argument], cotangents, row * it.elements + (begin + row) % it.elements);
    }
    arrays[at] = cotangents;
  }
  uint32_t result = desc.input_count + (it.output - desc.input_count) * it.request.gradients;
  for (uint32_t i = 0; i < desc.input_count && i < 32; ++i) {
    if (!(it.entry.wrt >> i & 1)) continue;
    if (it.request.wrt >> i & 1) {
      arrays[at] = static_cast<char *>(it.checked.data[result++]) + begin * it.slice_bytes(i);
    } else {
      arrays[at] = memory + it.offsets[at];
    }
    ++at;
  }
  const bool has_workspace = it.entry.workspace != nullptr && it.entry.workspace(count, it.checked.sizes) > 0;
  const tiaot_code code = it.entry.code[it.request.kernel->level];
  return code(count, it.checked.sizes, arrays, has_workspace ? memory : nullptr, nullptr);
}

tiaot_status run_output(const Request &request, const Checked &checked, const Choice &choice, uint32_t output) {
  const tiaot_kernel_desc &desc = request.desc();
  Jacobian it{request, checked, *choice.variant, *choice.entry, output, 0, 0, 1, {}, 0, {}};
  it.elements = slice_elements(desc, output, checked.sizes);
  it.rows = checked.rows(desc) * it.elements;
  if (it.rows == 0) return TIAOT_OK;

  Cost cost = entry_cost(desc, it.entry, request.wrt, checked.sizes);
  const bool rows_apart = desc.batch_dim < 0 || cost.shared_gradients > 0;
  cost.shared_gradients = 0;
  it.cut = cut_batch(it.rows, cost, rows_apart ? 1 : it.entry.block_rows);
  it.code_rows = rows_apart ? 1 : it.cut.chunk_rows;
  if (tiaot_status status = plan_memory(&it)) return status;

  int32_t workers = 1;
  if (tiaot_status status = count_workers(request.num_threads, it.cut.chunk_count, &workers)) return status;
  int64_t bytes = 0;
  if (__builtin_mul_overflow(int64_t{workers}, it.worker_bytes, &bytes)) bytes = INT64_MAX;
  const WorkMemory memory(bytes);
  if (memory.failed()) {
    return raise(TIAOT_ERROR_MEMORY, "no memory for workspace: %lld bytes are needed", static_cast<long long>(bytes));
  }
  std::atomic<int32_t> failed{0};
  const auto run_one = [&](int64_t chunk, int64_t worker) {
    const int64_t end = std::min(it.rows, (chunk + 1) * it.cut.chunk_rows);
    for (int64_t begin = chunk * it.cut.chunk_rows; begin < end; begin += it.code_rows) {
      char *mine = memory.data() + worker * it.worker_bytes;
      if (int32_t outcome = run_rows(it, begin, std::min(it.code_rows, end - begin), mine)) failed.store(outcome);
    }
  };
  if (tiaot_status status = run_pieces(it.cut.chunk_count, workers, request.executor, run_one)) return status;
  return failed.load() == 0 ? TIAOT_OK : explain_outcome(failed.load(), request.kernel->module->fault);
}

}  // namespace

tiaot_status check_jacobian_sizes(const Request &request, const Checked &checked) {
  const tiaot_kernel_desc &desc = request.desc();
  for (uint32_t k = desc.input_count; k < desc.input_count + desc.output_count; ++k) {
    const int64_t elements = slice_elements(desc, k, checked.sizes);
    if (elements > kMaxElements) {
      return raise(TIAOT_ERROR_VALUE, "%s.jacobian: output '%s': expected at most %lld elements per sample, got %lld",
                   desc.name, desc.arguments[k].name, static_cast<long long>(kMaxElements),
                   static_cast<long long>(elements));
    }
  }
  return TIAOT_OK;
}

tiaot_status run_jacobian(const Request &request, const Checked &checked) {
  const FloatTrapsOff quiet;
  const tiaot_kernel_desc &desc = request.desc();
  Choice choice;
  if (tiaot_status status = choose_entry(request, checked, &choice)) return status;
  if (tiaot_status status = check_jacobian_sizes(request, checked)) return status;
  if (choice.entry->kind == TIAOT_JVP) return run_jacobian_by_columns(request, checked, choice);
  for (uint32_t k = desc.input_count; k < desc.input_count + desc.output_count; ++k) {
    if (tiaot_status status = run_output(request, checked, choice, k)) return status;
  }
  return TIAOT_OK;
}

}  // namespace tiaot
