// test_module.cpp: opens module files, right ones and every kind of wrong one.
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <thread>

#include "check.hpp"
#include "note.hpp"
#include "private_copy.hpp"
#include "sha256.hpp"
#include "toy.hpp"

namespace {

std::string read(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

#if defined(__x86_64__)
constexpr uint32_t kRelative = R_X86_64_RELATIVE;
#elif defined(__aarch64__)
constexpr uint32_t kRelative = R_AARCH64_RELATIVE;
#endif

const std::string image_a = note::fill(read(TOY_A), 'a');

struct Folder {
  char path[32] = "/tmp/tiaot-test-XXXXXX";
  Folder() { CHECK(mkdtemp(path) != nullptr); }
  ~Folder() {
    for (const char *name : {"m.so", "n.so", "fifo", "$LIB.so", "$price.so"})
      remove((path + ("/" + std::string(name))).c_str());
    rmdir(path);
  }
  std::string operator/(const std::string &name) const { return path + ("/" + name); }
} folder;

void write(const std::string &path, const std::string &bytes) {
  unlink(path.c_str());  // never into a file that is mapped
  std::ofstream(path, std::ios::binary) << bytes;
}

tiaot_status open_file(const std::string &path) {
  tiaot_module *module = nullptr;
  const tiaot_status status = tiaot_module_open(path.c_str(), &module);
  CHECK((status == TIAOT_OK) == (module != nullptr));
  tiaot_module_close(module);
  return status;
}

void refused(const std::string &path, const std::string &why, tiaot_status status = TIAOT_ERROR_MODULE) {
  CHECK_ERROR(open_file(path), status, "cannot open module '" + path + "': " + why);
}

void refused_bytes(const std::string &bytes, const std::string &why) {
  write(folder / "m.so", bytes);
  refused(folder / "m.so", why);
}

}  // namespace

TEST(a_module) {
  const std::string path = folder / "m.so";
  write(path, image_a);
  tiaot_module *opened = nullptr;
  CHECK_OK(tiaot_module_open(path.c_str(), &opened));
  const Module module(opened);
  if (!module) return;
  CHECK_EQ(std::string(tiaot_module_descriptor(opened)->name), "toy");
  CHECK_EQ(tiaot_module_cpu_level(opened), tiaot_cpu_level());
  const tiaot_kernel *kernel = nullptr;
  CHECK_OK(tiaot_module_kernel(opened, "dense", &kernel));
  CHECK_EQ(std::string(tiaot_kernel_descriptor(kernel)->signature), "x[B, n], W[m, n], b[m] -> y[B, m]");
  CHECK_ERROR(
      tiaot_module_kernel(opened, "dens", &kernel), TIAOT_ERROR_VALUE,
      "module 'toy' has no kernel 'dens'; it has 'dense', 'pick', 'square', 'outer', 'first', 'count', 'weigh'");
  Array<float> x({2, 8}), W({4, 8}), b({4}), y({2, 4});
  const DLTensor arrays[] = {x, W, b, y};
  CHECK_OK(tiaot_call(kernel, TIAOT_FORWARD, 0, arrays, 4, nullptr));
  CHECK_OK(open_file(path));  // twice at a time
}

TEST(not_a_module) {
  refused(folder / "none.so", "No such file or directory");
  refused("", "No such file or directory");
  refused(folder.path, "it is a directory");
  CHECK_EQ(mkfifo((folder / "fifo").c_str(), 0600), 0);
  refused(folder / "fifo", "it is not a regular file");
  refused("/dev/null", "it is not a regular file");
  refused_bytes("", "the file is empty");
  refused_bytes("print('hello')\n", "it is not a tiaot module, not even a shared library");
  refused_bytes(std::string(5000, 'x'), "it is not a tiaot module, not even a shared library");
  refused_bytes(read(TOY_A), "it is a shared library, but not a tiaot module (it has no note of tiaot's)");
  CHECK_ERROR(tiaot_module_open(nullptr, nullptr), TIAOT_ERROR_VALUE, "tiaot_module_open: path is NULL");
  CHECK_ERROR(tiaot_module_open("x", nullptr), TIAOT_ERROR_VALUE, "tiaot_module_open: module is NULL");
}

TEST(truncated) {
  for (size_t cut : {size_t{1}, size_t{50}, image_a.size() / 2, image_a.size() - 100}) {
    refused_bytes(image_a.substr(0, image_a.size() - cut), "the file is truncated");
  }
  refused_bytes(image_a.substr(0, 20), "it is not a tiaot module, not even a shared library");
}

// A hole costs nothing on the disk, and a copy of it much.
TEST(longer_than_its_headers_say) {
  const std::string path = folder / "m.so";
  write(path, image_a);
  CHECK_EQ(truncate(path.c_str(), int64_t{1} << 30), 0);
  std::string why = "the file is damaged: expected " + std::to_string(image_a.size()) + " bytes by its headers, got ";
  refused(path, why + "1073741824");
  CHECK_EQ(truncate(path.c_str(), int64_t{20} << 30), 0);
  refused(path, "the file has 21474836480 bytes, more than any module");
}

TEST(damaged) {
  std::string bytes = image_a;
  bytes[1234] = static_cast<char>(bytes[1234] ^ 4);
  const uint32_t expected = note::find(bytes)->file_crc;
  std::string again = bytes;
  note::sum_file(again);
  char text[100];
  std::snprintf(text, sizeof text, "the file is damaged: expected checksum %08x, got %08x", expected,
                note::find(again)->file_crc);
  refused_bytes(bytes, text);

  const auto changed = [](auto change) {
    std::string image = image_a;
    change(*note::find(image));
    note::sum_file(image);
    return image;
  };
  refused_bytes(changed([](tiaot_note &it) { it.abi_version = 7, std::strcpy(it.tiaot_version, "9.8"); }),
                std::string("it was exported by tiaot 9.8 for ABI version 7, this tiaot ") + tiaot_version() +
                    " reads version 5: upgrade tiaot to 9.8 or newer");
  refused_bytes(changed([](tiaot_note &it) { it.abi_version = 4; }),
                std::string("it was exported by tiaot 0 for ABI version 4, this tiaot ") + tiaot_version() +
                    " reads version 5: export it again");
  refused_bytes(changed([](tiaot_note &it) { it.reserved = 1; }), "the file is damaged: its note has an unknown field");
  refused_bytes(changed([](tiaot_note &it) { it.range_count = 9; }),
                "the file is damaged: its note has an unknown field");
  refused_bytes(changed([](tiaot_note &it) { std::memset(it.hash, 'f', sizeof it.hash); }),
                "the file is damaged: its note has the hash of another module");
}

// What `strip` and `patchelf` do: the file has another size, and other headers; code and tables are the same.
TEST(rewritten) {
  std::string bytes = image_a + std::string(100, 'x');
  write(folder / "m.so", bytes);
  tiaot_module *opened = nullptr;
  CHECK_OK(tiaot_module_open((folder / "m.so").c_str(), &opened));
  if (opened != nullptr) CHECK_EQ(tiaot_module_rewritten(opened), 1);
  tiaot_module_close(opened);
  write(folder / "m.so", image_a);
  CHECK_OK(tiaot_module_open((folder / "m.so").c_str(), &opened));
  if (opened != nullptr) CHECK_EQ(tiaot_module_rewritten(opened), 0);
  tiaot_module_close(opened);

  const auto &range = note::find(bytes)->ranges[1];
  bytes[range.address] = static_cast<char>(bytes[range.address] ^ 1);  // the first parts lie in the file as in memory
  write(folder / "m.so", bytes);
  CHECK_EQ(open_file(folder / "m.so"), TIAOT_ERROR_MODULE);
  CHECK(std::string(tiaot_last_error()).find("expected checksum") != std::string::npos);
  std::string far = image_a + "x";
  note::find(far)->ranges[0].address = uint64_t{1} << 40;
  note::sum_note(far);
  refused_bytes(far, "the file is damaged: it lacks a part of the module");
}

TEST(every_flipped_byte_is_seen) {
  for (size_t at = 0; at < image_a.size(); at += at + 120 < image_a.size() ? 997 : 1) {
    std::string bytes = image_a;
    bytes[at] = static_cast<char>(bytes[at] ^ 1);
    write(folder / "m.so", bytes);
    if (open_file(folder / "m.so") != TIAOT_ERROR_MODULE) CHECK_EQ(at, image_a.size());
  }
}

TEST(a_library_with_a_note_but_no_descriptor) {
  refused_bytes(note::fill(read(TOY_FOREIGN), 'a'), "it has no symbol tiaot_module_descriptor");
}

TEST(what_the_loader_refuses) {
  std::string bytes = image_a;
  bytes[EI_VERSION] = 9;
  note::sum_file(bytes);
  refused_bytes(bytes, "ELF file version ident does not match current one");
}

TEST(pointers_that_lead_out_of_the_module) {
  std::string bytes = image_a;
  // The relocations are what the pointers in the tables come from: each is made to point far away in turn.
  const auto *header = note::at<Elf64_Ehdr>(bytes, 0);
  const auto *sections = note::at<Elf64_Shdr>(bytes, header->e_shoff);
  const Elf64_Shdr *tables = note::find_section(bytes, ".data.rel.ro");
  int outside = 0, between = 0;
  for (int i = 0; i < header->e_shnum; ++i) {
    if (sections[i].sh_type != SHT_RELA) continue;
    for (uint64_t r = 0; r < sections[i].sh_size / sizeof(Elf64_Rela); ++r) {
      std::string wild = image_a;
      auto *relocation = note::at<Elf64_Rela>(wild, sections[i].sh_offset) + r;
      if (ELF64_R_TYPE(relocation->r_info) != kRelative) continue;
      if (relocation->r_offset - tables->sh_addr >= tables->sh_size) continue;
      const auto target = static_cast<uint64_t>(relocation->r_addend);
      for (const uint64_t other : {uint64_t{1} << 33, target + 4}) {
        // What the tables themselves hold is aligned to 8 bytes.
        if (other == target + 4 && target - tables->sh_addr >= tables->sh_size) continue;
        relocation->r_addend = static_cast<int64_t>(other);
        note::sum_file(wild);
        write(folder / "m.so", wild);
        ++(other == target + 4 ? between : outside);
        refused(folder / "m.so",
                "its tables are wrong: a pointer leads out of the module, between its elements, or to no text");
      }
    }
  }
  CHECK(outside > 100);
  CHECK(between > 20);
}

TEST(the_file_is_replaced_while_its_module_is_open) {
  const std::string path = folder / "n.so", image_b = note::fill(read(TOY_B), 'b');
  write(path, image_a);
  tiaot_module *older = nullptr, *newer = nullptr;
  CHECK_OK(tiaot_module_open(path.c_str(), &older));
  write(path, image_b);
  CHECK_OK(tiaot_module_open(path.c_str(), &newer));
  if (older == nullptr || newer == nullptr) return;
  CHECK_EQ(tiaot_module_descriptor(older)->hash[0], 'a');
  CHECK_EQ(tiaot_module_descriptor(newer)->hash[0], 'b');
  tiaot_module_close(older);
  CHECK_EQ(tiaot_module_descriptor(newer)->hash[0], 'b');
  tiaot_module_close(newer);
}

// In place, again and again, while it is opened: an error or the one module or the other, never a crash, and what was
// opened stays as it was.
TEST(the_file_is_overwritten_while_it_is_opened) {
  const std::string path = folder / "n.so", images[] = {image_a, note::fill(read(TOY_B), 'b')};
  write(path, image_a);
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    for (int turn = 0; !stop; ++turn) {
      const int file = open(path.c_str(), O_WRONLY | O_TRUNC);
      const std::string &image = images[turn % 2];
      CHECK_EQ(::write(file, image.data(), image.size()), static_cast<ssize_t>(image.size()));
      close(file);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));  // for a whole file to be seen, too
    }
  });
  int opened = 0;
  for (int time = 0; time < 300 || (opened == 0 && time < 100000); ++time) {  // on a busy machine a whole file is rare
    tiaot_module *module = nullptr;
    if (tiaot_module_open(path.c_str(), &module) != TIAOT_OK) continue;
    ++opened;
    const char digit = tiaot_module_descriptor(module)->hash[0];
    CHECK(digit == 'a' || digit == 'b');
    const tiaot_kernel *kernel = nullptr;
    CHECK_OK(tiaot_module_kernel(module, "dense", &kernel));
    Array<float> x({2, 8}), W({4, 8}), b({4}), y({2, 4});
    const DLTensor arrays[] = {x, W, b, y};
    CHECK_OK(tiaot_call(kernel, TIAOT_FORWARD, 0, arrays, 4, nullptr));
    tiaot_module_close(module);
  }
  stop = true;
  writer.join();
  CHECK(opened > 0);
}

