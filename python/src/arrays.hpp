// arrays.hpp: reads Python arrays as DLTensors, without copies. Knows nothing of kernels, shapes or modules.
#pragma once

#include "common.hpp"

// One copy of NumPy's function table for all files; module.cpp fills it.
#define PY_ARRAY_UNIQUE_SYMBOL tiaot_numpy
#ifndef TIAOT_IMPORTS_NUMPY
#define NO_IMPORT_ARRAY
#endif
#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#define NPY_TARGET_VERSION NPY_1_22_API_VERSION  // allocators of arrays
#include <numpy/arrayobject.h>

#include <cstddef>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

namespace tiaot::binding {

static_assert(sizeof(npy_intp) == sizeof(int64_t), "a DLTensor's shape points straight at NumPy's");

// DLPack's name for each of NumPy's type numbers, from NPY_BOOL to NPY_HALF; 0 bits where it has none.
inline constexpr DLDataType kNumpyTypes[NPY_HALF + 1] = {
    {6, 8, 1},
    {0, 8, 1},
    {1, 8, 1},
    {0, 16, 1},  // bool, int8, uint8, int16
    {1, 16, 1},
    {0, 32, 1},
    {1, 32, 1},
    {0, 8 * sizeof(long), 1},  // uint16, int32, uint32, long
    {1, 8 * sizeof(long), 1},
    {0, 64, 1},  // unsigned long, long long
    {1, 64, 1},
    {2, 32, 1},
    {2, 64, 1},
    {0, 0, 0},  // unsigned long long, float, double
    {5, 64, 1},
    {5, 128, 1},
    {0, 0, 0},
    {0, 0, 0},  // complex float, complex double
    {0, 0, 0},
    {0, 0, 0},
    {0, 0, 0},
    {0, 0, 0},
    {0, 0, 0},
    {2, 16, 1}  // ..., half
};

// What a DLTensor points into, where that is not the Python array itself: strides counted in elements, another
// library's export, which is given back here, or a copy.
class Lease {
 public:
  explicit Lease(std::unique_ptr<int64_t[]> strides) : strides_(std::move(strides)) {}
  explicit Lease(DLManagedTensor *tensor) : plain_(tensor) {}
  explicit Lease(DLManagedTensorVersioned *tensor) : versioned_(tensor) {}
  explicit Lease(Ref copy) : copy_(std::move(copy)) {}
  Lease(Lease &&other) noexcept;
  Lease &operator=(Lease &&) = delete;
  ~Lease();

