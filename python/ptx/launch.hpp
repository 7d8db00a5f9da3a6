// launch.hpp: runs a kernel's grid, warp by warp, the lanes of a warp in lockstep; see launch.cpp.
#pragma once

#include <cstdint>

#include "memory.hpp"
#include "ptx.hpp"

namespace ptx {

enum class Order : int { kForward, kBackward, kShuffled };  // of the warps of a grid

struct Settings {
  Order order = Order::kForward;
  bool off = false;                     // approximations are off by a unit in the last place
  uint64_t most_steps = 4'000'000'000;  // of all warps together: a kernel that needs more is taken to run for ever
};

// Throws Error for what cannot go on: an access out of bounds, a trap, steps without an end. What can go on and is
// wrong is reported to the memory. Gives the number of instructions, a warp's counted once.
uint64_t run(const Function &kernel, uint32_t blocks, uint32_t threads, void **parameters, Memory &memory,
             const Settings &settings);

}  // namespace ptx
