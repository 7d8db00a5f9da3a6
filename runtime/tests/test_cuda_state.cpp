// test_cuda_state.cpp: states on CUDA devices: where their memory comes from, what fills and copies it, what is
// refused.
#include <cstring>

#include "toy_cuda.hpp"

namespace {

// Fields of every element type; dense, side by side with another, with axes in another order, and in gaps.
const int64_t kPair[] = {3, 2}, kPairSteps[] = {2, 1}, kWoven[] = {4}, kWovenSteps[] = {2}, kTurned[] = {2, 3, 2},
              kTurnedSteps[] = {1, 4, 2}, kGaps[] = {2, 3}, kGapsSteps[] = {12, 3}, kNone[] = {0, 2};
const tiaot_field_desc kFields[] = {
    {"pair", TIAOT_FLOAT32, 2, kPair, kPairSteps, 0, -1, 0},
    {"one", TIAOT_FLOAT64, 0, nullptr, nullptr, 24, -1, 0},
    {"a", TIAOT_FLOAT64, 1, kWoven, kWovenSteps, 64, -1, 0},
    {"b", TIAOT_INT64, 1, kWoven, kWovenSteps, 72, -1, 0},
    {"turned", TIAOT_INT32, 3, kTurned, kTurnedSteps, 128, -1, 0},
    {"half", TIAOT_FLOAT16, 2, kGaps, kGapsSteps, 192, -1, 0},
    {"byte", TIAOT_UINT8, 2, kGaps, kGapsSteps, 256, -1, 0},
    {"none", TIAOT_FLOAT32, 2, kNone, kPairSteps, 0, -1, 0},
    {"wide", TIAOT_FLOAT64, 2, kGaps, kGapsSteps, 320, -1, 0},
};
constexpr int64_t kBytes = 512;
const float kContent[] = {1, 2, 3};
const tiaot_content_desc kContents[] = {{4, sizeof kContent, kContent}};

Module open_with_fields(bool with_cuda = true) {
  static tiaot_module_desc descs[2];
  tiaot_module_desc &desc = descs[with_cuda];
  desc = toy_cuda_descriptor;
  desc.fields = kFields;
  desc.field_count = sizeof kFields / sizeof *kFields;
  desc.state_bytes = kBytes;
  desc.contents = kContents;
  desc.content_count = 1;
  if (!with_cuda) {
    static tiaot_kernel_desc kernel;
    static tiaot_variant_desc variant;
    static tiaot_entry_desc entry;
    kernel = *desc.kernels;
    variant = *kernel.variants;
    entry = *variant.entries;
    entry.cuda = nullptr;
    entry.cuda_workspace = nullptr;
    variant.entries = &entry;
    variant.entry_count = 1;
    kernel.variants = &variant;
    kernel.variant_count = 1;
    desc.kernels = &kernel;
    desc.kernel_count = 1;
    desc.cuda = nullptr;
  }
  return open_toy_cuda(desc);
}

struct DestroyState {
  void operator()(tiaot_state *state) const { tiaot_state_destroy(state); }
};
using State = std::unique_ptr<tiaot_state, DestroyState>;

State create(const Module &module, DLDevice device, uint32_t flags = 0) {
  tiaot_state *state = nullptr;
  CHECK_OK(tiaot_state_create_on(module.get(), device, flags, &state));
  return State(state);
}

constexpr DLDevice kCpu{kDLCPU, 0}, kCuda{kDLCUDA, 0};

std::string content_of(const State &state, void *stream = nullptr) {
  std::string bytes(kBytes, '?');
  CHECK_OK(tiaot_state_read(state.get(), 0, kBytes, &bytes[0], stream));
  return bytes;
}

}  // namespace

