// module_file.hpp: what the bytes of a module file must be before the OS loader sees them. Knows nothing of tables.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tiaot/module.h"

namespace tiaot {

// A part of a shared library.
struct Segment {
  uint64_t address, file_offset, file_size, memory_size;  // the address is before relocation
  bool executable;
};

struct CheckedFile {
  std::vector<Segment> segments;  // that are loaded
  std::string hash;
  bool rewritten;  // by a tool, after the export: the loader's own tables could not be checked
};

// Both return what is wrong, "" when nothing is.

// Whether an open file of so many bytes can be a module, by its headers alone. Not even a length can be believed: that
// of a sparse file costs nothing.
std::string check_headers(int descriptor, uint64_t size);

// Checks headers, the note and by it all other bytes.
std::string check_bytes(const unsigned char *bytes, uint64_t size, CheckedFile *checked);

}  // namespace tiaot
