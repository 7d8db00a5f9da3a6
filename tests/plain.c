/* plain.c: calls the shipped module's plain C functions, with nothing of tiaot's but the module and its header. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "dense_tanh.h"

/* What the layer's vjp is, element by element, in double. */
static void reference(int64_t B, int64_t n, int64_t m, const float *x, const float *W, const float *b, const float *v,
                      double *gx, double *gW, double *gb) {
  for (int64_t i = 0; i < B * n; i++) gx[i] = 0;
  for (int64_t i = 0; i < m * n; i++) gW[i] = 0;
  for (int64_t j = 0; j < m; j++) gb[j] = 0;
  for (int64_t i = 0; i < B; i++) {
    for (int64_t j = 0; j < m; j++) {
      double z = b[j];
      for (int64_t k = 0; k < n; k++) z += (double)W[j * n + k] * x[i * n + k];
      double y = tanh(z), d = (1 - y * y) * v[i * m + j];
      gb[j] += d;
      for (int64_t k = 0; k < n; k++) {
        gx[i * n + k] += d * W[j * n + k];
        gW[j * n + k] += d * x[i * n + k];
      }
    }
  }
}

static float *draw(int64_t count) {
  float *values = malloc((size_t)(count + 1) * sizeof(float));
  for (int64_t i = 0; i < count; i++) values[i] = (float)rand() / (float)RAND_MAX - 0.5f;
  return values;
}

static double worst(const float *a, const double *b, int64_t count) {
  double error = 0;
  for (int64_t i = 0; i < count; i++) error = fmax(error, fabs(a[i] - b[i]));
  return error;
}

int main(void) {
  const int64_t sizes[][3] = {{0, 8, 4}, {2, 8, 4}, {301, 8, 4}, {3, 5, 7}, {600, 33, 31}};
  for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
    const int64_t B = sizes[s][0], n = sizes[s][1], m = sizes[s][2];
    float *x = draw(B * n), *W = draw(m * n), *b = draw(m), *v = draw(B * m);
    float *gx = draw(B * n), *gW = draw(m * n), *gb = draw(m), *gx2 = draw(B * n);
    double *rx = malloc((size_t)(B * n + 1) * 8), *rW = malloc((size_t)(m * n) * 8), *rb = malloc((size_t)m * 8);
    reference(B, n, m, x, W, b, v, rx, rW, rb);
    if (dense_tanh_vjp_x_W_b_float32(B, n, m, x, W, b, v, gx, gW, gb)) return 1;
    if (dense_tanh_vjp_x_float32(B, n, m, x, W, b, v, gx2)) return 1;
    /* Values below 1/2: n or m products of at most 1/4 to x, B of at most 1/4 to W; eps 1.2e-7. */
    const double bound = 1.2e-7 * (double)(B + n + m) * 2;
    const double errors[] = {worst(gx, rx, B * n), worst(gx2, rx, B * n), worst(gW, rW, m * n), worst(gb, rb, m)};
    for (int e = 0; e < 4; e++) {
      printf("(%d, %d, %d) error %d: %.2e, bound %.2e\n", (int)B, (int)n, (int)m, e, errors[e], bound);
      if (!(errors[e] <= bound)) return 1;
    }
    float *const all[] = {x, W, b, v, gx, gW, gb, gx2};
    for (int a = 0; a < 8; a++) free(all[a]);
    free(rx), free(rW), free(rb);
  }
  return 0;
}
