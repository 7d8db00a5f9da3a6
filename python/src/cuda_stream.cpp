// cuda_stream.cpp: the argument `stream`, and the one question to the driver that the runtime does not answer.
#include <dlfcn.h>

#include "cuda_arrays.hpp"

namespace tiaot::binding {
namespace {

// The integer that stands for the stream, of an object that has one: NVIDIA's protocol, torch's and CuPy's attributes.
Ref stream_number(PyObject *object) {
  if (PyIndex_Check(object)) return Ref(PyNumber_Index(object));
  Ref found;
  if (!find_attribute(object, "__cuda_stream__", &found)) return Ref();
  if (found) {
    Ref answer(PyObject_CallNoArgs(found.get()));  // (version of the protocol, handle)
    if (!answer) return Ref();
    if (PyTuple_Check(answer.get()) && PyTuple_GET_SIZE(answer.get()) == 2) {
      return Ref(Py_NewRef(PyTuple_GET_ITEM(answer.get(), 1)));
    }
    return Ref(Py_NewRef(answer.get()));
  }
  for (const char *name : {"cuda_stream", "ptr"}) {
    if (!find_attribute(object, name, &found)) return Ref();
    if (found) return found;
  }
  return Ref(Py_NewRef(object));
}

}  // namespace

bool read_stream(PyObject *object, const char *label, const char *argument, void **stream) {
  constexpr char kExpected[] = "a CUDA stream: an integer, or an object with __cuda_stream__, cuda_stream or ptr";
  Ref number = PyBool_Check(object) ? Ref(Py_NewRef(object)) : stream_number(object);
  if (!number) return false;
  if (PyBool_Check(number.get()) || !PyLong_Check(number.get())) {
    PyErr_Format(PyExc_TypeError, "%s%s: expected %s, got %s", label, argument, kExpected, type_name(object).c_str());
    return false;
  }
  const unsigned long long value = PyLong_AsUnsignedLongLong(number.get());
  if (PyErr_Occurred()) {
    PyErr_Clear();
    PyErr_Format(PyExc_ValueError, "%s%s: expected a stream's handle, from 0 on and of 64 bits, got %S", label,
                 argument, number.get());
    return false;
  }
  *stream = reinterpret_cast<void *>(static_cast<uintptr_t>(value));
  return true;
}

DeviceOfAddress device_of_address(const void *address, int32_t *device) {
  using GetAttribute = int (*)(void *value, int attribute, unsigned long long address);
  // Whoever made the array has loaded the driver.
  static void *const library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  static const auto get_attribute_of =
      library != nullptr ? reinterpret_cast<GetAttribute>(dlsym(library, "cuPointerGetAttribute")) : nullptr;
  // CU_POINTER_ATTRIBUTE_MEMORY_TYPE, _IS_MANAGED, _DEVICE_ORDINAL, and CU_MEMORYTYPE_HOST
  constexpr int kMemoryType = 2, kIsManaged = 8, kDeviceOrdinal = 9, kHost = 1;
  const auto ask = [&](void *value, int attribute) {
    return get_attribute_of != nullptr && get_attribute_of(value, attribute, reinterpret_cast<uintptr_t>(address)) == 0;
  };
  if (!ask(device, kDeviceOrdinal)) return DeviceOfAddress::kUnknown;
  uint32_t type = 0, managed = 0;
  if (ask(&type, kMemoryType) && type == kHost && !(ask(&managed, kIsManaged) && managed != 0)) {
    return DeviceOfAddress::kHost;
  }
  return DeviceOfAddress::kDevice;
}

}  // namespace tiaot::binding
