// cuda_arrays.cpp: reads arrays on CUDA devices, by DLPack's table of functions, by __dlpack__, or by
// __cuda_array_interface__, and has their library make results. Knows nothing of kernels, shapes or modules.
#include "cuda_arrays.hpp"

#include <cstdint>
#include <cstring>

#include "dlpack_exchange.hpp"

namespace tiaot::binding {
namespace {

// A stream as DLPack and __cuda_array_interface__ number them: the legacy default stream is 1.
uintptr_t number_of(void *stream) {
  const auto handle = reinterpret_cast<uintptr_t>(stream);
  return handle == 0 ? 1 : handle;
}

// Makes the call's stream wait for what is on `first`. False with an exception set.
bool order(const CudaPlace &cuda, void *first) {
  if (number_of(first) == number_of(cuda.stream)) return true;
  tiaot_status status;
  Py_BEGIN_ALLOW_THREADS;  // the driver waits where its queue is full, perhaps for a function that needs the GIL
  status = tiaot_cuda_order(cuda.device, first, cuda.stream);
  Py_END_ALLOW_THREADS;
  return status == TIAOT_OK || raise_status(status) != nullptr;
}

const ExchangeTable *table_of(PyObject *object) {
  const ExchangeTable *table = find_exchange_table(reinterpret_cast<PyObject *>(Py_TYPE(object)));
  return table != nullptr && table->export_tensor != nullptr && table->current_stream != nullptr ? table : nullptr;
}

bool read_exchanged(const ExchangeTable &table, PyObject *object, bool writable, bool ordered, DLTensor *tensor,
                    Reading *reading, Mismatch *mismatch) {
  if (!check_torch(object, mismatch)) return false;
  Ref recorded;
  if (!find_attribute(object, "requires_grad", &recorded)) return false;
  const int truth = recorded ? PyObject_IsTrue(recorded.get()) : 0;
  if (truth < 0) return false;
  if (truth > 0) {  // torch's own __dlpack__ refuses these, the table does not
    return mismatch_of(mismatch, PyExc_BufferError, "a tensor that requires no gradient",
                       "one that does; pass its detach(), or use tiaot.torch");
  }
  DLManagedTensorVersioned *managed = nullptr;
  if (table.export_tensor(object, &managed) != 0) return false;
  reading->leases.emplace_back(managed);
  if (!check_rank(managed->dl_tensor, mismatch)) return false;
  if (writable && (managed->flags & DLPACK_FLAG_BITMASK_READ_ONLY) != 0) {
    return mismatch_of(mismatch, PyExc_ValueError, "a writable array", "a read-only one");
  }
  *tensor = managed->dl_tensor;
  tensor->data = static_cast<char *>(tensor->data) + tensor->byte_offset;
  tensor->byte_offset = 0;
  if (!ordered) return true;
  void *current = nullptr;
  return table.current_stream(kDLCUDA, tensor->device.device_id, &current) == 0 && order(reading->cuda, current);
}

// The capsule of the object's __dlpack__, whose library makes `stream` wait; -1: it makes none wait.
Ref capsule_for(PyObject *object, Ref stream) {
  Ref method = get_attribute(object, "__dlpack__");
  Ref keywords(method && stream ? Py_BuildValue("{s:(ii),s:O}", "max_version", 1, 0, "stream", stream.get()) : nullptr);
  Ref nothing(keywords ? PyTuple_New(0) : nullptr);
  if (!nothing) return Ref();
  Ref capsule(PyObject_Call(method.get(), nothing.get(), keywords.get()));
  if (!capsule && PyErr_ExceptionMatches(PyExc_TypeError)) {  // a library from before DLPack 1.0
    PyErr_Clear();
    if (PyDict_DelItemString(keywords.get(), "max_version") != 0) return Ref();
    capsule = Ref(PyObject_Call(method.get(), nothing.get(), keywords.get()));
  }
  return capsule;
}

// __cuda_array_interface__

// What the entry of a dict says; empty for None. Its own reference: what is asked of it may run code of its owner's,
// who may change the dict.
Ref entry_of(PyObject *interface, const char *name) {
  PyObject *value = PyDict_GetItemString(interface, name);
  return Ref(value == Py_None ? nullptr : Py_XNewRef(value));
}

bool malformed(Mismatch *mismatch, const char *expected, const Ref &got) {
  PyErr_Clear();
  return mismatch_of(mismatch, PyExc_TypeError, std::string("__cuda_array_interface__ with ") + expected,
                     got ? text_of(got.get()) : "none");
}

Ref interface_of(PyObject *object, Mismatch *mismatch) {
  Ref interface = get_attribute(object, "__cuda_array_interface__");
  if (interface && !PyDict_Check(interface.get())) {
    mismatch_of(mismatch, PyExc_TypeError, "a dict as __cuda_array_interface__", type_name(interface.get()));
    return Ref();
  }
  return interface;
}

bool read_address(PyObject *interface, void **address, bool *read_only, Mismatch *mismatch) {
  Ref data = entry_of(interface, "data");
  if (!data || !PyTuple_Check(data.get()) || PyTuple_GET_SIZE(data.get()) != 2) {
    return malformed(mismatch, "a pair as 'data'", data);
  }
  const Ref number(Py_NewRef(PyTuple_GET_ITEM(data.get(), 0)));
  *address = PyLong_AsVoidPtr(number.get());
  if (PyErr_Occurred()) return malformed(mismatch, "an address in 'data'", number);
  const int truth = PyObject_IsTrue(PyTuple_GET_ITEM(data.get(), 1));
  *read_only = truth != 0;
  return truth >= 0;
}

// "<f4": byte order, kind, bytes.
bool read_typestr(PyObject *interface, DLDataType *dtype, Mismatch *mismatch) {
  Ref object = entry_of(interface, "typestr");
  const char *text = object && PyUnicode_Check(object.get()) ? PyUnicode_AsUTF8(object.get()) : nullptr;
  if (text == nullptr || text[0] == 0 || text[1] == 0) return malformed(mismatch, "a 'typestr'", object);
  int code = -1;
  if (text[1] == 'i') code = 0;
  if (text[1] == 'u') code = 1;
  if (text[1] == 'f') code = 2;
  if (text[1] == 'c') code = 5;
  if (text[1] == 'b') code = 6;
  const int bytes = text[2] >= '1' && text[2] <= '9' ? std::atoi(text + 2) : 0;
  if (code < 0 || bytes < 1 || bytes > 16) return mismatch_of(mismatch, PyExc_TypeError, "", text);
  if (text[0] == '>') {
    return mismatch_of(mismatch, PyExc_TypeError, "an array in native byte order", std::string("one of ") + text);
  }
  *dtype = {static_cast<uint8_t>(code), static_cast<uint8_t>(8 * bytes), 1};
  return true;
}

bool read_sizes(PyObject *tuple, int64_t *sizes) {
  for (Py_ssize_t axis = 0; axis < PyTuple_GET_SIZE(tuple); ++axis) {
    sizes[axis] = PyLong_AsLongLong(PyTuple_GET_ITEM(tuple, axis));
    if (sizes[axis] == -1 && PyErr_Occurred()) return false;
  }
  return true;
}

bool read_shape(PyObject *interface, DLTensor *tensor, Reading *reading, Mismatch *mismatch) {
  Ref shape = entry_of(interface, "shape"), strides = entry_of(interface, "strides");
  if (!shape || !PyTuple_Check(shape.get())) return malformed(mismatch, "a tuple as 'shape'", shape);
  const Py_ssize_t ndim = PyTuple_GET_SIZE(shape.get());
  if (ndim > kMaxRank) return malformed(mismatch, "at most 64 sizes in 'shape'", shape);
  if (strides && (!PyTuple_Check(strides.get()) || PyTuple_GET_SIZE(strides.get()) != ndim)) {
    return malformed(mismatch, "'strides' as long as 'shape'", strides);
  }
  auto sizes = std::make_unique<int64_t[]>(static_cast<size_t>(2 * ndim));
  tensor->ndim = static_cast<int32_t>(ndim);
  tensor->shape = sizes.get();
  if (!read_sizes(shape.get(), tensor->shape)) return malformed(mismatch, "integers in 'shape'", shape);
  if (strides) {
    tensor->strides = sizes.get() + ndim;
    if (!read_sizes(strides.get(), tensor->strides)) return malformed(mismatch, "integers in 'strides'", strides);
    const int64_t itemsize = tensor->dtype.bits / 8;
    for (Py_ssize_t axis = 0; axis < ndim; ++axis) {
      if (tensor->strides[axis] % itemsize != 0) {
        return mismatch_of(mismatch, PyExc_ValueError, "a dense row-major array",
                           "one with a stride of " + std::to_string(tensor->strides[axis]) + " bytes for elements of " +
                               std::to_string(itemsize));
      }
      tensor->strides[axis] /= itemsize;
    }
  }
  reading->leases.emplace_back(std::move(sizes));
  return true;
}

bool read_interface(PyObject *object, bool writable, bool ordered, DLTensor *tensor, Reading *reading,
                    Mismatch *mismatch) {
  const DLDevice device = tensor->device;  // found when it was met
  Ref interface = interface_of(object, mismatch);
  if (!interface) return false;
  bool read_only = false;
  *tensor = {nullptr, device, 0, {}, nullptr, nullptr, 0};
  if (entry_of(interface.get(), "mask")) {
    return mismatch_of(mismatch, PyExc_TypeError, "an array without a mask", "one with a mask");
  }
  if (!read_address(interface.get(), &tensor->data, &read_only, mismatch) ||
      !read_typestr(interface.get(), &tensor->dtype, mismatch) ||
      !read_shape(interface.get(), tensor, reading, mismatch)) {
    return false;
  }
  if (writable && read_only) {
    return mismatch_of(mismatch, PyExc_ValueError, "a writable array", "a read-only one");
  }
  Ref stream = entry_of(interface.get(), "stream");
  if (!stream || !ordered) return true;  // None: its owner has nothing to be waited for
  void *first = PyLong_AsVoidPtr(stream.get());
  if (PyErr_Occurred() || first == nullptr) return malformed(mismatch, "a 'stream' that is None or from 1 on", stream);
  return order(reading->cuda, first);
}

// Whether the object says by __cuda_array_interface__ that it may be written to. No exception is set.
bool interface_is_writable(PyObject *object) {
  Ref interface = get_attribute(object, "__cuda_array_interface__");
  void *address = nullptr;
  bool read_only = true;
  Mismatch mismatch;
  const bool fine = interface && PyDict_Check(interface.get()) &&
                    read_address(interface.get(), &address, &read_only, &mismatch) && !read_only;
  PyErr_Clear();
  return fine;
}

// The device of an array that says only its address. One without elements has none, and is wherever the others are.
bool find_interface_device(PyObject *object, const CudaPlace &cuda, DLDevice *device, Mismatch *mismatch) {
  Ref interface = interface_of(object, mismatch);
  void *address = nullptr;
  bool read_only = false;
  if (!interface || !read_address(interface.get(), &address, &read_only, mismatch)) return false;
  *device = {kDLCUDA, cuda.device};
  if (address == nullptr) return true;
  const DeviceOfAddress found = device_of_address(address, &device->device_id);
  if (found == DeviceOfAddress::kDevice) return true;
  if (found == DeviceOfAddress::kHost) {
    return mismatch_of(mismatch, PyExc_ValueError, "memory of a CUDA device", "pinned memory of the host");
  }
  char text[24];
  std::snprintf(text, sizeof text, "%p", address);
  return mismatch_of(mismatch, PyExc_ValueError, "memory that the CUDA driver knows", std::string("address ") + text);
}

// Results

// What the Python part makes, which knows the libraries; None where theirs makes none.
Ref ask_library(PyObject *like, const DLTensor &tensor) {
  Ref python(PyImport_ImportModule("tiaot._cuda"));
  Ref shape(python ? PyTuple_New(tensor.ndim) : nullptr);
  for (int axis = 0; axis < tensor.ndim && shape; ++axis) {
    PyObject *size = PyLong_FromLongLong(tensor.shape[axis]);
    if (size == nullptr) return Ref();
    PyTuple_SET_ITEM(shape.get(), axis, size);
  }
  if (!shape) return Ref();
  const std::string dtype = dtype_name(uint32_t{tensor.dtype.code} << 8 | tensor.dtype.bits);
  return Ref(PyObject_CallMethod(python.get(), "new_array", "OOs", like, shape.get(), dtype.c_str()));
}

// What the table of functions of its type allocates; None where it has none that does.
Ref allocate_by_table(PyObject *like, const DLTensor &tensor) {
  const ExchangeTable *table = table_of(like);
  if (table == nullptr || table->allocate == nullptr || table->import_tensor == nullptr) return Ref(Py_NewRef(Py_None));
  DLTensor prototype = tensor;
  DLManagedTensorVersioned *managed = nullptr;
  std::string reason;
  const auto keep = [](void *error, const char *kind, const char *message) {
    *static_cast<std::string *>(error) = std::string(kind) + ": " + message;
  };
  if (table->allocate(&prototype, &managed, &reason, keep) != 0) {
    if (!PyErr_Occurred()) PyErr_SetString(PyExc_MemoryError, reason.c_str());
    return Ref();
  }
  void *object = nullptr;
  return Ref(table->import_tensor(managed, &object) == 0 ? static_cast<PyObject *>(object) : nullptr);
}

}  // namespace

bool meet_cuda_array(PyObject *object, const DLDevice *device, bool writable, DLTensor *tensor, Reading *reading,
                     Mismatch *mismatch) {
  CudaPlace &cuda = reading->cuda;
  DLDevice found;
  if (device != nullptr) {
    found = *device;
  } else if (!find_interface_device(object, cuda, &found, mismatch)) {
    return false;
  }
  *tensor = {nullptr, found, 0, {}, nullptr, nullptr, 0};
  if (!cuda.found) {
    cuda.found = true;
    cuda.device = found.device_id;
  }
  if (cuda.like == nullptr) cuda.like = object;
  if (!cuda.settled) {
    if (!writable) return true;
    if (!settle(&cuda)) return false;
  }
  return read_cuda_array(object, writable, found.device_id == cuda.device, tensor, reading, mismatch);
}

bool settle(CudaPlace *cuda) {
  cuda->settled = true;
  if (cuda->stream_is_given) return true;
  if (const ExchangeTable *table = table_of(cuda->like); table != nullptr) {
    return table->current_stream(kDLCUDA, cuda->device, &cuda->stream) == 0;
  }
  Ref python(PyImport_ImportModule("tiaot._cuda"));
  Ref stream(python ? PyObject_CallMethod(python.get(), "current_stream", "Oi", cuda->like, cuda->device) : nullptr);
  if (!stream) return false;
  cuda->stream = PyLong_AsVoidPtr(stream.get());
  return cuda->stream != nullptr || PyErr_Occurred() == nullptr;
}

bool read_cuda_array(PyObject *object, bool writable, bool ordered, DLTensor *tensor, Reading *reading,
                     Mismatch *mismatch) {
  if (const ExchangeTable *table = table_of(object); table != nullptr) {
    return read_exchanged(*table, object, writable, ordered, tensor, reading, mismatch);
  }
  Ref found;
  if (!find_attribute(object, "__dlpack__", &found)) return false;
  if (!found) return read_interface(object, writable, ordered, tensor, reading, mismatch);
  Ref stream(ordered ? PyLong_FromSize_t(number_of(reading->cuda.stream)) : PyLong_FromLong(-1));
  Ref capsule = capsule_for(object, std::move(stream));
  if (!capsule) return false;
  const bool old_is_writable = writable && interface_is_writable(object);  // as CuPy's before its version 14
  return take_capsule(object, std::move(capsule), writable, old_is_writable, tensor, reading, mismatch) &&
         check_torch(object, mismatch);
}

PyObject *new_cuda_array(DLTensor *tensor, Reading *reading, Mismatch *mismatch) {
  PyObject *like = reading->cuda.like;
  const std::string place = "an array on cuda:" + std::to_string(tensor->device.device_id) + " passed as out=";
  if (like == nullptr) {  // of a kernel over state there
    mismatch_of(mismatch, PyExc_TypeError, place, "none, and no argument on the device, whose library would make one");
    return nullptr;
  }
  Ref made = ask_library(like, *tensor);
  if (made && made.get() == Py_None) made = allocate_by_table(like, *tensor);
  if (!made) return nullptr;
  if (made.get() == Py_None) {
    std::string got = "none, and " + type_name(like) + " has no way to make one";
    if (type_name(like).rfind("jax", 0) == 0) got += " that may be written to; tiaot.jax takes JAX arrays";
    mismatch_of(mismatch, PyExc_TypeError, place, got);
    return nullptr;
  }
  DLTensor read = {};
  Reading whole;  // meets it as an array of the caller's, in the same place
  whole.cuda = reading->cuda;
  const bool fine = read_array(made.get(), true, &read, &whole, mismatch);
  for (Lease &lease : whole.leases) reading->leases.push_back(std::move(lease));
  if (!fine) return nullptr;
  bool same = read.ndim == tensor->ndim && is_cuda(read.device.device_type);
  same = same && std::memcmp(&read.dtype, &tensor->dtype, sizeof read.dtype) == 0;
  for (int axis = 0; axis < tensor->ndim && same; ++axis) same = read.shape[axis] == tensor->shape[axis];
  if (!same) {
    mismatch_of(mismatch, PyExc_TypeError, place, "another array from " + type_name(like) + "'s library");
    return nullptr;
  }
  tensor->data = read.data;
  tensor->device = read.device;
  return made.release();
}

}  // namespace tiaot::binding
