// test_along.cpp: calls of jvp and hvp, whose arrays are more than those of a vjp, for every way of cutting the batch.
#include <string>

#include "check.hpp"
#include "toy.hpp"

namespace {

const Module module = open_toy();
const tiaot_kernel *const weigh = find_kernel(module, "weigh");

// Fills an array with whole numbers, so that every sum is exact in any order.
void fill(Array<double> &array, int64_t seed) {
  for (int64_t i = 0; i < array.size(); ++i) array.data()[i] = static_cast<double>((i * 7 + seed) % 11 - 5);
}

struct Call {
  Call(int64_t B, int64_t n)
      : B(B),
        n(n),
        x({B, n}),
        w({n}),
        v({B, n}),
        tx({B, n}),
        tw({n}),
        y({B, n}),
        ty({B, n}),
        gx({B, n}),
        gw({n}),
        hx({B, n}),
        hw({n}) {
    fill(x, 1);
    fill(w, 2);
    fill(v, 3);
    fill(tx, 4);
    fill(tw, 5);
  }
  int64_t B, n;
  Array<double> x, w, v, tx, tw, y, ty, gx, gw, hx, hw;

  bool guarded() const {
    return y.guarded() && ty.guarded() && gx.guarded() && gw.guarded() && hx.guarded() && hw.guarded();
  }
};

void check_jvp(int64_t B, int64_t n, int32_t threads) {
  Call it(B, n);
  tiaot_options options = TIAOT_OPTIONS_INIT;
  options.num_threads = threads;
  const DLTensor arrays[] = {it.x, it.w, it.tx, it.tw, it.y, it.ty};
  CHECK_OK(tiaot_call(weigh, TIAOT_JVP, 3, arrays, 6, &options));
  bool right = true;
  for (int64_t i = 0; i < B * n; ++i) {
    const double x = it.x.data()[i], w = it.w.data()[i % n];
    right = right && it.y.data()[i] == w * x * x;
    right = right && it.ty.data()[i] == 2 * w * x * it.tx.data()[i] + it.tw.data()[i % n] * x * x;
  }
  CHECK(right && it.guarded());
  const DLTensor alone[] = {it.x, it.w, it.tx, it.y, it.ty};
  CHECK_OK(tiaot_call(weigh, TIAOT_JVP, 1, alone, 5, &options));
  right = true;
  for (int64_t i = 0; i < B * n; ++i) {
    right = right && it.ty.data()[i] == 2 * it.w.data()[i % n] * it.x.data()[i] * it.tx.data()[i];
  }
  CHECK(right && it.guarded());
}

void check_hvp(int64_t B, int64_t n, int32_t threads) {
  Call it(B, n);
  tiaot_options options = TIAOT_OPTIONS_INIT;
  options.num_threads = threads;
  const DLTensor arrays[] = {it.x, it.w, it.v, it.tx, it.tw, it.gx, it.gw, it.hx, it.hw};
  CHECK_OK(tiaot_call(weigh, TIAOT_HVP, 3, arrays, 9, &options));
  std::vector<double> gw(static_cast<size_t>(n)), hw(static_cast<size_t>(n));
  bool right = true;
  for (int64_t i = 0; i < B * n; ++i) {
    const double x = it.x.data()[i], w = it.w.data()[i % n], v = it.v.data()[i], tx = it.tx.data()[i];
    right = right && it.gx.data()[i] == 2 * v * w * x;
    right = right && it.hx.data()[i] == 2 * v * (w * tx + it.tw.data()[i % n] * x);
    gw[static_cast<size_t>(i % n)] += v * x * x;
    hw[static_cast<size_t>(i % n)] += 2 * v * x * tx;
  }
  CHECK(right && it.gw.values() == gw && it.hw.values() == hw && it.guarded());
}

void check_refused(int entry, uint32_t wrt, const std::vector<DLTensor> &arrays, tiaot_status status,
                   const std::string &message) {
  CHECK_ERROR(tiaot_call(weigh, entry, wrt, arrays.data(), static_cast<int32_t>(arrays.size()), nullptr), status,
              message);
}

}  // namespace

