// toy_cuda.cpp: see toy_cuda.hpp.
#define CHECK_WITHOUT_MAIN
#include "toy_cuda.hpp"

#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <mutex>
#include <thread>

#include "half.hpp"

std::vector<ToyCall> toy_cuda_calls;
int64_t toy_cuda_workspace = 0;
std::atomic<bool> toy_cuda_hold{false}, toy_cuda_held{false};
int32_t toy_cuda_outcome = 0;
Standin standin;

void in_child(const char *library, void (*body)()) {
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    check::failures() = 0;
    if (library != nullptr) {
      void *handle = dlopen(library, RTLD_NOW | RTLD_GLOBAL);
      if (handle == nullptr) {
        std::fprintf(stderr, "%s\n", dlerror());
        _exit(2);
      }
#define FIND(name) standin.name = reinterpret_cast<decltype(standin.name)>(dlsym(handle, "standin_" #name));
      STANDIN_FUNCTIONS(FIND)
#undef FIND
      standin.reset();
    }
    body();
    std::fflush(nullptr);
    _exit(check::failures() == 0 ? 0 : 1);
  }
  int state = 0;
  CHECK_EQ(waitpid(child, &state, 0), child);
  CHECK_EQ(state, 0);
}

namespace {

// ---- kernels, as the stand-in calls them

template <typename T>
T &parameter(void **parameters, int index) {
  return *static_cast<T *>(parameters[index]);
}

// count, n, x, w, factor, y: y[i] = factor * w[i % n] * x[i]
void scale(void **p, int64_t thread, int64_t threads) {
  const int64_t n = parameter<int64_t>(p, 1);
  for (int64_t i = thread; i < parameter<int64_t>(p, 0); i += threads) {
    parameter<float *>(p, 5)[i] =
        parameter<float>(p, 4) * parameter<float *>(p, 3)[i % n] * parameter<float *>(p, 2)[i];
  }
}
// The same with the factor read on the device.
void scale_from_device(void **p, int64_t thread, int64_t threads) {
  float factor = *parameter<float *>(p, 4);
  void *parameters[] = {p[0], p[1], p[2], p[3], &factor, p[5]};
  scale(parameters, thread, threads);
}
// rows, n, x, v, factor (in the workspace), gw: one thread for each of n
void scale_sum(void **p, int64_t thread, int64_t) {
  const int64_t rows = parameter<int64_t>(p, 0), n = parameter<int64_t>(p, 1);
  if (thread >= n) return;
  float sum = 0;
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t i = r * n + thread;
    sum += *parameter<float *>(p, 4) * parameter<float *>(p, 2)[i] * parameter<float *>(p, 3)[i];
  }
  parameter<float *>(p, 5)[thread] = sum;
}
// value, to
void store(void **p, int64_t thread, int64_t) {
  if (thread != 0) return;
  *parameter<float *>(p, 1) = parameter<float>(p, 0);
  if (parameter<float>(p, 0) != 99) return std::this_thread::yield();
  toy_cuda_held = true;
  while (toy_cuda_hold) std::this_thread::yield();
}
// count, factor, x, y: y = factor x
template <typename T>
void multiply(void **p, int64_t thread, int64_t threads) {
  for (int64_t i = thread; i < parameter<int64_t>(p, 0); i += threads) {
    parameter<T *>(p, 3)[i] = static_cast<T>(parameter<float>(p, 1) * static_cast<float>(parameter<T *>(p, 2)[i]));
  }
}
// count, a, v or nullptr, s, t: the adjoint when there is a v
void square(void **p, int64_t thread, int64_t threads) {
  for (int64_t i = thread; i < parameter<int64_t>(p, 0); i += threads) {
    const double a = parameter<double *>(p, 1)[i];
    parameter<double *>(p, 2)[i] = a * a;
    parameter<double *>(p, 3)[i] = 3 * a;
  }
}
void square_adjoint(void **p, int64_t thread, int64_t threads) {
  for (int64_t i = thread; i < parameter<int64_t>(p, 0); i += threads) {
    parameter<double *>(p, 4)[i] =
        2 * parameter<double *>(p, 1)[i] * parameter<double *>(p, 2)[i] + 3 * parameter<double *>(p, 3)[i];
  }
}

