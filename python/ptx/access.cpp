// access.cpp: how the lanes of a warp load and store; see warp.hpp.
#include <cstring>

#include "values.hpp"
#include "warp.hpp"

namespace ptx {

void Warp::access(Frame &frame, const Instruction &it, uint32_t lanes) {
  check_defined(frame, it, it.base, lanes, "an address that was never written");
  each_lane(lanes, [&](int lane) { access_lane(frame, it, lane, find_memory(frame, it, lane)); });
  if (it.op == Op::kStore) return;
  for (const int number : it.to) {
    if (number != kAbsent) define(frame, number, lanes);
  }
}

void Warp::access_lane(Frame &frame, const Instruction &it, int lane, uint8_t *at) {
  const size_t size = static_cast<size_t>(bytes_of(it.type));
  for (size_t i = 0; i < it.width; ++i) {
    uint8_t *element = at + i * size;
    if (it.op == Op::kStore) {
      std::memcpy(element, &value(frame, it.of[i], lane), size);
      continue;
    }
    uint64_t old = 0;
    std::memcpy(&old, element, size);
    if (it.op == Op::kAtomic) {
      const uint64_t other = it.of[1] == kAbsent ? 0 : value(frame, it.of[1], lane);
      const uint64_t made = combined(it, old, value(frame, it.of[0], lane), other);
      std::memcpy(element, &made, size);
    } else if (is_signed(it.type) && size < 4) {  // a register may be wider than what is loaded, which then is extended
      old = cut(Type::kU32, static_cast<uint64_t>(extended(it.type, old)));
    }
    if (it.to[i] != kAbsent) value(frame, it.to[i], lane) = old;
  }
}

// Where an access goes, once it is found right.
uint8_t *Warp::find_memory(Frame &frame, const Instruction &it, int lane) {
  const uint64_t size = static_cast<uint64_t>(bytes_of(it.type)) * it.width;
  if (it.space == Space::kParameter) return frame.parameter(lane, it.offset);
  const uint64_t address = (it.base == kAbsent ? 0 : value(frame, it.base, lane)) + static_cast<uint64_t>(it.offset);
  uint8_t *at = reinterpret_cast<uint8_t *>(address);
  if (address % size != 0) {
    grid_.memory.report("misaligned", where(it), who(lane) + ", " + std::to_string(address % size) + " bytes off");
  }
  if (it.space == Space::kConstant) return at;
  if (it.space == Space::kGeneric || it.space == Space::kLocal) {
    if (uint8_t *local = check_local(it, lane, address, size)) return local;
    if (it.space == Space::kLocal) throw Error(where(it) + ": out of bounds of local memory, " + who(lane));
  }
  if (it.space != Space::kGlobal && block_->shared != nullptr && block_->shared->holds(address, size)) {
    check_region(frame, it, block_->shared.get(), lane, address, size);
    return at;
  }
  if (last_ == nullptr || !last_->holds(address, size)) last_ = grid_.memory.find(address);
  if (it.space == Space::kShared || last_ == nullptr || !last_->holds(address, size)) {
    throw Error(where(it) + ": out of bounds: " + std::to_string(size) + " bytes at " + grid_.memory.nearest(address) +
                ", " + who(lane));
  }
  check_region(frame, it, last_, lane, address, size);
  return at;
}

uint8_t *Warp::check_local(const Instruction &it, int lane, uint64_t address, uint64_t size) {
  for (const auto &each : frames_) {  // a function may be given a pointer to its caller's
    if (each->function == nullptr || each->function->locals.bytes == 0) continue;
    const uint64_t start = each->local_start(lane);
    if (address < start || address - start + size > static_cast<uint64_t>(each->function->locals.bytes)) continue;
    uint8_t *written = each->local_written.data() + (address - each->local_start(0));
    if (it.op != Op::kLoad) {
      std::memset(written, 1, size);
    } else if (std::memchr(written, 0, size) != nullptr) {
      grid_.memory.report("a read of local memory never written", where(it), who(lane));
    }
    return reinterpret_cast<uint8_t *>(address);
  }
  return nullptr;
}

void Warp::check_region(Frame &frame, const Instruction &it, Region *region, int lane, uint64_t address,
                        uint64_t size) {
  const auto report = [&](const char *what) {
    grid_.memory.report(what, where(it),
                        who(lane) + ", " + region->name + " + " + std::to_string(address - region->start));
  };
  const bool writes = it.op != Op::kLoad;
  const auto stores_what_is_there = [&] {
    const size_t item = size / it.width;
    for (size_t i = 0; i < it.width; ++i) {
      const void *there = reinterpret_cast<const void *>(address + i * item);
      if (std::memcmp(there, &value(frame, it.of[i], lane), item) != 0) return false;
    }
    return region->is_written(address, size);
  };
  const bool same = it.op == Op::kStore && stores_what_is_there();
  if (writes && !region->writable) report("a write to an input");
  if (it.op != Op::kStore && !region->is_written(address, size)) report("a read of memory never written");
  if (writes) region->mark(address, size, true);
  const Access access = it.op == Op::kStore    ? (same ? Access::kWriteSame : Access::kWrite)
                        : it.op == Op::kAtomic ? Access::kAtomic
                        : it.is_volatile       ? Access::kReadVolatile
                        : it.read_only         ? Access::kReadOnly
                                               : Access::kRead;
  const Actor actor{thread(lane), grid_.threads, block_->barriers};
  if (const char *wrong = region->touch(address, size, access, actor)) report(wrong);
}

}  // namespace ptx
