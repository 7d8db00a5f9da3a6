// pool.cpp: workers that spin for a moment, then sleep on a futex. Knows nothing of kernels.
//
// Protocol. `state` holds the number of tickets still to be had for the current job (upper half) and the number of
// workers in it (lower half). The caller posts a job by setting the tickets; a worker joins by trading a ticket for a
// place; the caller does its own share, withdraws the tickets left over and waits until the places are empty. So
// nobody ever waits for a worker that has not woken up, and a job's data is only read by workers that hold a place.
// Futexes are raw: std::atomic::wait and condition variables took 1 to 2 ms to wake. The caller sleeps too after its
// spin: when the worker was preempted on this very core, spinning on keeps it from finishing.
#include "pool.hpp"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <new>

#include "threads.hpp"

namespace tiaot {
namespace {

using Task = void (*)(void *, int64_t);
using Word = std::atomic<uint32_t>;
static_assert(sizeof(Word) == 4 && Word::is_always_lock_free, "the kernel reads it as a plain 32-bit word");

constexpr uint32_t kTicket = 1u << 16;
constexpr uint32_t kPlaces = kTicket - 1;
constexpr uint32_t kCallerSleeps = 1u << 31;

void futex_wait(Word &word, uint32_t expected) {
  syscall(SYS_futex, reinterpret_cast<uint32_t *>(&word), FUTEX_WAIT_PRIVATE, expected, nullptr, nullptr, 0);
}

void futex_wake(Word &word, uint32_t count) {
  syscall(SYS_futex, reinterpret_cast<uint32_t *>(&word), FUTEX_WAKE_PRIVATE, count, nullptr, nullptr, 0);
}

// In a loop that waits for memory to change: the core has better things to do than to guess what comes next.
void let_the_other_thread_run() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("isb");  // `yield` does nothing on most; this waits about as long as x86-64's pause
#endif
}

// Waits for done() for as long as spinning pays; true when it came.
template <typename Done>
bool spin_until(Done done) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(spin_microseconds());
  do {
    for (int i = 0; i < 32; ++i) {
      if (done()) return true;
      let_the_other_thread_run();
    }
  } while (std::chrono::steady_clock::now() < end);
  return done();
}

// Moves the calling thread off a CPU, where it may run on another. A worker is often woken on its caller's, which is
// about to work there, and the scheduler of a busy machine takes milliseconds to move one of them.
void leave_cpu(int cpu) {
  if (cpu < 0 || sched_getcpu() != cpu) return;
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;  // a machine of more CPUs than the set has
  cpu_set_t others = allowed;
  CPU_CLR(static_cast<unsigned>(cpu), &others);
  if (CPU_COUNT(&others) == 0 || sched_setaffinity(0, sizeof others, &others) != 0) return;
  sched_setaffinity(0, sizeof allowed, &allowed);
}

// Gives this thread the scheduling of the process, which is that of its first thread, for new threads to inherit it.
class ProcessPriority {
 public:
  ProcessPriority() : process_(Priority::of(getpid())), own_(Priority::of(0)) {
    if (!(process_ == own_)) taken_ = process_.give_to_this_thread();
  }
  ~ProcessPriority() {
    if (!(process_ == own_)) own_.give_to_this_thread();
  }
  ProcessPriority(const ProcessPriority &) = delete;
  ProcessPriority &operator=(const ProcessPriority &) = delete;

  // False when the system does not let this thread have it, as a niced one without privileges.
  bool taken() const { return taken_; }

 private:
  struct Priority {
    int policy, nice;
    sched_param parameters;

    static Priority of(pid_t thread) {
      Priority priority{sched_getscheduler(thread), getpriority(PRIO_PROCESS, static_cast<id_t>(thread)), {}};
      sched_getparam(thread, &priority.parameters);
      return priority;
    }
    bool give_to_this_thread() const {
      return sched_setscheduler(0, policy, &parameters) == 0 && setpriority(PRIO_PROCESS, 0, nice) == 0;
    }
    bool operator==(const Priority &other) const {
      return policy == other.policy && nice == other.nice &&
             parameters.sched_priority == other.parameters.sched_priority;
    }
  };

  Priority process_, own_;
  bool taken_ = true;
};

struct Pool {
  const pid_t owner = getpid();
  std::atomic<bool> busy{false};
  int32_t workers = 0;  // changed by the holder of `busy` alone

