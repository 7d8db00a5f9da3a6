// cuda_jacobian.cpp: Jacobians on a CUDA device, from the vjp entry. Knows nothing of how the entry computes.
//
// Column j of all samples' Jacobians of an output is one vjp of the whole batch, with the j-th basis vector as
// cotangent of every sample. The inputs need no copies for that; the gradients come out sample by sample and are spread
// over the result, where an output has more than one element. A gradient of a shared input would be summed over the
// batch, so where one is asked for, each sample is a batch of its own, whose gradients lie in the result as they come.
#include <algorithm>
#include <cstring>

#include "cuda_call.hpp"
#include "cuda_workspace.hpp"
#include "dtypes.hpp"
#include "error.hpp"
#include "memory.hpp"
#include "plan.hpp"

namespace tiaot {
namespace {

// CU_DEVICE_ATTRIBUTE_MAX_PITCH, of every device that there is.
constexpr int64_t kMaxPitch = INT32_MAX;

struct CudaJacobian {
  const Request &request;
  const Checked &checked;
  const tiaot_variant_desc &variant;
  CudaRun &run;
  int64_t rows;        // samples
  bool apart;          // a vjp for each of them
  int64_t chunk_rows;  // at most so many samples are given to the code at once
  int64_t code_bytes;  // workspace of the code, at the start of the memory
  int64_t bytes;
  int64_t offsets[TIAOT_MAX_ARRAYS];  // in the memory, for each array of the entry that is made there
  char *memory;

  const tiaot_kernel_desc &desc() const { return request.desc(); }
  bool batched(uint32_t argument) const { return desc().arguments[argument].flags & TIAOT_ARGUMENT_BATCHED; }
  int64_t elements(uint32_t argument) const { return slice_elements(desc(), argument, checked.sizes); }
  int64_t slice_bytes(uint32_t argument) const { return elements(argument) * item_size(variant.dtypes[argument]); }
  bool has_gradient(uint32_t i) const { return i < 32 && run.entry.wrt >> i & 1; }
  bool asked_for(uint32_t i) const { return i < 32 && request.wrt >> i & 1; }

