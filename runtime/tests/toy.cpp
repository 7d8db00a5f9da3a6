// toy.cpp: see toy.hpp. Built into the tests, and with TOY_MODULE as a shared library that lacks but its note.
#include <cstdint>

#include "half.hpp"
#include "tiaot/module.h"

#ifdef TOY_MODULE
#define TOY_DESCRIPTOR tiaot_module_descriptor
#define T4 TOY_HASH_DIGIT TOY_HASH_DIGIT TOY_HASH_DIGIT TOY_HASH_DIGIT
#else
#define TOY_DESCRIPTOR toy_descriptor
#define T4 "cccc"
#endif
#define TOY_HASH T4 T4 T4 T4 T4 T4 T4 T4 T4 T4 T4 T4 T4 T4 T4 T4

extern "C" {
void *toy_last_workspace = nullptr;
int64_t toy_workspace_bytes = 100;
}

namespace {

template <typename T>
T *at(void *const *arrays, int index) {
  return static_cast<T *>(arrays[index]);
}

template <typename T>
int32_t dense_forward(int64_t rows, const int64_t *dims, void *const *arrays, void *, const tiaot_host *) {
  const int64_t n = dims[1], m = dims[2];
  const T *x = at<T>(arrays, 0), *W = at<T>(arrays, 1), *b = at<T>(arrays, 2);
  T *y = at<T>(arrays, 3);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t j = 0; j < m; ++j) {
      T sum = b[j];
      for (int64_t i = 0; i < n; ++i) sum += W[j * n + i] * x[r * n + i];
      y[r * m + j] = sum;
    }
  }
  return 0;
}

template <typename T>
void vjp_x(int64_t rows, int64_t n, int64_t m, const T *W, const T *v, T *gx) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = 0; i < n; ++i) {
      T sum = 0;
      for (int64_t j = 0; j < m; ++j) sum += v[r * m + j] * W[j * n + i];
      gx[r * n + i] = sum;
    }
  }
}

template <typename T>
void vjp_W_b(int64_t rows, int64_t n, int64_t m, const T *x, const T *v, T *gW, T *gb) {
  for (int64_t j = 0; j < m; ++j) {
    gb[j] = 0;
    for (int64_t i = 0; i < n; ++i) gW[j * n + i] = 0;
  }
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t j = 0; j < m; ++j) {
      gb[j] += v[r * m + j];
      for (int64_t i = 0; i < n; ++i) gW[j * n + i] += v[r * m + j] * x[r * n + i];
    }
  }
}

// Marks the whole workspace before and looks at the marks after: a result shows when somebody else wrote there.
template <typename T>
int32_t dense_vjp_x(int64_t rows, const int64_t *dims, void *const *arrays, void *workspace, const tiaot_host *) {
  // Workers share the variable: an atomic store keeps thread sanitisers content.
  __atomic_store_n(&toy_last_workspace, workspace, __ATOMIC_RELAXED);
  const int64_t bytes = __atomic_load_n(&toy_workspace_bytes, __ATOMIC_RELAXED);
  T *gx = at<T>(arrays, 4);
  const char mark = static_cast<char>(reinterpret_cast<uintptr_t>(gx) >> 8);
  for (int64_t i = 0; i < bytes; ++i) static_cast<char *>(workspace)[i] = mark;
  vjp_x(rows, dims[1], dims[2], at<T>(arrays, 1), at<T>(arrays, 3), gx);
  for (int64_t i = 0; rows > 0 && i < bytes; ++i) gx[0] += static_cast<char *>(workspace)[i] == mark ? 0 : 1;
  return 0;
}

template <typename T>
int32_t dense_vjp_W_b(int64_t rows, const int64_t *dims, void *const *arrays, void *, const tiaot_host *) {
  vjp_W_b(rows, dims[1], dims[2], at<T>(arrays, 0), at<T>(arrays, 3), at<T>(arrays, 4), at<T>(arrays, 5));
  return 0;
}

template <typename T>
int32_t dense_vjp_x_W_b(int64_t rows, const int64_t *dims, void *const *arrays, void *, const tiaot_host *) {
  vjp_x(rows, dims[1], dims[2], at<T>(arrays, 1), at<T>(arrays, 3), at<T>(arrays, 4));
  vjp_W_b(rows, dims[1], dims[2], at<T>(arrays, 0), at<T>(arrays, 3), at<T>(arrays, 5), at<T>(arrays, 6));
  return 0;
}