  Task task = nullptr;  // the job: written before its tickets are out, read by holders of a place
  void *context = nullptr;
  int caller_cpu = -1;
  std::atomic<int64_t> next_index{0};

  alignas(64) Word state{0};
  alignas(64) Word posted{0};  // counts jobs; what idle workers sleep on
  Word sleepers{0};

  bool join() {
    uint32_t seen = state.load(std::memory_order_relaxed);
    while ((seen & ~kCallerSleeps) >= kTicket) {
      if (state.compare_exchange_weak(seen, seen - kTicket + 1, std::memory_order_acq_rel)) return true;
    }
    return false;
  }

  void leave() {
    if (state.fetch_sub(1, std::memory_order_acq_rel) == (kCallerSleeps | 1)) futex_wake(state, 1);
  }

  [[noreturn]] void work() {
    for (;;) {
      const uint32_t seen = posted.load(std::memory_order_acquire);
      if (join()) {
        leave_cpu(caller_cpu);
        task(context, next_index.fetch_add(1, std::memory_order_relaxed));
        leave();
        continue;
      }
      if (spin_until([&] { return posted.load(std::memory_order_acquire) != seen; })) continue;
      // Counted before the kernel compares `posted`, as run() counts a job before it looks for sleepers: of the two,
      // one sees the other.
      sleepers.fetch_add(1);
      futex_wait(posted, seen);
      sleepers.fetch_sub(1);
    }
  }

  // Adds workers until there are `wanted`, or as many as the system gives. They belong to the process: the thread that
  // happens to call first may be pinned to a CPU, and have a priority of its own.
  void grow(int32_t wanted) {
    if (workers >= wanted) return;
    const ProcessPriority priority;
    if (!priority.taken()) return;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);  // signals are for the threads of the program
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    const CpuSet cpus = CpuSet::of_process();
    if (cpus.count() > 0) pthread_attr_setaffinity_np(&attributes, cpus.size(), cpus.get());
    for (pthread_t thread; workers < wanted; ++workers) {
      if (pthread_create(&thread, &attributes, &Pool::start, this) != 0) break;
    }
    pthread_attr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  static void *start(void *pool) {
    pthread_setname_np(pthread_self(), "tiaot");
    static_cast<Pool *>(pool)->work();
  }

  void run(int32_t count, Task job, void *job_context) {
    grow(count - 1);
    const uint32_t tickets = static_cast<uint32_t>(std::min(count - 1, workers));
    task = job;
    context = job_context;
    caller_cpu = sched_getcpu();
    next_index.store(1, std::memory_order_relaxed);
    state.store(tickets * kTicket, std::memory_order_release);
    posted.fetch_add(1);
    if (sleepers.load() > 0) futex_wake(posted, tickets);

    job(job_context, 0);

    state.fetch_and(kPlaces, std::memory_order_acq_rel);
    const auto empty = [&] { return (state.load(std::memory_order_acquire) & kPlaces) == 0; };
    if (!spin_until(empty)) {
      state.fetch_or(kCallerSleeps, std::memory_order_acq_rel);
      for (uint32_t seen; ((seen = state.load(std::memory_order_acquire)) & kPlaces) != 0;) futex_wait(state, seen);
      state.store(0, std::memory_order_relaxed);
    }
  }
};

// Never deleted: workers are detached and may outlive every destructor of the process.
std::atomic<Pool *> current{nullptr};

// The pool of this process, or nullptr without memory for one. A forked child leaves its parent's pool behind: the
// workers did not come along.
Pool *this_process_pool() {
  Pool *pool = current.load(std::memory_order_acquire);
  while (pool == nullptr || pool->owner != getpid()) {
    Pool *fresh = new (std::nothrow) Pool;
    if (fresh == nullptr) return nullptr;
    if (current.compare_exchange_strong(pool, fresh, std::memory_order_acq_rel)) return fresh;
    delete fresh;
  }
  return pool;
}

}  // namespace

void pool_run(int32_t count, void (*task)(void *context, int64_t index), void *context) {
  Pool *pool = count > 1 ? this_process_pool() : nullptr;
  if (pool == nullptr || pool->busy.exchange(true, std::memory_order_acquire)) {
    task(context, 0);
    return;
  }
  pool->run(count, task, context);
  pool->busy.store(false, std::memory_order_release);
}

}  // namespace tiaot
