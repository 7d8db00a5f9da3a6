// standin_kernels.cpp: a kernel as an ELF image for the stand-in driver; the `scale` of toy_cuda.cpp.
#include <cstdint>

// count, n, x, w, factor, y: y[i] = factor * w[i % n] * x[i]
extern "C" void scale(void **p, int64_t thread, int64_t threads) {
  const int64_t count = *static_cast<int64_t *>(p[0]), n = *static_cast<int64_t *>(p[1]);
  const float *x = *static_cast<float **>(p[2]), *w = *static_cast<float **>(p[3]);
  const float factor = *static_cast<float *>(p[4]);
  float *y = *static_cast<float **>(p[5]);
  for (int64_t i = thread; i < count; i += threads) y[i] = factor * w[i % n] * x[i];
}
