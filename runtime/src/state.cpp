// state.cpp: the instances of a module's fields: their memory and their description. Knows nothing of calls.
#include "state.hpp"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <string>
#include <type_traits>

#include "dtypes.hpp"
#include "error.hpp"
#include "memory.hpp"
#include "signature.hpp"

namespace tiaot {
namespace {

// `state_bytes` of zeros, from calloc, which large states get page by page as they are touched; hence the alignment by
// hand.
char *allocate(const tiaot_module_desc &desc, std::unique_ptr<void, void (*)(void *)> *allocation) {
  if (desc.state_bytes <= INT64_MAX - kAlignment) {
    allocation->reset(std::calloc(static_cast<size_t>(desc.state_bytes + kAlignment), 1));
  }
  char *start = static_cast<char *>(allocation->get());
  return start + (-reinterpret_cast<uintptr_t>(start) & static_cast<uintptr_t>(kAlignment - 1));
}

tiaot_status no_memory(const char *what, const tiaot_module_desc &desc) {
  return raise(TIAOT_ERROR_MEMORY, "no memory for the %s of module '%s': %lld bytes are needed", what, desc.name,
               static_cast<long long>(desc.state_bytes));
}

constexpr const char kTangent[] = ".tangent";

// Whether `name` is that of the field's tangents.
bool is_tangent(const tiaot_field_desc &field, const char *name) {
  const size_t length = std::strlen(field.name);
  return field.dtype >> 8 == 2 && std::strncmp(field.name, name, length) == 0 &&
         std::strcmp(name + length, kTangent) == 0;
}

}  // namespace

tiaot_status state_tangents(const tiaot_state &state, char **memory) {
  *memory = state.tangents.load(std::memory_order_acquire);
  if (*memory != nullptr) return TIAOT_OK;
  if (state.device != nullptr) {
    char *on_device = nullptr;
    if (tiaot_status status = create_cuda_tangents(state, &on_device)) return status;
    if (state.tangents.compare_exchange_strong(*memory, on_device, std::memory_order_acq_rel)) {
      *memory = on_device;
    } else {
      free_cuda_memory(state.device, on_device);
    }
    return TIAOT_OK;
  }
  std::unique_ptr<void, void (*)(void *)> allocation(nullptr, std::free);
  char *made = allocate(*state.module->desc, &allocation);
  if (allocation == nullptr) return no_memory("tangents of the state", *state.module->desc);
  if (state.tangents.compare_exchange_strong(*memory, made, std::memory_order_acq_rel)) {
    *memory = made;
    state.tangents_allocation = std::move(allocation);
  }
  return TIAOT_OK;
}

}  // namespace tiaot

using namespace tiaot;

namespace {

tiaot_status create_on_cpu(const tiaot_module &module, bool zeros, tiaot_state **state) {
  const tiaot_module_desc &desc = *module.desc;
  std::unique_ptr<void, void (*)(void *)> allocation(nullptr, std::free);
  char *memory = allocate(desc, &allocation);
  if (allocation == nullptr) return no_memory("state", desc);
  for (uint32_t c = 0; c < desc.content_count && !zeros; ++c) {
    const tiaot_content_desc &content = desc.contents[c];
    std::memcpy(memory + content.offset, content.data, static_cast<size_t>(content.bytes));
  }
  auto *result = new (std::nothrow) tiaot_state{&module, std::move(allocation), memory};
  if (result == nullptr) return raise(TIAOT_ERROR_MEMORY, "out of memory");
  *state = result;
  return TIAOT_OK;
}

// The field of that name, or of whose tangents it is, and the memory that it lies in.
tiaot_status find_field(const tiaot_state &state, const char *name, const tiaot_field_desc **field, char **memory) {
  const tiaot_module_desc &desc = *state.module->desc;
  for (uint32_t f = 0; f < desc.field_count; ++f) {
    *field = &desc.fields[f];
    *memory = state.memory;
    if (std::strcmp((*field)->name, name) == 0) return TIAOT_OK;
    if (is_tangent(**field, name)) return state_tangents(state, memory);
  }
  std::string names;
  for (uint32_t f = 0; f < desc.field_count; ++f) {
    names += (names.empty() ? "'" : ", '") + std::string(desc.fields[f].name) + "'";
  }
  return raise(TIAOT_ERROR_VALUE, "module '%s' has no field '%s'; it has %s", desc.name, name, names.c_str());
}

tiaot_status refuse_null(const char *function, const char *argument) {
  return raise(TIAOT_ERROR_VALUE, "%s: %s is NULL", function, argument);
}

template <typename T>
Element element_of(T value) {
  Element element{0, sizeof value};
  std::memcpy(&element.bits, &value, sizeof value);
  return element;
}

// A number as an element of a type; false where it is none of its numbers.
bool make_element(uint32_t dtype, double value, Element *element) {
  bool fits = true;
  const bool known = visit_dtype(dtype, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (std::is_integral_v<T>) {
      constexpr auto kEnd = 2.0 * static_cast<double>(std::numeric_limits<T>::max() / 2 + 1);  // one behind the last
      fits =
          std::nearbyint(value) == value && value >= static_cast<double>(std::numeric_limits<T>::min()) && value < kEnd;
      if (!fits) return;
    }
    *element = element_of(static_cast<T>(value));
  });
  return known && fits;
}

