// test_messages.cpp: every way in which a call's arrays can be wrong, and the words for it.
#include "check.hpp"
#include "toy.hpp"

namespace {

const Module module = open_toy();
const tiaot_kernel *const dense = find_kernel(module, "dense");
const tiaot_kernel *const pick = find_kernel(module, "pick");
const tiaot_kernel *const square = find_kernel(module, "square");

// A right call of dense's vjp with respect to x, to break in one place.
struct Call {
  Array<float> x{{2, 8}}, W{{4, 8}}, b{{4}}, v{{2, 4}}, gx{{2, 8}};
  DLTensor arrays[5] = {x, W, b, v, gx};
  tiaot_options options = TIAOT_OPTIONS_INIT;
  int64_t shape[70] = {2, 8};
  int64_t strides[3] = {8, 1};

  tiaot_status run(int32_t count = 5) { return tiaot_call(dense, TIAOT_VJP, 1, arrays, count, &options); }
  void reshape(int array, std::initializer_list<int64_t> sizes) {
    std::copy(sizes.begin(), sizes.end(), shape);
    arrays[array].shape = shape;
    arrays[array].ndim = static_cast<int32_t>(sizes.size());
  }
};

constexpr uint8_t kInt = 0, kUint = 1, kFloat = 2, kBfloat = 4, kComplex = 5, kBool = 6;

}  // namespace

TEST(right_call) {
  Call call;
  CHECK_OK(call.run());
}

TEST(count) {
  CHECK_ERROR(Call().run(4), TIAOT_ERROR_VALUE,
              "dense.vjp: expected 5 arrays (argument 'x', argument 'W', argument 'b', cotangent of 'y', gradient of "
              "'x'), got 4");
  CHECK_ERROR(Call().run(-1), TIAOT_ERROR_VALUE,
              "dense.vjp: expected 5 arrays (argument 'x', argument 'W', argument 'b', cotangent of 'y', gradient of "
              "'x'), got -1");
  CHECK_ERROR(tiaot_call(dense, TIAOT_JACOBIAN, 3, nullptr, 0, nullptr), TIAOT_ERROR_VALUE,
              "dense.jacobian: expected 5 arrays (argument 'x', argument 'W', argument 'b', Jacobian of 'y' with "
              "respect to 'x', Jacobian of 'y' with respect to 'W'), got 0");
  CHECK_ERROR(tiaot_call(dense, TIAOT_FORWARD, 0, nullptr, 4, nullptr), TIAOT_ERROR_VALUE,
              "dense.forward: arrays is NULL");
}

TEST(device) {
  Call call;
  call.arrays[1].device = {kDLCUDA, 3};
  CHECK_ERROR(call.run(), TIAOT_ERROR_TYPE, "dense.vjp: argument 'W': expected an array on the CPU, got one on cuda:3");
  const int32_t rocm = 10;
  std::memcpy(&call.arrays[1].device.device_type, &rocm, sizeof rocm);
  CHECK_ERROR(call.run(), TIAOT_ERROR_TYPE,
              "dense.vjp: argument 'W': expected an array on the CPU, got one on DLPack device type 10");
}

TEST(dtype) {
  Call call;
  const struct {
    DLDataType dtype;
    const char *text;
  } cases[] = {{{kInt, 32, 1}, "int32"},       {{kUint, 8, 1}, "uint8"},         {{kFloat, 16, 1}, "float16"},
               {{kBfloat, 16, 1}, "bfloat16"}, {{kComplex, 64, 1}, "complex64"}, {{kBool, 8, 1}, "bool"},
               {{kFloat, 32, 2}, "float32x2"}, {{99, 4, 1}, "type99_4"}};
  for (const auto &it : cases) {
    call.arrays[0].dtype = it.dtype;
    CHECK_ERROR(
        call.run(), TIAOT_ERROR_TYPE,
        std::string("dense.vjp: argument 'x': expected float32[B, n] or float64[B, n], got ") + it.text + "[2, 8]");
  }
}

