// result_memory.cpp: blocks for large results, kept for the next one. Knows nothing of what they are filled with.
//
// A fresh block costs a page fault, in which the system clears memory, for every 4 KiB or 2 MiB: with a kernel that
// does little with each number, a third of the call and more. So a block that an array leaves is kept for the next,
// within limits: as many bytes as malloc may keep at the end of its heap, and not for long where it is not asked for.
// (Pages marked with MADV_FREE, which the system could take back, cost as much as the faults where they are small.)
#include "result_memory.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <mutex>

#include "arrays.hpp"

namespace tiaot::binding {
namespace {

constexpr size_t kPage = 4096;
constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kMostBlocks = 8;
constexpr size_t kMostBytes = size_t{64} << 20;  // of all blocks that are kept
constexpr uint64_t kOld = 64;                    // large results since a block was kept, after which it is given up

// What lies in the page before a block.
struct Head {
  size_t capacity;
  uint64_t kept_at;
};

Head *head_of(void *block) { return reinterpret_cast<Head *>(static_cast<char *>(block) - kPage); }

void unmap(void *block) { munmap(head_of(block), kPage + head_of(block)->capacity); }

// A block that begins with a huge page where it has room for one; nullptr without memory.
void *map_block(size_t size) {
  if (size > SIZE_MAX / 2) return nullptr;
  const size_t capacity = (size + kPage - 1) / kPage * kPage;
  const size_t mapped = capacity + kHugePage;
  void *const start = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (start == MAP_FAILED) return nullptr;
  char *const first = static_cast<char *>(start);
  const uintptr_t address = reinterpret_cast<uintptr_t>(first);
  const size_t before = (address + kPage + kHugePage - 1) / kHugePage * kHugePage - kPage - address;
  char *const begin = first + before;
  char *const end = begin + kPage + capacity;
  if (begin > first) munmap(first, before);
  if (end < first + mapped) munmap(end, static_cast<size_t>(first + mapped - end));
  if (capacity >= kHugePage) madvise(begin + kPage, capacity, MADV_HUGEPAGE);
  *reinterpret_cast<Head *>(begin) = {capacity, 0};
  return begin + kPage;
}

class KeptBlocks {
 public:
  // A kept block of at least `size` bytes, and not many more; nullptr for none.
  void *take(size_t size) {
    const std::lock_guard<std::mutex> guard(mutex_);
    ++results_;
    while (count_ > 0 && results_ - head_of(blocks_[0])->kept_at > kOld) unmap(remove(0));
    for (size_t i = count_; i-- > 0;) {
      const size_t capacity = head_of(blocks_[i])->capacity;
      if (capacity >= size && capacity - size <= capacity / 8) return remove(i);
    }
    return nullptr;
  }

  void keep(void *block) {
    Head *const head = head_of(block);
    if (head->capacity > kMostBytes) return unmap(block);
    const std::lock_guard<std::mutex> guard(mutex_);
    while (count_ == kMostBlocks || bytes_ + head->capacity > kMostBytes) unmap(remove(0));
    head->kept_at = results_;
    bytes_ += head->capacity;
    blocks_[count_++] = block;
  }

 private:
  void *remove(size_t i) {
    void *const block = blocks_[i];
    std::copy(blocks_.begin() + i + 1, blocks_.begin() + count_, blocks_.begin() + i);
    --count_;
    bytes_ -= head_of(block)->capacity;
    return block;
  }

  std::mutex mutex_;
  std::array<void *, kMostBlocks> blocks_{};  // the one that was kept first comes first
  size_t count_ = 0, bytes_ = 0;
  uint64_t results_ = 0;
};

// Never destroyed: arrays may outlive every destructor of the process.
KeptBlocks &kept_blocks() {
  static KeptBlocks &blocks = *new KeptBlocks;
  return blocks;
}

// ---- what NumPy calls
// ------------------------------------------------------------------------------------------------

void *allocate(void *, size_t size) {
  void *const block = kept_blocks().take(size);
  return block != nullptr ? block : map_block(size);
}

void *allocate_zeros(void *, size_t count, size_t size) {
  size_t bytes = 0;
  return __builtin_mul_overflow(count, size, &bytes) ? nullptr : map_block(bytes);
}

void release(void *, void *block, size_t) {
  if (block != nullptr) kept_blocks().keep(block);
}

// For ndarray.resize.
void *reallocate(void *context, void *block, size_t size) {
  if (block == nullptr) return allocate(context, size);
  const size_t capacity = head_of(block)->capacity;
  if (size <= capacity) return block;
  void *const fresh = allocate(context, size);
  if (fresh == nullptr) return nullptr;
  std::memcpy(fresh, block, capacity);
  kept_blocks().keep(block);
  return fresh;
}

PyDataMem_Handler handler = {"tiaot", 1, {nullptr, allocate, allocate_zeros, reallocate, release}};

PyObject *handler_capsule() {
  static PyObject *capsule = PyCapsule_New(&handler, "mem_handler", nullptr);
  return capsule;
}

}  // namespace

PyObject *new_large_array(int ndim, const int64_t *shape, int type) {
  auto *const sizes = const_cast<npy_intp *>(reinterpret_cast<const npy_intp *>(shape));
  const Ref current(PyDataMem_GetHandler());
  if (!current) return nullptr;
  if (current.get() != PyDataMem_DefaultHandler) return PyArray_SimpleNew(ndim, sizes, type);  // the program's own
  PyObject *const capsule = handler_capsule();
  const Ref before(capsule != nullptr ? PyDataMem_SetHandler(capsule) : nullptr);
  if (!before) return nullptr;
  Ref array(PyArray_SimpleNew(ndim, sizes, type));
  const Ref ours(PyDataMem_SetHandler(before.get()));
  return ours ? array.release() : nullptr;
}

}  // namespace tiaot::binding