// A right file under another name takes its place again and again: each open gets one of the two, and none fails.
TEST(the_file_is_swapped_while_it_is_opened) {
  const std::string path = folder / "n.so", fresh = folder / "m.so", image_b = note::fill(read(TOY_B), 'b');
  write(path, image_a);
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    for (int turn = 0; !stop; ++turn) {
      write(fresh, turn % 2 == 0 ? image_b : image_a);
      CHECK_EQ(rename(fresh.c_str(), path.c_str()), 0);
    }
  });
  std::vector<tiaot_module *> modules;
  for (int time = 0; time < 300; ++time) {
    tiaot_module *module = nullptr;
    CHECK_OK(tiaot_module_open(path.c_str(), &module));
    if (module == nullptr) break;
    modules.push_back(module);
    if (modules.size() < 20) continue;  // so that some are open at the same time
    tiaot_module_close(modules.front());
    modules.erase(modules.begin());
  }
  stop = true;
  writer.join();
  for (tiaot_module *module : modules) tiaot_module_close(module);
}

// Closed descriptors come again under the same number, which is the name that the loader knows a copy by.
TEST(descriptors_that_come_again) {
  const std::string path = folder / "n.so", image_b = note::fill(read(TOY_B), 'b');
  write(path, image_a);
  tiaot_module *first = nullptr, *second = nullptr;
  CHECK_OK(tiaot_module_open(path.c_str(), &first));
  write(path, image_b);
  CHECK_OK(tiaot_module_open(path.c_str(), &second));
  if (first == nullptr || second == nullptr) return;
  CHECK(tiaot_module_descriptor(first) != tiaot_module_descriptor(second));
  tiaot_module_close(first);
  tiaot_module_close(second);
}