TEST(dtype_follows_from_the_arguments_before) {
  Call call;
  Array<double> wide({4, 8});
  call.arrays[1] = wide;
  CHECK_ERROR(call.run(), TIAOT_ERROR_TYPE, "dense.vjp: argument 'W': expected float32[m, 8], got float64[4, 8]");
  Array<double> gradient({2, 8});
  Call other;
  other.arrays[4] = gradient;
  CHECK_ERROR(other.run(), TIAOT_ERROR_TYPE, "dense.vjp: gradient of 'x': expected float32[2, 8], got float64[2, 8]");
}

TEST(named_variant_narrows_what_is_expected) {
  Call call;
  call.options.variant = "float32_n8_m4";
  Array<double> x({2, 8});
  call.arrays[0] = x;
  CHECK_ERROR(call.run(), TIAOT_ERROR_TYPE, "dense.vjp: argument 'x': expected float32[B, 8], got float64[2, 8]");
  Call other;
  other.options.variant = "float32_n8_m4";
  other.reshape(1, {3, 8});
  CHECK_ERROR(other.run(), TIAOT_ERROR_VALUE, "dense.vjp: argument 'W': expected float32[4, 8], got float32[3, 8]");
  other.options.variant = "float16";
  CHECK_ERROR(other.run(), TIAOT_ERROR_VALUE,
              "dense.vjp: no variant 'float16'; there are 'float32_n8_m4', 'float64_n8_m4', 'float32_dynamic', "
              "'float64_dynamic'");
}

TEST(fixed_sizes_of_the_variants) {
  Array<float> x({5, 4}), y({5}), z({5, 4});
  Array<int32_t> k({5});
  const DLTensor arrays[] = {x, k, y, z};
  CHECK_ERROR(tiaot_call(pick, TIAOT_FORWARD, 0, arrays, 4, nullptr), TIAOT_ERROR_VALUE,
              "pick.forward: argument 'x': expected float32[B, 2] or float32[B, 3], got float32[5, 4]");
}

TEST(rank) {
  Call call;
  call.reshape(0, {2, 8, 1});
  CHECK_ERROR(call.run(), TIAOT_ERROR_VALUE,
              "dense.vjp: argument 'x': expected float32[B, n] or float64[B, n], got float32[2, 8, 1]");
  call.arrays[0].ndim = -1;
  CHECK_ERROR(call.run(), TIAOT_ERROR_VALUE,
              "dense.vjp: argument 'x': expected float32[B, n] or float64[B, n], got float32 of rank -1");
  call.reshape(0, {2, 8});
  call.arrays[0].shape = nullptr;
  CHECK_ERROR(call.run(), TIAOT_ERROR_VALUE,
              "dense.vjp: argument 'x': expected float32[B, n] or float64[B, n], got float32 without a shape");
  // Only as many sizes as any message can need are read.
  call.arrays[0].shape = call.shape;
  call.arrays[0].ndim = INT32_MAX;
  CHECK_EQ(call.run(), TIAOT_ERROR_VALUE);
  CHECK(std::string(tiaot_last_error()).rfind(", ...]") != std::string::npos);
}

TEST(shape) {
  Call call;
  call.reshape(1, {4, 9});
  CHECK_ERROR(call.run(), TIAOT_ERROR_VALUE, "dense.vjp: argument 'W': expected float32[m, 8], got float32[4, 9]");
  Call cotangent;
  cotangent.reshape(3, {3, 4});
  CHECK_ERROR(cotangent.run(), TIAOT_ERROR_VALUE,
              "dense.vjp: cotangent of 'y': expected float32[2, 4], got float32[3, 4]");
  Call gradient;
  gradient.reshape(4, {2, 9});
  CHECK_ERROR(gradient.run(), TIAOT_ERROR_VALUE,
              "dense.vjp: gradient of 'x': expected float32[2, 8], got float32[2, 9]");
}

TEST(shape_of_outputs_and_jacobians) {
  Array<float> x({2, 8}), W({4, 8}), b({4}), y({2, 5}), J({2, 4, 9});
  const DLTensor forward[] = {x, W, b, y};
  CHECK_ERROR(tiaot_call(dense, TIAOT_FORWARD, 0, forward, 4, nullptr), TIAOT_ERROR_VALUE,
              "dense.forward: output 'y': expected float32[2, 4], got float32[2, 5]");
  const DLTensor jacobian[] = {x, W, b, J};
  CHECK_ERROR(tiaot_call(dense, TIAOT_JACOBIAN, 1, jacobian, 4, nullptr), TIAOT_ERROR_VALUE,
              "dense.jacobian: Jacobian of 'y' with respect to 'x': expected float32[2, 4, 8], got float32[2, 4, 9]");
}

