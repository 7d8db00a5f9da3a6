// pool.hpp: a small thread pool that survives fork. Knows nothing of kernels.
#pragma once

#include <cstdint>

namespace tiaot {

// Runs task(context, 0) on the calling thread and, as far as workers are free and come in time, task(context, index)
// for other indices below `count` on theirs; returns when all that were begun have returned. So the tasks must share
// out the work among themselves: whoever comes takes the next piece, and index 0 goes on until nothing is left. With
// the pool busy (another thread's job, or the one that the caller is part of), only index 0 is run.
void pool_run(int32_t count, void (*task)(void *context, int64_t index), void *context);

}  // namespace tiaot
