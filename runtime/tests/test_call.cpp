// test_call.cpp: results of forward and vjp, for every way of cutting and sharing out the batch.
#include <sys/mman.h>

#include <algorithm>
#include <cfenv>
#include <cmath>
#include <limits>

#include "check.hpp"
#include "dispatch.hpp"
#include "half.hpp"
#include "toy.hpp"

namespace {

using tiaot::Cost;
using tiaot::Cut;
using tiaot::cut_batch;

const Module module = open_toy();
const tiaot_kernel *const dense = find_kernel(module, "dense");

tiaot_options with_threads(int32_t count) {
  tiaot_options options = TIAOT_OPTIONS_INIT;
  options.num_threads = count;
  return options;
}

template <typename T>
struct Layer {
  Layer(int64_t B, int64_t n, int64_t m)
      : x({B, n}, 1), W({m, n}, 2), b({m}, 3), v({B, m}, 4), y({B, m}), gx({B, n}), gW({m, n}), gb({m}) {}
  Array<T> x, W, b, v, y, gx, gW, gb;

  tiaot_status forward(const tiaot_options &options) {
    const DLTensor arrays[] = {x, W, b, y};
    return tiaot_call(dense, TIAOT_FORWARD, 0, arrays, 4, &options);
  }
  tiaot_status vjp(uint32_t wrt, const tiaot_options &options) {
    std::vector<DLTensor> arrays{x, W, b, v};
    if (wrt & 1) arrays.push_back(gx);
    if (wrt & 2) arrays.push_back(gW);
    if (wrt & 4) arrays.push_back(gb);
    return tiaot_call(dense, TIAOT_VJP, wrt, arrays.data(), static_cast<int32_t>(arrays.size()), &options);
  }
  bool guarded() const { return y.guarded() && gx.guarded() && gW.guarded() && gb.guarded(); }
};

template <typename T>
bool equal(const Array<T> &got, const std::vector<double> &expected) {
  return std::equal(expected.begin(), expected.end(), got.data());
}

// With whole numbers, so that every sum is exact in either type and in any order.
template <typename T>
void check_layer(int64_t B, int64_t n, int64_t m, int32_t threads) {
  Layer<T> it(B, n, m);
  for (Array<T> *input : {&it.x, &it.W, &it.b, &it.v}) {
    for (int64_t i = 0; i < input->size(); ++i) input->data()[i] = std::round(input->data()[i]);
  }
  const tiaot_options options = with_threads(threads);
  CHECK_OK(it.forward(options));
  CHECK_OK(it.vjp(7, options));
  std::vector<double> y(static_cast<size_t>(B * m)), gx(static_cast<size_t>(B * n)), gW(static_cast<size_t>(m * n)),
      gb(static_cast<size_t>(m));
  for (int64_t r = 0; r < B; ++r) {
    for (int64_t j = 0; j < m; ++j) {
      const double v = it.v.data()[r * m + j];
      y[static_cast<size_t>(r * m + j)] = it.b.data()[j];
      gb[static_cast<size_t>(j)] += v;
      for (int64_t i = 0; i < n; ++i) {
        const double x = it.x.data()[r * n + i], W = it.W.data()[j * n + i];
        y[static_cast<size_t>(r * m + j)] += W * x;
        gx[static_cast<size_t>(r * n + i)] += v * W;
        gW[static_cast<size_t>(j * n + i)] += v * x;
      }
    }
  }
  CHECK(equal(it.y, y));
  CHECK(equal(it.gx, gx));
  CHECK(equal(it.gW, gW));
  CHECK(equal(it.gb, gb));
  CHECK(it.guarded());
}

}  // namespace

TEST(every_size) {
  for (int64_t B : {0, 1, 2, 7, 8, 9, 2340, 2341, 9001}) {
    check_layer<float>(B, 8, 4, 2);
    check_layer<double>(B, 8, 4, 2);
    check_layer<float>(B, 3, 5, 3);
  }
  check_layer<double>(100, 100, 70, 2);
}

