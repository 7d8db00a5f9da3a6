// test_cuda_jacobian.cpp: Jacobians on a CUDA device, and what is put on the stream for them.
#include "half.hpp"
#include "toy_cuda.hpp"

namespace {

template <typename T>
DLTensor tensor_of(std::vector<T> &values, std::vector<int64_t> &shape, uint8_t bits) {
  return {
      values.data(), {kDLCUDA, 0}, static_cast<int32_t>(shape.size()), {kDLFloat, bits, 1}, shape.data(), nullptr, 0};
}

// y = 2 x: 2 on each sample's diagonal.
template <typename T>
void check_twice(int64_t B, int64_t n) {
  const Module module = open_toy_cuda();
  std::vector<int64_t> shape{B, n}, shape_J{B, n, n};
  std::vector<T> x(static_cast<size_t>(B * n), T(1)), J(static_cast<size_t>(B * n * n + 2), T(7));
  const DLTensor arrays[] = {tensor_of(x, shape, 8 * sizeof(T)), tensor_of(J, shape_J, 8 * sizeof(T))};
  CHECK_OK(tiaot_call(find_kernel(module, "twice"), TIAOT_JACOBIAN, 1, arrays, 2, nullptr));
  int64_t wrong = 0;
  for (int64_t i = 0; i < B * n * n; ++i) {
    wrong += J[static_cast<size_t>(i)] != T(i / n % n == i % n ? 2 : 0);
  }
  CHECK_EQ(wrong, 0);
  CHECK(J[static_cast<size_t>(B * n * n)] == T(7));
}

}  // namespace

CUDA_TEST(every_element_type) {
  for (int64_t B : {0, 1, 2, 5}) {
    for (int64_t n : {1, 2, 6}) {
      check_twice<tiaot::Half>(B, n);
      check_twice<float>(B, n);
      check_twice<double>(B, n);
    }
  }
}

CUDA_TEST(what_it_puts_on_the_stream) {
  const Module module = open_toy_cuda();
  Array<double> x({3, 2}), J({3, 2, 2});
  const DLTensor arrays[] = {on_cuda(x), on_cuda(J)};
  CHECK_OK(tiaot_call(find_kernel(module, "twice"), TIAOT_JACOBIAN, 1, arrays, 2, nullptr));
  standin.clear_log();
  tiaot_options options = TIAOT_OPTIONS_INIT;
  CHECK_OK(tiaot_call(find_kernel(module, "twice"), TIAOT_JACOBIAN, 1, arrays, 2, &options));
  const std::string one = "cuMemsetD2D32Async device=0 stream=0x0 pitch=16 value=0x3ff00000 width=1 height=3\n",
                    zero = "cuMemsetD2D32Async device=0 stream=0x0 pitch=16 value=0x0 width=1 height=3\n",
                    launch = "cuLaunchKernel device=0 stream=0x0 kernel=multiply_double grid=1 block=128\n",
                    copy = "cuMemcpy2DAsync device=0 stream=0x0 width=16 height=3 pitches=16,32\n";
  CHECK_EQ(take_log(), "cuCtxPushCurrent device=0\ncuMemsetD8Async device=0 stream=0x0 bytes=48 value=0\n" + one +
                           launch + copy + zero + one + launch + copy + zero + "cuCtxPopCurrent device=0\n");
  CHECK(J.guarded());
}

CUDA_TEST(shared_inputs) {
  const Module module = open_toy_cuda();
  constexpr int64_t B = 3, n = 4;
  for (uint32_t wrt : {1u, 2u, 3u}) {
    Scale it(B, n);
    Array<float> Jx({B, n, n}), Jw({B, n, n});
    std::vector<DLTensor> arrays{on_cuda(it.x), on_cuda(it.w), it.factor};
    if (wrt & 1) arrays.push_back(on_cuda(Jx));
    if (wrt & 2) arrays.push_back(on_cuda(Jw));
    tiaot_bound *bound = nullptr;
    CHECK_OK(tiaot_bind(find_kernel(module, "scale"), TIAOT_JACOBIAN, wrt, arrays.data(),
                        static_cast<int32_t>(arrays.size()), nullptr, &bound));
    CHECK_OK(tiaot_bound_run(bound));
    tiaot_bound_destroy(bound);
    int64_t wrong = 0;
    for (int64_t i = 0; i < B * n * n; ++i) {
      const int64_t b = i / n / n, j = i / n % n, k = i % n;
      if (wrt & 1) wrong += Jx.data()[i] != (j == k ? 3 * it.w.data()[j] : 0);
      if (wrt & 2) wrong += Jw.data()[i] != (j == k ? 3 * it.x.data()[b * n + j] : 0);
    }
    CHECK_EQ(wrong, 0);
    CHECK(Jx.guarded() && Jw.guarded());
  }
}

CUDA_TEST(several_outputs_without_a_batch) {
  const Module module = open_toy_cuda();
  Array<double> a({3}), Js({3, 3}), Jt({3, 3});
  const DLTensor arrays[] = {on_cuda(a), on_cuda(Js), on_cuda(Jt)};
  CHECK_OK(tiaot_call(find_kernel(module, "square"), TIAOT_JACOBIAN, 1, arrays, 3, nullptr));
  const double *p = a.data();
  CHECK(Js.values() == (std::vector<double>{2 * p[0], 0, 0, 0, 2 * p[1], 0, 0, 0, 2 * p[2]}));
  CHECK(Jt.values() == (std::vector<double>{3, 0, 0, 0, 3, 0, 0, 0, 3}));
}

CUDA_TEST(results_of_a_jacobian) {
  const Module module = open_toy_cuda();
  Array<double> a({3});
  const DLTensor arrays[] = {on_cuda(a)};
  DLTensor results[2];
  int64_t shapes[4];
  int32_t count = 0;
  CHECK_OK(tiaot_results(find_kernel(module, "square"), TIAOT_JACOBIAN, 1, arrays, 1, nullptr, results, 2, shapes, 4,
                         &count));
  CHECK_EQ(count, 2);
  CHECK(results[1].device.device_type == kDLCUDA);
}

CUDA_TEST(failures_of_each_step) {
  const Module module = open_toy_cuda();
  Array<float> x({3, 2}), J({3, 2, 2});
  const DLTensor arrays[] = {on_cuda(x), on_cuda(J)};
  for (const char *function : {"cuMemsetD8Async", "cuMemsetD2D32Async", "cuLaunchKernel", "cuMemcpy2DAsync"}) {
    standin.fail(function, 1, 0, 1);
    CHECK_ERROR(
        tiaot_call(find_kernel(module, "twice"), TIAOT_JACOBIAN, 1, arrays, 2, nullptr), TIAOT_ERROR_DEVICE,
        std::string("twice.jacobian: cuda:0: ") + function + ": CUDA_ERROR_INVALID_VALUE (as the stand-in says)");
  }
  CHECK_OK(tiaot_call(find_kernel(module, "twice"), TIAOT_JACOBIAN, 1, arrays, 2, nullptr));
}
