/* layer.c: opens a module in C and calls a kernel of it: y = tanh(W x + b), and the gradient of x.
 *
 *   cc layer.c $(tiaot config --cflags --libs) -o layer
 *   ./layer .../tiaot/modules/dense_tanh.tiaot.so
 */
#include <stdio.h>
#include <tiaot/tiaot.h>

/* A dense array of float32 of up to two dimensions. */
static DLTensor tensor(float *data, int64_t *shape, int32_t rank) {
  DLTensor result = {data, {kDLCPU, 0}, rank, {kDLFloat, 32, 1}, shape, NULL, 0};
  return result;
}

static int failed(const char *what) {
  fprintf(stderr, "%s: %s\n", what, tiaot_last_error());
  return 1;
}

int main(int count, char **arguments) {
  if (count != 2) {
    fprintf(stderr, "usage: layer MODULE\n");
    return 2;
  }
  tiaot_module *module = NULL;
  const tiaot_kernel *layer = NULL;
  if (tiaot_module_open(arguments[1], &module)) return failed("open");
  if (tiaot_module_kernel(module, "dense_tanh", &layer)) return failed("kernel");

  int64_t x_shape[] = {2, 3}, W_shape[] = {2, 3}, b_shape[] = {2}, y_shape[] = {2, 2};
  float x[] = {0, 1, 2, 3, 4, 5}, W[] = {0.5f, 0, -0.25f, 0, 0.125f, 0}, b[] = {0.25f, -0.5f};
  float y[4], v[] = {1, 0, 0, 1}, gx[6];
  const DLTensor forward[] = {tensor(x, x_shape, 2), tensor(W, W_shape, 2), tensor(b, b_shape, 1),
                              tensor(y, y_shape, 2)};
  if (tiaot_call(layer, TIAOT_FORWARD, 0, forward, 4, NULL)) return failed("forward");
  const DLTensor vjp[] = {forward[0], forward[1], forward[2], tensor(v, y_shape, 2), tensor(gx, x_shape, 2)};
  if (tiaot_call(layer, TIAOT_VJP, 1u << 0, vjp, 5, NULL)) return failed("vjp");

  printf("y  %.6f %.6f %.6f %.6f\n", y[0], y[1], y[2], y[3]);
  printf("gx %.6f %.6f %.6f %.6f %.6f %.6f\n", gx[0], gx[1], gx[2], gx[3], gx[4], gx[5]);
  tiaot_module_close(module);
  return 0;
}
