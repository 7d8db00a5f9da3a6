// module.cpp: opens a module file: copies it, checks it byte by byte, hands it to the OS loader. Knows nothing of
// arrays.
#include "module.hpp"

#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string>

#include "cpu.hpp"
#include "error.hpp"
#include "loading.hpp"
#include "private_copy.hpp"
#include "sha256.hpp"

namespace tiaot {
namespace {

struct File {
  int descriptor;
  ~File() {
    if (descriptor >= 0) close(descriptor);
  }
};

struct CloseLibrary {
  void operator()(void *library) const { unload(library); }
};
using Library = std::unique_ptr<void, CloseLibrary>;

[[gnu::cold]] tiaot_status refuse(const char *origin, const std::string &why) {
  return raise(TIAOT_ERROR_MODULE, "cannot open module '%s': %s", origin, why.c_str());
}

// What is wrong with an open file, "" when a copy of it was made.
std::string copy_descriptor(int descriptor, const std::string &name, PrivateCopy *copy) {
  struct stat info;
  if (fstat(descriptor, &info) != 0) return std::strerror(errno);
  if (S_ISDIR(info.st_mode)) return "it is a directory";
  if (!S_ISREG(info.st_mode)) return "it is not a regular file";
  const auto size = static_cast<uint64_t>(info.st_size);
  const std::string wrong = check_headers(descriptor, size);
  return wrong.empty() ? copy->fill(descriptor, size, name) : wrong;
}

std::string copy_source(const tiaot_source &source, PrivateCopy *copy) {
  const char *slash = source.path == nullptr ? nullptr : std::strrchr(source.path, '/');
  const std::string name = slash != nullptr ? slash + 1 : source.path != nullptr ? source.path : "tiaot module";
  if (source.kind == TIAOT_FROM_MEMORY) {
    return source.size == 0 ? "the file is empty" : copy->fill(source.data, source.size, name);
  }
  if (source.kind == TIAOT_FROM_DESCRIPTOR) return copy_descriptor(source.descriptor, name, copy);
  // Non-blocking, or a FIFO would wait for its writer. What is copied is this very file, whatever its name stands for
  // by then.
  const File file{open(source.path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  return file.descriptor < 0 ? std::strerror(errno) : copy_descriptor(file.descriptor, name, copy);
}

// The library's descriptor, when it is the one that the note speaks of, and its record of faults, when it has one.
tiaot_status check_library(const char *origin, void *library, CheckedFile *file, const tiaot_module_desc **result,
                           const tiaot_fault **found) {
  const auto *desc = static_cast<const tiaot_module_desc *>(dlsym(library, TIAOT_DESCRIPTOR_SYMBOL));
  if (desc == nullptr) return refuse(origin, "it has no symbol " TIAOT_DESCRIPTOR_SYMBOL);
  const struct link_map *map = nullptr;
  if (dlinfo(library, RTLD_DI_LINKMAP, &map) != 0) return refuse(origin, dlerror());
  const LoadedImage image{std::move(file->segments), map->l_addr};
  if (!image.holds(desc, sizeof *desc)) return refuse(origin, "its descriptor lies outside of it");
  if (desc->abi_version < TIAOT_ABI_OLDEST || desc->abi_version > TIAOT_ABI_VERSION ||
      desc->struct_size != sizeof *desc) {
    return refuse(origin, "its descriptor has ABI version " + std::to_string(desc->abi_version) + " and size " +
                              std::to_string(desc->struct_size) + ", expected version " +
                              std::to_string(TIAOT_ABI_VERSION) + " and size " + std::to_string(sizeof *desc));
  }
  if (!check_pointers(*desc, image))
    return refuse(origin,
                  "its tables are wrong: a pointer leads out of the module, between its elements, or to no text");
  if (desc->hash == nullptr || file->hash != desc->hash) {
    return refuse(origin, "the file is damaged: its note has the hash of another module");
  }
  const auto *fault = static_cast<const tiaot_fault *>(dlsym(library, TIAOT_FAULT_SYMBOL));
  if (fault != nullptr && (reinterpret_cast<uintptr_t>(fault) % alignof(tiaot_fault) != 0 ||
                           !image.holds(fault, sizeof *fault) || fault->state != 0)) {
    return refuse(origin, "its " TIAOT_FAULT_SYMBOL " lies outside of it, or has a fault in it before anything ran");
  }
  *result = desc;
  *found = fault;
  return check_tables(*desc, origin);
}

tiaot_status check_source(const tiaot_source &source) {
  if (source.struct_size != sizeof source) {
    return raise(TIAOT_ERROR_VALUE, "tiaot_module_open_from: source: expected struct_size %zu, got %u", sizeof source,
                 source.struct_size);
  }
  if (source.kind < TIAOT_FROM_PATH || source.kind > TIAOT_FROM_DESCRIPTOR || source.reserved != 0) {
    return raise(TIAOT_ERROR_VALUE,
                 "tiaot_module_open_from: source: expected kind 0 to 2 and reserved 0, got %d and %u", source.kind,
                 source.reserved);
  }
  if (source.kind == TIAOT_FROM_PATH ? source.path == nullptr
                                     : source.kind == TIAOT_FROM_MEMORY && source.data == nullptr) {
    return raise(TIAOT_ERROR_VALUE, "tiaot_module_open_from: source: its %s is NULL",
                 source.kind == TIAOT_FROM_PATH ? "path" : "data");
  }
  if (source.sha256 != nullptr && std::strspn(source.sha256, "0123456789abcdefABCDEF") != 64) {
    return raise(TIAOT_ERROR_VALUE, "tiaot_module_open_from: sha256: expected 64 hexadecimal digits, got '%.*s'",
                 whole_characters(source.sha256, 100), source.sha256);
  }
  return TIAOT_OK;
}

tiaot_status open_module(const tiaot_source &source, tiaot_module **module) {
  const char *origin = source.path != nullptr ? source.path : "(memory)";
  PrivateCopy copy;
  std::string wrong = copy_source(source, &copy);
  if (!wrong.empty()) return refuse(origin, wrong);
  if (source.sha256 != nullptr) {
    const std::string got = sha256(copy.bytes(), copy.size());
    if (strcasecmp(got.c_str(), source.sha256) != 0) {
      return refuse(origin, "expected SHA-256 " + std::string(source.sha256) + ", got " + got);
    }
  }
  CheckedFile file;
  wrong = check_bytes(copy.bytes(), copy.size(), &file);
  if (!wrong.empty()) return refuse(origin, wrong);
  int level = 0;
  if (tiaot_status status = choose_level(&level)) return status;
  std::string reason;
  Library library(copy.load(&reason));
  if (library == nullptr) return refuse(origin, reason);
  const tiaot_module_desc *desc = nullptr;
  const tiaot_fault *fault = nullptr;
  if (tiaot_status status = check_library(origin, library.get(), &file, &desc, &fault)) return status;
  tiaot_module *opened = nullptr;
  if (tiaot_status status = make_module(*desc, level, library.release(), &opened)) return status;
  opened->rewritten = file.rewritten;
  opened->fault = fault;
  *module = opened;
  return TIAOT_OK;
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
  std::unique_ptr<tiaot_module> result(new (std::nothrow) tiaot_module{library, &desc, level, false, nullptr, {}, {}});
  if (result == nullptr) {
    if (library != nullptr) unload(library);
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
  if (library != nullptr) tiaot::unload(library);
}

extern "C" tiaot_status tiaot_module_open(const char *path, tiaot_module **module) {
  using namespace tiaot;
  if (path == nullptr || module == nullptr) {
    return raise(TIAOT_ERROR_VALUE, "tiaot_module_open: %s is NULL", path == nullptr ? "path" : "module");
  }
  tiaot_source source{};
  source.struct_size = sizeof source;
  source.path = path;
  const Loading loading;
  return guarded([&] { return open_module(source, module); });
}

extern "C" tiaot_status tiaot_module_open_from(const tiaot_source *source, tiaot_module **module) {
  using namespace tiaot;
  if (source == nullptr || module == nullptr) {
    return raise(TIAOT_ERROR_VALUE, "tiaot_module_open_from: %s is NULL", source == nullptr ? "source" : "module");
  }
  if (tiaot_status status = check_source(*source)) return status;
  const Loading loading;
  return guarded([&] { return open_module(*source, module); });
}

extern "C" void tiaot_module_close(tiaot_module *module) { delete module; }

extern "C" const tiaot_module_desc *tiaot_module_descriptor(const tiaot_module *module) { return module->desc; }

extern "C" int tiaot_module_cpu_level(const tiaot_module *module) { return module->level; }

extern "C" int tiaot_module_rewritten(const tiaot_module *module) { return module->rewritten ? 1 : 0; }

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
