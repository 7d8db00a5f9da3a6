// call.cpp: the calls of the C interface: check, plan, run. Knows nothing of how each is done.
#include <algorithm>
#include <cstring>
#include <memory>
#include <string>

#include "cuda_call.hpp"
#include "error.hpp"
#include "plan.hpp"
#include "state.hpp"
#include "threads.hpp"

struct tiaot_bound {
  tiaot::Request request;
  tiaot_executor executor;  // a copy: the caller's need not live on
  int64_t work;
  enum { kPlan, kJacobian, kCudaPlan, kCudaJacobian } kind;
  union {
    tiaot::Plan plan;           // forward, vjp, grad
    tiaot::CudaPlan cuda_plan;  // forward and vjp on a CUDA device
    tiaot::Checked checked;     // jacobian
  };
  tiaot_bound() {}  // leaves everything to tiaot_bind
};

namespace tiaot {
namespace {

const tiaot_variant_desc *find_variant(const tiaot_kernel_desc &desc, const char *name) {
  for (uint32_t v = 0; v < desc.variant_count; ++v) {
    if (std::strcmp(desc.variants[v].name, name) == 0) return &desc.variants[v];
  }
  return nullptr;
}

[[gnu::cold]] tiaot_status explain_variant(const tiaot_kernel_desc &desc, int entry, const char *name) {
  std::string names;
  for (uint32_t v = 0; v < desc.variant_count; ++v) {
    names += (v == 0 ? "'" : ", '") + std::string(desc.variants[v].name) + "'";
  }
  return raise(TIAOT_ERROR_VALUE, "%s.%s: no variant '%s'; there are %s", desc.name, entry_name(entry), name,
               names.c_str());
}

// What a module has only where its author asked for it.
[[gnu::cold]] tiaot_status explain_no_derivative(const tiaot_kernel_desc &desc, int entry) {
  return raise(TIAOT_ERROR_UNSUPPORTED, "%s.%s: the module has no %s of this kernel: export it with derivatives=['%s']",
               desc.name, entry_name(entry), entry_name(entry), entry_name(entry));
}

bool has_entry(const tiaot_kernel_desc &desc, int kind) {
  const tiaot_variant_desc &first = desc.variants[0];
  const auto same = [&](const tiaot_entry_desc &entry) { return static_cast<int>(entry.kind) == kind; };
  return std::any_of(first.entries, first.entries + first.entry_count, same);
}

// Takes the mode out of the entry that was asked for.
JacobianMode mode_of(int *entry) {
  if (*entry < TIAOT_JACOBIAN_FORWARD) return JacobianMode::kCheaper;
  const JacobianMode mode = *entry == TIAOT_JACOBIAN_FORWARD ? JacobianMode::kForward : JacobianMode::kReverse;
  *entry = TIAOT_JACOBIAN;
  return mode;
}

tiaot_status check_wrt(const tiaot_kernel &kernel, int entry, uint32_t wrt, JacobianMode mode) {
  const tiaot_kernel_desc &desc = *kernel.desc;
  const bool on_state_along = desc.state != 0 && entry >= TIAOT_JVP;
  if (entry == TIAOT_FORWARD || entry == TIAOT_GRAD || on_state_along) {
    if (on_state_along && !has_entry(desc, entry)) return explain_no_derivative(desc, entry);
    if (wrt == 0) return TIAOT_OK;
    return raise(TIAOT_ERROR_VALUE, "%s.%s: wrt must be 0, got 0x%x", desc.name, entry_name(entry), wrt);
  }
  if (wrt == 0) return raise(TIAOT_ERROR_VALUE, "%s.%s: wrt names no argument", desc.name, entry_name(entry));
  const bool by_columns = mode == JacobianMode::kForward;
  if (by_columns && kernel.tangents == 0) {
    return raise(TIAOT_ERROR_UNSUPPORTED,
                 "%s.jacobian: the forward mode is made of jvps, which the module does not have of this kernel: export "
                 "it with derivatives=['jvp']",
                 desc.name);
  }
  const uint32_t wrong = wrt & ~(entry == TIAOT_JVP || by_columns ? kernel.tangents : kernel.differentiable);
  const bool either = entry == TIAOT_JACOBIAN && mode == JacobianMode::kCheaper;
  if (wrong == 0 || (either && (wrt & ~kernel.tangents) == 0)) return TIAOT_OK;
  const uint32_t input = static_cast<uint32_t>(__builtin_ctz(wrong));
  if (input >= desc.input_count) {
    return raise(TIAOT_ERROR_VALUE, "%s.%s: wrt has bit %u set, but the kernel has %u inputs", desc.name,
                 entry_name(entry), input, desc.input_count);
  }
  if (entry >= TIAOT_JVP && kernel.tangents == 0) return explain_no_derivative(desc, entry);
  const bool value = desc.arguments[input].flags & TIAOT_ARGUMENT_VALUE;
  return raise(TIAOT_ERROR_VALUE, "%s.%s: argument '%s': is not differentiable%s", desc.name, entry_name(entry),
               desc.arguments[input].name,
               value ? ", being a number: annotated as ti.types.ndarray(dtype, ndim=0) it would have a gradient" : "");
}

tiaot_status check_options(const tiaot_kernel_desc &desc, int entry, const tiaot_options &options, Request *request) {
  if (options.struct_size != sizeof options) {
    return raise(TIAOT_ERROR_VALUE, "%s.%s: options: expected struct_size %zu, got %u", desc.name, entry_name(entry),
                 sizeof options, options.struct_size);
  }
  if (options.num_threads < 0 || options.num_threads > kMaxThreads) {
    return raise(TIAOT_ERROR_VALUE, "%s.%s: num_threads: expected 1 to %d, or 0 for the default, got %d", desc.name,
                 entry_name(entry), kMaxThreads, options.num_threads);
  }
  if (options.executor != nullptr && options.executor->parallel_for == nullptr) {
    return raise(TIAOT_ERROR_VALUE, "%s.%s: the executor's parallel_for is NULL", desc.name, entry_name(entry));
  }
  request->num_threads = options.num_threads;
  request->executor = options.executor;
  request->state = options.state;
  request->stream = options.stream;
  if (options.variant != nullptr) {
    request->only = find_variant(desc, options.variant);
    if (request->only == nullptr) return explain_variant(desc, entry, options.variant);
  }
  return TIAOT_OK;
}

// Entries that go with state, or with none.
[[gnu::cold]] tiaot_status check_state_entry(const tiaot_kernel_desc &desc, int entry) {
  if (desc.state == 0) {
    return raise(TIAOT_ERROR_UNSUPPORTED, "%s.grad: the kernel works on no state: its gradient is entry 1, vjp",
                 desc.name);
  }
  if (entry != TIAOT_VJP && entry != TIAOT_JACOBIAN) return TIAOT_OK;
  return raise(TIAOT_ERROR_UNSUPPORTED, "%s.%s: the kernel works on state: its gradient is entry 3, grad, on the state",
               desc.name, entry_name(entry));
}

tiaot_status check_state(const tiaot_kernel &kernel, int entry, const tiaot_state *state) {
  const tiaot_kernel_desc &desc = *kernel.desc;
  const tiaot_module_desc &module = *kernel.module->desc;
  if (desc.state == 0) {
    return raise(TIAOT_ERROR_VALUE, "%s.%s: options.state: expected NULL for a kernel that works on no state",
                 desc.name, entry_name(entry));
  }
  if (state == nullptr) {
    return raise(TIAOT_ERROR_VALUE,
                 "%s.%s: the kernel works on state: expected options.state to be a state of module '%s', got NULL",
                 desc.name, entry_name(entry), module.name);
  }
  if (state->module == kernel.module) return TIAOT_OK;
  return raise(TIAOT_ERROR_VALUE,
               "%s.%s: options.state: expected a state of this module '%s', got one of another, '%s'", desc.name,
               entry_name(entry), module.name, state->module->desc->name);
}

}  // namespace

tiaot_status make_request(const tiaot_kernel *kernel, int entry, uint32_t wrt, const tiaot_options *options,
                          Request *request) {
  if (kernel == nullptr) return raise(TIAOT_ERROR_VALUE, "kernel is NULL");
  if (entry < TIAOT_FORWARD || entry > TIAOT_JACOBIAN_REVERSE) {
    return raise(TIAOT_ERROR_VALUE,
                 "%s: entry: expected 0 (forward), 1 (vjp), 2 (jacobian), 3 (grad), 4 (jvp), 5 (hvp), 6 (jacobian by "
                 "columns) or 7 (jacobian by rows), got %d",
                 kernel->desc->name, entry);
  }
  const JacobianMode mode = mode_of(&entry);
  const bool on_state = kernel->desc->state != 0;
  if (on_state || entry == TIAOT_GRAD) {
    if (tiaot_status status = check_state_entry(*kernel->desc, entry)) return status;
  }
  if (tiaot_status status = check_wrt(*kernel, entry, wrt, mode)) return status;
  *request = {kernel, entry, wrt, count_bits(wrt), 0, nullptr, nullptr, nullptr, nullptr, mode};
  if (options != nullptr) {
    if (tiaot_status status = check_options(*kernel->desc, entry, *options, request)) return status;
  }
  return on_state || request->state != nullptr ? check_state(*kernel, entry, request->state) : TIAOT_OK;
}

namespace {

int64_t tensor_elements(const DLTensor &tensor, int32_t first_axis) {
  int64_t elements = 1;
  for (int32_t axis = first_axis; tensor.shape != nullptr && axis < tensor.ndim; ++axis) {
    elements = saturating_product(elements, std::max<int64_t>(tensor.shape[axis], 0));
  }
  return elements;
}

// From unchecked arrays: a guess at worst, never a crash.
int64_t estimate_work(const Request &request, const DLTensor *arrays, int32_t count) {
  const tiaot_kernel_desc &desc = request.desc();
  const uint32_t primals = desc.input_count + (request.entry == TIAOT_JVP ? 0 : desc.output_count);
  const uint32_t known = std::min(static_cast<uint32_t>(std::max(count, 0)), primals);
  int64_t rows = 1, row_work = desc.state != 0 ? state_work(*request.kernel->module) : 0;
  for (uint32_t i = 0; i < known; ++i) {
    // After a Jacobian's inputs come its results: rows are repeated for each element of the output.
    const bool result = request.entry == TIAOT_JACOBIAN && i >= desc.input_count;
    const bool batched = (desc.arguments[i].flags & TIAOT_ARGUMENT_BATCHED) && arrays[i].ndim > 0;
    if (batched && arrays[i].shape != nullptr) rows = std::max<int64_t>(arrays[i].shape[0], 0);
    if (result) continue;
    const int64_t elements = tensor_elements(arrays[i], batched ? 1 : 0);
    row_work = saturating_sum(row_work, elements);
    if (i < 32 && (request.wrt >> i & 1)) row_work = saturating_sum(row_work, elements);
  }
  if (request.entry == TIAOT_JACOBIAN) {
    int64_t repeats = 0;
    for (uint32_t k = 0; k < desc.output_count; ++k) {
      const uint32_t at = desc.input_count + k * request.gradients;
      if (at >= static_cast<uint32_t>(std::max(count, 0))) break;
      const tiaot_argument_desc &output = desc.arguments[desc.input_count + k];
      const int32_t skipped = output.flags & TIAOT_ARGUMENT_BATCHED;
      DLTensor front = arrays[at];
      front.ndim = std::min(front.ndim, static_cast<int32_t>(output.rank));
      repeats = saturating_sum(repeats, tensor_elements(front, skipped));
    }
    rows = saturating_product(rows, std::max<int64_t>(repeats, 1));
  }
  return saturating_product(rows, row_work);
}

// The sizes and type of one result, from what the operands have settled.
tiaot_status describe_result(const Request &request, const Checked &checked, const tiaot_variant_desc &variant,
                             uint32_t result, DLTensor *tensor, int64_t *shape, int32_t room, int32_t *used) {
  const tiaot_kernel_desc &desc = request.desc();
  uint32_t dims[2 * TIAOT_MAX_DIMS];
  const Slot slot = find_slot(request, request.operands() + result, dims);
  if (static_cast<uint32_t>(std::max(room, 0)) < slot.rank) {
    return raise(TIAOT_ERROR_VALUE, "%s.%s: shape_capacity is too small", desc.name, entry_name(request.entry));
  }
  for (uint32_t axis = 0; axis < slot.rank; ++axis) {
    const uint32_t dim = slot.dims[axis];
    shape[axis] = checked.sizes[dim] >= 0 ? checked.sizes[dim] : variant.fixed[dim];
    if (shape[axis] < 0) {
      return raise(TIAOT_ERROR_VALUE, "%s.%s: the size of '%s' does not follow from the inputs: pass the results",
                   desc.name, entry_name(request.entry), desc.dim_names[dim]);
    }
  }
  const uint32_t dtype = variant.dtypes[slot.argument];
  *tensor = {nullptr,
             checked.device == kOnCpu ? DLDevice{kDLCPU, 0} : DLDevice{kDLCUDA, checked.device},
             static_cast<int32_t>(slot.rank),
             {static_cast<uint8_t>(dtype >> 8), static_cast<uint8_t>(dtype), 1},
             shape,
             nullptr,
             0};
  *used = static_cast<int32_t>(slot.rank);
  return TIAOT_OK;
}

tiaot_status describe_results(const Request &request, const DLTensor *arrays, int32_t count, DLTensor *results,
                              int32_t capacity, int64_t *shapes, int32_t shape_capacity, int32_t *result_count) {
  const tiaot_kernel_desc &desc = request.desc();
  Checked checked;
  if (tiaot_status status = check_arrays(request, arrays, count, false, &checked)) return status;
  Choice choice;
  if (tiaot_status status = choose_entry(request, checked, &choice)) return status;
  const uint32_t expected = request.results();
  if (capacity < 0 || static_cast<uint32_t>(capacity) < expected) {
    return raise(TIAOT_ERROR_VALUE, "%s.%s: capacity: expected at least %u, got %d", desc.name,
                 entry_name(request.entry), expected, capacity);
  }
  for (uint32_t i = 0; i < expected; ++i) {
    int32_t used = 0;
    if (tiaot_status status =
            describe_result(request, checked, *choice.variant, i, &results[i], shapes, shape_capacity, &used)) {
      return status;
    }
    shapes += used;
    shape_capacity -= used;
  }
  *result_count = static_cast<int32_t>(expected);
  return TIAOT_OK;
}

[[gnu::noinline]] tiaot_status call_cuda(const Request &request, const Checked &checked) {
  if (request.entry == TIAOT_JACOBIAN) return run_cuda_jacobian(request, checked);
  CudaPlan plan;
  if (tiaot_status status = make_cuda_plan(request, checked, &plan)) return status;
  return run_cuda_plan(plan);
}

// What a bound call on a CUDA device needs besides its plan, so that it is missed now and not at the first run.
tiaot_status prepare_cuda(const CudaCaller &caller, const tiaot_module &module, int32_t ordinal) {
  CudaDevice *device = nullptr;
  CudaCurrent current;
  const CudaImage *image = nullptr;
  if (tiaot_status status = find_cuda_device(caller, ordinal, &device)) return status;
  return start_cuda_call(caller, module, device, &current, &image);
}

// Plans what *bound's request asks for.
tiaot_status bind(const Checked &checked, tiaot_bound *bound) {
  const Request &request = bound->request;
  const bool cuda = checked.device != kOnCpu;
  if (request.entry == TIAOT_JACOBIAN) {
    bound->kind = cuda ? tiaot_bound::kCudaJacobian : tiaot_bound::kJacobian;
    bound->checked = checked;
    Choice choice;  // that there is one is to be known now
    if (tiaot_status status = choose_entry(request, checked, &choice)) return status;
  } else if (cuda) {
    bound->kind = tiaot_bound::kCudaPlan;
    if (tiaot_status status = make_cuda_plan(request, checked, &bound->cuda_plan)) return status;
  } else {
    bound->kind = tiaot_bound::kPlan;
    return make_plan(request, checked, &bound->plan);
  }
  return cuda ? prepare_cuda({request.desc().name, request.entry}, *request.kernel->module, checked.device) : TIAOT_OK;
}

[[gnu::noinline]] tiaot_status run_other(const tiaot_bound &bound) {
  if (bound.kind == tiaot_bound::kJacobian) return run_jacobian(bound.request, bound.checked);
  if (bound.kind == tiaot_bound::kCudaPlan) return run_cuda_plan(bound.cuda_plan);
  return run_cuda_jacobian(bound.request, bound.checked);
}

}  // namespace
}  // namespace tiaot

