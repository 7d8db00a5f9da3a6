// arrays.cpp: the arrays that take more than a glance: NumPy's with strides, subclasses, and what other libraries
// export through DLPack. Knows nothing of kernels, shapes or modules.
#include "arrays.hpp"

#include "cuda_arrays.hpp"
#include "result_memory.hpp"

namespace tiaot::binding {
namespace {

PyObject *memmap_type = nullptr;  // an ndarray on a file: its memory is all that it adds
PyObject *field_type = nullptr;   // an ndarray on a state's memory

constexpr long kPinned = 3;  // DLPack's page-locked memory for CUDA: the CPU's all the same

const char *device_name(long type) {
  switch (type) {
    case 4:
      return "opencl";
    case 7:
      return "vulkan";
    case 8:
      return "metal";
    case 10:
      return "rocm";
    case 14:
      return "oneapi";
    default:
      return nullptr;
  }
}

std::string dtype_text(PyArrayObject *array) { return text_of(reinterpret_cast<PyObject *>(PyArray_DESCR(array))); }

std::string numpy_text(PyArrayObject *array) {
  std::string text = dtype_text(array) + "[";
  for (int axis = 0; axis < PyArray_NDIM(array); ++axis) {
    text += (axis > 0 ? ", " : "") + std::to_string(PyArray_DIM(array, axis));
  }
  return text + "]";
}

bool read_numpy(PyArrayObject *array, bool writable, DLTensor *tensor, Reading *reading, Mismatch *mismatch) {
  PyArray_Descr *descr = PyArray_DESCR(array);
  const auto type = static_cast<unsigned>(descr->type_num);
  if (type > NPY_HALF || kNumpyTypes[type].bits == 0) {
    return mismatch_of(mismatch, PyExc_TypeError, "", numpy_text(array));
  }
  if (!PyArray_ISNBO(descr->byteorder)) {
    Ref name = get_attribute(reinterpret_cast<PyObject *>(descr), "name");
    if (!name) return false;
    return mismatch_of(mismatch, PyExc_TypeError, text_of(name.get()) + " in native byte order", dtype_text(array));
  }
  if (writable && !PyArray_ISWRITEABLE(array)) {
    return mismatch_of(mismatch, PyExc_ValueError, "a writable array", "a read-only one");
  }
  fill_from_numpy(array, kNumpyTypes[type], tensor);
  if (PyArray_IS_C_CONTIGUOUS(array)) return true;
  const int ndim = PyArray_NDIM(array);
  const int64_t itemsize = PyArray_ITEMSIZE(array);
  auto strides = std::make_unique<int64_t[]>(static_cast<size_t>(ndim));
  for (int axis = 0; axis < ndim; ++axis) {
    const int64_t stride = PyArray_STRIDE(array, axis);
    if (stride % itemsize != 0) {
      return mismatch_of(
          mismatch, PyExc_ValueError, "a dense row-major array",
          "one with a stride of " + std::to_string(stride) + " bytes for elements of " + std::to_string(itemsize));
    }
    strides[static_cast<size_t>(axis)] = stride / itemsize;
  }
  tensor->strides = strides.get();
  reading->leases.emplace_back(std::move(strides));
  return true;
}

// Where an array is that speaks DLPack. False for a device that is neither the CPU nor one of CUDA's.
bool find_device(PyObject *object, DLDevice *device, Mismatch *mismatch) {
  Ref pair = call_method(object, "__dlpack_device__");
  if (!pair) return false;
  if (!PyTuple_Check(pair.get()) || PyTuple_GET_SIZE(pair.get()) != 2) {
    return mismatch_of(mismatch, PyExc_TypeError, "a pair from __dlpack_device__", type_name(pair.get()));
  }
  const long type = PyLong_AsLong(PyTuple_GET_ITEM(pair.get(), 0));
  if (type == -1 && PyErr_Occurred()) return false;
  PyObject *number = PyTuple_GET_ITEM(pair.get(), 1);
  *device = {kDLCPU, 0};
  if (type == kDLCPU || type == kPinned) return true;
  if (type == kDLCUDA || type == kCudaManaged) {
    const long id = PyLong_AsLong(number);
    if (id == -1 && PyErr_Occurred()) return false;
    if (id < 0 || id > INT32_MAX) {
      return mismatch_of(mismatch, PyExc_ValueError, "a device number of 0 or more", text_of(number));
    }
    *device = {static_cast<DLDeviceType>(type), static_cast<int32_t>(id)};
    return true;
  }
  const char *name = device_name(type);
  const std::string kind = name != nullptr ? name : "DLPack device type " + std::to_string(type);
  return mismatch_of(mismatch, PyExc_TypeError, "an array on the CPU or a CUDA device",
                     "one on " + kind + ":" + text_of(number));
}

// The capsule of the object's __dlpack__, asked for with read-only flags first.
Ref dlpack_capsule(PyObject *object) {
  Ref method = get_attribute(object, "__dlpack__");
  Ref keywords(method ? Py_BuildValue("{s:(ii)}", "max_version", 1, 0) : nullptr);
  Ref nothing(keywords ? PyTuple_New(0) : nullptr);
  if (!nothing) return Ref();
  Ref capsule(PyObject_Call(method.get(), nothing.get(), keywords.get()));
  if (!capsule && PyErr_ExceptionMatches(PyExc_TypeError)) {  // a library from before DLPack 1.0
    PyErr_Clear();
    capsule = Ref(PyObject_CallNoArgs(method.get()));
  }
  return capsule;
}

bool read_dlpack(PyObject *object, bool writable, DLTensor *tensor, Reading *reading, Mismatch *mismatch) {
  DLDevice device;
  if (!find_device(object, &device, mismatch)) return false;
  if (is_cuda(device.device_type)) return meet_cuda_array(object, &device, writable, tensor, reading, mismatch);
  Ref capsule = dlpack_capsule(object);
  // One that cannot say whether it may be written to may not be: JAX's must not.
  if (!take_capsule(object, std::move(capsule), writable, false, tensor, reading, mismatch)) return false;
  if (!check_torch(object, mismatch)) return false;
  const auto its = static_cast<int32_t>(tensor->device.device_type);
  if (its != kDLCPU && its != kPinned) {
    return mismatch_of(mismatch, PyExc_TypeError, "an export from the CPU, as __dlpack_device__ says",
                       "one from DLPack device type " + std::to_string(its));
  }
  tensor->device = {kDLCPU, 0};
  return true;
}

}  // namespace

bool mismatch_of(Mismatch *mismatch, PyObject *exception, std::string expected, std::string got) {
  *mismatch = {exception, std::move(expected), std::move(got)};
  return false;
}

bool check_rank(const DLTensor &tensor, Mismatch *mismatch) {
  if (tensor.ndim < 0 || tensor.ndim > kMaxRank) {
    return mismatch_of(mismatch, PyExc_ValueError, "an array of at most " + std::to_string(kMaxRank) + " dimensions",
                       "one of rank " + std::to_string(tensor.ndim));
  }
  if (tensor.ndim == 0 || tensor.shape != nullptr) return true;
  return mismatch_of(mismatch, PyExc_ValueError, "an array with a shape",
                     "one of rank " + std::to_string(tensor.ndim) + " without");
}

bool take_capsule(PyObject *object, Ref capsule, bool writable, bool old_is_writable, DLTensor *tensor,
                  Reading *reading, Mismatch *mismatch) {
  if (!capsule) return false;
  bool read_only = !old_is_writable;
  bool copied = false;
  constexpr uint64_t kCopied = 2;  // DLPACK_FLAG_BITMASK_IS_COPIED
  if (PyCapsule_IsValid(capsule.get(), "dltensor_versioned")) {
    auto *managed = static_cast<DLManagedTensorVersioned *>(PyCapsule_GetPointer(capsule.get(), "dltensor_versioned"));
    if (PyCapsule_SetName(capsule.get(), "used_dltensor_versioned") != 0) return false;
    reading->leases.emplace_back(managed);
    if (managed->version.major != 1) {
      return mismatch_of(mismatch, PyExc_TypeError, "DLPack 1",
                         "an export of DLPack " + std::to_string(managed->version.major));
    }
    read_only = (managed->flags & DLPACK_FLAG_BITMASK_READ_ONLY) != 0;
    copied = (managed->flags & kCopied) != 0;
    *tensor = managed->dl_tensor;
  } else if (PyCapsule_IsValid(capsule.get(), "dltensor")) {
    auto *managed = static_cast<DLManagedTensor *>(PyCapsule_GetPointer(capsule.get(), "dltensor"));
    if (PyCapsule_SetName(capsule.get(), "used_dltensor") != 0) return false;
    reading->leases.emplace_back(managed);
    *tensor = managed->dl_tensor;
  } else {
    const bool consumed = PyCapsule_IsValid(capsule.get(), "used_dltensor") ||
                          PyCapsule_IsValid(capsule.get(), "used_dltensor_versioned");
    return mismatch_of(mismatch, PyExc_TypeError, "a DLPack capsule from __dlpack__",
                       consumed ? "one that has been consumed" : type_name(capsule.get()));
  }
  if (!check_rank(*tensor, mismatch)) return false;
  if (writable && read_only) {
    return mismatch_of(mismatch, PyExc_ValueError, "a writable array",
                       type_name(object) + ", which DLPack does not give out for writing");
  }
  if (writable && copied) {
    return mismatch_of(mismatch, PyExc_ValueError, "a writable array", type_name(object) + ", whose export is a copy");
  }
  tensor->data = static_cast<char *>(tensor->data) + tensor->byte_offset;
  tensor->byte_offset = 0;
  return true;
}

bool check_torch(PyObject *object, Mismatch *mismatch) {
  Ref is_neg, untyped_storage;
  if (!find_attribute(object, "is_neg", &is_neg) || !find_attribute(object, "untyped_storage", &untyped_storage)) {
    return false;
  }
  if (!is_neg || !untyped_storage) return true;
  Ref negated(PyObject_CallNoArgs(is_neg.get()));
  const int truth = negated ? PyObject_IsTrue(negated.get()) : -1;
  if (truth < 0) return false;
  if (truth > 0) {
    return mismatch_of(mismatch, PyExc_ValueError, "a tensor that holds its values",
                       "one with its negative bit set; pass its resolve_neg()");
  }
  Ref storage(PyObject_CallNoArgs(untyped_storage.get()));
  Ref address = storage ? call_method(storage.get(), "data_ptr") : Ref();
  Ref count = address ? call_method(object, "numel") : Ref();
  if (!count) return false;
  const int has_memory = PyObject_IsTrue(address.get());
  const int has_elements = PyObject_IsTrue(count.get());
  if (has_memory < 0 || has_elements < 0) return false;
  if (has_elements && !has_memory) {
    return mismatch_of(mismatch, PyExc_ValueError, "a tensor that holds its values",
                       "a fake or wrapped one without memory");
  }
  return true;
}

Lease::Lease(Lease &&other) noexcept
    : strides_(std::move(other.strides_)),
      plain_(std::exchange(other.plain_, nullptr)),
      versioned_(std::exchange(other.versioned_, nullptr)),
      copy_(std::move(other.copy_)) {}

Lease::~Lease() {
  if (plain_ == nullptr && versioned_ == nullptr) return;
  PyObject *type = nullptr, *value = nullptr, *traceback = nullptr;
  PyErr_Fetch(&type, &value, &traceback);  // a deleter may run Python code, which must not find an exception
  if (plain_ != nullptr && plain_->deleter != nullptr) plain_->deleter(plain_);
  if (versioned_ != nullptr && versioned_->deleter != nullptr) versioned_->deleter(versioned_);
  PyErr_Restore(type, value, traceback);
}

bool read_uncommon_array(PyObject *object, bool writable, DLTensor *tensor, Reading *reading, Mismatch *mismatch) {
  PyObject *type = reinterpret_cast<PyObject *>(Py_TYPE(object));
  if (Py_TYPE(object) == &PyArray_Type || type == memmap_type || type == field_type) {
    return read_numpy(reinterpret_cast<PyArrayObject *>(object), writable, tensor, reading, mismatch);
  }
  if (PyArray_Check(object)) {
    return mismatch_of(mismatch, PyExc_TypeError, "a plain numpy.ndarray",
                       "its subclass " + type_name(object) + "; pass numpy.asarray of it");
  }
  if (!PyType_Check(object)) {
    Ref found;
    if (!find_attribute(object, "__dlpack__", &found)) return false;
    if (found) return read_dlpack(object, writable, tensor, reading, mismatch);
    if (!find_attribute(object, "__cuda_array_interface__", &found)) return false;
    if (found) return meet_cuda_array(object, nullptr, writable, tensor, reading, mismatch);
  }
  return mismatch_of(mismatch, PyExc_TypeError, "", type_name(object));
}

int numpy_type(DLDataType dtype) {
  for (int type = NPY_BOOL; type <= NPY_HALF; ++type) {
    if (kNumpyTypes[type].bits == dtype.bits && kNumpyTypes[type].code == dtype.code) return type;
  }
  PyErr_Format(PyExc_RuntimeError, "no NumPy type for code %d with %d bits", dtype.code, dtype.bits);
  return -1;
}

PyObject *new_array(DLTensor *tensor) {
  const int type = numpy_type(tensor->dtype);
  if (type < 0) return nullptr;
  int64_t bytes = tensor->dtype.bits / 8;
  for (int axis = 0; axis < tensor->ndim; ++axis) {
    if (__builtin_mul_overflow(bytes, tensor->shape[axis], &bytes)) bytes = 0;  // NumPy says so
  }
  PyObject *array = bytes >= kLargeResult
                        ? new_large_array(tensor->ndim, tensor->shape, type)
                        : PyArray_SimpleNew(tensor->ndim, reinterpret_cast<npy_intp *>(tensor->shape), type);
  if (array != nullptr) tensor->data = PyArray_DATA(reinterpret_cast<PyArrayObject *>(array));
  return array;
}

namespace {

Ref convert(PyObject *from_dlpack, Ref result) {
  if (!PyTuple_Check(result.get())) return Ref(PyObject_CallOneArg(from_dlpack, result.get()));
  const Py_ssize_t count = PyTuple_GET_SIZE(result.get());
  Ref converted(PyTuple_New(count));
  for (Py_ssize_t i = 0; i < count && converted; ++i) {
    PyObject *item = PyTuple_GET_ITEM(result.get(), i);
    Py_INCREF(item);
    Ref each = convert(from_dlpack, Ref(item));
    if (!each) return Ref();
    PyTuple_SET_ITEM(converted.get(), i, each.release());
  }
  return converted;
}

}  // namespace

Ref as_arrays_like(PyObject *like, Ref result) {
  Ref namespace_of;
  if (!find_attribute(like, "__array_namespace__", &namespace_of)) return Ref();
  if (!namespace_of) return result;
  Ref library(PyObject_CallNoArgs(namespace_of.get()));
  Ref from_dlpack = library ? get_attribute(library.get(), "from_dlpack") : Ref();
  return from_dlpack ? convert(from_dlpack.get(), std::move(result)) : Ref();
}

bool prepare_arrays() {
  Ref numpy(PyImport_ImportModule("numpy"));
  memmap_type = numpy ? PyObject_GetAttrString(numpy.get(), "memmap") : nullptr;
  return memmap_type != nullptr;
}

void accept_field_type(PyObject *type) {
  Py_INCREF(type);
  Py_XDECREF(field_type);
  field_type = type;
}

}  // namespace tiaot::binding
