// image.cpp: the PTX in an image: as text, or in a fat binary as NVIDIA's fatbinary writes it, compressed or not. Its
// format is not documented; what is read of it here was seen in files.
#include <cctype>
#include <cstring>

#include "ptx.hpp"

namespace ptx {
namespace {

constexpr uint32_t kFatBinary = 0xBA55ED50;
constexpr uint16_t kPtx = 1;
constexpr uint64_t kCompressed = 0x2000;  // by LZ4, a block without a frame

template <typename T>
T read(const uint8_t *at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

std::string uncompressed(const uint8_t *at, const uint8_t *end, uint64_t size) {
  std::string out;
  const auto read_length = [&](size_t first) {
    size_t length = first;
    for (uint8_t more = 255; first == 15 && more == 255 && at < end;) length += more = *at++;
    return length;
  };
  while (at < end) {
    const uint8_t token = *at++;
    const size_t literals = read_length(token >> 4);
    if (literals > static_cast<size_t>(end - at)) throw Error("a compressed image ends too early");
    out.append(reinterpret_cast<const char *>(at), literals);
    at += literals;
    if (end - at < 2 || out.size() >= size) break;
    const size_t back = read<uint16_t>(at);
    at += 2;
    const size_t length = read_length(token & 15) + 4;
    if (back == 0 || back > out.size()) throw Error("a compressed image points before its start");
    for (size_t i = 0; i < length; ++i) out += out[out.size() - back];
  }
  if (out.size() < size) throw Error("a compressed image is too short");
  return out;
}

}  // namespace

std::string text_of(const void *image) {
  const uint8_t *at = static_cast<const uint8_t *>(image);
  if (read<uint32_t>(at) != kFatBinary) {
    const bool text = std::isspace(at[0]) != 0 || at[0] == '/' || at[0] == '.';
    return text ? std::string(static_cast<const char *>(image)) : "";
  }
  const uint8_t *end = at + read<uint16_t>(at + 6) + read<uint64_t>(at + 8);
  for (at += read<uint16_t>(at + 6); at < end;) {
    const uint32_t header = read<uint32_t>(at + 4);
    const uint64_t bytes = read<uint64_t>(at + 8);
    const uint8_t *data = at + header;
    if (read<uint16_t>(at) == kPtx) {
      const bool compressed = (read<uint64_t>(at + 40) & kCompressed) != 0;
      const std::string text = compressed ? uncompressed(data, data + read<uint32_t>(at + 16), read<uint64_t>(at + 56))
                                          : std::string(reinterpret_cast<const char *>(data), bytes);
      return text.c_str();  // up to its NUL
    }
    at = data + bytes;
  }
  return "";
}

}  // namespace ptx
