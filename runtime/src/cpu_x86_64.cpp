// cpu_x86_64.cpp: cpuid and xgetbv against the psABI's feature lists. Knows nothing of modules.
#include "cpu_x86_64.hpp"

#include <cpuid.h>

#include "cpu.hpp"

namespace tiaot {
namespace {

// What each level adds to the one below: System V ABI for x86-64, table "Micro-Architecture Levels".
struct LevelFeatures {
  uint32_t leaf1_ecx, leaf7_ebx, extended1_ecx, xcr0;
};

constexpr uint32_t bits() { return 0; }
template <typename... Rest>
constexpr uint32_t bits(int bit, Rest... rest) {
  return (1u << bit) | bits(rest...);
}

constexpr LevelFeatures kNeeded[] = {
    // SSE3, SSSE3, CMPXCHG16B, SSE4.1, SSE4.2, POPCNT; LAHF-SAHF
    {bits(0, 9, 13, 19, 20, 23), 0, bits(0), 0},
    // FMA, MOVBE, OSXSAVE, AVX, F16C; BMI1, AVX2, BMI2; LZCNT; the OS saves xmm and ymm
    {bits(12, 22, 27, 28, 29), bits(3, 5, 8), bits(5), bits(1, 2)},
    // AVX512 F, DQ, CD, BW, VL; the OS saves mask registers, upper halves of zmm0-15, zmm16-31
    {0, bits(16, 17, 28, 30, 31), 0, bits(5, 6, 7)},
};

CpuFeatures read_features() {
  CpuFeatures features{};
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid(1, &eax, &ebx, &ecx, &edx)) features.leaf1_ecx = ecx;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) features.leaf7_ebx = ebx;
  if (__get_cpuid(0x80000001u, &eax, &ebx, &ecx, &edx)) features.extended1_ecx = ecx;
  if (features.leaf1_ecx & bit_OSXSAVE) {
    uint32_t low = 0, high = 0;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    features.xcr0 = low;
  }
  return features;
}

}  // namespace

const char *const kLevelNames[] = {"x86-64-v2", "x86-64-v3", "x86-64-v4"};
const int kLevels = 3;
static_assert(sizeof kNeeded / sizeof kNeeded[0] == sizeof kLevelNames / sizeof kLevelNames[0], "features of each");

int level_of(const CpuFeatures &features) {
  int level = -1;
  for (const LevelFeatures &needed : kNeeded) {
    const bool all = (features.leaf1_ecx & needed.leaf1_ecx) == needed.leaf1_ecx &&
                     (features.leaf7_ebx & needed.leaf7_ebx) == needed.leaf7_ebx &&
                     (features.extended1_ecx & needed.extended1_ecx) == needed.extended1_ecx &&
                     (features.xcr0 & needed.xcr0) == needed.xcr0;
    if (!all) break;
    ++level;
  }
  return level;
}

int machine_level() {
  static const int level = level_of(read_features());
  return level;
}

}  // namespace tiaot
