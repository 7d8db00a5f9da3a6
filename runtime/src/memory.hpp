// memory.hpp: 64-byte aligned working memory for the time of one call. Knows nothing of what it is used for.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tiaot {

constexpr int64_t kAlignment = 64;

constexpr int64_t round_up(int64_t size, int64_t step) { return (size + step - 1) / step * step; }

// Small amounts come from a buffer that each thread keeps, large ones from the heap and go back there.
class WorkMemory {
 public:
  explicit WorkMemory(int64_t bytes) : data_(bytes == 0 ? nullptr : take(bytes)), failed_(bytes != 0 && !data_) {}
  ~WorkMemory() {
    if (data_ != nullptr) give_back();
  }
  WorkMemory(const WorkMemory &) = delete;
  WorkMemory &operator=(const WorkMemory &) = delete;

  bool failed() const { return failed_; }
  char *data() const { return data_; }  // nullptr for 0 bytes

 private:
  char *take(int64_t bytes);
  void give_back();

  bool kept_ = false;  // the thread's own buffer
  char *data_;
  bool failed_;
};

}  // namespace tiaot
