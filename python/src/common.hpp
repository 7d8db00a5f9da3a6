// common.hpp: what the files of the extension share: the open module, and how an error of the runtime becomes an
// exception. Knows nothing of arrays or calls.
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <atomic>
#include <exception>
#include <memory>
#include <string>
#include <utility>

#include "tiaot/tiaot.h"

namespace tiaot::binding {

// Owns one reference to a Python object.
class Ref {
 public:
  Ref() = default;
  explicit Ref(PyObject *object) : object_(object) {}
  Ref(Ref &&other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  Ref &operator=(Ref &&other) noexcept {
    std::swap(object_, other.object_);
    return *this;
  }
  ~Ref() { Py_XDECREF(object_); }

  PyObject *get() const { return object_; }
  PyObject *release() { return std::exchange(object_, nullptr); }
  explicit operator bool() const { return object_ != nullptr; }

 private:
  PyObject *object_ = nullptr;
};

// A module file that the runtime has opened. Everything that runs its code or reads its tables shares this, so the code
// stays mapped while a call is in flight; `closed` is what keeps later calls out.
struct OpenModule {
  OpenModule(tiaot_module *opened, std::string opened_file, std::string opened_path, bool ships)
      : handle(opened), file(std::move(opened_file)), path(std::move(opened_path)), shipped(ships) {}
  OpenModule(const OpenModule &) = delete;
  OpenModule &operator=(const OpenModule &) = delete;
  ~OpenModule() { tiaot_module_close(handle); }

  tiaot_module *const handle;
  const std::string file;  // absolute, in the system's encoding
  const std::string path;  // the same in UTF-8, with escapes for what is not; for messages
  const bool shipped;
  std::atomic<bool> closed{false};
  PyObject *object = nullptr;  // the Module, while there is one: no reference, or kernels and Module would be a cycle
};

// The Module, a new one where there is none any more. A new reference; nullptr with an exception set.
PyObject *module_object(const std::shared_ptr<OpenModule> &module);

inline PyObject *module_error = nullptr;  // tiaot.ModuleError, set when the extension is imported

// Raises what `status` stands for, with the runtime's message. Returns nullptr.
PyObject *raise_status(tiaot_status status);

// Raises "LABEL: SUBJECT: expected EXPECTED, got GOT". Returns nullptr.
PyObject *raise_mismatch(PyObject *exception, const std::string &label, const std::string &subject,
                         const std::string &expected, const std::string &got);

// Raises ModuleError: "LABEL: its module 'PATH' is closed". Returns nullptr.
PyObject *raise_closed(const std::string &label, const OpenModule &module);

// Raises what the C++ exception in flight stands for: MemoryError, or RuntimeError. Returns nullptr.
PyObject *raise_caught();

// `function`, for a slot or table of CPython: no C++ exception leaves it.
template <auto function>
struct Guarded;
template <typename... Arguments, PyObject *(*function)(Arguments...)>
struct Guarded<function> {
  static PyObject *call(Arguments... arguments) {
    try {
      return function(arguments...);
    } catch (const std::exception &) {
      return raise_caught();
    }
  }
};
template <auto function>
constexpr auto guarded = Guarded<function>::call;

// object.name and object.name(); empty with an exception set. The name is interned: CPython's cache of attributes would
// keep a new string of each call.
Ref get_attribute(PyObject *object, const char *name);
Ref call_method(PyObject *object, const char *name);

// object.name, empty where it has none. False with an exception set where to look it up raises another error than
// AttributeError.
bool find_attribute(PyObject *object, const char *name, Ref *found);

// Name of an object's type, with its module unless that is builtins.
std::string type_name(PyObject *object);

// str(object), or "?" where that fails.
std::string text_of(PyObject *object);

// "float32", for an element type of the descriptor's.
std::string dtype_name(uint32_t dtype);

// A number of threads: None is 0, the process default. `label` and `argument` open the message.
bool read_num_threads(PyObject *object, const char *label, const char *argument, int32_t *count);

}  // namespace tiaot::binding