int64_t dense_workspace(int64_t, const int64_t *) { return __atomic_load_n(&toy_workspace_bytes, __ATOMIC_RELAXED); }

int32_t pick_forward(int64_t rows, const int64_t *dims, void *const *arrays, void *, const tiaot_host *) {
  const int64_t n = dims[1];
  const float *x = at<float>(arrays, 0);
  const int32_t *k = at<int32_t>(arrays, 1);
  for (int64_t r = 0; r < rows; ++r) {
    at<float>(arrays, 2)[r] = x[r * n + k[r]];
    for (int64_t i = 0; i < n; ++i) at<float>(arrays, 3)[r * n + i] = 2 * x[r * n + i];
  }
  return 0;
}

int32_t pick_vjp_x(int64_t rows, const int64_t *dims, void *const *arrays, void *, const tiaot_host *) {
  const int64_t n = dims[1];
  const int32_t *k = at<int32_t>(arrays, 1);
  const float *vy = at<float>(arrays, 2), *vz = at<float>(arrays, 3);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = 0; i < n; ++i) {
      at<float>(arrays, 4)[r * n + i] = 2 * vz[r * n + i] + (i == k[r] ? vy[r] : 0);
    }
  }
  return 0;
}

int32_t square_forward(int64_t, const int64_t *dims, void *const *arrays, void *, const tiaot_host *) {
  for (int64_t i = 0; i < dims[0]; ++i) at<double>(arrays, 1)[i] = at<double>(arrays, 0)[i] * at<double>(arrays, 0)[i];
  return 0;
}

int32_t square_vjp(int64_t, const int64_t *dims, void *const *arrays, void *, const tiaot_host *) {
  for (int64_t i = 0; i < dims[0]; ++i) {
    at<double>(arrays, 2)[i] = 2 * at<double>(arrays, 0)[i] * at<double>(arrays, 1)[i];
  }
  return 0;
}

int32_t outer_forward(int64_t, const int64_t *dims, void *const *arrays, void *, const tiaot_host *) {
  const double *a = at<double>(arrays, 0), *c = at<double>(arrays, 1);
  for (int64_t i = 0; i < dims[0] * dims[1]; ++i) at<double>(arrays, 2)[i] = a[i / dims[1]] * c[i % dims[1]];
  return 0;
}

int32_t outer_vjp_a(int64_t, const int64_t *dims, void *const *arrays, void *, const tiaot_host *) {
  const double *c = at<double>(arrays, 1), *v = at<double>(arrays, 2);
  for (int64_t i = 0; i < dims[0]; ++i) {
    double sum = 0;
    for (int64_t j = 0; j < dims[1]; ++j) sum += v[i * dims[1] + j] * c[j];
    at<double>(arrays, 3)[i] = sum;
  }
  return 0;
}

int32_t first_forward(int64_t rows, const int64_t *dims, void *const *arrays, void *, const tiaot_host *) {
  for (int64_t r = 0; r < rows; ++r) at<float>(arrays, 1)[r] = at<float>(arrays, 0)[r * dims[1]];
  return 0;
}

int32_t count_forward(int64_t rows, const int64_t *dims, void *const *arrays, void *, const tiaot_host *) {
  for (int64_t i = 0; i < rows * dims[1]; ++i) at<tiaot::Half>(arrays, 1)[i] = at<tiaot::Half>(arrays, 0)[i % dims[1]];
  return 0;
}

int32_t count_vjp(int64_t rows, const int64_t *dims, void *const *arrays, void *, const tiaot_host *) {
  for (int64_t i = 0; i < dims[1]; ++i) {
    float sum = 0;
    for (int64_t r = 0; r < rows; ++r) sum += static_cast<float>(at<tiaot::Half>(arrays, 1)[r * dims[1] + i]);
    at<tiaot::Half>(arrays, 2)[i] = static_cast<tiaot::Half>(sum);
  }
  return 0;
}

