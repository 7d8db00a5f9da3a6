// latency_program.cpp: how long each of many calls takes, one by one, from C and from C++, and written by hand.
//
//   latency_program MODULE PATH B n m CALLERS CALLS
//
// PATH: hand     dense_tanh.cpp's function
//       c        tiaot_call
//       c-bound  tiaot_bound_run
//       c++      tiaot::Kernel::vjp, with its arrays described anew for each call
//       c++-bound
//       clock    nothing: what reading the clock adds to each of the others
// Prints nanoseconds and counts: p50 p99 p99.9 worst, all calls a second, allocations in all calls but the first.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>
#include <tiaot/tiaot.hpp>
#include <vector>

template <typename T>
void dense_tanh_vjp(int64_t B, int64_t n, int64_t m, const T *x, const T *W, const T *b, const T *v, T *gx, T *gW,
                    T *gb, int threads);

// Every allocation of the process comes by here, the library's and operator new's among them.
static std::atomic<int64_t> allocations{0};
extern "C" {
void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);
void *malloc(size_t size) noexcept { return ++allocations, __libc_malloc(size); }
void *calloc(size_t count, size_t size) noexcept { return ++allocations, __libc_calloc(count, size); }
void *realloc(void *old, size_t size) noexcept { return ++allocations, __libc_realloc(old, size); }
void *aligned_alloc(size_t alignment, size_t size) noexcept { return ++allocations, __libc_memalign(alignment, size); }
int posix_memalign(void **memory, size_t alignment, size_t size) noexcept {
  *memory = (++allocations, __libc_memalign(alignment, size));
  return *memory == nullptr ? 12 : 0;  // ENOMEM
}
}

namespace {

using Clock = std::chrono::steady_clock;

struct Layer {
  Layer(int64_t rows, int64_t inputs, int64_t outputs)
      : B(rows),
        n(inputs),
        m(outputs),
        x(numbers(B * n)),
        W(numbers(m * n)),
        b(numbers(m)),
        v(numbers(B * m)),
        gx(static_cast<size_t>(B * n)) {}
  int64_t B, n, m;
  std::vector<float> x, W, b, v, gx;

  static std::vector<float> numbers(int64_t count) {
    std::vector<float> values(static_cast<size_t>(count));
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(static_cast<int>(i * 7 % 13) - 6) / 8;
    return values;
  }
  // Whether gx is what float64 gives, within the error of float32's sums.
  bool right() const {
    for (int64_t r = 0; r < B; ++r) {
      std::vector<double> expected(static_cast<size_t>(n));
      for (int64_t j = 0; j < m; ++j) {
        double z = b[static_cast<size_t>(j)];
        for (int64_t k = 0; k < n; ++k)
          z += double{W[static_cast<size_t>(j * n + k)]} * x[static_cast<size_t>(r * n + k)];
        const double g = (1 - std::tanh(z) * std::tanh(z)) * v[static_cast<size_t>(r * m + j)];
        for (int64_t k = 0; k < n; ++k) expected[static_cast<size_t>(k)] += g * W[static_cast<size_t>(j * n + k)];
      }
      for (int64_t k = 0; k < n; ++k) {
        if (std::abs(expected[static_cast<size_t>(k)] - gx[static_cast<size_t>(r * n + k)]) > 1e-5) return false;
      }
    }
    return true;
  }
  tiaot::Arrays arrays() {
    return {tiaot::array(x, {B, n}), tiaot::array(W, {m, n}), tiaot::array(b, {m}), tiaot::array(v, {B, m}),
            tiaot::array(gx, {B, n})};
  }
};

// Calls `run` many times, and writes down how long each took.
template <typename Run>
void time_each(const Run &run, std::vector<uint32_t> *times) {
  for (uint32_t &time : *times) {
    const auto begin = Clock::now();
    run();
    time = static_cast<uint32_t>(std::chrono::nanoseconds(Clock::now() - begin).count());
  }
}

// The same with a thread's own arrays, by one of the paths; `ready` runs once the first call is over.
void call(const std::string &path, const tiaot::Kernel &kernel, Layer *layer, const std::function<void()> &ready,
          std::vector<uint32_t> *times) {
  const auto first_and_all = [&](const auto &run) { run(), ready(), time_each(run, times); };
  Layer &it = *layer;
  tiaot::Options one;
  one.num_threads = 1;  // the callers are threads already
  if (path == "clock") return first_and_all([] {});
  if (path == "hand") {
    return first_and_all([&] {
      dense_tanh_vjp<float>(it.B, it.n, it.m, it.x.data(), it.W.data(), it.b.data(), it.v.data(), it.gx.data(), nullptr,
                            nullptr, 1);
    });
  }
  if (path == "c") {
    const tiaot::Arrays arrays = it.arrays();
    std::vector<DLTensor> tensors;
    for (const tiaot::Array &each : arrays) tensors.push_back(each.tensor());
    tiaot_options options = TIAOT_OPTIONS_INIT;
    options.num_threads = 1;
    return first_and_all([&] {
      if (tiaot_call(kernel.get(), TIAOT_VJP, 1, tensors.data(), 5, &options) != TIAOT_OK) std::abort();
    });
  }
  if (path == "c++") {
    return first_and_all([&] {
      kernel.vjp({"x"},
                 {tiaot::array(it.x, {it.B, it.n}), tiaot::array(it.W, {it.m, it.n}), tiaot::array(it.b, {it.m}),
                  tiaot::array(it.v, {it.B, it.m}), tiaot::array(it.gx, {it.B, it.n})},
                 one);
    });
  }
  const tiaot::BoundCall bound = kernel.bind(TIAOT_VJP, 1, it.arrays(), one);
  if (path == "c++-bound") return first_and_all([&] { bound(); });
  tiaot_bound *plain = nullptr;
  std::vector<DLTensor> tensors;
  const tiaot::Arrays arrays = it.arrays();
  for (const tiaot::Array &each : arrays) tensors.push_back(each.tensor());
  tiaot_options options = TIAOT_OPTIONS_INIT;
  options.num_threads = 1;
  if (tiaot_bind(kernel.get(), TIAOT_VJP, 1, tensors.data(), 5, &options, &plain) != TIAOT_OK) std::abort();
  first_and_all([plain] { tiaot_bound_run(plain); });
  tiaot_bound_destroy(plain);
}

}  // namespace

