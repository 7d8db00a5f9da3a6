// test_machine.cpp: CPU levels, the default number of threads, the checksum.
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <initializer_list>

#include "check.hpp"
#include "cpu.hpp"
#if defined(__x86_64__)
#include "cpu_x86_64.hpp"
#endif
#include "crc32.hpp"
#include "sha256.hpp"
#include "threads.hpp"

namespace {

#if defined(__x86_64__)
constexpr uint32_t bits(std::initializer_list<int> numbers) {
  uint32_t word = 0;
  for (int number : numbers) word |= 1u << number;
  return word;
}
constexpr tiaot::CpuFeatures kV4{bits({0, 9, 12, 13, 19, 20, 22, 23, 27, 28, 29}), bits({3, 5, 8, 16, 17, 28, 30, 31}),
                                 bits({0, 5}), bits({1, 2, 5, 6, 7})};
#endif

// A folder that goes away with its files.
struct Folder {
  char path[32] = "/tmp/tiaot-test-XXXXXX";
  std::vector<std::string> made;
  Folder() { CHECK(mkdtemp(path) != nullptr); }
  ~Folder() {
    while (!made.empty()) {
      remove(made.back().c_str());
      made.pop_back();
    }
    rmdir(path);
  }
  std::string make_folder(const std::string &name) {
    made.push_back(path + ("/" + name));
    mkdir(made.back().c_str(), 0700);
    return made.back();
  }
  std::string write(const std::string &name, const std::string &text) {
    made.push_back(path + ("/" + name));
    std::ofstream(made.back()) << text;
    return made.back();
  }
};

}  // namespace

#if defined(__x86_64__)

TEST(this_machine) {
  __builtin_cpu_init();
  // One feature of each level: older compilers have no names for the levels.
  const int expected = __builtin_cpu_supports("avx512vl") ? TIAOT_LEVEL_V4
                       : __builtin_cpu_supports("avx2")   ? TIAOT_LEVEL_V3
                       : __builtin_cpu_supports("sse4.2") ? TIAOT_LEVEL_V2
                                                          : -1;
  CHECK_EQ(tiaot_cpu_level(), expected);
}

TEST(level_names) {
  CHECK_EQ(std::string(tiaot_cpu_level_name(TIAOT_LEVEL_V3)), "x86-64-v3");
  CHECK(tiaot_cpu_level_name(-1) == nullptr);
  CHECK(tiaot_cpu_level_name(TIAOT_LEVEL_COUNT) == nullptr);
}

TEST(each_feature_counts) {
  CHECK_EQ(tiaot::level_of(kV4), 2);
  CHECK_EQ(tiaot::level_of({}), -1);
  const struct {
    uint32_t tiaot::CpuFeatures::*word;
    int bit, level;  // what is left without it
  } features[] = {
      {&tiaot::CpuFeatures::leaf1_ecx, 0, -1},     {&tiaot::CpuFeatures::leaf1_ecx, 9, -1},
      {&tiaot::CpuFeatures::leaf1_ecx, 13, -1},    {&tiaot::CpuFeatures::leaf1_ecx, 19, -1},
      {&tiaot::CpuFeatures::leaf1_ecx, 20, -1},    {&tiaot::CpuFeatures::leaf1_ecx, 23, -1},
      {&tiaot::CpuFeatures::extended1_ecx, 0, -1}, {&tiaot::CpuFeatures::leaf1_ecx, 12, 0},
      {&tiaot::CpuFeatures::leaf1_ecx, 22, 0},     {&tiaot::CpuFeatures::leaf1_ecx, 27, 0},
      {&tiaot::CpuFeatures::leaf1_ecx, 28, 0},     {&tiaot::CpuFeatures::leaf1_ecx, 29, 0},
      {&tiaot::CpuFeatures::leaf7_ebx, 3, 0},      {&tiaot::CpuFeatures::leaf7_ebx, 5, 0},
      {&tiaot::CpuFeatures::leaf7_ebx, 8, 0},      {&tiaot::CpuFeatures::extended1_ecx, 5, 0},
      {&tiaot::CpuFeatures::xcr0, 1, 0},           {&tiaot::CpuFeatures::xcr0, 2, 0},
      {&tiaot::CpuFeatures::leaf7_ebx, 16, 1},     {&tiaot::CpuFeatures::leaf7_ebx, 17, 1},
      {&tiaot::CpuFeatures::leaf7_ebx, 28, 1},     {&tiaot::CpuFeatures::leaf7_ebx, 30, 1},
      {&tiaot::CpuFeatures::leaf7_ebx, 31, 1},     {&tiaot::CpuFeatures::xcr0, 5, 1},
      {&tiaot::CpuFeatures::xcr0, 6, 1},           {&tiaot::CpuFeatures::xcr0, 7, 1},
  };
  for (const auto &feature : features) {
    tiaot::CpuFeatures without = kV4;
    CHECK(without.*feature.word >> feature.bit & 1);
    without.*feature.word &= ~(1u << feature.bit);
    CHECK_EQ(tiaot::level_of(without), feature.level);
  }
}

