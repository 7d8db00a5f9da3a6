// toy.hpp: kernels written in C++ with the tables of an exported module, and arrays to call them with.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "module.hpp"
#include "tiaot/tiaot.h"

// Kernels of the toy module:
//   dense   x[B, n], W[m, n], b[m] -> y[B, m]: y = W x + b. Variants float32_n8_m4, float64_n8_m4, float32_dynamic,
//           float64_dynamic; vjp with respect to (x), (x, W, b) and, when fixed, (W, b). The vjp of x uses a workspace.
//   pick    x[B, n], k[B] -> y[B], z[B, n], with n fixed at 2 or 3, k int32: y = x[k], z = 2 x; vjp with respect to
//           (x); at 3 no vjp.
//   square  a[n] -> s[n]: s = a * a, no batch; vjp with respect to (a)
//   outer   a[n], c[m] -> o[n, m]: o = a c, no batch; vjp with respect to (a)
//   first   x[B, n] -> y[B]: y = x[0]. In float32 only
//   weigh   x[B, n], w[n] -> y[B, n]: y = w x x. In float64 only; vjp and hvp with respect to (x, w), jvp along (x)
//           and (x, w)
//   count   w[n] -> c[B, n]: c = w, float16; the batch follows from the output; vjp with respect to (w)
extern "C" const tiaot_module_desc toy_descriptor;

// The workspace that dense's vjp of x was last given, and the workspace in bytes that it asks for.
extern "C" void *toy_last_workspace;
extern "C" int64_t toy_workspace_bytes;

struct CloseModule {
  void operator()(tiaot_module *module) const { tiaot_module_close(module); }
};
using Module = std::unique_ptr<tiaot_module, CloseModule>;

inline Module open_toy() {
  tiaot_module *module = nullptr;
  if (tiaot::make_module(toy_descriptor, TIAOT_LEVEL_V2, nullptr, &module) != TIAOT_OK) return nullptr;
  return Module(module);
}

inline const tiaot_kernel *find_kernel(const Module &module, const char *name) {
  const tiaot_kernel *kernel = nullptr;
  return tiaot_module_kernel(module.get(), name, &kernel) == TIAOT_OK ? kernel : nullptr;
}

template <typename T>
constexpr uint32_t dtype_of() {
  return sizeof(T) == 8 ? TIAOT_FLOAT64 : T(0.5) == T(0) ? TIAOT_INT32 : TIAOT_FLOAT32;
}

// A dense array and its DLTensor, filled with small numbers; two guard elements on each side.
template <typename T>
class Array {
 public:
  explicit Array(std::vector<int64_t> shape, int seed = 0) : shape_(std::move(shape)) {
    for (int64_t size : shape_) size_ *= size;
    values_.reset(new T[static_cast<size_t>(size_ + 4)]);
    std::fill_n(values_.get(), size_ + 4, T(77));
    begin_ = values_.get() + 2;
    for (int64_t i = 0; i < size_; ++i)
      data()[i] = static_cast<T>((i * 7 + seed * 5 + 3) % 19 - 9) / T(sizeof(T) == 8 ? 7 : 3);
  }

  Array(const Array &) = delete;
  Array &operator=(const Array &) = delete;

  T *data() { return begin_; }
  const T *data() const { return begin_; }
  int64_t size() const { return size_; }
  std::vector<T> values() const {
    std::vector<T> copy(static_cast<size_t>(size_));
    std::copy_n(data(), size_, copy.data());
    return copy;
  }
  bool guarded() const {
    const T *end = data() + size_;
    return data()[-1] == T(77) && data()[-2] == T(77) && end[0] == T(77) && end[1] == T(77);
  }

  DLTensor tensor() {
    const uint32_t dtype = dtype_of<T>();
    return {data(),
            {kDLCPU, 0},
            static_cast<int32_t>(shape_.size()),
            {static_cast<uint8_t>(dtype >> 8), static_cast<uint8_t>(dtype), 1},
            shape_.data(),
            nullptr,
            0};
  }
  operator DLTensor() { return tensor(); }

 private:
  std::vector<int64_t> shape_;
  int64_t size_ = 1;
  std::unique_ptr<T[]> values_;
  T *begin_ = nullptr;
};