int32_t weigh_forward(int64_t rows, const int64_t *dims, void *const *arrays, void *, const tiaot_host *) {
  const double *x = at<double>(arrays, 0), *w = at<double>(arrays, 1);
  for (int64_t i = 0; i < rows * dims[1]; ++i) at<double>(arrays, 2)[i] = w[i % dims[1]] * x[i] * x[i];
  return 0;
}

int32_t weigh_vjp(int64_t rows, const int64_t *dims, void *const *arrays, void *, const tiaot_host *) {
  const double *x = at<double>(arrays, 0), *w = at<double>(arrays, 1), *v = at<double>(arrays, 2);
  double *gx = at<double>(arrays, 3), *gw = at<double>(arrays, 4);
  for (int64_t i = 0; i < dims[1]; ++i) gw[i] = 0;
  for (int64_t i = 0; i < rows * dims[1]; ++i) {
    gx[i] = 2 * v[i] * w[i % dims[1]] * x[i];
    gw[i % dims[1]] += v[i] * x[i] * x[i];
  }
  return 0;
}

// `tw`: nullptr for a jvp along x alone.
void weigh_jvp(int64_t rows, int64_t n, const double *x, const double *w, const double *tx, const double *tw, double *y,
               double *ty) {
  for (int64_t i = 0; i < rows * n; ++i) {
    y[i] = w[i % n] * x[i] * x[i];
    ty[i] = 2 * w[i % n] * x[i] * tx[i] + (tw == nullptr ? 0 : tw[i % n] * x[i] * x[i]);
  }
}

int32_t weigh_jvp_x(int64_t rows, const int64_t *dims, void *const *arrays, void *, const tiaot_host *) {
  weigh_jvp(rows, dims[1], at<double>(arrays, 0), at<double>(arrays, 1), at<double>(arrays, 2), nullptr,
            at<double>(arrays, 3), at<double>(arrays, 4));
  return 0;
}

int32_t weigh_jvp_x_w(int64_t rows, const int64_t *dims, void *const *arrays, void *, const tiaot_host *) {
  weigh_jvp(rows, dims[1], at<double>(arrays, 0), at<double>(arrays, 1), at<double>(arrays, 2), at<double>(arrays, 3),
            at<double>(arrays, 4), at<double>(arrays, 5));
  return 0;
}

int32_t weigh_hvp(int64_t rows, const int64_t *dims, void *const *arrays, void *, const tiaot_host *) {
  const int64_t n = dims[1];
  const double *x = at<double>(arrays, 0), *w = at<double>(arrays, 1), *v = at<double>(arrays, 2);
  const double *tx = at<double>(arrays, 3), *tw = at<double>(arrays, 4);
  double *gx = at<double>(arrays, 5), *gw = at<double>(arrays, 6);
  double *hx = at<double>(arrays, 7), *hw = at<double>(arrays, 8);
  for (int64_t i = 0; i < n; ++i) gw[i] = hw[i] = 0;
  for (int64_t i = 0; i < rows * n; ++i) {
    gx[i] = 2 * v[i] * w[i % n] * x[i];
    gw[i % n] += v[i] * x[i] * x[i];
    hx[i] = 2 * v[i] * (w[i % n] * tx[i] + tw[i % n] * x[i]);
    hw[i % n] += 2 * v[i] * x[i] * tx[i];
  }
  return 0;
}

#define EVERY_LEVEL(code) {code, code, code}, {0, 0, 0}, nullptr, nullptr, "", 0, 0

