// plan.cpp: runs the code of an entry on the chunks of a batch and adds up partial sums. Knows nothing of signatures.
#include "plan.hpp"

#include <algorithm>
#include <atomic>
#include <type_traits>

#include "dtypes.hpp"
#include "error.hpp"
#include "float_control.hpp"
#include "memory.hpp"
#include "state.hpp"
#include "threads.hpp"
#include "workers.hpp"

namespace tiaot {
namespace {

// A kernel without a batch may do much with few elements, so that little is too small for it; it is cut into few
// pieces.
constexpr int64_t kFew = 2048;
constexpr int64_t kSegment = 4096;  // elements that are added up at a time: the sum stays in the first-level cache

template <typename T>
void add(void *sum, const void *term, int64_t begin, int64_t end) {
  auto *__restrict to = static_cast<T *>(sum);
  const auto *__restrict from = static_cast<const T *>(term);
  for (int64_t i = begin; i < end; ++i) to[i] = static_cast<T>(to[i] + from[i]);
}

void add(uint32_t dtype, void *sum, const void *term, int64_t begin, int64_t end) {
  visit_dtype(dtype, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (std::is_integral_v<T>) {
      add<std::make_unsigned_t<T>>(sum, term, begin, end);  // which wrap
    } else {
      add<T>(sum, term, begin, end);
    }
  });
}

// Sets the pieces of the entry's arrays, and their order where the caller left gradients out.
void plan_pieces(const Request &request, const Checked &checked, const Choice &choice, Plan *plan) {
  const tiaot_kernel_desc &desc = request.desc();
  plan->partial_bytes = 0;
  uint32_t given = 0;  // arrays of the caller used up
  uint32_t count = 0;
  const auto place = [&](uint32_t argument, bool gradient) {
    const bool batched = desc.arguments[argument].flags & TIAOT_ARGUMENT_BATCHED;
    Plan::Piece piece{batched ? Plan::Part::kBatched : Plan::Part::kShared, choice.variant->dtypes[argument],
                      slice_elements(desc, argument, plan->sizes), 0};
    const int64_t bytes = round_up(piece.elements * item_size(piece.dtype), kAlignment);
    if (gradient && !(request.wrt >> argument & 1)) {
      piece.part = Plan::Part::kScratch;
      piece.offset = plan->worker_bytes;
      plan->worker_bytes += batched ? round_up(bytes * plan->cut.chunk_rows, kAlignment) : bytes;
    } else if (gradient && !batched) {
      piece.part = Plan::Part::kSummed;
      piece.offset = plan->partial_bytes;
      plan->partial_bytes += bytes;
    }
    plan->arrays[count] = piece.part == Plan::Part::kScratch ? nullptr : checked.data[given++];
    plan->pieces[count++] = piece;
  };
  place_arrays(desc, request.entry, choice.entry->wrt, place);
  plan->array_count = count;
}

// A kernel over state has no batch, and its entries have no wrt: its plans are direct.
tiaot_status plan_state(const Request &request, uint32_t count, Plan *plan) {
  plan->arrays[count] = request.state->memory;
  plan->kernel = &request.desc();
  plan->entry = request.entry;
  if (!request.has_tangents()) return TIAOT_OK;
  char *tangents = nullptr;
  tiaot_status status = state_tangents(*request.state, &tangents);
  plan->arrays[count + 1] = tangents;
  return status;
}

// The threads that the code of a kernel without a batch may use.
struct Helpers {
  int32_t workers;
  const tiaot_executor *executor;
  tiaot_status status = TIAOT_OK;  // the first thing that went wrong with them

