// test_cuda.cpp: calls with arrays on a CUDA device: what they compute, what they put on which stream, what is refused.
#include "toy_cuda.hpp"

namespace {

void *stream_of(uintptr_t number) { return reinterpret_cast<void *>(number); }

template <size_t count>
tiaot_status call(const Module &module, const char *kernel, int entry, uint32_t wrt, const DLTensor (&arrays)[count],
                  const tiaot_options *options = nullptr) {
  return tiaot_call(find_kernel(module, kernel), entry, wrt, arrays, count, options);
}

}  // namespace

CUDA_TEST(forward) {
  const Module module = open_toy_cuda();
  Scale it(5, 7);
  CHECK_OK(it.forward(module));
  CHECK(it.right());
  CHECK_EQ(toy_cuda_calls.back().on_host, 4u);
  CHECK_EQ(toy_cuda_calls.back().rows, 5);
  CHECK(toy_cuda_calls.back().workspace == nullptr);
  CHECK_EQ(take_log(),
           "cuInit\n"
           "cuDevicePrimaryCtxRetain device=0\n"
           "cuCtxPushCurrent device=0\n"
           "cuModuleLoadData device=0 module=1\n"
           "cuLaunchKernel device=0 stream=0x0 kernel=scale grid=1 block=128\n"
           "cuCtxPopCurrent device=0\n");
  CHECK_EQ(standin.current(), -1);
}

CUDA_TEST(values_are_read_where_they_are) {
  const Module module = open_toy_cuda();
  Scale it(5, 7);
  std::vector<DLTensor> arrays = it.forward_arrays();
  arrays[2] = on_cuda(it.factor);
  CHECK_OK(tiaot_call(find_kernel(module, "scale"), TIAOT_FORWARD, 0, arrays.data(), 4, nullptr));
  CHECK(it.right());
  CHECK_EQ(toy_cuda_calls.back().on_host, 0u);
  CHECK(take_log().find("kernel=scale_from_device ") != std::string::npos);
}

CUDA_TEST(vjp) {
  const Module module = open_toy_cuda();
  Scale both(5, 200), one(5, 200), only_w(5, 200);
  CHECK_OK(both.vjp(module, 3));
  CHECK(both.gx_right() && both.gw_right());
  // That of x alone has no CUDA code: the larger one runs, and the gradient of w goes nowhere.
  standin.clear_log();
  CHECK_OK(one.vjp(module, 1));
  CHECK(one.gx_right());
  CHECK_EQ(one.gw.data()[0], Scale(5, 200).gw.data()[0]);
  CHECK_EQ(toy_cuda_calls.back().arrays.size(), 6u);
  const char *workspace = static_cast<const char *>(toy_cuda_calls.back().workspace);
  CHECK(toy_cuda_calls.back().arrays[5] == workspace + 256);
  CHECK(reinterpret_cast<uintptr_t>(workspace) % 256 == 0);
  CHECK_EQ(take_log(),
           "cuCtxPushCurrent device=0\n"
           "cuMemsetD8Async device=0 stream=0x0 bytes=256 value=0\n"
           "cuLaunchKernel device=0 stream=0x0 kernel=store grid=1 block=128\n"
           "cuLaunchKernel device=0 stream=0x0 kernel=scale_sum grid=2 block=128\n"
           "cuLaunchKernel device=0 stream=0x0 kernel=scale_from_device grid=32 block=128\n"
           "cuCtxPopCurrent device=0\n");
  CHECK_OK(only_w.vjp(module, 2));
  CHECK(only_w.gw_right());
  CHECK_EQ(toy_cuda_calls.back().arrays.size(), 5u);
  std::vector<DLTensor> arrays = one.vjp_arrays(3);
  arrays[2] = on_cuda(one.factor);
  CHECK_OK(tiaot_call(find_kernel(module, "scale"), TIAOT_VJP, 3, arrays.data(), 6, nullptr));
  CHECK(take_log().find("cuMemcpyDtoDAsync device=0 stream=0x0 bytes=4\n") != std::string::npos);
  CHECK(one.gw_right());
}

