// crc32.cpp: CRC-32 by carry-less multiplication, 64 bytes at once, or by aarch64's instructions for it; and by
// slicing, where the CPU has neither and for what is left: eight table look-ups take eight bytes. Knows nothing of
// files.
#include "crc32.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_acle.h>
#include <sys/auxv.h>
#endif

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

// take_many(crc, bytes, size) goes on with the inverted CRC of as many of the bytes as the CPU has quick ways for, from
// the first on, and returns how many these were.
#if defined(__x86_64__)

// a * b in each half of `by`, onto the next 16 bytes: what a has to be multiplied by to be that much further on.
[[gnu::target("pclmul,sse4.1"), gnu::always_inline]] inline __m128i fold(__m128i a, __m128i by, __m128i onto) {
  const __m128i low = _mm_clmulepi64_si128(a, by, 0x00), high = _mm_clmulepi64_si128(a, by, 0x11);
  return _mm_xor_si128(_mm_xor_si128(low, high), onto);
}

inline __m128i load(const unsigned char *bytes) { return _mm_loadu_si128(reinterpret_cast<const __m128i *>(bytes)); }

// The inverted CRC after `size` bytes, at least 64 and a multiple of 16. The method, and the constants for this
// polynomial: V. Gopal et al., Fast CRC Computation for Generic Polynomials Using PCLMULQDQ Instruction, Intel, 2009.
[[gnu::target("pclmul,sse4.1")]] uint32_t multiply(uint32_t crc, const unsigned char *bytes, size_t size) {
  const __m128i by_64 = _mm_set_epi64x(0x1c6e41596, 0x154442bd4);  // x^(512 - 32), x^(512 + 32) modulo it, reflected
  const __m128i by_16 = _mm_set_epi64x(0x0ccaa009e, 0x1751997d0);  // x^(128 - 32), x^(128 + 32)
  __m128i a = _mm_xor_si128(load(bytes), _mm_cvtsi32_si128(static_cast<int>(crc)));
  __m128i b = load(bytes + 16), c = load(bytes + 32), d = load(bytes + 48);
  for (bytes += 64, size -= 64; size >= 64; bytes += 64, size -= 64) {
    a = fold(a, by_64, load(bytes));
    b = fold(b, by_64, load(bytes + 16));
    c = fold(c, by_64, load(bytes + 32));
    d = fold(d, by_64, load(bytes + 48));
  }
  a = fold(fold(fold(a, by_16, b), by_16, c), by_16, d);
  for (; size >= 16; bytes += 16, size -= 16) a = fold(a, by_16, load(bytes));

  const __m128i words = _mm_setr_epi32(-1, 0, -1, 0);
  a = _mm_xor_si128(_mm_srli_si128(a, 8), _mm_clmulepi64_si128(a, by_16, 0x10));                       // 128 bits to 96
  const __m128i by_8 = _mm_set_epi64x(0, 0x163cd6124);                                                 // x^64
  a = _mm_xor_si128(_mm_srli_si128(a, 4), _mm_clmulepi64_si128(_mm_and_si128(a, words), by_8, 0x00));  // to 64
  const __m128i modulus = _mm_set_epi64x(0x1f7011641, 0x1db710641);  // the quotient of x^64, the polynomial
  __m128i quotient = _mm_clmulepi64_si128(_mm_and_si128(a, words), modulus, 0x10);
  quotient = _mm_clmulepi64_si128(_mm_and_si128(quotient, words), modulus, 0x00);
  return static_cast<uint32_t>(_mm_extract_epi32(_mm_xor_si128(a, quotient), 1));
}

size_t take_many(uint32_t *crc, const unsigned char *bytes, size_t size) {
  if (size < 64 || !__builtin_cpu_supports("pclmul") || !__builtin_cpu_supports("sse4.1")) return 0;
  const size_t whole = size / 16 * 16;
  *crc = multiply(*crc, bytes, whole);
  return whole;
}

#elif defined(__aarch64__)

// ARMv8.0 may have the instructions, from ARMv8.1 on every CPU has them.
[[gnu::target("+crc")]] uint32_t by_words(uint32_t crc, const unsigned char *bytes, size_t size) {
  for (; size > 0; size -= 8, bytes += 8) {
    uint64_t word;
    std::memcpy(&word, bytes, 8);
    crc = __crc32d(crc, word);
  }
  return crc;
}

size_t take_many(uint32_t *crc, const unsigned char *bytes, size_t size) {
  if (size < 8 || (getauxval(AT_HWCAP) & HWCAP_CRC32) == 0) return 0;
  const size_t whole = size / 8 * 8;
  *crc = by_words(*crc, bytes, whole);
  return whole;
}

#endif

}  // namespace

uint32_t crc32(uint32_t crc, const void *data, size_t size) {
  const auto *bytes = static_cast<const unsigned char *>(data);
  crc = ~crc;
  const size_t taken = take_many(&crc, bytes, size);
  bytes += taken;
  size -= taken;
  for (; size >= 8; size -= 8, bytes += 8) {
    uint64_t word;  // little-endian, as both kinds of CPU are
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