tiaot_status tiaot::run_call(const Request &request, const DLTensor *arrays, int32_t count) {
  Checked checked;
  if (tiaot_status status = check_arrays(request, arrays, count, true, &checked)) return status;
  if (checked.device != kOnCpu) return call_cuda(request, checked);
  if (request.entry == TIAOT_JACOBIAN) return run_jacobian(request, checked);
  Plan plan;
  if (tiaot_status status = make_plan(request, checked, &plan)) return status;
  return run_plan(plan);
}

using namespace tiaot;

extern "C" [[gnu::hot]] tiaot_status tiaot_call(const tiaot_kernel *kernel, int entry, uint32_t wrt,
                                                const DLTensor *arrays, int32_t count, const tiaot_options *options) {
  return guarded([&] {
    Request request;
    if (tiaot_status status = make_request(kernel, entry, wrt, options, &request)) return status;
    return run_call(request, arrays, count);
  });
}

extern "C" [[gnu::hot]] tiaot_status tiaot_results(const tiaot_kernel *kernel, int entry, uint32_t wrt,
                                                   const DLTensor *arrays, int32_t count, const tiaot_options *options,
                                                   DLTensor *results, int32_t capacity, int64_t *shapes,
                                                   int32_t shape_capacity, int32_t *result_count) {
  return guarded([&] {
    Request request;
    if (tiaot_status status = make_request(kernel, entry, wrt, options, &request)) return status;
    return describe_results(request, arrays, count, results, capacity, shapes, shape_capacity, result_count);
  });
}

