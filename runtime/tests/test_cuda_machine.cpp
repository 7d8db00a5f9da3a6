// test_cuda_machine.cpp: the driver, the devices and the images of a module: what is loaded, what is chosen, what goes
// wrong, and what a forked process may do.
#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <thread>

#include "toy_cuda.hpp"

namespace {

size_t count_of(const std::string &text, const std::string &part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

// Architecture and kind of the image that a device of this capability runs; "" when the module has none.
std::string image_text(const Module &module) {
  const tiaot_cuda_image_desc *image = nullptr;
  if (tiaot_module_cuda_image(module.get(), 0, &image) != TIAOT_OK) return "";
  return std::to_string(image->architecture) + (image->kind == TIAOT_CUDA_PTX ? " PTX" : "");
}

void check_image(int32_t capability, const char *expected) {
  standin.set_device(capability, 2, 1);
  const Module module = open_toy_cuda();
  CHECK_EQ(image_text(module), expected);
  Scale it(5, 7);
  CHECK_EQ(it.forward(module), *expected != '\0' ? TIAOT_OK : TIAOT_ERROR_UNSUPPORTED);
  CHECK_EQ(image_text(module), expected);
}

void in_a_fork(void (*body)()) {
  const pid_t child = fork();
  if (child == 0) {
    check::failures() = 0;
    body();
    _exit(check::failures() == 0 ? 0 : 1);
  }
  int state = 0;
  CHECK_EQ(waitpid(child, &state, 0), child);
  CHECK_EQ(state, 0);
}

const Module *forked_module = nullptr;

}  // namespace

TEST(no_driver) {
  in_child(nullptr, [] {
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (library != nullptr) return std::puts("       (this machine has a driver)"), void();
    const Module module = open_toy_cuda();
    Scale it(5, 7);
    const std::string reason =
        "there is no CUDA driver: libcuda.so.1: cannot open shared object file: No such file or directory";
    for (int i = 0; i < 2; ++i) CHECK_ERROR(it.forward(module), TIAOT_ERROR_DEVICE, "scale.forward: " + reason);
    int32_t count = -1;
    CHECK_ERROR(tiaot_cuda_device_count(&count), TIAOT_ERROR_DEVICE, "tiaot_cuda_device_count: " + reason);
    CHECK_EQ(count, -1);
    CHECK_ERROR(tiaot_cuda_order(0, nullptr, nullptr), TIAOT_ERROR_DEVICE, "tiaot_cuda_order: " + reason);
  });
}

CUDA_TEST(no_device) {
  standin.set_device_count(0);
  int32_t count = -1;
  CHECK_OK(tiaot_cuda_device_count(&count));
  CHECK_EQ(count, 0);
  const Module module = open_toy_cuda();
  Scale it(5, 7);
  CHECK_ERROR(it.forward(module), TIAOT_ERROR_DEVICE,
              "scale.forward: there is no device cuda:0: the driver has 0 devices");
}

CUDA_TEST(devices_are_counted) {
  standin.set_device_count(1);
  int32_t count = -1;
  CHECK_OK(tiaot_cuda_device_count(&count));
  CHECK_EQ(count, 1);
  CHECK_ERROR(tiaot_cuda_device_count(nullptr), TIAOT_ERROR_VALUE, "tiaot_cuda_device_count: count is NULL");
  const Module module = open_toy_cuda();
  Scale it(5, 7);
  it.device = 1;
  CHECK_ERROR(it.forward(module), TIAOT_ERROR_DEVICE,
              "scale.forward: there is no device cuda:1: the driver has 1 device");
  const tiaot_cuda_image_desc *image = nullptr;
  CHECK_ERROR(tiaot_module_cuda_image(module.get(), -1, &image), TIAOT_ERROR_DEVICE,
              "tiaot_module_cuda_image: there is no device cuda:-1: the driver has 1 device");
}

CUDA_TEST(a_driver_that_cannot_start) {
  standin.fail("cuInit", 802, 0, 1);
  const Module module = open_toy_cuda();
  Scale it(5, 7);
  CHECK_ERROR(it.forward(module), TIAOT_ERROR_DEVICE,
              "scale.forward: cannot initialise CUDA: cuInit: CUDA_ERROR_SYSTEM_NOT_READY (as the stand-in says)");
  standin.fail("cuInit", 3, 0, 1);
  CHECK_ERROR(it.forward(module), TIAOT_ERROR_DEVICE,
              "scale.forward: cuInit: CUDA_ERROR_NOT_INITIALIZED (as the stand-in says): if CUDA was used before this "
              "process was forked, start processes with spawn");
  CHECK_OK(it.forward(module));
}

CUDA_TEST(the_nearest_cubin) { check_image(90, "90"); }
CUDA_TEST(a_later_minor) { check_image(89, "86"); }
CUDA_TEST(an_earlier_minor) { check_image(81, "80"); }
CUDA_TEST(ptx_only_when_allowed) {
  check_image(100, "");
  const Module module = open_toy_cuda();
  Scale it(5, 7);
  CHECK_ERROR(it.forward(module), TIAOT_ERROR_UNSUPPORTED,
              "scale.forward: module 'toy_cuda' has no code for cuda:0 (Stand-in, compute capability 10.0), only for "
              "8.6, 8.0, 9.0, 8.0 as PTX, 7.5 as PTX: export it with code for 10.0, or set TIAOT_CUDA_PTX=1, and the "
              "driver compiles the PTX");
  setenv("TIAOT_CUDA_PTX", "0", 1);
  CHECK_EQ(image_text(module), "");
  setenv("TIAOT_CUDA_PTX", "1", 1);
  CHECK_EQ(image_text(module), "80 PTX");
  CHECK_OK(it.forward(module));
  unsetenv("TIAOT_CUDA_PTX");
  CHECK_EQ(image_text(module), "80 PTX");  // it is loaded
  CHECK_OK(it.forward(module));
}
CUDA_TEST(ptx_of_an_earlier_architecture) {
  setenv("TIAOT_CUDA_PTX", "1", 1);
  check_image(75, "75 PTX");
}
CUDA_TEST(ptx_is_second_to_a_cubin) {
  setenv("TIAOT_CUDA_PTX", "1", 1);
  check_image(90, "90");
}
CUDA_TEST(ptx_of_a_later_architecture) {
  setenv("TIAOT_CUDA_PTX", "1", 1);
  check_image(70, "");
  CHECK_EQ(std::string(tiaot_last_error()),
           "tiaot_module_cuda_image: module 'toy_cuda' has no code for cuda:0 (Stand-in, compute capability 7.0), only "
           "for 8.6, 8.0, 9.0, 8.0 as PTX, 7.5 as PTX: export it with code for 7.0");
}

CUDA_TEST(loaded_once) {
  const Module module = open_toy_cuda();
  standin.set_load_time(50);
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      Scale it(5, 7);
      if (it.forward(module) != TIAOT_OK || !it.right()) ++wrong;
    });
  }
  for (std::thread &thread : threads) thread.join();
  CHECK_EQ(wrong.load(), 0);
  const std::string log = take_log();
  CHECK_EQ(count_of(log, "cuInit\n"), 1u);
  CHECK_EQ(count_of(log, "cuDevicePrimaryCtxRetain"), 1u);
  CHECK_EQ(count_of(log, "cuModuleLoadData"), 1u);
}

