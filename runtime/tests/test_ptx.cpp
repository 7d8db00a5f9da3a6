// test_ptx.cpp: the interpreter of PTX: right numbers where warps part and meet, shuffle and wait for each other, and a
// report of everything that a device would not forgive.
#include <cstdint>
#include <string>
#include <vector>

#include "check.hpp"
#include "ptx/launch.hpp"

namespace {

constexpr uint32_t kThreads = 64;

// A kernel k(x, y) of blocks of 64 threads, whose thread is %r1, with x + 4 * thread and y + 4 * thread in %rd1,
// %rd2.
std::string kernel(const std::string &body, const std::string &declarations = "") {
  return R"(.version 7.5
.target sm_75
.address_size 64
)" + declarations +
         R"(.visible .entry k(.param .u64 k_x, .param .u64 k_y)
{
  .reg .pred %p<4>; .reg .b32 %r<20>; .reg .f32 %f<20>; .reg .b64 %rd<20>; .reg .f64 %fd<8>;
  ld.param.u64 %rd1, [k_x];
  ld.param.u64 %rd2, [k_y];
  mov.u32 %r1, %tid.x;
  mul.wide.u32 %rd3, %r1, 4;
  add.s64 %rd1, %rd1, %rd3;
  add.s64 %rd2, %rd2, %rd3;
)" + body +
         "\n  ret;\n}\n";
}

struct Ran {
  std::vector<uint32_t> y = std::vector<uint32_t>(kThreads, 0);
  std::string said;  // findings, or why it was given up
};

Ran run(const std::string &text, ptx::Order order = ptx::Order::kForward, uint32_t blocks = 1) {
  Ran ran;
  std::vector<uint32_t> x(4 * kThreads);  // of which the rest is no array's: what lies behind x is none
  for (uint32_t i = 0; i < kThreads; ++i) x[i] = 100 + i;
  ptx::Memory memory;
  memory.add(reinterpret_cast<uint64_t>(x.data()), 4 * kThreads, "x", false, true, 4);
  memory.add(reinterpret_cast<uint64_t>(ran.y.data()), 4 * kThreads, "y", true, false, 4);
  const void *px = x.data();
  void *py = ran.y.data();
  void *parameters[] = {&px, &py};
  ptx::Settings settings;
  settings.order = order;
  settings.most_steps = 100000;
  try {
    const std::unique_ptr<ptx::Program> program = ptx::parse(text);
    ptx::run(*program->kernel("k"), blocks, kThreads, parameters, memory, settings);
    ran.said = memory.findings();
  } catch (const ptx::Error &error) {
    ran.said = error.what();
  }
  return ran;
}

// The first line of what is said, up to a place; "" where nothing is.
void check_said(const std::string &body, const std::string &expected) {
  const std::string said = run(kernel(body)).said;
  CHECK_EQ(said.substr(0, expected.size()), expected);
}

const char *const kStore = "st.global.u32 [%rd2], %r2;";

}  // namespace

TEST(lanes_part_and_meet) {
  // Each thread goes round as often as the last digit of its number says: y = 7 * (thread & 3) + 1000 for odd ones.
  const std::string body = R"(
  and.b32 %r3, %r1, 3;
  mov.u32 %r2, 0;
LOOP:
  setp.eq.s32 %p1, %r3, 0;
  @%p1 bra END;
  add.s32 %r2, %r2, 7;
  add.s32 %r3, %r3, -1;
  bra.uni LOOP;
END:
  and.b32 %r4, %r1, 1;
  setp.ne.s32 %p2, %r4, 0;
  @%p2 add.s32 %r2, %r2, 1000;
  activemask.b32 %r5;
  setp.eq.s32 %p3, %r5, -1;
  @!%p3 mov.u32 %r2, 99;
)";
  for (const ptx::Order order : {ptx::Order::kForward, ptx::Order::kBackward, ptx::Order::kShuffled}) {
    const Ran ran = run(kernel(body + kStore), order);
    CHECK_EQ(ran.said, "");
    for (uint32_t i = 0; i < kThreads; ++i) CHECK_EQ(ran.y[i], 7 * (i & 3) + (i & 1) * 1000);
  }
}

