// values.hpp: what a register's bits are as a number, and back. Knows no instructions.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "ptx.hpp"

namespace ptx {

template <typename T>
T as(uint64_t bits) {
  T value;
  std::memcpy(&value, &bits, sizeof value);  // its lowest bytes
  return value;
}
template <typename T>
uint64_t bits_of(T value) {
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  return bits;
}

inline int bits_in(Type type) { return 8 * bytes_of(type); }
inline uint64_t cut(Type type, uint64_t value) {
  const int bits = type == Type::kPred ? 1 : bits_in(type);
  return bits == 64 ? value : value & ((uint64_t{1} << bits) - 1);
}
inline int64_t extended(Type type, uint64_t value) {
  const int unused = 64 - bits_in(type);
  return static_cast<int64_t>(value << unused) >> unused;
}

template <typename T>
T flushed(T value, bool flush) {
  if constexpr (sizeof(T) == 4) {
    if (flush && std::fpclassify(value) == FP_SUBNORMAL) return std::copysign(T(0), value);
  }
  return value;
}

// A device's approximations may be off by a unit in the last place: so, where that is asked for, by turns.
inline float approximated(double exact, uint64_t seed, bool off) {
  const float value = static_cast<float>(exact);
  if (!off || !std::isfinite(value) || value == 0) return value;
  seed *= 0x9E3779B97F4A7C15;
  const uint64_t turn = (seed ^ seed >> 32) % 3;
  return turn == 0 ? value : std::nextafter(value, turn == 1 ? INFINITY : -INFINITY);
}

// GCC for aarch64 has the standard's name in C++ from version 13 on.
#if defined(__aarch64__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13
using float16 = __fp16;
#else
using float16 = _Float16;
#endif

// Calls `function` with a number of the type's kind.
template <typename F>
void with_float(Type type, F function) {
  switch (type) {
    case Type::kF16:
      return function(float16{});
    case Type::kF32:
      return function(float{});
    default:
      return function(double{});
  }
}

}  // namespace ptx
