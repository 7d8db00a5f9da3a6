// cpu.cpp: the level to run at; TIAOT_CPU_LEVEL. Knows nothing of modules, nor of any one kind of CPU.
#include "cpu.hpp"

#include <cstdlib>
#include <cstring>
#include <string>

#include "error.hpp"

namespace tiaot {
namespace {

// "a, b or c"
std::string all_levels() {
  std::string text;
  for (int i = 0; i < kLevels; ++i) {
    text += i == 0 ? "" : i + 1 < kLevels ? ", " : " or ";
    text += kLevelNames[i];
  }
  return text;
}

}  // namespace

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
  for (int i = 0; i < kLevels; ++i) {
    if (std::strcmp(wanted, kLevelNames[i]) != 0) continue;
    if (i > machine) {
      return raise(TIAOT_ERROR_UNSUPPORTED, "TIAOT_CPU_LEVEL: this machine has no %s, its level is %s", wanted,
                   kLevelNames[machine]);
    }
    *level = i;
    return TIAOT_OK;
  }
  return raise(TIAOT_ERROR_VALUE, "TIAOT_CPU_LEVEL: expected %s, got '%.*s'", all_levels().c_str(),
               whole_characters(wanted, 100), wanted);
}

tiaot_status choose_level(int *level) { return choose_level(tiaot_cpu_level(), std::getenv("TIAOT_CPU_LEVEL"), level); }

}  // namespace tiaot

extern "C" int tiaot_cpu_level(void) { return tiaot::machine_level(); }

extern "C" const char *tiaot_cpu_level_name(int level) {
  return level >= 0 && level < tiaot::kLevels ? tiaot::kLevelNames[level] : nullptr;
}
