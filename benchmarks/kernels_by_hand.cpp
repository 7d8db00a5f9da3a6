// kernels_by_hand.cpp: the kernels of kernels_program.py and their gradients as one would write them in C++, for
// kernels.py. Each function gets the rows and columns of the first array, arrays in the order of the call, and how many
// threads it may use. Knows nothing of tiaot.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#define FOR_ROWS _Pragma("omp parallel for simd num_threads(threads) if (threads > 1)")

extern "C" {

void damp(int64_t n, int64_t, float **arrays, int threads) {
  const float *__restrict x = arrays[0];
  float *__restrict y = arrays[1];
  FOR_ROWS
  for (int64_t i = 0; i < n; ++i) y[i] = std::exp(-x[i]) * std::sin(x[i]);
}

// cos x - sin x = sqrt 2 cos(x + pi/4): with both, GCC would call a function for the two that takes one number.
void damp_vjp(int64_t n, int64_t, float **arrays, int threads) {
  const float *__restrict x = arrays[0], *__restrict g = arrays[1];
  float *__restrict gx = arrays[2];
  FOR_ROWS
  for (int64_t i = 0; i < n; ++i) gx[i] = g[i] * std::exp(-x[i]) * 1.41421356f * std::cos(x[i] + 0.785398163f);
}

void power(int64_t n, int64_t, float **arrays, int threads) {
  const float *__restrict x = arrays[0];
  const float p = arrays[1][0];
  float *__restrict y = arrays[2];
  FOR_ROWS
  for (int64_t i = 0; i < n; ++i) y[i] = std::pow(1 + x[i] * x[i], p);
}

void power_vjp(int64_t n, int64_t, float **arrays, int threads) {
  const float *__restrict x = arrays[0], *__restrict g = arrays[2];
  const float p = arrays[1][0];
  float *__restrict gx = arrays[3];
  FOR_ROWS
  for (int64_t i = 0; i < n; ++i) gx[i] = g[i] * p * std::pow(1 + x[i] * x[i], p - 1) * 2 * x[i];
}

void blend(int64_t rows, int64_t columns, float **arrays, int threads) {
  const float *__restrict x = arrays[0];
  float *__restrict y = arrays[1];
  FOR_ROWS
  for (int64_t i = 0; i < rows * columns; ++i) y[i] = x[i] * (1 - x[i]);
}

void blend_vjp(int64_t rows, int64_t columns, float **arrays, int threads) {
  const float *__restrict x = arrays[0], *__restrict g = arrays[1];
  float *__restrict gx = arrays[2];
  FOR_ROWS
  for (int64_t i = 0; i < rows * columns; ++i) gx[i] = g[i] * (1 - 2 * x[i]);
}

void diffuse(int64_t rows, int64_t columns, float **arrays, int threads) {
  const float *__restrict u = arrays[0];
  float *__restrict v = arrays[1];
#pragma omp parallel for num_threads(threads) if (threads > 1)
  for (int64_t i = 0; i < rows; ++i) {
    float *row = v + i * columns;
    if (i == 0 || i == rows - 1) {
      std::memset(row, 0, size_t(columns) * sizeof(float));
      continue;
    }
    const float *at = u + i * columns, *above = at - columns, *below = at + columns;
    row[0] = row[columns - 1] = 0;
    for (int64_t j = 1; j < columns - 1; ++j)
      row[j] = at[j] + 0.1f * (above[j] + below[j] + at[j - 1] + at[j + 1] - 4 * at[j]);
  }
}

// Each row of the gradient from the three rows of cotangents around it, of which the outermost numbers do not count.
void diffuse_vjp(int64_t rows, int64_t columns, float **arrays, int threads) {
  const float *__restrict g = arrays[1];
  float *__restrict gu = arrays[2];
#pragma omp parallel for num_threads(threads) if (threads > 1)
  for (int64_t i = 0; i < rows; ++i) {
    float *row = gu + i * columns;
    std::memset(row, 0, size_t(columns) * sizeof(float));
    for (int64_t other = std::max<int64_t>(i - 1, 1); other <= std::min(i + 1, rows - 2); ++other) {
      const float *from = g + other * columns;
      if (other != i) {
        for (int64_t j = 1; j < columns - 1; ++j) row[j] += 0.1f * from[j];
        continue;
      }
      for (int64_t j = 1; j < columns - 1; ++j) row[j] += 0.6f * from[j];
      for (int64_t j = 1; j < columns - 1; ++j) row[j - 1] += 0.1f * from[j];
      for (int64_t j = 1; j < columns - 1; ++j) row[j + 1] += 0.1f * from[j];
    }
  }
}

void cross(int64_t n, int64_t, float **arrays, int threads) {
  const float *__restrict a = arrays[0], *__restrict b = arrays[1];
  float *__restrict c = arrays[2];
  FOR_ROWS
  for (int64_t i = 0; i < n; ++i) {
    const float *p = a + 3 * i, *q = b + 3 * i;
    c[3 * i] = p[1] * q[2] - p[2] * q[1] + 0.5f * p[0];
    c[3 * i + 1] = p[2] * q[0] - p[0] * q[2] + 0.5f * p[1];
    c[3 * i + 2] = p[0] * q[1] - p[1] * q[0] + 0.5f * p[2];
  }
}

void cross_vjp(int64_t n, int64_t, float **arrays, int threads) {
  const float *__restrict a = arrays[0], *__restrict b = arrays[1], *__restrict g = arrays[2];
  float *__restrict ga = arrays[3], *__restrict gb = arrays[4];
  FOR_ROWS
  for (int64_t i = 0; i < n; ++i) {
    const float *p = a + 3 * i, *q = b + 3 * i, *r = g + 3 * i;
    ga[3 * i] = q[1] * r[2] - q[2] * r[1] + 0.5f * r[0];
    ga[3 * i + 1] = q[2] * r[0] - q[0] * r[2] + 0.5f * r[1];
    ga[3 * i + 2] = q[0] * r[1] - q[1] * r[0] + 0.5f * r[2];
    gb[3 * i] = r[1] * p[2] - r[2] * p[1];
    gb[3 * i + 1] = r[2] * p[0] - r[0] * p[2];
    gb[3 * i + 2] = r[0] * p[1] - r[1] * p[0];
  }
}

// A row is added up in its order, as the kernel is.
__attribute__((optimize("no-associative-math"))) void product(int64_t rows, int64_t columns, float **arrays,
                                                              int threads) {
  const float *__restrict A = arrays[0], *__restrict x = arrays[1];
  float *__restrict y = arrays[2];
#pragma omp parallel for num_threads(threads) if (threads > 1)
  for (int64_t i = 0; i < rows; ++i) {
    float total = 0;
    for (int64_t k = 0; k < columns; ++k) total += A[i * columns + k] * x[k];
    y[i] = total;
  }
}

void squares(int64_t n, int64_t, float **arrays, int threads) {
  const float *__restrict x = arrays[0];
  float total = 0;
#pragma omp parallel for simd num_threads(threads) if (threads > 1) reduction(+ : total)
  for (int64_t i = 0; i < n; ++i) total += x[i] * x[i];
  arrays[1][0] = total;
}

void squares_vjp(int64_t n, int64_t, float **arrays, int threads) {
  const float *__restrict x = arrays[0];
  const float g = arrays[1][0];
  float *__restrict gx = arrays[2];
  FOR_ROWS
  for (int64_t i = 0; i < n; ++i) gx[i] = 2 * g * x[i];
}

void largest(int64_t n, int64_t, float **arrays, int threads) {
  const float *__restrict x = arrays[0];
  float most = 0;
#pragma omp parallel for simd num_threads(threads) if (threads > 1) reduction(max : most)
  for (int64_t i = 0; i < n; ++i) most = std::max(most, x[i]);
  arrays[1][0] = most;
}

}  // extern "C"
