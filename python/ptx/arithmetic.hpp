// arithmetic.hpp: what an instruction makes of its operands, for the lanes of a warp; see arithmetic.cpp.
#pragma once

#include <array>
#include <cstdint>

#include "ptx.hpp"

namespace ptx {

constexpr int kLanes = 32;
using Lanes = std::array<uint64_t, kLanes>;

template <typename F>
void each_lane(uint32_t mask, F function) {
  if (mask == 0xFFFFFFFF) {
    for (int lane = 0; lane < kLanes; ++lane) function(lane);
    return;
  }
  for (; mask != 0; mask &= mask - 1) function(__builtin_ctz(mask));
}

// `of` are the operands that there are; `carry` is each lane's carry flag; `off`: approximations are off by a bit.
// False where the instruction is none that computes.
bool compute(const Instruction &it, uint32_t mask, Lanes &to, const std::array<const Lanes *, 4> &of, Lanes &carry,
             bool off);

// Of one lane; numbers.cpp has these.
[[noreturn]] inline void refuse(const Instruction &it) { throw Error("PTX: '" + it.text + "' is not known here"); }
uint64_t mathematical(const Instruction &it, uint64_t bits, bool off);
bool tested(const Instruction &it, uint64_t bits);
uint64_t converted(const Instruction &it, uint64_t value);
bool compared(const Instruction &it, uint64_t a, uint64_t b);
uint64_t combined(const Instruction &it, uint64_t old, uint64_t operand, uint64_t other);  // by an atomic operation

}  // namespace ptx