TEST(jvp_and_hvp_for_every_cut_of_the_batch) {
  for (int64_t B : {0, 1, 2, 63, 700, 40000}) {
    for (int32_t threads : {1, 2, 3}) {
      check_jvp(B, 3, threads);
      check_hvp(B, 3, threads);
    }
  }
}

TEST(a_bound_hvp) {
  Call it(5, 2);
  const DLTensor arrays[] = {it.x, it.w, it.v, it.tx, it.tw, it.gx, it.gw, it.hx, it.hw};
  tiaot_bound *bound = nullptr;
  CHECK_OK(tiaot_bind(weigh, TIAOT_HVP, 3, arrays, 9, nullptr, &bound));
  CHECK_OK(tiaot_bound_run(bound));
  tiaot_bound_destroy(bound);
  CHECK(it.hx.data()[0] == 2 * it.v.data()[0] * (it.w.data()[0] * it.tx.data()[0] + it.tw.data()[0] * it.x.data()[0]));
}

TEST(results_follow_from_the_operands) {
  Call it(5, 2);
  const DLTensor operands[] = {it.x, it.w, it.v, it.tx, it.tw};
  DLTensor results[4];
  int64_t shapes[16];
  int32_t count = 0;
  CHECK_OK(tiaot_results(weigh, TIAOT_HVP, 3, operands, 5, nullptr, results, 4, shapes, 16, &count));
  CHECK(count == 4 && results[0].ndim == 2 && results[1].ndim == 1 && results[2].ndim == 2 && results[3].ndim == 1);
  CHECK(results[2].shape[0] == 5 && results[2].shape[1] == 2 && results[3].shape[0] == 2);
}

TEST(what_is_wrong_is_told) {
  Call it(5, 2);
  Array<double> other({5, 3});
  check_refused(TIAOT_JVP, 1, {it.x, it.w, other, it.y, it.ty}, TIAOT_ERROR_VALUE,
                "weigh.jvp: tangent of 'x': expected float64[5, 2], got float64[5, 3]");
  check_refused(TIAOT_JVP, 1, {it.x, it.w, it.tx, it.y, other}, TIAOT_ERROR_VALUE,
                "weigh.jvp: tangent of 'y': expected float64[5, 2], got float64[5, 3]");
  check_refused(TIAOT_HVP, 3, {it.x, it.w, it.v, it.tx, it.tw, it.gx, it.gw, other, it.hw}, TIAOT_ERROR_VALUE,
                "weigh.hvp: tangent of the gradient of 'x': expected float64[5, 2], got float64[5, 3]");
  check_refused(TIAOT_JVP, 1, {it.x, it.w, it.tx, it.y, it.y}, TIAOT_ERROR_VALUE,
                "weigh.jvp: tangent of 'y': overlaps output 'y'");
  check_refused(TIAOT_JVP, 1, {it.x, it.w, it.tx, it.tx, it.ty}, TIAOT_ERROR_VALUE,
                "weigh.jvp: output 'y': overlaps tangent of 'x'");
  check_refused(
      TIAOT_JVP, 2, {it.x, it.w, it.tw, it.y, it.ty}, TIAOT_ERROR_UNSUPPORTED,
      "weigh.jvp: variant 'float64' has no jvp with respect to (w); it has forward, vjp with respect to (x, w), "
      "jvp with respect to (x), jvp with respect to (x, w), hvp with respect to (x, w)");
  check_refused(
      TIAOT_HVP, 1, {it.x, it.w, it.v, it.tx, it.gx, it.hx}, TIAOT_ERROR_UNSUPPORTED,
      "weigh.hvp: variant 'float64' has no hvp with respect to (x); it has forward, vjp with respect to (x, w), "
      "jvp with respect to (x), jvp with respect to (x, w), hvp with respect to (x, w)");
  const tiaot_kernel *dense = find_kernel(module, "dense");
  CHECK_ERROR(tiaot_call(dense, TIAOT_JVP, 1, nullptr, 0, nullptr), TIAOT_ERROR_UNSUPPORTED,
              "dense.jvp: the module has no jvp of this kernel: export it with derivatives=['jvp']");
}
