// ptx.hpp: PTX as data: what parse.cpp makes of its text and warp.cpp runs. It has what LLVM's back end writes for the
// kernels of this project; a text with anything else is refused, by the line that has it.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace ptx {

// The text holds what is not known here, or a kernel does what cannot go on.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

enum class Type : uint8_t {
  kNone,
  kPred,
  kB8,
  kB16,
  kB32,
  kB64,
  kU8,
  kU16,
  kU32,
  kU64,
  kS8,
  kS16,
  kS32,
  kS64,
  kF16,
  kF32,
  kF64
};

inline int bytes_of(Type type) {
  switch (type) {
    case Type::kB16:
    case Type::kU16:
    case Type::kS16:
    case Type::kF16:
      return 2;
    case Type::kB32:
    case Type::kU32:
    case Type::kS32:
    case Type::kF32:
      return 4;
    case Type::kB64:
    case Type::kU64:
    case Type::kS64:
    case Type::kF64:
      return 8;
    default:
      return 1;
  }
}
inline bool is_float(Type type) { return type >= Type::kF16; }
inline bool is_signed(Type type) { return type >= Type::kS8 && type <= Type::kS64; }

enum class Op : uint8_t {
  kMove,
  kPack,
  kUnpack,
  kAdd,
  kSub,
  kMul,
  kMulHigh,
  kMulWide,
  kMulAdd,
  kMulAddHigh,
  kMulAddWide,
  kFma,
  kDiv,
  kRem,
  kMin,
  kMax,
  kAbs,
  kNeg,
  kNot,
  kAnd,
  kOr,
  kXor,
  kShiftLeft,
  kShiftRight,
  kFunnelLeft,
  kFunnelRight,
  kSetPredicate,
  kSelect,
  kConvert,
  kConvertAddress,
  kLoad,
  kStore,
  kAtomic,
  kBranch,
  kCall,
  kReturn,
  kSqrt,
  kReciprocalSqrt,
  kReciprocal,
  kExp2,
  kLog2,
  kSin,
  kCos,
  kTanh,
  kExtractBits,
  kCountOnes,
  kCountZeros,
  kReverse,
  kPermute,
  kCopySign,
  kTest,
  kActiveMask,
  kShuffle,
  kBarrier,
  kFence,
  kTrap,
};
enum class Space : uint8_t { kGeneric, kGlobal, kLocal, kShared, kParameter, kConstant };
enum class Compare : uint8_t {
  kEqual,
  kNotEqual,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
  kLow,
  kLowSame,
  kHigh,
  kHighSame,
  kEqualU,
  kNotEqualU,
  kLessU,
  kLessEqualU,
  kGreaterU,
  kGreaterEqualU,
  kOrdered,
  kUnordered,
};
enum class Round : uint8_t {
  kNone,
  kNearest,
  kZero,
  kDown,
  kUp,
  kIntegerNearest,
  kIntegerZero,
  kIntegerDown,
  kIntegerUp
};
enum class Atomic : uint8_t { kAdd, kMin, kMax, kAnd, kOr, kXor, kExchange, kCompareExchange };
enum class Bool : uint8_t { kNone, kAnd, kOr, kXor };
enum class Class : uint8_t { kFinite, kInfinite, kNumber, kNotANumber, kNormal, kSubnormal };
enum class Shuffle : uint8_t { kUp, kDown, kButterfly, kIndex };

constexpr int kAbsent = -1;  // no register

struct Function;

// Operands are registers by their numbers; a constant is a register, too, that nothing writes to.
struct Instruction {
  Op op = Op::kMove;
  Type type = Type::kNone, from = Type::kNone;  // `from`: what is converted
  Space space = Space::kGeneric;
  Round round = Round::kNone;
  Compare compare = Compare::kEqual;
  Bool boolean = Bool::kNone;
  Atomic atomic = Atomic::kAdd;
  Class wanted = Class::kFinite;
  Shuffle shuffle = Shuffle::kIndex;
  uint8_t width = 1;   // of a vector
  bool flush = false;  // .ftz
  bool saturate = false, approximate = false, keep_nan = false;
  bool read_only = false;  // .nc
  bool is_volatile = false;
  bool carry_in = false, carry_out = false, high = false, negate = false;  // negate: the predicate that is combined
  int guard = kAbsent;
  bool guard_negated = false;
  std::array<int, 4> to{kAbsent, kAbsent, kAbsent, kAbsent};
  std::array<int, 4> of{kAbsent, kAbsent, kAbsent, kAbsent};
  int base = kAbsent;  // of an address: the register, or none
  int64_t offset = 0;  // and what is added to it; for parameters, the place among them
  int target = -1;     // of a branch
  Function *callee = nullptr;
  std::string name;            // of the callee, until all functions are known
  std::vector<int> arguments;  // places of what a callee is given
  int result = -1;             // and where what it returns goes
  std::string text;
};

struct Slot {
  int64_t offset, bytes;
};
// Named places one behind the other, each aligned.
struct Layout {
  std::map<std::string, Slot> slots;
  int64_t bytes = 0;
  int64_t add(const std::string &name, int64_t size, int64_t alignment) {
    const auto found = slots.find(name);
    if (found != slots.end() && found->second.bytes >= size) return found->second.offset;
    bytes = (bytes + alignment - 1) / alignment * alignment;
    slots[name] = {bytes, size};
    bytes += size;
    return slots[name].offset;
  }
};

enum class Special : uint8_t { kThread, kBlock, kThreads, kBlocks, kLane, kZero, kOne };

struct Function {
  std::string name;
  bool is_kernel = false, defined = false;
  int most_threads = 0;  // .maxntid
  std::vector<std::string> formals;
  std::string result;
  Layout parameters;  // formals, the result, and what it gives to the functions that it calls
  Layout locals, shared;
  int registers = 0;
  std::vector<std::pair<int, uint64_t>> constants;
  std::vector<std::pair<int, Special>> specials;
  std::vector<std::pair<int, int64_t>> local_pointers, shared_pointers;  // registers with addresses of those
  std::vector<std::pair<int, uint64_t>> constant_pointers;               // and of the module's constants
  std::vector<Instruction> code;
};

struct Program {
  std::map<std::string, std::unique_ptr<Function>> functions;
  std::map<std::string, std::vector<uint8_t>> constants;

  Function *kernel(const std::string &name) const {
    const auto found = functions.find(name);
    return found != functions.end() && found->second->is_kernel && found->second->defined ? found->second.get()
                                                                                          : nullptr;
  }
};

// Throws Error.
std::unique_ptr<Program> parse(const std::string &text);

// The text of an image as cuModuleLoadData takes it: PTX, or a fat binary that has some; "" where there is none.
std::string text_of(const void *image);

}  // namespace ptx