CUDA_TEST(no_rows) {
  const Module module = open_toy_cuda();
  Scale it(0, 7);
  CHECK_OK(it.forward(module));
  CHECK_OK(it.vjp(module, 3));
  CHECK(it.gw.values() == std::vector<float>(7));
}

// Streams are passed on as they are; the caller's context stays current.
CUDA_TEST(streams_and_contexts) {
  standin.set_device_count(3);
  const Module module = open_toy_cuda();
  Scale it(5, 7);
  it.device = 2;
  it.options.stream = stream_of(0x5550);
  standin.set_current(1);
  CHECK_OK(it.forward(module));
  CHECK(it.right());
  CHECK_EQ(standin.current(), 1);
  CHECK_EQ(take_log(),
           "cuInit\n"
           "cuDevicePrimaryCtxRetain device=2\n"
           "cuCtxPushCurrent device=2\n"
           "cuModuleLoadData device=2 module=1\n"
           "cuLaunchKernel device=2 stream=0x5550 kernel=scale grid=1 block=128\n"
           "cuCtxPopCurrent device=2\n");
  standin.set_current(2);
  for (uintptr_t stream : {0, 1, 2}) {
    it.options.stream = stream_of(stream);
    CHECK_OK(it.forward(module));
    CHECK_EQ(take_log(),
             "cuLaunchKernel device=2 stream=0x" + std::to_string(stream) + " kernel=scale grid=1 block=128\n");
  }
  // A failure leaves the context, too.
  standin.set_current(1);
  standin.fail("cuLaunchKernel", 1, 0, 1);
  CHECK_EQ(it.forward(module), TIAOT_ERROR_DEVICE);
  CHECK_EQ(standin.current(), 1);
  it.device = 0;
  CHECK_OK(it.forward(module));  // another device, another copy of the module
  CHECK(take_log().find("cuModuleLoadData device=0 module=2\n") != std::string::npos);
}

CUDA_TEST(grids) {
  const Module module = open_toy_cuda();
  // Two multiprocessors hold 32 blocks; more than four times that are of no use.
  const std::pair<int64_t, const char *> cases[] = {{1, "grid=1 "},           {128, "grid=1 "},
                                                    {129, "grid=2 "},         {128 * 127 + 1, "grid=128 "},
                                                    {128 * 128, "grid=128 "}, {128 * 500, "grid=128 "}};
  for (const auto &it : cases) {
    Array<float> x({1, it.first}), y({1, it.first});
    const DLTensor arrays[] = {on_cuda(x), on_cuda(y)};
    CHECK_OK(call(module, "twice", TIAOT_FORWARD, 0, arrays));
    CHECK(take_log().find(it.second) != std::string::npos);
    int64_t wrong = 0;
    for (int64_t i = 0; i < x.size(); ++i) wrong += y.data()[i] != 2 * x.data()[i];
    CHECK_EQ(wrong, 0);
  }
}

CUDA_TEST(managed_memory) {
  const Module module = open_toy_cuda();
  Array<float> x({2, 3}), y({2, 3});
  DLTensor arrays[] = {on_cuda(x), on_cuda(y)};
  const int32_t managed = 13;
  std::memcpy(&arrays[0].device.device_type, &managed, sizeof managed);
  CHECK_OK(call(module, "twice", TIAOT_FORWARD, 0, arrays));
  CHECK_EQ(y.data()[1], 2 * x.data()[1]);
}

CUDA_TEST(results_are_on_the_device) {
  standin.set_device_count(2);
  const Module module = open_toy_cuda();
  Scale it(5, 7);
  it.device = 1;
  const std::vector<DLTensor> arrays = it.vjp_arrays(0);
  DLTensor results[2];
  int64_t shapes[8];
  int32_t count = 0;
  const tiaot_kernel *kernel = find_kernel(module, "scale");
  CHECK_OK(tiaot_results(kernel, TIAOT_VJP, 3, arrays.data(), 4, nullptr, results, 2, shapes, 8, &count));
  CHECK_EQ(count, 2);
  CHECK(results[1].device.device_type == kDLCUDA && results[1].device.device_id == 1);
  CHECK_OK(tiaot_results(kernel, TIAOT_FORWARD, 0, arrays.data(), 3, nullptr, results, 2, shapes, 8, &count));
  CHECK(results[0].device.device_type == kDLCUDA && results[0].device.device_id == 1);
  CHECK_EQ(take_log(), "");  // no driver is needed for that
  CHECK_EQ(tiaot_work(kernel, TIAOT_FORWARD, 0, arrays.data(), 3), 5 * (7 + 7 + 1));
}

