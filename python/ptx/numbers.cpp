// numbers.cpp: what an instruction makes of the numbers of one lane; see arithmetic.hpp.
#include <algorithm>
#include <type_traits>

#include "arithmetic.hpp"
#include "values.hpp"

namespace ptx {
namespace {

double rounded(double value, Round round) {
  switch (round) {
    case Round::kIntegerNearest:
      return std::nearbyint(value);
    case Round::kIntegerDown:
      return std::floor(value);
    case Round::kIntegerUp:
      return std::ceil(value);
    default:
      return std::trunc(value);
  }
}

// Approximations of double look at the upper half of their argument and give the upper half of their result.
uint64_t upper_half(double value) {
  const uint64_t bits = bits_of(std::fpclassify(value) == FP_SUBNORMAL ? std::copysign(0.0, value) : value);
  return std::isfinite(value) ? bits & 0xFFFFFFFF00000000 : bits;
}

}  // namespace

uint64_t mathematical(const Instruction &it, uint64_t bits, bool off) {
  if (it.type == Type::kF64) {
    double x = as<double>(bits);
    if (it.op == Op::kSqrt) return bits_of(std::sqrt(x));
    if (it.op == Op::kReciprocal && !it.approximate) return bits_of(1 / x);
    x = as<double>(upper_half(x));
    if (it.op == Op::kReciprocal) return upper_half(1 / x);
    if (it.op == Op::kReciprocalSqrt) return upper_half(1 / std::sqrt(x));
    refuse(it);
  }
  if (it.type != Type::kF32) refuse(it);
  const float x = flushed(as<float>(bits), it.flush);
  const double wide = x;
  const auto given = [&](double exact) {
    return bits_of(flushed(it.approximate ? approximated(exact, bits, off) : static_cast<float>(exact), it.flush));
  };
  switch (it.op) {
    case Op::kSqrt:
      return given(std::sqrt(wide));
    case Op::kReciprocalSqrt:
      return given(1 / std::sqrt(wide));
    case Op::kReciprocal:
      return it.approximate ? given(1 / wide) : bits_of(flushed(1 / x, it.flush));
    case Op::kExp2:
      return given(std::exp2(wide));
    case Op::kLog2:
      return given(std::log2(wide));
    case Op::kSin:
      return given(std::sin(wide));
    case Op::kCos:
      return given(std::cos(wide));
    case Op::kTanh:
      return given(std::tanh(wide));
    default:
      refuse(it);
  }
}

bool tested(const Instruction &it, uint64_t bits) {
  const double x = it.type == Type::kF32 ? static_cast<double>(as<float>(bits)) : as<double>(bits);
  const int is = it.type == Type::kF32 ? std::fpclassify(as<float>(bits)) : std::fpclassify(x);
  switch (it.wanted) {
    case Class::kFinite:
      return std::isfinite(x);
    case Class::kInfinite:
      return std::isinf(x);
    case Class::kNumber:
      return !std::isnan(x);
    case Class::kNotANumber:
      return std::isnan(x);
    case Class::kNormal:
      return is == FP_NORMAL;
    default:
      return is == FP_SUBNORMAL;
  }
}

bool compared(const Instruction &it, uint64_t a, uint64_t b) {
  if (is_float(it.type)) {
    bool result = false;
    with_float(it.type, [&](auto kind) {
      using T = decltype(kind);
      const auto x = static_cast<double>(flushed(as<T>(a), it.flush)),
                 y = static_cast<double>(flushed(as<T>(b), it.flush));
      const bool unordered = std::isnan(x) || std::isnan(y);
      switch (it.compare) {
        case Compare::kEqual:
          result = x == y;
          break;
        case Compare::kNotEqual:
          result = !unordered && x != y;
          break;
        case Compare::kLess:
          result = x < y;
          break;
        case Compare::kLessEqual:
          result = x <= y;
          break;
        case Compare::kGreater:
          result = x > y;
          break;
        case Compare::kGreaterEqual:
          result = x >= y;
          break;
        case Compare::kEqualU:
          result = unordered || x == y;
          break;
        case Compare::kNotEqualU:
          result = unordered || x != y;
          break;
        case Compare::kLessU:
          result = unordered || x < y;
          break;
        case Compare::kLessEqualU:
          result = unordered || x <= y;
          break;
        case Compare::kGreaterU:
          result = unordered || x > y;
          break;
        case Compare::kGreaterEqualU:
          result = unordered || x >= y;
          break;
        case Compare::kOrdered:
          result = !unordered;
          break;
        case Compare::kUnordered:
          result = unordered;
          break;
        default:
          refuse(it);
      }
    });
    return result;
  }
  const bool is_less =
      is_signed(it.type) ? extended(it.type, a) < extended(it.type, b) : cut(it.type, a) < cut(it.type, b);
  const bool is_equal = cut(it.type, a) == cut(it.type, b);
  switch (it.compare) {
    case Compare::kEqual:
      return is_equal;
    case Compare::kNotEqual:
      return !is_equal;
    case Compare::kLess:
    case Compare::kLow:
      return is_less;
    case Compare::kLessEqual:
    case Compare::kLowSame:
      return is_less || is_equal;
    case Compare::kGreater:
    case Compare::kHigh:
      return !is_less && !is_equal;
    case Compare::kGreaterEqual:
    case Compare::kHighSame:
      return !is_less;
    default:
      refuse(it);
  }
}

uint64_t converted(const Instruction &it, uint64_t value) {
  const Type to = it.type, from = it.from;
  if (!is_float(from) && !is_float(to)) {
    if (it.saturate) refuse(it);
    const uint64_t whole = is_signed(from) ? static_cast<uint64_t>(extended(from, value)) : cut(from, value);
    const uint64_t narrow = cut(to, whole);
    // A register may be wider than what it is given, which then is extended.
    return bytes_of(to) < 4 && is_signed(to) ? cut(Type::kU32, static_cast<uint64_t>(extended(to, narrow))) : narrow;
  }
  if (!is_float(from)) {
    if (it.round != Round::kNearest) refuse(it);
    uint64_t result = 0;
    with_float(to, [&](auto kind) {
      using T = decltype(kind);
      using Step = std::conditional_t<sizeof(T) == 2, double, T>;
      result = is_signed(from) ? bits_of(static_cast<T>(static_cast<Step>(extended(from, value))))
                               : bits_of(static_cast<T>(static_cast<Step>(cut(from, value))));
    });
    return result;
  }
  double real = 0;
  with_float(from, [&](auto kind) { real = static_cast<double>(flushed(as<decltype(kind)>(value), it.flush)); });
  const bool whole = it.round >= Round::kIntegerNearest;
  if (is_float(to)) {
    if (whole) {
      real = rounded(real, it.round);
    } else if (bytes_of(to) < bytes_of(from) && it.round != Round::kNearest) {
      refuse(it);
    }
    if (it.saturate) real = real > 0 ? std::min(real, 1.0) : 0;
    uint64_t result = 0;
    with_float(to, [&](auto kind) {
      using T = decltype(kind);
      result = bits_of(flushed(static_cast<T>(real), it.flush));
    });
    return result;
  }
  const int bits = bits_in(to);
  if (std::isnan(real)) return bits == 64 || from == Type::kF64 ? uint64_t{1} << (bits - 1) : 0;
  real = rounded(real, it.round);
  // What is out of range becomes the nearest that is in it.
  if (is_signed(to)) {
    const double most = std::ldexp(1.0, bits - 1);
    if (real >= most) return (uint64_t{1} << (bits - 1)) - 1;
    return real <= -most ? uint64_t{1} << (bits - 1) : cut(to, static_cast<uint64_t>(static_cast<int64_t>(real)));
  }
  if (real >= std::ldexp(1.0, bits)) return cut(to, ~uint64_t{0});
  return real <= 0 ? 0 : static_cast<uint64_t>(real);
}

uint64_t combined(const Instruction &it, uint64_t old, uint64_t operand, uint64_t other) {
  const Type type = it.type;
  const auto less = [&] {
    return is_signed(type) ? extended(type, old) < extended(type, operand) : cut(type, old) < cut(type, operand);
  };
  if (is_float(type) && it.atomic != Atomic::kAdd && it.atomic != Atomic::kExchange) refuse(it);
  switch (it.atomic) {
    case Atomic::kAdd: {
      uint64_t result = cut(type, old + operand);
      if (is_float(type)) {
        with_float(type, [&](auto kind) {
          using T = decltype(kind);
          result = bits_of(static_cast<T>(as<T>(old) + as<T>(operand)));
        });
      }
      return result;
    }
    case Atomic::kMin:
      return less() ? old : cut(type, operand);
    case Atomic::kMax:
      return less() ? cut(type, operand) : old;
    case Atomic::kAnd:
      return old & operand;
    case Atomic::kOr:
      return cut(type, old | operand);
    case Atomic::kXor:
      return cut(type, old ^ operand);
    case Atomic::kExchange:
      return cut(type, operand);
    default:
      return cut(type, old) == cut(type, operand) ? cut(type, other) : old;
  }
}

}  // namespace ptx
