// partial.hpp: what calls of many threads share, and another thread replaces. Knows nothing of kernels.
#pragma once

#include <atomic>
#include <cstdint>

namespace tiaot {

// Holds one object at a time. Readers take it without waiting, and an object that was replaced is deleted by whoever
// lets go of it last.
//
// The word holds the object's address and, above it, how many readers took it from here and have not given it back.
// When the object is replaced their number goes to the object itself, and the last one to leave finds zero there.
template <typename Object>
class Replaceable {
 public:
  explicit Replaceable(Object *object) : word_(address(object)) {}
  ~Replaceable() { put(nullptr); }
  Replaceable(const Replaceable &) = delete;
  Replaceable &operator=(const Replaceable &) = delete;

  // An object in use: it stays until the handle goes.
  class Use {
   public:
    explicit Use(const Replaceable &from)
        : from_(from), object_(object_of(from.word_.fetch_add(kReader, std::memory_order_acq_rel))) {}
    ~Use() { from_.give_back(object_); }
    Use(const Use &) = delete;
    Use &operator=(const Use &) = delete;

    const Object &operator*() const { return *object_; }
    const Object *operator->() const { return object_; }

   private:
    const Replaceable &from_;
    Object *object_;
  };

  void put(Object *object) {
    const uint64_t before = word_.exchange(address(object), std::memory_order_acq_rel);
    Object *old = object_of(before);
    if (old != nullptr) settle(old, static_cast<int64_t>(before / kReader));
  }

 private:
  static constexpr uint64_t kReader = uint64_t{1} << 48;  // addresses of a process are below

  static uint64_t address(Object *object) { return reinterpret_cast<uintptr_t>(object); }
  static Object *object_of(uint64_t word) { return reinterpret_cast<Object *>(word & (kReader - 1)); }

  void give_back(Object *object) const {
    uint64_t seen = word_.load(std::memory_order_relaxed);
    while (object_of(seen) == object) {
      if (word_.compare_exchange_weak(seen, seen - kReader, std::memory_order_acq_rel)) return;
    }
    settle(object, -1);
  }

  static void settle(Object *object, int64_t readers) {
    if (object->readers.fetch_add(readers, std::memory_order_acq_rel) + readers == 0) delete object;
  }

  mutable std::atomic<uint64_t> word_;
};

}  // namespace tiaot
