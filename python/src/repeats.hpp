// repeats.hpp: calls that look like an earlier one of their entry, which skip all that follows from the types and
// shapes of their arrays. Knows nothing of what is wrong with a call: whatever looks different goes the long way
// (entry.cpp).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "common.hpp"

namespace tiaot::binding {

struct Call;
struct EntryState;
struct Look;

// What an entry remembers of its small calls on arrays of NumPy's. How a call looked is kept once it has come twice,
// and few of these are kept, so calls that all look different cost and keep next to nothing. The GIL guards it.
class Repeats {
 public:
  Repeats() = default;
  ~Repeats();
  Repeats(const Repeats &) = delete;
  Repeats &operator=(const Repeats &) = delete;

  // Runs a call that looks like one before. False for another, of which nothing has been done; else *result is what it
  // returns, nullptr with an exception set.
  [[gnu::hot]] bool run(const EntryState &entry, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords,
                        PyObject **result) const;

  // The same, without `out`, of an entry on arrays of another library's, whose operands have been read.
  [[gnu::hot]] bool run_on_others(const EntryState &entry, Call *call, PyObject **result) const;

  // Looks at a call that has just succeeded; the GIL has not been released since its arrays were read.
  void remember(const EntryState &entry, const Call &call);

 private:
  static constexpr size_t kMost = 4;  // sizes of batches that take turns, and sets of gradients

  struct Seen {
    uint64_t hash;  // of how a call looked that went the long way
    bool decided;   // it came twice, and is kept or has no quick way
  };

  std::array<const Look *, kMost> looks_{};  // owned; the first that are not nullptr
  size_t next_ = 0;                          // which one makes room
  std::array<Seen, kMost> seen_{};
  size_t next_seen_ = 0;
};

}  // namespace tiaot::binding
