// fuzz_open.cpp: opens what an input says: its bytes as a module file, or the kept module with changes after which its
// checksums are right again. Whatever they are, opening succeeds or fails; what was opened can be read to its end.
//
// An opened module's code runs, and the OS loader believes its headers: SECURITY.md draws that line. So headers that
// were changed under a right checksum are checked, and not loaded.
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "input.hpp"
#include "module_file.hpp"
#include "note.hpp"
#include "tiaot/tiaot.h"

namespace {

std::string read_kept() {
  std::ifstream file(KEPT_MODULE, std::ios::binary);
  std::string bytes{std::istreambuf_iterator<char>(file), {}};
  if (bytes.empty()) std::fprintf(stderr, "cannot read %s\n", KEPT_MODULE), std::abort();
  return bytes;
}

// Reads everything that a module's handle leads to, and asks for the results of calls of its kernels.
void use(const tiaot_module *module) {
  const tiaot_module_desc &desc = *tiaot_module_descriptor(module);
  for (uint32_t k = 0; k < desc.kernel_count; ++k) {
    const tiaot_kernel *kernel = nullptr;
    if (tiaot_module_kernel(module, desc.kernels[k].name, &kernel) != TIAOT_OK) fuzz::wrong("a kernel has no handle");
    float numbers[64] = {};
    int64_t sizes[] = {2, 4, 4};
    std::vector<DLTensor> arrays(desc.kernels[k].input_count);
    for (size_t i = 0; i < arrays.size(); ++i) {
      arrays[i] = {numbers,
                   {kDLCPU, 0},
                   static_cast<int32_t>(desc.kernels[k].arguments[i].rank % 4),
                   {kDLFloat, 32, 1},
                   sizes,
                   nullptr,
                   0};
    }
    std::vector<DLTensor> results(64);
    std::vector<int64_t> shapes(512);
    int32_t count = 0;
    for (const int entry : {TIAOT_FORWARD, TIAOT_GRAD}) {
      tiaot_results(kernel, entry, 0, arrays.data(), static_cast<int32_t>(arrays.size()), nullptr, results.data(), 64,
                    shapes.data(), 512, &count);
    }
  }
  tiaot_state *state = nullptr;
  if (desc.state_bytes > 1 << 24 || tiaot_state_create(module, &state) != TIAOT_OK) return;
  for (uint32_t f = 0; f < desc.field_count; ++f) {
    DLTensor field;
    if (tiaot_state_field(state, desc.fields[f].name, &field) != TIAOT_OK) fuzz::wrong("a field has no handle");
  }
  tiaot_state_destroy(state);
}

void open(const std::string &bytes) {
  tiaot_source source{};
  source.struct_size = sizeof source;
  source.kind = TIAOT_FROM_MEMORY;
  source.data = bytes.data();
  source.size = bytes.size();
  tiaot_module *module = nullptr;
  if (tiaot_module_open_from(&source, &module) != TIAOT_OK) {
    if (module != nullptr || *tiaot_last_error() == 0) fuzz::wrong("a failure gave a module, or no message");
    return;
  }
  use(module);
  tiaot_module_close(module);
}

void open_changed(fuzz::Input input) {
  static const std::string kept = read_kept();
  static std::string pristine = kept;
  static const Elf64_Shdr tables = *note::find_section(pristine, ".data.rel.ro");
  static const Elf64_Shdr relocations = *note::find_section(pristine, ".rela.dyn");
  std::string image = kept;
  bool headers_changed = false;
  while (!input.empty()) {
    const uint8_t kind = input.take<uint8_t>() % 5;
    const uint32_t place = input.take<uint32_t>();
    if (kind == 0) {  // a count, a size or a number in the tables
      *note::at<uint32_t>(image, tables.sh_offset + place % (tables.sh_size / 4) * 4) = input.take<uint32_t>();
    } else if (kind == 1) {  // where a pointer in the tables leads
      auto &it = *note::at<Elf64_Rela>(
          image, relocations.sh_offset + place % (relocations.sh_size / sizeof(Elf64_Rela)) * sizeof(Elf64_Rela));
      if (it.r_offset - tables.sh_addr < tables.sh_size) it.r_addend = input.take<int64_t>();
    } else if (kind == 2) {  // the note
      *note::at<uint8_t>(image, note::find_section(pristine, ".note.tiaot")->sh_offset + place % sizeof(tiaot_note)) =
          input.take<uint8_t>();
    } else if (kind == 3) {  // the headers: at the start of the file, and of the sections
      headers_changed = true;
      const auto &header = *note::at<Elf64_Ehdr>(pristine, 0);
      const uint64_t at = place % 2 ? header.e_shoff + place / 2 % (header.e_shnum * sizeof(Elf64_Shdr))
                                    : place / 2 % (sizeof header + header.e_phnum * sizeof(Elf64_Phdr));
      *note::at<uint8_t>(image, at) = input.take<uint8_t>();
    } else {  // the length, which makes it a file that a tool has rewritten
      image.resize(kept.size() + place % 64);
    }
  }
  auto &it = *note::at<tiaot_note>(image, note::find_section(pristine, ".note.tiaot")->sh_offset);
  it.file_crc = it.note_crc = 0;
  it.file_crc = note::crc_of(image);
  it.note_crc = note::crc_of(std::string(reinterpret_cast<const char *>(&it), sizeof it));
  if (!headers_changed) return open(image);
  tiaot::CheckedFile checked;
  tiaot::check_bytes(reinterpret_cast<const unsigned char *>(image.data()), image.size(), &checked);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  fuzz::Input input{data, size};
  if (input.take<uint8_t>() == 0) {
    open(std::string(reinterpret_cast<const char *>(input.data), input.size));
  } else {
    open_changed(input);
  }
  return 0;
}
