// arithmetic.cpp: see arithmetic.hpp. By the PTX ISA; where it leaves a choice, as NVIDIA's devices do.
#include "arithmetic.hpp"

#include <algorithm>

#include "values.hpp"

namespace ptx {
namespace {

using Wide = __int128;
using UnsignedWide = unsigned __int128;

// The whole product, of which instructions take the lower or the upper half.
UnsignedWide product(Type type, uint64_t a, uint64_t b) {
  if (is_signed(type)) return static_cast<UnsignedWide>(Wide{extended(type, a)} * extended(type, b));
  return UnsignedWide{cut(type, a)} * cut(type, b);
}
uint64_t high_half(Type type, uint64_t a, uint64_t b) {
  return cut(type, static_cast<uint64_t>(product(type, a, b) >> bits_in(type)));
}

template <typename T>
T lesser(T a, T b, bool greater, bool keep_nan) {
  if (std::isnan(static_cast<double>(a)) || std::isnan(static_cast<double>(b))) {
    const bool all = std::isnan(static_cast<double>(a)) && std::isnan(static_cast<double>(b));
    if (all || keep_nan) return static_cast<T>(NAN);
    return std::isnan(static_cast<double>(a)) ? b : a;
  }
  const bool a_first = a != b ? a < b : std::signbit(static_cast<double>(a));
  return a_first != greater ? a : b;
}

uint64_t divided(const Instruction &it, uint64_t a, uint64_t b) {
  const bool remainder = it.op == Op::kRem;
  if (cut(it.type, b) == 0) return cut(it.type, remainder ? a : ~uint64_t{0});
  if (!is_signed(it.type)) {
    return remainder ? cut(it.type, a) % cut(it.type, b) : cut(it.type, a) / cut(it.type, b);
  }
  const int64_t x = extended(it.type, a), y = extended(it.type, b);
  if (y == -1) return remainder ? 0 : cut(it.type, uint64_t{0} - static_cast<uint64_t>(x));
  return cut(it.type, static_cast<uint64_t>(remainder ? x % y : x / y));
}

uint64_t shifted(const Instruction &it, uint64_t a, uint64_t by) {
  const uint64_t count = std::min<uint64_t>(cut(Type::kU32, by), static_cast<uint64_t>(bits_in(it.type)));
  if (it.op == Op::kShiftLeft) return count == 64 ? 0 : cut(it.type, a << count);
  if (is_signed(it.type))
    return cut(it.type, static_cast<uint64_t>(extended(it.type, a) >> std::min<uint64_t>(count, 63)));
  return count == 64 ? 0 : cut(it.type, a) >> count;
}

uint64_t extracted(Type type, uint64_t value, uint64_t first, uint64_t count) {
  first &= 0xFF;
  count &= 0xFF;
  const uint64_t bits = static_cast<uint64_t>(bits_in(type));
  if (count == 0) return 0;
  const uint64_t sign = is_signed(type) ? value >> std::min(first + count - 1, bits - 1) & 1 : 0;
  uint64_t result = 0;
  for (uint64_t i = 0; i < bits; ++i) {
    const uint64_t bit = i < count && first + i < bits ? value >> (first + i) & 1 : sign;
    result |= bit << i;
  }
  return result;
}

uint64_t permuted(uint64_t a, uint64_t b, uint64_t selector) {
  const uint64_t bytes = cut(Type::kU32, a) | b << 32;
  uint64_t result = 0;
  for (int i = 0; i < 4; ++i) {
    const uint64_t chosen = selector >> (4 * i) & 15;
    uint64_t byte = bytes >> (8 * (chosen & 7)) & 0xFF;
    if (chosen & 8) byte = byte & 0x80 ? 0xFF : 0;
    result |= byte << (8 * i);
  }
  return result;
}

void compute_float(const Instruction &it, uint32_t mask, Lanes &to, const std::array<const Lanes *, 4> &of) {
  if (it.round != Round::kNone && it.round != Round::kNearest) refuse(it);
  with_float(it.type, [&](auto kind) {
    using T = decltype(kind);
    const auto value = [&](int operand, int lane) {
      return flushed(as<T>((*of[static_cast<size_t>(operand)])[static_cast<size_t>(lane)]), it.flush);
    };
    const auto put = [&](auto function) {
      each_lane(mask, [&](int lane) {
        T result = flushed(static_cast<T>(function(lane)), it.flush);
        if (it.saturate) result = result > T(0) ? (result < T(1) ? result : T(1)) : T(0);
        to[static_cast<size_t>(lane)] = bits_of(result);
      });
    };
    switch (it.op) {
      case Op::kAdd:
        return put([&](int lane) { return value(0, lane) + value(1, lane); });
      case Op::kSub:
        return put([&](int lane) { return value(0, lane) - value(1, lane); });
      case Op::kMul:
        return put([&](int lane) { return value(0, lane) * value(1, lane); });
      case Op::kDiv:
        return put([&](int lane) { return value(0, lane) / value(1, lane); });
      case Op::kFma:
        return put([&](int lane) {
          if constexpr (sizeof(T) == 2) {  // exact in double up to the last rounding
            return static_cast<double>(value(0, lane)) * static_cast<double>(value(1, lane)) +
                   static_cast<double>(value(2, lane));
          } else {
            return std::fma(value(0, lane), value(1, lane), value(2, lane));
          }
        });
      case Op::kMin:
      case Op::kMax:
        return put([&](int lane) { return lesser(value(0, lane), value(1, lane), it.op == Op::kMax, it.keep_nan); });
      case Op::kAbs:
      case Op::kNeg: {
        const uint64_t sign = uint64_t{1} << (bits_in(it.type) - 1);
        return each_lane(mask, [&](int lane) {
          const uint64_t bits = cut(it.type, bits_of(value(0, lane)));
          to[static_cast<size_t>(lane)] = it.op == Op::kAbs ? bits & ~sign : bits ^ sign;
        });
      }
      default:
        refuse(it);
    }
  });
}

}  // namespace

bool compute(const Instruction &it, uint32_t mask, Lanes &to, const std::array<const Lanes *, 4> &of, Lanes &carry,
             bool off) {
  const Type type = it.type;
  const auto a = [&](int lane) { return (*of[0])[static_cast<size_t>(lane)]; };
  const auto b = [&](int lane) { return (*of[1])[static_cast<size_t>(lane)]; };
  const auto c = [&](int lane) { return (*of[2])[static_cast<size_t>(lane)]; };
  const auto put = [&](auto function) {
    each_lane(mask, [&](int lane) { to[static_cast<size_t>(lane)] = cut(type, function(lane)); });
    return true;
  };
  // Additions with the carry of the one before, and for the one behind.
  const auto put_sum = [&](auto left, auto right, bool subtract) {
    each_lane(mask, [&](int lane) {
      uint64_t &flag = carry[static_cast<size_t>(lane)];
      const UnsignedWide x = cut(type, left(lane)), y = cut(type, right(lane)), in = it.carry_in ? flag : 0;
      const UnsignedWide sum = subtract ? x - y - in : x + y + in;
      if (it.carry_out) flag = static_cast<uint64_t>(sum >> bits_in(type)) & 1;
      to[static_cast<size_t>(lane)] = cut(type, static_cast<uint64_t>(sum));
    });
    return true;
  };
  switch (it.op) {
    case Op::kAdd:
    case Op::kSub:
      if (!is_float(type)) return put_sum(a, b, it.op == Op::kSub);
      compute_float(it, mask, to, of);
      return true;
    case Op::kMul:
      if (!is_float(type)) return put([&](int lane) { return a(lane) * b(lane); });
      compute_float(it, mask, to, of);
      return true;
    case Op::kDiv:
      if (!is_float(type)) return put([&](int lane) { return divided(it, a(lane), b(lane)); });
      compute_float(it, mask, to, of);
      return true;
    case Op::kMin:
    case Op::kMax:
    case Op::kAbs:
    case Op::kNeg:
      if (is_float(type)) {
        compute_float(it, mask, to, of);
        return true;
      }
      if (it.op == Op::kNeg) return put([&](int lane) { return uint64_t{0} - a(lane); });
      if (it.op == Op::kAbs) {
        return put([&](int lane) { return extended(type, a(lane)) < 0 ? uint64_t{0} - a(lane) : a(lane); });
      }
      return put([&](int lane) {
        const bool first = is_signed(type) ? extended(type, a(lane)) < extended(type, b(lane))
                                           : cut(type, a(lane)) < cut(type, b(lane));
        return first == (it.op == Op::kMin) ? a(lane) : b(lane);
      });
    case Op::kFma:
      compute_float(it, mask, to, of);
      return true;
    case Op::kRem:
      return put([&](int lane) { return divided(it, a(lane), b(lane)); });
    case Op::kMulHigh:
      return put([&](int lane) { return high_half(type, a(lane), b(lane)); });
    case Op::kMulWide:
    case Op::kMulAddWide:
      each_lane(mask, [&](int lane) {
        const uint64_t whole = static_cast<uint64_t>(product(type, a(lane), b(lane)));
        const uint64_t sum = it.op == Op::kMulWide ? whole : whole + c(lane);
        to[static_cast<size_t>(lane)] = bytes_of(type) == 2 ? cut(Type::kU32, sum) : sum;
      });
      return true;
    case Op::kMulAdd:
      return put_sum([&](int lane) { return a(lane) * b(lane); }, c, false);
    case Op::kMulAddHigh:
      return put_sum([&](int lane) { return high_half(type, a(lane), b(lane)); }, c, false);
    case Op::kNot:
      return put([&](int lane) { return ~a(lane); });
    case Op::kAnd:
      return put([&](int lane) { return a(lane) & b(lane); });
    case Op::kOr:
      return put([&](int lane) { return a(lane) | b(lane); });
    case Op::kXor:
      return put([&](int lane) { return a(lane) ^ b(lane); });
    case Op::kShiftLeft:
    case Op::kShiftRight:
      return put([&](int lane) { return shifted(it, a(lane), b(lane)); });
    case Op::kFunnelLeft:
    case Op::kFunnelRight:
      return put([&](int lane) {
        const uint64_t both = cut(Type::kU32, a(lane)) | b(lane) << 32, by = c(lane) & 31;
        return it.op == Op::kFunnelRight ? both >> by
                                         : both >> 32 << by | (by == 0 ? 0 : cut(Type::kU32, both) >> (32 - by));
      });
    case Op::kSelect:
      return put([&](int lane) { return c(lane) ? a(lane) : b(lane); });
    case Op::kConvert:
      each_lane(mask, [&](int lane) { to[static_cast<size_t>(lane)] = converted(it, a(lane)); });
      return true;
    case Op::kMove:
      return put(a);
    case Op::kConvertAddress:
      each_lane(mask, [&](int lane) { to[static_cast<size_t>(lane)] = a(lane); });
      return true;
    case Op::kSqrt:
    case Op::kReciprocalSqrt:
    case Op::kReciprocal:
    case Op::kExp2:
    case Op::kLog2:
    case Op::kSin:
    case Op::kCos:
    case Op::kTanh:
      return put([&](int lane) { return mathematical(it, a(lane), off); });
    case Op::kExtractBits:
      return put([&](int lane) { return extracted(type, cut(type, a(lane)), b(lane), c(lane)); });
    case Op::kCountOnes:
      return put([&](int lane) { return static_cast<uint64_t>(__builtin_popcountll(cut(type, a(lane)))); });
    case Op::kCountZeros:
      return put([&](int lane) {
        const uint64_t value = cut(type, a(lane)), unused = static_cast<uint64_t>(64 - bits_in(type));
        return value == 0 ? 64 - unused : static_cast<uint64_t>(__builtin_clzll(value)) - unused;
      });
    case Op::kReverse:
      return put([&](int lane) {
        uint64_t result = 0;
        for (int i = 0; i < bits_in(type); ++i) result |= (a(lane) >> i & 1) << (bits_in(type) - 1 - i);
        return result;
      });
    case Op::kPermute:
      return put([&](int lane) { return permuted(a(lane), b(lane), c(lane)); });
    case Op::kCopySign:  // the sign of the first operand
      return put([&](int lane) {
        const uint64_t sign = uint64_t{1} << (bits_in(type) - 1);
        return (a(lane) & sign) | (b(lane) & ~sign);
      });
    case Op::kTest:
      each_lane(mask, [&](int lane) { to[static_cast<size_t>(lane)] = tested(it, a(lane)); });
      return true;
    default:
      return false;
  }
}

}  // namespace ptx
