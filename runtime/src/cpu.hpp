// cpu.hpp: which of the x86-64 psABI's levels a processor has. Knows nothing of modules.
#pragma once

#include <cstdint>

#include "tiaot/tiaot.h"

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

// The level to open a module at: this machine's, or the lower one that TIAOT_CPU_LEVEL names.
tiaot_status choose_level(int *level);

// As choose_level, for a machine and a value (NULL: unset) given.
tiaot_status choose_level(int machine, const char *wanted, int *level);

}  // namespace tiaot