TEST(shuffles_within_a_warp) {
  // The sum of each warp's numbers, by halves.
  std::string body = "ld.global.u32 %r2, [%rd1];\n";
  for (const char *by : {"16", "8", "4", "2", "1"}) {
    body += std::string("shfl.sync.bfly.b32 %r3|%p1, %r2, ") + by + ", 31, -1;\nadd.s32 %r2, %r2, %r3;\n";
  }
  const Ran sums = run(kernel(body + kStore));
  CHECK_EQ(sums.said, "");
  CHECK_EQ(sums.y[5], 32u * 100 + 31 * 16);
  CHECK_EQ(sums.y[63], 32u * 100 + 31 * 16 + 32 * 32);
  const Ran down =
      run(kernel("shfl.sync.down.b32 %r2|%p1, %r1, 3, 31, -1;\n@!%p1 add.s32 %r2, %r2, 500;\n" + std::string(kStore)));
  CHECK_EQ(down.y[0], 3u);
  CHECK_EQ(down.y[28], 31u);
  CHECK_EQ(down.y[29], 529u);  // there is none behind it: its own, and it is told
  const Ran chosen = run(kernel("shfl.sync.idx.b32 %r2, %r1, 4, 31, -1;\n" + std::string(kStore)));
  CHECK_EQ(chosen.y[40], 36u);
}

TEST(barriers_of_a_block) {
  // y = x, the other way round, by way of shared memory.
  const std::string body = R"(
  .shared .align 4 .b8 pad[256];
  mov.u64 %rd5, pad;
  add.s64 %rd6, %rd5, %rd3;
  ld.global.u32 %r4, [%rd1];
  st.shared.u32 [%rd6], %r4;
  bar.sync 0;
  sub.s64 %rd7, %rd5, %rd3;
  ld.shared.u32 %r2, [%rd7+252];
)";
  for (const ptx::Order order : {ptx::Order::kForward, ptx::Order::kBackward}) {
    const Ran ran = run(kernel(body + kStore), order);
    CHECK_EQ(ran.said, "");
    CHECK_EQ(ran.y[0], 163u);
    CHECK_EQ(ran.y[63], 100u);
  }
  std::string without = body;
  without.erase(without.find("bar.sync 0;"), 11);
  const std::string said = run(kernel(without + kStore)).said;
  CHECK(said.find("a read of memory never written: k: ld.shared.u32 %r2") != std::string::npos);
  CHECK(said.find("a write beside another thread's read: k: st.shared.u32") != std::string::npos);
  check_said("setp.lt.s32 %p1, %r1, 32;\n@%p1 bra OUT;\nbar.sync 0;\nOUT:\nst.global.u32 [%rd2], %r1;",
             "a barrier that not all threads reach: k");
}

TEST(shared_memory_is_of_a_block) {
  // Each thread reads what it wrote itself, without a barrier; each block, with others in each place.
  const std::string body = R"(
  .shared .align 4 .b8 pad[256];
  mov.u32 %r4, %ctaid.x;
  xor.b32 %r5, %r1, %r4;
  mul.wide.u32 %rd6, %r5, 4;
  mov.u64 %rd5, pad;
  add.s64 %rd6, %rd5, %rd6;
  st.shared.u32 [%rd6], %r1;
  ld.shared.u32 %r2, [%rd6];
)";
  const Ran ran = run(kernel(body + kStore), ptx::Order::kForward, 3);
  CHECK_EQ(ran.said, "");
  CHECK_EQ(ran.y[63], 63u);
}

TEST(functions_are_called) {
  const std::string function = R"(
.func (.param .b32 result) squared(.param .b32 of)
{
  .reg .b32 %r<3>;
  ld.param.u32 %r1, [of];
  mul.lo.s32 %r2, %r1, %r1;
  st.param.b32 [result], %r2;
  ret;
}
)";
  const Ran ran = run(kernel(R"(
  mov.u32 %r2, 1;
  setp.lt.s32 %p1, %r1, 10;
  @%p1 bra END;
  { .param .b32 param0; st.param.b32 [param0+0], %r1; .param .b32 retval0;
  call.uni (retval0), squared, (param0);
  ld.param.b32 %r2, [retval0+0]; }
END:
  st.global.u32 [%rd2], %r2;
)",
                             function));
  CHECK_EQ(ran.said, "");
  CHECK_EQ(ran.y[9], 1u);
  CHECK_EQ(ran.y[11], 121u);
}