TEST(wanted_level) {
  int level = -9;
  CHECK_OK(tiaot::choose_level(TIAOT_LEVEL_V3, nullptr, &level));
  CHECK_EQ(level, TIAOT_LEVEL_V3);
  CHECK_OK(tiaot::choose_level(TIAOT_LEVEL_V3, "", &level));
  CHECK_EQ(level, TIAOT_LEVEL_V3);
  CHECK_OK(tiaot::choose_level(TIAOT_LEVEL_V3, "x86-64-v2", &level));
  CHECK_EQ(level, TIAOT_LEVEL_V2);
  CHECK_ERROR(tiaot::choose_level(TIAOT_LEVEL_V3, "x86-64-v4", &level), TIAOT_ERROR_UNSUPPORTED,
              "TIAOT_CPU_LEVEL: this machine has no x86-64-v4, its level is x86-64-v3");
  CHECK_ERROR(tiaot::choose_level(TIAOT_LEVEL_V3, "v3", &level), TIAOT_ERROR_VALUE,
              "TIAOT_CPU_LEVEL: expected x86-64-v2, x86-64-v3 or x86-64-v4, got 'v3'");
  CHECK_ERROR(tiaot::choose_level(-1, nullptr, &level), TIAOT_ERROR_UNSUPPORTED,
              "this machine's CPU lacks x86-64-v2, the least that tiaot's modules need");
}

#elif defined(__aarch64__)

TEST(this_machine) { CHECK_EQ(tiaot_cpu_level(), TIAOT_LEVEL_NEON); }

TEST(level_names) {
  CHECK_EQ(std::string(tiaot_cpu_level_name(TIAOT_LEVEL_NEON)), "aarch64-neon");
  CHECK(tiaot_cpu_level_name(-1) == nullptr);
  CHECK(tiaot_cpu_level_name(TIAOT_LEVEL_NEON + 1) == nullptr);
}

TEST(wanted_level) {
  int level = -9;
  CHECK_OK(tiaot::choose_level(TIAOT_LEVEL_NEON, "aarch64-neon", &level));
  CHECK_EQ(level, TIAOT_LEVEL_NEON);
  CHECK_ERROR(tiaot::choose_level(TIAOT_LEVEL_NEON, "x86-64-v2", &level), TIAOT_ERROR_VALUE,
              "TIAOT_CPU_LEVEL: expected aarch64-neon, got 'x86-64-v2'");
}

#endif

TEST(default_threads) {
  int32_t count = 0;
  CHECK_OK(tiaot::default_threads("3", &count));
  CHECK_EQ(count, 3);
  CHECK_OK(tiaot::default_threads(nullptr, &count));
  CHECK(count >= 1 && count <= sysconf(_SC_NPROCESSORS_ONLN));
  for (const char *bad : {"0", "-1", "257", "two", "2x", " ", "99999999999999999999"}) {
    CHECK_ERROR(tiaot::default_threads(bad, &count), TIAOT_ERROR_VALUE,
                "TIAOT_NUM_THREADS: expected a number from 1 to 256, got '" + std::string(bad) + "'");
  }
}

TEST(how_long_to_spin) {
  int32_t microseconds = -1;
  CHECK_OK(tiaot::read_spin("0", &microseconds));
  CHECK_EQ(microseconds, 0);
  CHECK_OK(tiaot::read_spin("1000000", &microseconds));
  CHECK_EQ(microseconds, 1000000);
  for (const char *none : {static_cast<const char *>(nullptr), ""}) {
    CHECK_OK(tiaot::read_spin(none, &microseconds));
    CHECK_EQ(microseconds, 20);
  }
  for (const char *bad : {"-1", "1000001", "off", "2x", " "}) {
    CHECK_ERROR(tiaot::read_spin(bad, &microseconds), TIAOT_ERROR_VALUE,
                "TIAOT_SPIN: expected a number of microseconds from 0 to 1000000, got '" + std::string(bad) + "'");
  }
}

