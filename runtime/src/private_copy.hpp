// private_copy.hpp: bytes that nobody else can change, under a name that the OS loader takes. Knows nothing of modules.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace tiaot {

// Reads bytes of a file from an offset on. Returns what went wrong, "" when all of them are there.
std::string read_at(int descriptor, void *data, uint64_t size, uint64_t offset);

// What is checked must be what is loaded. The loader takes files only, and a file can be rewritten while it is read,
// and later under a program's feet: its pages are read when they are touched, and end where it was truncated. So the
// bytes are copied to a file in memory, which is sealed; or, where the system has none, to a temporary one without a
// name.
class PrivateCopy {
 public:
  enum Kind { kInMemory, kTemporary };  // the second also where the first is not to be had

  PrivateCopy() = default;
  ~PrivateCopy();
  PrivateCopy(const PrivateCopy &) = delete;
  PrivateCopy &operator=(const PrivateCopy &) = delete;

  // Copies the first `size` bytes of a file, or of memory; `name` is what tools show the copy under. Returns what went
  // wrong, "" when nothing did.
  std::string fill(int descriptor, uint64_t size, const std::string &name, Kind kind = kInMemory);
  std::string fill(const void *data, uint64_t size, const std::string &name, Kind kind = kInMemory);

  const unsigned char *bytes() const { return static_cast<const unsigned char *>(bytes_); }
  uint64_t size() const { return size_; }

  // The copy as a library, from dlopen; nullptr, with the reason, when the loader refuses it. It may outlive the copy.
  void *load(std::string *reason);

 private:
  template <typename Read>
  std::string fill_by(const Read &read, uint64_t size, const std::string &name, Kind kind);

  int descriptor_ = -1;
  std::string path_;  // of a temporary file; "" for one in memory
  void *bytes_ = nullptr;
  uint64_t size_ = 0;
};

}  // namespace tiaot
