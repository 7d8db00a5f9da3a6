// http.cpp: an HTTP service whose weights are replaced while it answers. Needs cpp-httplib (Debian:
// libcpp-httplib-dev).
//
//   http MODULE [PORT] [THREADS]
//
//   POST /        rows of x, 8 float32 each, little-endian; the answer is y = tanh(W x + b), 4 float32 a row
//   PUT /weights  W[4, 8] and b[4], float32: all requests that begin later see them, and none sees some of each
//   GET /latency  requests, replacements, and percentiles of the time from a request's body to its answer
//
// Prints the port. On SIGTERM it answers the requests that are under way, prints what GET /latency would, and ends.
#include <httplib.h>
#include <pthread.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <tiaot/tiaot.hpp>
#include <vector>

namespace {

constexpr int64_t kInputs = 8, kOutputs = 4;

struct Weights {
  std::vector<float> W = std::vector<float>(kOutputs * kInputs), b = std::vector<float>(kOutputs);
  tiaot::Arrays arrays() const { return {tiaot::array(W, {kOutputs, kInputs}), tiaot::array(b, {kOutputs})}; }
};

// Times, counted by any number of threads in steps of 5 %.
class Times {
 public:
  void add(std::chrono::nanoseconds time) {
    const double steps = std::log(std::max<double>(1, static_cast<double>(time.count()))) / kStep;
    ++counts_[std::min(counts_.size() - 1, static_cast<size_t>(steps))];
  }
  uint64_t count() const {
    uint64_t sum = 0;
    for (const auto &each : counts_) sum += each;
    return sum;
  }
  // At most 5 % too much.
  double microseconds(double part) const {
    const double wanted = part * static_cast<double>(count());
    uint64_t sum = 0;
    for (size_t i = 0; i < counts_.size(); ++i) {
      sum += counts_[i];
      if (sum != 0 && static_cast<double>(sum) >= wanted) return std::exp(kStep * static_cast<double>(i + 1)) / 1000;
    }
    return 0;
  }

 private:
  static constexpr double kStep = 0.04879;  // log 1.05
  std::array<std::atomic<uint64_t>, 512> counts_{};
};

class Service {
 public:
  explicit Service(const char *path) : layer_(layer_of(path)) {}

  void answer(const httplib::Request &request, httplib::Response &response) {
    const auto begin = std::chrono::steady_clock::now();
    const size_t row = kInputs * sizeof(float);
    if (request.body.empty() || request.body.size() % row != 0) {
      return refuse(&response, "expected rows of 8 float32, got " + std::to_string(request.body.size()) + " bytes");
    }
    const auto rows = static_cast<int64_t>(request.body.size() / row);
    std::vector<float> x(static_cast<size_t>(rows * kInputs));  // a string's bytes need not be aligned to a float
    std::memcpy(x.data(), request.body.data(), request.body.size());
    std::vector<float> y(static_cast<size_t>(rows * kOutputs));
    layer_({tiaot::array(x, {rows, kInputs}), tiaot::array(y, {rows, kOutputs})});
    response.set_content(reinterpret_cast<const char *>(y.data()), y.size() * sizeof(float),
                         "application/octet-stream");
    times_.add(std::chrono::steady_clock::now() - begin);
  }

  void replace(const httplib::Request &request, httplib::Response &response) {
    auto weights = std::make_shared<Weights>();
    const size_t bytes_of_W = weights->W.size() * sizeof(float), bytes_of_b = weights->b.size() * sizeof(float);
    if (request.body.size() != bytes_of_W + bytes_of_b) {
      return refuse(&response,
                    "expected W[4, 8] and b[4] in float32, got " + std::to_string(request.body.size()) + " bytes");
    }
    std::memcpy(weights->W.data(), request.body.data(), bytes_of_W);
    std::memcpy(weights->b.data(), request.body.data() + bytes_of_W, bytes_of_b);
    layer_.replace(weights->arrays(), weights);  // which keeps them until the last request that uses them
    ++replacements_;
  }

  std::string latency() const {
    char text[200];
    std::snprintf(text, sizeof text, "%llu requests, %d replacements; microseconds: p50 %.2f, p99 %.2f, p99.9 %.2f\n",
                  static_cast<unsigned long long>(times_.count()), replacements_.load(), times_.microseconds(0.5),
                  times_.microseconds(0.99), times_.microseconds(0.999));
    return text;
  }

 private:
  static tiaot::PartialCall layer_of(const char *path) {
    const auto weights = std::make_shared<Weights>();
    tiaot::Options options;
    options.num_threads = 1;  // the service's own threads are as many as there are CPUs
    return tiaot::Module(path)
        .kernel("dense_tanh")
        .partial(TIAOT_FORWARD, 0, {"W", "b"}, weights->arrays(), options, weights);
  }
  static void refuse(httplib::Response *response, const std::string &why) {
    response->status = 400;
    response->set_content(why + "\n", "text/plain");
  }

  tiaot::PartialCall layer_;
  Times times_;
  std::atomic<int> replacements_{0};
};

}  // namespace

int main(int count, char **arguments) try {
  if (count < 2) {
    std::fprintf(stderr, "usage: http MODULE [PORT] [THREADS]\n");
    return 2;
  }
  const int port = count > 2 ? std::atoi(arguments[2]) : 8000;
  const int threads = count > 3 ? std::atoi(arguments[3]) : static_cast<int>(std::thread::hardware_concurrency());
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);  // of all threads: one waits for them

  Service service(arguments[1]);
  httplib::Server server;
  server.new_task_queue = [threads] { return new httplib::ThreadPool(static_cast<size_t>(std::max(1, threads))); };
  server.set_tcp_nodelay(true);
  server.set_keep_alive_max_count(1000000);
  server.Post("/", [&](const auto &request, auto &response) { service.answer(request, response); });
  server.Put("/weights", [&](const auto &request, auto &response) { service.replace(request, response); });
  server.Get("/latency", [&](const auto &, auto &response) { response.set_content(service.latency(), "text/plain"); });

  const char *host = "127.0.0.1";
  const int bound = port == 0 ? server.bind_to_any_port(host) : server.bind_to_port(host, port) ? port : -1;
  if (bound < 0) {
    std::fprintf(stderr, "http: cannot listen on port %d\n", port);
    return 1;
  }
  std::printf("port %d\n", bound);
  std::fflush(stdout);
  std::thread stopping([&] {
    int signal = 0;
    sigwait(&signals, &signal);
    server.stop();
  });
  server.listen_after_bind();  // returns when the requests under way are answered
  stopping.join();
  std::printf("%s", service.latency().c_str());
  return 0;
} catch (const tiaot::Error &error) {
  std::fprintf(stderr, "http: %s\n", error.what());
  return 1;
}