CUDA_TEST(closing_leaves_the_device_alone) {
  standin.set_device_count(2);
  Module module = open_toy_cuda();
  Scale it(5, 7);
  CHECK_OK(it.forward(module));
  it.device = 1;
  CHECK_OK(it.forward(module));
  take_log();
  // A kernel may still run, and a stream be captured: nothing is waited for, nothing unloaded.
  standin.capture(&module, 1);
  module.reset();
  CHECK_EQ(take_log(), "");
  // The same module runs the same code when it is opened again.
  module = open_toy_cuda();
  it.device = 0;
  CHECK_OK(it.forward(module));
  CHECK_EQ(count_of(take_log(), "cuModuleLoadData"), 0u);
  CHECK(it.right());
  module.reset();
  standin.set_sticky(4);  // at the end of the process the driver is gone before the module
}

CUDA_TEST(released_when_asked) {
  standin.set_device_count(3);
  CHECK_OK(tiaot_cuda_release(-1));  // nothing was used yet
  CHECK_OK(tiaot_cuda_release(2));
  CHECK_EQ(take_log(), "cuInit\n");
  Module module = open_toy_cuda();
  const Module open = open_toy_cuda();
  Scale it(5, 7);
  CHECK_OK(it.vjp(module, 3));
  it.device = 1;
  CHECK_OK(it.vjp(module, 3));
  CHECK_OK(it.vjp(open, 3));
  module.reset();
  CHECK(standin.allocated() > 0);
  take_log();
  CHECK_OK(tiaot_cuda_release(0));
  CHECK_EQ(take_log(),
           "cuCtxPushCurrent device=0\n"
           "cuCtxSynchronize device=0\n"
           "cuMemFree device=0\n"
           "cuModuleUnload device=0 module=1\n"
           "cuCtxSynchronize device=0\n"
           "cuCtxPopCurrent device=0\n");
  CHECK(standin.allocated() > 0);
  CHECK_OK(tiaot_cuda_release(-1));
  CHECK_EQ(standin.allocated(), 0);
  CHECK_EQ(count_of(take_log(), "cuModuleUnload device=1 module=2"), 1u);
  // What is open goes on, with new memory; only closed modules are unloaded.
  CHECK_OK(it.vjp(open, 3));
  CHECK(it.gx_right());
  CHECK_EQ(count_of(take_log(), "cuModuleLoadData"), 0u);
  CHECK_ERROR(tiaot_cuda_release(7), TIAOT_ERROR_DEVICE,
              "tiaot_cuda_release: there is no device cuda:7: the driver has 3 devices");
  standin.capture(&module, 1);
  CHECK_ERROR(tiaot_cuda_release(1), TIAOT_ERROR_DEVICE,
              "tiaot_cuda_release: cuda:1: cuCtxSynchronize: CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED (as the stand-in "
              "says)");
}

