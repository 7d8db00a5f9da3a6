// workers.hpp: shares out pieces of work among threads. Knows nothing of kernels.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "error.hpp"
#include "pool.hpp"

namespace tiaot {

// Runs body(piece, worker) once for each piece below `pieces`, on at most `workers` threads; no two threads have the
// same `worker` below `workers` at a time. Pieces are claimed in ascending order, which is the order on one thread.
template <typename Body>
tiaot_status run_pieces(int64_t pieces, int32_t workers, const tiaot_executor *executor, const Body &body) {
  if (workers <= 1) {
    for (int64_t piece = 0; piece < pieces; ++piece) body(piece, int64_t{0});
    return TIAOT_OK;
  }
  struct Job {
    const Body &body;
    int64_t pieces;
    int32_t workers;
    alignas(64) std::atomic<int64_t> next{0};
    alignas(64) std::atomic<int64_t> done{0};
  } job{body, pieces, workers};
  const auto task = [](void *context, int64_t worker) {
    Job &mine = *static_cast<Job *>(context);
    if (worker < 0 || worker >= mine.workers) return;  // an executor's mistake, which must not end in foreign memory
    int64_t count = 0;
    for (int64_t piece; (piece = mine.next.fetch_add(1, std::memory_order_relaxed)) < mine.pieces; ++count) {
      mine.body(piece, worker);
    }
    mine.done.fetch_add(count, std::memory_order_release);
  };
  if (executor == nullptr) {
    pool_run(workers, task, &job);
  } else {
    executor->parallel_for(executor->user, workers, task, &job);
  }
  if (job.done.load(std::memory_order_acquire) != pieces) {
    return raise(TIAOT_ERROR_VALUE, "the executor's parallel_for returned before its tasks had: results are not valid");
  }
  return TIAOT_OK;
}

}  // namespace tiaot
