// module_file.cpp: ELF headers, the note and its checksums. Knows nothing of tables.
#include "module_file.hpp"

#include <elf.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <utility>

#include "crc32.hpp"
#include "private_copy.hpp"

namespace tiaot {
namespace {

#if defined(__x86_64__)
constexpr uint16_t kMachine = EM_X86_64;
#elif defined(__aarch64__)
constexpr uint16_t kMachine = EM_AARCH64;
#endif
constexpr uint64_t kLargest = uint64_t{1} << 31;  // code reaches its data by 32-bit distances
constexpr uint64_t kSlack = 1 << 16;              // tools round a file up to a page
constexpr size_t kHeader = offsetof(tiaot_note, abi_version);
constexpr size_t kSums = offsetof(tiaot_note, file_crc), kOwnSum = offsetof(tiaot_note, note_crc);

bool fits(uint64_t offset, uint64_t bytes, uint64_t size) { return offset <= size && bytes <= size - offset; }

// The CRC of bytes of which those from `hole` on count as zeros.
uint32_t crc_with_hole(const unsigned char *bytes, uint64_t size, uint64_t hole, uint64_t hole_size) {
  static const unsigned char kZeros[8] = {};
  uint32_t crc = crc32(0, bytes, hole);
  crc = crc32(crc, kZeros, hole_size);
  return crc32(crc, bytes + hole + hole_size, size - hole - hole_size);
}

std::string damaged(const char *what, uint32_t expected, uint32_t got) {
  char text[120];
  std::snprintf(text, sizeof text, "the file is damaged: expected checksum %08x%s, got %08x", expected, what, got);
  return text;
}

// Where the parts of a shared library lie, as its headers say.
struct Layout {
  std::vector<Segment> segments, notes;
};

// Reads the headers, and checks the length by them. `read(data, size, offset)` is false when bytes are missing.
template <typename Read>
std::string read_layout(uint64_t size, const Read &read, Layout *layout) {
  constexpr const char *kForeign = "it is not a tiaot module, not even a shared library";
  constexpr const char *kTruncated = "the file is truncated";
  if (size == 0) return "the file is empty";
  Elf64_Ehdr header;
  if (size < sizeof header || !read(&header, sizeof header, 0)) return kForeign;
  if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) return kForeign;
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB || header.e_type != ET_DYN ||
      header.e_machine != kMachine || header.e_phentsize != sizeof(Elf64_Phdr)) {
    return "it is not a shared library for this machine";
  }
  uint64_t end = sizeof header;
  const auto reaches = [&end, size](uint64_t offset, uint64_t bytes) {
    if (!fits(offset, bytes, size)) return false;
    end = std::max(end, offset + bytes);
    return true;
  };
  std::vector<Elf64_Phdr> parts(header.e_phnum);
  const uint64_t part_bytes = parts.size() * sizeof(Elf64_Phdr);
  if (!reaches(header.e_phoff, part_bytes) || !read(parts.data(), part_bytes, header.e_phoff)) return kTruncated;
  for (const Elf64_Phdr &part : parts) {
    if (part.p_type != PT_LOAD && part.p_type != PT_NOTE) continue;
    if (!reaches(part.p_offset, part.p_filesz)) return kTruncated;
    const Segment segment{part.p_vaddr, part.p_offset, part.p_filesz, part.p_memsz, (part.p_flags & PF_X) != 0};
    (part.p_type == PT_LOAD ? layout->segments : layout->notes).push_back(segment);
  }
  const uint64_t section_bytes = uint64_t{header.e_shentsize} * header.e_shnum;
  if (!reaches(header.e_shoff, section_bytes)) return kTruncated;
  if (header.e_shentsize == sizeof(Elf64_Shdr)) {
    std::vector<Elf64_Shdr> sections(header.e_shnum);
    if (!read(sections.data(), section_bytes, header.e_shoff)) return kTruncated;
    for (const Elf64_Shdr &section : sections) {
      const bool in_file = section.sh_type != SHT_NOBITS && section.sh_type != SHT_NULL;
      if (in_file && !reaches(section.sh_offset, section.sh_size)) return kTruncated;
    }
  }
  if (size > kLargest) return "the file has " + std::to_string(size) + " bytes, more than any module";
  if (size - end > kSlack) {
    return "the file is damaged: expected " + std::to_string(end) + " bytes by its headers, got " +
           std::to_string(size);
  }
  return "";
}