enum : uint32_t { kScale, kScaleFromDevice, kScaleSum, kStore, kHalf, kFloat, kDouble, kSquare, kSquareAdjoint };
const char *const kNames[] = {"scale",          "scale_from_device", "scale_sum", "store",         "multiply_half",
                              "multiply_float", "multiply_double",   "square",    "square_adjoint"};
const standin_named_kernel kNamed[] = {{kNames[kScale], scale},
                                       {kNames[kScaleFromDevice], scale_from_device},
                                       {kNames[kScaleSum], scale_sum},
                                       {kNames[kStore], store},
                                       {kNames[kHalf], multiply<tiaot::Half>},
                                       {kNames[kFloat], multiply<float>},
                                       {kNames[kDouble], multiply<double>},
                                       {kNames[kSquare], square},
                                       {kNames[kSquareAdjoint], square_adjoint},
                                       {nullptr, nullptr}};
const standin_image kImage = {{'S', 'T', 'A', 'N', 'D', 'I', 'N', '\0'}, kNamed};

// ---- their functions on the host

struct Enqueue {
  const tiaot_cuda_host *host;
  int32_t outcome = 0;

  template <typename... Parameters>
  void launch(uint32_t kernel, int64_t threads, bool exact, Parameters... values) {
    void *parameters[] = {static_cast<void *>(&values)...};
    if (outcome == 0) outcome = host->launch(host->user, kernel, threads, exact, parameters);
  }
  int32_t end() const { return outcome != 0 ? outcome : toy_cuda_outcome; }
};

std::mutex noting;

void note(int64_t rows, void *const *arrays, int count, uint64_t on_host, const void *workspace) {
  const std::lock_guard<std::mutex> lock(noting);
  toy_cuda_calls.push_back({rows, on_host, workspace, std::vector<void *>(arrays, arrays + count)});
}

int32_t scale_forward(int64_t rows, const int64_t *dims, void *const *arrays, uint64_t on_host, void *workspace,
                      const tiaot_cuda_host *host) {
  note(rows, arrays, 4, on_host, workspace);
  Enqueue enqueue{host};
  const int64_t count = rows * dims[1];
  if (on_host & 4) {
    const float factor = *static_cast<const float *>(arrays[2]);
    enqueue.launch(kScale, count, false, count, dims[1], arrays[0], arrays[1], factor, arrays[3]);
  } else {
    enqueue.launch(kScaleFromDevice, count, false, count, dims[1], arrays[0], arrays[1], arrays[2], arrays[3]);
  }
  return enqueue.end();
}

// The factor goes through the workspace, whose every byte is filled before: who else writes there changes results.
int32_t scale_gradients(int64_t rows, const int64_t *dims, void *const *arrays, uint64_t on_host, void *workspace,
                        const tiaot_cuda_host *host, void *gx, void *gw) {
  Enqueue enqueue{host};
  const int64_t count = rows * dims[1];
  enqueue.outcome = host->fill(host->user, workspace, 256 + toy_cuda_workspace);
  if (on_host & 4) {
    enqueue.launch(kStore, 1, false, *static_cast<const float *>(arrays[2]), workspace);
  } else if (enqueue.outcome == 0) {
    enqueue.outcome = host->copy(host->user, workspace, arrays[2], sizeof(float));
  }
  enqueue.launch(kScaleSum, (dims[1] + 127) / 128 * 128, true, rows, dims[1], arrays[0], arrays[3], workspace, gw);
  if (gx != nullptr) {
    enqueue.launch(kScaleFromDevice, -1, false, count, dims[1], arrays[3], arrays[1], workspace, gx);
  }
  return enqueue.end();
}
int32_t scale_vjp_x_w(int64_t rows, const int64_t *dims, void *const *arrays, uint64_t on_host, void *workspace,
                      const tiaot_cuda_host *host) {
  note(rows, arrays, 6, on_host, workspace);
  return scale_gradients(rows, dims, arrays, on_host, workspace, host, arrays[4], arrays[5]);
}
int32_t scale_vjp_w(int64_t rows, const int64_t *dims, void *const *arrays, uint64_t on_host, void *workspace,
                    const tiaot_cuda_host *host) {
  note(rows, arrays, 5, on_host, workspace);
  return scale_gradients(rows, dims, arrays, on_host, workspace, host, nullptr, arrays[4]);
}
int64_t scale_workspace(int64_t, const int64_t *) { return 256 + toy_cuda_workspace; }