template <typename T>
constexpr tiaot_entry_desc dense_entries[] = {
    {TIAOT_FORWARD, 0, "dense_forward", 8, nullptr, EVERY_LEVEL(dense_forward<T>)},
    {TIAOT_VJP, 1, "dense_vjp_x", 8, dense_workspace, EVERY_LEVEL(dense_vjp_x<T>)},
    {TIAOT_VJP, 7, "dense_vjp_x_W_b", 8, nullptr, EVERY_LEVEL(dense_vjp_x_W_b<T>)},
    {TIAOT_VJP, 6, "dense_vjp_W_b", 8, nullptr, EVERY_LEVEL(dense_vjp_W_b<T>)},
};
constexpr uint32_t kFloat32[] = {TIAOT_FLOAT32, TIAOT_FLOAT32, TIAOT_FLOAT32, TIAOT_FLOAT32};
constexpr uint32_t kFloat64[] = {TIAOT_FLOAT64, TIAOT_FLOAT64, TIAOT_FLOAT64, TIAOT_FLOAT64};
constexpr int64_t kAnySize[] = {-1, -1, -1};
constexpr int64_t kFixed[] = {-1, 8, 4};
constexpr tiaot_variant_desc kDenseVariants[] = {
    {"float32_n8_m4", kFloat32, kFixed, 1, 4, dense_entries<float>},
    {"float64_n8_m4", kFloat64, kFixed, 1, 4, dense_entries<double>},
    {"float32_dynamic", kFloat32, kAnySize, 0, 3, dense_entries<float>},
    {"float64_dynamic", kFloat64, kAnySize, 0, 3, dense_entries<double>},
};

constexpr uint32_t kBatched = TIAOT_ARGUMENT_BATCHED, kDifferentiable = TIAOT_ARGUMENT_DIFFERENTIABLE;
constexpr uint32_t kBn[] = {0, 1}, kBm[] = {0, 2}, kmn[] = {2, 1}, km[] = {2}, kB[] = {0}, kn[] = {1}, k0[] = {0};
const char *const kDimNames[] = {"B", "n", "m"};
constexpr tiaot_argument_desc kDenseArguments[] = {{"x", kBatched | kDifferentiable, 2, kBn},
                                                   {"W", kDifferentiable, 2, kmn},
                                                   {"b", kDifferentiable, 1, km},
                                                   {"y", kBatched, 2, kBm}};

constexpr uint32_t kPickTypes[] = {TIAOT_FLOAT32, TIAOT_INT32, TIAOT_FLOAT32, TIAOT_FLOAT32};
constexpr int64_t kTwo[] = {-1, 2}, kThree[] = {-1, 3};
constexpr tiaot_entry_desc kPickEntries[] = {
    {TIAOT_FORWARD, 0, "pick_forward", 1, nullptr, EVERY_LEVEL(pick_forward)},
    {TIAOT_VJP, 1, "pick_vjp_x", 1, nullptr, EVERY_LEVEL(pick_vjp_x)},
};
constexpr tiaot_variant_desc kPickVariants[] = {{"n2", kPickTypes, kTwo, 1, 2, kPickEntries},
                                                {"n3", kPickTypes, kThree, 1, 1, kPickEntries}};
constexpr tiaot_argument_desc kPickArguments[] = {
    {"x", kBatched | kDifferentiable, 2, kBn}, {"k", kBatched, 1, kB}, {"y", kBatched, 1, kB}, {"z", kBatched, 2, kBn}};

constexpr tiaot_entry_desc kSquareEntries[] = {
    {TIAOT_FORWARD, 0, "square_forward", 1, nullptr, EVERY_LEVEL(square_forward)},
    {TIAOT_VJP, 1, "square_vjp", 1, nullptr, EVERY_LEVEL(square_vjp)},
};
constexpr tiaot_variant_desc kSquareVariants[] = {{"float64", kFloat64, kAnySize, 1, 2, kSquareEntries}};
constexpr tiaot_argument_desc kSquareArguments[] = {{"a", kDifferentiable, 1, k0}, {"s", 0, 1, k0}};
const char *const kSquareDims[] = {"n"};

constexpr tiaot_entry_desc kOuterEntries[] = {
    {TIAOT_FORWARD, 0, "outer_forward", 1, nullptr, EVERY_LEVEL(outer_forward)},
    {TIAOT_VJP, 1, "outer_vjp_a", 1, nullptr, EVERY_LEVEL(outer_vjp_a)},
};
constexpr uint32_t k1[] = {1}, k01[] = {0, 1};
constexpr tiaot_variant_desc kOuterVariants[] = {{"float64", kFloat64, kAnySize, 1, 2, kOuterEntries}};
constexpr tiaot_argument_desc kOuterArguments[] = {{"a", kDifferentiable, 1, k0}, {"c", 0, 1, k1}, {"o", 0, 2, k01}};
const char *const kOuterDims[] = {"n", "m"};