TEST(sizes_that_cannot_be) {
  Call call;
  call.reshape(0, {-1, 8});
  CHECK_ERROR(call.run(), TIAOT_ERROR_VALUE, "dense.vjp: argument 'x': a size is negative: got float32[-1, 8]");
  call.reshape(0, {2, 0});
  CHECK_ERROR(call.run(), TIAOT_ERROR_VALUE, "dense.vjp: argument 'x': 'n' must be at least 1, got float32[2, 0]");
  call.reshape(0, {int64_t{1} << 60, 8});
  CHECK_ERROR(call.run(), TIAOT_ERROR_VALUE,
              "dense.vjp: argument 'x': expected less than 2^63 bytes, got float32[1152921504606846976, 8]");
  call.reshape(0, {2, int64_t{1} << 31});
  CHECK_ERROR(call.run(), TIAOT_ERROR_VALUE,
              "dense.vjp: argument 'x': expected at most 2147483647 elements per sample, got float32[2, 2147483648]");
  Call shared;
  shared.reshape(1, {int64_t{1} << 28, 8});
  CHECK_ERROR(shared.run(), TIAOT_ERROR_VALUE,
              "dense.vjp: argument 'W': expected at most 2147483647 elements, got float32[268435456, 8]");
  // The size of a batch of none hides the rest's product.
  call.reshape(0, {0, int64_t{1} << 40});
  CHECK_ERROR(
      call.run(), TIAOT_ERROR_VALUE,
      "dense.vjp: argument 'x': expected at most 2147483647 elements per sample, got float32[0, 1099511627776]");
}

TEST(data) {
  Call call;
  call.arrays[0].data = nullptr;
  CHECK_ERROR(call.run(), TIAOT_ERROR_VALUE, "dense.vjp: argument 'x': data is NULL, got float32[2, 8]");
}

TEST(strides) {
  Call call;
  call.arrays[0].strides = call.strides;
  CHECK_OK(call.run());
  call.strides[0] = 9;
  CHECK_ERROR(call.run(), TIAOT_ERROR_VALUE,
              "dense.vjp: argument 'x': expected strides [8, 1] (dense, row-major), got [9, 1] for float32[2, 8]");
  call.strides[0] = 1;
  call.strides[1] = 2;
  CHECK_ERROR(call.run(), TIAOT_ERROR_VALUE,
              "dense.vjp: argument 'x': expected strides [8, 1] (dense, row-major), got [1, 2] for float32[2, 8]");
  call.strides[0] = 0;
  call.strides[1] = 1;
  CHECK_EQ(call.run(), TIAOT_ERROR_VALUE);
}

TEST(strides_that_nothing_follows) {
  int64_t strides[] = {12345, 1};
  Array<float> x({1, 8}), W({4, 8}), b({4}), v({1, 4}), gx({1, 8});
  DLTensor arrays[] = {x, W, b, v, gx};
  arrays[0].strides = strides;
  CHECK_OK(tiaot_call(dense, TIAOT_VJP, 1, arrays, 5, nullptr));
  Array<float> x0({0, 8}), v0({0, 4}), gx0({0, 8});
  DLTensor none[] = {x0, W, b, v0, gx0};
  strides[1] = 99;
  none[0].strides = strides;
  none[0].data = nullptr;
  CHECK_OK(tiaot_call(dense, TIAOT_VJP, 1, none, 5, nullptr));
}

TEST(alignment) {
  Call call;
  call.arrays[0].byte_offset = 2;
  char text[120];
  std::snprintf(text, sizeof text, "dense.vjp: argument 'x': expected data aligned to 4 bytes, got address 0x%llx",
                reinterpret_cast<unsigned long long>(call.x.data()) + 2);
  CHECK_ERROR(call.run(), TIAOT_ERROR_VALUE, text);
}

