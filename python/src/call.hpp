// call.hpp: one call of an entry, from Python's arguments to what the runtime takes. Knows nothing of how it is run.
#pragma once

#include "entry.hpp"

namespace tiaot::binding {

// One call: its arrays as the runtime takes them, and the objects that hold them.
//
// To read an array that is not plain may run Python code, that of its owner or of a finalizer, which may give the shape
// of an array that was read before new memory, or call kernels itself, any number of levels deep. So shapes are copied
// before any such code runs, and `room` on the caller's stack is as small as the entry allows.
struct Call {
  Call(const EntryState &entry, void *room);

  tiaot_options options = TIAOT_OPTIONS_INIT;
  int kind;  // what the runtime is asked for: the entry's, or a Jacobian in one mode
  const Wrt *wrt = nullptr;
  Wrt parsed_wrt;
  PyObject *const *operands = nullptr;  // inputs, and for a vjp cotangents, in the order of the signature; borrowed
  PyObject *wrt_object = nullptr;       // as it was given; borrowed
  PyObject *num_threads = nullptr;      // as it was given; borrowed
  PyObject *out = nullptr;              // borrowed
  int outer = 1;                        // outputs that have results of their own; of jvp and hvp 2: results, tangents
  int inner = 1;                        // results for each
  bool inner_tuple = false;             // whether these are a tuple
  int count = 0;                        // arrays
  uint64_t unkept = 0;                  // those that were read and whose shape is still where they have it
  Ref result;
  Reading reading;
  DLTensor *const tensors;  // in the room: `entry.most_arrays` of them,
  PyObject **const named;   // the operands where some came by name,
  int64_t *sizes;           // and what is left of the place for shapes and strides
  int64_t *const sizes_end;

  int size_room() const { return static_cast<int>(sizes_end - sizes); }
};

// What Call needs on the stack of the function that makes it.
#define TIAOT_CALL_ROOM(entry) __builtin_alloca((entry).call_room)

// Entries of which a call says for what inputs the gradient is wanted.
inline bool takes_wrt(const EntryState &entry) {
  return entry.kind != TIAOT_FORWARD && entry.kind != TIAOT_GRAD && !(has_tangents(entry.kind) && entry.desc->state);
}

// Whether calls of the entry have results.
inline bool has_results(const EntryState &entry) {
  return takes_wrt(entry) || (entry.kind != TIAOT_GRAD && entry.desc->output_count > 0);
}

// The argument of the descriptor's whose type and shape an operand has.
inline int argument_of(const EntryState &entry, int position) {
  return entry.argument_of[static_cast<size_t>(position)];
}

inline const tiaot_argument_desc &argument_desc(const EntryState &entry, int position) {
  return entry.desc->arguments[argument_of(entry, position)];
}

// What messages call an argument of the descriptor's, and the operand at a position, as the runtime's do: "'x'",
// "argument 'x'", "cotangent of 'y'", "tangent of 'x'".
std::string quoted(const EntryState &entry, int argument);
std::string operand_text(const EntryState &entry, int position);

// "float32 or float64": the element types that any variant has for this argument.
std::string dtypes_of(const EntryState &entry, int argument);

// A scalar of NumPy's that is no Python number itself, but stands for one without loss.
bool is_numpy_number(PyObject *object);

// Numbers that may stand for an array without dimensions.
inline bool is_number(PyObject *object) {
  return PyFloat_Check(object) || (PyLong_Check(object) && !PyBool_Check(object)) || is_numpy_number(object);
}

// Whether an operand is a number in the place of an array without dimensions.
inline bool is_given_as_number(const EntryState &entry, const Call &call, int position) {
  return argument_desc(entry, position).rank == 0 && is_number(call.operands[position]);
}

// Puts the operands in order and reads the options. False with an exception set.
[[gnu::hot]] bool take_arguments(EntryState *entry, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords,
                                 Call *call);

// Arguments whose keywords are `out`, `wrt` and names of operands, all by the very strings that source code has.
struct UsualArguments {
  static constexpr int kMost = 16;  // operands

  PyObject *const *operands;  // all of them, in the order of the signature; borrowed, as the others are
  PyObject *out = nullptr;    // never None
  PyObject *wrt = nullptr;
  PyObject *named[kMost];  // the operands where some came by name
};

// Puts the operands in order, at most UsualArguments::kMost. False for all that is not usual, also for what is wrong.
[[gnu::hot]] bool take_usual_arguments(const EntryState &entry, PyObject *const *arguments, Py_ssize_t count,
                                       PyObject *keywords, UsualArguments *usual);

// Where the i-th result that the caller asked for stands in the runtime's order.
int place_of(const EntryState &entry, const Call &call, int inner);

// Writes a float as a real number of the type, or an int as an integer, and runs no code for it. False, with no
// exception set, for any other object, and where the number does not fit.
bool write_plain_number(PyObject *object, uint32_t dtype, int64_t *place);

// Makes an array without dimensions of a number; the memory is a lease of the call. The arrays have been read, among
// whose variants it chooses the element type. False with an exception set.
bool take_number(const EntryState &entry, int position, Call *call);

// Copies the shapes of what was read, before code runs that may change them: Python code, or other threads.
void keep_shapes(Call *call);

// Fills in a call from Python's arguments, but for its results. False with an exception set, here and below.
[[gnu::hot]] bool prepare_operands(EntryState *entry, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords,
                                   Call *call);

// Reads `call->out`, or allocates the results, for operands that have been read.
[[gnu::hot]] bool prepare_results(const EntryState &entry, Call *call);

// Both.
inline bool prepare_call(EntryState *entry, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords,
                         Call *call) {
  return prepare_operands(entry, arguments, count, keywords, call) && prepare_results(*entry, call);
}

}  // namespace tiaot::binding
