// toy_cuda.hpp: kernels with CUDA code for the stand-in driver, and the process that a test of them runs in.
#pragma once

#include <atomic>

#include "check.hpp"
#include "standin_cuda.h"
#include "toy.hpp"

// Kernels of the module:
//   scale   x[B, n], w[n], factor[] -> y[B, n]: y = factor * w * x, factor a value. In float32; in float64 on the CPU
//           only. vjp with respect to (x) on the CPU only, to (x, w) with a workspace, to (w)
//   twice   x[B, n] -> y[B, n]: y = 2 x, in arrays of up to 2^31 - 1 elements; vjp with respect to (x), in float16,
//           float32 and float64
//   square  a[n] -> s[n], t[n]: s = a * a, t = 3 a, in float64, no batch; vjp with respect to (a)
//   total   x[B], w[] -> y[B]: y = w x, in arrays of up to 2^31 - 1 elements; vjp with respect to (x, w)
extern const tiaot_module_desc toy_cuda_descriptor;

// What the last call of a function for CUDA was given.
struct ToyCall {
  int64_t rows;
  uint64_t on_host;
  const void *workspace;
  std::vector<void *> arrays;
};
extern std::vector<ToyCall> toy_cuda_calls;
ToyCall last_toy_cuda_call();       // also while other threads call
extern int64_t toy_cuda_workspace;  // bytes that scale's vjp asks for besides its partial sums
// While set, calls whose factor is 99 wait in the middle of scale's vjp, on the thread that they are on.
extern std::atomic<bool> toy_cuda_hold, toy_cuda_held;
extern int32_t toy_cuda_outcome;  // what the functions return when nothing failed

inline Module open_toy_cuda(const tiaot_module_desc &desc = toy_cuda_descriptor) {
  tiaot_module *module = nullptr;
  CHECK_OK(tiaot::check_tables(desc, "toy_cuda"));
  CHECK_OK(tiaot::make_module(desc, TIAOT_LEVEL_V2, nullptr, &module));
  return Module(module);
}

// Runs the body in a process of its own: the driver is opened once in each. `standin`: the library to load before, or
// nullptr for none.
void in_child(const char *standin, void (*body)());

// The stand-in's functions, once it is loaded.
struct Standin {
#define STANDIN_FUNCTION(name) decltype(&standin_##name) name = nullptr;
#define STANDIN_FUNCTIONS(X) \
  X(reset)                   \
  X(log)                     \
  X(clear_log)               \
  X(set_device_count)        \
  X(set_device)              \
  X(fail) X(set_sticky) X(capture) X(set_stream_id) X(set_current) X(current) X(set_load_time) X(allocated) X(functions)
  STANDIN_FUNCTIONS(STANDIN_FUNCTION)
#undef STANDIN_FUNCTION
};
extern Standin standin;

#define CUDA_TEST(name)                                  \
  static void body_##name();                             \
  TEST(name) { in_child(STANDIN_LIBRARY, body_##name); } \
  static void body_##name()

inline std::string take_log() {
  const std::string log = standin.log();
  standin.clear_log();
  return log;
}

inline DLTensor on_cuda(DLTensor tensor, int32_t device = 0) {
  tensor.device = {kDLCUDA, device};
  return tensor;
}

// The arrays of a call of scale.
struct Scale {
  explicit Scale(int64_t B, int64_t n)
      : x({B, n}, 1), w({n}, 2), factor({}), v({B, n}, 3), y({B, n}), gx({B, n}), gw({n}) {
    factor.data()[0] = 3;
  }
  Array<float> x, w, factor, v, y, gx, gw;
  int32_t device = 0;
  tiaot_options options = TIAOT_OPTIONS_INIT;

  std::vector<DLTensor> forward_arrays() {
    return {on_cuda(x, device), on_cuda(w, device), factor, on_cuda(y, device)};
  }
  std::vector<DLTensor> vjp_arrays(uint32_t wrt) {
    std::vector<DLTensor> arrays{on_cuda(x, device), on_cuda(w, device), factor, on_cuda(v, device)};
    if (wrt & 1) arrays.push_back(on_cuda(gx, device));
    if (wrt & 2) arrays.push_back(on_cuda(gw, device));
    return arrays;
  }
  tiaot_status forward(const Module &module) {
    const std::vector<DLTensor> arrays = forward_arrays();
    return tiaot_call(find_kernel(module, "scale"), TIAOT_FORWARD, 0, arrays.data(), 4, &options);
  }
  tiaot_status vjp(const Module &module, uint32_t wrt) {
    const std::vector<DLTensor> arrays = vjp_arrays(wrt);
    return tiaot_call(find_kernel(module, "scale"), TIAOT_VJP, wrt, arrays.data(), static_cast<int32_t>(arrays.size()),
                      &options);
  }
  bool right() const {
    for (int64_t i = 0; i < y.size(); ++i) {
      if (y.data()[i] != factor.data()[0] * w.data()[i % w.size()] * x.data()[i]) return false;
    }
    return y.guarded();
  }
  bool gx_right() const {
    for (int64_t i = 0; i < gx.size(); ++i) {
      if (gx.data()[i] != factor.data()[0] * w.data()[i % w.size()] * v.data()[i]) return false;
    }
    return gx.guarded();
  }
  bool gw_right() const {
    for (int64_t i = 0; i < w.size(); ++i) {
      float sum = 0;
      for (int64_t at = i; at < x.size(); at += w.size()) sum += factor.data()[0] * x.data()[at] * v.data()[at];
      if (gw.data()[i] != sum) return false;
    }
    return gw.guarded();
  }
};
