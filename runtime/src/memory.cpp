// memory.cpp: the buffer that a thread keeps between calls. Knows nothing of what it is used for.
#include "memory.hpp"

#include <cstdlib>

namespace tiaot {
namespace {

constexpr int64_t kKeep = int64_t{1} << 20;  // the most that a thread holds on to
constexpr int64_t kLeast = 4096;

// Without constructor and destructor, so that reading it is one load.
struct Buffer {
  char *data;
  int64_t size;
  bool in_use;  // an executor may run another call on this thread while it waits in this one
};
thread_local Buffer buffer;

// Frees the thread's buffer when the thread ends. Apart from it, so that only growing pays for the registration.
struct Reaper {
  bool armed = false;
  ~Reaper() {
    std::free(buffer.data);
    buffer = {};
  }
};
thread_local Reaper reaper;

char *allocate(int64_t bytes) {
  return static_cast<char *>(std::aligned_alloc(kAlignment, static_cast<size_t>(round_up(bytes, kAlignment))));
}

bool grow(int64_t bytes) {
  int64_t size = kLeast;
  while (size < bytes) size *= 2;
  char *data = allocate(size);
  if (data == nullptr) return false;
  reaper.armed = true;
  std::free(buffer.data);
  buffer.data = data;
  buffer.size = size;
  return true;
}

}  // namespace

char *WorkMemory::take(int64_t bytes) {
  if (bytes < 0 || bytes > INT64_MAX - kAlignment) return nullptr;
  if (bytes > kKeep || buffer.in_use) return allocate(bytes);
  if (bytes > buffer.size && !grow(bytes)) return nullptr;
  buffer.in_use = true;
  kept_ = true;
  return buffer.data;
}

void WorkMemory::give_back() {
  if (kept_) {
    buffer.in_use = false;
  } else {
    std::free(data_);
  }
}

}  // namespace tiaot
