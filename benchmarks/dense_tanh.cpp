// dense_tanh.cpp: the vjp of tanh(x W^T + b) as one would write it by hand in C++ for the machine at hand. The
// benchmark's practical limit. It knows nothing about Python and nothing about tiaot.
//
// The derivative 1 - tanh(z)^2 is 4 e / (1 + e)^2 with e = exp(-2 |z|): one exponential, one division, no cancellation.
// 8 x 4 layers run with the batch along the vector lanes; others as matrix products in register tiles, or row by row
// when there are few samples.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>
#include <vector>

#include <omp.h>

namespace {

#if defined(__AVX512F__)
constexpr int kWideBytes = 64, kTileRows = 12;
#elif defined(__AVX2__)
constexpr int kWideBytes = 32, kTileRows = 6;
#else
constexpr int kWideBytes = 16, kTileRows = 6;
#endif
constexpr int kLaneBytes =
    kWideBytes < 32 ? kWideBytes : 32;      // for the batch along the lanes: 8 x 8 transposes of float
constexpr int64_t kBlockRows = 48;          // a multiple of kTileRows; a block and its scratch stay in L2
constexpr int64_t kParallelWork = 1 << 16;  // multiply-adds below which a second thread costs more than it saves

constexpr double factorial(int i) { return i < 2 ? 1.0 : i * factorial(i - 1); }

template <typename T, int kBytes>
struct Simd {
  typedef T Vec __attribute__((vector_size(kBytes)));
  using Int = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
  typedef Int IntVec __attribute__((vector_size(kBytes)));
  static constexpr int kLanes = kBytes / sizeof(T);

  static Vec load(const T *p) {
    Vec v;
    std::memcpy(&v, p, sizeof v);
    return v;
  }
  static void store(T *p, Vec v) { std::memcpy(p, &v, sizeof v); }
  static Vec broadcast(T value) { return value - Vec{}; }

  // exp(-2 |z|): 2^k times the Taylor polynomial on |r| <= ln(2) / 2, cut where its next term is below half an ulp.
  static Vec exp_minus_twice_abs(Vec z) {
    constexpr int kDegree = sizeof(T) == 4 ? 7 : 13;
    constexpr T kMagic =
        sizeof(T) == 4 ? T(12582912.0) : T(6755399441055744.0);  // 1.5 * 2^23 (2^52): rounds to an integer
    constexpr T kLimit = sizeof(T) == 4 ? T(-87) : T(-708);      // the result stays a normal number
    constexpr int kMantissa = sizeof(T) == 4 ? 23 : 52;
    constexpr T kLn2High = sizeof(T) == 4 ? T(0.693145751953125) : T(6.93147180369123816490e-01);
    constexpr T kLn2Low = sizeof(T) == 4 ? T(1.42860682030941723212e-6) : T(1.90821492927058770002e-10);
    Vec a = -2 * (z < 0 ? -z : z);
    a = a < kLimit ? broadcast(kLimit) : a;
    const Vec shifted = a * T(1.44269504088896340736) + kMagic;
    const Vec k = shifted - kMagic;
    const Vec r = (a - k * kLn2High) - k * kLn2Low;
    Vec p = broadcast(T(1 / factorial(kDegree)));
#pragma GCC unroll 16
    for (int i = kDegree - 1; i >= 0; --i) p = p * r + T(1 / factorial(i));
    IntVec bits, exponent;
    std::memcpy(&bits, &p, sizeof bits);
    std::memcpy(&exponent, &shifted, sizeof exponent);
    bits += exponent << kMantissa;  // the low bits of `shifted` are k
    std::memcpy(&p, &bits, sizeof bits);
    return p;
  }
  static Vec tanh_derivative(Vec z) {
    const Vec e = exp_minus_twice_abs(z), one_plus_e = 1 + e;
    return 4 * e / (one_plus_e * one_plus_e);
  }
};

// ---- the batch along the lanes, n and m fixed ----------------------------------------------------------------------

template <typename T>
struct Lanes : Simd<T, kLaneBytes> {
  using Base = Simd<T, kLaneBytes>;
  using Vec = typename Base::Vec;
  static constexpr int kLanes = Base::kLanes;