CUDA_TEST(bound) {
  const Module module = open_toy_cuda();
  Scale it(5, 7);
  it.options.stream = stream_of(0x770);
  const std::vector<DLTensor> arrays = it.forward_arrays();
  tiaot_bound *bound = nullptr;
  CHECK_OK(tiaot_bind(find_kernel(module, "scale"), TIAOT_FORWARD, 0, arrays.data(), 4, &it.options, &bound));
  CHECK(toy_cuda_calls.empty());
  CHECK(take_log().find("cuModuleLoadData") != std::string::npos);
  CHECK_OK(tiaot_bound_run(bound));
  CHECK(it.right());
  it.factor.data()[0] = -2;  // values are read at each run
  CHECK_OK(tiaot_bound_run(bound));
  CHECK(it.right());
  const std::string once =
      "cuCtxPushCurrent device=0\n"
      "cuLaunchKernel device=0 stream=0x770 kernel=scale grid=1 block=128\n"
      "cuCtxPopCurrent device=0\n";
  CHECK_EQ(take_log(), once + once);
  CHECK_EQ(tiaot_bound_work(bound), 5 * (7 + 7 + 1 + 7));
  tiaot_bound_destroy(bound);

  const std::vector<DLTensor> gradients = it.vjp_arrays(1);
  CHECK_OK(tiaot_bind(find_kernel(module, "scale"), TIAOT_VJP, 1, gradients.data(), 5, &it.options, &bound));
  for (int i = 0; i < 2; ++i) {
    std::fill_n(it.gx.data(), it.gx.size(), 0.0f);
    CHECK_OK(tiaot_bound_run(bound));
    CHECK(it.gx_right());
  }
  tiaot_bound_destroy(bound);
}

CUDA_TEST(mixed_devices) {
  standin.set_device_count(2);
  const Module module = open_toy_cuda();
  Scale it(5, 7);
  const auto vjp = [&](const std::vector<DLTensor> &arrays) {
    return tiaot_call(find_kernel(module, "scale"), TIAOT_VJP, 3, arrays.data(), 6, nullptr);
  };
  std::vector<DLTensor> arrays = it.vjp_arrays(3);
  arrays[1] = it.w;
  CHECK_ERROR(vjp(arrays), TIAOT_ERROR_TYPE,
              "scale.vjp: argument 'w': expected an array on cuda:0, where 'x' is, got one on the CPU");
  arrays = it.vjp_arrays(3);
  arrays[3] = on_cuda(it.v, 1);
  CHECK_ERROR(vjp(arrays), TIAOT_ERROR_TYPE,
              "scale.vjp: cotangent of 'y': expected an array on cuda:0, where 'x' is, got one on cuda:1");
  arrays = it.vjp_arrays(3);
  arrays[2] = on_cuda(it.factor, 1);
  CHECK_ERROR(vjp(arrays), TIAOT_ERROR_TYPE,
              "scale.vjp: argument 'factor': expected an array on cuda:0, where 'x' is, got one on cuda:1");
  arrays = it.vjp_arrays(3);
  arrays[5] = it.gw;
  CHECK_ERROR(vjp(arrays), TIAOT_ERROR_TYPE,
              "scale.vjp: gradient of 'w': expected an array on cuda:0, where 'x' is, got one on the CPU");
  arrays = it.vjp_arrays(3);
  const int32_t rocm = 10;
  std::memcpy(&arrays[5].device.device_type, &rocm, sizeof rocm);
  CHECK_ERROR(
      vjp(arrays), TIAOT_ERROR_TYPE,
      "scale.vjp: gradient of 'w': expected an array on cuda:0, where 'x' is, got one on DLPack device type 10");
  arrays = it.vjp_arrays(3);
  arrays[0] = it.x;
  CHECK_ERROR(vjp(arrays), TIAOT_ERROR_TYPE,
              "scale.vjp: argument 'w': expected an array on the CPU, got one on cuda:0");
  for (DLTensor &array : arrays) array.device = {kDLCPU, 0};
  arrays[2] = on_cuda(it.factor);
  CHECK_ERROR(vjp(arrays), TIAOT_ERROR_TYPE,
              "scale.vjp: argument 'factor': expected an array on the CPU, got one on cuda:0");
  CHECK_EQ(take_log(), "");
}