CUDA_TEST(a_state_starts_with_its_content) {
  const Module module = open_with_fields();
  const int64_t before = standin.allocated();
  {
    const State state = create(module, kCuda), other = create(module, kCpu);
    CHECK(content_of(state) == content_of(other));
    CHECK(content_of(create(module, kCuda, TIAOT_STATE_ZEROS)) == std::string(kBytes, '\0'));
    CHECK(content_of(create(module, kCpu, TIAOT_STATE_ZEROS)) == std::string(kBytes, '\0'));
    DLTensor tensor;
    CHECK_OK(tiaot_state_field(state.get(), "turned", &tensor));
    CHECK(tensor.device.device_type == kDLCUDA && tensor.device.device_id == 0);
    CHECK_EQ(standin.allocated() - before, kBytes);
  }
  CHECK_EQ(standin.allocated(), before);
}

CUDA_TEST(fields_are_filled_as_on_the_cpu) {
  const Module module = open_with_fields();
  const State cpu = create(module, kCpu);
  void *const stream = reinterpret_cast<void *>(uintptr_t{0x100});
  for (const tiaot_field_desc &field : kFields) {
    for (const double value : {1.0, 3.0, 0.0}) {
      const State cuda = create(module, kCuda);
      const std::string noise(kBytes, '\x5a');
      CHECK_OK(tiaot_state_write(cuda.get(), 0, kBytes, noise.data(), nullptr));
      CHECK_OK(tiaot_state_write(cpu.get(), 0, kBytes, noise.data(), nullptr));
      standin.clear_log();
      CHECK_OK(tiaot_state_fill(cpu.get(), field.name, value, nullptr));
      CHECK_OK(tiaot_state_fill(cuda.get(), field.name, value, stream));
      const std::string log = take_log();
      CHECK(log.find("stream=0x0") == std::string::npos && log.find("Synchronize") == std::string::npos);
      CHECK_EQ(content_of(cuda) == content_of(cpu), true);
      CHECK_EQ(content_of(cuda) == noise, field.shape == kNone);
    }
  }
}

CUDA_TEST(what_a_field_cannot_hold_is_refused) {
  const Module module = open_with_fields();
  for (const DLDevice device : {kCpu, kCuda}) {
    const State state = create(module, device);
    CHECK_ERROR(tiaot_state_fill(state.get(), "byte", 256, nullptr), TIAOT_ERROR_VALUE,
                "tiaot_state_fill: field 'byte': expected a whole number that its elements can be, got 256");
    CHECK_ERROR(tiaot_state_fill(state.get(), "turned", 0.5, nullptr), TIAOT_ERROR_VALUE,
                "tiaot_state_fill: field 'turned': expected a whole number that its elements can be, got 0.5");
    CHECK_EQ(tiaot_state_fill(state.get(), "no", 1, nullptr), TIAOT_ERROR_VALUE);
    CHECK_ERROR(tiaot_state_read(state.get(), 500, 13, nullptr, nullptr), TIAOT_ERROR_VALUE,
                "tiaot_state_read: data is NULL");
    char byte = 0;
    CHECK_ERROR(tiaot_state_write(state.get(), 1024, 1, &byte, nullptr), TIAOT_ERROR_VALUE,
                "tiaot_state_write: expected a range of the state's 512 bytes or of its tangents' behind them, got 1 "
                "from 1024 on");
    CHECK_EQ(tiaot_state_write(state.get(), 511, 2, &byte, nullptr), TIAOT_ERROR_VALUE);
  }
}

CUDA_TEST(tangents_are_memory_of_the_device_behind_the_state) {
  const Module module = open_with_fields();
  const int64_t before = standin.allocated();
  {
    const State state = create(module, kCuda);
    const std::string content = content_of(state);
    CHECK_EQ(standin.allocated() - before, kBytes);
    const double value = 2.5;
    double found = 1;
    CHECK_OK(tiaot_state_read(state.get(), kBytes + 8, sizeof found, &found, nullptr));
    CHECK_EQ(found, 0.0);
    CHECK_OK(tiaot_state_write(state.get(), kBytes + 8, sizeof value, &value, nullptr));
    CHECK_OK(tiaot_state_read(state.get(), kBytes + 8, sizeof found, &found, nullptr));
    CHECK_EQ(found, 2.5);
    CHECK(content_of(state) == content);
    CHECK_EQ(standin.allocated() - before, 2 * kBytes);
  }
  CHECK_EQ(standin.allocated(), before);
}