 private:
  std::unique_ptr<int64_t[]> strides_;
  DLManagedTensor *plain_ = nullptr;
  DLManagedTensorVersioned *versioned_ = nullptr;
  Ref copy_;
};

// No array that is lent may have more dimensions: NumPy's limit, and other libraries'.
constexpr int32_t kMaxRank = 64;

// Why an object was not read. An empty `expected` stands for "an array of the element types that the caller wants".
// `exception` is nullptr when a Python exception is set already.
struct Mismatch {
  PyObject *exception = nullptr;
  std::string expected;
  std::string got;
};

// Where the work of a call goes that has arrays on CUDA devices; cuda_arrays.hpp says how it comes about.
struct CudaPlace {
  bool found = false;                 // an array of the call is on such a device
  bool settled = false;               // `stream` is what the work goes to
  bool stream_is_given = false;       // by the caller
  int32_t device = 0;                 // of the first array there
  void *stream = nullptr;             // CUstream
  PyObject *stream_object = nullptr;  // borrowed: as it was given
  PyObject *like = nullptr;           // borrowed: the first array there, whose library makes the results
};

// What the arrays of one call have lent, and where they are.
struct Reading {
  std::vector<Lease> leases;
  CudaPlace cuda;
};

// Any array that is not a plain NumPy array, dense and in native byte order. An input on a CUDA device is only met, not
// read, while the place is not settled: of its tensor the device is then all that is filled in.
bool read_uncommon_array(PyObject *object, bool writable, DLTensor *tensor, Reading *reading, Mismatch *mismatch);

inline void fill_from_numpy(PyArrayObject *array, DLDataType dtype, DLTensor *tensor) {
  tensor->data = PyArray_DATA(array);
  tensor->device = {kDLCPU, 0};
  // Rank and element type in one store: the runtime reads them in one, soon, which has to wait for two.
  static_assert(offsetof(DLTensor, dtype) == offsetof(DLTensor, ndim) + 4 && sizeof dtype == 4, "eight bytes in a row");
  uint32_t type;
  std::memcpy(&type, &dtype, sizeof type);
  const uint64_t header = uint64_t{type} << 32 | static_cast<uint32_t>(PyArray_NDIM(array));
  std::memcpy(&tensor->ndim, &header, sizeof header);
  tensor->shape = reinterpret_cast<int64_t *>(PyArray_DIMS(array));
  tensor->strides = nullptr;
  tensor->byte_offset = 0;
}

// Reads a dense array of NumPy's. The tensor points into the object. Runs no Python code; false for any other object.
inline bool read_plain_array(PyObject *object, bool writable, DLTensor *tensor) {
  if (Py_TYPE(object) != &PyArray_Type) return false;
  auto *array = reinterpret_cast<PyArrayObject *>(object);
  const int flags = NPY_ARRAY_C_CONTIGUOUS | (writable ? NPY_ARRAY_WRITEABLE : 0);
  const PyArray_Descr *descr = PyArray_DESCR(array);
  if (!PyArray_CHKFLAGS(array, flags) || !PyArray_ISNBO(descr->byteorder) ||
      static_cast<unsigned>(descr->type_num) > NPY_HALF || kNumpyTypes[descr->type_num].bits == 0) {
    return false;
  }
  fill_from_numpy(array, kNumpyTypes[descr->type_num], tensor);
  return true;
}

// Reads an array for the length of a call. The tensor points into the object and into the leases. False when it cannot
// be read, or not written to though `writable` asks for that.
inline bool read_array(PyObject *object, bool writable, DLTensor *tensor, Reading *reading, Mismatch *mismatch) {
  return read_plain_array(object, writable, tensor) || read_uncommon_array(object, writable, tensor, reading, mismatch);
}

// Takes what an object's __dlpack__ returned: the lease goes to `reading`. False for what is no capsule, and where
// `writable` asks for more than it gives; `old_is_writable` is what one from before DLPack 1.0 is taken for, which
// cannot say it itself.
bool take_capsule(PyObject *object, Ref capsule, bool writable, bool old_is_writable, DLTensor *tensor,
                  Reading *reading, Mismatch *mismatch);

// Whether what another library has lent has a number of dimensions that an array can have, and sizes for them. What is
// made of it is not read beyond that.
bool check_rank(const DLTensor &tensor, Mismatch *mismatch);

// PyTorch also exports tensors whose memory does not hold their values, which a DLPack consumer cannot see. True for
// all other objects.
bool check_torch(PyObject *object, Mismatch *mismatch);

// Fills in the mismatch. False.
bool mismatch_of(Mismatch *mismatch, PyObject *exception, std::string expected, std::string got);

// NumPy's type number for an element type; -1 with an exception set where it has none.
int numpy_type(DLDataType dtype);

// A new, uninitialised NumPy array of a result's type and shape; sets the tensor's data.
PyObject *new_array(DLTensor *tensor);

// `result`, an array of NumPy's or nested tuples of them, as arrays of the library that `like` belongs to, by the
// Python array API standard: like.__array_namespace__().from_dlpack(result). As it is where `like` does not follow
// that, and empty with an exception set when the conversion fails.
Ref as_arrays_like(PyObject *like, Ref result);

// Arrays of another library than NumPy, as read_array and new_array treat NumPy's; on CUDA devices too. What is read is
// dense.
struct ArrayKind {
  bool (*read)(PyObject *object, bool writable, DLTensor *tensor, Reading *reading, Mismatch *mismatch);
  PyObject *(*make)(DLTensor *tensor, Reading *reading);
};

// Finds numpy.memmap. False with an exception set.
bool prepare_arrays();

// Lets arrays of the type tiaot.Field pass as plain ones, which they are but for their name and their gradient.
void accept_field_type(PyObject *type);

}  // namespace tiaot::binding
