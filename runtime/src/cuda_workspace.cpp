// cuda_workspace.cpp: the memory kept for each stream. Knows nothing of what it is used for.
//
// A stream runs one thing after another, so that all calls on it can share one piece of memory, its arena. Streams are
// told apart by their ids, which the driver never uses twice, since handles of destroyed streams come back.
//
// A program makes few streams, or makes new ones all the time. The first `kQuiet` arenas of a device belong to their
// streams for good and cost nothing per call. Each of the others has an event, recorded behind the last use, and the
// one that was idle for longest is given to a new stream, which waits for the event; the old stream, which may be
// destroyed by then, is not touched. A device holds at most kArenas of them.
//
// Without ids every arena has an event and every use waits for it, which makes it no matter whose handle it is.
#include "cuda_workspace.hpp"

#include <algorithm>

#include "error.hpp"

namespace tiaot {

struct CudaArena {
  std::mutex mutex;     // held while work that uses the memory is put on the stream
  int32_t users = 0;    // threads that have the mutex or wait for it; changed under CudaArenas::mutex
  uint64_t stream = 0;  // id, or handle
  uint64_t last_use = 0;
  bool wait = false;  // the next use is to wait for the event
  CUdeviceptr data = 0;
  int64_t bytes = 0;
  CUevent event = nullptr;  // nullptr: never recorded
};

struct CudaArenas {
  static constexpr uint32_t kQuiet = 8, kArenas = 32;
  std::mutex mutex;
  CudaArena list[kArenas];
  uint32_t count = 0;
  uint64_t uses = 0;
};

namespace {

constexpr int64_t kKeep = int64_t{256} << 20;  // the most that a stream holds on to
constexpr int64_t kLeast = int64_t{64} << 10;

// The stream's arena, marked as used; nullptr when there are as many as there may be and all are in use.
CudaArena *find_arena(CudaArenas *all, uint64_t stream, bool recorded) {
  const std::lock_guard<std::mutex> lock(all->mutex);
  CudaArena *const end = all->list + all->count;
  CudaArena *found = std::find_if(all->list, end, [&](const CudaArena &arena) { return arena.stream == stream; });
  if (found == end && all->count < CudaArenas::kArenas) {
    ++all->count;
    found->stream = stream;
  } else if (found == end) {
    found = nullptr;
    for (CudaArena *arena = all->list + (recorded ? 0 : CudaArenas::kQuiet); arena != end; ++arena) {
      if (arena->users == 0 && (found == nullptr || arena->last_use < found->last_use)) found = arena;
    }
    if (found == nullptr) return nullptr;
    found->stream = stream;
    found->wait = true;
  }
  ++found->users;
  found->last_use = ++all->uses;
  return found;
}

}  // namespace

tiaot_status CudaWorkspace::take(int64_t bytes) {
  if (bytes == 0) return TIAOT_OK;
  const CudaDriver &driver = *device_->driver;
  int32_t capturing = CU_STREAM_CAPTURE_STATUS_NONE;
  if (CUresult error = driver.cuStreamIsCapturing(stream_, &capturing)) {
    return device_->failed(caller_, "cuStreamIsCapturing", error);
  }
  if (capturing == CU_STREAM_CAPTURE_STATUS_NONE) {
    // What is too large to be held on to is the driver's to keep, where it has a pool.
    return bytes > kKeep && device_->pools ? take_once(bytes) : take_arena(bytes);
  }
  // A graph may run at any time and any number of times, so its memory is its own.
  if (device_->pools) return take_once(bytes);
  return raise(TIAOT_ERROR_UNSUPPORTED,
               "%s: cuda:%d has no memory pools: a call that needs workspace cannot be captured there",
               caller_.text().c_str(), device_->ordinal);
}

tiaot_status CudaWorkspace::allocate(int64_t bytes, CUdeviceptr *data) {
  const CudaDriver &driver = *device_->driver;
  CUresult error;
  if (device_->pools) {
    error = driver.cuMemAllocAsync(data, static_cast<size_t>(bytes), stream_);
  } else {
    const CudaRelaxedCapture relaxed(driver);
    error = driver.cuMemAlloc(data, static_cast<size_t>(bytes));
  }
  if (error == 0) return TIAOT_OK;
  if (error != CUDA_ERROR_OUT_OF_MEMORY) {
    return device_->failed(caller_, device_->pools ? "cuMemAllocAsync" : "cuMemAlloc", error);
  }
  return raise(TIAOT_ERROR_MEMORY,
               "%s: no memory for workspace on cuda:%d: %lld bytes are needed; libraries keep what they once had: "
               "torch.cuda.empty_cache(), XLA_PYTHON_CLIENT_PREALLOCATE=false before JAX starts, tiaot.cuda.release()",
               caller_.text().c_str(), device_->ordinal, static_cast<long long>(bytes));
}

tiaot_status CudaWorkspace::take_once(int64_t bytes) { return allocate(bytes, &data_); }

// Without pools the old memory stays allocated: giving it back would wait for the device. Sizes double, so that all
// that was outgrown together is less than what is in use.
tiaot_status CudaWorkspace::grow(CudaArena *arena, int64_t bytes) {
  int64_t size = std::max(kLeast, arena->bytes);
  while (size < bytes && size < kKeep) size *= 2;
  size = std::max(size, bytes);
  const CUdeviceptr old = arena->data;
  arena->data = 0;
  arena->bytes = 0;
  if (old != 0 && device_->pools) {
    if (CUresult error = device_->driver->cuMemFreeAsync(old, stream_)) {
      return device_->failed(caller_, "cuMemFreeAsync", error);
    }
  }
  if (tiaot_status status = allocate(size, &arena->data)) return status;
  arena->bytes = size;
  return TIAOT_OK;
}

tiaot_status CudaWorkspace::take_arena(int64_t bytes) {
  const CudaDriver &driver = *device_->driver;
  const bool recorded = !device_->stream_ids;
  uint64_t stream = reinterpret_cast<uintptr_t>(stream_);
  if (device_->stream_ids) {
    if (CUresult error = driver.cuStreamGetId(stream_, &stream)) {
      return device_->failed(caller_, "cuStreamGetId", error);
    }
  }
  {
    const std::lock_guard<std::mutex> lock(device_->mutex);
    if (device_->arenas == nullptr) device_->arenas = new CudaArenas;
  }
  CudaArena *arena = find_arena(device_->arenas, stream, recorded);
  if (arena == nullptr && device_->pools) return take_once(bytes);
  if (arena == nullptr) {
    return raise(TIAOT_ERROR_MEMORY, "%s: cuda:%d: too many threads put work on streams of their own at the same time",
                 caller_.text().c_str(), device_->ordinal);
  }
  arena->mutex.lock();
  arena_ = arena;
  if (arena->event != nullptr && (arena->wait || recorded)) {
    if (CUresult error = driver.cuStreamWaitEvent(stream_, arena->event, 0)) {
      return device_->failed(caller_, "cuStreamWaitEvent", error);
    }
  }
  arena->wait = false;
  if (arena->bytes < bytes) {
    if (tiaot_status status = grow(arena, bytes)) return status;
  }
  data_ = arena->data;
  return TIAOT_OK;
}

// Records the arena's event, for those that other streams may get.
CUresult CudaWorkspace::record_use() {
  const CudaDriver &driver = *device_->driver;
  if (device_->stream_ids && arena_ - device_->arenas->list < CudaArenas::kQuiet) return 0;
  CUresult error = 0;
  if (arena_->event == nullptr) {
    const CudaRelaxedCapture relaxed(driver);
    error = driver.cuEventCreate(&arena_->event, CU_EVENT_DISABLE_TIMING);
  }
  if (error == 0) error = driver.cuEventRecord(arena_->event, stream_);
  if (error != 0) {  // nobody can tell when this memory is free again
    arena_->data = 0;
    arena_->bytes = 0;
  }
  return error;
}

CUresult CudaWorkspace::release(const char **function) {
  CUresult error = 0;
  if (arena_ != nullptr) {
    *function = "cuEventRecord";
    error = record_use();
    arena_->mutex.unlock();
    const std::lock_guard<std::mutex> lock(device_->arenas->mutex);
    --arena_->users;
  } else if (data_ != 0) {
    *function = "cuMemFreeAsync";
    error = device_->driver->cuMemFreeAsync(data_, stream_);
  }
  arena_ = nullptr;
  data_ = 0;
  return error;
}

tiaot_status CudaWorkspace::give_back() {
  const char *function = nullptr;
  const CUresult error = release(&function);
  return error == 0 ? TIAOT_OK : device_->failed(caller_, function, error);
}

CUresult release_cuda_arenas(CudaDevice *device) {
  CudaArenas *all = nullptr;
  {
    const std::lock_guard<std::mutex> lock(device->mutex);
    all = device->arenas;
  }
  if (all == nullptr) return 0;
  const std::lock_guard<std::mutex> lock(all->mutex);
  for (CudaArena *arena = all->list; arena != all->list + all->count; ++arena) {
    if (arena->users != 0 || arena->data == 0) continue;
    if (CUresult error = device->driver->cuMemFree(arena->data)) return error;
    arena->data = 0;
    arena->bytes = 0;
  }
  return 0;
}

}  // namespace tiaot
