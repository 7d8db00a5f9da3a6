// cpu_aarch64.cpp: the one level of aarch64, which every CPU has. Knows nothing of modules.
#include "cpu.hpp"

namespace tiaot {

const char *const kLevelNames[] = {"aarch64-neon"};
const int kLevels = 1;

int machine_level() { return TIAOT_LEVEL_NEON; }

}  // namespace tiaot