void fill_on_cpu(char *first, const tiaot_field_desc &field, uint32_t axis, Element value) {
  if (axis == field.rank) {
    std::memcpy(first, &value.bits, static_cast<size_t>(value.bytes));
    return;
  }
  for (int64_t i = 0; i < field.shape[axis]; ++i) {
    fill_on_cpu(first + i * field.strides[axis] * value.bytes, field, axis + 1, value);
  }
}

// Where a range of the state's bytes lies, or of those of its tangents, which are counted behind them.
tiaot_status find_range(const char *function, const tiaot_state *state, int64_t offset, int64_t bytes, const void *host,
                        char **memory) {
  if (state == nullptr || (host == nullptr && bytes != 0))
    return refuse_null(function, state == nullptr ? "state" : "data");
  const int64_t all = state->module->desc->state_bytes;
  if (offset >= 0 && bytes >= 0 && offset <= all && bytes <= all - offset) {
    *memory = state->memory + offset;
    return TIAOT_OK;
  }
  if (offset >= all && bytes >= 0 && offset - all <= all && bytes <= all - (offset - all)) {
    if (tiaot_status status = state_tangents(*state, memory)) return status;
    *memory += offset - all;
    return TIAOT_OK;
  }
  return raise(TIAOT_ERROR_VALUE,
               "%s: expected a range of the state's %lld bytes or of its tangents' behind them, got %lld from %lld on",
               function, static_cast<long long>(all), static_cast<long long>(bytes), static_cast<long long>(offset));
}

}  // namespace

extern "C" tiaot_status tiaot_state_create(const tiaot_module *module, tiaot_state **state) {
  if (module == nullptr || state == nullptr) {
    return refuse_null("tiaot_state_create", module == nullptr ? "module" : "state");
  }
  if (module->desc->field_count == 0) return raise(TIAOT_ERROR_VALUE, "module '%s' has no state", module->desc->name);
  return create_on_cpu(*module, false, state);
}

extern "C" tiaot_status tiaot_state_create_on(const tiaot_module *module, DLDevice device, uint32_t flags,
                                              tiaot_state **state) {
  const char *const name = "tiaot_state_create_on";
  if (module == nullptr || state == nullptr) return refuse_null(name, module == nullptr ? "module" : "state");
  if ((flags & ~uint32_t{TIAOT_STATE_ZEROS}) != 0) {
    return raise(TIAOT_ERROR_VALUE, "%s: flags: expected 0 or TIAOT_STATE_ZEROS, got %u", name, flags);
  }
  const tiaot_module_desc &desc = *module->desc;
  if (desc.field_count == 0) return raise(TIAOT_ERROR_VALUE, "module '%s' has no state", desc.name);
  const bool zeros = flags != 0;
  int32_t type;  // copied: a number that the enum does not name is not to be read as one
  std::memcpy(&type, &device.device_type, sizeof type);
  if (type == kDLCPU) return create_on_cpu(*module, zeros, state);
  if (type != kDLCUDA) {
    return raise(TIAOT_ERROR_VALUE, "%s: device: expected the CPU (1) or a CUDA device (2), got DLPack's %d", name,
                 type);
  }
  if (desc.cuda == nullptr) {
    return raise(TIAOT_ERROR_UNSUPPORTED, "%s: module '%s' was exported without CUDA code: export it with --cuda", name,
                 desc.name);
  }
  return guarded([&] { return create_cuda_state(*module, device.device_id, zeros, state); });
}

extern "C" void tiaot_state_destroy(tiaot_state *state) { delete state; }

