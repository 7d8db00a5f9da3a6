// state.hpp: an instance of a module's fields, and who may work on it. Knows nothing of calls.
#pragma once

#include <atomic>
#include <cstdlib>
#include <memory>

#include "module.hpp"

namespace tiaot {
struct CudaDevice;

// Gives the memory back to the device, whose work it waits for.
void free_cuda_memory(CudaDevice *device, char *memory) noexcept;
}  // namespace tiaot

struct tiaot_state {
  const tiaot_module *module;
  std::unique_ptr<void, void (*)(void *)> allocation;  // on the CPU
  char *memory;                                        // `state_bytes` of it, aligned to 64
  tiaot::CudaDevice *device = nullptr;                 // whose memory it is; nullptr: the CPU's
  std::atomic<bool> in_use{false};
  // The tangents, as much memory again in the same layout; nullptr until they are first asked for.
  mutable std::atomic<char *> tangents{nullptr};
  mutable std::unique_ptr<void, void (*)(void *)> tangents_allocation{nullptr, std::free};  // on the CPU

  ~tiaot_state() {
    if (device == nullptr) return;
    tiaot::free_cuda_memory(device, tangents.load(std::memory_order_acquire));
    tiaot::free_cuda_memory(device, memory);
  }
};

namespace tiaot {

// The memory of its tangents, which starts as zeros.
tiaot_status state_tangents(const tiaot_state &state, char **memory);

// Takes the state for the length of a call. Never waits: in a forked child a call of another thread never ends.
class StateUse {
 public:
  explicit StateUse(tiaot_state *state)
      : state_(state), taken_(!state->in_use.exchange(true, std::memory_order_acquire)) {}
  ~StateUse() {
    if (taken_) state_->in_use.store(false, std::memory_order_release);
  }
  StateUse(const StateUse &) = delete;
  StateUse &operator=(const StateUse &) = delete;

  bool taken() const { return taken_; }

 private:
  tiaot_state *state_;
  bool taken_;
};

// What a state counts for among the elements that a call works on.
inline int64_t state_work(const tiaot_module &module) { return module.desc->state_bytes / 4; }

// A call of an entry that finds the state in use by another.
[[gnu::cold]] tiaot_status explain_state_in_use(const char *kernel, int entry, const tiaot_state &state);

// An element of `item_size(dtype)` bytes, as it lies in memory.
struct Element {
  uint64_t bits;
  int64_t bytes;
};

// ---- of states on CUDA devices, in cuda_state.cpp

// A state in memory of the device, of zeros, or with what the module's states start with. Waits until it is there.
tiaot_status create_cuda_state(const tiaot_module &module, int32_t ordinal, bool zeros, tiaot_state **state);

// Memory for the tangents of such a state, of zeros. Waits until it is there.
tiaot_status create_cuda_tangents(const tiaot_state &state, char **memory);

// Puts on the stream what fills a field, in the state's memory or that of its tangents.
tiaot_status fill_cuda_field(const tiaot_state &state, const tiaot_field_desc &field, char *memory, Element value,
                             void *stream);

enum class CudaCopy { kToHost, kFromHost, kWithin };

// Copies memory of a state's device on the stream; waits for it where the host's memory is a part of it.
tiaot_status copy_cuda_state(const char *caller, const tiaot_state &state, CudaCopy kind, void *target,
                             const void *source, int64_t bytes, void *stream);

// The number of a CUDA device.
int32_t ordinal_of(const CudaDevice &device);

}  // namespace tiaot
