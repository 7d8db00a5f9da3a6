// sha256.hpp: the hash of FIPS 180-4. Knows nothing of what it is taken of.
#pragma once

#include <cstddef>
#include <string>

namespace tiaot {

// SHA-256 of the bytes as 64 lower-case hexadecimal digits.
std::string sha256(const void *data, size_t size);

}  // namespace tiaot