  // Exchanges bit log2(kBit) of the row number with that of the lane number, for two rows.
  template <int kBit, int... kLane>
  static void exchange(Vec &low, Vec &high, std::integer_sequence<int, kLane...>) {
    const Vec a = low, b = high;
    low = __builtin_shufflevector(a, b, (kLane & kBit ? kLanes + kLane - kBit : kLane)...);
    high = __builtin_shufflevector(a, b, (kLane & kBit ? kLanes + kLane : kLane + kBit)...);
  }
  template <int kBit = 1>
  static void transpose(Vec *rows) {
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i)
      if (!(i & kBit)) exchange<kBit>(rows[i], rows[i + kBit], std::make_integer_sequence<int, kLanes>{});
    if constexpr (kBit * 2 < kLanes) transpose<kBit * 2>(rows);
  }
  // A row shorter than a vector: its numbers in the first lanes. (Copied through memory, it would stall on the store.)
  template <int kWidth, int... kLane>
  static Vec load_row(const T *p, std::integer_sequence<int, kLane...>) {
    typename Simd<T, kWidth * sizeof(T)>::Vec row;
    std::memcpy(&row, p, sizeof row);
    return __builtin_shufflevector(row, row, (kLane % kWidth)...);
  }
  // Reads `count` <= kLanes rows of `columns` numbers into one vector a column, and the other way round.
  template <int columns, bool full>
  static void load_columns(const T *p, int count, Vec *out) {
#pragma GCC unroll 8
    for (int first = 0; first < columns; first += kLanes) {
      constexpr int kWidth = columns < kLanes ? columns : kLanes;
      static_assert(columns % kWidth == 0);
      Vec rows[kLanes];
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) {
        rows[i] = Vec{};
        if (full || i < count)
          rows[i] = load_row<kWidth>(p + i * columns + first, std::make_integer_sequence<int, kLanes>{});
      }
      transpose(rows);
#pragma GCC unroll 16
      for (int k = 0; k < kWidth; ++k) out[first + k] = rows[k];
    }
  }
  template <int columns, bool full>
  static void store_columns(T *p, int count, const Vec *in) {
#pragma GCC unroll 8
    for (int first = 0; first < columns; first += kLanes) {
      constexpr int kWidth = columns < kLanes ? columns : kLanes;
      Vec rows[kLanes] = {};
#pragma GCC unroll 16
      for (int k = 0; k < kWidth; ++k) rows[k] = in[first + k];
      transpose(rows);
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i)
        if (full || i < count) std::memcpy(p + i * columns + first, &rows[i], kWidth * sizeof(T));
    }
  }

  template <int n, int m, bool parameters, bool full>
  static inline void samples(int count, const T *x, const T *W, const T *b, const T *v, T *gx, Vec *sums) {
    Vec xs[n], g[m], gxs[n] = {};
    load_columns<n, full>(x, count, xs);
    load_columns<m, full>(v, count, g);
#pragma GCC unroll 16
    for (int j = 0; j < m; ++j) {
      Vec z = Base::broadcast(b[j]);
#pragma GCC unroll 16
      for (int k = 0; k < n; ++k) z += W[j * n + k] * xs[k];
      g[j] *= Base::tanh_derivative(z);
#pragma GCC unroll 16
      for (int k = 0; k < n; ++k) gxs[k] += W[j * n + k] * g[j];
      if (parameters) {
#pragma GCC unroll 16
        for (int k = 0; k < n; ++k) sums[j * n + k] += g[j] * xs[k];
        sums[m * n + j] += g[j];
      }
    }
    store_columns<n, full>(gx, count, gxs);
  }

  // gW and gb may be null; they are overwritten.
  template <int n, int m, bool parameters>
  static void run(int64_t B, const T *x, const T *W, const T *b, const T *v, T *gx, T *gW, T *gb) {
    Vec sums[parameters ? m * n + m : 1] = {};
    int64_t i = 0;
    for (; i + kLanes <= B; i += kLanes)
      samples<n, m, parameters, true>(kLanes, x + i * n, W, b, v + i * m, gx + i * n, sums);
    if (i < B) samples<n, m, parameters, false>(int(B - i), x + i * n, W, b, v + i * m, gx + i * n, sums);
    if (!parameters) return;
    for (int q = 0; q < m * n + m; ++q) {
      T total = 0;
      for (int lane = 0; lane < kLanes; ++lane) total += sums[q][lane];
      (q < m * n ? gW[q] : gb[q - m * n]) = total;
    }
  }
};

