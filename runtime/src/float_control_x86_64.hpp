// float_control_x86_64.hpp: float_control.hpp for SSE, AVX and the old floating-point unit.
#pragma once

#include <xmmintrin.h>

#include <cstdint>

namespace tiaot {

// The control state of a thread: the rounding mode, whether denormals are flushed, and which exceptions trap.
struct FloatControl {
  uint32_t mxcsr;  // of SSE and AVX; the lowest six bits are not control but the exceptions that were raised
  uint16_t x87;    // the old unit's word, which the same functions set

  static constexpr uint32_t kRaised = 0x3f, kMasked = 0x1f80;  // of mxcsr
  static constexpr uint16_t kMaskedX87 = 0x3f;

  static FloatControl of_this_thread() {
    FloatControl control{_mm_getcsr(), 0};
    __asm__("fnstcw %0" : "=m"(control.x87));
    return control;
  }
};

// Gives this thread another's control state for a while. No exception traps meanwhile, also where it does in the other:
// a worker has no handler for it. What was raised is to be given to the other thread.
class BorrowedFloatControl {
 public:
  explicit BorrowedFloatControl(const FloatControl &lender) : own_(FloatControl::of_this_thread()) {
    _mm_setcsr((lender.mxcsr & ~FloatControl::kRaised) | FloatControl::kMasked);
    x87_ = static_cast<uint16_t>(lender.x87 | FloatControl::kMaskedX87);
    if (x87_ != own_.x87) __asm__ volatile("fldcw %0" : : "m"(x87_));
  }
  ~BorrowedFloatControl() {
    _mm_setcsr(own_.mxcsr);
    if (x87_ != own_.x87) __asm__ volatile("fldcw %0" : : "m"(own_.x87));
  }
  BorrowedFloatControl(const BorrowedFloatControl &) = delete;
  BorrowedFloatControl &operator=(const BorrowedFloatControl &) = delete;

  // The exceptions raised so far, as bits of mxcsr.
  uint32_t raised() const { return _mm_getcsr() & FloatControl::kRaised; }

 private:
  FloatControl own_;
  uint16_t x87_;
};

// While it lives, no floating-point exception traps on this thread, and none shows afterwards. Compiled code calculates
// in vectors of which some lanes may stand for nothing, so it divides zero by zero where the kernel does not. A caller
// whose exceptions do not trap, as nearly all, pays a load and keeps the exceptions that were raised.
class FloatTrapsOff {
 public:
  FloatTrapsOff() : before_(_mm_getcsr()) {
    if (trapped()) _mm_setcsr(before_ | FloatControl::kMasked);
  }
  ~FloatTrapsOff() {
    if (trapped()) _mm_setcsr(before_);
  }
  FloatTrapsOff(const FloatTrapsOff &) = delete;
  FloatTrapsOff &operator=(const FloatTrapsOff &) = delete;

 private:
  bool trapped() const { return __builtin_expect((~before_ & FloatControl::kMasked) != 0, 0); }

  uint32_t before_;
};

// Marks exceptions as raised on this thread, as if it had done the arithmetic itself. None traps by it.
inline void raise_float_exceptions(uint32_t raised) {
  if (raised != 0) _mm_setcsr(_mm_getcsr() | raised);
}

}  // namespace tiaot
