// test_half.cpp: float16 against its definition.
#include <cmath>
#include <limits>

#include "check.hpp"
#include "half.hpp"

namespace {

// What the bits of a float16 stand for.
double meaning(uint32_t bits) {
  const double sign = bits & 0x8000 ? -1 : 1;
  const int exponent = static_cast<int>(bits >> 10 & 31);
  const double fraction = bits & 0x3ff;
  if (exponent == 31) return fraction == 0 ? sign * HUGE_VAL : std::nan("");
  return exponent == 0 ? sign * std::ldexp(fraction, -24) : sign * std::ldexp(1024 + fraction, exponent - 25);
}

tiaot::Half of_bits(uint32_t bits) {
  const auto narrow = static_cast<uint16_t>(bits);
  tiaot::Half half;
  std::memcpy(static_cast<void *>(&half), &narrow, sizeof half);
  return half;
}

// That a number becomes one of two neighbours, and the right one.
template <typename T>
void rounds_to(T value, uint32_t expected) {
  if (tiaot::Half(value).bits() != expected) {
    std::ostringstream text;
    text << std::hexfloat << value << " became " << std::hex << tiaot::Half(value).bits() << ", not " << expected;
    check::report(__FILE__, __LINE__, text.str());
  }
}

template <typename T>
void rounds_right() {
  constexpr T kInfinity = std::numeric_limits<T>::infinity();
  for (uint32_t sign : {0u, 0x8000u}) {
    for (uint32_t bits = 0; bits < 0x7c00; ++bits) {
      // The next number up, 2^16 where there is none.
      const T low = static_cast<T>(meaning(bits)), high = bits == 0x7bff ? T(65536) : static_cast<T>(meaning(bits + 1));
      const T middle = low + (high - low) / 2, s = sign == 0 ? T(1) : T(-1);
      rounds_to(s * low, sign | bits);
      rounds_to(s * std::nextafter(middle, T(0)), sign | bits);
      rounds_to(s * middle, sign | (bits + (bits & 1)));
      rounds_to(s * std::nextafter(middle, kInfinity), sign | (bits + 1));
      rounds_to(s * std::nextafter(high, T(0)), sign | (bits + 1));
    }
    const T s = sign == 0 ? T(1) : T(-1);
    for (T large : {T(65536), std::numeric_limits<T>::max(), kInfinity}) rounds_to(s * large, sign | 0x7c00);
    for (T tiny : {std::numeric_limits<T>::denorm_min(), std::numeric_limits<T>::min()}) rounds_to(s * tiny, sign);
    CHECK(std::isnan(static_cast<float>(tiaot::Half(s * std::numeric_limits<T>::quiet_NaN()))));
  }
}

}  // namespace

TEST(every_half_is_exact_as_a_float) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const double expected = meaning(bits);
    const float got = of_bits(bits);
    if (std::isnan(expected) ? !std::isnan(got) : got != expected) CHECK_EQ(got, expected);
    if (std::signbit(got) != (bits >= 0x8000)) CHECK_EQ(bits, 0u);
  }
}

TEST(floats_round_to_the_nearest) { rounds_right<float>(); }

TEST(doubles_round_once) { rounds_right<double>(); }