CUDA_TEST(kernels_are_asked_for_at_their_first_launch) {
  const Module module = open_toy_cuda();
  Scale it(5, 7);
  CHECK_OK(it.forward(module));
  const int32_t first = standin.functions();
  CHECK_EQ(first, 1);
  CHECK_OK(it.forward(module));
  CHECK_EQ(standin.functions(), first);
  CHECK_OK(it.vjp(module, 3));
  CHECK(standin.functions() > first);
}

CUDA_TEST(images_that_do_not_load) {
  static const char kGarbage[] = "neither an ELF file nor the stand-in's own";
  static const standin_named_kernel kNone[] = {{nullptr, nullptr}};
  static const standin_image kEmpty = {{'S', 'T', 'A', 'N', 'D', 'I', 'N', '\0'}, kNone};
  tiaot_cuda_image_desc image = {90, TIAOT_CUDA_CUBIN, kGarbage, sizeof kGarbage, 0};
  tiaot_cuda_desc cuda = *toy_cuda_descriptor.cuda;
  cuda.images = &image;
  cuda.image_count = 1;
  tiaot_module_desc desc = toy_cuda_descriptor;
  desc.cuda = &cuda;
  const Module module = open_toy_cuda(desc);
  Scale it(5, 7);
  CHECK_ERROR(it.forward(module), TIAOT_ERROR_DEVICE,
              "scale.forward: cuda:0: cuModuleLoadData: CUDA_ERROR_INVALID_IMAGE (as the stand-in says)");
  standin.fail("cuModuleLoadData", 209, 0, 1);
  CHECK_ERROR(it.forward(module), TIAOT_ERROR_DEVICE,
              "scale.forward: cuda:0: cuModuleLoadData: CUDA_ERROR_NO_BINARY_FOR_GPU (as the stand-in says): the "
              "module's code does not run on this device");
  image.data = toy_cuda_descriptor.cuda->images[0].data;  // a failure is not remembered
  CHECK_OK(it.forward(open_toy_cuda(desc)));
  CHECK_OK(tiaot_cuda_release(0));
  image.data = &kEmpty;
  CHECK_ERROR(it.forward(module), TIAOT_ERROR_DEVICE,
              "scale.forward: cuda:0: cuModuleGetFunction of 'scale': CUDA_ERROR_NOT_FOUND (as the stand-in says)");
}