CUDA_TEST(other_checks_are_the_same) {
  const Module module = open_toy_cuda();
  Scale it(5, 7);
  std::vector<DLTensor> arrays = it.vjp_arrays(3);
  const auto vjp = [&] { return tiaot_call(find_kernel(module, "scale"), TIAOT_VJP, 3, arrays.data(), 6, nullptr); };
  Array<float> wrong({8});
  arrays[1] = on_cuda(wrong);
  CHECK_ERROR(vjp(), TIAOT_ERROR_VALUE, "scale.vjp: argument 'w': expected float32[7], got float32[8]");
  arrays = it.vjp_arrays(3);
  arrays[4].dtype.bits = 64;
  CHECK_ERROR(vjp(), TIAOT_ERROR_TYPE, "scale.vjp: gradient of 'x': expected float32[5, 7], got float64[5, 7]");
  arrays = it.vjp_arrays(3);
  arrays[4].data = arrays[0].data;
  CHECK_ERROR(vjp(), TIAOT_ERROR_VALUE, "scale.vjp: gradient of 'x': overlaps argument 'x'");
  arrays = it.vjp_arrays(3);
  arrays[0].byte_offset = 2;
  char text[120];
  std::snprintf(text, sizeof text, "scale.vjp: argument 'x': expected data aligned to 4 bytes, got address %p",
                static_cast<void *>(reinterpret_cast<char *>(it.x.data()) + 2));
  CHECK_ERROR(vjp(), TIAOT_ERROR_VALUE, text);
  CHECK(toy_cuda_calls.empty());
}

CUDA_TEST(code_that_is_missing) {
  const Module module = open_toy_cuda();
  Array<double> x({5, 7}), w({7}), factor({}), y({5, 7});
  const DLTensor arrays[] = {on_cuda(x), on_cuda(w), factor, on_cuda(y)};
  CHECK_ERROR(call(module, "scale", TIAOT_FORWARD, 0, arrays), TIAOT_ERROR_UNSUPPORTED,
              "scale.forward: variant 'float64' has no CUDA code: no float64 here");
  CHECK_ERROR(call(module, "scale", TIAOT_VJP, 1, {arrays[0], arrays[1], arrays[2], arrays[3], on_cuda(x)}),
              TIAOT_ERROR_VALUE, "scale.vjp: gradient of 'x': overlaps argument 'x'");
  CHECK_EQ(take_log(), "");

  tiaot_module_desc desc = toy_cuda_descriptor;
  desc.cuda = nullptr;
  tiaot_module *without = nullptr;
  CHECK_OK(tiaot::make_module(desc, TIAOT_LEVEL_V2, nullptr, &without));
  const Module closes(without);
  Scale it(5, 7);
  CHECK_ERROR(it.forward(closes), TIAOT_ERROR_UNSUPPORTED,
              "scale.forward: module 'toy_cuda' was exported without CUDA code: export it with --cuda");
  const tiaot_cuda_image_desc *image = nullptr;
  CHECK_ERROR(tiaot_module_cuda_image(without, 0, &image), TIAOT_ERROR_UNSUPPORTED,
              "tiaot_module_cuda_image: module 'toy_cuda' was exported without CUDA code: export it with --cuda");
}

