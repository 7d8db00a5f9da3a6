// crc32.cpp: CRC-32 by slicing: eight table look-ups take eight bytes at once. Knows nothing of files.
#include "crc32.hpp"

#include <array>
#include <cstring>

namespace tiaot {
namespace {

using Tables = std::array<std::array<uint32_t, 256>, 8>;

// tables[k][b]: the CRC of byte b followed by k zero bytes.
constexpr Tables make_tables() {
  Tables tables{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (crc & 1 ? 0xEDB88320u : 0);
    tables[0][byte] = crc;
  }
  for (size_t k = 1; k < 8; ++k) {
    for (size_t byte = 0; byte < 256; ++byte) {
      const uint32_t previous = tables[k - 1][byte];
      tables[k][byte] = (previous >> 8) ^ tables[0][previous & 255];
    }
  }
  return tables;
}

constexpr Tables kTables = make_tables();

}  // namespace

uint32_t crc32(uint32_t crc, const void *data, size_t size) {
  const auto *bytes = static_cast<const unsigned char *>(data);
  crc = ~crc;
  for (; size >= 8; size -= 8, bytes += 8) {
    uint64_t word;  // little-endian, as x86-64 is
    std::memcpy(&word, bytes, 8);
    word ^= crc;
    crc = kTables[7][word & 255] ^ kTables[6][word >> 8 & 255] ^ kTables[5][word >> 16 & 255] ^
          kTables[4][word >> 24 & 255] ^ kTables[3][word >> 32 & 255] ^ kTables[2][word >> 40 & 255] ^
          kTables[1][word >> 48 & 255] ^ kTables[0][word >> 56];
  }
  for (; size > 0; --size, ++bytes) crc = (crc >> 8) ^ kTables[0][(crc ^ *bytes) & 255];
  return ~crc;
}

}  // namespace tiaot