  tiaot_status keep(const char *function, CUresult error) const {
    return error == 0 ? TIAOT_OK : run.device->failed(run.caller, function, error);
  }
};

tiaot_status plan_memory(CudaJacobian *it) {
  const tiaot_kernel_desc &desc = it->desc();
  it->apart = desc.batch_dim < 0;
  for (uint32_t i = 0; i < desc.input_count; ++i) it->apart = it->apart || (it->asked_for(i) && !it->batched(i));
  const int64_t limit = cuda_row_limit(desc, it->run.entry, it->checked.sizes);
  it->chunk_rows = it->apart ? 1 : std::min(it->rows, limit);
  if (tiaot_status status =
          cuda_workspace_bytes(it->run.entry, it->rows, it->chunk_rows, it->checked.sizes, &it->code_bytes)) {
    return status;
  }
  int64_t top = it->code_bytes;
  bool too_much = false;
  uint32_t count = desc.input_count;
  const auto place = [&](uint32_t argument, bool made) {
    it->offsets[count++] = top;
    if (!made) return;
    const int64_t bytes = saturating_product(it->slice_bytes(argument), it->batched(argument) ? it->chunk_rows : 1);
    too_much = too_much || bytes > INT64_MAX / 2 || top > INT64_MAX / 2;
    if (!too_much) top += round_up(bytes, kCudaAlignment);
  };
  for (uint32_t k = 0; k < desc.output_count; ++k) place(desc.input_count + k, true);
  for (uint32_t i = 0; i < desc.input_count; ++i) {
    if (it->has_gradient(i)) place(i, !it->asked_for(i) || !it->apart);
  }
  it->bytes = top;
  if (!too_much) return TIAOT_OK;
  return raise(TIAOT_ERROR_MEMORY, "%s: no memory for workspace: more than 2^62 bytes are needed",
               it->run.caller.text().c_str());
}

// Sets the element of every one of `rows` samples, which are `pitch` bytes apart, to one or to zero, from which it
// differs in a single word.
tiaot_status set_element(const CudaJacobian &it, uint32_t dtype, char *first, int64_t pitch, int64_t rows, bool one) {
  const CudaDriver &driver = *it.run.device->driver;
  const CUstream stream = it.run.stream;
  uint64_t bits = 0;  // of the number one
  visit_dtype(dtype, [&](auto zero) {
    const auto number = static_cast<decltype(zero)>(1);
    std::memcpy(&bits, &number, sizeof number);
  });
  const bool high = bits >> 32 != 0;
  const auto word = one ? static_cast<uint32_t>(high ? bits >> 32 : bits) : 0;
  const auto set = [&](char *at, int64_t step, int64_t height) {
    const CUdeviceptr target = reinterpret_cast<CUdeviceptr>(at) + (high ? 4 : 0);
    const auto width = static_cast<size_t>(step), count = static_cast<size_t>(height);
    switch (item_size(dtype)) {
      case 1:
        return it.keep("cuMemsetD2D8Async",
                       driver.cuMemsetD2D8Async(target, width, static_cast<uint8_t>(word), 1, count, stream));
      case 2:
        return it.keep("cuMemsetD2D16Async",
                       driver.cuMemsetD2D16Async(target, width, static_cast<uint16_t>(word), 1, count, stream));
      default:  // of eight bytes the other word is that of zero
        return it.keep("cuMemsetD2D32Async", driver.cuMemsetD2D32Async(target, width, word, 1, count, stream));
    }
  };
  if (rows == 1 || pitch <= kMaxPitch) return set(first, rows == 1 ? item_size(dtype) : pitch, rows);
  for (int64_t row = 0; row < rows; ++row) {
    if (tiaot_status status = set(first + row * pitch, item_size(dtype), 1)) return status;
  }
  return TIAOT_OK;
}

// Copies `rows` pieces of `bytes` bytes, one after another, to places `pitch` bytes apart.
tiaot_status spread(const CudaJacobian &it, char *to, int64_t pitch, const char *from, int64_t bytes, int64_t rows) {
  const CudaDriver &driver = *it.run.device->driver;
  if (bytes == 0) return TIAOT_OK;
  if (rows > 1 && pitch <= kMaxPitch) {
    CUDA_MEMCPY2D copy{};
    copy.srcMemoryType = copy.dstMemoryType = CU_MEMORYTYPE_DEVICE;
    copy.srcDevice = reinterpret_cast<CUdeviceptr>(from);
    copy.srcPitch = copy.WidthInBytes = static_cast<size_t>(bytes);
    copy.dstDevice = reinterpret_cast<CUdeviceptr>(to);
    copy.dstPitch = static_cast<size_t>(pitch);
    copy.Height = static_cast<size_t>(rows);
    return it.keep("cuMemcpy2DAsync", driver.cuMemcpy2DAsync(&copy, it.run.stream));
  }
  for (int64_t row = 0; row < rows; ++row) {
    const CUresult error = driver.cuMemcpyDtoDAsync(reinterpret_cast<CUdeviceptr>(to + row * pitch),
                                                    reinterpret_cast<CUdeviceptr>(from + row * bytes),
                                                    static_cast<size_t>(bytes), it.run.stream);
    if (tiaot_status status = it.keep("cuMemcpyDtoDAsync", error)) return status;
  }
  return TIAOT_OK;
}

// The vjp of `rows` samples from `begin` on, and column `element` of the output's Jacobians from it.
tiaot_status run_rows(const CudaJacobian &it, uint32_t output, int64_t element, int64_t begin, int64_t rows) {
  const tiaot_kernel_desc &desc = it.desc();
  const int64_t columns = it.elements(output);
  void *arrays[TIAOT_MAX_ARRAYS];
  uint32_t at = 0;
  for (; at < desc.input_count; ++at) {
    char *input = static_cast<char *>(it.checked.data[at]);
    arrays[at] = it.batched(at) && input != nullptr ? input + begin * it.slice_bytes(at) : input;
  }
  for (uint32_t k = 0; k < desc.output_count; ++k, ++at) arrays[at] = it.memory + it.offsets[at];
  const uint32_t gradients = at;
  uint32_t result = desc.input_count + (output - desc.input_count) * it.request.gradients;
  char *places[TIAOT_MAX_ARRAYS];  // in the results, for each gradient
  for (uint32_t i = 0; i < desc.input_count; ++i) {
    if (!it.has_gradient(i)) continue;
    char *whole = it.asked_for(i) ? static_cast<char *>(it.checked.data[result++]) : nullptr;
    char *place = whole == nullptr ? nullptr : whole + (begin * columns + element) * it.slice_bytes(i);
    places[at] = it.apart || columns == 1 ? nullptr : place;  // nullptr: nothing is to be moved
    const bool direct = it.asked_for(i) && (it.apart || columns == 1);
    arrays[at] = direct ? place : it.memory + it.offsets[at];
    ++at;
  }
  void *workspace = it.code_bytes > 0 ? it.memory : nullptr;
  if (tiaot_status status = run_cuda_code(&it.run, rows, arrays, it.checked.on_host, workspace)) return status;
  at = gradients;
  for (uint32_t i = 0; i < desc.input_count; ++i) {
    if (!it.has_gradient(i)) continue;
    const int64_t bytes = it.slice_bytes(i);
    const char *from = it.memory + it.offsets[at];
    if (places[at] != nullptr) {
      if (tiaot_status status = spread(it, places[at], columns * bytes, from, bytes, rows)) return status;
    }
    ++at;
  }
  return TIAOT_OK;
}

tiaot_status run_output(const CudaJacobian &it, uint32_t output) {
  const int64_t columns = it.elements(output), item = item_size(it.variant.dtypes[output]);
  char *cotangent = it.memory + it.offsets[output];
  for (int64_t element = 0; element < columns; ++element) {
    const auto set = [&](bool one) {
      return set_element(it, it.variant.dtypes[output], cotangent + element * item, columns * item, it.chunk_rows, one);
    };
    if (tiaot_status status = set(true)) return status;
    for (int64_t begin = 0; begin < it.rows; begin += it.chunk_rows) {
      const int64_t rows = std::min(it.chunk_rows, it.rows - begin);
      if (tiaot_status status = run_rows(it, output, element, begin, rows)) return status;
    }
    if (tiaot_status status = set(false)) return status;
  }
  return TIAOT_OK;
}

tiaot_status run_outputs(const CudaJacobian &it) {
  const tiaot_kernel_desc &desc = it.desc();
  for (uint32_t k = desc.input_count; k < desc.input_count + desc.output_count; ++k) {
    const int64_t bytes = it.slice_bytes(k) * it.chunk_rows;
    const auto target = reinterpret_cast<CUdeviceptr>(it.memory + it.offsets[k]);
    if (bytes == 0) continue;
    const CUresult error = it.run.device->driver->cuMemsetD8Async(target, 0, static_cast<size_t>(bytes), it.run.stream);
    if (tiaot_status status = it.keep("cuMemsetD8Async", error)) return status;
  }
  for (uint32_t k = desc.input_count; k < desc.input_count + desc.output_count; ++k) {
    if (tiaot_status status = run_output(it, k)) return status;
  }
  return TIAOT_OK;
}

}  // namespace

tiaot_status run_cuda_jacobian(const Request &request, const Checked &checked) {
  const tiaot_kernel_desc &desc = request.desc();
  const CudaCaller caller{desc.name, request.entry};
  Choice choice;
  if (tiaot_status status = choose_entry(request, checked, &choice)) return status;
  if (tiaot_status status = check_jacobian_sizes(request, checked)) return status;
  CudaDevice *device = nullptr;
  if (tiaot_status status = find_cuda_device(caller, checked.device, &device)) return status;
  CudaCurrent current;
  const CudaImage *image = nullptr;
  if (tiaot_status status = start_cuda_call(caller, *request.kernel->module, device, &current, &image)) return status;
  const auto stream = static_cast<CUstream>(request.stream);
  CudaRun run{caller, device, image, stream, *choice.entry, checked.sizes};
  CudaJacobian it{request, checked, *choice.variant, run, checked.rows(desc), false, 0, 0, 0, {}, nullptr};
  if (it.rows == 0) return TIAOT_OK;
  if (tiaot_status status = plan_memory(&it)) return status;
  CudaWorkspace memory(caller, device, stream);
  if (tiaot_status status = memory.take(it.bytes)) return status;
  it.memory = memory.data();
  if (tiaot_status status = run_outputs(it)) return status;
  return memory.give_back();
}

}  // namespace tiaot