TEST(same_bits_for_any_number_of_threads) {
  for (uint32_t wrt = 1; wrt < 8; ++wrt) {
    Layer<float> one(20011, 8, 4);
    CHECK_OK(one.forward(with_threads(1)));
    CHECK_OK(one.vjp(wrt, with_threads(1)));
    for (int32_t threads : {2, 7}) {
      Layer<float> other(20011, 8, 4);
      CHECK_OK(other.forward(with_threads(threads)));
      CHECK_OK(other.vjp(wrt, with_threads(threads)));
      CHECK(one.y.values() == other.y.values());
      CHECK(one.gx.values() == other.gx.values());
      CHECK(one.gW.values() == other.gW.values());
      CHECK(one.gb.values() == other.gb.values());
      CHECK(other.guarded());
    }
  }
  // A shared gradient of many segments, so that adding up is shared out too.
  Layer<float> one(4096, 300, 100), seven(4096, 300, 100);
  CHECK_OK(one.vjp(6, with_threads(1)));
  CHECK_OK(seven.vjp(6, with_threads(7)));
  CHECK(one.gW.values() == seven.gW.values());
}

TEST(gradients_not_asked_for) {
  Layer<float> all(20011, 8, 4), some(20011, 8, 4), few(3, 8, 4), more(3, 8, 4);
  CHECK_OK(all.vjp(7, with_threads(2)));
  CHECK_OK(some.vjp(3, with_threads(2)));  // by the entry for x, W and b
  CHECK(some.gx.values() == all.gx.values());
  CHECK(some.gW.values() == all.gW.values());
  CHECK(some.guarded());
  CHECK_OK(few.vjp(4, with_threads(1)));  // by the entry for W and b
  CHECK_OK(more.vjp(6, with_threads(1)));
  CHECK(few.gb.values() == more.gb.values());
  // The gradient of x is not asked for, but computed beside the partial sums.
  Layer<double> x_too(20011, 5, 3), without_x(20011, 5, 3), alone(20011, 5, 3);
  CHECK_OK(x_too.vjp(7, with_threads(2)));
  CHECK_OK(without_x.vjp(6, with_threads(2)));
  CHECK_OK(alone.vjp(6, with_threads(1)));
  CHECK(without_x.gW.values() == x_too.gW.values());
  CHECK(without_x.gb.values() == x_too.gb.values());
  CHECK(alone.gW.values() == x_too.gW.values());
}

TEST(empty_batch_gives_zero_for_shared_gradients) {
  Layer<double> it(0, 8, 4);
  CHECK_OK(it.vjp(6, with_threads(2)));
  CHECK(it.gW.values() == std::vector<double>(32, 0.0));
  CHECK(it.gb.values() == std::vector<double>(4, 0.0));
  CHECK_OK(it.vjp(2, with_threads(2)));
  CHECK_OK(it.vjp(1, with_threads(2)));
  CHECK_OK(it.forward(with_threads(2)));
}

TEST(variants) {
  Layer<float> it(2, 8, 4);
  tiaot_options options = TIAOT_OPTIONS_INIT;
  for (const char *name : {"float32_n8_m4", "float32_dynamic"}) {
    options.variant = name;
    CHECK_OK(it.vjp(1, options));
  }
  tiaot::Request request;
  tiaot::Checked checked;
  tiaot::Choice choice;
  const DLTensor right[] = {it.x, it.W, it.b, it.y};
  CHECK_OK(tiaot::make_request(dense, TIAOT_FORWARD, 0, nullptr, &request));
  CHECK_OK(tiaot::check_arrays(request, right, 4, true, &checked));
  CHECK_OK(tiaot::choose_entry(request, checked, &choice));
  CHECK_EQ(std::string(choice.variant->name), "float32_n8_m4");
  Layer<double> other(2, 8, 5);
  const DLTensor wide[] = {other.x, other.W, other.b, other.y};
  CHECK_OK(tiaot::check_arrays(request, wide, 4, true, &checked));
  CHECK_OK(tiaot::choose_entry(request, checked, &choice));
  CHECK_EQ(std::string(choice.variant->name), "float64_dynamic");
}