CUDA_TEST(an_elf_image) {
  std::ifstream file(STANDIN_KERNELS, std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  const tiaot_cuda_image_desc image = {90, TIAOT_CUDA_CUBIN, bytes.data(), static_cast<int64_t>(bytes.size()), 0};
  tiaot_cuda_desc cuda = *toy_cuda_descriptor.cuda;
  cuda.images = &image;
  cuda.image_count = 1;
  cuda.kernel_count = 1;
  tiaot_module_desc desc = toy_cuda_descriptor;
  desc.cuda = &cuda;
  const Module module = open_toy_cuda(desc);
  Scale it(5, 7);
  CHECK_OK(it.forward(module));
  CHECK(it.right());
  // A launch of a kernel that the module does not have is a mistake of the module's.
  CHECK_ERROR(it.vjp(module, 3), TIAOT_ERROR_INTERNAL,
              "bug in tiaot, please report it: scale_vjp_x_w: an impossible launch: kernel 3, 1 threads");
}

CUDA_TEST(failures_of_the_driver) {
  const Module module = open_toy_cuda();
  Scale it(5, 7);
  const std::string said = ": CUDA_ERROR_INVALID_VALUE (as the stand-in says)";
  for (const char *function : {"cuDeviceGet", "cuDeviceGetAttribute", "cuDevicePrimaryCtxRetain", "cuCtxGetCurrent",
                               "cuCtxPushCurrent", "cuModuleLoadData", "cuLaunchKernel"}) {
    standin.fail(function, 1, 0, 1);
    CHECK_ERROR(it.forward(module), TIAOT_ERROR_DEVICE, std::string("scale.forward: cuda:0: ") + function + said);
    CHECK_EQ(standin.current(), -1);
  }
  for (const char *function : {"cuStreamIsCapturing", "cuStreamGetId", "cuMemAllocAsync", "cuMemsetD8Async"}) {
    standin.fail(function, 1, 0, 1);
    CHECK_ERROR(it.vjp(module, 3), TIAOT_ERROR_DEVICE, std::string("scale.vjp: cuda:0: ") + function + said);
  }
  standin.fail("cuLaunchKernel", 400, 0, 1);
  CHECK_ERROR(it.forward(module), TIAOT_ERROR_DEVICE,
              "scale.forward: cuda:0: cuLaunchKernel: CUDA_ERROR_INVALID_HANDLE (as the stand-in says): is the stream "
              "one of this device, and not destroyed?");
  standin.fail("cuLaunchKernel", 2, 0, 1);
  CHECK_ERROR(it.forward(module), TIAOT_ERROR_MEMORY,
              "scale.forward: cuda:0: cuLaunchKernel: CUDA_ERROR_OUT_OF_MEMORY (as the stand-in says)");
  standin.fail("cuLaunchKernel", 12345, 0, 1);
  CHECK_ERROR(it.forward(module), TIAOT_ERROR_DEVICE, "scale.forward: cuda:0: cuLaunchKernel: error 12345");
  CHECK_OK(it.vjp(module, 3));  // nothing of that lasts
  CHECK(it.gx_right() && it.gw_right());
}

CUDA_TEST(a_device_that_is_lost) {
  standin.set_device_count(2);
  Module module = open_toy_cuda();
  Scale it(5, 7);
  CHECK_OK(it.forward(module));
  const std::vector<DLTensor> arrays = it.forward_arrays();
  tiaot_bound *bound = nullptr;
  CHECK_OK(tiaot_bind(find_kernel(module, "scale"), TIAOT_FORWARD, 0, arrays.data(), 4, nullptr, &bound));
  standin.fail("cuLaunchKernel", 700, 1, 1);
  const std::string error = "CUDA_ERROR_ILLEGAL_ADDRESS (an illegal memory access was encountered)";
  CHECK_ERROR(it.vjp(module, 3), TIAOT_ERROR_DEVICE,
              "scale.vjp: cuda:0: cuLaunchKernel: " + error +
                  ": a kernel, of this call or of earlier work on the device, has failed; the process cannot use the "
                  "device any more and has to be restarted");
  take_log();
  const std::string lost =
      "cuda:0 cannot be used since " + error + " was reported to scale.vjp: the process has to be restarted";
  CHECK_ERROR(it.forward(module), TIAOT_ERROR_DEVICE, "scale.forward: " + lost);
  CHECK_ERROR(tiaot_bound_run(bound), TIAOT_ERROR_DEVICE, "scale.forward: " + lost);
  CHECK_ERROR(tiaot_cuda_order(0, nullptr, &it), TIAOT_ERROR_DEVICE, "tiaot_cuda_order: " + lost);
  tiaot_bound_destroy(bound);
  CHECK_EQ(take_log(), "");
  it.device = 1;
  CHECK_OK(it.forward(module));
  take_log();
  module.reset();
  CHECK(take_log().find("device=0") == std::string::npos);
}

CUDA_TEST(every_error_that_lasts) {
  for (int32_t error : {214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721}) {
    static int32_t now;
    now = error;
    in_a_fork([] {
      const Module module = open_toy_cuda();
      Scale it(5, 7);
      standin.fail("cuLaunchKernel", now, 0, 1);
      CHECK_EQ(it.forward(module), TIAOT_ERROR_DEVICE);
      CHECK_EQ(it.forward(module), TIAOT_ERROR_DEVICE);
      CHECK(std::string(tiaot_last_error()).find("cuda:0 cannot be used since ") != std::string::npos);
    });
  }
}

CUDA_TEST(a_forked_process) {
  const Module module = open_toy_cuda();
  forked_module = &module;
  Scale it(5, 7);
  // Nothing has used CUDA yet: the child may.
  in_a_fork([] {
    Scale mine(5, 7);
    CHECK_OK(mine.forward(*forked_module));
    CHECK(mine.right());
  });
  CHECK_OK(it.forward(module));
  const std::vector<DLTensor> arrays = it.forward_arrays();
  static tiaot_bound *bound;
  CHECK_OK(tiaot_bind(find_kernel(module, "scale"), TIAOT_FORWARD, 0, arrays.data(), 4, nullptr, &bound));
  in_a_fork([] {
    take_log();
    Scale mine(5, 7);
    const std::string why = "CUDA was used before this process was forked: start processes with spawn";
    CHECK_ERROR(mine.forward(*forked_module), TIAOT_ERROR_DEVICE, "scale.forward: " + why);
    CHECK_ERROR(tiaot_bound_run(bound), TIAOT_ERROR_DEVICE, "scale.forward: " + why);
    int32_t count;
    CHECK_ERROR(tiaot_cuda_device_count(&count), TIAOT_ERROR_DEVICE, "tiaot_cuda_device_count: " + why);
    Array<float> x({2, 3}), y({2, 3});
    const DLTensor on_cpu[] = {x, y};
    CHECK_OK(tiaot_call(find_kernel(*forked_module, "twice"), TIAOT_FORWARD, 0, on_cpu, 2, nullptr));
    const_cast<Module *>(forked_module)->reset();
    CHECK_EQ(take_log(), "");
  });
  CHECK_OK(it.forward(module));
  tiaot_bound_destroy(bound);
}

CUDA_TEST(order_of_streams) {
  int first = 0, then = 0;
  CHECK_OK(tiaot_cuda_order(0, &first, &first));
  take_log();
  char text[400];
  std::snprintf(text, sizeof text,
                "cuDevicePrimaryCtxRetain device=0\ncuCtxPushCurrent device=0\ncuEventCreate device=0 flags=2\n"
                "cuEventRecord device=0 stream=%p\ncuStreamWaitEvent device=0 stream=%p\ncuCtxPopCurrent device=0\n",
                static_cast<void *>(&first), static_cast<void *>(&then));
  CHECK_OK(tiaot_cuda_order(0, &first, &then));
  CHECK_EQ(take_log(), text);
  CHECK_OK(tiaot_cuda_order(0, &first, &then));
  CHECK_EQ(count_of(take_log(), "cuEventCreate"), 0u);
  for (const char *function : {"cuEventRecord", "cuStreamWaitEvent"}) {
    standin.fail(function, 1, 0, 1);
    CHECK_ERROR(
        tiaot_cuda_order(0, &first, &then), TIAOT_ERROR_DEVICE,
        std::string("tiaot_cuda_order: cuda:0: ") + function + ": CUDA_ERROR_INVALID_VALUE (as the stand-in says)");
  }
}

// A stream that is captured cannot wait for one that is not: CUDA would end the capture. The other way round it can.
CUDA_TEST(order_across_a_capture) {
  int first = 0, then = 0;
  standin.capture(&then, 1);
  char text[400];
  std::snprintf(
      text, sizeof text,
      "tiaot_cuda_order: the stream %p is being captured and would have to wait for the stream %p, which is "
      "not: put the work that is to be captured on one stream, and wait for what comes before in front of the "
      "capture",
      static_cast<void *>(&then), static_cast<void *>(&first));
  CHECK_ERROR(tiaot_cuda_order(0, &first, &then), TIAOT_ERROR_VALUE, text);
  CHECK_EQ(count_of(take_log(), "cuEventRecord"), 0u);
  standin.capture(&first, 1);
  CHECK_OK(tiaot_cuda_order(0, &first, &then));
  standin.capture(&then, 0);
  CHECK_OK(tiaot_cuda_order(0, &first, &then));
  standin.fail("cuStreamIsCapturing", 400, 0, 1);
  CHECK_ERROR(tiaot_cuda_order(0, &first, &then), TIAOT_ERROR_DEVICE,
              "tiaot_cuda_order: cuda:0: cuStreamIsCapturing: CUDA_ERROR_INVALID_HANDLE (as the stand-in says): is the "
              "stream one of this device, and not destroyed?");
}
