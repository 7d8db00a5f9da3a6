// cpu.cpp: cpuid and xgetbv against the psABI's feature lists; TIAOT_CPU_LEVEL. Knows nothing of modules.
#include "cpu.hpp"

#include <cpuid.h>

#include <cstdlib>
#include <cstring>

#include "error.hpp"

namespace tiaot {
namespace {

const char *const kLevelNames[TIAOT_LEVEL_COUNT] = {"x86-64-v2", "x86-64-v3", "x86-64-v4"};

// What each level adds to the one below: System V ABI for x86-64, table "Micro-Architecture Levels".
struct LevelFeatures {
  uint32_t leaf1_ecx, leaf7_ebx, extended1_ecx, xcr0;
};

constexpr uint32_t bits() { return 0; }
template <typename... Rest>
constexpr uint32_t bits(int bit, Rest... rest) {
  return (1u << bit) | bits(rest...);
}

constexpr LevelFeatures kLevels[TIAOT_LEVEL_COUNT] = {
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

int level_of(const CpuFeatures &features) {
  int level = -1;
  for (const LevelFeatures &needed : kLevels) {
    const bool all = (features.leaf1_ecx & needed.leaf1_ecx) == needed.leaf1_ecx &&
                     (features.leaf7_ebx & needed.leaf7_ebx) == needed.leaf7_ebx &&
                     (features.extended1_ecx & needed.extended1_ecx) == needed.extended1_ecx &&
                     (features.xcr0 & needed.xcr0) == needed.xcr0;
    if (!all) break;
    ++level;
  }
  return level;
}

tiaot_status choose_level(int machine, const char *wanted, int *level) {
  if (machine < 0) {
    return raise(TIAOT_ERROR_UNSUPPORTED, "this machine's CPU lacks %s, the least that tiaot's modules need",
                 kLevelNames[0]);
  }
  // An empty variable is how shells and container files spell "unset".
  if (wanted == nullptr || wanted[0] == '\0') {
    *level = machine;
    return TIAOT_OK;
  }
  for (int i = 0; i < TIAOT_LEVEL_COUNT; ++i) {
    if (std::strcmp(wanted, kLevelNames[i]) != 0) continue;
    if (i > machine) {
      return raise(TIAOT_ERROR_UNSUPPORTED, "TIAOT_CPU_LEVEL: this machine has no %s, its level is %s", wanted,
                   kLevelNames[machine]);
    }
    *level = i;
    return TIAOT_OK;
  }
  return raise(TIAOT_ERROR_VALUE, "TIAOT_CPU_LEVEL: expected %s, %s or %s, got '%.*s'", kLevelNames[0], kLevelNames[1],
               kLevelNames[2], whole_characters(wanted, 100), wanted);
}

tiaot_status choose_level(int *level) { return choose_level(tiaot_cpu_level(), std::getenv("TIAOT_CPU_LEVEL"), level); }

}  // namespace tiaot

extern "C" int tiaot_cpu_level(void) {
  static const int level = tiaot::level_of(tiaot::read_features());
  return level;
}

extern "C" const char *tiaot_cpu_level_name(int level) {
  return level >= 0 && level < TIAOT_LEVEL_COUNT ? tiaot::kLevelNames[level] : nullptr;
}
