// fma_peak.cpp: the most floating-point operations a second that this machine does: fused multiplications and additions
// of whole vectors that stay in registers. What the benchmark holds matrix products against. Knows nothing about them.
#include <algorithm>
#include <chrono>

#include <omp.h>

namespace {

#if defined(__AVX512F__)
constexpr int kBytes = 64;
#elif defined(__AVX2__)
constexpr int kBytes = 32;
#else
constexpr int kBytes = 16;
#endif
constexpr int kChains = 12;  // more than two units of a latency of four or five keep busy, and fewer than 16 registers
constexpr int kSteps = 50000, kRuns = 50;

template <typename T>
void run_chains() {
  typedef T Vec __attribute__((vector_size(kBytes)));
  volatile T start = T(0.5), factor = T(0.75);
  const Vec a = factor - Vec{}, b = start - Vec{};
  Vec sums[kChains];
#pragma GCC unroll 12
  for (int i = 0; i < kChains; ++i) sums[i] = b * T(i);
  for (int step = 0; step < kSteps; ++step) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) sums[i] = sums[i] * a + b;
  }
  for (int i = 0; i < kChains; ++i) start = start + sums[i][0];
}

}  // namespace

// 10^9 operations a second, of `threads` threads at once, each at its best; an FMA is two.
template <typename T>
double fma_gflops(int threads) {
  using Clock = std::chrono::steady_clock;
  constexpr double kOperations = 2.0 * kSteps * kChains * (kBytes / sizeof(T));
  double sum = 0;
#pragma omp parallel num_threads(threads) if (threads > 1) reduction(+ : sum)
  {
    double best = 0;
    for (int run = 0; run < kRuns; ++run) {
      const auto start = Clock::now();
      run_chains<T>();
      const std::chrono::duration<double> elapsed = Clock::now() - start;
      best = std::max(best, kOperations / elapsed.count() * 1e-9);
    }
    sum += best;
  }
  return sum;
}
template double fma_gflops<float>(int);
template double fma_gflops<double>(int);
