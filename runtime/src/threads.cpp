// threads.cpp: the default number of threads, from the environment, the CPU affinity and the control group's quota.
// Knows nothing of the pool.
#include "threads.hpp"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "error.hpp"

namespace tiaot {
namespace {

std::vector<std::string> split(const std::string &text, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) parts.push_back(part);
  return parts;
}

bool contains(const std::vector<std::string> &list, const std::string &item) {
  return std::find(list.begin(), list.end(), item) != list.end();
}

// One hierarchy of control groups: where it is mounted, which of its groups the mount shows as its root.
struct Mount {
  std::string root, point;
  bool unified = false;  // cgroup v2
};

// The hierarchies that can hold a CPU quota. A line of mountinfo: id parent device root point options [tags] - type
// source super-options
std::vector<Mount> read_mounts(const char *mountinfo_file) {
  std::vector<Mount> mounts;
  std::ifstream file(mountinfo_file);
  for (std::string line; std::getline(file, line);) {
    const std::vector<std::string> fields = split(line, ' ');
    const auto dash = std::find(fields.begin(), fields.end(), "-");
    if (fields.size() < 6 || fields.end() - dash < 4) continue;
    const bool unified = dash[1] == "cgroup2";
    if (unified || (dash[1] == "cgroup" && contains(split(dash[3], ','), "cpu"))) {
      mounts.push_back({fields[3], fields[4], unified});
    }
  }
  return mounts;
}

// Quota and period in microseconds of one group; a quota of -1 or "max" is none.
bool read_quota(const std::string &folder, bool unified, double *quota, double *period) {
  std::string text;
  if (unified) {
    std::ifstream file(folder + "/cpu.max");
    if (!(file >> text >> *period)) return false;
  } else if (!(std::ifstream(folder + "/cpu.cfs_quota_us") >> text) ||
             !(std::ifstream(folder + "/cpu.cfs_period_us") >> *period)) {
    return false;
  }
  *quota = text == "max" ? -1 : std::strtod(text.c_str(), nullptr);
  return *quota > 0 && *period > 0;
}

// The least quota of a group and its ancestors up to the mount point, rounded up to whole CPUs; 0 for none.
int32_t least_quota(const Mount &mount, const std::string &group) {
  // A group outside of the mounted part (a bind mount, another namespace) cannot be looked up: the mount's root can.
  std::string path;
  const std::string root = mount.root == "/" ? "" : mount.root;
  if (group.compare(0, root.size(), root) == 0 && (group.size() == root.size() || group[root.size()] == '/')) {
    path = group.substr(root.size());
  }
  int32_t least = 0;
  for (;;) {
    double quota = 0, period = 0;
    if (read_quota(mount.point + path, mount.unified, &quota, &period)) {
      const double cpus = std::min(std::max(quota / period, 1e-3), double{kMaxThreads});
      const int32_t whole = static_cast<int32_t>(cpus) + (cpus > static_cast<int32_t>(cpus) ? 1 : 0);
      least = least == 0 ? whole : std::min(least, whole);
    }
    if (path.empty()) return least;
    path.resize(path.rfind('/'));
  }
}

std::atomic<int32_t> chosen{0};      // by tiaot_set_num_threads; 0: not chosen
std::atomic<int32_t> remembered{0};  // the default, once it was worked out

constexpr int32_t kSpin = 20, kMostSpin = 1000000;
std::atomic<int32_t> spin{-1};  // microseconds; -1: not looked up

}  // namespace

CpuSet CpuSet::of_process() {
  CpuSet result;
  // The kernel wants room for every CPU that it was built for, which can be more than cpu_set_t has.
  for (int cpus = 1024; cpus <= 1 << 20; cpus *= 4) {
    result.set_.reset(CPU_ALLOC(static_cast<size_t>(cpus)));
    result.size_ = CPU_ALLOC_SIZE(static_cast<size_t>(cpus));
    if (result.set_ == nullptr) break;
    CPU_ZERO_S(result.size_, result.set_.get());
    if (sched_getaffinity(getpid(), result.size_, result.set_.get()) == 0) return result;
    if (errno != EINVAL) break;
  }
  result.set_.reset();
  result.size_ = 0;
  return result;
}