// ---- any n and m: matrix products in register tiles -----------------------------------------------------------------

template <typename T>
struct Tiles : Simd<T, kWideBytes> {
  using Base = Simd<T, kWideBytes>;
  using Vec = typename Base::Vec;
  static constexpr int kLanes = Base::kLanes, kColumns = 2 * kLanes;
  static int64_t padded(int64_t size) { return (size + kColumns - 1) / kColumns * kColumns; }

  // tile[r, :] = sum over k of a[r * row_step + k * sum_step] * B[k, :], for kRows rows and kColumns columns.
  template <int kRows>
  static inline void product(int64_t length, const T *a, int64_t row_step, int64_t sum_step, const T *B, int64_t B_step,
                             T *tile) {
    Vec sums[kRows][2] = {};
    for (int64_t k = 0; k < length; ++k) {
      const Vec b0 = Base::load(B + k * B_step), b1 = Base::load(B + k * B_step + kLanes);
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
        const T value = a[r * row_step + k * sum_step];
        sums[r][0] += value * b0;
        sums[r][1] += value * b1;
      }
    }
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r)
      for (int c = 0; c < 2; ++c) Base::store(tile + r * kColumns + c * kLanes, sums[r][c]);
  }
  // The same for any number of rows up to kTileRows.
  template <int kRows = kTileRows>
  static void product_rows(int64_t rows, int64_t length, const T *a, int64_t row_step, int64_t sum_step, const T *B,
                           int64_t B_step, T *tile) {
    if (rows == kRows) return product<kRows>(length, a, row_step, sum_step, B, B_step, tile);
    if constexpr (kRows > 1) product_rows<kRows - 1>(rows, length, a, row_step, sum_step, B, B_step, tile);
  }

  // Panels of kColumns columns, each dense, so that a product walks memory in one line. Padding is zero.
  static std::vector<T> pack(const T *matrix, int64_t rows, int64_t columns, int64_t row_step, int64_t column_step) {
    std::vector<T> panels(size_t(rows * padded(columns)));
    for (int64_t c = 0; c < columns; ++c)
      for (int64_t r = 0; r < rows; ++r)
        panels[size_t((c / kColumns * rows + r) * kColumns + c % kColumns)] = matrix[r * row_step + c * column_step];
    return panels;
  }

  struct Scratch {
    std::vector<T> g, x, bias;
  };

  // One block of at most kBlockRows samples. gW (m, padded(n)) and gb (m) are added to; both null when not wanted.
  static void block(int64_t rows, int64_t n, int64_t m, const T *x, const T *W_panels, const T *Wt_panels, const T *v,
                    T *gx, T *gW, T *gb, Scratch &scratch) {
    const int64_t g_step = padded(m) + kLanes;  // off the power of two that would put all rows into one cache set
    T *g = scratch.g.data();
    alignas(64) T tile[kTileRows * kColumns];
    for (int64_t j = 0; j < m; j += kColumns) {
      const int64_t width = std::min<int64_t>(kColumns, m - j);
      for (int64_t i = 0; i < rows; i += kTileRows) {
        const int64_t count = std::min<int64_t>(kTileRows, rows - i);
        product_rows(count, n, x + i * n, n, 1, Wt_panels + j * n, kColumns, tile);
        for (int64_t r = 0; r < count; ++r) {
          T cotangent[kColumns] = {};
          std::memcpy(cotangent, v + (i + r) * m + j, size_t(width) * sizeof(T));
          for (int c = 0; c < kColumns; c += kLanes) {
            const Vec z = Base::load(tile + r * kColumns + c) + Base::load(scratch.bias.data() + j + c);
            Base::store(g + (i + r) * g_step + j + c, Base::tanh_derivative(z) * Base::load(cotangent + c));
          }
        }
      }
    }
    for (int64_t k = 0; k < n; k += kColumns) {
      const int64_t width = std::min<int64_t>(kColumns, n - k);
      for (int64_t i = 0; i < rows; i += kTileRows) {
        const int64_t count = std::min<int64_t>(kTileRows, rows - i);
        product_rows(count, m, g + i * g_step, g_step, 1, W_panels + k * m, kColumns, tile);
        for (int64_t r = 0; r < count; ++r)
          std::memcpy(gx + (i + r) * n + k, tile + r * kColumns, size_t(width) * sizeof(T));
      }
    }
    if (!gW) return;
    const int64_t x_step = padded(n);
    for (int64_t k = 0; k < n; k += kColumns) {
      for (int64_t i = 0; i < rows; ++i)
        std::memcpy(scratch.x.data() + i * kColumns, x + i * n + k,
                    size_t(std::min<int64_t>(kColumns, n - k)) * sizeof(T));
      for (int64_t j = 0; j < m; j += kTileRows) {
        const int64_t count = std::min<int64_t>(kTileRows, m - j);
        product_rows(count, rows, g + j, 1, g_step, scratch.x.data(), kColumns, tile);
        for (int64_t r = 0; r < count; ++r)
          for (int c = 0; c < kColumns; ++c) gW[(j + r) * x_step + k + c] += tile[r * kColumns + c];
      }
    }
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < m; ++j) gb[j] += g[i * g_step + j];
  }

  static void run(int64_t B, int64_t n, int64_t m, const T *x, const T *W, const T *b, const T *v, T *gx, T *gW, T *gb,
                  int threads) {
    const std::vector<T> W_panels = pack(W, m, n, n, 1), Wt_panels = pack(W, n, m, 1, n);
    const int64_t x_step = padded(n), blocks = (B + kBlockRows - 1) / kBlockRows;
    std::vector<T> sums(gW ? size_t(threads) * size_t(m * x_step + m) : 0);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
      Scratch scratch;
      scratch.g.resize(size_t(kBlockRows * (padded(m) + kLanes)));
      scratch.x.resize(size_t(kBlockRows * kColumns));
      scratch.bias.assign(size_t(padded(m)), T(0));
      std::copy(b, b + m, scratch.bias.begin());
      T *own = gW ? sums.data() + omp_get_thread_num() * (m * x_step + m) : nullptr;
#pragma omp for schedule(static)
      for (int64_t q = 0; q < blocks; ++q) {
        const int64_t i = q * kBlockRows;
        block(std::min(kBlockRows, B - i), n, m, x + i * n, W_panels.data(), Wt_panels.data(), v + i * m, gx + i * n,
              own, own ? own + m * x_step : nullptr, scratch);
      }
    }
    if (!gW) return;
    std::fill(gW, gW + m * n, T(0));
    std::fill(gb, gb + m, T(0));
    for (int t = 0; t < threads; ++t) {
      const T *own = sums.data() + t * (m * x_step + m);
      for (int64_t j = 0; j < m; ++j) {
        for (int64_t k = 0; k < n; ++k) gW[j * n + k] += own[j * x_step + k];
        gb[j] += own[m * x_step + j];
      }
    }
  }

  // Few samples: W is read in groups of rows, once from memory and a second time from the first-level cache.
  static void run_rows(int64_t B, int64_t n, int64_t m, const T *x, const T *W, const T *b, const T *v, T *gx, T *gW,
                       T *gb) {
    constexpr int kGroup = 4;
    std::fill(gx, gx + B * n, T(0));
    if (gW) std::fill(gW, gW + m * n, T(0));
    if (gb) std::fill(gb, gb + m, T(0));
    const int64_t whole = n / kLanes * kLanes;
    for (int64_t i = 0; i < B; ++i) {
      const T *xi = x + i * n;
      T *gxi = gx + i * n;
      for (int64_t first = 0; first < m; first += kGroup) {
        const int rows = int(std::min<int64_t>(kGroup, m - first));
        const T *w[kGroup];  // a row beyond the end stands for the last one, with a cotangent of zero
        Vec sums[kGroup] = {}, z = {}, cotangent = {};
        for (int r = 0; r < kGroup; ++r) w[r] = W + (first + std::min(r, rows - 1)) * n;
        for (int64_t k = 0; k < whole; k += kLanes)
          for (int r = 0; r < kGroup; ++r) sums[r] += Base::load(w[r] + k) * Base::load(xi + k);
        for (int r = 0; r < rows; ++r) {
          T total = b[first + r];
          for (int lane = 0; lane < kLanes; ++lane) total += sums[r][lane];
          for (int64_t k = whole; k < n; ++k) total += w[r][k] * xi[k];
          z[r % kLanes] = total;
          cotangent[r % kLanes] = v[i * m + first + r];
        }
        Vec g[1] = {Base::tanh_derivative(z) * cotangent};
        T scale[kGroup];
        for (int r = 0; r < kGroup; ++r) scale[r] = g[0][r % kLanes];
        for (int64_t k = 0; k < n; ++k)
          gxi[k] += scale[0] * w[0][k] + scale[1] * w[1][k] + scale[2] * w[2][k] + scale[3] * w[3][k];
        for (int r = 0; gW && r < rows; ++r) {
          for (int64_t k = 0; k < n; ++k) gW[(first + r) * n + k] += scale[r] * xi[k];
          gb[first + r] += scale[r];
        }
      }
    }
  }
};

