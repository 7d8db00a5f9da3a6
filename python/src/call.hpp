// call.hpp: one call of an entry, from Python's arguments to what the runtime takes. Knows nothing of how it is run.
#pragma once

#include "entry.hpp"

namespace tiaot::binding {

constexpr int kShapeRoom = 512;  // sizes of all the results of one call

// One call: its arrays as the runtime takes them, and the objects that hold them. Large and not initialised as a whole.
struct Call {
  tiaot_options options = TIAOT_OPTIONS_INIT;
  const Wrt *wrt = nullptr;
  Wrt parsed_wrt;
  PyObject *out = nullptr;  // borrowed
  int outer = 1;            // outputs that have results of their own
  int inner = 1;            // results for each
  int count = 0;            // arrays
  Ref result;
  Reading reading;
  DLTensor tensors[TIAOT_MAX_ARRAYS];
  int64_t shapes[kShapeRoom];
};

// Entries of which a call says for what inputs the gradient is wanted.
inline bool takes_wrt(const EntryState &entry) { return entry.kind == TIAOT_VJP || entry.kind == TIAOT_JACOBIAN; }

// Python numbers that may stand for an array without dimensions.
inline bool is_number(PyObject *object) {
  return PyFloat_Check(object) || (PyLong_Check(object) && !PyBool_Check(object));
}

// Fills in a call from Python's arguments. False with an exception set.
bool prepare_call(EntryState *entry, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords, Call *call);

}  // namespace tiaot::binding