int32_t quota_cpus(const char *cgroup_file, const char *mountinfo_file) {
  const std::vector<Mount> mounts = read_mounts(mountinfo_file);
  int32_t least = 0;
  std::ifstream file(cgroup_file);
  for (std::string line; std::getline(file, line);) {  // hierarchy:controllers:group
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    if (!controllers.empty() && !contains(split(controllers, ','), "cpu")) continue;
    std::string group = line.substr(second + 1);
    if (group == "/") group.clear();
    for (const Mount &mount : mounts) {
      if (mount.unified != controllers.empty()) continue;
      const int32_t quota = least_quota(mount, group);
      if (quota > 0) least = least == 0 ? quota : std::min(least, quota);
    }
  }
  return least;
}

tiaot_status default_threads(const char *wanted, int32_t *count) {
  if (wanted != nullptr && wanted[0] != '\0') {
    char *end = nullptr;
    const long value = std::strtol(wanted, &end, 10);
    if (*end != '\0' || value < 1 || value > kMaxThreads) {
      return raise(TIAOT_ERROR_VALUE, "TIAOT_NUM_THREADS: expected a number from 1 to %d, got '%.*s'", kMaxThreads,
                   whole_characters(wanted, 100), wanted);
    }
    *count = static_cast<int32_t>(value);
    return TIAOT_OK;
  }
  const int32_t quota = quota_cpus("/proc/self/cgroup", "/proc/self/mountinfo");
  const int32_t cpus = std::min(std::max(CpuSet::of_process().count(), 1), kMaxThreads);
  *count = quota > 0 ? std::min(cpus, quota) : cpus;
  return TIAOT_OK;
}

tiaot_status read_spin(const char *wanted, int32_t *microseconds) {
  *microseconds = kSpin;
  if (wanted == nullptr || wanted[0] == '\0') return TIAOT_OK;
  char *end = nullptr;
  const long value = std::strtol(wanted, &end, 10);
  if (*end != '\0' || value < 0 || value > kMostSpin) {
    return raise(TIAOT_ERROR_VALUE, "TIAOT_SPIN: expected a number of microseconds from 0 to %d, got '%.*s'", kMostSpin,
                 whole_characters(wanted, 100), wanted);
  }
  *microseconds = static_cast<int32_t>(value);
  return TIAOT_OK;
}

tiaot_status prepare_spin() {
  if (spin.load(std::memory_order_relaxed) >= 0) return TIAOT_OK;
  int32_t microseconds = 0;
  if (tiaot_status status = read_spin(std::getenv("TIAOT_SPIN"), &microseconds)) return status;
  spin.store(microseconds, std::memory_order_relaxed);
  return TIAOT_OK;
}

int32_t spin_microseconds() {
  const int32_t microseconds = spin.load(std::memory_order_relaxed);
  return microseconds < 0 ? kSpin : microseconds;
}

}  // namespace tiaot

extern "C" tiaot_status tiaot_num_threads(int32_t *count) {
  using namespace tiaot;
  if (count == nullptr) return raise(TIAOT_ERROR_VALUE, "tiaot_num_threads: count is NULL");
  int32_t value = chosen.load(std::memory_order_relaxed);
  if (value == 0) value = remembered.load(std::memory_order_relaxed);
  if (value == 0) {
    const tiaot_status status = guarded([&] { return default_threads(std::getenv("TIAOT_NUM_THREADS"), &value); });
    if (status != TIAOT_OK) return status;
    remembered.store(value, std::memory_order_relaxed);
  }
  *count = value;
  return TIAOT_OK;
}

extern "C" tiaot_status tiaot_set_num_threads(int32_t count) {
  using namespace tiaot;
  if (count < 0 || count > kMaxThreads) {
    return raise(TIAOT_ERROR_VALUE, "number of threads: expected 1 to %d, or 0 for the default, got %d", kMaxThreads,
                 count);
  }
  if (count == 0) remembered.store(0, std::memory_order_relaxed);
  chosen.store(count, std::memory_order_relaxed);
  return TIAOT_OK;
}