extern "C" [[gnu::hot]] int64_t tiaot_work(const tiaot_kernel *kernel, int entry, uint32_t wrt, const DLTensor *arrays,
                                           int32_t count) {
  const JacobianMode mode = mode_of(&entry);
  return estimate_work({kernel, entry, wrt, count_bits(wrt), 0, nullptr, nullptr, nullptr, nullptr, mode}, arrays,
                       count);
}

extern "C" tiaot_status tiaot_bind(const tiaot_kernel *kernel, int entry, uint32_t wrt, const DLTensor *arrays,
                                   int32_t count, const tiaot_options *options, tiaot_bound **bound) {
  return guarded([&] {
    if (bound == nullptr) return raise(TIAOT_ERROR_VALUE, "tiaot_bind: bound is NULL");
    std::unique_ptr<tiaot_bound> result(new tiaot_bound);
    Request &request = result->request;
    if (tiaot_status status = make_request(kernel, entry, wrt, options, &request)) return status;
    if (request.executor != nullptr) {
      result->executor = *request.executor;
      request.executor = &result->executor;
    }
    Checked checked;
    if (tiaot_status status = check_arrays(request, arrays, count, true, &checked)) return status;
    if (tiaot_status status = bind(checked, result.get())) return status;
    result->work = estimate_work(request, arrays, count);
    *bound = result.release();
    return TIAOT_OK;
  });
}

extern "C" [[gnu::hot]] tiaot_status tiaot_bound_run(const tiaot_bound *bound) {
  return guarded([&] { return bound->kind == tiaot_bound::kPlan ? run_plan(bound->plan) : run_other(*bound); });
}

extern "C" int64_t tiaot_bound_work(const tiaot_bound *bound) { return bound->work; }

extern "C" void tiaot_bound_destroy(tiaot_bound *bound) { delete bound; }
