// dispatch.hpp: which code runs a call, and in what pieces. Knows nothing of threads and memory.
#pragma once

#include <cstdint>

#include "signature.hpp"

namespace tiaot {

struct Choice {
  const tiaot_variant_desc *variant;
  const tiaot_entry_desc *entry;  // for a vjp or a Jacobian, its wrt may hold more inputs than were asked for
};

// The first variant that fits the element types and sizes and has an entry that serves the request; of arrays on a CUDA
// device, one with CUDA code.
[[gnu::hot]] tiaot_status choose_entry(const Request &request, const Checked &checked, Choice *choice);

// a * b for non-negative numbers, INT64_MAX where that is too much.
inline int64_t saturating_product(int64_t a, int64_t b) {
  int64_t product;
  return __builtin_mul_overflow(a, b, &product) ? INT64_MAX : product;
}

// A batch below this many element-steps is one chunk, so it stays on the calling thread: about 20 us of work, what
// waking another thread takes.
constexpr int64_t kSmall = 128 << 10;
inline bool is_small(int64_t rows, int64_t row_work) { return saturating_product(rows, row_work) < kSmall; }

// Calls place(argument, whether it is its gradient) for each array of an entry in the order of module.h, but for those
// of a state. `wrt` is the entry's.
template <typename Place>
void place_arrays(const tiaot_kernel_desc &desc, int entry, uint32_t wrt, Place &&place) {
  const uint32_t primals = desc.input_count + desc.output_count;
  const auto place_each = [&](bool gradient) {
    for (uint32_t i = 0; i < desc.input_count && i < 32; ++i) {
      if (wrt >> i & 1) place(i, gradient);
    }
  };
  if (entry == TIAOT_JVP) {
    for (uint32_t i = 0; i < desc.input_count; ++i) place(i, false);
    place_each(false);  // tangents
    for (int twice = 0; twice < 2; ++twice) {
      for (uint32_t i = desc.input_count; i < primals; ++i) place(i, false);
    }
  } else {
    for (uint32_t i = 0; i < primals; ++i) place(i, false);
    if (entry == TIAOT_HVP) place_each(false);  // tangents
    if (entry == TIAOT_HVP) place_each(true);
    place_each(true);
  }
}

// What a batch costs, in element-steps: a sample's work is the elements that its row touches.
struct Cost {
  int64_t row_work = 0;          // elements of one sample of every batched array, and of all shared ones
  int64_t widest = 1;            // elements of the largest sample
  int64_t shared_gradients = 0;  // elements of the gradients that are summed over the batch
};

struct Cut {
  int64_t chunk_rows;
  int64_t chunk_count;  // >= 1
};

// Cuts a batch of `rows` samples by its size alone, so that results do not depend on the number of threads.
Cut cut_batch(int64_t rows, const Cost &cost, int64_t block_rows);

}  // namespace tiaot
