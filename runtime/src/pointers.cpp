// pointers.cpp: that every pointer in a module's tables stays inside of the module and is aligned to what it points to,
// so that reading them cannot fault, and that texts are UTF-8. Knows nothing of what the tables mean; see tables.cpp.
#include <cstring>

#include "module.hpp"

namespace tiaot {
namespace {

// Whether bytes are UTF-8: no overlong form, no surrogate, nothing beyond the last code point.
bool is_utf8(const unsigned char *text, size_t size) {
  for (size_t i = 0; i < size;) {
    const unsigned char first = text[i++];
    if (first < 0x80) continue;
    const int more = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : 1;
    if (first < 0xc2 || first > 0xf4) return false;
    uint32_t code = first & (0x3fu >> more);
    for (int k = 0; k < more; ++k, ++i) {
      if (i == size || (text[i] & 0xc0) != 0x80) return false;
      code = code << 6 | (text[i] & 0x3f);
    }
    constexpr uint32_t kLeast[] = {0, 0x80, 0x800, 0x10000};
    if (code < kLeast[more] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return false;
  }
  return true;
}

// Follows the tables from the descriptor on. A pointer is looked at before what it points to; a NULL is left to
// check_tables, as nothing that is read here.
class Walk {
 public:
  explicit Walk(const LoadedImage &image) : image_(image) {}

  bool module(const tiaot_module_desc &desc) {
    for (const char *each :
         {desc.name, desc.hash, desc.target, desc.tiaot_version, desc.taichi_version, desc.llvm_version}) {
      if (!text(each)) return false;
    }
    return all(desc.kernels, desc.kernel_count, [&](const auto &kernel) { return this->kernel(kernel); }) &&
           all(desc.fields, desc.field_count, [&](const auto &field) { return this->field(field); }) &&
           all(desc.contents, desc.content_count, [&](const auto &content) { return this->content(content); }) &&
           all(desc.cuda, 1, [&](const auto &cuda) { return this->cuda(cuda); });
  }

 private:
  // Whether an array lies in the module, aligned, and `check` holds for each of its elements.
  template <typename T, typename Check>
  bool all(const T *array, uint32_t count, const Check &check) const {
    if (array == nullptr || count == 0) return true;
    if (reinterpret_cast<uintptr_t>(array) % alignof(T) != 0) return false;
    if (!image_.holds(array, uint64_t{count} * sizeof(T))) return false;
    for (uint32_t i = 0; i < count; ++i) {
      if (!check(array[i])) return false;
    }
    return true;
  }
  template <typename T>
  bool plain(const T *array, uint32_t count) const {
    return all(array, count, [](const T &) { return true; });
  }
  bool text(const char *string) const { return string == nullptr || image_.holds_text(string); }
  template <typename Function>
  bool code(Function function) const {
    return function == nullptr || image_.holds_code(reinterpret_cast<const void *>(function));
  }

  bool content(const tiaot_content_desc &content) const {
    return content.data == nullptr || image_.holds(content.data, static_cast<uint64_t>(content.bytes));
  }

  bool kernel(const tiaot_kernel_desc &kernel) const {
    const auto fixed = [&](const tiaot_variant_desc &variant) { return this->variant(kernel, variant); };
    const uint64_t arguments = uint64_t{kernel.input_count} + kernel.output_count;
    return arguments <= UINT32_MAX && text(kernel.name) && text(kernel.signature) && text(kernel.doc) &&
           text(kernel.verification) &&
           all(kernel.dim_names, kernel.dim_count, [&](const char *name) { return text(name); }) &&
           all(kernel.arguments, static_cast<uint32_t>(arguments),
               [&](const auto &each) { return text(each.name) && plain(each.dims, each.rank); }) &&
           all(kernel.variants, kernel.variant_count, fixed);
  }

  bool variant(const tiaot_kernel_desc &kernel, const tiaot_variant_desc &variant) const {
    return text(variant.name) && plain(variant.dtypes, kernel.input_count + kernel.output_count) &&
           plain(variant.fixed, kernel.dim_count) &&
           all(variant.entries, variant.entry_count, [&](const auto &each) { return entry(each); });
  }

  bool entry(const tiaot_entry_desc &entry) const {
    for (tiaot_code each : entry.code) {
      if (!code(each)) return false;
    }
    return text(entry.symbol) && code(entry.workspace) && code(entry.cuda) && code(entry.cuda_workspace) &&
           text(entry.cuda_missing);
  }

  bool field(const tiaot_field_desc &field) const {
    return text(field.name) && plain(field.shape, field.rank) && plain(field.strides, field.rank);
  }

  bool cuda(const tiaot_cuda_desc &cuda) const {
    const auto image = [&](const tiaot_cuda_image_desc &each) {
      return each.data == nullptr || (each.bytes >= 0 && image_.holds(each.data, static_cast<uint64_t>(each.bytes)));
    };
    return text(cuda.ptxas_version) && all(cuda.images, cuda.image_count, image) &&
           all(cuda.kernels, cuda.kernel_count, [&](const char *name) { return text(name); });
  }

  const LoadedImage &image_;
};

}  // namespace

bool LoadedImage::holds(const void *data, uint64_t bytes) const { return room(data, false) >= bytes; }

bool LoadedImage::holds_text(const char *text) const {
  const uint64_t bytes = room(text, false);
  const void *end = bytes == 0 ? nullptr : std::memchr(text, 0, bytes);
  if (end == nullptr) return false;
  return is_utf8(reinterpret_cast<const unsigned char *>(text),
                 static_cast<size_t>(static_cast<const char *>(end) - text));
}

bool LoadedImage::holds_code(const void *code) const { return room(code, true) > 0; }

uint64_t LoadedImage::room(const void *data, bool executable) const {
  const uint64_t address = reinterpret_cast<uintptr_t>(data) - base;
  for (const Segment &segment : segments) {
    if (executable && !segment.executable) continue;
    if (address >= segment.address && address - segment.address < segment.memory_size) {
      return segment.memory_size - (address - segment.address);
    }
  }
  return 0;
}

bool check_pointers(const tiaot_module_desc &desc, const LoadedImage &image) {
  return reinterpret_cast<uintptr_t>(&desc) % alignof(tiaot_module_desc) == 0 && image.holds(&desc, sizeof desc) &&
         Walk(image).module(desc);
}

}  // namespace tiaot
