// test_module.cpp: opens module files, right ones and every kind of wrong one.
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iterator>

#include "check.hpp"
#include "crc32.hpp"
#include "toy.hpp"

namespace {

std::string read(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

tiaot_trailer trailer_of(const std::string &payload, char hash_digit) {
  tiaot_trailer trailer{};
  std::memcpy(trailer.magic, TIAOT_TRAILER_MAGIC, 8);
  trailer.abi_version = TIAOT_ABI_VERSION;
  trailer.crc32 = tiaot::crc32(0, payload.data(), payload.size());
  trailer.payload_size = payload.size();
  std::memset(trailer.hash, hash_digit, sizeof trailer.hash);
  return trailer;
}

std::string with_trailer(const std::string &payload, const tiaot_trailer &trailer) {
  return payload + std::string(reinterpret_cast<const char *>(&trailer), sizeof trailer);
}

const std::string payload_a = read(TOY_A);
const std::string image_a = with_trailer(payload_a, trailer_of(payload_a, 'a'));

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
  CHECK_ERROR(tiaot_module_kernel(opened, "dens", &kernel), TIAOT_ERROR_VALUE,
              "module 'toy' has no kernel 'dens'; it has 'dense', 'pick', 'square', 'outer', 'first', 'count'");
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
  refused_bytes(payload_a, "it is a shared library, but not a tiaot module (it has no trailer)");
  CHECK_ERROR(tiaot_module_open(nullptr, nullptr), TIAOT_ERROR_VALUE, "tiaot_module_open: path is NULL");
  CHECK_ERROR(tiaot_module_open("x", nullptr), TIAOT_ERROR_VALUE, "tiaot_module_open: module is NULL");
}

TEST(truncated) {
  for (size_t cut : {size_t{1}, size_t{50}, size_t{88}, sizeof(tiaot_trailer) + 1, image_a.size() / 2}) {
    refused_bytes(image_a.substr(0, image_a.size() - cut), "the file is truncated");
  }
  refused_bytes(image_a.substr(0, 20), "it is not a tiaot module, not even a shared library");
}

TEST(damaged) {
  std::string bytes = image_a;
  bytes[1234] = static_cast<char>(bytes[1234] ^ 4);
  char text[100];
  std::snprintf(text, sizeof text, "the file is damaged: expected checksum %08x, got %08x",
                tiaot::crc32(0, payload_a.data(), payload_a.size()), tiaot::crc32(0, bytes.data(), payload_a.size()));
  refused_bytes(bytes, text);

  tiaot_trailer trailer = trailer_of(payload_a, 'a');
  trailer.abi_version = 7;
  refused_bytes(with_trailer(payload_a, trailer),
                "it was exported for ABI version 7, this tiaot reads version 5; export it again");
  trailer = trailer_of(payload_a, 'a');
  trailer.payload_size += 1;
  refused_bytes(with_trailer(payload_a, trailer),
                "the file is damaged: expected " + std::to_string(payload_a.size() + 1) +
                    " bytes before the trailer, got " + std::to_string(payload_a.size()));
  trailer = trailer_of(payload_a, 'a');
  trailer.reserved = 1;
  refused_bytes(with_trailer(payload_a, trailer), "the file is damaged: its trailer has an unknown field");
  trailer = trailer_of(payload_a, 'f');
  refused_bytes(with_trailer(payload_a, trailer), "the file is damaged: its trailer has the hash of another module");
}

TEST(every_flipped_byte_is_seen) {
  for (size_t at = 0; at < image_a.size(); at += at + 120 < image_a.size() ? 997 : 1) {
    std::string bytes = image_a;
    bytes[at] = static_cast<char>(bytes[at] ^ 1);
    write(folder / "m.so", bytes);
    if (open_file(folder / "m.so") != TIAOT_ERROR_MODULE) CHECK_EQ(at, image_a.size());
  }
}

TEST(a_library_with_a_trailer_but_no_descriptor) {
  const std::string payload = read(TOY_FOREIGN);
  refused_bytes(with_trailer(payload, trailer_of(payload, 'a')), "it has no symbol tiaot_module_descriptor");
}

TEST(what_the_loader_refuses) {
  std::string payload = payload_a;
  payload[18] = 99;  // the machine that the ELF file is for
  write(folder / "m.so", with_trailer(payload, trailer_of(payload, 'a')));
  CHECK_EQ(open_file(folder / "m.so"), TIAOT_ERROR_MODULE);
}

TEST(older_file_still_loaded) {
  const std::string path = folder / "n.so", payload_b = read(TOY_B);
  write(path, image_a);
  tiaot_module *older = nullptr;
  CHECK_OK(tiaot_module_open(path.c_str(), &older));
  write(path, with_trailer(payload_b, trailer_of(payload_b, 'b')));
  refused(path, "an older file of this path is still loaded; close its modules first");
  tiaot_module_close(older);
  CHECK_OK(open_file(path));
}

TEST(names_that_the_loader_changes) {
  write(folder / "$LIB.so", image_a);
  refused(folder / "$LIB.so", "the loader would replace $ORIGIN, $LIB or $PLATFORM in the path; rename it");
  write(folder / "$price.so", image_a);
  CHECK_OK(open_file(folder / "$price.so"));
}

TEST(level_from_the_environment) {
  const std::string path = folder / "m.so";
  write(path, image_a);
  setenv("TIAOT_CPU_LEVEL", "x86-64-v2", 1);
  tiaot_module *opened = nullptr;
  CHECK_OK(tiaot_module_open(path.c_str(), &opened));
  CHECK_EQ(tiaot_module_cpu_level(opened), TIAOT_LEVEL_V2);
  tiaot_module_close(opened);
  setenv("TIAOT_CPU_LEVEL", "fast", 1);
  CHECK_ERROR(open_file(path), TIAOT_ERROR_VALUE,
              "TIAOT_CPU_LEVEL: expected x86-64-v2, x86-64-v3 or x86-64-v4, got 'fast'");
  unsetenv("TIAOT_CPU_LEVEL");
}
