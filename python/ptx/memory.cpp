// memory.cpp: see memory.hpp.
#include "memory.hpp"

#include <algorithm>
#include <cstring>

namespace ptx {

Region::Region(uint64_t start_, uint64_t bytes_, std::string name_, bool writable_, bool holds_values, int item)
    : start(start_),
      bytes(bytes_),
      name(std::move(name_)),
      writable(writable_),
      granule_(item >= 4 ? 4 : static_cast<uint64_t>(std::max(item, 1))),
      written_(bytes_, holds_values ? 1 : 0),
      pages_(bytes_ / granule_ / kPage + 1) {}

bool Region::is_written(uint64_t address, uint64_t size) const {
  const uint8_t *first = written_.data() + (address - start);
  return std::all_of(first, first + size, [](uint8_t written) { return written != 0; });
}

void Region::mark(uint64_t address, uint64_t size, bool written) {
  std::memset(written_.data() + (address - start), written ? 1 : 0, size);
}

uint64_t Region::unwritten() const {
  return static_cast<uint64_t>(std::count(written_.begin(), written_.end(), uint8_t{0}));
}

const char *Region::touch(uint64_t address, uint64_t size, Access access, const Actor &actor) {
  const char *wrong = nullptr;
  for (uint64_t k = (address - start) / granule_; k <= (address - start + size - 1) / granule_; ++k) {
    Page &page = pages_[k / kPage];
    if (page == nullptr) {
      page = std::make_unique<std::vector<Touch>>(kPage);
      touched_.push_back(k / kPage);
    }
    if (const char *found = touch_one((*page)[k % kPage], access, actor)) wrong = found;
  }
  return wrong;
}

const char *Region::touch_one(Touch &touch, Access access, const Actor &actor) {
  // Threads of a block may follow each other across a barrier.
  const auto before = [&](uint32_t thread, uint16_t barriers) {
    return thread / actor.block_size == actor.thread / actor.block_size && barriers < actor.barriers;
  };
  const bool written =
      touch.writer != kNobody && touch.writer != actor.thread && !before(touch.writer, touch.writer_barriers);
  const bool several = touch.several_readers && !before(touch.reader, touch.reader_barriers);
  const bool read = touch.reader != kNobody &&
                    (several || (touch.reader != actor.thread && !before(touch.reader, touch.reader_barriers)));
  const char *wrong = nullptr;
  if (access == Access::kWrite || access == Access::kWriteSame || access == Access::kAtomic) {
    if (touch.read_only) wrong = "a write of what the launch reads as read-only";
    const bool agreed = access == Access::kWriteSame || (access == Access::kAtomic && touch.atomic);
    if (written && !agreed) wrong = "a write beside another thread's write";
    if (read) wrong = "a write beside another thread's read";
    touch.writer = actor.thread;
    touch.writer_barriers = actor.barriers;
    touch.atomic = access == Access::kAtomic;
    return wrong;
  }
  if (written && !(access == Access::kReadVolatile && touch.atomic)) wrong = "a read beside another thread's write";
  if (access == Access::kReadVolatile) return wrong;  // as in a loop around a compare-and-exchange
  if (access == Access::kReadOnly) {
    if (touch.writer != kNobody) wrong = "a read as read-only of what the launch writes";
    touch.read_only = true;
  }
  touch.several_readers = read;
  touch.reader = actor.thread;
  touch.reader_barriers = actor.barriers;
  return wrong;
}

void Region::forget_touches() {
  for (const uint64_t page : touched_) pages_[page].reset();
  touched_.clear();
}

Region *Memory::add(uint64_t start, uint64_t bytes, const std::string &name, bool writable, bool holds_values,
                    int item) {
  std::unique_ptr<Region> &place = regions_[start];
  place = std::make_unique<Region>(start, bytes, name, writable, holds_values, item);
  return place.get();
}

Region *Memory::find(uint64_t address) const {
  const auto behind = regions_.upper_bound(address);
  if (behind == regions_.begin()) return nullptr;
  Region *region = std::prev(behind)->second.get();
  return region->holds(address, 1) ? region : nullptr;
}

Region *Memory::at(uint64_t start) const {
  const auto found = regions_.find(start);
  return found == regions_.end() ? nullptr : found->second.get();
}

std::string Memory::nearest(uint64_t address) const {
  const auto behind = regions_.upper_bound(address);
  if (behind == regions_.begin()) return "before all arrays";
  const Region &region = *std::prev(behind)->second;
  return region.name + " + " + std::to_string(address - region.start) + " of " + std::to_string(region.bytes);
}

void Memory::forget_touches() {
  for (const auto &region : regions_) region.second->forget_touches();
}

void Memory::report(const std::string &kind, const std::string &where, const std::string &details) {
  Finding &finding = findings_[kind + ": " + where];
  if (finding.count++ == 0) finding.details = details;
}

std::string Memory::findings() const {
  std::string text;
  for (const auto &each : findings_) {
    text += each.first + " (" + std::to_string(each.second.count) + " times, first " + each.second.details + ")\n";
  }
  return text;
}

void Memory::check_range(const char *function, uint64_t address, uint64_t bytes, bool write) {
  if (bytes == 0) return;
  Region *region = find(address);
  const std::string details = std::to_string(bytes) + " bytes at " + nearest(address);
  if (region == nullptr || !region->holds(address, bytes)) return report("out of bounds", function, details);
  if (write) {
    if (!region->writable) report("a write to an input", function, details);
    region->mark(address, bytes, true);
  } else if (!region->is_written(address, bytes)) {
    report("a read of memory never written", function, details);
  }
}

}  // namespace ptx
