// test_pool.cpp: calls on several threads at once, executors, fork.
#include <sched.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cfenv>
#include <chrono>
#include <cstdlib>
#include <stdexcept>
#include <thread>

#include "check.hpp"
#include "float_control.hpp"
#include "pool.hpp"
#include "toy.hpp"

namespace {

const Module module = open_toy();
const tiaot_kernel *const dense = find_kernel(module, "dense");

struct Call {
  explicit Call(int seed = 1) : x({20011, 8}, seed), W({4, 8}, 2), b({4}, 3), v({20011, 4}, 4), gW({4, 8}), gb({4}) {}
  Array<float> x, W, b, v, gW, gb;

  tiaot_status run(int32_t threads, const tiaot_executor *executor = nullptr) {
    const DLTensor arrays[] = {x, W, b, v, gW, gb};
    tiaot_options options = TIAOT_OPTIONS_INIT;
    options.num_threads = threads;
    options.executor = executor;
    return tiaot_call(dense, TIAOT_VJP, 6, arrays, 6, &options);
  }
};

// Whether two control states are the same, whatever exceptions were raised.
bool same(const tiaot::FloatControl &a, const tiaot::FloatControl &b) {
#if defined(__x86_64__)
  return a.x87 == b.x87 && (a.mxcsr & ~a.kRaised) == (b.mxcsr & ~b.kRaised);
#else
  return a.fpcr == b.fpcr;
#endif
}

std::vector<float> expected(int seed = 1) {
  Call call(seed);
  CHECK_OK(call.run(1));
  return call.gW.values();
}

// Counts, until every one of `count` pieces was taken.
struct Share {
  std::atomic<int64_t> next{0}, sum{0};
  int64_t count = 0;
  static void task(void *context, int64_t) {
    Share &share = *static_cast<Share *>(context);
    for (int64_t i; (i = share.next.fetch_add(1)) < share.count;) share.sum.fetch_add(i);
  }
};

// Both sides of a job wait for each other, so it ends well only when a worker comes.
bool a_worker_comes() {
  std::atomic<int> present{0};
  const auto meet = [](void *context, int64_t) {
    auto &here = *static_cast<std::atomic<int> *>(context);
    here.fetch_add(1);
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (here.load() < 2 && std::chrono::steady_clock::now() < end) std::this_thread::yield();
  };
  tiaot::pool_run(2, meet, &present);
  return present.load() == 2;
}

int exit_code_of_child(void (*body)()) {
  if (std::getenv("TIAOT_EMULATED") != nullptr) {  // qemu-user gives up when a process that has threads forks
    std::puts("       (no fork)");
    return 0;
  }
  std::fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    body();
    _exit(check::failures() == 0 ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace

// A worker that was woken on its caller's CPU moves away, by its affinity, which must be as before when it works.
TEST(workers_keep_their_affinity) {
  struct Seen {
    cpu_set_t expected;
    std::atomic<int> present{0}, changed{0};
  } seen;
  CHECK(a_worker_comes());
  CHECK_EQ(sched_getaffinity(0, sizeof seen.expected, &seen.expected), 0);
  const auto look = [](void *context, int64_t) {
    Seen &here = *static_cast<Seen *>(context);
    cpu_set_t mask;
    sched_getaffinity(0, sizeof mask, &mask);
    if (!CPU_EQUAL(&mask, &here.expected)) here.changed.fetch_add(1);
    here.present.fetch_add(1);
    while (here.present.load() % 2 != 0) std::this_thread::yield();
  };
  for (int round = 0; round < 1000; ++round) tiaot::pool_run(2, look, &seen);
  CHECK_EQ(seen.changed.load(), 0);
}

#ifndef __SANITIZE_THREAD__  // which knows no threads that a forked child starts

// Runs in a child, whose pool is new: this process has its workers already.
TEST(workers_belong_to_the_process_not_to_the_first_caller) {
  const auto in_child = [] {
    cpu_set_t process;
    CHECK_EQ(sched_getaffinity(0, sizeof process, &process), 0);
    std::thread first([] {
      cpu_set_t one;
      CPU_ZERO(&one);
      CPU_SET(static_cast<unsigned>(sched_getcpu()), &one);
      CHECK_EQ(sched_setaffinity(0, sizeof one, &one), 0);
      CHECK_EQ(setpriority(PRIO_PROCESS, 0, 19), 0);
      int32_t count = 0;
      CHECK_OK(tiaot_set_num_threads(0));
      CHECK_OK(tiaot_num_threads(&count));
      CHECK(count >= 1);
      Share share;
      share.count = 50;
      tiaot::pool_run(2, Share::task, &share);
      CHECK_EQ(getpriority(PRIO_PROCESS, 0), 19);  // the caller's own
      cpu_set_t mine;
      CHECK_EQ(sched_getaffinity(0, sizeof mine, &mine), 0);
      CHECK(CPU_EQUAL(&mine, &one));
    });
    first.join();
    struct Seen {
      cpu_set_t expected;
      std::thread::id caller;
      std::atomic<int> present{0}, pinned{0}, niced{0};
    } seen;
    seen.expected = process;
    seen.caller = std::this_thread::get_id();
    const auto look = [](void *context, int64_t) {
      Seen &here = *static_cast<Seen *>(context);
      cpu_set_t mask;
      sched_getaffinity(0, sizeof mask, &mask);
      if (!CPU_EQUAL(&mask, &here.expected)) here.pinned.fetch_add(1);
      if (getpriority(PRIO_PROCESS, 0) != getpriority(PRIO_PROCESS, static_cast<id_t>(getpid()))) {
        here.niced.fetch_add(1);
      }
      here.present.fetch_add(1);
      const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
      while (here.present.load() < 2 && std::chrono::steady_clock::now() < end) std::this_thread::yield();
    };
    tiaot::pool_run(2, look, &seen);
    CHECK_EQ(seen.present.load(), 2);
    CHECK_EQ(seen.pinned.load(), 0);
    CHECK_EQ(seen.niced.load(), 0);
  };
  CHECK_EQ(exit_code_of_child(in_child), 0);
}

#endif

TEST(workers_round_as_their_caller_does) {
  const tiaot_executor threads{[](void *, int64_t count, void (*task)(void *, int64_t), void *context) {
                                 std::vector<std::thread> all;
                                 for (int64_t i = 0; i < count; ++i) all.emplace_back(task, context, i);
                                 for (std::thread &thread : all) thread.join();
                               },
                               nullptr};
  CHECK(a_worker_comes());  // with the ordinary state
  const std::vector<float> to_nearest = expected();
  const tiaot::FloatControl before = tiaot::FloatControl::of_this_thread();
  for (int mode : {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO}) {
    std::fesetround(mode);
    const std::vector<float> right = expected();
    for (int time = 0; time < 10; ++time) {
      Call call, other;
      CHECK_OK(call.run(3));
      CHECK_OK(other.run(3, &threads));
      CHECK_EQ(std::fegetround(), mode);
      std::fesetround(FE_TONEAREST);
      CHECK(call.gW.values() == right);
      CHECK(other.gW.values() == right);
      std::fesetround(mode);
    }
    std::fesetround(FE_TONEAREST);
    CHECK(right != to_nearest);
  }
  Call call;
  CHECK_OK(call.run(3));
  CHECK(call.gW.values() == to_nearest);  // the workers have their own state again
  CHECK(same(tiaot::FloatControl::of_this_thread(), before));
}

// On an executor's thread, so that it is sure which one raises.
TEST(exceptions_that_workers_raise_are_the_callers) {
  const tiaot_executor thread{[](void *, int64_t count, void (*task)(void *, int64_t), void *context) {
                                std::thread([&] {
                                  for (int64_t i = 0; i < count; ++i) task(context, i);
                                  CHECK_EQ(std::fetestexcept(FE_OVERFLOW), 0);  // not the executor's
                                }).join();
                              },
                              nullptr};
  Call call;
  std::feclearexcept(FE_ALL_EXCEPT);
  CHECK_OK(call.run(2, &thread));
  CHECK_EQ(std::fetestexcept(FE_OVERFLOW), 0);
  call.x.data()[0] = call.v.data()[0] = 1e38f;
  CHECK_OK(call.run(2, &thread));
  CHECK_EQ(std::fetestexcept(FE_OVERFLOW), FE_OVERFLOW);
  std::feclearexcept(FE_ALL_EXCEPT);
}

TEST(every_piece_once) {
  for (int round = 0; round < 2000; ++round) {
    Share share;
    share.count = 50;
    tiaot::pool_run(1 + round % 5, Share::task, &share);
    if (share.sum != 49 * 50 / 2) CHECK_EQ(share.sum.load(), 49 * 50 / 2);
  }
}

TEST(workers_that_sleep_are_woken) {
  for (int round = 0; round < 20; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    CHECK(a_worker_comes());
  }
}

TEST(callers_from_several_threads) {
  const std::vector<float> right[] = {expected(0), expected(1), expected(2), expected(3)};
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (int seed = 0; seed < 4; ++seed) {
    callers.emplace_back([&, seed] {
      Call call(seed);
      for (int time = 0; time < 20; ++time) {
        if (call.run(3) != TIAOT_OK || call.gW.values() != right[seed]) ++wrong;
      }
    });
  }
  for (std::thread &caller : callers) caller.join();
  CHECK_EQ(wrong.load(), 0);
}

TEST(messages_belong_to_their_thread) {
  Call call;
  CHECK_EQ(call.run(-1), TIAOT_ERROR_VALUE);
  const std::string mine = tiaot_last_error();
  std::thread([] { CHECK_EQ(std::string(tiaot_last_error()), ""); }).join();
  CHECK_EQ(std::string(tiaot_last_error()), mine);
}

TEST(executor) {
  Call call;
  int64_t asked = 0;
  const tiaot_executor backwards{[](void *user, int64_t count, void (*task)(void *, int64_t), void *context) {
                                   *static_cast<int64_t *>(user) = count;
                                   for (int64_t i = count; i-- > 0;) task(context, i);
                                 },
                                 &asked};
  CHECK_OK(call.run(3, &backwards));
  CHECK_EQ(asked, 3);
  CHECK(call.gW.values() == expected());

  const tiaot_executor threads{[](void *, int64_t count, void (*task)(void *, int64_t), void *context) {
                                 std::vector<std::thread> all;
                                 for (int64_t i = 0; i < count; ++i) all.emplace_back(task, context, i);
                                 for (std::thread &thread : all) thread.join();
                               },
                               nullptr};
  Call other;
  CHECK_OK(other.run(4, &threads));
  CHECK(other.gW.values() == expected());
}

TEST(executor_that_runs_another_call_meanwhile) {
  Call inner(7);
  const tiaot_executor nesting{[](void *user, int64_t count, void (*task)(void *, int64_t), void *context) {
                                 CHECK_OK(static_cast<Call *>(user)->run(2));
                                 for (int64_t i = 0; i < count; ++i) task(context, i);
                                 CHECK_OK(static_cast<Call *>(user)->run(2));
                               },
                               &inner};
  Call outer;
  CHECK_OK(outer.run(2, &nesting));
  CHECK(outer.gW.values() == expected());
  CHECK(inner.gW.values() == expected(7));
}

TEST(executor_of_a_bound_call_need_not_live_on) {
  Call call;
  int64_t asked = 0;
  tiaot_executor executor{[](void *user, int64_t count, void (*task)(void *, int64_t), void *context) {
                            *static_cast<int64_t *>(user) = count;
                            task(context, 0);
                          },
                          &asked};
  tiaot_bound *bound = nullptr;
  {
    const DLTensor arrays[] = {call.x, call.W, call.b, call.v, call.gW, call.gb};
    const tiaot_options options{sizeof options, 3, nullptr, &executor, nullptr, nullptr};
    CHECK_OK(tiaot_bind(dense, TIAOT_VJP, 6, arrays, 6, &options, &bound));
  }
  executor.parallel_for = [](void *, int64_t, void (*)(void *, int64_t), void *) {};
  CHECK_OK(tiaot_bound_run(bound));
  CHECK_EQ(asked, 3);
  CHECK(call.gW.values() == expected());
  tiaot_bound_destroy(bound);
}

TEST(executors_that_fail) {
  Call call;
  const tiaot_executor idle{[](void *, int64_t, void (*)(void *, int64_t), void *) {}, nullptr};
  CHECK_ERROR(call.run(2, &idle), TIAOT_ERROR_VALUE,
              "the executor's parallel_for returned before its tasks had: results are not valid");
  const tiaot_executor throwing{
      [](void *, int64_t, void (*)(void *, int64_t), void *) { throw std::runtime_error("no"); }, nullptr};
  CHECK_ERROR(call.run(2, &throwing), TIAOT_ERROR_INTERNAL, "bug in tiaot, please report it: unexpected exception: no");
  const tiaot_executor astray{[](void *, int64_t count, void (*task)(void *, int64_t), void *context) {
                                for (int64_t index : {int64_t{-1}, count, int64_t{1} << 40}) task(context, index);
                                task(context, 0);
                              },
                              nullptr};
  Array<float> gx({20011, 8});
  const DLTensor arrays[] = {call.x, call.W, call.b, call.v, gx};
  const tiaot_options options{sizeof options, 2, nullptr, &astray, nullptr, nullptr};
  CHECK_OK(tiaot_call(dense, TIAOT_VJP, 1, arrays, 5, &options));  // with a workspace for each worker
}

TEST(nested_use_runs_inline) {
  struct Context {
    std::atomic<int> calls{0};
  } context;
  tiaot::pool_run(
      2,
      [](void *outer, int64_t) {
        tiaot::pool_run(
            2,
            [](void *inner, int64_t index) {
              CHECK_EQ(index, 0);
              static_cast<Context *>(inner)->calls.fetch_add(1);
            },
            outer);
      },
      &context);
  CHECK(context.calls.load() == 1 || context.calls.load() == 2);
}

#ifndef __SANITIZE_THREAD__

TEST(fork_while_the_pool_exists) {
  Call call;
  CHECK_OK(call.run(3));
  const auto in_child = [] {
    Call mine;
    CHECK_OK(mine.run(3));
    CHECK(mine.gW.values() == expected());
    CHECK(a_worker_comes());
  };
  CHECK_EQ(exit_code_of_child(in_child), 0);
  CHECK_OK(call.run(3));
  CHECK(call.gW.values() == expected());

  // While another thread is in the middle of a job.
  std::atomic<bool> stop{false};
  std::thread busy([&] {
    Call other;
    while (!stop) CHECK_OK(other.run(3));
  });
  for (int time = 0; time < 5; ++time) CHECK_EQ(exit_code_of_child(in_child), 0);
  stop = true;
  busy.join();
}

#endif