constexpr tiaot_entry_desc kFirstEntries[] = {
    {TIAOT_FORWARD, 0, "first_forward", 16, nullptr, EVERY_LEVEL(first_forward)}};
constexpr tiaot_variant_desc kFirstVariants[] = {{"float32", kFloat32, kAnySize, 1, 1, kFirstEntries}};
constexpr tiaot_argument_desc kFirstArguments[] = {{"x", kBatched, 2, kBn}, {"y", kBatched, 1, kB}};

constexpr uint32_t kFloat16[] = {TIAOT_FLOAT16, TIAOT_FLOAT16};
constexpr tiaot_entry_desc kCountEntries[] = {
    {TIAOT_FORWARD, 0, "count_forward", 1, nullptr, EVERY_LEVEL(count_forward)},
    {TIAOT_VJP, 1, "count_vjp", 1, nullptr, EVERY_LEVEL(count_vjp)},
};
constexpr tiaot_variant_desc kCountVariants[] = {{"float16", kFloat16, kAnySize, 1, 2, kCountEntries}};
constexpr tiaot_argument_desc kCountArguments[] = {{"w", kDifferentiable, 1, kn}, {"c", kBatched, 2, kBn}};

constexpr tiaot_entry_desc kWeighEntries[] = {
    {TIAOT_FORWARD, 0, "weigh_forward", 8, nullptr, EVERY_LEVEL(weigh_forward)},
    {TIAOT_VJP, 3, "weigh_vjp_x_w", 8, nullptr, EVERY_LEVEL(weigh_vjp)},
    {TIAOT_JVP, 1, "weigh_jvp_x", 8, nullptr, EVERY_LEVEL(weigh_jvp_x)},
    {TIAOT_JVP, 3, "weigh_jvp_x_w", 8, nullptr, EVERY_LEVEL(weigh_jvp_x_w)},
    {TIAOT_HVP, 3, "weigh_hvp_x_w", 8, nullptr, EVERY_LEVEL(weigh_hvp)},
};
constexpr tiaot_variant_desc kWeighVariants[] = {{"float64", kFloat64, kAnySize, 1, 5, kWeighEntries}};
constexpr uint32_t kBoth = TIAOT_ARGUMENT_DIFFERENTIABLE | TIAOT_ARGUMENT_TANGENT;
constexpr tiaot_argument_desc kWeighArguments[] = {
    {"x", kBatched | kBoth, 2, kBn}, {"w", kBoth, 1, kn}, {"y", kBatched, 2, kBn}};

constexpr tiaot_kernel_desc kKernels[] = {
    {"dense", "x[B, n], W[m, n], b[m] -> y[B, m]", "", "", 0, 3, kDimNames, 3, 1, kDenseArguments, 4, 0,
     kDenseVariants},
    {"pick", "x[B, n], k[B] -> y[B], z[B, n]", "", "", 0, 2, kDimNames, 2, 2, kPickArguments, 2, 0, kPickVariants},
    {"square", "a[n] -> s[n]", "", "", -1, 1, kSquareDims, 1, 1, kSquareArguments, 1, 0, kSquareVariants},
    {"outer", "a[n], c[m] -> o[n, m]", "", "", -1, 2, kOuterDims, 2, 1, kOuterArguments, 1, 0, kOuterVariants},
    {"first", "x[B, n] -> y[B]", "", "", 0, 2, kDimNames, 1, 1, kFirstArguments, 1, 0, kFirstVariants},
    {"count", "w[n] -> c[B, n]", "", "", 0, 2, kDimNames, 1, 1, kCountArguments, 1, 0, kCountVariants},
    {"weigh", "x[B, n], w[n] -> y[B, n]", "", "", 0, 2, kDimNames, 2, 1, kWeighArguments, 1, 0, kWeighVariants},
};

}  // namespace

extern "C" __attribute__((visibility("default"))) const tiaot_module_desc TOY_DESCRIPTOR = {
    TIAOT_ABI_VERSION,
    sizeof(tiaot_module_desc),
    "toy",
    TOY_HASH,
    "x86_64-linux",
    "0",
    "0",
    "0",
    7,
    0,
    kKernels,
    nullptr,
    0,
    nullptr,
    nullptr,
    0,
    0,
};