TEST(chosen_threads) {
  int32_t before = 0, count = 0;
  CHECK_OK(tiaot_num_threads(&before));
  CHECK_OK(tiaot_set_num_threads(5));
  CHECK_OK(tiaot_num_threads(&count));
  CHECK_EQ(count, 5);
  CHECK_OK(tiaot_set_num_threads(0));
  CHECK_OK(tiaot_num_threads(&count));
  CHECK_EQ(count, before);
  for (int32_t bad : {-1, 257}) {
    CHECK_ERROR(tiaot_set_num_threads(bad), TIAOT_ERROR_VALUE,
                "number of threads: expected 1 to 256, or 0 for the default, got " + std::to_string(bad));
  }
}

TEST(quota_of_control_groups_v2) {
  Folder folder;
  const std::string mounts = folder.write(
      "mounts", "29 23 0:26 / " + std::string(folder.path) + " rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n");
  folder.make_folder("a");
  folder.make_folder("a/b");
  const std::string groups = folder.write("groups", "0::/a/b\n");
  const auto quota = [&] { return tiaot::quota_cpus(groups.c_str(), mounts.c_str()); };
  CHECK_EQ(quota(), 0);
  folder.write("a/b/cpu.max", "max 100000\n");
  CHECK_EQ(quota(), 0);
  folder.write("a/cpu.max", "250000 100000\n");
  CHECK_EQ(quota(), 3);  // an ancestor's, rounded up
  folder.write("a/b/cpu.max", "10000 100000\n");
  CHECK_EQ(quota(), 1);
}

TEST(quota_of_control_groups_v1) {
  Folder folder;
  // As Docker mounts it: the group's own folder is the root of the mount.
  const std::string mounts = folder.write(
      "mounts", "30 24 0:27 /docker/x " + std::string(folder.path) + " ro shared:9 - cgroup cgroup rw,cpu,cpuacct\n");
  const std::string groups = folder.write("groups", "5:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n0::/\n");
  folder.write("cpu.cfs_period_us", "100000\n");
  folder.write("cpu.cfs_quota_us", "-1\n");
  CHECK_EQ(tiaot::quota_cpus(groups.c_str(), mounts.c_str()), 0);
  folder.write("cpu.cfs_quota_us", "200000\n");
  CHECK_EQ(tiaot::quota_cpus(groups.c_str(), mounts.c_str()), 2);
  // A group that the mount does not show: its root counts.
  const std::string elsewhere = folder.write("elsewhere", "4:cpu,cpuacct:/docker/xy\n");
  CHECK_EQ(tiaot::quota_cpus(elsewhere.c_str(), mounts.c_str()), 2);
  CHECK_EQ(tiaot::quota_cpus("/nonexistent", "/nonexistent"), 0);
}

TEST(checksum) {
  CHECK_EQ(tiaot::crc32(0, "123456789", 9), 0xCBF43926u);  // the check value of CRC-32
  CHECK_EQ(tiaot::crc32(0, "", 0), 0u);
  unsigned char bytes[1000];
  for (int i = 0; i < 1000; ++i) bytes[i] = static_cast<unsigned char>(i * i >> 3);
  const uint32_t whole = tiaot::crc32(0, bytes, sizeof bytes);
  for (size_t cut : {1, 7, 8, 9, 500, 999}) {
    CHECK_EQ(tiaot::crc32(tiaot::crc32(0, bytes, cut), bytes + cut, sizeof bytes - cut), whole);
  }
  // Around the lengths that are taken in another way, at every alignment, beside the definition, bit by bit.
  std::vector<unsigned char> many(400);
  for (size_t i = 0; i < many.size(); ++i) many[i] = static_cast<unsigned char>(i * i * 7 + 3 * i);
  for (size_t start = 0; start < 16; ++start) {
    uint32_t expected = ~0u;
    for (size_t size = 0; start + size < many.size(); ++size) {
      CHECK_EQ(tiaot::crc32(0, many.data() + start, size), ~expected);
      expected ^= many[start + size];
      for (int bit = 0; bit < 8; ++bit) expected = (expected >> 1) ^ (expected & 1 ? 0xEDB88320u : 0);
    }
  }
}

// The examples of FIPS 180-4, and a million times the letter a.
TEST(sha256_of_the_standard) {
  CHECK_EQ(tiaot::sha256("abc", 3), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK_EQ(tiaot::sha256("", 0), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  const std::string two_blocks = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", many(1000000, 'a');
  CHECK_EQ(tiaot::sha256(two_blocks.data(), two_blocks.size()),
           "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  CHECK_EQ(tiaot::sha256(many.data(), many.size()), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}
