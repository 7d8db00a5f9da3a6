// test_cuda_workspace.cpp: the memory that calls work in: kept for each stream, bounded, and a graph's own when
// captured.
#include <atomic>
#include <chrono>
#include <thread>

#include "toy_cuda.hpp"

namespace {

void *stream_of(uintptr_t number) { return reinterpret_cast<void *>(number << 8); }

// What a call put on the stream besides its own kernels.
std::string memory_log() {
  const std::string log = take_log();
  std::string kept;
  for (size_t begin = 0; begin < log.size();) {
    const size_t end = log.find('\n', begin) + 1;
    const std::string line = log.substr(begin, end - begin);
    for (const char *function : {"cuMemAlloc", "cuMemFree", "cuEvent", "cuStreamWaitEvent"}) {
      if (line.compare(0, std::strlen(function), function) == 0) kept += line;
    }
    begin = end;
  }
  return kept;
}

struct Stream {
  explicit Stream(uintptr_t number) : it(5, 7) { it.options.stream = stream_of(number); }
  Scale it;
  const void *run(const Module &module) {
    std::fill_n(it.gw.data(), it.gw.size(), 0.0f);
    CHECK_OK(it.vjp(module, 3));
    CHECK(it.gx_right() && it.gw_right());
    return last_toy_cuda_call().workspace;
  }
};

}  // namespace

CUDA_TEST(kept_for_the_stream) {
  const Module module = open_toy_cuda();
  Stream one(1), two(2);
  const void *first = one.run(module);
  CHECK_EQ(memory_log(), "cuMemAllocAsync device=0 stream=0x100 bytes=65536\n");
  CHECK_EQ(one.run(module), first);
  CHECK_EQ(memory_log(), "");
  CHECK(two.run(module) != first);
  CHECK_EQ(memory_log(), "cuMemAllocAsync device=0 stream=0x200 bytes=65536\n");
  CHECK_EQ(one.run(module), first);
  toy_cuda_workspace = 100000;
  one.run(module);
  CHECK_EQ(memory_log(),
           "cuMemFreeAsync device=0 stream=0x100\n"
           "cuMemAllocAsync device=0 stream=0x100 bytes=131072\n");
  toy_cuda_workspace = 0;
  one.run(module);
  CHECK_EQ(memory_log(), "");
  // Both of the legacy default stream's handles are that stream.
  Stream zero(0);
  const void *legacy = zero.run(module);
  zero.it.options.stream = reinterpret_cast<void *>(uintptr_t{1});
  CHECK_EQ(zero.run(module), legacy);
}

CUDA_TEST(a_handle_that_comes_back) {
  const Module module = open_toy_cuda();
  Stream one(1);
  const void *first = one.run(module);
  standin.set_stream_id(stream_of(1), 4711);
  CHECK(one.run(module) != first);
}

CUDA_TEST(two_devices) {
  standin.set_device_count(2);
  const Module module = open_toy_cuda();
  Stream one(0);
  const void *first = one.run(module);
  one.it.device = 1;
  CHECK(one.run(module) != first);
  CHECK_EQ(memory_log(),
           "cuMemAllocAsync device=0 stream=0x0 bytes=65536\n"
           "cuMemAllocAsync device=1 stream=0x0 bytes=65536\n");
}

CUDA_TEST(large_amounts_are_not_kept) {
  const Module module = open_toy_cuda();
  standin.capture(stream_of(3), 0);
  Stream one(1);
  toy_cuda_workspace = int64_t{256} << 20;
  one.run(module);
  CHECK_EQ(memory_log(),
           "cuMemAllocAsync device=0 stream=0x100 bytes=268435712\n"
           "cuMemFreeAsync device=0 stream=0x100\n");
  CHECK_EQ(standin.allocated(), 0);
}

CUDA_TEST(captured) {
  const Module module = open_toy_cuda();
  Stream one(1);
  const void *kept = one.run(module);
  standin.capture(stream_of(1), 1);
  standin.clear_log();
  CHECK_OK(one.it.vjp(module, 3));
  CHECK(toy_cuda_calls.back().workspace != kept);
  CHECK_EQ(take_log(),
           "cuCtxPushCurrent device=0\n"
           "cuMemAllocAsync device=0 stream=0x100 bytes=256 captured\n"
           "cuMemsetD8Async device=0 stream=0x100 bytes=256 value=0 captured\n"
           "cuLaunchKernel device=0 stream=0x100 kernel=store grid=1 block=128 captured\n"
           "cuLaunchKernel device=0 stream=0x100 kernel=scale_sum grid=1 block=128 captured\n"
           "cuLaunchKernel device=0 stream=0x100 kernel=scale_from_device grid=32 block=128 captured\n"
           "cuMemFreeAsync device=0 stream=0x100 captured\n"
           "cuCtxPopCurrent device=0\n");
  standin.capture(stream_of(1), 0);
  CHECK_EQ(one.run(module), kept);
  // The first call of a module may be captured: loading is no work of the stream's.
  const Module other = open_toy_cuda();
  standin.capture(stream_of(1), 1);
  CHECK_OK(one.it.forward(other));
}