TEST(overlap) {
  Call call;
  call.arrays[4].data = call.x.data();
  CHECK_ERROR(call.run(), TIAOT_ERROR_VALUE, "dense.vjp: gradient of 'x': overlaps argument 'x'");
  call.arrays[4].data = call.x.data();
  call.arrays[4].byte_offset = 4;  // one element on: still shares all but one
  CHECK_ERROR(call.run(), TIAOT_ERROR_VALUE, "dense.vjp: gradient of 'x': overlaps argument 'x'");
  // Neighbours do not overlap; inputs may.
  Array<float> both({4, 8}), y({4, 4});
  Array<float> W({4, 8}), b({4}), v({2, 4});
  Array<float> x({2, 8});
  DLTensor input = x.tensor(), result = x.tensor();
  input.data = both.data();
  result.data = both.data() + 16;
  const DLTensor neighbours[] = {input, W, b, v, result};
  CHECK_OK(tiaot_call(dense, TIAOT_VJP, 1, neighbours, 5, nullptr));
  DLTensor gW = W.tensor(), gb = b.tensor();
  Array<float> room({4, 8});
  gW.data = room.data();
  gb.data = room.data() + 31;
  const DLTensor results[] = {x, W, b, v, gW, gb};
  CHECK_ERROR(tiaot_call(dense, TIAOT_VJP, 6, results, 6, nullptr), TIAOT_ERROR_VALUE,
              "dense.vjp: gradient of 'b': overlaps gradient of 'W'");
}

TEST(entry_and_wrt) {
  CHECK_ERROR(tiaot_call(dense, 8, 0, nullptr, 0, nullptr), TIAOT_ERROR_VALUE,
              "dense: entry: expected 0 (forward), 1 (vjp), 2 (jacobian), 3 (grad), 4 (jvp), 5 (hvp), 6 (jacobian by "
              "columns) or 7 (jacobian by rows), got 8");
  CHECK_ERROR(tiaot_call(nullptr, 0, 0, nullptr, 0, nullptr), TIAOT_ERROR_VALUE, "kernel is NULL");
  CHECK_ERROR(tiaot_call(dense, TIAOT_FORWARD, 2, nullptr, 0, nullptr), TIAOT_ERROR_VALUE,
              "dense.forward: wrt must be 0, got 0x2");
  CHECK_ERROR(tiaot_call(dense, TIAOT_VJP, 0, nullptr, 0, nullptr), TIAOT_ERROR_VALUE,
              "dense.vjp: wrt names no argument");
  CHECK_ERROR(tiaot_call(dense, TIAOT_JACOBIAN, 8, nullptr, 0, nullptr), TIAOT_ERROR_VALUE,
              "dense.jacobian: wrt has bit 3 set, but the kernel has 3 inputs");
  CHECK_ERROR(tiaot_call(pick, TIAOT_VJP, 3, nullptr, 0, nullptr), TIAOT_ERROR_VALUE,
              "pick.vjp: argument 'k': is not differentiable");
}

TEST(missing_entry) {
  Array<float> x({5, 3}), y({5}), z({5, 3}), gx({5, 3});
  Array<int32_t> k({5});
  const DLTensor arrays[] = {x, k, y, z, gx};
  CHECK_ERROR(tiaot_call(pick, TIAOT_VJP, 1, arrays, 5, nullptr), TIAOT_ERROR_UNSUPPORTED,
              "pick.vjp: variant 'n3' has no vjp with respect to (x); it has forward");
}

TEST(options) {
  Call call;
  call.options.struct_size = 0;
  CHECK_ERROR(call.run(), TIAOT_ERROR_VALUE, "dense.vjp: options: expected struct_size 40, got 0");
  call.options = TIAOT_OPTIONS_INIT;
  for (int32_t threads : {-1, 257}) {
    call.options.num_threads = threads;
    CHECK_ERROR(call.run(), TIAOT_ERROR_VALUE,
                "dense.vjp: num_threads: expected 1 to 256, or 0 for the default, got " + std::to_string(threads));
  }
  call.options = TIAOT_OPTIONS_INIT;
  const tiaot_executor executor{nullptr, nullptr};
  call.options.executor = &executor;
  CHECK_ERROR(call.run(), TIAOT_ERROR_VALUE, "dense.vjp: the executor's parallel_for is NULL");
}

