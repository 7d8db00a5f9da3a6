// model.cpp: runs a package that AOTInductor made, and the gradient of a kernel, where there is no Python.
//
//   model MODEL.pt2 OPERATOR
//
// MODEL.pt2 is what torch._inductor.aoti_compile_and_package wrote of a model of one input x[2, 8], OPERATOR the name
// of dense_tanh's operator, tiaot::dense_tanh_HASH. Both are in the library that this program is linked with.
#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

#include <cstdio>
#include <exception>

namespace {

void print(const char *name, const at::Tensor &tensor) {
  const at::Tensor dense = tensor.detach().contiguous();
  std::printf("%s", name);
  for (int64_t i = 0; i < dense.numel(); ++i) std::printf(" %.6f", dense.const_data_ptr<float>()[i]);
  std::printf("\n");
}

}  // namespace

int main(int count, char **arguments) try {
  if (count != 3) {
    std::fprintf(stderr, "usage: model MODEL.pt2 OPERATOR\n");
    return 2;
  }
  const at::Tensor x = at::linspace(0, 1, 16).reshape({2, 8});
  torch::inductor::AOTIModelPackageLoader model(arguments[1]);
  print("model", model.run({x}).front());

  // y = tanh(W x + b), and the gradient of the sum of its squares.
  const auto dense_tanh = c10::Dispatcher::singleton()
                              .findSchemaOrThrow(arguments[2], "")
                              .typed<at::Tensor(const at::Tensor &, const at::Tensor &, const at::Tensor &)>();
  const at::Tensor W = at::full({4, 8}, 0.125f).requires_grad_(), b = at::full({4}, -0.25f).requires_grad_();
  const at::Tensor y = dense_tanh.call(x, W, b);
  print("y", y);
  const auto gradients = torch::autograd::grad({y.square().sum()}, {W, b});
  print("gW", gradients[0]);
  print("gb", gradients[1]);
  return 0;
} catch (const std::exception &error) {
  std::fprintf(stderr, "model: %s\n", error.what());
  return 1;
}
