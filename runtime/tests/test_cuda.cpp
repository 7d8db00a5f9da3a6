// test_cuda.cpp: calls with arrays on a CUDA device: what they compute, and what they put on which stream.
#include "toy_cuda.hpp"

CUDA_TEST(forward) {
  const Module module = open_toy_cuda();
  Scale it(5, 7);
  CHECK_OK(it.forward(module));
  CHECK(it.right());
  CHECK_EQ(toy_cuda_calls.back().on_host, 4u);
  CHECK_EQ(take_log(),
           "cuInit\n"
           "cuDevicePrimaryCtxRetain device=0\n"
           "cuCtxPushCurrent device=0\n"
           "cuModuleLoadData device=0 module=1\n"
           "cuLaunchKernel device=0 stream=0x0 kernel=scale grid=1 block=128\n"
           "cuCtxPopCurrent device=0\n");
  CHECK_EQ(standin.current(), -1);
}
