// check.hpp: the tests' own harness: TEST registers a function, CHECK_* report and go on. Knows nothing of the runtime
// but its status codes.
#pragma once

#include <cstdio>
#include <cstring>
#include <sstream>
#include <string>
#include <vector>

#include "tiaot/tiaot.h"

namespace check {

struct Test {
  const char *name;
  void (*body)();
};

inline std::vector<Test> &tests() {
  static std::vector<Test> all;
  return all;
}

inline int &failures() {
  static int count = 0;
  return count;
}

inline bool register_test(const char *name, void (*body)()) {
  tests().push_back({name, body});
  return true;
}

inline void report(const char *file, int line, const std::string &what) {
  ++failures();
  std::fprintf(stderr, "%s:%d: %s\n", file, line, what.c_str());
}

template <typename A, typename B>
void equal(const char *file, int line, const char *text, const A &a, const B &b) {
  if (a == b) return;
  std::ostringstream out;
  out << text << "\n  got      " << a << "\n  expected " << b;
  report(file, line, out.str());
}

inline void error(const char *file, int line, tiaot_status got, tiaot_status expected, const std::string &message) {
  equal(file, line, "status", static_cast<int>(got), static_cast<int>(expected));
  equal(file, line, "message", std::string(tiaot_last_error()), message);
}

}  // namespace check

#define TEST(name)                                                                \
  static void test_##name();                                                      \
  static const bool registered_##name = check::register_test(#name, test_##name); \
  static void test_##name()

#define CHECK(condition)                                             \
  do {                                                               \
    if (!(condition)) check::report(__FILE__, __LINE__, #condition); \
  } while (false)
#define CHECK_EQ(a, b) check::equal(__FILE__, __LINE__, #a " == " #b, (a), (b))
#define CHECK_OK(call)                                                                                       \
  do {                                                                                                       \
    if ((call) != TIAOT_OK) check::report(__FILE__, __LINE__, std::string(#call ": ") + tiaot_last_error()); \
  } while (false)
#define CHECK_ERROR(call, status, message) check::error(__FILE__, __LINE__, (call), (status), (message))

namespace check {

// A change of right tables that makes them wrong is refused with this reason. `Tables` are such, with a `check`.
template <typename Tables, typename Change>
void refused(const char *why, Change &&change) {
  Tables tables;
  change(tables);
  CHECK_ERROR(tables.check(), TIAOT_ERROR_MODULE,
              std::string("cannot open module 'f.so': its tables are wrong: ") + why);
}

}  // namespace check

#ifndef CHECK_WITHOUT_MAIN  // for a second file of the same test
int main() {
  for (const check::Test &test : check::tests()) {
    const int before = check::failures();
    test.body();
    std::printf("%s %s\n", check::failures() == before ? "ok    " : "FAILED", test.name);
  }
  return check::failures() == 0 ? 0 : 1;
}
#endif
