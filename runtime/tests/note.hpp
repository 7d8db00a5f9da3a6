// note.hpp: fills in the note of a module file, as the exporter does, or wrongly. For tests.
#pragma once

#include <elf.h>

#include <cstring>
#include <string>
#include <vector>

#include "crc32.hpp"
#include "tiaot/module.h"

namespace note {

template <typename T>
T *at(std::string &image, uint64_t offset) {
  return reinterpret_cast<T *>(image.data() + offset);
}

inline uint32_t crc_of(const std::string &bytes) { return tiaot::crc32(0, bytes.data(), bytes.size()); }

inline Elf64_Shdr *find_section(std::string &image, const std::string &name) {
  const auto *header = at<Elf64_Ehdr>(image, 0);
  auto *sections = at<Elf64_Shdr>(image, header->e_shoff);
  const uint64_t names = sections[header->e_shstrndx].sh_offset;
  for (int i = 0; i < header->e_shnum; ++i) {
    if (at<char>(image, names + sections[i].sh_name) == name) return sections + i;
  }
  return nullptr;
}

// The note in a file.
inline tiaot_note *find(std::string &image) {
  return at<tiaot_note>(image, find_section(image, ".note.tiaot")->sh_offset);
}

// Sets the checksums to what the file, or the note alone, has now.
inline void sum_note(std::string &image) {
  tiaot_note &it = *find(image);
  it.note_crc = 0;
  it.note_crc = crc_of(std::string(reinterpret_cast<const char *>(&it), sizeof it));
}

inline void sum_file(std::string &image) {
  tiaot_note &it = *find(image);
  it.file_crc = it.note_crc = 0;
  it.file_crc = crc_of(image);
  sum_note(image);
}

// A file with a right note, whose ranges are code and relocations.
inline std::string fill(std::string image, char hash_digit) {
  tiaot_note &it = *find(image);
  it = {12, sizeof it - 24, TIAOT_NOTE_TYPE, TIAOT_NOTE_NAME, TIAOT_ABI_VERSION, 0, 0, 0, 0, 0, image.size(), "0", {},
        {}};
  std::memset(it.hash, hash_digit, sizeof it.hash);
  const auto *header = at<Elf64_Ehdr>(image, 0);
  const auto *sections = at<Elf64_Shdr>(image, header->e_shoff);
  std::string content;
  for (int i = 0; i < header->e_shnum && it.range_count < TIAOT_NOTE_RANGES; ++i) {
    const Elf64_Shdr &section = sections[i];
    const bool code_or_constants = section.sh_type == SHT_PROGBITS && section.sh_flags == (SHF_ALLOC | SHF_EXECINSTR);
    if (!code_or_constants && section.sh_type != SHT_RELA) continue;
    it.ranges[it.range_count++] = {section.sh_addr, section.sh_size};
    content += image.substr(section.sh_offset, section.sh_size);
  }
  it.content_crc = crc_of(content);
  sum_file(image);
  return image;
}

}  // namespace note