// Streams that come and go: the first eight cost nothing per call, and there are never more than 32 pieces.
CUDA_TEST(many_streams) {
  const Module module = open_toy_cuda();
  std::vector<const void *> pieces;
  for (uintptr_t number = 1; number <= 32; ++number) {
    pieces.push_back(Stream(number).run(module));
    char text[200];
    std::snprintf(text, sizeof text, "cuMemAllocAsync device=0 stream=%p bytes=65536\n", stream_of(number));
    std::string expected = text;
    if (number > 8) {
      std::snprintf(text, sizeof text, "cuEventCreate device=0 flags=2\ncuEventRecord device=0 stream=%p\n",
                    stream_of(number));
      expected += text;
    }
    CHECK_EQ(memory_log(), expected);
  }
  // The 9th is used again, so that the 10th is idle for longest.
  CHECK_EQ(Stream(9).run(module), pieces[8]);
  CHECK_EQ(memory_log(), "cuEventRecord device=0 stream=0x900\n");
  CHECK_EQ(Stream(33).run(module), pieces[9]);
  CHECK_EQ(memory_log(),
           "cuStreamWaitEvent device=0 stream=0x2100\n"
           "cuEventRecord device=0 stream=0x2100\n");
  CHECK_EQ(Stream(33).run(module), pieces[9]);
  CHECK_EQ(memory_log(), "cuEventRecord device=0 stream=0x2100\n");
  CHECK_EQ(Stream(10).run(module), pieces[10]);
  CHECK_EQ(Stream(1).run(module), pieces[0]);
  CHECK_EQ(standin.allocated(), 32 * 65536);
}

CUDA_TEST(no_pools) {
  standin.set_device(90, 2, 0);
  const Module module = open_toy_cuda();
  Stream one(1);
  const void *first = one.run(module);
  CHECK_EQ(memory_log(), "cuMemAlloc device=0 bytes=65536\n");
  CHECK_EQ(one.run(module), first);
  toy_cuda_workspace = 100000;
  one.run(module);
  CHECK_EQ(memory_log(), "cuMemAlloc device=0 bytes=131072\n");
  CHECK_EQ(standin.allocated(), 65536 + 131072);  // the old one may still be in use
  standin.capture(stream_of(1), 1);
  CHECK_ERROR(one.it.vjp(module, 3), TIAOT_ERROR_UNSUPPORTED,
              "scale.vjp: cuda:0 has no memory pools: a call that needs workspace cannot be captured there");
  CHECK_OK(one.it.forward(module));
}

CUDA_TEST(no_memory) {
  const Module module = open_toy_cuda();
  Stream one(1);
  standin.fail("cuMemAllocAsync", 2, 0, 1);
  CHECK_ERROR(
      one.it.vjp(module, 3), TIAOT_ERROR_MEMORY,
      "scale.vjp: no memory for workspace on cuda:0: 65536 bytes are needed; libraries keep what they once had: "
      "torch.cuda.empty_cache(), XLA_PYTHON_CLIENT_PREALLOCATE=false before JAX starts, tiaot.cuda.release()");
  CHECK_EQ(memory_log(), "cuMemAllocAsync device=0 stream=0x100 bytes=65536 -> 2\n");
  one.run(module);
  toy_cuda_workspace = 100000;
  standin.fail("cuMemAllocAsync", 2, 0, 1);
  CHECK_EQ(one.it.vjp(module, 3), TIAOT_ERROR_MEMORY);
  one.run(module);
  CHECK_EQ(standin.allocated(), 131072);
}

// A driver without cuStreamGetId: handles are all that there is, so every use waits for the one before.
TEST(no_stream_ids) {
  in_child(STANDIN_OLD_LIBRARY, [] {
    const Module module = open_toy_cuda();
    Stream one(1), two(2);
    const void *first = one.run(module);
    CHECK_EQ(memory_log(),
             "cuMemAllocAsync device=0 stream=0x100 bytes=65536\n"
             "cuEventCreate device=0 flags=2\n"
             "cuEventRecord device=0 stream=0x100\n");
    CHECK_EQ(one.run(module), first);
    CHECK_EQ(memory_log(),
             "cuStreamWaitEvent device=0 stream=0x100\n"
             "cuEventRecord device=0 stream=0x100\n");
    CHECK(two.run(module) != first);
  });
}

// A call on a thread of its own that stops in the middle, until it is let go.
struct Held {
  Held(const Module &module, uintptr_t stream) : one(stream) {
    one.it.factor.data()[0] = 99;
    toy_cuda_hold = true;
    thread = std::thread([&] { one.run(module); });
    while (!toy_cuda_held) std::this_thread::yield();
  }
  void let_go() {
    toy_cuda_hold = false;
    thread.join();
  }
  Stream one;
  std::thread thread;
};

CUDA_TEST(what_is_in_use_is_not_given_away) {
  const Module module = open_toy_cuda();
  std::vector<const void *> pieces;
  for (uintptr_t number = 1; number <= 32; ++number) pieces.push_back(Stream(number).run(module));
  Held held(module, 10);
  for (uintptr_t number = 11; number <= 32; ++number) Stream(number).run(module);
  Stream(9).run(module);
  CHECK_EQ(Stream(33).run(module), pieces[10]);  // not the 10th, which was idle for longest, were it idle
  held.let_go();
}

// What two threads put on one stream must not be mixed: the factor goes through the workspace.
CUDA_TEST(threads_on_one_stream) {
  const Module module = open_toy_cuda();
  Held held(module, 1);
  std::atomic<int> done{0};
  std::thread other([&] {
    Stream(1).run(module);
    ++done;
  });
  Stream(2).run(module);  // another stream does not wait
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  CHECK_EQ(done.load(), 0);
  held.let_go();
  other.join();
  CHECK_EQ(done.load(), 1);
}