TEST(conversions_saturate) {
  const Ran ran = run(kernel(R"(
  mov.f32 %f1, 0f4F800000;
  cvt.rzi.s32.f32 %r2, %f1;
  setp.eq.s32 %p1, %r1, 1;
  mov.f32 %f2, 0f7FC00000;
  @%p1 cvt.rzi.s32.f32 %r2, %f2;
  setp.eq.s32 %p2, %r1, 2;
  mov.f64 %fd1, 0dC1F0000000000000;
  @%p2 cvt.rzi.s32.f64 %r2, %fd1;
  st.global.u32 [%rd2], %r2;
)"));
  CHECK_EQ(ran.said, "");
  CHECK_EQ(ran.y[0], 0x7FFFFFFFu);  // of 2^32
  CHECK_EQ(ran.y[1], 0u);           // of NaN
  CHECK_EQ(ran.y[2], 0x80000000u);  // of -2^32
}

TEST(what_a_device_would_not_forgive) {
  check_said("ld.global.u32 %r2, [%rd1+4];\nst.global.u32 [%rd2], %r2;",
             "k: ld.global.u32 %r2, [%rd1+4]: out of bounds: 4 bytes at x + 256 of 256, by thread 63 of 64");
  check_said("ld.global.u32 %r2, [%rd1+1];", "k: ld.global.u32 %r2, [%rd1+1]: out of bounds: 4 bytes at x + 253");
  check_said("setp.eq.s32 %p1, %r1, 0;\n@%p1 ld.global.u32 %r2, [%rd1+2];\nst.global.u32 [%rd2], %r1;",
             "misaligned: k: @%p1 ld.global.u32 %r2, [%rd1+2] (1 times, first by thread 0 of 64, 2 bytes off");
  check_said("st.global.u32 [%rd1], %r1;", "a write to an input: k: st.global.u32 [%rd1], %r1 (64 times, first by thr");
  check_said("ld.global.u32 %r2, [%rd2];", "a read of memory never written: k: ld.global.u32 %r2, [%rd2] (64 times");
  check_said("st.global.u32 [%rd2], %r7;", "a register that was never written: k: st.global.u32 [%rd2], %r7 (2 times");
  check_said("sub.s64 %rd4, %rd2, %rd3;\nst.global.u32 [%rd4], %r1;",
             "a write beside another thread's write: k: st.global.u32 [%rd4], %r1 (63 times, first by thread 1 of 64");
  check_said("st.global.u32 [%rd2], %r1;\nsub.s64 %rd4, %rd2, %rd3;\nld.global.u32 %r3, [%rd4];",
             "a read beside another thread's write: k: ld.global.u32 %r3, [%rd4] (63 times");
  check_said("st.global.u32 [%rd2], %r1;\nld.global.nc.u32 %r3, [%rd2];",
             "a read as read-only of what the launch writes: k: ld.global.nc.u32 %r3");
  check_said("setp.lt.s32 %p1, %r1, 7;\n@%p1 bra OUT;\nshfl.sync.bfly.b32 %r2, %r1, 1, 31, -1;\nOUT:",
             "a shuffle from a lane that is not there: k: shfl.sync.bfly.b32 %r2, %r1, 1, 31, -1");
  check_said("AGAIN:\nbra.uni AGAIN;", "k: bra.uni AGAIN: too many instructions");
  check_said("trap;", "k: trap: a trap by thread 0 of 64");
}

TEST(threads_may_write_the_same) {
  CHECK_EQ(run(kernel("sub.s64 %rd4, %rd2, %rd3;\nst.global.u32 [%rd4], 7;")).said, "");
  check_said("sub.s64 %rd4, %rd2, %rd3;\nand.b32 %r2, %r1, 1;\nst.global.u32 [%rd4], %r2;",
             "a write beside another thread's write: k: st.global.u32 [%rd4], %r2 (63 times, first by thread 1 of 64");
}

TEST(atomic_operations_are_no_race) {
  const Ran ran = run(kernel(R"(
  sub.s64 %rd4, %rd2, %rd3;
  setp.eq.s32 %p1, %r1, 0;
  @%p1 st.global.u32 [%rd4], 5;
  bar.sync 0;
  atom.global.add.u32 %r3, [%rd4], %r1;
)"));
  CHECK_EQ(ran.said, "");
  CHECK_EQ(ran.y[0], 5u + 63 * 32);
}

TEST(what_is_not_known_is_an_error) {
  const auto refused = [](const std::string &statement) { return run(kernel(statement)).said; };
  CHECK_EQ(refused("vote.sync.any.pred %p1, %p2, -1;"), "PTX: k: 'vote.sync.any.pred %p1, %p2, -1': is not known here");
  CHECK_EQ(refused("shfl.sync.up.b64 %r2, %r1, 4, 0, -1;"),
           "PTX: k: 'shfl.sync.up.b64 %r2, %r1, 4, 0, -1': a shuffle of no known kind");
  CHECK_EQ(refused("shfl.sync.up.weird.b32 %r2, %r1, 4, 0, -1;"),
           "PTX: k: 'shfl.sync.up.weird.b32 %r2, %r1, 4, 0, -1': .weird is not known here");
  CHECK_EQ(refused("add.rz.f32 %f1, %f1, %f1;"), "PTX: 'add.rz.f32 %f1, %f1, %f1' is not known here");
  CHECK_EQ(refused("add.weird.s32 %r1, %r1, 1;"), "PTX: k: 'add.weird.s32 %r1, %r1, 1': .weird is not known here");
  CHECK_EQ(refused("add.s32 %r1, %r1, %q1;"), "PTX: k: 'add.s32 %r1, %r1, %q1': there is no register %q1");
}