template <typename T>
void run_lanes(int64_t B, const T *x, const T *W, const T *b, const T *v, T *gx, T *gW, T *gb, int threads) {
  constexpr int n = 8, m = 4;
  if (threads == 1)
    return gW ? Lanes<T>::template run<n, m, true>(B, x, W, b, v, gx, gW, gb)
              : Lanes<T>::template run<n, m, false>(B, x, W, b, v, gx, gW, gb);
  std::vector<T> sums(size_t(threads) * (m * n + m));
#pragma omp parallel num_threads(threads)
  {
    const int64_t t = omp_get_thread_num(), first = B * t / threads, count = B * (t + 1) / threads - first;
    T *own = sums.data() + t * (m * n + m);
    run_lanes(count, x + first * n, W, b, v + first * m, gx + first * n, gW ? own : nullptr, gW ? own + m * n : nullptr,
              1);
  }
  for (int q = 0; gW && q < m * n + m; ++q) {
    T total = 0;
    for (int t = 0; t < threads; ++t) total += sums[size_t(t * (m * n + m) + q)];
    (q < m * n ? gW[q] : gb[q - m * n]) = total;
  }
}

}  // namespace

// gx (B, n); gW (m, n) and gb (m), both null when they are not wanted.
template <typename T>
void dense_tanh_vjp(int64_t B, int64_t n, int64_t m, const T *x, const T *W, const T *b, const T *v, T *gx, T *gW,
                    T *gb, int threads) {
  if (B * n * m < kParallelWork) threads = 1;
  if (n == 8 && m == 4) return run_lanes(B, x, W, b, v, gx, gW, gb, threads);
  if (B < kTileRows) return Tiles<T>::run_rows(B, n, m, x, W, b, v, gx, gW, gb);
  Tiles<T>::run(B, n, m, x, W, b, v, gx, gW, gb, threads);
}
template void dense_tanh_vjp(int64_t, int64_t, int64_t, const float *, const float *, const float *, const float *,
                             float *, float *, float *, int);
template void dense_tanh_vjp(int64_t, int64_t, int64_t, const double *, const double *, const double *, const double *,
                             double *, double *, double *, int);
