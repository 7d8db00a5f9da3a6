// dense_tanh_extension.cpp: dense_tanh.cpp as a Python module with the least call overhead that CPython and NumPy
// offer. It also calls functions from C many times, for a number without the cost of Python, and measures the machine's
// peak. No copies, no conversions.
#define NPY_NO_DEPRECATED_API NPY_1_7_API_VERSION
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <dlfcn.h>

#include <chrono>
#include <cstdint>
#include <cstring>

#include <numpy/arrayobject.h>

template <typename T>
void dense_tanh_vjp(int64_t B, int64_t n, int64_t m, const T *x, const T *W, const T *b, const T *v, T *gx, T *gW,
                    T *gb, int threads);
template <typename T>
double fma_gflops(int threads);

namespace {

int threads = 1;

bool dense(PyObject *object, int type, int rank, npy_intp rows, npy_intp columns) {
  if (!PyArray_Check(object)) return false;
  auto *array = reinterpret_cast<PyArrayObject *>(object);
  return PyArray_TYPE(array) == type && PyArray_NDIM(array) == rank && PyArray_DIM(array, 0) == rows &&
         (rank == 1 || PyArray_DIM(array, 1) == columns) && PyArray_IS_C_CONTIGUOUS(array);
}

template <typename T>
T *data(PyObject *object) {
  return static_cast<T *>(PyArray_DATA(reinterpret_cast<PyArrayObject *>(object)));
}

template <typename T>
void call(int64_t B, int64_t n, int64_t m, PyObject *const *a, bool parameters) {
  dense_tanh_vjp(B, n, m, data<T>(a[0]), data<T>(a[1]), data<T>(a[2]), data<T>(a[3]), data<T>(a[4]),
                 parameters ? data<T>(a[5]) : nullptr, parameters ? data<T>(a[6]) : nullptr, threads);
}

// vjp(x, W, b, v, gx[, gW, gb]) -> None
PyObject *vjp(PyObject *, PyObject *const *a, Py_ssize_t count) {
  const bool parameters = count == 7;
  if ((count == 5 || parameters) && PyArray_Check(a[0]) && PyArray_Check(a[1])) {
    auto *x = reinterpret_cast<PyArrayObject *>(a[0]), *W = reinterpret_cast<PyArrayObject *>(a[1]);
    if (PyArray_NDIM(x) == 2 && PyArray_NDIM(W) == 2) {
      const npy_intp B = PyArray_DIM(x, 0), n = PyArray_DIM(x, 1), m = PyArray_DIM(W, 0);
      const int type = PyArray_TYPE(x);
      if ((type == NPY_FLOAT32 || type == NPY_FLOAT64) && dense(a[0], type, 2, B, n) && dense(a[1], type, 2, m, n) &&
          dense(a[2], type, 1, m, 0) && dense(a[3], type, 2, B, m) && dense(a[4], type, 2, B, n) &&
          (!parameters || (dense(a[5], type, 2, m, n) && dense(a[6], type, 1, m, 0)))) {
        if (type == NPY_FLOAT32)
          call<float>(B, n, m, a, parameters);
        else
          call<double>(B, n, m, a, parameters);
        Py_RETURN_NONE;
      }
    }
  }
  PyErr_SetString(PyExc_TypeError, "vjp: expected dense x (B, n), W (m, n), b (m), v (B, m), gx (B, n)[, gW, gb]");
  return nullptr;
}

PyObject *set_num_threads(PyObject *, PyObject *count) {
  threads = static_cast<int>(PyLong_AsLong(count));
  if (PyErr_Occurred()) return nullptr;
  Py_RETURN_NONE;
}

// What the generated header of tiaot's module declares as dense_tanh_vjp_x_float32.
using CFunction = int (*)(int64_t, int64_t, int64_t, const float *, const float *, const float *, const float *,
                          float *);

int by_hand(int64_t B, int64_t n, int64_t m, const float *x, const float *W, const float *b, const float *v,
            float *gx) {
  dense_tanh_vjp<float>(B, n, m, x, W, b, v, gx, nullptr, nullptr, threads);
  return 0;
}

// microseconds_from_c(path, calls, x, W, b, v, gx) -> microseconds a call of the function in tiaot's module at `path`,
// or of the one written by hand when the path is ''. Two samples, n = 8, m = 4, float32.
PyObject *microseconds_from_c(PyObject *, PyObject *args) {
  const char *path;
  Py_ssize_t calls;
  PyObject *a[5];
  if (!PyArg_ParseTuple(args, "snOOOOO", &path, &calls, &a[0], &a[1], &a[2], &a[3], &a[4])) return nullptr;
  if (!dense(a[0], NPY_FLOAT32, 2, 2, 8) || !dense(a[1], NPY_FLOAT32, 2, 4, 8) || !dense(a[2], NPY_FLOAT32, 1, 4, 0) ||
      !dense(a[3], NPY_FLOAT32, 2, 2, 4) || !dense(a[4], NPY_FLOAT32, 2, 2, 8) || calls < 1) {
    PyErr_SetString(PyExc_TypeError, "microseconds_from_c: expected calls >= 1 and float32 arrays for B=2, n=8, m=4");
    return nullptr;
  }
  CFunction function = by_hand;
  if (*path != '\0') {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    void *symbol = library != nullptr ? dlsym(library, "dense_tanh_vjp_x_float32") : nullptr;
    if (symbol == nullptr) {
      PyErr_SetString(PyExc_OSError, dlerror());
      return nullptr;
    }
    std::memcpy(&function, &symbol, sizeof function);
  }
  const auto start = std::chrono::steady_clock::now();
  int failed = 0;
  for (Py_ssize_t i = 0; i < calls; ++i) {
    failed |= function(2, 8, 4, data<float>(a[0]), data<float>(a[1]), data<float>(a[2]), data<float>(a[3]),
                       data<float>(a[4]));
  }
  const std::chrono::duration<double, std::micro> elapsed = std::chrono::steady_clock::now() - start;
  if (failed != 0) {
    PyErr_SetString(PyExc_RuntimeError, "the C function failed");
    return nullptr;
  }
  return PyFloat_FromDouble(elapsed.count() / static_cast<double>(calls));
}

// fma_gflops('float32' or 'float64') -> the machine's peak with as many threads as were set, in 10^9 operations a
// second
PyObject *fma_gflops_of(PyObject *, PyObject *dtype) {
  const char *name = PyUnicode_AsUTF8(dtype);
  if (name == nullptr) return nullptr;
  return PyFloat_FromDouble(std::strcmp(name, "float64") == 0 ? fma_gflops<double>(threads)
                                                              : fma_gflops<float>(threads));
}

PyMethodDef methods[] = {
    {"vjp", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(vjp)), METH_FASTCALL, nullptr},
    {"microseconds_from_c", microseconds_from_c, METH_VARARGS, nullptr},
    {"set_num_threads", set_num_threads, METH_O, nullptr},
    {"fma_gflops", fma_gflops_of, METH_O, nullptr},
    {nullptr, nullptr, 0, nullptr},
};
PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "dense_tanh_cpp", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit_dense_tanh_cpp() {
  import_array();
  return PyModule_Create(&definition);
}
