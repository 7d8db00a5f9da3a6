// private_copy.cpp: memfd_create and its seals, and dlopen by way of /proc. Knows nothing of modules.
#include "private_copy.hpp"

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "loading.hpp"

namespace tiaot {
namespace {

// By number: the C libraries of old systems do not have them, while the kernel may.
constexpr unsigned kCloseOnExec = 1, kAllowSealing = 2, kExecutable = 16;  // of memfd_create
constexpr int kAddSeals = 1033, kSealAll = 1 | 2 | 4 | 8;                  // fcntl: no more seals, sizes, writes

int create_in_memory(const std::string &name) {
  const std::string shown = name.substr(0, 200);  // the kernel takes 249 bytes
  for (unsigned flags : {kCloseOnExec | kAllowSealing | kExecutable, kCloseOnExec | kAllowSealing}) {
    const long descriptor = syscall(SYS_memfd_create, shown.c_str(), flags);
    if (descriptor >= 0) return static_cast<int>(descriptor);
    if (errno != EINVAL) return -1;  // EINVAL: a kernel that does not know the last flag
  }
  return -1;
}

std::string path_of(int descriptor) {
  return "/proc/" + std::to_string(getpid()) + "/fd/" + std::to_string(descriptor);
}

int create_temporary(std::string *path) {
  const char *folder = std::getenv("TMPDIR");
  *path = std::string(folder != nullptr && folder[0] == '/' ? folder : "/tmp") + "/tiaot-XXXXXX";
  const int descriptor = mkostemp(path->data(), O_CLOEXEC);
  if (descriptor < 0) path->clear();
  return descriptor;
}

// True when all of the bytes are written.
bool write_all(int descriptor, const char *data, size_t size) {
  while (size > 0) {
    const ssize_t done = write(descriptor, data, size);
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) return false;
    data += done;
    size -= static_cast<size_t>(done);
  }
  return true;
}

}  // namespace

std::string read_at(int descriptor, void *data, uint64_t size, uint64_t offset) {
  auto *at = static_cast<char *>(data);
  while (size > 0) {
    const ssize_t got = pread(descriptor, at, size, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return std::strerror(errno);
    if (got == 0) return "the file was cut while it was read";
    at += got;
    size -= static_cast<uint64_t>(got);
    offset += static_cast<uint64_t>(got);
  }
  return "";
}

PrivateCopy::~PrivateCopy() {
  if (bytes_ != nullptr) munmap(bytes_, size_);
  if (!path_.empty()) unlink(path_.c_str());
  if (descriptor_ >= 0) close(descriptor_);
}

// `read(block, size, offset)` fills a block, or returns what went wrong.
template <typename Read>
std::string PrivateCopy::fill_by(const Read &read, uint64_t size, const std::string &name, Kind kind) {
  if (kind == kInMemory) descriptor_ = create_in_memory(name);
  if (descriptor_ >= 0 && access(path_of(descriptor_).c_str(), R_OK) != 0) {  // without /proc the loader cannot find it
    close(descriptor_);
    descriptor_ = -1;
  }
  if (descriptor_ < 0) descriptor_ = create_temporary(&path_);
  if (descriptor_ < 0) return std::string("no place for a copy of it: ") + std::strerror(errno);

  constexpr uint64_t kBlock = 1 << 18;
  const std::unique_ptr<char[]> block(new char[std::min(size, kBlock)]);
  for (uint64_t done = 0; done < size;) {
    const uint64_t part = std::min(kBlock, size - done);
    const std::string wrong = read(block.get(), part, done);
    if (!wrong.empty()) return wrong;
    if (!write_all(descriptor_, block.get(), part))
      return std::string("no place for a copy of it: ") + std::strerror(errno);
    done += part;
  }
  fcntl(descriptor_, kAddSeals, kSealAll);
  void *bytes = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor_, 0);
  if (bytes == MAP_FAILED) return std::string("its copy cannot be mapped: ") + std::strerror(errno);
  bytes_ = bytes;
  size_ = size;
  return "";
}

std::string PrivateCopy::fill(int descriptor, uint64_t size, const std::string &name, Kind kind) {
  const auto read = [descriptor](char *block, uint64_t part, uint64_t offset) {
    return read_at(descriptor, block, part, offset);
  };
  return fill_by(read, size, name, kind);
}

std::string PrivateCopy::fill(const void *data, uint64_t size, const std::string &name, Kind kind) {
  const auto read = [data](char *block, uint64_t part, uint64_t offset) -> std::string {
    std::memcpy(block, static_cast<const char *>(data) + offset, part);
    return "";
  };
  return fill_by(read, size, name, kind);
}

void *PrivateCopy::load(std::string *reason) {
  const Loading loading;
  // glibc takes a name that it has loaded a library by for that library, without a look at the file. Our names are the
  // numbers of descriptors, which come again once they are closed: then the next number is tried.
  std::string name = path_.empty() ? path_of(descriptor_) : path_;
  while (path_.empty()) {
    void *another = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
    if (another == nullptr) break;
    dlclose(another);
    const int higher = fcntl(descriptor_, F_DUPFD_CLOEXEC, descriptor_ + 1);
    if (higher < 0) break;
    close(descriptor_);
    descriptor_ = higher;
    name = path_of(descriptor_);
  }
  dlerror();
  void *library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library != nullptr) return library;
  const char *said = dlerror();
  *reason = said != nullptr ? said : "the loader gives no reason";
  if (reason->compare(0, name.size() + 2, name + ": ") == 0) reason->erase(0, name.size() + 2);
  return nullptr;
}

}  // namespace tiaot
