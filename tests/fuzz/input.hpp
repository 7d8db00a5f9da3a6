// input.hpp: reads an input of a fuzzer piece by piece. Where it ends, everything is 0.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace fuzz {

struct Input {
  const uint8_t *data;
  size_t size;

  bool empty() const { return size == 0; }
  template <typename T>
  T take() {
    T value{};
    const size_t bytes = std::min(size, sizeof value);
    if (bytes > 0) std::memcpy(&value, data, bytes);
    data += bytes, size -= bytes;
    return value;
  }
};

// A promise that was not kept.
[[noreturn]] inline void wrong(const char *what) {
  std::fprintf(stderr, "%s\n", what);
  std::abort();
}

}  // namespace fuzz
