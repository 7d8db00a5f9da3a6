// text.hpp: the small change of parsing PTX: words, lists, numbers. Knows no instructions.
#pragma once

#include <cctype>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "ptx.hpp"

namespace ptx {

inline std::string trimmed(const std::string &text) {
  size_t first = 0, end = text.size();
  while (first < end && std::isspace(static_cast<unsigned char>(text[first]))) ++first;
  while (end > first && std::isspace(static_cast<unsigned char>(text[end - 1]))) --end;
  return text.substr(first, end - first);
}

// The parts between separators that are in no brackets; separators of white space count as one.
inline std::vector<std::string> split(const std::string &text, char separator) {
  std::vector<std::string> parts;
  std::string part;
  int depth = 0;
  const auto end = [&] {
    part = trimmed(part);
    if (!part.empty() || separator == ',') parts.push_back(part);
    part.clear();
  };
  for (const char c : text) {
    depth += (c == '{' || c == '(' || c == '[') - (c == '}' || c == ')' || c == ']');
    const bool at = separator == ' ' ? std::isspace(static_cast<unsigned char>(c)) != 0 : c == separator;
    if (at && depth == 0) {
      end();
    } else {
      part += c;
    }
  }
  if (!trimmed(part).empty()) end();
  return parts;
}

inline std::string without_brackets(const std::string &text) { return text.substr(1, text.size() - 2); }

// A number as PTX writes it, by its bits: 12, -3, 0x1F, 0f3F800000, 0d3FF0000000000000.
inline uint64_t number(const std::string &text) {
  const bool real = text.size() > 2 && text[0] == '0' && std::strchr("fFdD", text[1]) != nullptr;
  char *end = nullptr;
  const uint64_t value = real             ? std::strtoull(text.c_str() + 2, &end, 16)
                         : text[0] == '-' ? static_cast<uint64_t>(std::strtoll(text.c_str(), &end, 0))
                                          : std::strtoull(text.c_str(), &end, 0);
  if (text.empty() || (*end != '\0' && std::strcmp(end, "U") != 0)) throw Error("not a number: '" + text + "'");
  return value;
}

inline std::string without_comments(const std::string &text) {
  std::string rest;
  for (size_t at = 0; at < text.size() && text[at] != '\0';) {
    if (text.compare(at, 2, "//") == 0) {
      while (at < text.size() && text[at] != '\n') ++at;
    } else if (text.compare(at, 2, "/*") == 0) {
      at = text.find("*/", at);
      if (at == std::string::npos) throw Error("a comment without an end");
      at += 2;
    } else {
      rest += text[at++];
    }
  }
  return rest;
}

}  // namespace ptx
