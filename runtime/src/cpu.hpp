// cpu.hpp: the levels of this kind of CPU, and which of them to run at. Knows nothing of modules.
#pragma once

#include "tiaot/tiaot.h"

namespace tiaot {

// From cpu_ARCHITECTURE.cpp: the names of the levels, in ascending order; how many there are, at most
// TIAOT_LEVEL_COUNT; and the highest that this machine has, -1 for less than the first.
extern const char *const kLevelNames[];
extern const int kLevels;
int machine_level();

// The level to open a module at: this machine's, or the lower one that TIAOT_CPU_LEVEL names.
tiaot_status choose_level(int *level);

// As choose_level, for a machine and a value (NULL: unset) given.
tiaot_status choose_level(int machine, const char *wanted, int *level);

}  // namespace tiaot
