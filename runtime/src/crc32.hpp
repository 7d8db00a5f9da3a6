// crc32.hpp: the checksum of zlib and PNG. Knows nothing of what it is taken of.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tiaot {

// CRC-32 (polynomial 0xEDB88320, reflected, inverted) of `size` bytes appended to data whose CRC is `crc`; 0 to start.
uint32_t crc32(uint32_t crc, const void *data, size_t size);

}  // namespace tiaot
