// common.cpp: exceptions of the extension, and the one number that calls and the process default share.
#include "common.hpp"

#include <cstring>
#include <type_traits>

#include "dtypes.hpp"

namespace tiaot::binding {
namespace {

// What the environment and paths put into a message need not be UTF-8.
void raise_text(PyObject *exception, const char *message) {
  Ref text(PyUnicode_DecodeUTF8(message, static_cast<Py_ssize_t>(std::strlen(message)), "backslashreplace"));
  if (text) PyErr_SetObject(exception, text.get());
}

}  // namespace

PyObject *raise_status(tiaot_status status) {
  PyObject *exception = PyExc_RuntimeError;
  switch (status) {
    case TIAOT_ERROR_TYPE:
      exception = PyExc_TypeError;
      break;
    case TIAOT_ERROR_VALUE:
      exception = PyExc_ValueError;
      break;
    case TIAOT_ERROR_MODULE:
      exception = module_error;
      break;
    case TIAOT_ERROR_UNSUPPORTED:
      exception = PyExc_NotImplementedError;
      break;
    case TIAOT_ERROR_MEMORY:
      exception = PyExc_MemoryError;
      break;
    case TIAOT_OK:
    case TIAOT_ERROR_INTERNAL:
    case TIAOT_ERROR_DEVICE:
      break;
  }
  raise_text(exception, tiaot_last_error());
  return nullptr;
}

PyObject *raise_caught() {
  try {
    throw;
  } catch (const std::bad_alloc &) {
    return PyErr_NoMemory();
  } catch (const std::exception &error) {
    raise_text(PyExc_RuntimeError, error.what());
  }
  return nullptr;
}

PyObject *raise_mismatch(PyObject *exception, const std::string &label, const std::string &subject,
                         const std::string &expected, const std::string &got) {
  const std::string message = label + ": " + subject + ": expected " + expected + ", got " + got;
  raise_text(exception, message.c_str());
  return nullptr;
}

PyObject *raise_closed(const std::string &label, const OpenModule &module) {
  PyErr_Format(module_error, "%s: its module '%s' is closed", label.c_str(), module.path.c_str());
  return nullptr;
}

Ref get_attribute(PyObject *object, const char *name) {
  Ref interned(PyUnicode_InternFromString(name));
  return Ref(interned ? PyObject_GetAttr(object, interned.get()) : nullptr);
}

Ref call_method(PyObject *object, const char *name) {
  Ref method = get_attribute(object, name);
  return Ref(method ? PyObject_CallNoArgs(method.get()) : nullptr);
}

bool find_attribute(PyObject *object, const char *name, Ref *found) {
  *found = get_attribute(object, name);
  if (*found) return true;
  if (!PyErr_ExceptionMatches(PyExc_AttributeError)) return false;
  PyErr_Clear();
  return true;
}

std::string type_name(PyObject *object) {
  PyObject *type = reinterpret_cast<PyObject *>(Py_TYPE(object));
  Ref module = get_attribute(type, "__module__");
  Ref name = get_attribute(type, "__qualname__");
  PyErr_Clear();
  std::string text = name && PyUnicode_Check(name.get()) ? text_of(name.get()) : Py_TYPE(object)->tp_name;
  if (module && PyUnicode_Check(module.get()) && PyUnicode_CompareWithASCIIString(module.get(), "builtins") != 0) {
    text = text_of(module.get()) + "." + text;
  }
  return text;
}

std::string text_of(PyObject *object) {
  Ref text(PyObject_Str(object));
  Ref utf8(text ? PyUnicode_AsEncodedString(text.get(), "utf-8", "backslashreplace") : nullptr);  // of surrogates
  PyErr_Clear();
  return utf8 ? PyBytes_AS_STRING(utf8.get()) : "?";
}

std::string dtype_name(uint32_t dtype) {
  std::string name;
  visit_dtype(dtype, [&](auto zero) {
    using T = decltype(zero);
    const char *const kind = !std::is_integral_v<T> ? "float" : std::is_signed_v<T> ? "int" : "uint";
    name = kind + std::to_string(8 * sizeof(T));
  });
  return name;
}

bool read_num_threads(PyObject *object, const char *label, const char *argument, int32_t *count) {
  if (object == Py_None) {
    *count = 0;
    return true;
  }
  if (PyBool_Check(object) || !PyIndex_Check(object)) {
    PyErr_Format(PyExc_TypeError, "%s%s: expected an integer, got %s", label, argument, type_name(object).c_str());
    return false;
  }
  Ref index(PyNumber_Index(object));
  if (!index) return false;
  int overflow = 0;
  const long long value = PyLong_AsLongLongAndOverflow(index.get(), &overflow);
  if (overflow < 0 || (overflow == 0 && value < 1)) {
    PyErr_Format(PyExc_ValueError, "%s%s: expected at least 1, got %S", label, argument, index.get());
    return false;
  }
  if (overflow > 0 || value > INT32_MAX) {  // how many threads there may be is the runtime's to say
    PyErr_Format(PyExc_ValueError, "%s%s: expected an integer of 32 bits, got %S", label, argument, index.get());
    return false;
  }
  *count = static_cast<int32_t>(value);
  return true;
}

}  // namespace tiaot::binding
