// cuda_state.cpp: the memory of states on CUDA devices: where it comes from, what fills it and copies it. Knows nothing
// of calls.
#include <algorithm>
#include <string>

#include "cuda_device.hpp"
#include "error.hpp"
#include "memory.hpp"
#include "state.hpp"

namespace tiaot {
namespace {

constexpr int64_t kMaxPitch = INT32_MAX;  // CU_DEVICE_ATTRIBUTE_MAX_PITCH of every device

struct Axis {
  int64_t size, stride;  // in elements
};

// The axes of a field with more than one element, the shortest stride first, those in one that follow on one another.
// 0: the field has no elements, -1: it has one.
struct Axes {
  Axis list[TIAOT_MAX_DIMS];
  uint32_t count = 0;
  bool empty = false;

  explicit Axes(const tiaot_field_desc &field) {
    for (uint32_t axis = 0; axis < field.rank; ++axis) {
      empty = empty || field.shape[axis] == 0;
      if (field.shape[axis] > 1) list[count++] = {field.shape[axis], field.strides[axis]};
    }
    std::sort(list, list + count, [](const Axis &a, const Axis &b) { return a.stride < b.stride; });
    uint32_t last = 0;
    for (uint32_t axis = 1; axis < count; ++axis) {
      if (list[axis].stride == list[last].stride * list[last].size) {
        list[last].size *= list[axis].size;
      } else {
        list[++last] = list[axis];
      }
    }
    if (count > 0) count = last + 1;
    if (count == 0 || list[0].stride != 1) {  // so that the first is always a row of neighbours
      std::copy_backward(list, list + count, list + count + 1);
      list[0] = {1, 1};
      ++count;
    }
  }
};

struct Filling {
  CudaCaller caller;
  CudaDevice *device;
  CUstream stream;
  Element value;

  tiaot_status keep(const char *function, CUresult error) const {
    return error == 0 ? TIAOT_OK : device->failed(caller, function, error);
  }

  // `rows` rows of `width` words, `pitch` bytes apart.
  tiaot_status set_words(CUdeviceptr at, uint32_t word, int64_t width, int64_t rows, int64_t pitch) const {
    return keep("cuMemsetD2D32Async",
                device->driver->cuMemsetD2D32Async(at, static_cast<size_t>(pitch), word, static_cast<size_t>(width),
                                                   static_cast<size_t>(rows), stream));
  }

  // `rows` rows of `width` elements, `pitch` bytes apart; of one row the pitch is of no meaning.
  tiaot_status set(char *first, int64_t width, int64_t rows, int64_t pitch) const {
    const auto at = reinterpret_cast<CUdeviceptr>(first);
    const auto bits = static_cast<uint32_t>(value.bits);
    const auto w = static_cast<size_t>(width), h = static_cast<size_t>(rows), p = static_cast<size_t>(pitch);
    switch (value.bytes) {
      case 1:
        return keep("cuMemsetD2D8Async",
                    device->driver->cuMemsetD2D8Async(at, p, static_cast<uint8_t>(bits), w, h, stream));
      case 2:
        return keep("cuMemsetD2D16Async",
                    device->driver->cuMemsetD2D16Async(at, p, static_cast<uint16_t>(bits), w, h, stream));
      case 4:
        return set_words(at, bits, width, rows, pitch);
      default:
        break;
    }
    const auto high = static_cast<uint32_t>(value.bits >> 32);
    if (bits == high) return set_words(at, bits, 2 * width, rows, pitch);
    // Two words each, which are set one by one: the elements of a row are then the rows.
    for (int64_t row = 0; row < rows; ++row) {
      const CUdeviceptr start = at + static_cast<CUdeviceptr>(row * pitch);
      if (tiaot_status status = set_words(start, bits, 1, width, 8)) return status;
      if (tiaot_status status = set_words(start + 4, high, 1, width, 8)) return status;
    }
    return TIAOT_OK;
  }

