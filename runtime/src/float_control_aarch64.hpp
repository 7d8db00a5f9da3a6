// float_control_aarch64.hpp: float_control.hpp for aarch64. Most of its CPUs have no traps: their bits stay 0.
#pragma once

#include <cstdint>

namespace tiaot {

inline uint64_t read_fpcr() {
  uint64_t word;
  __asm__ volatile("mrs %0, fpcr" : "=r"(word));
  return word;
}
inline void write_fpcr(uint64_t word) { __asm__ volatile("msr fpcr, %0" : : "r"(word)); }

inline uint64_t read_fpsr() {
  uint64_t word;
  __asm__ volatile("mrs %0, fpsr" : "=r"(word));
  return word;
}
inline void write_fpsr(uint64_t word) { __asm__ volatile("msr fpsr, %0" : : "r"(word)); }

// The control state of a thread: the rounding mode, whether denormals are flushed, and which exceptions trap.
struct FloatControl {
  uint64_t fpcr;

  static constexpr uint64_t kRaised = 0x9f;   // of fpsr
  static constexpr uint64_t kTraps = 0x9f00;  // of fpcr

  static FloatControl of_this_thread() { return {read_fpcr()}; }
};

// Gives this thread another's control state for a while. No exception traps meanwhile, also where it does in the other:
// a worker has no handler for it. What was raised is to be given to the other thread.
class BorrowedFloatControl {
 public:
  explicit BorrowedFloatControl(const FloatControl &lender) : fpcr_(read_fpcr()), fpsr_(read_fpsr()) {
    write_fpcr(lender.fpcr & ~FloatControl::kTraps);
    write_fpsr(fpsr_ & ~FloatControl::kRaised);
  }
  ~BorrowedFloatControl() {
    write_fpcr(fpcr_);
    write_fpsr(fpsr_);
  }
  BorrowedFloatControl(const BorrowedFloatControl &) = delete;
  BorrowedFloatControl &operator=(const BorrowedFloatControl &) = delete;

  // The exceptions raised so far, as bits of fpsr.
  uint32_t raised() const { return static_cast<uint32_t>(read_fpsr() & FloatControl::kRaised); }

 private:
  uint64_t fpcr_, fpsr_;
};

// While it lives, no floating-point exception traps on this thread, and none shows afterwards. Compiled code calculates
// in vectors of which some lanes may stand for nothing, so it divides zero by zero where the kernel does not. A caller
// whose exceptions do not trap, as nearly all, pays a read and keeps the exceptions that were raised.
class FloatTrapsOff {
 public:
  FloatTrapsOff() : fpcr_(read_fpcr()) {
    if (!trapped()) return;
    fpsr_ = read_fpsr();
    write_fpcr(fpcr_ & ~FloatControl::kTraps);
  }
  ~FloatTrapsOff() {
    if (!trapped()) return;
    write_fpsr(fpsr_);
    write_fpcr(fpcr_);
  }
  FloatTrapsOff(const FloatTrapsOff &) = delete;
  FloatTrapsOff &operator=(const FloatTrapsOff &) = delete;

 private:
  bool trapped() const { return __builtin_expect((fpcr_ & FloatControl::kTraps) != 0, 0); }

  uint64_t fpcr_, fpsr_ = 0;
};

// Marks exceptions as raised on this thread, as if it had done the arithmetic itself. None traps by it.
inline void raise_float_exceptions(uint32_t raised) {
  if (raised != 0) write_fpsr(read_fpsr() | raised);
}

}  // namespace tiaot
