// memory.hpp: the device's memory as kernels may see it: arrays by where they are, which of their bytes hold something,
// and who touched what within a launch. It is the host's memory; what is checked here is every access to it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace ptx {

// A thread of a launch, the size of its block, and how many barriers the block has passed: what races is told by.
struct Actor {
  uint32_t thread, block_size;
  uint16_t barriers;
};

// kWriteSame: of what is there already, which several threads may do.
enum class Access : uint8_t { kRead, kReadOnly, kReadVolatile, kWrite, kWriteSame, kAtomic };

class Region {
 public:
  Region(uint64_t start, uint64_t bytes, std::string name, bool writable, bool holds_values, int item);

  uint64_t start, bytes;
  std::string name;
  bool writable;

  bool holds(uint64_t address, uint64_t size) const {
    return address >= start && size <= bytes && address - start <= bytes - size;
  }
  bool is_written(uint64_t address, uint64_t size) const;
  void mark(uint64_t address, uint64_t size, bool written);
  uint64_t unwritten() const;
  // What is wrong with an access beside those of other threads; nullptr: nothing. Notes it.
  const char *touch(uint64_t address, uint64_t size, Access access, const Actor &actor);
  void forget_touches();

 private:
  struct Touch {
    uint32_t writer = kNobody, reader = kNobody;
    uint16_t writer_barriers = 0, reader_barriers = 0;
    bool atomic = false, read_only = false, several_readers = false;
  };
  static constexpr uint32_t kNobody = 0xFFFFFFFF, kPage = 1024;
  using Page = std::unique_ptr<std::vector<Touch>>;
  static const char *touch_one(Touch &touch, Access access, const Actor &actor);

  uint64_t granule_;
  std::vector<uint8_t> written_;  // of each byte
  std::vector<Page> pages_;       // of granules, where there were touches
  std::vector<uint64_t> touched_;
};

class Memory {
 public:
  Region *add(uint64_t start, uint64_t bytes, const std::string &name, bool writable, bool holds_values, int item);
  void remove(uint64_t start) { regions_.erase(start); }
  Region *find(uint64_t address) const;
  Region *at(uint64_t start) const;
  std::string nearest(uint64_t address) const;  // for a message
  void forget_touches();

  // What is wrong, once for each kind and place, with how often.
  void report(const std::string &kind, const std::string &where, const std::string &details);
  std::string findings() const;
  void clear_findings() { findings_.clear(); }

  // What a fill or a copy of the driver does.
  void check_range(const char *function, uint64_t address, uint64_t bytes, bool write);

 private:
  struct Finding {
    std::string details;
    uint64_t count = 0;
  };
  std::map<uint64_t, std::unique_ptr<Region>> regions_;
  std::map<std::string, Finding> findings_;
};

}  // namespace ptx
