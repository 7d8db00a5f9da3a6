// half.hpp: float16 for compilers without a type for it, by integer arithmetic. Knows nothing of arrays.
#pragma once

#include <cstdint>
#include <cstring>

namespace tiaot {

// Rounds to nearest, ties to even, whatever the rounding mode. Calculates as float.
class Half {
 public:
  Half() = default;
  Half(int value) : Half(static_cast<double>(value)) {}
  Half(float value) : bits_(narrow(value)) {}
  Half(double value) : bits_(narrow(value)) {}

  operator float() const {
    const uint32_t sign = uint32_t{bits_ & 0x8000u} << 16, magnitude = bits_ & 0x7fffu;
    if (magnitude < 0x400) {  // below the least normal number, 2^-14
      const float value = static_cast<float>(magnitude) * 0x1p-24f;
      return sign != 0 ? -value : value;
    }
    const uint32_t bias = magnitude >= 0x7c00 ? (255 - 31) << 23 : (127 - 15) << 23;
    const uint32_t wide = sign | ((magnitude << 13) + bias);
    float value;
    std::memcpy(&value, &wide, sizeof value);
    return value;
  }

  uint16_t bits() const { return bits_; }

 private:
  static uint16_t narrow(float value) {
    uint32_t wide;
    std::memcpy(&wide, &value, sizeof wide);
    return narrow_bits(wide);
  }

  // By way of a float whose last bit says whether anything was cut off: the second rounding then sees what the first
  // left out.
  static uint16_t narrow(double value) {
    uint64_t wide;
    std::memcpy(&wide, &value, sizeof wide);
    const auto sign = static_cast<uint32_t>(wide >> 63) << 31;
    const uint64_t magnitude = wide << 1 >> 1;
    constexpr uint64_t kOne = uint64_t{1023} << 52, kStep = uint64_t{1} << 52;
    if (magnitude > uint64_t{2047} << 52) return narrow_bits(sign | 0x7fc00000u);  // not a number
    if (magnitude >= kOne + 17 * kStep) return narrow_bits(sign | 0x7f800000u);    // beyond all numbers
    if (magnitude < kOne - 30 * kStep) return narrow_bits(sign);                   // below half of the least
    const uint64_t biased = magnitude - (uint64_t{1023 - 127} << 52), cut = biased & ((uint64_t{1} << 29) - 1);
    return narrow_bits(sign | static_cast<uint32_t>(biased >> 29) | (cut != 0 ? 1 : 0));
  }

  static uint16_t narrow_bits(uint32_t wide) {
    const auto sign = static_cast<uint16_t>(wide >> 16 & 0x8000u);
    const uint32_t magnitude = wide & 0x7fffffffu;
    if (magnitude >= 0x47800000u) return sign | (magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u);  // 2^16 and above
    if (magnitude >= 0x38800000u) {                                                             // 2^-14 and above
      return static_cast<uint16_t>(sign | ((magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1)) >> 13));
    }
    const uint32_t exponent = magnitude >> 23;
    if (exponent < 102) return sign;  // below 2^-25
    const uint32_t mantissa = (magnitude & 0x7fffffu) | 0x800000u, shift = 126 - exponent, kept = mantissa >> shift;
    const uint32_t rest = mantissa & ((1u << shift) - 1), middle = 1u << (shift - 1);
    return static_cast<uint16_t>(sign | (kept + (rest > middle || (rest == middle && (kept & 1)) ? 1 : 0)));
  }

  uint16_t bits_;
};

static_assert(sizeof(Half) == 2, "lies in arrays");

}  // namespace tiaot
