// error.cpp: the message of the last failure, one buffer a thread. Knows nothing of what the messages are about.
#include "error.hpp"

#include <cstdarg>
#include <cstdio>

namespace tiaot {
namespace {

// Longer than PATH_MAX, so that a message about a file is never cut. No destructor: usable until the thread is gone.
thread_local char message[8192];

}  // namespace

tiaot_status raise(tiaot_status status, const char *format, ...) noexcept {
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
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