CUDA_TEST(code_that_goes_wrong) {
  const Module module = open_toy_cuda();
  Scale it(5, 7);
  toy_cuda_outcome = 5;
  CHECK_ERROR(it.forward(module), TIAOT_ERROR_INTERNAL,
              "bug in tiaot, please report it: scale_forward: its CUDA code gave 5");
  toy_cuda_outcome = 0;
  toy_cuda_workspace = -1000;
  CHECK_ERROR(it.vjp(module, 3), TIAOT_ERROR_INTERNAL,
              "bug in tiaot, please report it: scale_vjp_x_w: the module gives an impossible size of workspace");
}

// Arrays at addresses that nothing touches: on a stream that is captured nothing is run.
CUDA_TEST(more_elements_than_an_index_counts) {
  const Module module = open_toy_cuda();
  standin.capture(nullptr, 1);
  constexpr int64_t kRows = 5, kColumns = int64_t{1} << 29;  // three rows are within 2^31 - 1 elements
  int64_t shape[] = {kRows, kColumns};
  DLTensor x{reinterpret_cast<void *>(uintptr_t{1} << 40), {kDLCUDA, 0}, 2, {kDLFloat, 32, 1}, shape, nullptr, 0};
  DLTensor y = x;
  y.data = reinterpret_cast<void *>(uintptr_t{1} << 41);
  CHECK_OK(call(module, "twice", TIAOT_FORWARD, 0, {x, y}));
  CHECK_EQ(toy_cuda_calls.size(), 2u);
  CHECK_EQ(toy_cuda_calls[0].rows, 3);
  CHECK_EQ(toy_cuda_calls[1].rows, 2);
  CHECK(toy_cuda_calls[1].arrays[0] == static_cast<char *>(x.data) + 3 * kColumns * 4);
  CHECK(toy_cuda_calls[1].arrays[1] == static_cast<char *>(y.data) + 3 * kColumns * 4);

  // What takes any number of rows gets all at once.
  toy_cuda_calls.clear();
  Array<float> factor({});
  int64_t shape_w[] = {kColumns};
  DLTensor w = x;
  w.data = reinterpret_cast<void *>(uintptr_t{1} << 42);
  w.shape = shape_w;
  w.ndim = 1;
  CHECK_OK(call(module, "scale", TIAOT_FORWARD, 0, {x, w, factor, y}));
  CHECK_EQ(toy_cuda_calls.size(), 1u);
  CHECK_EQ(toy_cuda_calls[0].rows, kRows);

  // A sum over the batch cannot be cut; where nobody asks for it, it can.
  toy_cuda_calls.clear();
  int64_t shape_B[] = {int64_t{1} << 31};
  DLTensor all[] = {x, factor, y, x, factor};
  for (int i : {0, 2, 3}) {
    all[i].ndim = 1;
    all[i].shape = shape_B;
  }
  all[3].data = reinterpret_cast<void *>(uintptr_t{1} << 42);
  all[1].device = all[4].device = {kDLCUDA, 0};
  all[1].data = reinterpret_cast<void *>(uintptr_t{1} << 43);
  CHECK_ERROR(
      call(module, "total", TIAOT_VJP, 3, all), TIAOT_ERROR_VALUE,
      "total.vjp: the gradient of 'w' is a sum over 'B', which its CUDA code takes up to 2147483647 samples of in "
      "these shapes (arrays of 2147483647 elements), got 2147483648");
  CHECK(toy_cuda_calls.empty());
  CHECK_OK(call(module, "total", TIAOT_VJP, 1, {all[0], all[1], all[2], all[3]}));
  CHECK_EQ(toy_cuda_calls.size(), 2u);
  CHECK_EQ(toy_cuda_calls[1].rows, 1);
  CHECK(toy_cuda_calls[1].arrays[3] == static_cast<char *>(all[3].data) + INT32_MAX * int64_t{4});
  CHECK(toy_cuda_calls[1].arrays[1] == all[1].data);
  CHECK(toy_cuda_calls[1].arrays[4] == toy_cuda_calls[0].arrays[4]);
}

TEST(no_driver_for_the_cpu) {
  in_child(nullptr, [] {
    const Module module = open_toy_cuda();
    Array<float> x({2, 3}), y({2, 3});
    CHECK_OK(call(module, "twice", TIAOT_FORWARD, 0, {x.tensor(), y.tensor()}));
  });
}