// The note of tiaot's; nullptr when there is none.
const unsigned char *find_note(const Layout &layout, const unsigned char *bytes) {
  for (const Segment &part : layout.notes) {
    const unsigned char *at = bytes + part.file_offset, *end = at + part.file_size;
    while (static_cast<size_t>(end - at) >= kHeader) {
      uint32_t sizes[3];  // name, description, type
      std::memcpy(sizes, at, sizeof sizes);
      const bool ours = sizes[0] == sizeof(tiaot_note::name) && sizes[2] == TIAOT_NOTE_TYPE &&
                        std::memcmp(at + sizeof sizes, TIAOT_NOTE_NAME, sizeof(tiaot_note::name)) == 0;
      const auto rest = static_cast<uint64_t>(end - at);
      if (ours && sizes[1] >= sizeof(tiaot_note) - kHeader && fits(kHeader, sizes[1], rest)) return at;
      const uint64_t whole = sizeof sizes + (uint64_t{sizes[0]} + 3) / 4 * 4 + (uint64_t{sizes[1]} + 3) / 4 * 4;
      if (whole > rest) break;
      at += whole;
    }
  }
  return nullptr;
}

std::string check_version(const tiaot_note &note) {
  if (note.abi_version >= TIAOT_ABI_OLDEST && note.abi_version <= TIAOT_ABI_VERSION) return "";
  const std::string exporter(note.tiaot_version, strnlen(note.tiaot_version, sizeof note.tiaot_version));
  const std::string text = "it was exported by tiaot " + exporter + " for ABI version " +
                           std::to_string(note.abi_version) + ", this tiaot " TIAOT_VERSION " reads version " +
                           std::to_string(TIAOT_ABI_VERSION);
  if (note.abi_version < TIAOT_ABI_OLDEST) return text + ": export it again";
  return text + ": upgrade tiaot to " + exporter + " or newer";
}

// What a tool leaves alone: code, constants, tables and relocations, by their addresses.
std::string check_content(const Layout &layout, const tiaot_note &note, const unsigned char *bytes) {
  uint32_t crc = 0;
  for (uint32_t r = 0; r < note.range_count; ++r) {
    const auto &range = note.ranges[r];
    const auto holds = [&range](const Segment &segment) {
      return range.address >= segment.address && fits(range.address - segment.address, range.size, segment.file_size);
    };
    const auto segment = std::find_if(layout.segments.begin(), layout.segments.end(), holds);
    if (segment == layout.segments.end()) return "the file is damaged: it lacks a part of the module";
    crc = crc32(crc, bytes + segment->file_offset + (range.address - segment->address), range.size);
  }
  return crc == note.content_crc ? "" : damaged(" of code and tables", note.content_crc, crc);
}

}  // namespace

std::string check_headers(int descriptor, uint64_t size) {
  const auto read = [descriptor](void *data, uint64_t bytes, uint64_t offset) {
    return read_at(descriptor, data, bytes, offset).empty();
  };
  Layout layout;
  return read_layout(size, read, &layout);
}

std::string check_bytes(const unsigned char *bytes, uint64_t size, CheckedFile *checked) {
  const auto read = [bytes, size](void *data, uint64_t part, uint64_t offset) {
    const bool there = fits(offset, part, size);
    if (there && part > 0) std::memcpy(data, bytes + offset, part);
    return there;
  };
  Layout layout;
  const std::string wrong_layout = read_layout(size, read, &layout);
  if (!wrong_layout.empty()) return wrong_layout;
  const unsigned char *place = find_note(layout, bytes);
  if (place == nullptr) return "it is a shared library, but not a tiaot module (it has no note of tiaot's)";
  tiaot_note note;
  std::memcpy(&note, place, sizeof note);
  const std::string wrong_version = check_version(note);
  if (!wrong_version.empty()) return wrong_version;

  const uint32_t own = crc_with_hole(place, sizeof note, kOwnSum, sizeof note.note_crc);
  if (own != note.note_crc) return damaged(" of its note", note.note_crc, own);
  if (note.range_count < 1 || note.range_count > TIAOT_NOTE_RANGES || note.reserved != 0) {
    return "the file is damaged: its note has an unknown field";
  }
  checked->rewritten = size != note.file_size;
  if (checked->rewritten) {
    const std::string wrong = check_content(layout, note, bytes);
    if (!wrong.empty()) return wrong;
  } else {
    const auto at = static_cast<uint64_t>(place - bytes);
    const uint32_t crc = crc_with_hole(bytes, size, at + kSums, sizeof note.file_crc + sizeof note.note_crc);
    if (crc != note.file_crc) return damaged("", note.file_crc, crc);
  }
  checked->segments = std::move(layout.segments);
  checked->hash.assign(note.hash, sizeof note.hash);
  return "";
}

}  // namespace tiaot