  tiaot_status set_axes(char *first, const Axes &axes, uint32_t axis) const {
    const int64_t row = axes.list[0].size * value.bytes;
    if (axis == 0) {
      if (value.bits == 0) {
        return keep("cuMemsetD8Async", device->driver->cuMemsetD8Async(reinterpret_cast<CUdeviceptr>(first), 0,
                                                                       static_cast<size_t>(row), stream));
      }
      return set(first, axes.list[0].size, 1, row);
    }
    const int64_t pitch = axes.list[axis].stride * value.bytes;
    if (axis == 1 && pitch <= kMaxPitch) return set(first, axes.list[0].size, axes.list[1].size, pitch);
    for (int64_t i = 0; i < axes.list[axis].size; ++i) {
      if (tiaot_status status = set_axes(first + i * pitch, axes, axis - 1)) return status;
    }
    return TIAOT_OK;
  }
};

tiaot_status fill_new(const CudaCaller &caller, CudaDevice *device, CUdeviceptr memory, const tiaot_module_desc &desc,
                      bool zeros) {
  const CudaDriver &driver = *device->driver;
  if (desc.state_bytes > 0) {
    if (CUresult error = driver.cuMemsetD8Async(memory, 0, static_cast<size_t>(desc.state_bytes), nullptr)) {
      return device->failed(caller, "cuMemsetD8Async", error);
    }
  }
  for (uint32_t c = 0; c < desc.content_count && !zeros; ++c) {
    const tiaot_content_desc &content = desc.contents[c];
    if (content.bytes == 0) continue;
    if (CUresult error = driver.cuMemcpyHtoDAsync(memory + static_cast<CUdeviceptr>(content.offset), content.data,
                                                  static_cast<size_t>(content.bytes), nullptr)) {
      return device->failed(caller, "cuMemcpyHtoDAsync", error);
    }
  }
  if (CUresult error = driver.cuStreamSynchronize(nullptr)) return device->failed(caller, "cuStreamSynchronize", error);
  return TIAOT_OK;
}

// As much memory as a state has; `what` it is for.
tiaot_status allocate(const CudaCaller &caller, CudaDevice *device, const tiaot_module_desc &desc, const char *what,
                      CUdeviceptr *memory) {
  const CudaRelaxedCapture relaxed(*device->driver);
  const CUresult error =
      device->driver->cuMemAlloc(memory, static_cast<size_t>(std::max<int64_t>(desc.state_bytes, 1)));
  if (error == CUDA_ERROR_OUT_OF_MEMORY) {
    return raise(TIAOT_ERROR_MEMORY, "no memory on cuda:%d for the %s of module '%s': %lld bytes are needed",
                 device->ordinal, what, desc.name, static_cast<long long>(desc.state_bytes));
  }
  return error == 0 ? TIAOT_OK : device->failed(caller, "cuMemAlloc", error);
}

}  // namespace

int32_t ordinal_of(const CudaDevice &device) { return device.ordinal; }

void free_cuda_memory(CudaDevice *device, char *memory) noexcept {
  if (memory == nullptr || cuda_lost_by_fork()) return;
  // Without a word when that fails: the device is then lost, and its memory with it.
  guarded([&] {
    CudaCurrent current;
    if (tiaot_status status = current.enter({"tiaot_state_destroy"}, device)) return status;
    const CudaRelaxedCapture relaxed(*device->driver);
    device->driver->cuMemFree(reinterpret_cast<CUdeviceptr>(memory));
    return TIAOT_OK;
  });
}

tiaot_status create_cuda_state(const tiaot_module &module, int32_t ordinal, bool zeros, tiaot_state **state) {
  const tiaot_module_desc &desc = *module.desc;
  const CudaCaller caller{"tiaot_state_create_on"};
  CudaDevice *device = nullptr;
  if (tiaot_status status = find_cuda_device(caller, ordinal, &device)) return status;
  CudaCurrent current;
  if (tiaot_status status = current.enter(caller, device)) return status;
  std::unique_ptr<tiaot_state> made(
      new tiaot_state{&module, std::unique_ptr<void, void (*)(void *)>(nullptr, std::free), nullptr});
  CUdeviceptr memory = 0;
  if (tiaot_status status = allocate(caller, device, desc, "state", &memory)) return status;
  made->memory = reinterpret_cast<char *>(memory);
  made->device = device;
  if (tiaot_status status = fill_new(caller, device, memory, desc, zeros)) return status;
  *state = made.release();
  return TIAOT_OK;
}

tiaot_status create_cuda_tangents(const tiaot_state &state, char **memory) {
  const tiaot_module_desc &desc = *state.module->desc;
  const CudaCaller caller{"the tangents of a state"};
  CudaCurrent current;
  if (tiaot_status status = current.enter(caller, state.device)) return status;
  CUdeviceptr made = 0;
  if (tiaot_status status = allocate(caller, state.device, desc, "tangents of the state", &made)) return status;
  if (tiaot_status status = fill_new(caller, state.device, made, desc, true)) {
    free_cuda_memory(state.device, reinterpret_cast<char *>(made));
    return status;
  }
  *memory = reinterpret_cast<char *>(made);
  return TIAOT_OK;
}

tiaot_status fill_cuda_field(const tiaot_state &state, const tiaot_field_desc &field, char *memory, Element value,
                             void *stream) {
  const CudaCaller caller{"tiaot_state_fill"};
  CudaCurrent current;
  if (tiaot_status status = current.enter(caller, state.device)) return status;
  const Axes axes(field);
  if (axes.empty) return TIAOT_OK;
  const Filling filling{caller, state.device, static_cast<CUstream>(stream), value};
  return filling.set_axes(memory + field.offset, axes, axes.count - 1);
}

tiaot_status copy_cuda_state(const char *name, const tiaot_state &state, CudaCopy kind, void *target,
                             const void *source, int64_t bytes, void *stream) {
  const CudaCaller caller{name};
  if (bytes == 0) return TIAOT_OK;
  CudaCurrent current;
  if (tiaot_status status = current.enter(caller, state.device)) return status;
  const CudaDriver &driver = *state.device->driver;
  const auto to = reinterpret_cast<CUdeviceptr>(target), from = reinterpret_cast<CUdeviceptr>(source);
  const auto on = static_cast<CUstream>(stream);
  const auto size = static_cast<size_t>(bytes);
  if (kind == CudaCopy::kWithin) {
    const CUresult error = driver.cuMemcpyDtoDAsync(to, from, size, on);
    return error == 0 ? TIAOT_OK : state.device->failed(caller, "cuMemcpyDtoDAsync", error);
  }
  int32_t capturing = CU_STREAM_CAPTURE_STATUS_NONE;
  if (CUresult error = driver.cuStreamIsCapturing(on, &capturing)) {
    return state.device->failed(caller, "cuStreamIsCapturing", error);
  }
  if (capturing != CU_STREAM_CAPTURE_STATUS_NONE) {
    return raise(TIAOT_ERROR_VALUE,
                 "%s: the stream %p is being captured: what waits for the device, as a copy between it and the host "
                 "does, belongs in front of the capture or behind it",
                 name, stream);
  }
  const bool out = kind == CudaCopy::kToHost;
  CUresult error =
      out ? driver.cuMemcpyDtoHAsync(target, from, size, on) : driver.cuMemcpyHtoDAsync(to, source, size, on);
  if (error != 0) return state.device->failed(caller, out ? "cuMemcpyDtoHAsync" : "cuMemcpyHtoDAsync", error);
  error = driver.cuStreamSynchronize(on);
  return error == 0 ? TIAOT_OK : state.device->failed(caller, "cuStreamSynchronize", error);
}

}  // namespace tiaot
