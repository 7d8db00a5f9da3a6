// threads.hpp: how many threads a call may use, and on which CPUs. Knows nothing of the pool.
#pragma once

#include <sched.h>

#include <cstdint>
#include <memory>

#include "tiaot/tiaot.h"

namespace tiaot {

// The largest number of threads that may be asked for.
constexpr int32_t kMaxThreads = 256;

// CPUs that the control groups of this process allow, rounded up; 0 when they set no limit. The arguments are
// /proc/self/cgroup and /proc/self/mountinfo, or files of the same form.
int32_t quota_cpus(const char *cgroup_file, const char *mountinfo_file);

// A set of CPUs, as large as this kernel wants it; empty when it could not be read.
class CpuSet {
 public:
  // The CPUs that the process may use: those of its first thread, which `taskset` and containers set. Another thread
  // may be pinned for reasons of its own.
  static CpuSet of_process();

  int count() const { return CPU_COUNT_S(size_, set_.get()); }
  const cpu_set_t *get() const { return set_.get(); }
  size_t size() const { return size_; }

 private:
  struct Free {
    void operator()(cpu_set_t *set) const { CPU_FREE(set); }
  };
  std::unique_ptr<cpu_set_t, Free> set_;
  size_t size_ = 0;
};

// The default where none was set: `wanted` (TIAOT_NUM_THREADS, NULL when unset), or what the machine allows.
tiaot_status default_threads(const char *wanted, int32_t *count);

// How long a thread of the pool that waits spins before it sleeps: `wanted` (TIAOT_SPIN), or the default where it is
// NULL.
tiaot_status read_spin(const char *wanted, int32_t *microseconds);

// Looks TIAOT_SPIN up, once in a process. It comes before the first job of the pool.
tiaot_status prepare_spin();
int32_t spin_microseconds();

}  // namespace tiaot