int main(int count, char **arguments) try {
  if (count != 8) return 2;
  const std::string path = arguments[2];
  const int64_t B = std::atoll(arguments[3]), n = std::atoll(arguments[4]), m = std::atoll(arguments[5]);
  const auto callers = static_cast<size_t>(std::atoi(arguments[6]));
  const size_t calls = static_cast<size_t>(std::atoll(arguments[7])) / callers;
  const tiaot::Kernel kernel = tiaot::Module(arguments[1]).kernel("dense_tanh");

  std::vector<Layer> layers(callers, Layer(B, n, m));
  std::vector<std::vector<uint32_t>> times(callers, std::vector<uint32_t>(calls));
  std::vector<Clock::time_point> ends(callers);
  std::atomic<size_t> waiting{callers};
  std::atomic<int64_t> before{0}, after{0}, done{0};
  Clock::time_point begin;
  const auto ready = [&] {  // all begin at once, after each has called
    if (--waiting == 0) {
      before = allocations.load(), begin = Clock::now();
      waiting = SIZE_MAX;
    }
    while (waiting.load() != SIZE_MAX) std::this_thread::yield();
  };
  std::vector<std::thread> threads;
  for (size_t i = 0; i < callers; ++i) {
    threads.emplace_back([&, i] {
      call(path, kernel, &layers[i], ready, &times[i]);
      ends[i] = Clock::now();
    });
  }
  for (std::thread &thread : threads) thread.join();
  after = allocations.load();
  if (path != "clock" && !std::all_of(layers.begin(), layers.end(), [](const Layer &each) { return each.right(); })) {
    std::fprintf(stderr, "%s: a wrong result\n", path.c_str());
    return 1;
  }
  std::vector<uint32_t> all;
  for (const auto &each : times) all.insert(all.end(), each.begin(), each.end());
  std::sort(all.begin(), all.end());
  const auto percentile = [&all](double part) {
    return all[static_cast<size_t>(part * static_cast<double>(all.size() - 1))];
  };
  const double seconds = std::chrono::duration<double>(*std::max_element(ends.begin(), ends.end()) - begin).count();
  std::printf("%u %u %u %u %.0f %lld\n", percentile(0.5), percentile(0.99), percentile(0.999), all.back(),
              static_cast<double>(all.size()) / seconds, static_cast<long long>(after - before));
  return 0;
} catch (const tiaot::Error &error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
