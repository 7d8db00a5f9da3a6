// test_jacobian.cpp: Jacobians of the toy kernels against their closed forms.
#include "check.hpp"
#include "toy.hpp"

namespace {

const Module module = open_toy();

void check_dense(int64_t B, int64_t n, int64_t m, uint32_t wrt, int32_t threads) {
  Array<double> x({B, n}, 1), W({m, n}, 2), b({m}, 3), Jx({B, m, n}), JW({B, m, m, n}), Jb({B, m, m});
  std::vector<DLTensor> arrays{x, W, b};
  if (wrt & 1) arrays.push_back(Jx);
  if (wrt & 2) arrays.push_back(JW);
  if (wrt & 4) arrays.push_back(Jb);
  tiaot_options options = TIAOT_OPTIONS_INIT;
  options.num_threads = threads;
  CHECK_OK(tiaot_call(find_kernel(module, "dense"), TIAOT_JACOBIAN, wrt, arrays.data(),
                      static_cast<int32_t>(arrays.size()), &options));
  int64_t wrong = 0;
  for (int64_t r = 0; r < B; ++r) {
    for (int64_t j = 0; j < m; ++j) {
      for (int64_t i = 0; i < n; ++i) {
        if (wrt & 1) wrong += Jx.data()[(r * m + j) * n + i] != W.data()[j * n + i];
      }
      for (int64_t k = 0; k < m; ++k) {
        if (wrt & 4) wrong += Jb.data()[(r * m + j) * m + k] != (j == k ? 1 : 0);
        for (int64_t i = 0; i < n; ++i) {
          if (wrt & 2) wrong += JW.data()[((r * m + j) * m + k) * n + i] != (j == k ? x.data()[r * n + i] : 0);
        }
      }
    }
  }
  CHECK_EQ(wrong, 0);
  CHECK(Jx.guarded() && JW.guarded() && Jb.guarded());
}

}  // namespace

TEST(every_wrt) {
  for (uint32_t wrt = 1; wrt < 8; ++wrt) {
    for (int64_t B : {0, 1, 2, 37}) check_dense(B, 8, 4, wrt, 1);
    check_dense(5, 3, 1, wrt, 1);
    check_dense(700, 5, 7, wrt, 7);
  }
}

TEST(many_chunks) {
  check_dense(5000, 8, 4, 1, 1);
  check_dense(5000, 8, 4, 1, 3);
  check_dense(3, 200, 150, 1, 2);  // a sample's rows are more than a chunk
}

TEST(by_columns) {
  const tiaot_kernel *weigh = find_kernel(module, "weigh");
  for (int32_t threads : {1, 3}) {
    for (int64_t B : {0, 1, 2, 37, 70000}) {
      for (uint32_t wrt = 1; wrt < 4; ++wrt) {
        const int64_t n = 3;
        Array<double> x({B, n}, 1), w({n}, 2), Jx({B, n, n}), Jw({B, n, n});
        std::vector<DLTensor> arrays{x, w};
        if (wrt & 1) arrays.push_back(Jx);
        if (wrt & 2) arrays.push_back(Jw);
        tiaot_options options = TIAOT_OPTIONS_INIT;
        options.num_threads = threads;
        CHECK_OK(tiaot_call(weigh, TIAOT_JACOBIAN_FORWARD, wrt, arrays.data(), static_cast<int32_t>(arrays.size()),
                            &options));
        int64_t wrong = 0;
        for (int64_t at = 0; at < B * n * n; ++at) {
          const int64_t i = at % n, j = at / n % n;
          const double value = x.data()[at / n / n * n + j];
          if (wrt & 1) wrong += Jx.data()[at] != (i == j ? 2 * w.data()[j] * value : 0);
          if (wrt & 2) wrong += Jw.data()[at] != (i == j ? value * value : 0);
        }
        CHECK_EQ(wrong, 0);
        CHECK(Jx.guarded() && Jw.guarded());
      }
    }
  }
}