  static void parallel_for(void *user, int64_t count, void (*task)(void *, int64_t), void *context) {
    auto &helpers = *static_cast<Helpers *>(user);
    const auto one = [&](int64_t index, int64_t) { task(context, index); };
    const tiaot_status status = run_pieces(count, helpers.workers, helpers.executor, one);
    if (helpers.status == TIAOT_OK) helpers.status = status;
  }
};

// What a module's code returns, beside 0.
constexpr int32_t kNoMemory = 1, kOutOfRange = 4;

// What was found out of range, with its numbers; "" where another call is just writing that down.
std::string describe_fault(const tiaot_fault *fault) {
  if (fault == nullptr || __atomic_load_n(&fault->state, __ATOMIC_ACQUIRE) != 2) return "";
  const tiaot_fault found = *fault;
  std::string text;
  int32_t used = 0;
  for (const char *at = found.text; *at != '\0'; ++at) {
    if (at[0] != '%' || at[1] == '\0') {
      text += *at;
    } else if (*++at == 'd' && used < found.count && used < TIAOT_FAULT_VALUES) {
      text += std::to_string(found.values[used++]);
    } else {
      text += *at;
    }
  }
  return text;
}

// Runs the code on the caller's thread, or with helpers where there are any.
tiaot_status run_code(const Plan &plan, int64_t rows, void *const *arrays, void *workspace) {
  Helpers helpers{plan.helpers, plan.executor};
  const tiaot_host host{Helpers::parallel_for, &helpers};
  const int32_t outcome = plan.code(rows, plan.sizes, arrays, workspace, plan.helpers > 1 ? &host : nullptr);
  if (helpers.status != TIAOT_OK) return helpers.status;
  return outcome == 0 ? TIAOT_OK : explain_outcome(outcome, plan.fault);
}

// `partial`: where a chunk after the first puts its gradients of shared inputs.
tiaot_status run_chunk(const Plan &plan, int64_t chunk, char *memory, char *partial) {
  const int64_t begin = chunk * plan.cut.chunk_rows;
  const int64_t rows = std::min(plan.cut.chunk_rows, plan.rows - begin);
  void *arrays[TIAOT_MAX_ARRAYS];
  for (uint32_t i = 0; i < plan.array_count; ++i) {
    const Plan::Piece &piece = plan.pieces[i];
    char *array = static_cast<char *>(plan.arrays[i]);
    switch (piece.part) {
      case Plan::Part::kShared:
        break;
      case Plan::Part::kBatched:
        if (array != nullptr) array += begin * piece.elements * item_size(piece.dtype);
        break;
      case Plan::Part::kSummed:
        if (chunk > 0) array = partial + piece.offset;
        break;
      case Plan::Part::kScratch:
        array = memory + piece.offset;
        break;
    }
    arrays[i] = array;
  }
  const bool has_workspace = plan.workspace != nullptr && plan.workspace(rows, plan.sizes) > 0;
  return run_code(plan, rows, arrays, has_workspace ? memory : nullptr);
}

// Adds elements begin..end of one chunk's partial sums of one array to the result.
void add_partial(const Plan &plan, uint32_t array, const char *partials, int64_t begin, int64_t end) {
  const Plan::Piece &piece = plan.pieces[array];
  add(piece.dtype, plan.arrays[array], partials + piece.offset, begin, end);
}

// One thread needs one set of partial sums: each chunk's are added as soon as they are there.
tiaot_status run_serial(const Plan &plan, char *memory, char *partials) {
  for (int64_t chunk = 0; chunk < plan.cut.chunk_count; ++chunk) {
    if (tiaot_status status = run_chunk(plan, chunk, memory, partials)) return status;
    if (chunk == 0 || plan.partial_bytes == 0) continue;
    for (uint32_t i = 0; i < plan.array_count; ++i) {
      if (plan.pieces[i].part == Plan::Part::kSummed) add_partial(plan, i, partials, 0, plan.pieces[i].elements);
    }
  }
  return TIAOT_OK;
}

// Adds up all chunks' partial sums, for each element in the order of the chunks.
tiaot_status add_partials(const Plan &plan, const char *partials, int32_t workers) {
  for (uint32_t i = 0; i < plan.array_count; ++i) {
    if (plan.pieces[i].part != Plan::Part::kSummed) continue;
    const int64_t elements = plan.pieces[i].elements;
    const int64_t segments = (elements + kSegment - 1) / kSegment;
    const auto add_segment = [&](int64_t segment, int64_t) {
      const int64_t begin = segment * kSegment;
      for (int64_t chunk = 1; chunk < plan.cut.chunk_count; ++chunk) {
        add_partial(plan, i, partials + (chunk - 1) * plan.partial_bytes, begin, std::min(elements, begin + kSegment));
      }
    };
    const int32_t helpers = static_cast<int32_t>(std::min<int64_t>(workers, segments / 4));
    if (tiaot_status status = run_pieces(segments, helpers, plan.executor, add_segment)) return status;
  }
  return TIAOT_OK;
}

tiaot_status run_cut(const Plan &plan) {
  int32_t workers = 1;
  if (tiaot_status status = count_workers(plan.num_threads, plan.cut.chunk_count, &workers)) return status;
  const int64_t copies = plan.cut.chunk_count == 1 ? 0 : workers == 1 ? 1 : plan.cut.chunk_count - 1;
  int64_t scratch_bytes = 0, bytes = 0;
  if (__builtin_mul_overflow(int64_t{workers}, plan.worker_bytes, &scratch_bytes) ||
      __builtin_mul_overflow(copies, plan.partial_bytes, &bytes) ||
      __builtin_add_overflow(bytes, scratch_bytes, &bytes)) {
    return raise(TIAOT_ERROR_MEMORY, "no memory for workspace: more than 2^63 bytes are needed");
  }
  const WorkMemory memory(bytes);
  if (memory.failed()) {
    return raise(TIAOT_ERROR_MEMORY, "no memory for workspace: %lld bytes are needed", static_cast<long long>(bytes));
  }
  char *partials = memory.data() + scratch_bytes;
  if (workers == 1) return run_serial(plan, memory.data(), partials);
  std::atomic<int32_t> failed{0};
  const auto run_one = [&](int64_t chunk, int64_t worker) {
    char *partial = chunk == 0 ? nullptr : partials + (chunk - 1) * plan.partial_bytes;
    const tiaot_status status = run_chunk(plan, chunk, memory.data() + worker * plan.worker_bytes, partial);
    if (status != TIAOT_OK) failed.store(status == TIAOT_ERROR_MEMORY ? kNoMemory : kOutOfRange);
  };
  if (tiaot_status status = run_pieces(plan.cut.chunk_count, workers, plan.executor, run_one)) return status;
  // On this thread, whose message the caller reads.
  if (failed.load() != 0) return explain_outcome(failed.load(), plan.fault);
  return add_partials(plan, partials, workers);
}

}  // namespace

