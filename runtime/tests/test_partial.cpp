// test_partial.cpp: calls whose weights stay, from many threads, while they are replaced.
#include <atomic>
#include <thread>

#include "check.hpp"
#include "toy.hpp"

namespace {

const Module module = open_toy();
const tiaot_kernel *const dense = find_kernel(module, "dense");
constexpr uint32_t kWeights = 1u << 1 | 1u << 2;  // W and b

// W and b of one value each, which turns into another when it is released.
struct Weights {
  Array<float> W{{4, 8}}, b{{4}};
  std::atomic<int> released{0};

  explicit Weights(float value) { fill(value); }
  void fill(float value) {
    std::fill_n(W.data(), W.size(), value);
    std::fill_n(b.data(), b.size(), value);
  }
  static void release(void *user) {
    auto &mine = *static_cast<Weights *>(user);
    mine.fill(-1000);
    mine.released.fetch_add(1);
  }
  tiaot_status replace(tiaot_partial *partial) {
    const DLTensor arrays[] = {W, b};
    return tiaot_partial_replace(partial, arrays, 2, release, this);
  }
  tiaot_partial *create(int entry = TIAOT_FORWARD, uint32_t wrt = 0, const tiaot_options *options = nullptr) {
    const DLTensor arrays[] = {W, b};
    tiaot_partial *partial = nullptr;
    CHECK_OK(tiaot_partial_create(dense, entry, wrt, kWeights, arrays, 2, options, release, this, &partial));
    return partial;
  }
};

struct Batch {
  Array<float> x{{2, 8}}, y{{2, 4}}, v{{2, 4}}, gx{{2, 8}};
  Batch() { std::fill_n(x.data(), x.size(), 1.0f); }
  tiaot_status run(const tiaot_partial *partial) {
    const DLTensor arrays[] = {x, y};
    return tiaot_partial_run(partial, arrays, 2);
  }
  bool all(float value) const {
    const std::vector<float> values = y.values();
    return std::all_of(values.begin(), values.end(), [value](float each) { return each == value; });
  }
};

}  // namespace

TEST(weights_stay_and_are_replaced) {
  Weights one(1), two(2);
  tiaot_partial *partial = one.create();
  Batch batch;
  CHECK_OK(batch.run(partial));
  CHECK(batch.all(9));  // 8 weights of 1, and b
  CHECK_OK(two.replace(partial));
  CHECK_EQ(one.released.load(), 1);
  CHECK_EQ(two.released.load(), 0);
  CHECK_OK(batch.run(partial));
  CHECK(batch.all(18));
  tiaot_partial_destroy(partial);
  CHECK_EQ(two.released.load(), 1);
  tiaot_partial_destroy(nullptr);
}

TEST(gradients_and_options) {
  Weights weights(3);
  tiaot_options options = TIAOT_OPTIONS_INIT;
  options.num_threads = 2;
  options.variant = "float32_dynamic";
  tiaot_partial *partial = weights.create(TIAOT_VJP, 1, &options);
  Batch batch;
  std::fill_n(batch.v.data(), batch.v.size(), 1.0f);
  const DLTensor arrays[] = {batch.x, batch.v, batch.gx};
  CHECK_OK(tiaot_partial_run(partial, arrays, 3));
  for (float each : batch.gx.values()) CHECK_EQ(each, 12);
  CHECK(batch.gx.guarded());
  tiaot_partial_destroy(partial);
}

TEST(a_run_sees_all_of_one_or_all_of_the_other) {
  std::vector<std::unique_ptr<Weights>> weights;
  for (int i = 0; i < 400; ++i) weights.push_back(std::make_unique<Weights>(static_cast<float>(1 + i % 2)));
  tiaot_partial *partial = weights[0]->create();
  std::atomic<bool> stop{false};
  std::atomic<int> wrong{0}, runs{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 3; ++caller) {
    callers.emplace_back([&] {
      Batch batch;
      while (!stop) {
        if (batch.run(partial) != TIAOT_OK || !(batch.all(9) || batch.all(18))) ++wrong;
        ++runs;
      }
    });
  }
  for (size_t i = 1; i < weights.size(); ++i) {
    CHECK_OK(weights[i]->replace(partial));
    const int before = runs.load();
    while (runs.load() < before + 3) std::this_thread::yield();
  }
  stop = true;
  for (std::thread &caller : callers) caller.join();
  CHECK_EQ(wrong.load(), 0);
  CHECK_EQ(weights.back()->released.load(), 0);
  tiaot_partial_destroy(partial);
  for (const auto &each : weights) {
    if (each->released.load() != 1) CHECK_EQ(each->released.load(), 1);
  }
}

TEST(what_is_refused) {
  Weights weights(1);
  Array<float> wrong({4, 7}), flat({32});
  Array<double> wide({4, 8});
  tiaot_partial *partial = nullptr;
  const DLTensor right[] = {weights.W, weights.b}, ranks[] = {flat, weights.b};
  const auto create = [&](uint32_t fixed, const DLTensor *arrays, int32_t count) {
    return tiaot_partial_create(dense, TIAOT_FORWARD, 0, fixed, arrays, count, nullptr, Weights::release, &weights,
                                &partial);
  };
  CHECK_ERROR(create(1u << 3, right, 1), TIAOT_ERROR_VALUE,
              "dense.forward: fixed has bit 3 set, but the kernel has 3 inputs");
  CHECK_ERROR(create(kWeights, right, 1), TIAOT_ERROR_VALUE, "dense.forward: expected 2 arrays that stay, got 1");
  CHECK_ERROR(create(kWeights, ranks, 2), TIAOT_ERROR_VALUE,
              "dense.forward: argument 'W': expected 2 dimensions, got 1");
  CHECK_ERROR(tiaot_partial_create(dense, 9, 0, 0, right, 2, nullptr, nullptr, nullptr, &partial), TIAOT_ERROR_VALUE,
              "dense: entry: expected 0 (forward), 1 (vjp), 2 (jacobian), 3 (grad), 4 (jvp), 5 (hvp), 6 (jacobian by "
              "columns) or 7 (jacobian by rows), got 9");
  CHECK(partial == nullptr);
  CHECK_EQ(weights.released.load(), 0);

  partial = weights.create();
  Batch batch;
  const DLTensor one[] = {batch.x};
  CHECK_ERROR(tiaot_partial_run(partial, one, 1), TIAOT_ERROR_VALUE,
              "dense.forward: expected 2 arrays beside those that stay, got 1");
  for (const DLTensor &other : {wrong.tensor(), wide.tensor()}) {
    const DLTensor arrays[] = {other, weights.b};
    CHECK_ERROR(tiaot_partial_replace(partial, arrays, 2, Weights::release, &weights), TIAOT_ERROR_VALUE,
                "dense.forward: argument 'W': expected the type, shape, strides and device that it had");
  }
  CHECK_EQ(weights.released.load(), 0);
  CHECK_OK(batch.run(partial));
  CHECK(batch.all(9));
  tiaot_partial_destroy(partial);
}