template <uint32_t kernel>
int32_t twice_forward(int64_t rows, const int64_t *dims, void *const *arrays, uint64_t on_host, void *workspace,
                      const tiaot_cuda_host *host) {
  note(rows, arrays, 2, on_host, workspace);
  Enqueue enqueue{host};
  enqueue.launch(kernel, rows * dims[1], false, rows * dims[1], 2.0f, arrays[0], arrays[1]);
  return enqueue.end();
}
template <uint32_t kernel>
int32_t twice_vjp(int64_t rows, const int64_t *dims, void *const *arrays, uint64_t on_host, void *workspace,
                  const tiaot_cuda_host *host) {
  note(rows, arrays, 3, on_host, workspace);
  Enqueue enqueue{host};
  enqueue.launch(kernel, rows * dims[1], false, rows * dims[1], 2.0f, arrays[1], arrays[2]);
  return enqueue.end();
}

int32_t square_forward(int64_t rows, const int64_t *dims, void *const *arrays, uint64_t on_host, void *workspace,
                       const tiaot_cuda_host *host) {
  note(rows, arrays, 3, on_host, workspace);
  Enqueue enqueue{host};
  enqueue.launch(kSquare, dims[0], false, dims[0], arrays[0], arrays[1], arrays[2]);
  return enqueue.end();
}
int32_t square_vjp(int64_t rows, const int64_t *dims, void *const *arrays, uint64_t on_host, void *workspace,
                   const tiaot_cuda_host *host) {
  note(rows, arrays, 4, on_host, workspace);
  Enqueue enqueue{host};
  enqueue.launch(kSquareAdjoint, dims[0], false, dims[0], arrays[0], arrays[1], arrays[2], arrays[3]);
  return enqueue.end();
}

template <int count>
int32_t total(int64_t rows, const int64_t *, void *const *arrays, uint64_t on_host, void *workspace,
              const tiaot_cuda_host *) {
  note(rows, arrays, count, on_host, workspace);
  return 0;
}

// ---- tables. What runs on the CPU is of no interest here.

int32_t nothing(int64_t, const int64_t *, void *const *, void *, const tiaot_host *) { return 0; }
#define ON_CPU nullptr, {nothing, nothing, nothing}, {0, 0, 0}

const tiaot_entry_desc kScaleEntries[] = {
    {TIAOT_FORWARD, 0, "scale_forward", 1, ON_CPU, scale_forward, nullptr, "", 1, 0},
    {TIAOT_VJP, 1, "scale_vjp_x", 1, ON_CPU, nullptr, nullptr, "it is not worth it", 1, 0},
    {TIAOT_VJP, 2, "scale_vjp_w", 1, ON_CPU, scale_vjp_w, scale_workspace, nullptr, 1, 0},
    {TIAOT_VJP, 3, "scale_vjp_x_w", 1, ON_CPU, scale_vjp_x_w, scale_workspace, "", 1, 0},
};
const tiaot_entry_desc kScaleEntries64[] = {
    {TIAOT_FORWARD, 0, "scale_forward64", 1, ON_CPU, nullptr, nullptr, "no float64 here", 0, 0}};
template <uint32_t kernel>
const tiaot_entry_desc kTwiceEntries[] = {
    {TIAOT_FORWARD, 0, "twice_forward", 1, ON_CPU, twice_forward<kernel>, nullptr, "", 0, 0},
    {TIAOT_VJP, 1, "twice_vjp", 1, ON_CPU, twice_vjp<kernel>, nullptr, "", 0, 0},
};
const tiaot_entry_desc kSquareEntries[] = {
    {TIAOT_FORWARD, 0, "square_forward", 1, ON_CPU, square_forward, nullptr, "", 0, 0},
    {TIAOT_VJP, 1, "square_vjp", 1, ON_CPU, square_vjp, nullptr, "", 0, 0},
};
const tiaot_entry_desc kTotalEntries[] = {
    {TIAOT_FORWARD, 0, "total_forward", 1, ON_CPU, total<3>, nullptr, "", 0, 0},
    {TIAOT_VJP, 3, "total_vjp", 1, ON_CPU, total<5>, nullptr, "", 0, 0},
};

