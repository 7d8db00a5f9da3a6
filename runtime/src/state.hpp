// state.hpp: an instance of a module's fields, and who may work on it. Knows nothing of calls.
#pragma once

#include <atomic>
#include <cstdlib>
#include <memory>

#include "module.hpp"

struct tiaot_state {
  const tiaot_module *module;
  std::unique_ptr<void, void (*)(void *)> allocation;
  char *memory;  // `state_bytes` of it, aligned to 64
  std::atomic<bool> in_use{false};
  // The tangents, as much memory again in the same layout; nullptr until they are first asked for.
  mutable std::atomic<char *> tangents{nullptr};
  mutable std::unique_ptr<void, void (*)(void *)> tangents_allocation{nullptr, std::free};
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

}  // namespace tiaot