int64_t workspace_bytes(tiaot_workspace_size workspace, int64_t rows, const int64_t *sizes) {
  if (workspace == nullptr) return 0;
  const int64_t bytes = workspace(rows, sizes);
  return bytes >= 0 && bytes <= INT64_MAX / 2 ? round_up(bytes, kAlignment) : -1;
}

tiaot_status count_workers(int32_t asked, int64_t pieces, int32_t *workers) {
  if (pieces > 1 && asked == 0) {
    if (tiaot_status status = tiaot_num_threads(&asked)) return status;
  }
  *workers = pieces > 1 ? static_cast<int32_t>(std::min<int64_t>(asked, pieces)) : 1;
  return *workers > 1 ? prepare_spin() : TIAOT_OK;
}

tiaot_status explain_outcome(int32_t outcome, const tiaot_fault *fault) {
  if (outcome == kNoMemory) {
    return raise(TIAOT_ERROR_MEMORY, "no memory for the values of a loop that its gradient goes back through");
  }
  const std::string found = describe_fault(fault);
  return raise(TIAOT_ERROR_VALUE, "%s", found.empty() ? "an index is out of range" : found.c_str());
}

Cost entry_cost(const tiaot_kernel_desc &desc, const tiaot_entry_desc &entry, uint32_t wrt, const int64_t *sizes) {
  Cost cost;
  for (uint32_t i = 0; i < desc.input_count + desc.output_count; ++i) {
    const int64_t elements = slice_elements(desc, i, sizes);
    const bool batched = desc.arguments[i].flags & TIAOT_ARGUMENT_BATCHED;
    const bool in_wrt = i < desc.input_count && i < 32 && (entry.wrt >> i & 1);
    cost.row_work += in_wrt ? 2 * elements : elements;
    if (batched) cost.widest = std::max(cost.widest, elements);
    if (in_wrt && !batched && (wrt >> i & 1) && entry.kind != TIAOT_JVP) cost.shared_gradients += elements;
  }
  if (entry.kind == TIAOT_JVP || entry.kind == TIAOT_HVP) cost.row_work *= 2;  // everything has a tangent
  if (entry.kind == TIAOT_HVP) cost.shared_gradients *= 2;
  return cost;
}

