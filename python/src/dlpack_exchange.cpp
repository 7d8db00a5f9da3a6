// dlpack_exchange.cpp: finds DLPack's table of functions on an array type.
#include "dlpack_exchange.hpp"

#include "common.hpp"

namespace tiaot::binding {

const ExchangeTable *find_exchange_table(PyObject *type) {
  Ref capsule = get_attribute(type, kExchangeAttribute);
  const bool is_table = capsule && PyCapsule_IsValid(capsule.get(), kExchangeCapsule) != 0;
  void *pointer = is_table ? PyCapsule_GetPointer(capsule.get(), kExchangeCapsule) : nullptr;
  PyErr_Clear();
  for (auto *header = static_cast<ExchangeHeader *>(pointer); header != nullptr; header = header->previous) {
    if (header->version.major == 1) return reinterpret_cast<ExchangeTable *>(header);
  }
  return nullptr;
}

}  // namespace tiaot::binding