const uint32_t kFloat32[] = {TIAOT_FLOAT32, TIAOT_FLOAT32, TIAOT_FLOAT32, TIAOT_FLOAT32};
const uint32_t kFloat64[] = {TIAOT_FLOAT64, TIAOT_FLOAT64, TIAOT_FLOAT64, TIAOT_FLOAT64};
const uint32_t kFloat16[] = {TIAOT_FLOAT16, TIAOT_FLOAT16};
const int64_t kAnySize[] = {-1, -1};
const tiaot_variant_desc kScaleVariants[] = {{"float32", kFloat32, kAnySize, 1, 4, kScaleEntries},
                                             {"float64", kFloat64, kAnySize, 1, 1, kScaleEntries64}};
const tiaot_variant_desc kTwiceVariants[] = {{"float16", kFloat16, kAnySize, 1, 2, kTwiceEntries<kHalf>},
                                             {"float32", kFloat32, kAnySize, 1, 2, kTwiceEntries<kFloat>},
                                             {"float64", kFloat64, kAnySize, 1, 2, kTwiceEntries<kDouble>}};
const tiaot_variant_desc kSquareVariants[] = {{"float64", kFloat64, kAnySize, 1, 2, kSquareEntries}};
const tiaot_variant_desc kTotalVariants[] = {{"float32", kFloat32, kAnySize, 1, 2, kTotalEntries}};

constexpr uint32_t kBatched = TIAOT_ARGUMENT_BATCHED, kDifferentiable = TIAOT_ARGUMENT_DIFFERENTIABLE;
const uint32_t kBn[] = {0, 1}, kB[] = {0}, kn[] = {1}, k0[] = {0};
const char *const kDims[] = {"B", "n"}, *const kSquareDims[] = {"n"};
const tiaot_argument_desc kScaleArguments[] = {{"x", kBatched | kDifferentiable, 2, kBn},
                                               {"w", kDifferentiable, 1, kn},
                                               {"factor", TIAOT_ARGUMENT_VALUE, 0, nullptr},
                                               {"y", kBatched, 2, kBn}};
const tiaot_argument_desc kTwiceArguments[] = {{"x", kBatched | kDifferentiable, 2, kBn}, {"y", kBatched, 2, kBn}};
const tiaot_argument_desc kSquareArguments[] = {{"a", kDifferentiable, 1, k0}, {"s", 0, 1, k0}, {"t", 0, 1, k0}};
const tiaot_argument_desc kTotalArguments[] = {
    {"x", kBatched | kDifferentiable, 1, kB}, {"w", kDifferentiable, 0, nullptr}, {"y", kBatched, 1, kB}};

const tiaot_kernel_desc kKernels[] = {
    {"scale", "x[B, n], w[n], factor[] -> y[B, n]", "", "", 0, 2, kDims, 3, 1, kScaleArguments, 2, 0, kScaleVariants},
    {"twice", "x[B, n] -> y[B, n]", "", "", 0, 2, kDims, 1, 1, kTwiceArguments, 3, 0, kTwiceVariants},
    {"square", "a[n] -> s[n], t[n]", "", "", -1, 1, kSquareDims, 1, 2, kSquareArguments, 1, 0, kSquareVariants},
    {"total", "x[B], w[] -> y[B]", "", "", 0, 1, kDims, 2, 1, kTotalArguments, 1, 0, kTotalVariants},
};

const tiaot_cuda_image_desc kImages[] = {{86, TIAOT_CUDA_CUBIN, &kImage, sizeof kImage, 0},
                                         {80, TIAOT_CUDA_CUBIN, &kImage, sizeof kImage, 0},
                                         {90, TIAOT_CUDA_CUBIN, &kImage, sizeof kImage, 0},
                                         {80, TIAOT_CUDA_PTX, &kImage, sizeof kImage, 0},
                                         {75, TIAOT_CUDA_PTX, &kImage, sizeof kImage, 0}};
const tiaot_cuda_desc kCuda = {5, 9, kImages, kNames, "12.9"};

#define D8 "dddddddd"

}  // namespace

ToyCall last_toy_cuda_call() {
  const std::lock_guard<std::mutex> lock(noting);
  return toy_cuda_calls.back();
}

const tiaot_module_desc toy_cuda_descriptor = {
    TIAOT_ABI_VERSION,
    sizeof(tiaot_module_desc),
    "toy_cuda",
    D8 D8 D8 D8 D8 D8 D8 D8,
    "x86_64-linux",
    "0",
    "0",
    "0",
    4,
    0,
    kKernels,
    nullptr,
    0,
    &kCuda,
    nullptr,
    0,
    0,
};