CUDA_TEST(content_moves_between_states) {
  const Module module = open_with_fields();
  const State cpu = create(module, kCpu), a = create(module, kCuda), b = create(module, kCuda, TIAOT_STATE_ZEROS);
  CHECK_OK(tiaot_state_fill(cpu.get(), "wide", 7, nullptr));
  CHECK_OK(tiaot_state_copy(a.get(), cpu.get(), nullptr));
  standin.clear_log();
  CHECK_OK(tiaot_state_copy(b.get(), a.get(), reinterpret_cast<void *>(uintptr_t{0x100})));
  CHECK_EQ(take_log(),
           "cuCtxPushCurrent device=0\ncuMemcpyDtoDAsync device=0 stream=0x100 bytes=512\n"
           "cuCtxPopCurrent device=0\n");
  const State back = create(module, kCpu, TIAOT_STATE_ZEROS);
  CHECK_OK(tiaot_state_copy(back.get(), b.get(), nullptr));
  CHECK(content_of(back) == content_of(cpu));
  const Module another = open_with_fields(false);
  const State stranger = create(another, kCpu);
  CHECK_ERROR(tiaot_state_copy(a.get(), stranger.get(), nullptr), TIAOT_ERROR_VALUE,
              "tiaot_state_copy: expected two states of one module, got one of 'toy_cuda' and one of 'toy_cuda'");
}

CUDA_TEST(what_waits_does_not_end_a_capture) {
  const Module module = open_with_fields();
  const State state = create(module, kCuda);
  void *const stream = reinterpret_cast<void *>(uintptr_t{0x100});
  standin.capture(stream, 1);
  char byte = 0;
  CHECK_ERROR(tiaot_state_read(state.get(), 0, 1, &byte, stream), TIAOT_ERROR_VALUE,
              "tiaot_state_read: the stream 0x100 is being captured: what waits for the device, as a copy between it "
              "and the host does, belongs in front of the capture or behind it");
  CHECK_OK(tiaot_state_fill(state.get(), "pair", 1, stream));
  CHECK(take_log().find("captured") != std::string::npos);
}

CUDA_TEST(places_that_there_are_not) {
  const Module module = open_with_fields(), plain = open_with_fields(false);
  tiaot_state *state = nullptr;
  CHECK_ERROR(tiaot_state_create_on(plain.get(), kCuda, 0, &state), TIAOT_ERROR_UNSUPPORTED,
              "tiaot_state_create_on: module 'toy_cuda' was exported without CUDA code: export it with --cuda");
  CHECK_ERROR(tiaot_state_create_on(module.get(), {kDLCUDA, 1}, 0, &state), TIAOT_ERROR_DEVICE,
              "tiaot_state_create_on: there is no device cuda:1: the driver has 1 device");
  CHECK_ERROR(tiaot_state_create_on(module.get(), {static_cast<DLDeviceType>(10), 0}, 0, &state), TIAOT_ERROR_VALUE,
              "tiaot_state_create_on: device: expected the CPU (1) or a CUDA device (2), got DLPack's 10");
  CHECK_ERROR(tiaot_state_create_on(module.get(), kCuda, 2, &state), TIAOT_ERROR_VALUE,
              "tiaot_state_create_on: flags: expected 0 or TIAOT_STATE_ZEROS, got 2");
  standin.fail("cuMemAlloc", 2, 0, 1);
  CHECK_ERROR(tiaot_state_create_on(module.get(), kCuda, 0, &state), TIAOT_ERROR_MEMORY,
              "no memory on cuda:0 for the state of module 'toy_cuda': 512 bytes are needed");
  const int64_t before = standin.allocated();
  standin.fail("cuMemcpyHtoDAsync", 1, 0, 1);
  CHECK_EQ(tiaot_state_create_on(module.get(), kCuda, 0, &state), TIAOT_ERROR_DEVICE);
  CHECK_EQ(standin.allocated(), before);
}