TEST(nothing_is_written_on_failure) {
  Call call;
  const std::vector<float> before = call.gx.values();
  call.reshape(3, {3, 4});
  CHECK(call.run() != TIAOT_OK);
  CHECK(call.gx.values() == before);
}

TEST(results) {
  Array<float> x({2, 8}), W({3, 8}), b({3}), v({2, 3});
  const DLTensor arrays[] = {x, W, b, v};
  DLTensor results[3];
  int64_t shapes[16];
  int32_t count = 0;
  CHECK_OK(tiaot_results(dense, TIAOT_FORWARD, 0, arrays, 3, nullptr, results, 3, shapes, 16, &count));
  CHECK_EQ(count, 1);
  CHECK(results[0].ndim == 2 && results[0].shape[0] == 2 && results[0].shape[1] == 3);
  CHECK(results[0].dtype.code == 2 && results[0].dtype.bits == 32 && results[0].dtype.lanes == 1);
  CHECK_OK(tiaot_results(dense, TIAOT_VJP, 6, arrays, 4, nullptr, results, 3, shapes, 16, &count));
  CHECK_EQ(count, 2);
  CHECK(results[0].ndim == 2 && results[0].shape[0] == 3 && results[0].shape[1] == 8);
  CHECK(results[1].ndim == 1 && results[1].shape[0] == 3);
  CHECK_OK(tiaot_results(dense, TIAOT_JACOBIAN, 2, arrays, 3, nullptr, results, 3, shapes, 16, &count));
  CHECK_EQ(count, 1);
  CHECK(results[0].ndim == 4 && results[0].shape[0] == 2 && results[0].shape[1] == 3 && results[0].shape[2] == 3 &&
        results[0].shape[3] == 8);
  CHECK_ERROR(tiaot_results(dense, TIAOT_VJP, 6, arrays, 3, nullptr, results, 3, shapes, 16, &count), TIAOT_ERROR_VALUE,
              "dense.vjp: expected 4 arrays (argument 'x', argument 'W', argument 'b', cotangent of 'y'), got 3");
  CHECK_ERROR(tiaot_results(dense, TIAOT_VJP, 6, arrays, 4, nullptr, results, 1, shapes, 16, &count), TIAOT_ERROR_VALUE,
              "dense.vjp: capacity: expected at least 2, got 1");
  CHECK_ERROR(tiaot_results(dense, TIAOT_VJP, 6, arrays, 4, nullptr, results, 2, shapes, 2, &count), TIAOT_ERROR_VALUE,
              "dense.vjp: shape_capacity is too small");
}

TEST(result_whose_size_nothing_tells) {
  const tiaot_kernel *count_kernel = find_kernel(module, "count");
  Array<float> w({3});
  DLTensor half = w.tensor();
  half.dtype.bits = 16;
  DLTensor result;
  int64_t shape[2];
  int32_t count = 0;
  CHECK_ERROR(tiaot_results(count_kernel, TIAOT_FORWARD, 0, &half, 1, nullptr, &result, 1, shape, 2, &count),
              TIAOT_ERROR_VALUE, "count.forward: the size of 'B' does not follow from the inputs: pass the results");
}

TEST(work) {
  Array<float> x({1000, 8}), W({4, 8}), b({4}), v({1000, 4}), gx({1000, 8}), J({1000, 4, 8});
  const DLTensor vjp[] = {x, W, b, v, gx};
  CHECK_EQ(tiaot_work(dense, TIAOT_VJP, 1, vjp, 5), 1000 * (8 + 32 + 4 + 4 + 8));
  const DLTensor jacobian[] = {x, W, b, J};
  CHECK_EQ(tiaot_work(dense, TIAOT_JACOBIAN, 1, jacobian, 4), 1000 * 4 * (8 + 32 + 4 + 8));
  CHECK_EQ(tiaot_work(dense, TIAOT_VJP, 1, vjp, 0), 0);
  int64_t shape[2] = {int64_t{1} << 62, int64_t{1} << 62};
  DLTensor huge = x.tensor();
  huge.shape = shape;
  CHECK_EQ(tiaot_work(dense, TIAOT_VJP, 1, &huge, 1), INT64_MAX);
  Array<double> a({3});
  const DLTensor one[] = {a};
  CHECK_EQ(tiaot_work(square, TIAOT_FORWARD, 0, one, 1), 3);
}
