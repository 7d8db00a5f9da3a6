// error.hpp: how a function of the runtime reports what went wrong. Knows nothing of modules, kernels or arrays.
#pragma once

#include <exception>
#include <new>

#include "tiaot/tiaot.h"

namespace tiaot {

// The user's mistake, or something that the machine lacks: keeps the message for tiaot_last_error, returns `status`.
[[gnu::cold, gnu::format(printf, 2, 3)]] tiaot_status raise(tiaot_status status, const char *format, ...) noexcept;

// A bug of our own: as raise, with TIAOT_ERROR_INTERNAL and a text that says so.
[[gnu::cold, gnu::format(printf, 1, 2)]] tiaot_status fail(const char *format, ...) noexcept;

// The bytes of `text`, at most `most`, that hold whole characters of UTF-8: for "%.*s".
int whole_characters(const char *text, int most) noexcept;

// Runs the body of a function of the C API, so that no exception leaves it. Costs nothing when none is thrown.
template <typename Body>
tiaot_status guarded(Body &&body) noexcept {
  try {
    return body();
  } catch (const std::bad_alloc &) {
    return raise(TIAOT_ERROR_MEMORY, "out of memory");
  } catch (const std::exception &error) {
    return fail("unexpected exception: %s", error.what());
  } catch (...) {
    return fail("unexpected exception");
  }
}

}  // namespace tiaot