TEST(half_precision_sums) {
  const tiaot_kernel *kernel = find_kernel(module, "count");
  constexpr int64_t kRows = 50000;
  std::vector<tiaot::Half> w(4), v(kRows * 4, static_cast<tiaot::Half>(0.0625f)), gw(4);
  int64_t shared[] = {4}, batched[] = {kRows, 4};
  const DLDataType half{2, 16, 1};
  const DLTensor arrays[] = {{w.data(), {kDLCPU, 0}, 1, half, shared, nullptr, 0},
                             {v.data(), {kDLCPU, 0}, 2, half, batched, nullptr, 0},
                             {gw.data(), {kDLCPU, 0}, 1, half, shared, nullptr, 0}};
  CHECK_OK(tiaot_call(kernel, TIAOT_VJP, 1, arrays, 3, nullptr));
  for (tiaot::Half sum : gw) CHECK(std::abs(static_cast<float>(sum) - 3125) <= 8);
}

TEST(exceptions_do_not_trap) {
  Layer<float> it(20011, 8, 4);
  it.x.data()[0] = it.W.data()[0] = it.v.data()[0] = std::numeric_limits<float>::max();
  const DLTensor arrays[] = {it.x, it.W, it.b, it.y};
  Array<float> J({20011, 4, 8});
  const DLTensor jacobian[] = {it.x, it.W, it.b, J};
  std::feclearexcept(FE_ALL_EXCEPT);
  if (feenableexcept(FE_OVERFLOW | FE_INEXACT) == -1) return std::puts("       (this CPU has no traps)"), void();
  for (int threads : {1, 3}) {
    const tiaot_options options = with_threads(threads);
    CHECK_OK(tiaot_call(dense, TIAOT_FORWARD, 0, arrays, 4, &options));
    CHECK_OK(tiaot_call(dense, TIAOT_JACOBIAN, 1, jacobian, 4, &options));
  }
  CHECK_EQ(fegetexcept(), FE_OVERFLOW | FE_INEXACT);
  fedisableexcept(FE_ALL_EXCEPT);
  CHECK_EQ(std::fetestexcept(FE_ALL_EXCEPT), 0);
  CHECK(std::isinf(it.y.data()[0]));
}

TEST(workspace) {
  toy_workspace_bytes = 100;
  Layer<float> it(2, 8, 4);
  CHECK_OK(it.vjp(1, with_threads(1)));
  CHECK(toy_last_workspace != nullptr && reinterpret_cast<uintptr_t>(toy_last_workspace) % 64 == 0);
  void *first = toy_last_workspace;
  CHECK_OK(it.vjp(1, with_threads(1)));
  CHECK_EQ(toy_last_workspace, first);  // kept
  toy_workspace_bytes = 0;
  CHECK_OK(it.vjp(1, with_threads(1)));
  CHECK(toy_last_workspace == nullptr);
  // Each worker has its own: the kernel would tell in its results.
  toy_workspace_bytes = 20000;
  Layer<float> one(200000, 8, 4), two(200000, 8, 4);
  CHECK_OK(one.vjp(1, with_threads(1)));
  CHECK_OK(two.vjp(1, with_threads(4)));
  CHECK(one.gx.values() == two.gx.values());
  toy_workspace_bytes = 3 << 20;
  Layer<float> large(20011, 8, 4);
  CHECK_OK(large.vjp(1, with_threads(2)));
  CHECK(reinterpret_cast<uintptr_t>(toy_last_workspace) % 64 == 0);
  toy_workspace_bytes = int64_t{1} << 60;
  const std::vector<float> before = it.gx.values();
  CHECK_ERROR(it.vjp(1, with_threads(1)), TIAOT_ERROR_MEMORY,
              "no memory for workspace: 1152921504606846976 bytes are needed");
  CHECK(it.gx.values() == before);
  CHECK_EQ(large.vjp(1, with_threads(2)), TIAOT_ERROR_MEMORY);
  toy_workspace_bytes = -1;
  CHECK_ERROR(it.vjp(1, with_threads(1)), TIAOT_ERROR_INTERNAL,
              "bug in tiaot, please report it: dense_vjp_x: the module gives an impossible size of workspace");
  toy_workspace_bytes = 100;
}

