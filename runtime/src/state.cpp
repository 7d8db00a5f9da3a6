// state.cpp: the instances of a module's fields: their memory and their description. Knows nothing of calls.
#include "state.hpp"

#include <cstdlib>
#include <cstring>
#include <new>
#include <string>

#include "error.hpp"
#include "memory.hpp"

using namespace tiaot;

extern "C" tiaot_status tiaot_state_create(const tiaot_module *module, tiaot_state **state) {
  if (module == nullptr || state == nullptr) {
    return raise(TIAOT_ERROR_VALUE, "tiaot_state_create: %s is NULL", module == nullptr ? "module" : "state");
  }
  const tiaot_module_desc &desc = *module->desc;
  if (desc.field_count == 0) return raise(TIAOT_ERROR_VALUE, "module '%s' has no state", desc.name);
  // Zeros from calloc, which large states get page by page as they are touched; hence the alignment by hand.
  std::unique_ptr<void, void (*)(void *)> allocation(nullptr, std::free);
  if (desc.state_bytes <= INT64_MAX - kAlignment) {
    allocation.reset(std::calloc(static_cast<size_t>(desc.state_bytes + kAlignment), 1));
  }
  if (allocation == nullptr) {
    return raise(TIAOT_ERROR_MEMORY, "no memory for the state of module '%s': %lld bytes are needed", desc.name,
                 static_cast<long long>(desc.state_bytes));
  }
  char *start = static_cast<char *>(allocation.get());
  char *memory = start + (-reinterpret_cast<uintptr_t>(start) & static_cast<uintptr_t>(kAlignment - 1));
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
    if (std::strcmp(field.name, name) != 0) continue;
    *tensor = {state->memory + field.offset,
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
