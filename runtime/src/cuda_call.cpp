// cuda_call.cpp: puts the CUDA code of an entry on a stream. Knows nothing of signatures.
#include "cuda_call.hpp"

#include <algorithm>
#include <string>

#include "cuda_workspace.hpp"
#include "error.hpp"
#include "memory.hpp"
#include "state.hpp"

namespace tiaot {
namespace {

// Blocks of TIAOT_CUDA_BLOCK threads that a multiprocessor holds at a time, at most: 2048 threads.
constexpr int64_t kResidentBlocks = 2048 / TIAOT_CUDA_BLOCK;
// A grid of a few times what the device holds evens out blocks that end at different times; more of them would only
// set up again what every thread sets up before its loop.
constexpr int64_t kWaves = 4;
constexpr int64_t kMaxGrid = INT32_MAX;

CudaRun &run_of(void *user) { return *static_cast<CudaRun *>(user); }

int32_t keep(CudaRun *run, const char *function, CUresult error) {
  if (error == 0) return 0;
  run->status = run->device->failed(run->caller, function, error);
  return 1;
}

int32_t launch(void *user, uint32_t kernel, int64_t threads, int32_t exact, void **parameters) {
  CudaRun &run = run_of(user);
  if (kernel >= run.image->tables->kernel_count || (exact && (threads < 0 || threads % TIAOT_CUDA_BLOCK != 0))) {
    run.status = fail("%s: an impossible launch: kernel %u, %lld threads", run.entry.symbol, kernel,
                      static_cast<long long>(threads));
    return 1;
  }
  if (threads == 0) return 0;
  const int64_t resident = run.device->multiprocessors * kResidentBlocks;
  int64_t blocks = threads / TIAOT_CUDA_BLOCK + (threads % TIAOT_CUDA_BLOCK != 0);
  if (threads < 0) {
    blocks = resident;
  } else if (!exact) {
    blocks = std::min(blocks, resident * kWaves);
  } else if (blocks > kMaxGrid) {
    run.status = raise(TIAOT_ERROR_VALUE, "%s: too large for one grid: %lld blocks, at most %lld",
                       run.caller.text().c_str(), static_cast<long long>(blocks), static_cast<long long>(kMaxGrid));
    return 1;
  }
  CUfunction function = nullptr;
  std::string called;
  if (CUresult error = find_cuda_function(*run.image, kernel, &function, &called)) {
    return keep(&run, called.c_str(), error);
  }
  return keep(&run, "cuLaunchKernel",
              run.device->driver->cuLaunchKernel(function, static_cast<uint32_t>(blocks), 1, 1, TIAOT_CUDA_BLOCK, 1, 1,
                                                 0, run.stream, parameters, nullptr));
}

int32_t fill(void *user, void *target, int64_t bytes) {
  CudaRun &run = run_of(user);
  if (bytes <= 0) return 0;
  return keep(&run, "cuMemsetD8Async",
              run.device->driver->cuMemsetD8Async(reinterpret_cast<CUdeviceptr>(target), 0, static_cast<size_t>(bytes),
                                                  run.stream));
}

int32_t copy(void *user, void *target, const void *source, int64_t bytes) {
  CudaRun &run = run_of(user);
  if (bytes <= 0) return 0;
  return keep(&run, "cuMemcpyDtoDAsync",
              run.device->driver->cuMemcpyDtoDAsync(reinterpret_cast<CUdeviceptr>(target),
                                                    reinterpret_cast<CUdeviceptr>(source), static_cast<size_t>(bytes),
                                                    run.stream));
}

// Sets the plan's arrays in the entry's order, and gives those that the caller left out a place in its memory.
tiaot_status plan_pieces(const Request &request, const Checked &checked, const Choice &choice, CudaPlan *plan) {
  const tiaot_kernel_desc &desc = request.desc();
  uint32_t given = 0;  // arrays of the caller used up
  bool too_much = false;
  plan->array_count = 0;
  const auto place = [&](uint32_t argument, bool gradient) {
    const bool batched = desc.arguments[argument].flags & TIAOT_ARGUMENT_BATCHED;
    const int64_t bytes = slice_elements(desc, argument, checked.sizes) * item_size(choice.variant->dtypes[argument]);
    CudaPlan::Piece piece{nullptr, batched ? bytes : 0, -1};
    if (gradient && !(request.wrt >> argument & 1)) {
      const int64_t all = batched ? saturating_product(bytes, plan->chunk_rows) : bytes;
      piece.offset = plan->bytes;
      too_much = too_much || all > INT64_MAX / 2 || plan->bytes > INT64_MAX / 2;
      if (!too_much) plan->bytes += round_up(all, kCudaAlignment);
    } else {
      piece.data = checked.data[given++];
    }
    plan->pieces[plan->array_count++] = piece;
  };
  place_arrays(desc, request.entry, choice.entry->wrt, place);
  if (request.state != nullptr) plan->pieces[plan->array_count++] = {request.state->memory, 0, -1};
  if (request.state != nullptr && request.has_tangents()) {
    char *tangents = nullptr;
    if (tiaot_status status = state_tangents(*request.state, &tangents)) return status;
    plan->pieces[plan->array_count++] = {tangents, 0, -1};
  }
  if (!too_much) return TIAOT_OK;
  return raise(TIAOT_ERROR_MEMORY, "%s: no memory for workspace: more than 2^62 bytes are needed",
               plan->caller.text().c_str());
}

// Rows at a time; refuses what cannot be cut: the gradient of a shared input is a sum over all rows.
tiaot_status plan_chunks(const Request &request, const Checked &checked, CudaPlan *plan) {
  const tiaot_kernel_desc &desc = request.desc();
  const int64_t limit = cuda_row_limit(desc, *plan->entry, checked.sizes);
  plan->chunk_rows = std::min(plan->rows, limit);
  if (plan->rows <= limit) return TIAOT_OK;
  for (uint32_t i = 0; i < desc.input_count && i < 32; ++i) {
    if (request.entry == TIAOT_JVP || !(request.wrt >> i & 1) || desc.arguments[i].flags & TIAOT_ARGUMENT_BATCHED)
      continue;
    return raise(
        TIAOT_ERROR_VALUE,
        "%s: the gradient of '%s' is a sum over '%s', which its CUDA code takes up to %lld samples of in these "
        "shapes (arrays of 2147483647 elements), got %lld",
        plan->caller.text().c_str(), desc.arguments[i].name, desc.dim_names[desc.batch_dim],
        static_cast<long long>(limit), static_cast<long long>(plan->rows));
  }
  return TIAOT_OK;
}

}  // namespace

int64_t cuda_row_limit(const tiaot_kernel_desc &desc, const tiaot_entry_desc &entry, const int64_t *sizes) {
  if (entry.cuda_any_rows != 0 || desc.batch_dim < 0) return INT64_MAX;
  int64_t widest = 1;
  for (uint32_t i = 0; i < desc.input_count + desc.output_count; ++i) {
    if (desc.arguments[i].flags & TIAOT_ARGUMENT_BATCHED) widest = std::max(widest, slice_elements(desc, i, sizes));
  }
  return kMaxElements / widest;
}

tiaot_status cuda_workspace_bytes(const tiaot_entry_desc &entry, int64_t rows, int64_t chunk_rows, const int64_t *sizes,
                                  int64_t *bytes) {
  *bytes = 0;
  if (entry.cuda_workspace == nullptr) return TIAOT_OK;
  const int64_t last = chunk_rows > 0 && rows % chunk_rows != 0 ? rows % chunk_rows : chunk_rows;
  for (const int64_t some : {chunk_rows, last}) {
    const int64_t needed = entry.cuda_workspace(some, sizes);
    if (needed < 0 || needed > INT64_MAX / 2) {
      return fail("%s: the module gives an impossible size of workspace", entry.symbol);
    }
    *bytes = std::max(*bytes, round_up(needed, kCudaAlignment));
  }
  return TIAOT_OK;
}

tiaot_status start_cuda_call(const CudaCaller &caller, const tiaot_module &module, CudaDevice *device,
                             CudaCurrent *current, const CudaImage **image) {
  if (tiaot_status status = current->enter(caller, device)) return status;
  return load_cuda_image(caller, module, device, image);
}

tiaot_status run_cuda_code(CudaRun *run, int64_t rows, void *const *arrays, uint64_t on_host, void *workspace) {
  const tiaot_cuda_host host{launch, fill, copy, run};
  const int32_t outcome = run->entry.cuda(rows, run->sizes, arrays, on_host, workspace, &host);
  if (outcome == 0 || run->status != TIAOT_OK) return run->status;
  return fail("%s: its CUDA code gave %d", run->entry.symbol, outcome);
}

tiaot_status make_cuda_plan(const Request &request, const Checked &checked, CudaPlan *plan) {
  Choice choice;
  if (tiaot_status status = choose_entry(request, checked, &choice)) return status;
  const tiaot_kernel_desc &desc = request.desc();
  plan->caller = {desc.name, request.entry};
  plan->module = request.kernel->module;
  plan->stream = static_cast<CUstream>(request.stream);
  plan->entry = choice.entry;
  plan->rows = checked.rows(desc);
  plan->on_host = checked.on_host;
  plan->state = request.state;
  std::copy_n(checked.sizes, desc.dim_count, plan->sizes);
  if (tiaot_status status = plan_chunks(request, checked, plan)) return status;
  if (tiaot_status status =
          cuda_workspace_bytes(*plan->entry, plan->rows, plan->chunk_rows, plan->sizes, &plan->workspace_bytes)) {
    return status;
  }
  plan->bytes = plan->workspace_bytes;
  if (tiaot_status status = plan_pieces(request, checked, choice, plan)) return status;
  return find_cuda_device(plan->caller, checked.device, &plan->device);
}

namespace {

tiaot_status enqueue(const CudaPlan &plan) {
  CudaCurrent current;
  const CudaImage *image = nullptr;
  if (tiaot_status status = start_cuda_call(plan.caller, *plan.module, plan.device, &current, &image)) return status;
  CudaWorkspace memory(plan.caller, plan.device, plan.stream);
  if (tiaot_status status = memory.take(plan.bytes)) return status;
  CudaRun run{plan.caller, plan.device, image, plan.stream, *plan.entry, plan.sizes};
  int64_t begin = 0;
  do {
    const int64_t rows = std::min(plan.chunk_rows, plan.rows - begin);
    void *arrays[TIAOT_MAX_ARRAYS];
    for (uint32_t i = 0; i < plan.array_count; ++i) {
      const CudaPlan::Piece &piece = plan.pieces[i];
      char *data = static_cast<char *>(piece.data);
      arrays[i] = piece.offset >= 0 ? memory.data() + piece.offset
                  : data == nullptr ? nullptr
                                    : data + begin * piece.row_bytes;
    }
    if (tiaot_status status =
            run_cuda_code(&run, rows, arrays, plan.on_host, plan.workspace_bytes > 0 ? memory.data() : nullptr)) {
      return status;
    }
    begin += rows;
  } while (begin < plan.rows);
  return memory.give_back();
}

}  // namespace

tiaot_status run_cuda_plan(const CudaPlan &plan) {
  if (plan.state == nullptr) return enqueue(plan);
  const StateUse use(plan.state);
  return use.taken() ? enqueue(plan) : explain_state_in_use(plan.caller.name, plan.caller.entry, *plan.state);
}

}  // namespace tiaot