tiaot_status make_plan(const Request &request, const Checked &checked, Plan *plan) {
  Choice choice;
  if (tiaot_status status = choose_entry(request, checked, &choice)) return status;
  const tiaot_kernel_desc &desc = request.desc();
  const tiaot_entry_desc &entry = *choice.entry;
  plan->code = entry.code[request.kernel->level];
  plan->workspace = entry.workspace;
  plan->rows = checked.rows(desc);
  plan->num_threads = request.num_threads;
  plan->executor = request.executor;
  plan->state = request.state;
  plan->fault = request.kernel->module == nullptr ? nullptr : request.kernel->module->fault;
  plan->helpers = 1;
  if (desc.batch_dim < 0 && checked.row_work >= kFew) {
    if (tiaot_status status = count_workers(request.num_threads, kMaxThreads, &plan->helpers)) return status;
  }
  for (uint32_t d = 0; d < desc.dim_count; ++d) plan->sizes[d] = checked.sizes[d];

  const bool whole = entry.wrt == request.wrt;  // the call's arrays are the entry's
  if (whole && is_small(plan->rows, checked.row_work)) {
    plan->cut = {plan->rows, 1};
  } else {
    plan->cut = cut_batch(plan->rows, entry_cost(desc, entry, request.wrt, plan->sizes), entry.block_rows);
  }
  plan->direct = whole && plan->cut.chunk_count == 1;
  plan->worker_bytes = workspace_bytes(entry.workspace, plan->cut.chunk_rows, plan->sizes);
  const int64_t last = plan->rows - (plan->cut.chunk_count - 1) * plan->cut.chunk_rows;
  if (last != plan->cut.chunk_rows && plan->worker_bytes >= 0) {
    const int64_t bytes = workspace_bytes(entry.workspace, last, plan->sizes);
    plan->worker_bytes = bytes < 0 ? bytes : std::max(plan->worker_bytes, bytes);
  }
  if (plan->worker_bytes < 0) return fail("%s: the module gives an impossible size of workspace", entry.symbol);
  if (plan->direct) {
    const uint32_t count = request.operands() + request.results();
    for (uint32_t i = 0; i < count; ++i) plan->arrays[i] = checked.data[i];
    if (request.state != nullptr) return plan_state(request, count, plan);
  } else {
    plan_pieces(request, checked, choice, plan);
  }
  return TIAOT_OK;
}

namespace {

tiaot_status run_direct(const Plan &plan, void *const *arrays) {
  const WorkMemory memory(plan.worker_bytes);
  if (memory.failed()) {
    return raise(TIAOT_ERROR_MEMORY, "no memory for workspace: %lld bytes are needed",
                 static_cast<long long>(plan.worker_bytes));
  }
  return run_code(plan, plan.rows, arrays, memory.data());
}

[[gnu::noinline]] tiaot_status run_on_state(const Plan &plan) {
  const StateUse use(plan.state);
  return use.taken() ? run_direct(plan, plan.arrays) : explain_state_in_use(plan.kernel->name, plan.entry, *plan.state);
}

}  // namespace

tiaot_status run_plan(const Plan &plan) {
  const FloatTrapsOff quiet;
  if (!plan.direct) return run_cut(plan);
  return plan.state == nullptr ? run_direct(plan, plan.arrays) : run_on_state(plan);
}

bool is_single(const Request &request, const Checked &checked, const Plan &plan) {
  const bool may_have_helpers = request.desc().batch_dim < 0 && checked.row_work >= kFew;
  return plan.direct && plan.state == nullptr && !may_have_helpers;
}

tiaot_status run_single(const Plan &plan, void *const *arrays) {
  const FloatTrapsOff quiet;
  return run_direct(plan, arrays);
}

}  // namespace tiaot
