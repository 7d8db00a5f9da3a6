// cpu_x86_64.hpp: which of the x86-64 psABI's levels a processor has. Knows nothing of modules.
#pragma once

#include <cstdint>

namespace tiaot {

// The registers that the level follows from.
struct CpuFeatures {
  uint32_t leaf1_ecx;      // cpuid 1
  uint32_t leaf7_ebx;      // cpuid 7, subleaf 0
  uint32_t extended1_ecx;  // cpuid 0x80000001
  uint32_t xcr0;           // register state that the OS saves; 0 without OSXSAVE
};

// The highest TIAOT_LEVEL_* whose features are all there, -1 for less than x86-64-v2.
int level_of(const CpuFeatures &features);

}  // namespace tiaot