extern "C" tiaot_status tiaot_state_field(const tiaot_state *state, const char *name, DLTensor *tensor) {
  if (state == nullptr || name == nullptr || tensor == nullptr) {
    return refuse_null("tiaot_state_field", state == nullptr ? "state" : name == nullptr ? "name" : "tensor");
  }
  return guarded([&]() -> tiaot_status {
    const tiaot_field_desc *field = nullptr;
    char *memory = nullptr;
    if (tiaot_status status = find_field(*state, name, &field, &memory)) return status;
    *tensor = {memory + field->offset,
               state->device == nullptr ? DLDevice{kDLCPU, 0} : DLDevice{kDLCUDA, ordinal_of(*state->device)},
               static_cast<int32_t>(field->rank),
               {static_cast<uint8_t>(field->dtype >> 8), static_cast<uint8_t>(field->dtype), 1},
               const_cast<int64_t *>(field->shape),
               const_cast<int64_t *>(field->strides),
               0};
    return TIAOT_OK;
  });
}

extern "C" tiaot_status tiaot_state_fill(tiaot_state *state, const char *name, double value, void *stream) {
  const char *const function = "tiaot_state_fill";
  if (state == nullptr || name == nullptr) return refuse_null(function, state == nullptr ? "state" : "name");
  return guarded([&]() -> tiaot_status {
    const tiaot_field_desc *field = nullptr;
    char *memory = nullptr;
    if (tiaot_status status = find_field(*state, name, &field, &memory)) return status;
    Element element{};
    if (!make_element(field->dtype, value, &element)) {
      return raise(TIAOT_ERROR_VALUE, "%s: field '%s': expected a whole number that its elements can be, got %g",
                   function, name, value);
    }
    if (state->device != nullptr) return fill_cuda_field(*state, *field, memory, element, stream);
    fill_on_cpu(memory + field->offset, *field, 0, element);
    return TIAOT_OK;
  });
}

extern "C" tiaot_status tiaot_state_read(const tiaot_state *state, int64_t offset, int64_t bytes, void *target,
                                         void *stream) {
  const char *const function = "tiaot_state_read";
  return guarded([&]() -> tiaot_status {
    char *source = nullptr;
    if (tiaot_status status = find_range(function, state, offset, bytes, target, &source)) return status;
    if (state->device != nullptr) {
      return copy_cuda_state(function, *state, CudaCopy::kToHost, target, source, bytes, stream);
    }
    if (bytes > 0) std::memcpy(target, source, static_cast<size_t>(bytes));
    return TIAOT_OK;
  });
}

extern "C" tiaot_status tiaot_state_write(tiaot_state *state, int64_t offset, int64_t bytes, const void *source,
                                          void *stream) {
  const char *const function = "tiaot_state_write";
  return guarded([&]() -> tiaot_status {
    char *target = nullptr;
    if (tiaot_status status = find_range(function, state, offset, bytes, source, &target)) return status;
    if (state->device != nullptr) {
      return copy_cuda_state(function, *state, CudaCopy::kFromHost, target, source, bytes, stream);
    }
    if (bytes > 0) std::memcpy(target, source, static_cast<size_t>(bytes));
    return TIAOT_OK;
  });
}

extern "C" tiaot_status tiaot_state_copy(tiaot_state *target, const tiaot_state *source, void *stream) {
  const char *const function = "tiaot_state_copy";
  if (target == nullptr || source == nullptr) return refuse_null(function, target == nullptr ? "target" : "source");
  if (target->module != source->module) {
    return raise(TIAOT_ERROR_VALUE, "%s: expected two states of one module, got one of '%s' and one of '%s'", function,
                 target->module->desc->name, source->module->desc->name);
  }
  const int64_t bytes = target->module->desc->state_bytes;
  if (target == source) return TIAOT_OK;
  if (source->device == nullptr) return tiaot_state_write(target, 0, bytes, source->memory, stream);
  if (target->device == nullptr) return tiaot_state_read(source, 0, bytes, target->memory, stream);
  if (target->device != source->device) {
    return raise(TIAOT_ERROR_VALUE,
                 "%s: expected states on one CUDA device, or one on the CPU, got cuda:%d and cuda:%d", function,
                 ordinal_of(*target->device), ordinal_of(*source->device));
  }
  return guarded([&] {
    return copy_cuda_state(function, *target, CudaCopy::kWithin, target->memory, source->memory, bytes, stream);
  });
}

namespace tiaot {

tiaot_status explain_state_in_use(const char *kernel, int entry, const tiaot_state &state) {
  return raise(TIAOT_ERROR_VALUE, "%s.%s: the state of module '%s' is in use by another call", kernel,
               entry_name(entry), state.module->desc->name);
}

}  // namespace tiaot
