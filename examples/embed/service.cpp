// service.cpp: a service in small: threads that answer requests with a kernel, while the weights and the module change.
//
//   service MODULE [REQUESTS] [THREADS]
//
// Each request is a batch of 4 rows through y = tanh(W x + b). Weights and module are one snapshot, which a request
// takes once and keeps until it is answered: a swap is one store of a pointer, no request sees half of it, and the old
// weights and the old module go with their last request.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <thread>
#include <tiaot/tiaot.hpp>
#include <vector>

namespace {

constexpr int64_t kRows = 4, kInputs = 8, kOutputs = 4;

struct Snapshot {
  tiaot::Kernel kernel;  // keeps its module open
  std::vector<float> W, b;
};

std::shared_ptr<const Snapshot> load(const char *path, float scale) {
  const tiaot::Module module{path};
  return std::make_shared<Snapshot>(Snapshot{module.kernel("dense_tanh"), std::vector<float>(kOutputs * kInputs, scale),
                                             std::vector<float>(kOutputs, scale)});
}

std::shared_ptr<const Snapshot> current;  // by std::atomic_load and std::atomic_store only

void answer(const std::vector<float> &x, std::vector<float> *y) {
  const std::shared_ptr<const Snapshot> now = std::atomic_load(&current);
  tiaot::Options options;
  options.num_threads = 1;  // the service's own threads are as many as there are CPUs
  now->kernel.forward({tiaot::array(x, {kRows, kInputs}), tiaot::array(now->W, {kOutputs, kInputs}),
                       tiaot::array(now->b, {kOutputs}), tiaot::array(*y, {kRows, kOutputs})},
                      options);
}

// With all inputs 1/8 and all weights s: tanh(s + s).
bool right(const std::vector<float> &y) {
  const auto is = [&](float s) {
    return std::all_of(y.begin(), y.end(), [s](float each) { return std::abs(each - std::tanh(2 * s)) < 1e-6f; });
  };
  return is(0.25f) || is(0.5f);  // never a mixture
}

}  // namespace

int main(int count, char **arguments) try {
  if (count < 2) {
    std::fprintf(stderr, "usage: service MODULE [REQUESTS] [THREADS]\n");
    return 2;
  }
  const int requests = count > 2 ? std::atoi(arguments[2]) : 100000, threads = count > 3 ? std::atoi(arguments[3]) : 2;
  std::atomic_store(&current, load(arguments[1], 0.25f));

  std::atomic<int> wrong{0}, running{threads};
  std::vector<std::vector<double>> times(static_cast<size_t>(threads));
  std::vector<std::thread> workers;
  for (auto &mine : times) {
    workers.emplace_back([&mine, &wrong, &running, requests] {
      const std::vector<float> x(kRows * kInputs, 0.125f);
      std::vector<float> y(kRows * kOutputs);
      mine.reserve(static_cast<size_t>(requests));
      for (int request = 0; request < requests; ++request) {
        const auto begin = std::chrono::steady_clock::now();
        answer(x, &y);
        mine.push_back(std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count());
        if (!right(y)) ++wrong;
      }
      --running;
    });
  }
  int swaps = 0;
  for (; running > 0; ++swaps) {  // new weights and a newly opened module, under load
    std::atomic_store(&current, load(arguments[1], swaps % 2 == 0 ? 0.5f : 0.25f));
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  for (std::thread &worker : workers) worker.join();

  std::vector<double> all;
  for (const auto &mine : times) all.insert(all.end(), mine.begin(), mine.end());
  std::sort(all.begin(), all.end());
  const auto percentile = [&all](double part) {
    return all[static_cast<size_t>(part * static_cast<double>(all.size() - 1))];
  };
  std::printf("%zu requests on %d threads, %d swaps, %d wrong answers\n", all.size(), threads, swaps, wrong.load());
  std::printf("microseconds a request: p50 %.2f, p99 %.2f, p99.9 %.2f\n", percentile(0.5), percentile(0.99),
              percentile(0.999));
  return wrong == 0 ? 0 : 1;
} catch (const tiaot::Error &error) {
  std::fprintf(stderr, "service: %s\n", error.what());
  return 1;
}
