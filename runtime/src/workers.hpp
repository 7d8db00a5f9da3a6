// workers.hpp: shares out pieces of work among threads. Knows nothing of kernels.
#pragma once

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "error.hpp"
#include "float_control.hpp"
#include "pool.hpp"

namespace tiaot {

// Runs body(piece, worker) once for each piece below `pieces`, on at most `workers` threads; no two threads have the
// same `worker` below `workers` at a time. Pieces are claimed in ascending order, which is the order on one thread.
// Other threads compute as this one does, whatever control state they have: results are the same for any number.
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
    pthread_t caller;
    FloatControl control;
    std::atomic<uint32_t> raised{0};
    alignas(64) std::atomic<int64_t> next{0};
    alignas(64) std::atomic<int64_t> done{0};

    // A function of its own: arithmetic must not move across the change of the control state.
    [[gnu::noinline]] void work(int64_t worker) {
      int64_t count = 0;
      for (int64_t piece; (piece = next.fetch_add(1, std::memory_order_relaxed)) < pieces; ++count) {
        body(piece, worker);
      }
      done.fetch_add(count, std::memory_order_release);
    }
  } job{body, pieces, workers, pthread_self(), FloatControl::of_this_thread()};
  const auto task = [](void *context, int64_t worker) {
    Job &mine = *static_cast<Job *>(context);
    if (worker < 0 || worker >= mine.workers) return;  // an executor's mistake, which must not end in foreign memory
    if (pthread_equal(mine.caller, pthread_self())) return mine.work(worker);
    const BorrowedFloatControl borrowed(mine.control);
    mine.work(worker);
    mine.raised.fetch_or(borrowed.raised(), std::memory_order_relaxed);
  };
  if (executor == nullptr) {
    pool_run(workers, task, &job);
  } else {
    executor->parallel_for(executor->user, workers, task, &job);
  }
  if (job.done.load(std::memory_order_acquire) != pieces) {
    return raise(TIAOT_ERROR_VALUE, "the executor's parallel_for returned before its tasks had: results are not valid");
  }
  raise_float_exceptions(job.raised.load(std::memory_order_relaxed));
  return TIAOT_OK;
}

}  // namespace tiaot
