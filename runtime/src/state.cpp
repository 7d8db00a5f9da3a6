// state.cpp: the instances of a module's fields: their memory and their description. Knows nothing of calls.
#include "state.hpp"

#include <cstdlib>
#include <cstring>
#include <new>
#include <string>

#include "error.hpp"
#include "memory.hpp"

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

extern "C" tiaot_status tiaot_state_create(const tiaot_module *module, tiaot_state **state) {
  if (module == nullptr || state == nullptr) {
    return raise(TIAOT_ERROR_VALUE, "tiaot_state_create: %s is NULL", module == nullptr ? "module" : "state");
  }
  const tiaot_module_desc &desc = *module->desc;
  if (desc.field_count == 0) return raise(TIAOT_ERROR_VALUE, "module '%s' has no state", desc.name);
  std::unique_ptr<void, void (*)(void *)> allocation(nullptr, std::free);
  char *memory = allocate(desc, &allocation);
  if (allocation == nullptr) return no_memory("state", desc);
  for (uint32_t c = 0; c < desc.content_count; ++c) {
    const tiaot_content_desc &content = desc.contents[c];
    std::memcpy(memory + content.offset, content.data, static_cast<size_t>(content.bytes));
  }
  auto *result = new (std::nothrow) tiaot_state{module, std::move(allocation), memory};
  if (result == nullptr) return raise(TIAOT_ERROR_MEMORY, "out of memory");
  *state = result;
  return TIAOT_OK;
}

extern "C" void tiaot_state_destroy(tiaot_state *state) { delete state; }

extern "C" tiaot_status tiaot_state_field(const tiaot_state *state, const char *name, DLTensor *tensor) {
  if (state == nullptr || name == nullptr || tensor == nullptr) {
    return raise(TIAOT_ERROR_VALUE, "tiaot_state_field: %s is NULL",
                 state == nullptr  ? "state"
                 : name == nullptr ? "name"
                                   : "tensor");
  }
  const tiaot_module_desc &desc = *state->module->desc;
  for (uint32_t f = 0; f < desc.field_count; ++f) {
    const tiaot_field_desc &field = desc.fields[f];
    const bool tangent = is_tangent(field, name);
    if (!tangent && std::strcmp(field.name, name) != 0) continue;
    char *memory = state->memory;
    if (tangent) {
      if (tiaot_status status = state_tangents(*state, &memory)) return status;
    }
    *tensor = {memory + field.offset,
               {kDLCPU, 0},
               static_cast<int32_t>(field.rank),
               {static_cast<uint8_t>(field.dtype >> 8), static_cast<uint8_t>(field.dtype), 1},
               const_cast<int64_t *>(field.shape),
               const_cast<int64_t *>(field.strides),
               0};
    return TIAOT_OK;
  }
  return guarded([&] {
    std::string names;
    for (uint32_t f = 0; f < desc.field_count; ++f) {
      names += (names.empty() ? "'" : ", '") + std::string(desc.fields[f].name) + "'";
    }
    return raise(TIAOT_ERROR_VALUE, "module '%s' has no field '%s'; it has %s", desc.name, name, names.c_str());
  });
}
