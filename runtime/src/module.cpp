// module.cpp: opens a module file: checks it byte by byte, then hands it to the OS loader. Knows nothing of arrays.
#include "module.hpp"

#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "cpu.hpp"
#include "crc32.hpp"
#include "error.hpp"
#include "loading.hpp"

namespace tiaot {
namespace {

struct File {
  int descriptor;
  ~File() {
    if (descriptor >= 0) close(descriptor);
  }
};

// True when all of the bytes are there. A file that shrinks while it is read gives false, where a mapping would fault.
bool read_at(int descriptor, void *data, size_t size, uint64_t offset) {
  auto *bytes = static_cast<char *>(data);
  while (size > 0) {
    const ssize_t got = pread(descriptor, bytes, size, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    bytes += got;
    size -= static_cast<size_t>(got);
    offset += static_cast<uint64_t>(got);
  }
  return true;
}

[[gnu::cold]] tiaot_status refuse(const char *path, const std::string &why) {
  return raise(TIAOT_ERROR_MODULE, "cannot open module '%s': %s", path, why.c_str());
}

// Says what a file without a trailer is.
tiaot_status refuse_foreign(const char *path, int descriptor, uint64_t size) {
  Elf64_Ehdr header;
  if (size < sizeof header || !read_at(descriptor, &header, sizeof header, 0) ||
      std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) {
    return refuse(path, "it is not a tiaot module, not even a shared library");
  }
  const uint64_t sections = uint64_t{header.e_shentsize} * header.e_shnum;
  char tail[sizeof(tiaot_trailer)];
  const bool cut_in_trailer = size >= sizeof tail && read_at(descriptor, tail, sizeof tail, size - sizeof tail) &&
                              std::string(tail, sizeof tail).find(TIAOT_TRAILER_MAGIC) != std::string::npos;
  if (cut_in_trailer || (header.e_shoff > size || sections > size - header.e_shoff)) {
    return refuse(path, "the file is truncated");
  }
  return refuse(path, "it is a shared library, but not a tiaot module (it has no trailer)");
}

// All that can be known of a file before the loader sees it.
tiaot_status check_file(const char *path, tiaot_trailer *trailer) {
  // Non-blocking, or a FIFO would wait for its writer.
  const File file{open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (file.descriptor < 0) return refuse(path, std::strerror(errno));
  struct stat info;
  if (fstat(file.descriptor, &info) != 0) return refuse(path, std::strerror(errno));
  if (S_ISDIR(info.st_mode)) return refuse(path, "it is a directory");
  if (!S_ISREG(info.st_mode)) return refuse(path, "it is not a regular file");
  if (info.st_size == 0) return refuse(path, "the file is empty");

  const auto size = static_cast<uint64_t>(info.st_size);
  if (size < sizeof *trailer || !read_at(file.descriptor, trailer, sizeof *trailer, size - sizeof *trailer) ||
      std::memcmp(trailer->magic, TIAOT_TRAILER_MAGIC, sizeof trailer->magic) != 0) {
    return refuse_foreign(path, file.descriptor, size);
  }
  if (trailer->abi_version != TIAOT_ABI_VERSION) {
    return refuse(path, "it was exported for ABI version " + std::to_string(trailer->abi_version) +
                            ", this tiaot reads version " + std::to_string(TIAOT_ABI_VERSION) + "; export it again");
  }
  const uint64_t payload = size - sizeof *trailer;
  if (trailer->payload_size != payload) {
    return refuse(path, "the file is damaged: expected " + std::to_string(trailer->payload_size) +
                            " bytes before the trailer, got " + std::to_string(payload));
  }
  if (trailer->reserved != 0) return refuse(path, "the file is damaged: its trailer has an unknown field");

  constexpr size_t kBlock = 1 << 16;
  const std::unique_ptr<char[]> block(new char[kBlock]);
  uint32_t crc = 0;
  for (uint64_t done = 0; done < payload;) {
    const size_t part = std::min<uint64_t>(kBlock, payload - done);
    if (!read_at(file.descriptor, block.get(), part, done)) return refuse(path, "the file cannot be read to its end");
    crc = crc32(crc, block.get(), part);
    done += part;
  }
  if (crc != trailer->crc32) {
    char text[80];
    std::snprintf(text, sizeof text, "the file is damaged: expected checksum %08x, got %08x", trailer->crc32, crc);
    return refuse(path, text);
  }
  return TIAOT_OK;
}

// dlopen replaces these inside of a path by something else.
bool has_loader_token(const char *path) {
  for (const char *dollar = std::strchr(path, '$'); dollar != nullptr; dollar = std::strchr(dollar + 1, '$')) {
    const char *token = dollar + (dollar[1] == '{' ? 2 : 1);
    for (const char *name : {"ORIGIN", "LIB", "PLATFORM"}) {
      if (std::strncmp(token, name, std::strlen(name)) == 0) return true;
    }
  }
  return false;
}

// The library's descriptor, when it is the one that the trailer speaks of.
tiaot_status check_library(const char *path, void *library, bool was_loaded, const tiaot_trailer &trailer,
                           const tiaot_module_desc **result) {
  const auto *desc = static_cast<const tiaot_module_desc *>(dlsym(library, TIAOT_DESCRIPTOR_SYMBOL));
  if (desc == nullptr) return refuse(path, "it has no symbol " TIAOT_DESCRIPTOR_SYMBOL);
  if (desc->abi_version != TIAOT_ABI_VERSION || desc->struct_size != sizeof *desc) {
    return refuse(path, "its descriptor has ABI version " + std::to_string(desc->abi_version) + " and size " +
                            std::to_string(desc->struct_size) + ", expected version " +
                            std::to_string(TIAOT_ABI_VERSION) + " and size " + std::to_string(sizeof *desc));
  }
  const size_t length = sizeof trailer.hash;
  if (desc->hash == nullptr || strnlen(desc->hash, length + 1) != length ||
      std::memcmp(desc->hash, trailer.hash, length) != 0) {
    return refuse(path, was_loaded ? "an older file of this path is still loaded; close its modules first"
                                   : "the file is damaged: its trailer has the hash of another module");
  }
  *result = desc;
  return TIAOT_OK;
}

tiaot_status open_module(const char *path, tiaot_module **module) {
  tiaot_trailer trailer;
  if (tiaot_status status = check_file(path, &trailer)) return status;
  int level = 0;
  if (tiaot_status status = choose_level(&level)) return status;

  const std::unique_ptr<char, void (*)(void *)> full(realpath(path, nullptr), std::free);
  if (full == nullptr) return refuse(path, std::strerror(errno));
  if (has_loader_token(full.get())) {
    return refuse(path, "the loader would replace $ORIGIN, $LIB or $PLATFORM in the path; rename it");
  }
  void *already = dlopen(full.get(), RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
  void *library = dlopen(full.get(), RTLD_NOW | RTLD_LOCAL);
  const char *reason = library == nullptr ? dlerror() : nullptr;
  if (already != nullptr) dlclose(already);
  if (library == nullptr) return refuse(path, reason != nullptr ? reason : "the loader gives no reason");

  const tiaot_module_desc *desc = nullptr;
  tiaot_status status = check_library(path, library, already != nullptr, trailer, &desc);
  if (status == TIAOT_OK) status = check_tables(*desc, path);
  if (status != TIAOT_OK) {
    dlclose(library);
    return status;
  }
  return make_module(*desc, level, library, module);
}

tiaot_kernel make_kernel(const tiaot_kernel_desc &desc, int level) {
  tiaot_kernel kernel{};
  kernel.desc = &desc;
  kernel.level = level;
  for (uint32_t i = 0; i < desc.input_count; ++i) {
    if (desc.arguments[i].flags & TIAOT_ARGUMENT_DIFFERENTIABLE) kernel.differentiable |= 1u << i;
    if (desc.arguments[i].flags & TIAOT_ARGUMENT_TANGENT) kernel.tangents |= 1u << i;
  }
  const uint32_t arguments = desc.input_count + desc.output_count;
  for (uint32_t v = 0; v < desc.variant_count; ++v) {
    const tiaot_variant_desc &variant = desc.variants[v];
    std::vector<uint64_t> headers;
    for (uint32_t i = 0; i < arguments; ++i) {
      headers.push_back(header_of(desc.arguments[i].rank, variant.dtypes[i]));
    }
    uint32_t group = 0;
    while (group < kernel.group_count &&
           !std::equal(headers.begin(), headers.end(), kernel.group_headers.begin() + group * arguments)) {
      ++group;
    }
    if (group == kernel.group_count) {
      kernel.group_headers.insert(kernel.group_headers.end(), headers.begin(), headers.end());
      ++kernel.group_count;
    }
    kernel.variant_group.push_back(group);
    const bool any_size =
        std::all_of(variant.fixed, variant.fixed + desc.dim_count, [](int64_t size) { return size < 0; });
    if (any_size) kernel.any_size_groups |= uint64_t{1} << group;
  }
  return kernel;
}

}  // namespace

tiaot_status make_module(const tiaot_module_desc &desc, int level, void *library, tiaot_module **module) {
  std::unique_ptr<tiaot_module> result(new (std::nothrow) tiaot_module{library, &desc, level, {}, {}});
  if (result == nullptr) {
    if (library != nullptr) dlclose(library);
    return raise(TIAOT_ERROR_MEMORY, "out of memory");
  }
  result->kernels.reserve(desc.kernel_count);
  for (uint32_t k = 0; k < desc.kernel_count; ++k) {
    result->kernels.push_back(make_kernel(desc.kernels[k], level));
    result->kernels.back().module = result.get();
  }
  *module = result.release();
  return TIAOT_OK;
}

}  // namespace tiaot

tiaot_module::~tiaot_module() {
  if (library != nullptr) dlclose(library);
}

extern "C" tiaot_status tiaot_module_open(const char *path, tiaot_module **module) {
  using namespace tiaot;
  if (path == nullptr || module == nullptr) {
    return raise(TIAOT_ERROR_VALUE, "tiaot_module_open: %s is NULL", path == nullptr ? "path" : "module");
  }
  const Loading loading;
  return guarded([&] { return open_module(path, module); });
}

extern "C" void tiaot_module_close(tiaot_module *module) {
  const tiaot::Loading loading;
  delete module;
}

extern "C" const tiaot_module_desc *tiaot_module_descriptor(const tiaot_module *module) { return module->desc; }

extern "C" int tiaot_module_cpu_level(const tiaot_module *module) { return module->level; }

extern "C" tiaot_status tiaot_module_kernel(const tiaot_module *module, const char *name, const tiaot_kernel **kernel) {
  using namespace tiaot;
  if (module == nullptr || name == nullptr || kernel == nullptr) {
    return raise(TIAOT_ERROR_VALUE, "tiaot_module_kernel: %s is NULL",
                 module == nullptr ? "module"
                 : name == nullptr ? "name"
                                   : "kernel");
  }
  for (const tiaot_kernel &candidate : module->kernels) {
    if (std::strcmp(candidate.desc->name, name) == 0) {
      *kernel = &candidate;
      return TIAOT_OK;
    }
  }
  return guarded([&] {
    std::string names;
    for (const tiaot_kernel &candidate : module->kernels) {
      names += (names.empty() ? "'" : ", '") + std::string(candidate.desc->name) + "'";
    }
    return raise(TIAOT_ERROR_VALUE, "module '%s' has no kernel '%s'; it has %s", module->desc->name, name,
                 names.empty() ? "none" : names.c_str());
  });
}

extern "C" const tiaot_kernel_desc *tiaot_kernel_descriptor(const tiaot_kernel *kernel) { return kernel->desc; }