TEST(cutting_depends_on_size_alone) {
  CHECK_EQ(cut_batch(0, {56, 8, 0}, 8).chunk_count, 1);
  CHECK_EQ(cut_batch(2340, {56, 8, 0}, 8).chunk_count, 1);  // 131040 element-steps
  CHECK_EQ(cut_batch(2341, {56, 8, 0}, 8).chunk_count, 2);
  for (int64_t rows : {2341, 9001, 262144, 1 << 30}) {
    for (int64_t block : {1, 8, 13, 4096}) {
      for (int64_t gradients : {0, 36, 1 << 20}) {
        const Cut cut = cut_batch(rows, {56, 8, gradients}, block);
        CHECK(cut.chunk_count == 1 || cut.chunk_rows % block == 0);
        CHECK(cut.chunk_rows * cut.chunk_count >= rows && cut.chunk_rows * (cut.chunk_count - 1) < rows);
        if (gradients > 0) CHECK(cut.chunk_count <= 16);
      }
    }
  }
}

TEST(no_chunk_has_too_many_elements) {
  const int64_t most = INT32_MAX;
  const Cost wide{1, 1 << 20, 1};  // 16 chunks would be too few
  const Cut cut = cut_batch(int64_t{1} << 40, wide, 64);
  CHECK(cut.chunk_rows * wide.widest <= most);
  CHECK_EQ(cut.chunk_rows % 64, 0);
  CHECK(cut.chunk_rows * cut.chunk_count >= int64_t{1} << 40);
  CHECK_EQ(cut_batch(int64_t{1} << 40, {1, 1, 1}, 1).chunk_count, 1 + ((int64_t{1} << 40) - 1) / most);
  CHECK_EQ(cut_batch(10, {most, most, 0}, 8).chunk_rows, 1);  // not even a block fits
  CHECK_EQ(cut_batch(int64_t{1} << 62, {int64_t{1} << 36, 1 << 30, 0}, 1).chunk_rows, 1);
}

TEST(more_than_2_to_the_31_elements) {
  constexpr int64_t kRows = 36000, kColumns = 65536;
  const size_t bytes = kRows * kColumns * sizeof(float);
  void *memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  CHECK(memory != MAP_FAILED);
  if (memory == MAP_FAILED) return;
  auto *x = static_cast<float *>(memory);
  for (int64_t row : {int64_t{0}, int64_t{32767}, int64_t{32768}, kRows - 1})
    x[row * kColumns] = static_cast<float>(row + 1);
  int64_t shape[] = {kRows, kColumns};
  Array<float> y({kRows});
  const DLTensor arrays[] = {{x, {kDLCPU, 0}, 2, {2, 32, 1}, shape, nullptr, 0}, y};
  const tiaot_options options = with_threads(2);
  CHECK_OK(tiaot_call(find_kernel(module, "first"), TIAOT_FORWARD, 0, arrays, 2, &options));
  for (int64_t row = 0; row < kRows; ++row) {
    const bool marked = row == 0 || row == 32767 || row == 32768 || row == kRows - 1;
    if (y.data()[row] != (marked ? static_cast<float>(row + 1) : 0.0f)) CHECK_EQ(row, -1);
  }
  munmap(memory, bytes);
}

TEST(bound_calls) {
  Layer<float> it(20011, 8, 4), plain(20011, 8, 4);
  std::vector<DLTensor> arrays{it.x, it.W, it.b, it.v, it.gx, it.gW};
  tiaot_bound *bound = nullptr;
  CHECK_OK(tiaot_bind(dense, TIAOT_VJP, 3, arrays.data(), 6, nullptr, &bound));
  arrays.assign(6, DLTensor{});  // only the data must stay
  for (int time = 0; time < 3; ++time) {
    it.x.data()[5] += 1;
    std::copy(it.x.data(), it.x.data() + it.x.size(), plain.x.data());
    CHECK_OK(tiaot_bound_run(bound));
    CHECK_OK(plain.vjp(3, with_threads(1)));
    CHECK(it.gx.values() == plain.gx.values());
    CHECK(it.gW.values() == plain.gW.values());
  }
  CHECK_EQ(tiaot_bound_work(bound), 20011 * (16 + 64 + 4 + 4));
  tiaot_bound_destroy(bound);
  tiaot_bound_destroy(nullptr);

  tiaot_bound *unset = nullptr;
  CHECK(tiaot_bind(dense, TIAOT_VJP, 3, arrays.data(), 5, nullptr, &unset) != TIAOT_OK);
  CHECK(unset == nullptr);
}