TEST(from_memory_and_from_a_descriptor) {
  write(folder / "m.so", image_a);
  const int file = open((folder / "m.so").c_str(), O_RDONLY);
  const std::string sum = tiaot::sha256(image_a.data(), image_a.size());
  for (int kind : {TIAOT_FROM_PATH, TIAOT_FROM_MEMORY, TIAOT_FROM_DESCRIPTOR}) {
    const std::string path = kind == TIAOT_FROM_PATH ? folder / "m.so" : "a name";
    tiaot_source source{sizeof source, kind, path.c_str(), image_a.data(), image_a.size(), file, 0, sum.c_str()};
    tiaot_module *module = nullptr;
    CHECK_OK(tiaot_module_open_from(&source, &module));
    if (module != nullptr) CHECK_EQ(std::string(tiaot_module_descriptor(module)->name), "toy");
    tiaot_module_close(module);
    const std::string other = (sum[0] == '0' ? "1" : "0") + sum.substr(1);
    source.sha256 = other.c_str();
    CHECK_ERROR(tiaot_module_open_from(&source, &module), TIAOT_ERROR_MODULE,
                "cannot open module '" + path + "': expected SHA-256 " + other + ", got " + sum);
  }
  close(file);
  tiaot_module *module = nullptr;
  tiaot_source wrong{sizeof wrong, TIAOT_FROM_MEMORY, nullptr, nullptr, 0, 0, 0, nullptr};
  CHECK_ERROR(tiaot_module_open_from(&wrong, &module), TIAOT_ERROR_VALUE,
              "tiaot_module_open_from: source: its data is NULL");
  wrong.data = "x";
  CHECK_ERROR(tiaot_module_open_from(&wrong, &module), TIAOT_ERROR_MODULE,
              "cannot open module '(memory)': the file is empty");
  wrong.size = 1;
  wrong.sha256 = "12ab";
  CHECK_ERROR(tiaot_module_open_from(&wrong, &module), TIAOT_ERROR_VALUE,
              "tiaot_module_open_from: sha256: expected 64 hexadecimal digits, got '12ab'");
  const std::string long_one = std::string(99, 'a') + "\u00e4\u00e4";  // cut between two characters, not inside of one
  wrong.sha256 = long_one.c_str();
  CHECK_ERROR(tiaot_module_open_from(&wrong, &module), TIAOT_ERROR_VALUE,
              "tiaot_module_open_from: sha256: expected 64 hexadecimal digits, got '" + std::string(99, 'a') + "'");
  wrong.kind = 3;
  CHECK_EQ(tiaot_module_open_from(&wrong, &module), TIAOT_ERROR_VALUE);
  wrong.struct_size = 8;
  CHECK_ERROR(tiaot_module_open_from(&wrong, &module), TIAOT_ERROR_VALUE,
              "tiaot_module_open_from: source: expected struct_size " + std::to_string(sizeof wrong) + ", got 8");
  CHECK_ERROR(tiaot_module_open_from(nullptr, &module), TIAOT_ERROR_VALUE, "tiaot_module_open_from: source is NULL");
}

