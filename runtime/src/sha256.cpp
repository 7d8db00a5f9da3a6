// sha256.cpp: SHA-256 as FIPS 180-4 writes it down. Knows nothing of what it is taken of.
#include "sha256.hpp"

#include <array>
#include <cstdint>
#include <cstring>

namespace tiaot {
namespace {

using Words = std::array<uint32_t, 64>;

// The first 32 bits of the fractional parts of square roots (of 2) and cube roots (of 3), of the first primes.
constexpr std::array<uint32_t, 8> kStart = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                            0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

// The integer r with r^3 <= prime * 2^96 < (r + 1)^3, of which the low half is the constant.
constexpr uint32_t cube_root_fraction(uint64_t prime) {
  uint64_t root = 0;
  for (int bit = 34; bit >= 0; --bit) {
    const uint64_t tried = root | uint64_t{1} << bit;
    const auto square = static_cast<unsigned __int128>(tried) * tried;
    if (square <= (static_cast<unsigned __int128>(prime) << 96) / tried) root = tried;
  }
  return static_cast<uint32_t>(root);
}

constexpr Words make_constants() {
  Words words{};
  size_t count = 0;
  for (uint64_t candidate = 2; count < words.size(); ++candidate) {
    bool prime = true;
    for (uint64_t divisor = 2; divisor * divisor <= candidate; ++divisor) prime = prime && candidate % divisor != 0;
    if (prime) words[count++] = cube_root_fraction(candidate);
  }
  return words;
}

constexpr Words kConstants = make_constants();

constexpr uint32_t rotate(uint32_t word, int by) { return word >> by | word << (32 - by); }

uint32_t big_endian(const unsigned char *bytes) {
  uint32_t word;
  std::memcpy(&word, bytes, sizeof word);
  return __builtin_bswap32(word);
}

void add_block(std::array<uint32_t, 8> *hash, const unsigned char *block) {
  Words w;
  for (size_t t = 0; t < 16; ++t) w[t] = big_endian(block + 4 * t);
  for (size_t t = 16; t < 64; ++t) {
    const uint32_t low = rotate(w[t - 15], 7) ^ rotate(w[t - 15], 18) ^ w[t - 15] >> 3;
    const uint32_t high = rotate(w[t - 2], 17) ^ rotate(w[t - 2], 19) ^ w[t - 2] >> 10;
    w[t] = high + w[t - 7] + low + w[t - 16];
  }
  auto [a, b, c, d, e, f, g, h] = *hash;
  for (size_t t = 0; t < 64; ++t) {
    const uint32_t choice = (e & f) ^ (~e & g), majority = (a & b) ^ (a & c) ^ (b & c);
    const uint32_t first = h + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + choice + kConstants[t] + w[t];
    const uint32_t second = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + majority;
    h = g, g = f, f = e, e = d + first, d = c, c = b, b = a, a = first + second;
  }
  const std::array<uint32_t, 8> added = {a, b, c, d, e, f, g, h};
  for (size_t i = 0; i < 8; ++i) (*hash)[i] += added[i];
}

}  // namespace

std::string sha256(const void *data, size_t size) {
  const auto *bytes = static_cast<const unsigned char *>(data);
  std::array<uint32_t, 8> hash = kStart;
  size_t rest = size;
  for (; rest >= 64; rest -= 64, bytes += 64) add_block(&hash, bytes);
  // What is left, a one bit, zeros, and the length in bits: one block or two.
  unsigned char last[128] = {};
  if (rest > 0) std::memcpy(last, bytes, rest);
  last[rest] = 0x80;
  const size_t end = rest < 56 ? 64 : 128;
  const uint64_t bits = __builtin_bswap64(uint64_t{size} * 8);
  std::memcpy(last + end - 8, &bits, sizeof bits);
  for (size_t at = 0; at < end; at += 64) add_block(&hash, last + at);
  std::string text;
  for (uint32_t word : hash) {
    for (int shift = 28; shift >= 0; shift -= 4) text += "0123456789abcdef"[word >> shift & 15];
  }
  return text;
}

}  // namespace tiaot
