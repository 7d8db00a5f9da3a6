// dlpack_exchange.hpp: DLPack 1.2's table of C functions by which a library gives out and takes in its arrays, found as
// a capsule in the attribute __dlpack_c_exchange_api__ of its array type. As DLPack's ABI fixes it.
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "tiaot/dlpack.h"

namespace tiaot::binding {

struct ExchangeHeader {
  DLPackVersion version;
  ExchangeHeader *previous;  // an older table, nullptr for none
};

struct ExchangeTable {
  ExchangeHeader header;
  int (*allocate)(DLTensor *prototype, DLManagedTensorVersioned **tensor, void *error,
                  void (*set_error)(void *error, const char *kind, const char *message));
  // None of them synchronises anything: the consumer works on the current stream, or orders its own behind it. On
  // failure a Python exception is set.
  int (*export_tensor)(void *object, DLManagedTensorVersioned **tensor);
  int (*import_tensor)(DLManagedTensorVersioned *tensor, void **object);
  // The tensor's fields point into `object`, which keeps them. May be nullptr.
  int (*borrow_tensor)(void *object, DLTensor *tensor);
  int (*current_stream)(DLDeviceType type, int32_t device, void **stream);
};

constexpr char kExchangeAttribute[] = "__dlpack_c_exchange_api__";
constexpr char kExchangeCapsule[] = "dlpack_exchange_api";

// The table of version 1 that an array type has, nullptr for none; no exception is set.
const ExchangeTable *find_exchange_table(PyObject *type);

}  // namespace tiaot::binding