TEST(any_name_will_do) {
  for (const char *name : {"$LIB.so", "$price.so"}) {
    write(folder / name, image_a);
    CHECK_OK(open_file(folder / name));
  }
}

TEST(without_files_in_memory) {
  const std::string path = folder / "m.so";
  write(path, image_a);
  std::string wrong, reason;
  const int file = open(path.c_str(), O_RDONLY);
  setenv("TMPDIR", folder.path, 1);
  tiaot::PrivateCopy copy;
  wrong = copy.fill(file, image_a.size(), "m.so", tiaot::PrivateCopy::kTemporary);
  CHECK_EQ(wrong, "");
  void *library = copy.load(&reason);
  CHECK_EQ(reason, "");
  CHECK(library != nullptr && dlsym(library, TIAOT_DESCRIPTOR_SYMBOL) != nullptr);
  if (library != nullptr) dlclose(library);
  unsetenv("TMPDIR");
  close(file);
}

TEST(level_from_the_environment) {
  const std::string path = folder / "m.so";
  write(path, image_a);
  setenv("TIAOT_CPU_LEVEL", tiaot_cpu_level_name(0), 1);
  tiaot_module *opened = nullptr;
  CHECK_OK(tiaot_module_open(path.c_str(), &opened));
  CHECK_EQ(tiaot_module_cpu_level(opened), 0);
  tiaot_module_close(opened);
  setenv("TIAOT_CPU_LEVEL", "fast", 1);
#if defined(__x86_64__)
  const std::string levels = "x86-64-v2, x86-64-v3 or x86-64-v4";
#elif defined(__aarch64__)
  const std::string levels = "aarch64-neon";
#endif
  CHECK_ERROR(open_file(path), TIAOT_ERROR_VALUE, "TIAOT_CPU_LEVEL: expected " + levels + ", got 'fast'");
  unsetenv("TIAOT_CPU_LEVEL");
}
