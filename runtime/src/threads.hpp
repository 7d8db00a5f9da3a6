// threads.hpp: how many threads a call may use. Knows nothing of the pool.
#pragma once

#include <cstdint>

#include "tiaot/tiaot.h"

namespace tiaot {

// The largest number of threads that may be asked for.
constexpr int32_t kMaxThreads = 256;

// CPUs that the control groups of this process allow, rounded up; 0 when they set no limit. The arguments are
// /proc/self/cgroup and /proc/self/mountinfo, or files of the same form.
int32_t quota_cpus(const char *cgroup_file, const char *mountinfo_file);

// The default where none was set: `wanted` (TIAOT_NUM_THREADS, NULL when unset), or what the machine allows.
tiaot_status default_threads(const char *wanted, int32_t *count);

}  // namespace tiaot
