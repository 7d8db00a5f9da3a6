// wrt.cpp: the argument `wrt`, a name or several names, as the mask that the runtime takes. Knows nothing of arrays.
#include "entry.hpp"

namespace tiaot::binding {
namespace {

// The input of that name, -1 for none. Names written in source code are interned, so the pointers mostly decide.
int input_index(const EntryState &entry, PyObject *name) {
  const int count = static_cast<int>(entry.desc->input_count);
  for (int i = 0; i < count; ++i) {
    if (entry.names[static_cast<size_t>(i)].get() == name) return i;
  }
  for (int i = 0; i < count; ++i) {
    if (PyUnicode_Compare(entry.names[static_cast<size_t>(i)].get(), name) == 0) return i;
  }
  return -1;
}

// Adds a name's bit to the mask and tells its input.
bool add_name(const EntryState &entry, PyObject *name, Wrt *wrt, int *index) {
  if (!PyUnicode_Check(name)) {
    raise_mismatch(PyExc_TypeError, entry.label, "argument 'wrt'", "a name, or a tuple or list of names",
                   type_name(name));
    return false;
  }
  *index = input_index(entry, name);
  if (*index < 0 || *index >= 32) {  // an input beyond the mask's bits has no gradient
    PyErr_Format(PyExc_ValueError, "%s: argument 'wrt': expected names out of %s, got %R", entry.label.c_str(),
                 input_names(*entry.desc, wrt_flags(entry.kind)).c_str(), name);
    return false;
  }
  const uint32_t bit = uint32_t{1} << *index;
  if ((wrt->mask & bit) != 0) {
    PyErr_Format(PyExc_ValueError, "%s: argument 'wrt': expected each name once, got %R twice", entry.label.c_str(),
                 name);
    return false;
  }
  wrt->mask |= bit;
  return true;
}

}  // namespace

std::string input_names(const tiaot_kernel_desc &desc, uint32_t flags) {
  std::string names;
  for (uint32_t i = 0; i < desc.input_count; ++i) {
    const tiaot_argument_desc &argument = desc.arguments[i];
    if (flags != 0 && (argument.flags & flags) == 0) continue;
    names += (names.empty() ? "" : ", ") + std::string(argument.name);
  }
  return names;
}

bool read_wrt(const EntryState &entry, PyObject *object, Wrt *wrt) {
  *wrt = {0, 1, false, {0}};
  int index = 0;
  if (!PyTuple_Check(object) && !PyList_Check(object)) return add_name(entry, object, wrt, &index);
  Ref names(PySequence_Tuple(object));  // of a list, which messages could change, a copy
  if (!names) return false;
  const Py_ssize_t count = PyTuple_GET_SIZE(names.get());
  if (count == 0) {
    raise_mismatch(PyExc_ValueError, entry.label, "argument 'wrt'", "at least one name",
                   PyList_Check(object) ? "an empty list" : "an empty tuple");
    return false;
  }
  int inputs[32];
  wrt->is_tuple = true;
  for (Py_ssize_t i = 0; i < count; ++i) {  // ends at a repeated name at the latest, so i stays below 32
    if (!add_name(entry, PyTuple_GET_ITEM(names.get(), i), wrt, &index)) return false;
    inputs[i] = index;
  }
  wrt->count = static_cast<int32_t>(count);
  for (Py_ssize_t i = 0; i < count; ++i) {
    const uint32_t before = wrt->mask & ((uint32_t{1} << inputs[i]) - 1);
    wrt->place[i] = static_cast<uint8_t>(__builtin_popcount(before));
  }
  return true;
}

}  // namespace tiaot::binding
