// error.cpp: the message of the last failure, one buffer a thread. Knows nothing of what the messages are about.
#include "error.hpp"

#include <cstdarg>
#include <cstdio>

namespace tiaot {
namespace {

// Longer than PATH_MAX, so that a message about a file is never cut. No destructor: usable until the thread is gone.
thread_local char message[8192];

}  // namespace

int whole_characters(const char *text, int most) noexcept {
  int length = 0;
  while (length < most && text[length] != '\0') ++length;
  const auto continues = [](char byte) { return (static_cast<unsigned char>(byte) & 0xc0) == 0x80; };
  if (!continues(text[length])) return length;
  int start = length;
  while (start > 0 && length - start < 3 && continues(text[start])) --start;
  return continues(text[start]) ? length : start;  // no character of UTF-8 is that long: the text is something else
}

tiaot_status raise(tiaot_status status, const char *format, ...) noexcept {
  va_list arguments;
  va_start(arguments, format);
  const int length = std::vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
  const int room = static_cast<int>(sizeof message) - 1;
  if (length > room) {  // its last character may be cut
    const auto begins = [](char byte) { return (static_cast<unsigned char>(byte) & 0xc0) == 0xc0; };
    for (int back = 1; back < 4; ++back) {
      if (begins(message[room - back])) message[room - back] = '\0';
    }
  }
  return status;
}

tiaot_status fail(const char *format, ...) noexcept {
  char text[1024];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  return raise(TIAOT_ERROR_INTERNAL, "bug in tiaot, please report it: %s", text);
}

}  // namespace tiaot

extern "C" const char *tiaot_last_error(void) { return tiaot::message; }

extern "C" const char *tiaot_version(void) { return TIAOT_VERSION; }