TEST(mode_that_a_module_does_not_have) {
  Array<double> x({2, 8}), W({4, 8}), b({4}), J({2, 4, 8});
  const DLTensor arrays[] = {x, W, b, J};
  CHECK_ERROR(
      tiaot_call(find_kernel(module, "dense"), TIAOT_JACOBIAN_FORWARD, 1, arrays, 4, nullptr), TIAOT_ERROR_UNSUPPORTED,
      "dense.jacobian: the forward mode is made of jvps, which the module does not have of this kernel: export it "
      "with derivatives=['jvp']");
  CHECK_OK(tiaot_call(find_kernel(module, "dense"), TIAOT_JACOBIAN_REVERSE, 1, arrays, 4, nullptr));
}

TEST(several_outputs) {
  Array<float> x({3, 2}), Jy({3, 2}), Jz({3, 2, 2});
  Array<int32_t> k({3});
  for (int i = 0; i < 3; ++i) k.data()[i] = i % 2;
  const DLTensor arrays[] = {x, k, Jy, Jz};
  CHECK_OK(tiaot_call(find_kernel(module, "pick"), TIAOT_JACOBIAN, 1, arrays, 4, nullptr));
  CHECK(Jy.values() == (std::vector<float>{1, 0, 0, 1, 1, 0}));
  CHECK(Jz.values() == (std::vector<float>{2, 0, 0, 2, 2, 0, 0, 2, 2, 0, 0, 2}));
}

TEST(no_batch) {
  Array<double> a({3}), J({3, 3});
  const DLTensor arrays[] = {a, J};
  CHECK_OK(tiaot_call(find_kernel(module, "square"), TIAOT_JACOBIAN, 1, arrays, 2, nullptr));
  const double *p = a.data();
  CHECK(J.values() == (std::vector<double>{2 * p[0], 0, 0, 0, 2 * p[1], 0, 0, 0, 2 * p[2]}));
}

TEST(bound) {
  Array<float> x({2, 8}), W({4, 8}), b({4}), J({2, 4, 8});
  const DLTensor arrays[] = {x, W, b, J};
  tiaot_bound *call = nullptr;
  CHECK_OK(tiaot_bind(find_kernel(module, "dense"), TIAOT_JACOBIAN, 1, arrays, 4, nullptr, &call));
  CHECK_OK(tiaot_bound_run(call));
  CHECK(std::vector<float>(J.data(), J.data() + 32) == W.values());
  CHECK(std::vector<float>(J.data() + 32, J.data() + 64) == W.values());
  tiaot_bound_destroy(call);
}

TEST(two_inputs_without_a_batch) {
  Array<double> a({2}), c({3}), J({2, 3, 2});
  const DLTensor arrays[] = {a, c, J};
  CHECK_OK(tiaot_call(find_kernel(module, "outer"), TIAOT_JACOBIAN, 1, arrays, 3, nullptr));
  const double *p = c.data();
  CHECK(J.values() == (std::vector<double>{p[0], 0, p[1], 0, p[2], 0, 0, p[0], 0, p[1], 0, p[2]}));
}

TEST(output_with_too_many_elements) {
  // At addresses that nothing may touch: refused before that.
  constexpr int64_t kColumns = (int64_t{1} << 30) + 1;
  Array<double> a({2});
  int64_t shape_c[] = {kColumns}, shape_J[] = {2, kColumns, 2};
  DLTensor arrays[] = {a, a, a};
  arrays[1].data = reinterpret_cast<void *>(uintptr_t{1} << 40);
  arrays[1].shape = shape_c;
  arrays[2].data = reinterpret_cast<void *>(uintptr_t{1} << 41);
  arrays[2].shape = shape_J;
  arrays[2].ndim = 3;
  CHECK_ERROR(tiaot_call(find_kernel(module, "outer"), TIAOT_JACOBIAN, 1, arrays, 3, nullptr), TIAOT_ERROR_VALUE,
              "outer.jacobian: output 'o': expected at most 2147483647 elements per sample, got 2147483650");
}
